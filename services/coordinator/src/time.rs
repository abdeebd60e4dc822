//! Times on the wire, and a wall clock that does not jump while the process runs.
use std::time::Duration;

use prost_types::Timestamp;
use sonde_runtime::clock::{Mono, wall_us};

/// Wall time at the start plus monotonic time since: what is stored as "not before" keeps its distance from now when
/// the wall clock is set (R13).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: i64,
    mono: Mono,
}

impl Clock {
    pub fn start() -> Self {
        Self { wall: wall_us(), mono: Mono::now() }
    }

    /// Microseconds since the epoch.
    pub fn us(&self) -> i64 {
        self.wall.saturating_add(micros(self.mono.elapsed()))
    }
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

/// A duration off the wire; negative ones were refused when they were submitted and count as zero here.
pub(crate) fn span(duration: &prost_types::Duration) -> Duration {
    Duration::try_from(*duration).unwrap_or(Duration::ZERO)
}

pub(crate) fn wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}
