//! How long things may take when nobody says.

use std::time::Duration;

use sonde_proto::visit::v1::{Command, VisitLimits};

/// Longest body that is saved whole, by default.
pub const MAX_BODY_BYTES: u64 = 64 << 20;
const DEFAULT_LINKS: u32 = 2;

/// A contract's duration, or `default` where it is unset or senseless.
pub fn or(value: Option<prost_types::Duration>, default: Duration) -> Duration {
    value.and_then(|d| Duration::try_from(d).ok()).unwrap_or(default)
}

/// Links that a browse follows.
pub fn links(num_links: Option<u32>) -> u32 {
    num_links.unwrap_or(DEFAULT_LINKS)
}

/// The deadlines of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub prepare: Duration,
    pub seal: Duration,
    /// `None`: no limit beside the sum of its parts (interactive attempts).
    pub total: Option<Duration>,
}

impl Times {
    pub fn new(limits: &VisitLimits, commands: &[Command], interactive: bool) -> Self {
        let prepare = or(limits.prepare, Duration::from_secs(30));
        let seal = or(limits.seal, Duration::from_secs(120));
        let sum =
            prepare + seal + commands.iter().map(Command::time).sum::<Duration>() + Duration::from_secs(10);
        let asked = limits.total.and_then(|d| Duration::try_from(d).ok());
        Self { prepare, seal, total: asked.or((!interactive).then_some(sum)) }
    }
}
