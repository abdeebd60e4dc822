//! Exponential back-off with jitter, as a pure function of the attempt and a random number.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// Delays start around `base` and never exceed `max`.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// The delay before retry number `attempt` (0 for the first), given `rand` in `0.0..1.0`.
    ///
    /// The result lies in the upper half of `min(max, base * 2^attempt)`: never zero, yet spread enough that many
    /// clients that failed together do not return together.
    pub fn next(&self, attempt: u32, rand: f64) -> Duration {
        let doubled =
            self.base.checked_mul(2u32.checked_pow(attempt).unwrap_or(u32::MAX)).unwrap_or(self.max);
        let rand = if rand.is_finite() { rand.clamp(0.0, 1.0) } else { 0.0 };
        doubled.min(self.max).mul_f64(0.5 + rand / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_until_the_maximum_and_stays_within_the_jitter() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        assert_eq!(backoff.next(0, 0.0), Duration::from_millis(100));
        assert_eq!(backoff.next(0, 1.0), Duration::from_millis(200));
        assert_eq!(backoff.next(3, 1.0), Duration::from_millis(1600));
        for attempt in [8, 31, 32, 1000, u32::MAX] {
            assert_eq!(backoff.next(attempt, 1.0), Duration::from_secs(30));
            assert_eq!(backoff.next(attempt, 0.0), Duration::from_secs(15));
        }
        assert_eq!(backoff.next(0, f64::NAN), Duration::from_millis(100));
    }
}
