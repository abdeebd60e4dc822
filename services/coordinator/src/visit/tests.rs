use proptest::prelude::*;

use super::*;

impl Visit {
    fn new() -> Self {
        Self {
            stage: Stage::Queued { not_before: 0 },
            attempts: 0,
            retries: 0,
            losses: 0,
            crashed_on: Vec::new(),
            fresh_browser: false,
            fence: 0,
        }
    }
}

fn policy(max_retries: u32) -> Policy {
    Policy {
        max_retries,
        max_losses: MAX_LOSSES,
        initial_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(60),
    }
}

fn failure(kind: FailureKind, retry: RetryAdvice) -> Failure {
    Failure { kind: kind.into(), retry: retry.into(), ..Default::default() }
}

fn leased(visit: &Visit, browser_id: u32) -> Visit {
    let event = Event::Leased { fence: visit.fence + 1, browser_id };
    apply(visit, event, &policy(2), 0, 0.5).expect("a queued visit is leased").0
}

fn ends(outcome: Outcome, failure: Failure) -> Event {
    Event::AttemptEnded { outcome, failure: Some(failure), cancelled: false }
}

#[test]
fn network_errors_are_tried_again_only_when_advised() {
    for (advice, again) in
        [(RetryAdvice::Never, false), (RetryAdvice::Unspecified, false), (RetryAdvice::Same, true)]
    {
        let event = ends(Outcome::Neterror, failure(FailureKind::Network, advice));
        let (_, step) = apply(&leased(&Visit::new(), 1), event, &policy(2), 0, 0.5).expect("running");
        assert_eq!(matches!(step, Step::Requeue { .. }), again, "{advice:?}");
    }
}

/// R11, M41
#[test]
fn a_visit_that_kills_two_browsers_is_quarantined() {
    let crash = || ends(Outcome::Crashed, failure(FailureKind::Browser, RetryAdvice::FreshBrowser));
    let (visit, step) = apply(&leased(&Visit::new(), 1), crash(), &policy(5), 0, 0.5).expect("running");
    assert!(matches!(step, Step::Requeue { .. }) && visit.fresh_browser);
    let (_, step) = apply(&leased(&visit, 2), crash(), &policy(5), 0, 0.5).expect("running");
    assert!(matches!(step, Step::End { outcome: Outcome::Poisoned, .. }));
    // The same slot may have been at fault: it takes one more.
    let (visit, _) = apply(&leased(&visit, 1), crash(), &policy(5), 0, 0.5).expect("running");
    assert!(matches!(visit.stage, Stage::Queued { .. }));
    let (visit, _) = apply(&leased(&visit, 1), crash(), &policy(5), 0, 0.5).expect("running");
    assert_eq!(visit.stage, Stage::Ended(Outcome::Poisoned));
}

#[test]
fn losses_do_not_count_as_retries_and_pauses_double() {
    let mut visit = Visit::new();
    let mut pauses = Vec::new();
    for _ in 0..MAX_LOSSES {
        let event =
            Event::AttemptLost { failure: failure(FailureKind::Lost, RetryAdvice::Same), cancelled: false };
        let (next, step) = apply(&leased(&visit, 1), event, &policy(0), 1_000, 1.0).expect("running");
        let Step::Requeue { not_before, .. } = step else { panic!("given up early: {step:?}") };
        pauses.push((not_before - 1_000) / 1_000_000);
        visit = next;
    }
    assert_eq!(visit.retries, 0);
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    let event =
        Event::AttemptLost { failure: failure(FailureKind::Lost, RetryAdvice::Same), cancelled: false };
    let (visit, _) = apply(&leased(&visit, 1), event, &policy(0), 0, 1.0).expect("running");
    assert_eq!(visit.stage, Stage::Ended(Outcome::Crashed));
}

#[test]
fn a_longer_pause_that_the_failure_asks_for_is_kept() {
    let mut asked = failure(FailureKind::Network, RetryAdvice::Same);
    asked.retry_after = Some(prost_types::Duration { seconds: 90, nanos: 0 });
    let event = ends(Outcome::Neterror, asked);
    let (_, step) = apply(&leased(&Visit::new(), 1), event, &policy(2), 0, 0.5).expect("running");
    assert!(matches!(step, Step::Requeue { not_before: 90_000_000, .. }));
}

fn any_event() -> impl Strategy<Value = Event> {
    let outcome = (0..=8).prop_map(|o| Outcome::try_from(o).expect("in range"));
    let kind = (0..=9).prop_map(|k| FailureKind::try_from(k).expect("in range"));
    let advice = (0..=4).prop_map(|a| RetryAdvice::try_from(a).expect("in range"));
    prop_oneof![
        6 => (1..1000i64, 1..4u32).prop_map(|(fence, browser_id)| Event::Leased { fence, browser_id }),
        6 => (outcome, kind, advice, any::<bool>(), prop::bool::weighted(0.05)).prop_map(
            |(outcome, kind, advice, some, cancelled)| Event::AttemptEnded {
                outcome,
                failure: some.then(|| failure(kind, advice)),
                cancelled,
            }
        ),
        3 => prop::bool::weighted(0.05).prop_map(|cancelled| Event::AttemptLost {
            failure: failure(FailureKind::Lost, RetryAdvice::Same),
            cancelled
        }),
        1 => Just(Event::Cancelled { reason: "asked".into() }),
    ]
}

proptest! {
    /// R1, R6, R11: whatever happens in whatever order, a visit has at most one outcome and then never moves, its
    /// attempts are bounded, and its fences grow.
    #[test]
    fn exactly_one_outcome_bounded_attempts_growing_fences(
        events in prop::collection::vec(any_event(), 0..200),
        retries in 0..=10u32,
    ) {
        let policy = policy(retries);
        let (mut visit, mut outcomes, mut fence) = (Visit::new(), 0, 0);
        for event in events {
            let before = visit.clone();
            match apply(&visit, event, &policy, 0, 0.5) {
                Ok((next, step)) => {
                    prop_assert!(!matches!(before.stage, Stage::Ended(_)));
                    outcomes += u32::from(matches!(step, Step::End { .. }));
                    if matches!(step, Step::Run) {
                        prop_assert!(next.fence > fence);
                        fence = next.fence;
                    }
                    visit = next;
                }
                Err(_) => prop_assert_eq!(&visit, &before),
            }
        }
        prop_assert!(outcomes <= 1);
        prop_assert_eq!(outcomes == 1, matches!(visit.stage, Stage::Ended(_)));
        prop_assert!(visit.attempts <= 1 + retries + MAX_LOSSES);
    }

    /// R11: a visit that is leased whenever it waits always ends.
    #[test]
    fn every_visit_ends(results in prop::collection::vec(any_event(), 30), retries in 0..=10u32) {
        let policy = policy(retries);
        let mut visit = Visit::new();
        for result in results.into_iter().cycle().take(3000) {
            if matches!(visit.stage, Stage::Queued { .. }) {
                visit = leased(&visit, 1);
            }
            if let Ok((next, _)) = apply(&visit, result, &policy, 0, 0.5) {
                visit = next;
            }
            if matches!(visit.stage, Stage::Ended(_)) {
                return Ok(());
            }
        }
        let ran = visit.attempts;
        prop_assert!(ran <= 1 + retries + MAX_LOSSES, "{} attempts", ran);
    }
}
