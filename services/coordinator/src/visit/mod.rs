//! What becomes of a visit: a pure state machine.
//!
//! `queued -> running -> queued again, later | ended with exactly one outcome`. Time and chance are arguments; the
//! engine performs what [`Step`] says.
use std::time::Duration;

use sonde_proto::visit::v1::{Failure, FailureKind, Outcome, RetryAdvice};
use sonde_runtime::backoff::Backoff;

use crate::time::micros;

#[cfg(test)]
mod tests;

/// Attempts lost with their browser-service before a visit is given up.
pub(crate) const MAX_LOSSES: u32 = 10;
/// Crashes on one and the same slot that quarantine a visit; on different slots two are enough.
const CRASHES_ON_ONE_SLOT: usize = 3;

/// Where a visit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// May be leased from this time on (microseconds since the epoch; 0: at once).
    Queued {
        not_before: i64,
    },
    Running {
        fence: i64,
        browser_id: u32,
    },
    Ended(Outcome),
}

/// A visit, as far as its fate depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub stage: Stage,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that failed and were tried again on the visit's own account.
    pub retries: u32,
    /// Attempts lost with their browser-service or with storage.
    pub losses: u32,
    /// Slots on which it killed the browser, one entry a crash.
    pub crashed_on: Vec<u32>,
    /// Whether the next attempt needs a fresh browser.
    pub fresh_browser: bool,
    /// Highest fence so far.
    pub fence: i64,
}

/// Attempts and their spacing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub max_retries: u32,
    pub max_losses: u32,
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
}

/// What happened to a visit.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Leased {
        fence: i64,
        browser_id: u32,
    },
    /// The attempt ended by itself; `cancelled` when we had asked for it.
    AttemptEnded {
        outcome: Outcome,
        failure: Option<Failure>,
        cancelled: bool,
    },
    /// The attempt went with its service or its lease.
    AttemptLost {
        failure: Failure,
        cancelled: bool,
    },
    /// Cancelled while it waited.
    Cancelled {
        reason: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Run,
    Requeue { not_before: i64, outcome: Outcome, failure: Failure },
    End { outcome: Outcome, failure: Option<Failure> },
}

/// An event that cannot happen in this stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to a visit that is {stage:?}")]
pub(crate) struct Illegal {
    stage: Stage,
    event: &'static str,
}

/// `rand` in 0.0..1.0 spreads the pauses.
pub(crate) fn apply(
    visit: &Visit,
    event: Event,
    policy: &Policy,
    now_us: i64,
    rand: f64,
) -> Result<(Visit, Step), Illegal> {
    let mut next = visit.clone();
    let illegal = |event| Illegal { stage: visit.stage, event };
    let step = match (visit.stage, event) {
        (Stage::Queued { .. }, Event::Leased { fence, browser_id }) if fence > visit.fence => {
            next.attempts += 1;
            next.fence = fence;
            next.stage = Stage::Running { fence, browser_id };
            Step::Run
        }
        (Stage::Queued { .. }, Event::Cancelled { reason }) => {
            end(&mut next, Outcome::Cancelled, Some(cancelled_failure(reason)))
        }
        (Stage::Running { browser_id, .. }, Event::AttemptEnded { outcome, failure, cancelled }) => {
            ended(&mut next, browser_id, outcome, failure, cancelled, policy, now_us, rand)
        }
        (Stage::Running { .. }, Event::AttemptLost { cancelled: true, .. }) => {
            let failure = cancelled_failure("cancelled; its browser-service was lost meanwhile".into());
            end(&mut next, Outcome::Cancelled, Some(failure))
        }
        (Stage::Running { .. }, Event::AttemptLost { failure, .. }) => {
            lost(&mut next, Outcome::Crashed, failure, policy, now_us, rand)
        }
        (_, Event::Leased { .. }) => return Err(illegal("a lease (or one with an old fence)")),
        (_, Event::AttemptEnded { .. }) => return Err(illegal("the end of an attempt")),
        (_, Event::AttemptLost { .. }) => return Err(illegal("the loss of an attempt")),
        (_, Event::Cancelled { .. }) => return Err(illegal("a cancellation in the queue")),
    };
    Ok((next, step))
}

#[expect(clippy::too_many_arguments, reason = "one call, all of it decides")]
fn ended(
    next: &mut Visit,
    browser_id: u32,
    outcome: Outcome,
    failure: Option<Failure>,
    cancelled: bool,
    policy: &Policy,
    now_us: i64,
    rand: f64,
) -> Step {
    let outcome = if outcome == Outcome::Unspecified { Outcome::Error } else { outcome };
    if outcome == Outcome::Ok {
        return end(next, outcome, None);
    }
    let failure = failure.unwrap_or_else(|| Failure {
        message: format!("the browser-service gave no reason for the outcome {}", outcome.word()),
        fingerprint: "no-reason".into(),
        ..Default::default()
    });
    if cancelled {
        return end(next, outcome, Some(failure));
    }
    if outcome == Outcome::Cancelled || is_own_loss(&failure) {
        // Nobody here asked for it: its service is going away, or storage was.
        return lost(next, outcome, failure, policy, now_us, rand);
    }
    if outcome == Outcome::Crashed {
        next.crashed_on.push(browser_id);
        let others = next.crashed_on.iter().any(|b| *b != browser_id);
        if others || next.crashed_on.len() >= CRASHES_ON_ONE_SLOT {
            return end(next, Outcome::Poisoned, Some(failure));
        }
    }
    let advice = match failure.retry() {
        RetryAdvice::Unspecified if outcome == Outcome::Crashed => RetryAdvice::FreshBrowser,
        advice => advice,
    };
    let again = !matches!(advice, RetryAdvice::Unspecified | RetryAdvice::Never);
    if !again || next.retries >= policy.max_retries {
        return end(next, outcome, Some(failure));
    }
    next.fresh_browser = advice == RetryAdvice::FreshBrowser;
    let pause = pause(policy, next.retries, rand).max(asked_pause(&failure));
    next.retries += 1;
    requeue(next, outcome, failure, now_us, pause)
}

fn lost(
    next: &mut Visit,
    outcome: Outcome,
    failure: Failure,
    policy: &Policy,
    now_us: i64,
    rand: f64,
) -> Step {
    if next.losses >= policy.max_losses {
        let outcome = if outcome == Outcome::Cancelled { Outcome::Error } else { outcome };
        return end(next, outcome, Some(failure));
    }
    let pause = pause(policy, next.losses, rand);
    next.losses += 1;
    requeue(next, outcome, failure, now_us, pause)
}

fn is_own_loss(failure: &Failure) -> bool {
    matches!(failure.kind(), FailureKind::Lost | FailureKind::Storage)
}

fn pause(policy: &Policy, times: u32, rand: f64) -> Duration {
    Backoff::new(policy.initial_backoff, policy.max_backoff).next(times, rand)
}

/// What the failure asks for, within an hour: no service may park a visit for ever.
fn asked_pause(failure: &Failure) -> Duration {
    let asked = failure.retry_after.as_ref().map_or(Duration::ZERO, crate::time::span);
    asked.min(Duration::from_secs(3600))
}

fn requeue(next: &mut Visit, outcome: Outcome, failure: Failure, now_us: i64, pause: Duration) -> Step {
    let not_before = now_us.saturating_add(micros(pause)).max(1);
    next.stage = Stage::Queued { not_before };
    Step::Requeue { not_before, outcome, failure }
}

fn end(next: &mut Visit, outcome: Outcome, failure: Option<Failure>) -> Step {
    next.stage = Stage::Ended(outcome);
    Step::End { outcome, failure }
}

pub(crate) fn cancelled_failure(reason: String) -> Failure {
    Failure {
        kind: FailureKind::Cancelled.into(),
        message: reason,
        retry: RetryAdvice::Never.into(),
        fingerprint: "cancelled".into(),
        ..Default::default()
    }
}
