//! When to start a child again: pure, so that it is tested without children.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Mono;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    pub backoff: Backoff,
    /// A child that lived this long has recovered: its next failure counts as the first.
    pub healthy_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// The failures of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restarts {
    failures: u32,
}

impl Restarts {
    /// In a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A child that was started at `started` failed at `now`: how long to wait before the next start. `rand` is in
    /// `0.0..1.0`.
    pub fn failed(&mut self, policy: &RestartPolicy, started: Mono, now: Mono, rand: f64) -> Duration {
        if now.since(started) >= policy.healthy_after {
            self.failures = 0;
        }
        let delay = policy.backoff.next(self.failures, rand);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_while_it_crashes_and_start_over_once_it_was_healthy() {
        let policy = RestartPolicy::default();
        let mut restarts = Restarts::default();
        let start = Mono::from_us(0);
        let soon = start + Duration::from_secs(1);
        let delays: Vec<_> =
            (0..10).map(|_| restarts.failed(&policy, start, soon, 1.0).as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(restarts.failures(), 10);
        let late = start + Duration::from_secs(60);
        assert_eq!(restarts.failed(&policy, start, late, 1.0), Duration::from_millis(200));
        assert_eq!(restarts.failures(), 1);
    }
}
