//! What a run tells while it goes on; the names are those of abx-dl's bus.

use std::path::PathBuf;

use serde::Serialize;

use super::outputs::Output;
use super::record::{Record, Status};
use super::verdict::Ended;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event")]
pub enum Event {
    #[serde(rename = "SnapshotEvent")]
    Snapshot { url: String, snapshot_id: String, hooks: usize },
    #[serde(rename = "ProcessStartedEvent")]
    ProcessStarted {
        plugin: String,
        hook: String,
        pid: u32,
        background: bool,
        cmd: Vec<String>,
        timeout_ms: u64,
    },
    /// A line that is a record, computed value or log line.
    #[serde(rename = "ProcessStdoutEvent")]
    ProcessStdout { plugin: String, hook: String, line: String },
    #[serde(rename = "RecordEvent")]
    Record { plugin: String, hook: String, record: Record },
    /// The runner asks it to end, or kills it.
    #[serde(rename = "ProcessKillEvent")]
    ProcessKill { plugin: String, hook: String, signal: i32, why: Ended },
    #[serde(rename = "ProcessCompletedEvent")]
    ProcessCompleted(Box<HookResult>),
    #[serde(rename = "SnapshotCleanupEvent")]
    SnapshotCleanup { background: usize },
    #[serde(rename = "SnapshotCompletedEvent")]
    SnapshotCompleted { succeeded: usize, failed: usize },
    #[serde(rename = "CrawlPauseEvent")]
    Paused,
    #[serde(rename = "CrawlResumeEvent")]
    Resumed,
    #[serde(rename = "CrawlAbortEvent")]
    Aborted,
}

/// All that is known of one hook after its end.
#[derive(Debug, Clone, Serialize)]
pub struct HookResult {
    pub plugin: String,
    pub hook: String,
    pub status: Status,
    /// The hook's own word, or why it failed.
    pub output_str: String,
    /// 0 where SIGTERM in clean-up was obeyed; 128 + a signal; -1 where it is lost or the hook never started.
    pub exit_code: i32,
    pub ended: Option<Ended>,
    pub background: bool,
    pub duration_ms: u64,
    pub cmd: Vec<String>,
    pub pid: Option<u32>,
    pub outputs: Vec<Output>,
    pub notes: Vec<String>,
    #[serde(skip)]
    pub records: Vec<Record>,
    /// Its whole output, as far as it is kept.
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}
