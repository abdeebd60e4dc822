//! What is known of one process, and the three states of its life.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Exit;

/// What a process is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessKind {
    /// Supervises services: `sonde up`.
    Supervisor,
    /// One of the three services.
    Service,
    /// A command of a user that starts processes itself: `sonde hooks run`.
    Cli,
    /// The main process of a browser.
    Browser,
    /// geckodriver.
    Driver,
    /// An X server that a browser's windows are shown on.
    Display,
    /// A hook of a plugin.
    Hook,
    /// Any other program.
    #[default]
    Binary,
}

impl ProcessKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Supervisor,
        Self::Service,
        Self::Cli,
        Self::Browser,
        Self::Driver,
        Self::Display,
        Self::Hook,
        Self::Binary,
    ];

    /// As it is written: `browser`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Service => "service",
            Self::Cli => "cli",
            Self::Browser => "browser",
            Self::Driver => "driver",
            Self::Display => "display",
            Self::Hook => "hook",
            Self::Binary => "binary",
        }
    }
}

/// Where a process is in its life; never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessStatus {
    /// About to be started.
    #[default]
    Queued,
    Running,
    /// The last state: see [`EndReason`].
    Exited,
}

impl ProcessStatus {
    /// As it is written: `running`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Exited => "exited",
        }
    }
}

/// Why a process is not running any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// By itself, with an exit code.
    Exited,
    /// By a signal that was not ours.
    Signalled,
    /// Because we ended it.
    Terminated,
    /// Because it took longer than it was given.
    Timeout,
    /// Nobody saw its end: its exit code is not known.
    Lost,
    /// It never ran.
    SpawnFailed,
}

impl EndReason {
    /// As it is written: `spawn_failed`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signalled => "signalled",
            Self::Terminated => "terminated",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::SpawnFailed => "spawn_failed",
        }
    }
}

/// What a process and all its descendants that it waited for have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peak {
    /// Largest resident size of one process among them, in bytes.
    pub rss_bytes: u64,
    /// User and system time, in milliseconds.
    pub cpu_ms: u64,
}

/// One process, from before its start to after its end. Times are microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessRecord {
    /// UUID version 7: sorts by the time of creation.
    pub id: String,
    /// [`super::Machine::guid`] of the machine it runs on.
    pub machine_id: String,
    /// The record of what started it; `None` at the root.
    pub parent_id: Option<String>,
    pub kind: ProcessKind,
    /// A short name, such as `chromium`.
    pub label: String,
    pub status: ProcessStatus,
    pub pwd: String,
    /// Program and arguments, secrets redacted, long ones cut.
    pub cmd: Vec<String>,
    /// Its whole environment, secrets redacted, long values cut.
    pub env: BTreeMap<String, String>,
    /// How long it was given; `None`: no limit.
    pub timeout_ms: Option<u64>,
    pub pid: Option<u32>,
    /// Start time in clock ticks since boot: with the pid and the boot it names the process beyond reuse.
    pub start_ticks: Option<u64>,
    pub boot_id: String,
    /// Inode of its PID namespace: a pid means nothing in another one.
    pub pid_namespace: u64,
    /// The last part of `SONDE_MARK` in the environment of its whole tree.
    pub mark: String,
    pub created_at_us: i64,
    pub modified_at_us: i64,
    pub started_at_us: Option<i64>,
    pub ended_at_us: Option<i64>,
    /// `None` while it runs, when a signal ended it, and when its end was not seen.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub end_reason: Option<EndReason>,
    /// One sentence more of why it ended.
    pub end_detail: String,
    pub peak: Option<Peak>,
    pub stdout: Option<PathBuf>,
    pub stderr: Option<PathBuf>,
    /// Where it is reached, such as geckodriver's address.
    pub url: Option<String>,
    /// The record of the process that this one is another try of.
    pub retry_of: Option<String>,
    /// What it belongs to: `browser_id`, `visit_id`, `crawl_id`, `plugin`, `hook`, ….
    pub context: BTreeMap<String, String>,
    /// The latest visits that it served, at most 32.
    pub visits: Vec<i64>,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub exit: Exit,
    pub reason: EndReason,
    pub detail: String,
    pub peak: Option<Peak>,
    /// When that was, in microseconds since the epoch; `None`: now.
    pub at_us: Option<i64>,
}

impl End {
    /// Nobody saw it end.
    pub fn lost(detail: impl Into<String>) -> Self {
        Self::without_status(EndReason::Lost, detail)
    }

    /// For this reason; how it exited is not known.
    pub fn without_status(reason: EndReason, detail: impl Into<String>) -> Self {
        Self {
            exit: Exit { code: None, signal: None },
            reason,
            detail: detail.into(),
            peak: None,
            at_us: None,
        }
    }
}

/// What can happen to a process.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Started { pid: u32, start_ticks: u64 },
    Ended(End),
}

/// A change that the state of a process does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("process {id} is {}: it cannot {change}", .status.word())]
pub struct LifecycleError {
    id: String,
    status: ProcessStatus,
    change: &'static str,
}

impl ProcessRecord {
    /// The state machine: queued -> running -> exited; one that never ran, or whose start nobody saw, goes from queued to
    /// exited. `now_us` is the wall time of the change.
    ///
    /// # Errors
    /// When its state does not allow the change; it is then unchanged.
    pub fn apply(&mut self, change: Change, now_us: i64) -> Result<(), LifecycleError> {
        use ProcessStatus::{Exited, Queued, Running};
        let refused = |change| LifecycleError { id: self.id.clone(), status: self.status, change };
        match change {
            Change::Started { pid, start_ticks } => {
                if self.status != Queued {
                    return Err(refused("start"));
                }
                (self.pid, self.start_ticks) = (Some(pid), Some(start_ticks));
                self.started_at_us = Some(now_us);
                self.status = Running;
            }
            Change::Ended(end) => {
                let never_ran = matches!(end.reason, EndReason::SpawnFailed);
                let allowed = match self.status {
                    Queued => never_ran || end.reason == EndReason::Lost,
                    Running => !never_ran,
                    Exited => false,
                };
                if !allowed {
                    return Err(refused("end so"));
                }
                (self.exit_code, self.signal) = (end.exit.code, end.exit.signal);
                self.end_reason = Some(end.reason);
                self.end_detail = end.detail;
                self.peak = end.peak;
                self.ended_at_us = Some(end.at_us.unwrap_or(now_us));
                self.status = Exited;
            }
        }
        self.modified_at_us = now_us;
        Ok(())
    }

    /// Whether it runs longer than it was given. `now_us` is the wall time.
    pub fn timed_out(&self, now_us: i64) -> bool {
        let times = self.started_at_us.zip(self.timeout_ms);
        let over = |(started, ms): (i64, u64)| {
            now_us.saturating_sub(started) >= i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000)
        };
        self.status == ProcessStatus::Running && times.is_some_and(over)
    }

    /// How much it tells of its process's life; grows with it. 1: queued. 2: it runs. 3: it is gone, and nobody knows
    /// how. 4: it has ended, without a known exit status. 5: its exit status is known.
    pub fn revision(&self) -> u32 {
        match (self.status, self.end_reason) {
            (ProcessStatus::Queued, _) => 1,
            (ProcessStatus::Running, _) => 2,
            (ProcessStatus::Exited, Some(EndReason::Lost)) => 3,
            // A service that ends in order cannot know its own exit code, nor a next start that of what it ends.
            (ProcessStatus::Exited, _) if self.exit_code.is_none() && self.signal.is_none() => 4,
            (ProcessStatus::Exited, _) => 5,
        }
    }

    /// Which of two records of one process tells more: the one that saw the end, else the later one. A service and its
    /// supervisor each keep one of the service.
    pub fn better(self, other: Self) -> Self {
        let key = |r: &Self| (r.revision(), r.modified_at_us);
        if key(&other) > key(&self) { other } else { self }
    }
}

/// What we did to end a process, before it was seen to be dead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub why: Option<(EndReason, String)>,
    /// SIGTERM was sent.
    pub term: bool,
    /// SIGKILL was sent.
    pub kill: bool,
}

/// Why a process that exited so did: because of us only when it ended by what we sent, or by itself after we asked.
pub(super) fn conclude(exit: Exit, asked: &Asked) -> (EndReason, String) {
    const KILL: i32 = 9;
    const TERM: i32 = 15;
    let ours = |default: &str| asked.why.clone().unwrap_or((EndReason::Terminated, default.to_owned()));
    match (exit.code, exit.signal) {
        (None, None) => (EndReason::Lost, "its exit status could not be had".to_owned()),
        (_, Some(KILL)) if asked.kill => ours("killed"),
        (_, Some(TERM)) if asked.term => ours("terminated"),
        (_, Some(signal)) => (EndReason::Signalled, format!("signal {signal}")),
        (Some(_), None) if asked.why.is_some() || asked.term => ours("terminated"),
        (Some(_), None) => (EndReason::Exited, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued() -> ProcessRecord {
        ProcessRecord { id: "p".to_owned(), ..ProcessRecord::default() }
    }

    fn exited(code: i32) -> Change {
        let exit = Exit { code: Some(code), signal: None };
        Change::Ended(End { exit, reason: EndReason::Exited, detail: String::new(), peak: None, at_us: None })
    }

    const STARTED: Change = Change::Started { pid: 7, start_ticks: 8 };

    /// A15, A03
    #[test]
    fn a_process_is_queued_then_running_then_exited_and_never_goes_back() {
        let mut record = queued();
        assert!(record.apply(exited(0), 1).is_err(), "it has not run");
        record.apply(STARTED, 2).unwrap();
        assert_eq!((record.pid, record.start_ticks, record.started_at_us), (Some(7), Some(8), Some(2)));
        assert!(record.apply(STARTED, 3).is_err());
        let failed = Change::Ended(End::without_status(EndReason::SpawnFailed, "x"));
        assert!(record.apply(failed.clone(), 3).is_err(), "it has run");
        assert_eq!(record.modified_at_us, 2, "a refused change changes nothing");
        record.apply(exited(3), 4).unwrap();
        assert_eq!((record.exit_code, record.ended_at_us), (Some(3), Some(4)));
        for change in [STARTED, exited(0), failed.clone(), Change::Ended(End::lost(""))] {
            assert!(record.apply(change, 5).is_err());
        }
        assert_eq!(record.exit_code, Some(3));
        let mut never = queued();
        never.apply(failed, 1).unwrap();
        assert_eq!(never.end_reason, Some(EndReason::SpawnFailed));
    }

    /// A07: an end that nobody saw has no exit code, so that it never looks like a success.
    #[test]
    fn a_lost_process_has_no_exit_code() {
        let mut record = queued();
        record.apply(STARTED, 1).unwrap();
        record.apply(Change::Ended(End::lost("gone")), 2).unwrap();
        assert_eq!((record.exit_code, record.signal), (None, None));
        assert_eq!(record.end_reason, Some(EndReason::Lost));
    }

    /// A16
    #[test]
    fn only_what_runs_can_be_over_its_time() {
        let mut record = ProcessRecord { timeout_ms: Some(2), ..queued() };
        assert!(!record.timed_out(i64::MAX));
        record.apply(STARTED, 1000).unwrap();
        assert_eq!([2999, 3000].map(|now| record.timed_out(now)), [false, true]);
        assert!(!ProcessRecord { timeout_ms: None, ..record.clone() }.timed_out(i64::MAX));
        assert!(!ProcessRecord { timeout_ms: Some(u64::MAX), ..record.clone() }.timed_out(5000));
        record.apply(exited(0), 9000).unwrap();
        assert!(!record.timed_out(i64::MAX));
    }

    /// A07, A08
    #[test]
    fn the_reason_is_ours_only_when_it_was_us() {
        let exit = |code, signal| Exit { code, signal };
        let timeout = Some((EndReason::Timeout, "60s".to_owned()));
        let none = Asked::default();
        let term = Asked { term: true, ..Asked::default() };
        let both = Asked { why: timeout, term: true, kill: true };
        let reason = |code, signal, asked: &Asked| conclude(exit(code, signal), asked).0;
        assert_eq!(reason(Some(0), None, &none), EndReason::Exited);
        assert_eq!(reason(None, Some(9), &none), EndReason::Signalled);
        assert_eq!(reason(None, Some(9), &term), EndReason::Signalled, "somebody else killed it first");
        assert_eq!(reason(None, Some(15), &term), EndReason::Terminated);
        assert_eq!(reason(Some(0), None, &term), EndReason::Terminated, "it obeyed");
        assert_eq!(reason(None, Some(9), &both), EndReason::Timeout);
        assert_eq!(reason(None, Some(11), &both), EndReason::Signalled, "it crashed by itself");
        assert_eq!(reason(None, None, &both), EndReason::Lost);
    }

    /// A01: of the two records of a service the one that knows its end wins.
    #[test]
    fn the_supervisors_word_on_an_end_counts() {
        let at = |change: Change, us| {
            let mut record = queued();
            record.apply(STARTED, 1).unwrap();
            record.apply(change, us).unwrap();
            record
        };
        let supervisors = at(exited(0), 5);
        let ended = |reason| at(Change::Ended(End::without_status(reason, "")), 9);
        // Storage keeps the row of the greatest revision, whichever comes first.
        for reason in [EndReason::Lost, EndReason::Exited, EndReason::Terminated, EndReason::Timeout] {
            let own = ended(reason);
            assert!(queued().revision() < own.revision() && own.revision() < supervisors.revision());
            assert_eq!(own.clone().better(supervisors.clone()), supervisors);
            assert_eq!(supervisors.clone().better(own), supervisors);
        }
        assert!(ended(EndReason::Lost).revision() < ended(EndReason::Exited).revision());
        assert_eq!(queued().better(supervisors.clone()), supervisors);
    }
}
