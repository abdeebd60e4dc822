//! How long things may take when nobody says.

use std::time::Duration;

use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{Command, VisitLimits};

/// Longest body that is saved whole, by default.
pub const MAX_BODY_BYTES: u64 = 64 << 20;
const DEFAULT_LINKS: u32 = 2;

/// A contract's duration, or `default` where it is unset or senseless.
pub fn or(value: Option<prost_types::Duration>, default: Duration) -> Duration {
    value.and_then(|d| Duration::try_from(d).ok()).unwrap_or(default)
}

/// Time of a command: its own timeout, or the default of its kind plus the stays it asks for.
pub fn command_time(command: &Command) -> Duration {
    let seconds = Duration::from_secs;
    let default = match &command.step {
        Some(Step::Get(get)) => seconds(60) + or(get.dwell, Duration::ZERO),
        Some(Step::Browse(browse)) => {
            let links = links(browse.num_links);
            seconds(60) + seconds(30) * links + or(browse.dwell, Duration::ZERO) * (links + 1)
        }
        // Its timeout is not settable.
        Some(Step::Sleep(sleep)) => return or(sleep.duration, Duration::ZERO) + seconds(5),
        Some(Step::Screenshot(_) | Step::DumpPageSource(_)) | None => seconds(30),
    };
    or(command.timeout, default)
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
            prepare + seal + commands.iter().map(command_time).sum::<Duration>() + Duration::from_secs(10);
        let asked = limits.total.and_then(|d| Duration::try_from(d).ok());
        Self { prepare, seal, total: asked.or((!interactive).then_some(sum)) }
    }
}
