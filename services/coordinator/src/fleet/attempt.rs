//! The attempt that runs in a slot, as the slot's task knows it.
use std::time::Duration;

use sonde_proto::{
    browser::v1::{AttemptContext, Run},
    coordinator::v1::CrawlSpec,
    visit::v1::{Command, CommandSequence, CrawlHooks},
};
use sonde_runtime::clock::Mono;
use tokio::sync::mpsc;

use super::Assigned;
use crate::{
    engine::Running,
    live::DriveLink,
    store::CrawlKind,
    time::{span, wire},
};

/// Beyond an attempt's own deadlines: starting a browser, and a service's slack.
const SLACK: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not sent for want of a session.
    Unsent,
    Sent,
    Attaching,
    /// The service has said something of it in this session.
    Accepted,
}

pub(super) struct Current {
    pub running: Running,
    /// None when it was taken over from the process before.
    assigned: Option<Assigned>,
    pub progress: Progress,
    /// Instance of the service that it was sent to.
    pub instance: String,
    /// End of the lease, counted from when it was sent.
    pub deadline: Mono,
    /// From here on the lease is not extended.
    pub overdue: Option<Mono>,
    pub cancel: Option<String>,
    pub drive: Option<DriveLink>,
    pub step_pending: bool,
    pub finishing: bool,
}

impl Current {
    pub fn new(assigned: Assigned, drive: Option<DriveLink>, lease: Duration) -> Self {
        let driven = assigned.running.kind == CrawlKind::Driven;
        let now = Mono::now();
        let budget = budget(&assigned.running.spec, &assigned.commands);
        Self {
            running: assigned.running.clone(),
            assigned: Some(assigned),
            progress: Progress::Unsent,
            instance: String::new(),
            deadline: now + lease,
            overdue: (!driven).then(|| now + budget),
            cancel: None,
            drive,
            step_pending: false,
            finishing: false,
        }
    }

    /// One that the process before had sent.
    pub fn recovered(running: Running, cancel: Option<String>, lease: Duration) -> Self {
        let now = Mono::now();
        let budget = budget(&running.spec, &running.spec.commands);
        Self {
            assigned: None,
            progress: Progress::Sent,
            instance: running.instance_id.clone(),
            deadline: now + lease,
            overdue: Some(now + budget),
            cancel,
            drive: None,
            step_pending: false,
            finishing: false,
            running,
        }
    }

    /// The request that starts it, to be sent to `instance` now.
    pub fn begin(&mut self, instance: &str, lease: Duration) -> Option<Run> {
        let assigned = self.assigned.as_ref()?;
        let r = &self.running;
        self.progress = Progress::Sent;
        self.instance = instance.to_owned();
        self.deadline = Mono::now() + lease;
        Some(Run {
            attempt: Some(AttemptContext {
                visit_id: r.visit_id,
                fence: r.fence,
                crawl_id: r.crawl_id.clone(),
                visit_no: r.visit_no,
                attempt: r.attempt,
                browser_id: r.browser_id,
                site_rank: assigned.site_rank,
            }),
            sequence: Some(CommandSequence { url: r.url.clone(), commands: assigned.commands.clone() }),
            browser: r.spec.browser.clone(),
            instruments: r.spec.instruments.clone(),
            limits: r.spec.limits,
            lease: Some(wire(lease)),
            interactive: r.kind == CrawlKind::Driven,
            fresh_browser: assigned.fresh_browser,
            crawl_hooks: r.spec.hooks.clone(),
        })
    }

    /// Where the driver's next command comes from, once it may come.
    pub fn steps(&mut self) -> Option<&mut mpsc::Receiver<Command>> {
        let over = self.finishing || self.cancel.is_some();
        let ready = self.progress == Progress::Accepted && !self.step_pending && !over;
        self.drive.as_mut().filter(|_| ready).map(|drive| &mut drive.steps)
    }
}

/// The longest an attempt may take by the contract, and some.
fn budget(spec: &CrawlSpec, commands: &[Command]) -> Duration {
    let limits = spec.limits.unwrap_or_default();
    let or = |value: Option<prost_types::Duration>, default| {
        value.as_ref().map_or(Duration::from_secs(default), span)
    };
    let sum =
        or(limits.prepare, 30) + or(limits.seal, 30) + commands.iter().map(Command::time).sum::<Duration>();
    let hooks = spec.hooks.as_ref().map(CrawlHooks::time).unwrap_or_default();
    limits.total.as_ref().map_or(sum, span) + hooks + SLACK
}
