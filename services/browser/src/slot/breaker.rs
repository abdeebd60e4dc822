//! When a slot may try to start a browser again: a pure state machine over launches and early deaths.
//!
//! Closed: failures back off, 0.5 s to 60 s. Five failures within a minute open it: nothing is started, and who waits
//! for a browser is told at once. After a pause, longer each time, one try is allowed (half open): it closes the breaker
//! when its browser proves itself, and opens it again when it fails. What a visit meets on the network is none of its
//! business, and neither is a browser that dies under a page.

use std::collections::VecDeque;
use std::time::Duration;

use sonde_runtime::backoff::Backoff;
use tokio::time::Instant;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
/// How long it stays open.
const REST: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(600));
/// So many failures within [`WINDOW`] open it.
const FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Then, with a browser's absence no more than a delay.
    Retry { at: Instant },
    /// The breaker opened: nothing is tried before.
    Opened { until: Instant },
}

/// Of one slot and one kind of browser.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Failed launches within the window.
    recent: VecDeque<Instant>,
    /// Failures in a row, early deaths under visits included.
    streak: u32,
    /// Times it opened in a row.
    openings: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, recent: VecDeque::with_capacity(FAILURES), streak: 0, openings: 0 }
    }
}

impl Breaker {
    /// No browser came up, or one ended before any visit was on it. `rand` in 0.0..1.0 spreads the pauses.
    pub fn failed(&mut self, now: Instant, rand: f64) -> Verdict {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.state == State::HalfOpen || self.recent.len() >= FAILURES {
            let until = now + REST.next(self.openings, rand);
            self.openings = self.openings.saturating_add(1);
            self.recent.clear();
            self.state = State::Open { until };
            return Verdict::Opened { until };
        }
        let at = now + BACKOFF.next(self.streak, rand);
        self.streak = self.streak.saturating_add(1);
        Verdict::Retry { at }
    }

    /// A browser died young under a visit: the first time it is replaced at once (`None`), then with backoff. That
    /// says something of pages, and never opens the breaker.
    pub fn died_young(&mut self, now: Instant, rand: f64) -> Option<Instant> {
        let at = (self.streak > 0).then(|| now + BACKOFF.next(self.streak - 1, rand));
        self.streak = self.streak.saturating_add(1);
        at
    }

    /// A browser has proved itself: a visit was on it and left it whole.
    pub fn proved(&mut self) {
        *self = Self::default();
    }

    /// Until when nothing may be started.
    pub fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen => None,
        }
    }

    /// The one try that is allowed when its time has come.
    pub fn try_again(&mut self, now: Instant) {
        if self.open_until().is_some_and(|until| until <= now) {
            self.state = State::HalfOpen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(at: u64) -> Duration {
        Duration::from_secs(at)
    }

    /// M33
    #[test]
    fn five_failures_within_a_minute_open_it_and_slower_ones_do_not() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for n in 0..4 {
            let now = start + seconds(n);
            let Verdict::Retry { at } = breaker.failed(now, 1.0) else { panic!("{n} failures opened it") };
            assert_eq!(at - now, Duration::from_millis(500) * 2u32.pow(n as u32));
        }
        assert_eq!(breaker.failed(start + seconds(5), 1.0), Verdict::Opened { until: start + seconds(35) });
        assert_eq!(breaker.open_until(), Some(start + seconds(35)));

        let mut slow = Breaker::default();
        for n in 0..100 {
            let now = start + seconds(16 * n);
            let Verdict::Retry { at } = slow.failed(now, 0.0) else { panic!("a slow series opened it") };
            assert!(at - now <= seconds(60) && at - now >= Duration::from_millis(250));
        }
    }

    /// M33
    #[test]
    fn half_open_it_allows_one_try_that_decides() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let mut until = start;
        for _ in 0..5 {
            if let Verdict::Opened { until: opened } = breaker.failed(start, 0.0) {
                until = opened;
            }
        }
        breaker.try_again(until - Duration::from_millis(1));
        assert_eq!(breaker.open_until(), Some(until), "its time has not come");
        breaker.try_again(until);
        assert_eq!(breaker.open_until(), None);
        // One failure is enough now, and the rest is longer.
        let Verdict::Opened { until: later } = breaker.failed(until, 0.0) else {
            panic!("it stayed half open")
        };
        assert_eq!((until - start, later - until), (seconds(15), seconds(30)));
        let mut now = later;
        for _ in 0..20 {
            breaker.try_again(now);
            let Verdict::Opened { until } = breaker.failed(now, 1.0) else { panic!("it stayed half open") };
            assert!(until - now <= seconds(600));
            now = until;
        }
        breaker.try_again(now);
        breaker.proved();
        let Verdict::Retry { .. } = breaker.failed(now, 0.0) else { panic!("it forgot that it had closed") };
    }

    /// M33: pages that kill browsers are the coordinator's to quarantine.
    #[test]
    fn browsers_that_die_under_visits_back_off_and_never_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.died_young(now, 0.0), None, "the first is replaced at once");
        for _ in 0..50 {
            assert!(breaker.died_young(now, 1.0).is_some_and(|at| at - now <= seconds(60)));
        }
        assert_eq!(breaker.open_until(), None);
    }
}
