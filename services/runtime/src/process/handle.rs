//! A handle on a running child, and the task that watches it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, watch};

use super::spawner::{self, Born, Job};
use super::tail::{self, Tail};
use super::{ProcessEvent, SpawnError, tree};

/// How long killed processes may take to vanish before they are reported as survivors.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long output may still come after the tree is gone (someone outside it holds the pipe).
const OUTPUT_LIMIT: Duration = Duration::from_secs(1);

/// What a process is: constant over its life.
#[derive(Debug, Clone)]
pub struct ProcessInfo {
    pub label: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The value of `SONDE_MARK` in the environment of the whole tree.
    pub mark: Arc<str>,
}

/// How a process ended. Both `None`: its status could not be had (somebody else reaped it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "unknown exit status"),
        }
    }
}

/// The result of [`Process::terminate`].
#[derive(Debug, Clone)]
pub struct Terminated {
    pub exit: Exit,
    /// The process did not obey SIGTERM within the grace time.
    pub forced: bool,
    pub sweep: tree::SweepReport,
}

#[derive(Debug, Clone)]
enum State {
    Running,
    Exited(Exit),
    Gone(Exit, tree::SweepReport),
}

pub(super) struct Registry {
    pub events: broadcast::Sender<ProcessEvent>,
    alive: Mutex<HashMap<u32, ProcessInfo>>,
}

pub(super) fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry { events: broadcast::channel(1024).0, alive: Mutex::default() })
}

impl Registry {
    pub fn running(&self) -> Vec<ProcessInfo> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn tell(&self, event: ProcessEvent) {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            ProcessEvent::Started(info) => drop(alive.insert(info.pid, info.clone())),
            ProcessEvent::Exited { .. } => {}
            ProcessEvent::Gone { info, .. } => {
                // The pid may already name a newer child of ours.
                if alive.get(&info.pid).is_some_and(|i| i.start_ticks == info.start_ticks) {
                    alive.remove(&info.pid);
                }
            }
        }
        drop(alive);
        // An error only says that nobody listens.
        let _ = self.events.send(event);
    }
}

struct Shared {
    info: ProcessInfo,
    state: watch::Sender<State>,
    /// True once the leader was waited for: from then on its pid is not ours to signal.
    reaped: Mutex<bool>,
    stdout: Tail,
    stderr: Tail,
}

impl Shared {
    /// Signals the process group, if its leader still pins the id.
    fn signal_group(&self, signal: Signal) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped {
            return;
        }
        let Some(pid) = Pid::from_raw(self.info.pid.cast_signed()) else { return };
        match rustix::process::kill_process_group(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.info.pid, %error, ?signal, "cannot signal a group"),
        }
    }
}

/// A running child. Clones share it; when the last one is dropped the tree is killed.
#[derive(Clone)]
pub struct Process(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.signal_group(Signal::KILL);
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Process").field(self.info()).finish()
    }
}

impl Process {
    pub(super) fn watch(info: ProcessInfo, born: Born) -> Result<Self, SpawnError> {
        let setup = |what| {
            let program = info.program.clone();
            move |source| SpawnError::Setup { what, program, source }
        };
        let (state, seen) = watch::channel(State::Running);
        let shared = Arc::new(Shared {
            info: info.clone(),
            state,
            reaped: Mutex::new(false),
            stdout: Tail::default(),
            stderr: Tail::default(),
        });
        let process = Self(Arc::new(Handle { shared: shared.clone(), state: seen }));
        let Born { mut child, pidfd, .. } = born;
        // From here an early return drops the handle, which kills the child.
        let out = child.stdout.take().map(|o| pipe::Receiver::from_owned_fd(OwnedFd::from(o)));
        let err = child.stderr.take().map(|e| pipe::Receiver::from_owned_fd(OwnedFd::from(e)));
        let pidfd = tree::watched(pidfd).map_err(setup("a process handle"))?;
        let mut readers = Vec::new();
        for (end, tail, stream) in [(out, &shared.stdout, "stdout"), (err, &shared.stderr, "stderr")] {
            let Some(end) = end else { continue };
            let end = end.map_err(setup("output capture"))?;
            let reader = tail::follow(end, tail.clone(), info.label.clone(), info.pid, stream);
            readers.push(tokio::spawn(reader));
        }
        registry().tell(ProcessEvent::Started(info));
        tokio::spawn(supervise(child, pidfd, shared, readers));
        Ok(process)
    }

    pub fn info(&self) -> &ProcessInfo {
        &self.0.shared.info
    }

    pub fn pid(&self) -> u32 {
        self.info().pid
    }

    pub fn mark(&self) -> &str {
        &self.info().mark
    }

    /// `Some` once the process itself has exited (its tree may still be going).
    pub fn exit(&self) -> Option<Exit> {
        match &*self.0.state.borrow() {
            State::Running => None,
            State::Exited(exit) | State::Gone(exit, _) => Some(*exit),
        }
    }

    /// Waits for the process itself. Any number may wait; cancel-safe.
    pub async fn wait(&self) -> Exit {
        self.exited().await
    }

    /// As [`Process::wait`], but the future does not keep the process alive.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        let mut state = self.0.state.clone();
        async move {
            let seen = state.wait_for(|s| !matches!(s, State::Running)).await;
            match seen.as_deref() {
                Ok(State::Exited(exit) | State::Gone(exit, _)) => *exit,
                // The runtime that watched it was shut down.
                Ok(State::Running) | Err(_) => Exit { code: None, signal: None },
            }
        }
    }

    /// Waits until nothing of the tree is left (or could not be killed), and all output was read.
    pub async fn wait_gone(&self) -> (Exit, tree::SweepReport) {
        let mut state = self.0.state.clone();
        let seen = state.wait_for(|s| matches!(s, State::Gone(..))).await;
        match seen.as_deref() {
            Ok(State::Gone(exit, sweep)) => (*exit, sweep.clone()),
            Ok(_) | Err(_) => (Exit { code: None, signal: None }, tree::SweepReport::default()),
        }
    }

    /// SIGTERM to the group, `grace`, SIGKILL to the group and to every descendant wherever it hides.
    /// Returns when the tree is gone, at the latest about 10 s after the grace time. Idempotent.
    pub async fn terminate(&self, grace: Duration) -> Terminated {
        let info = self.info().clone();
        // Who belongs to the tree is best seen while it is whole: later a parent may be gone.
        let (pid, ticks, mark) = (info.pid, info.start_ticks, info.mark.clone());
        let look = tokio::task::spawn_blocking(move || tree::members(pid, ticks, &mark));
        let mut before = look.await.unwrap_or_default();
        before.retain(|m| m.pid != info.pid);
        self.0.shared.signal_group(Signal::TERM);
        let forced = tokio::time::timeout(grace, self.wait()).await.is_err();
        if forced {
            self.0.shared.signal_group(Signal::KILL);
        }
        let (exit, mut sweep) = self.wait_gone().await;
        let rest = tree::sweep(info.pid, info.start_ticks, &info.mark, &before, KILL_LIMIT).await;
        sweep.killed += rest.killed;
        sweep.survivors = rest.survivors;
        Terminated { exit, forced, sweep }
    }

    /// SIGTERM to the group now, without waiting.
    pub fn interrupt(&self) {
        self.0.shared.signal_group(Signal::TERM);
    }

    /// SIGKILL now, without waiting; see [`Process::wait_gone`].
    pub fn kill(&self) {
        self.0.shared.signal_group(Signal::KILL);
    }

    /// The last 64 KiB of standard output.
    pub fn stdout_tail(&self) -> String {
        self.0.shared.stdout.text()
    }

    /// The last 64 KiB of standard error.
    pub fn stderr_tail(&self) -> String {
        self.0.shared.stderr.text()
    }

    /// Waits until the last 64 KiB of standard output have an answer; `None` when the process is gone without one.
    pub async fn stdout_shows<T>(&self, answer: impl Fn(&str) -> Option<T>) -> Option<T> {
        let tail = &self.0.shared.stdout;
        let mut news = tail.news();
        let mut gone = self.0.state.clone();
        loop {
            news.borrow_and_update();
            if let Some(answer) = answer(&tail.text()) {
                return Some(answer);
            }
            tokio::select! {
                // The sending end lives as long as this handle.
                _ = news.changed() => {}
                _ = gone.wait_for(|s| matches!(s, State::Gone(..))) => return answer(&tail.text()),
            }
        }
    }

    /// The tree as `/proc` shows it now. Reads all of `/proc`: some milliseconds, blocking.
    pub fn tree(&self) -> Vec<tree::Member> {
        let info = self.info();
        tree::members(info.pid, info.start_ticks, &info.mark)
    }
}

async fn supervise(
    mut child: Child,
    pidfd: AsyncFd<OwnedFd>,
    shared: Arc<Shared>,
    readers: Vec<tokio::task::JoinHandle<()>>,
) {
    let info = &shared.info;
    if let Err(error) = pidfd.readable().await.map(drop) {
        tracing::error!(pid = info.pid, %error, "cannot watch a process");
    }
    // The leader is a zombie now and still pins its group id: the last moment to signal the group.
    shared.signal_group(Signal::KILL);
    let exit = {
        let mut reaped = shared.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        *reaped = true;
        exit_of(child.wait())
    };
    if let Ok(jobs) = spawner::get() {
        // Fails only when the spawner thread is gone, and then nobody reaps by its list either.
        let _ = jobs.send(Job::Forget(info.pid)).await;
    }
    tracing::debug!(label = info.label, pid = info.pid, %exit, "process ended");
    shared.state.send_replace(State::Exited(exit));
    registry().tell(ProcessEvent::Exited { info: info.clone(), exit });
    let sweep = tree::sweep(info.pid, info.start_ticks, &info.mark, &[], KILL_LIMIT).await;
    if !sweep.survivors.is_empty() {
        tracing::error!(label = info.label, pids = ?sweep.survivors, "processes that cannot be killed");
    }
    for mut reader in readers {
        if tokio::time::timeout(OUTPUT_LIMIT, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    registry().tell(ProcessEvent::Gone { info: info.clone(), sweep: sweep.clone() });
    shared.state.send_replace(State::Gone(exit, sweep));
}

fn exit_of(status: std::io::Result<std::process::ExitStatus>) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => Exit { code: status.code(), signal: status.signal() },
        Err(error) => {
            tracing::warn!(%error, "the exit status of a process is lost");
            Exit { code: None, signal: None }
        }
    }
}
