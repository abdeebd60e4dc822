//! How long things may take when nobody says.

use std::time::Duration;

use sonde_proto::visit::v1::Command;

use super::machine::Plan;

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
    /// What the attempt's crawl makes it wait for does not count.
    pub fn new(plan: &Plan) -> Self {
        let prepare = or(plan.limits.prepare, Duration::from_secs(30)) + plan.crawl_hooks;
        let seal = or(plan.limits.seal, Duration::from_secs(120));
        let commands = plan.commands.iter().map(Command::time).sum::<Duration>();
        let sum = prepare + seal + commands + Duration::from_secs(10);
        let asked = plan.limits.total.and_then(|d| Duration::try_from(d).ok()).map(|d| d + plan.crawl_hooks);
        Self { prepare, seal, total: asked.or((!plan.interactive).then_some(sum)) }
    }
}
