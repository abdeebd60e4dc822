//! The only file that reads a clock. Everything else takes time as an argument, or asks here.
//!
//! Wall time is for records that people read; every duration, lease and deadline uses [`Mono`], so that a jump of the
//! wall clock changes no outcome.

use std::ops::Add;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Microseconds since 1970-01-01T00:00:00Z; negative before it.
pub fn wall_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

/// `us` microseconds since the epoch as ISO 8601 in UTC with milliseconds, the form of OpenWPM's tables:
/// `2026-11-22T02:47:29.123Z`. Truncates to the millisecond.
pub fn rfc3339_ms(us: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let ms = us.div_euclid(1000);
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let in_day = ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", in_day % 1000)
}

/// Days since the epoch to (year, month, day); Howard Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A reading of the monotonic clock in microseconds, of meaning only within this process.
///
/// It follows tokio's clock, so that tests with paused time move it; pure code is tested with [`Mono::from_us`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(u64);

impl Mono {
    pub fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        Self(u64::try_from(Instant::now().saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX))
    }

    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    pub const fn as_us(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if that lies in the future.
    pub const fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Time since this reading.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Time from `now` until this deadline; zero if it has passed.
    pub const fn remaining(self, now: Mono) -> Duration {
        self.since(now)
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, after: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_openwpm_does() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339_ms(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339_ms(1_795_315_649_123_999), "2026-11-22T02:47:29.123Z");
        assert_eq!(rfc3339_ms(4_107_542_399_999_000), "2100-02-28T23:59:59.999Z");
    }

    #[test]
    fn wall_time_is_after_this_was_written() {
        assert!(wall_us() > 1_700_000_000_000_000);
    }

    /// R13
    #[test]
    fn monotonic_time_never_goes_back_and_saturates() {
        let first = Mono::now();
        assert!(Mono::now() >= first);
        let (early, late) = (Mono::from_us(5), Mono::from_us(1_000_005));
        assert_eq!(late.since(early), Duration::from_secs(1));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early + Duration::from_secs(1), late);
        assert_eq!(early + Duration::MAX, Mono::from_us(u64::MAX));
    }
}
