//! The place that starts operating-system processes.
//!
//! Every child runs in a session of its own, is bound to our life (parent-death signal, and the
//! subreaper flag for its orphans), carries `SONDE_MARK=<uuid>` in its environment, and is watched by
//! a task that, the moment the child ends, kills and reaps whatever it left behind. Linux only.
//!
//! [`spawn`] gives a [`Process`]; dropping the last handle kills the tree. [`subscribe`] tells of every
//! start and end, [`running`] lists what is alive.
//!
//! Within a [`Scope`] each child has a [`ProcessRecord`] in a [`ProcessStore`]: what was started, on whose behalf, what it
//! wrote, and why it ended. The store outlives us: its next owner repairs it ([`ProcessStore::repair`]).

pub mod cgroup;
mod counts;
pub mod guard;
mod handle;
mod journal;
mod machine;
mod network;
mod output;
mod own;
mod query;
mod record;
mod redact;
mod repair;
mod scope;
mod spawner;
mod stats;
mod store;
mod tail;
mod tree;
mod usage;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

pub use counts::{Counts, ProcessCounts};
pub use guard::Guard;
pub use handle::{Exit, Process, ProcessInfo, Terminated};
pub use journal::{Found, read as read_journal};
pub use machine::Machine;
pub use network::{Network, NetworkInterface};
pub use output::{OutputReader, Piece};
pub use query::{Filter, Forest, Relation, UnknownProcess};
pub use record::{Change, End, EndReason, LifecycleError, Peak, ProcessKind, ProcessRecord, ProcessStatus};
pub use redact::{REDACTED, Redactor};
pub use repair::{Repaired, end_recorded, is_running, terminate_all};
pub use scope::{Scope, WholeProgram, within};
pub use stats::MachineStats;
pub use store::{Limits, ProcessStore, StoreError, StoreOptions};
pub use tail::Lines;
pub use tree::watched;
pub use tree::{Member, SweepReport, find_marked, members, start_ticks};
pub use usage::{Usage, share, sizes, usage};

/// The environment variable that every child inherits: the marks of all its forebears and its own, with `/` between.
pub const MARK_VARIABLE: &str = "SONDE_MARK";
/// Tells a service which record its supervisor made of it, and of itself.
pub const ID_VARIABLE: &str = "SONDE_PROCESS_ID";
/// See [`ID_VARIABLE`].
pub const PARENT_VARIABLE: &str = "SONDE_PROCESS_PARENT";

/// How many bytes of stdout and of stderr are kept, from the end.
pub const TAIL_BYTES: usize = 64 * 1024;

/// What to start.
pub struct Spawn {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Added to the inherited environment, or all of it: see `clear_env`.
    pub env: Vec<(OsString, OsString)>,
    /// `None` inherits ours.
    pub cwd: Option<PathBuf>,
    /// Descriptors the child gets, each at the given number (3..=9).
    pub extra_fds: Vec<(OwnedFd, i32)>,
    /// Where its output goes instead of into the tails.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Nothing of our environment is inherited but the mark.
    pub clear_env: bool,
    /// It is not killed when we die.
    pub outlives_us: bool,
    /// A short name for logs and events, such as `chromium`.
    pub label: String,
    /// The id of its record; `None`: a new one.
    pub id: Option<String>,
    pub kind: ProcessKind,
    /// How long it is given, for its record: whoever starts it sees to that.
    pub timeout: Option<Duration>,
    /// Where the caller keeps its stdout and stderr, when they do not go into the tails.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Takes the lines of both outputs.
    pub lines: Option<Lines>,
    pub retry_of: Option<String>,
    /// What it belongs to, beside what its [`Scope`] says.
    pub context: BTreeMap<String, String>,
}

impl std::fmt::Debug for Spawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spawn")
            .field("label", &self.label)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl Spawn {
    pub fn new(label: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            extra_fds: Vec::new(),
            stdout: None,
            stderr: None,
            clear_env: false,
            outlives_us: false,
            label: label.into(),
            id: None,
            kind: ProcessKind::default(),
            timeout: None,
            files: None,
            lines: None,
            retry_of: None,
            context: BTreeMap::new(),
        }
    }

    pub fn kind(mut self, kind: ProcessKind) -> Self {
        self.kind = kind;
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The id of its record, chosen by the caller, and where the caller keeps its stdout and stderr.
    pub fn recorded_as(mut self, id: impl Into<String>, files: Option<(PathBuf, PathBuf)>) -> Self {
        (self.id, self.files) = (Some(id.into()), files);
        self
    }

    pub fn belongs_to(mut self, key: &str, value: impl Into<String>) -> Self {
        self.context.insert(key.to_owned(), value.into());
        self
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Output to these descriptors, read by nobody here.
    pub fn output(mut self, stdout: OwnedFd, stderr: OwnedFd) -> Self {
        (self.stdout, self.stderr) = (Some(stdout), Some(stderr));
        self
    }

    /// An environment of its own: `env` and the mark, nothing of ours.
    pub fn only_env(mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.clear_env = true;
        self.env = env.into_iter().collect();
        self
    }

    pub fn fd(mut self, fd: OwnedFd, at: i32) -> Self {
        self.extra_fds.push((fd, at));
        self
    }
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("could not start {program:?}: {source}; check that it exists and is executable")]
    Exec { program: PathBuf, source: io::Error },
    #[error("could not set up {what} for {program:?}: {source}")]
    Setup { what: &'static str, program: PathBuf, source: io::Error },
    #[error("a child's descriptor number must be in 3..=9, got {0}")]
    Descriptor(i32),
    #[error("the spawner thread is gone; restart the service")]
    SpawnerGone,
}

/// What happened to a process; see [`subscribe`].
#[derive(Debug, Clone)]
pub enum ProcessEvent {
    Started(ProcessInfo),
    Exited {
        info: ProcessInfo,
        exit: Exit,
    },
    /// The process has exited and nothing of its tree is left (or `survivors` could not be killed).
    Gone {
        info: ProcessInfo,
        sweep: SweepReport,
    },
}

/// Starts a process. Must be called inside a tokio runtime (its output and end are watched there). It is recorded when
/// the calling future runs in a [`Scope`].
///
/// # Errors
/// When it cannot be started; nothing of it is left then.
pub async fn spawn(mut spec: Spawn) -> Result<Process, SpawnError> {
    if let Some((_, bad)) = spec.extra_fds.iter().find(|(_, at)| !(3..=9).contains(at)) {
        return Err(SpawnError::Descriptor(*bad));
    }
    spawner::keep_reaping();
    let mark = uuid::Uuid::new_v4().to_string();
    let entry = Scope::current().map(|scope| scope.store.queue(&spec, &scope, &mark));
    let started = Started {
        program: spec.program.clone(),
        label: spec.label.clone(),
        args: spec.args.iter().map(|a| a.to_string_lossy().into_owned()).collect(),
        record: entry.as_ref().map(|entry| entry.id().into()),
        mark: mark.clone().into(),
        lines: spec.lines.take(),
    };
    match (born(spec, mark).await, entry) {
        (Ok(born), entry) => Process::watch(started, born, entry),
        (Err(error), Some(entry)) => {
            // Its record is written, blocking: that is short, and nothing else waits for it.
            entry.failed(&error);
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

struct Started {
    program: PathBuf,
    label: String,
    args: Vec<String>,
    record: Option<std::sync::Arc<str>>,
    mark: std::sync::Arc<str>,
    lines: Option<Lines>,
}

async fn born(spec: Spawn, mark: String) -> Result<spawner::Born, SpawnError> {
    let (reply, answer) = oneshot::channel();
    spawner::get()?
        .send(spawner::Job::Spawn(Box::new((spec, mark)), reply))
        .await
        .map_err(|_| SpawnError::SpawnerGone)?;
    answer.await.map_err(|_| SpawnError::SpawnerGone)?
}

/// Starts and ends of all processes from now on. Bounded: a slow reader sees `Lagged(n)`.
pub fn subscribe() -> broadcast::Receiver<ProcessEvent> {
    handle::registry().events.subscribe()
}

/// The processes started here whose trees are not gone yet.
pub fn running() -> Vec<ProcessInfo> {
    handle::registry().running()
}
