//! The place that starts operating-system processes.
//!
//! Every child runs in a session of its own, is bound to our life (parent-death signal, and the
//! subreaper flag for its orphans), carries `SONDE_MARK=<uuid>` in its environment, and is watched by
//! a task that, the moment the child ends, kills and reaps whatever it left behind. Linux only.
//!
//! [`spawn`] gives a [`Process`]; dropping the last handle kills the tree. [`subscribe`] tells of every
//! start and end, [`running`] lists what is alive.

mod handle;
mod spawner;
mod tail;
mod tree;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::{broadcast, oneshot};

pub use handle::{Exit, Process, ProcessInfo, Terminated};
pub use tree::watched;
pub use tree::{Member, SweepReport, find_marked, members};

/// The environment variable that every child inherits; its value is the child's mark.
pub const MARK_VARIABLE: &str = "SONDE_MARK";

/// How many bytes of stdout and of stderr are kept, from the end.
pub const TAIL_BYTES: usize = 64 * 1024;

/// What to start.
#[derive(Debug)]
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
    /// A short name for logs and events, such as `chromium`.
    pub label: String,
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
            label: label.into(),
        }
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

/// Starts a process. Must be called inside a tokio runtime (its output and end are watched there).
pub async fn spawn(spec: Spawn) -> Result<Process, SpawnError> {
    if let Some((_, bad)) = spec.extra_fds.iter().find(|(_, at)| !(3..=9).contains(at)) {
        return Err(SpawnError::Descriptor(*bad));
    }
    let mark = uuid::Uuid::new_v4().to_string();
    let (reply, answer) = oneshot::channel();
    let program = spec.program.clone();
    let label = spec.label.clone();
    let args = spec.args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    spawner::get()?
        .send(spawner::Job::Spawn(Box::new((spec, mark.clone())), reply))
        .await
        .map_err(|_| SpawnError::SpawnerGone)?;
    let born = answer.await.map_err(|_| SpawnError::SpawnerGone)??;
    let info =
        ProcessInfo { label, program, args, pid: born.pid, start_ticks: born.start_ticks, mark: mark.into() };
    Process::watch(info, born)
}

/// Starts and ends of all processes from now on. Bounded: a slow reader sees `Lagged(n)`.
pub fn subscribe() -> broadcast::Receiver<ProcessEvent> {
    handle::registry().events.subscribe()
}

/// The processes started here whose trees are not gone yet.
pub fn running() -> Vec<ProcessInfo> {
    handle::registry().running()
}
