//! Which frame of a video first shows a picture.

use super::FPS;

/// Microseconds.
const SECOND: i64 = 1_000_000;

/// How pictures are thinned.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Pictures a second, at most [`FPS`].
    fps: i64,
}

impl Times {
    pub fn new(fps: u32) -> Self {
        Self { fps: i64::from(fps.clamp(1, FPS)) }
    }

    /// Whether the earlier of two pictures is never seen.
    pub fn same(self, first_us: i64, earlier_us: i64, later_us: i64) -> bool {
        slot(earlier_us - first_us, self.fps) == slot(later_us - first_us, self.fps)
    }
}

/// The frame from which on a picture is shown: the first that is not before it.
pub fn frame(first_us: i64, at_us: i64) -> u64 {
    u64::try_from(slot(at_us - first_us, i64::from(FPS))).unwrap_or(0)
}

/// Frames of a video that ends at a time: one at least.
pub fn frames(first_us: i64, end_us: i64) -> u64 {
    let half = SECOND / (2 * i64::from(FPS));
    let whole = (end_us - first_us + half) * i64::from(FPS) / SECOND;
    u64::try_from(whole).unwrap_or(0).max(1)
}

fn slot(after_us: i64, fps: i64) -> i64 {
    let scaled = after_us.max(0) * fps;
    scaled / SECOND + i64::from(scaled % SECOND > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// D64: no picture is shown before its time, or more than one frame after it.
        #[test]
        fn a_picture_is_shown_in_its_time(after in 0i64..3_600_000_000) {
            let shown_at = i64::try_from(frame(7, 7 + after)).unwrap() * SECOND / i64::from(FPS);
            prop_assert!(shown_at >= after - 1 && shown_at - after < SECOND / i64::from(FPS) + 1, "{shown_at}");
        }

        /// D61
        #[test]
        fn a_video_is_as_long_as_what_it_shows(length in 0i64..3_600_000_000) {
            let duration = i64::try_from(frames(0, length)).unwrap() * SECOND / i64::from(FPS);
            prop_assert!((duration - length).abs() <= SECOND / i64::from(FPS), "{duration}");
        }
    }

    #[test]
    fn fewer_pictures_a_second_are_fewer() {
        assert!(Times::new(1).same(0, 100, 999_999));
        assert!(!Times::new(1).same(0, 0, 1));
        assert!(!Times::new(30).same(0, 30_000, 60_000));
    }
}
