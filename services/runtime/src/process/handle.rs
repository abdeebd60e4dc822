//! A handle on a running child, and the task that watches it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, watch};

use super::output::OutputReader;
use super::record::{Asked, End, EndReason, Peak, conclude};
use super::spawner::{self, Born, Job};
use super::store::{Entry, ProcessStore};
use super::tail::{Follow, Tail};
use super::{ProcessEvent, SpawnError, Started, cgroup, tree};
use crate::clock::wall_us;

/// How long killed processes may take to vanish before they are reported as survivors.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(5);
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
    /// The id of its record, when it has one.
    pub record: Option<Arc<str>>,
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
    asked: Mutex<Asked>,
    stdout: Tail,
    stderr: Tail,
    /// Where these go on disk.
    files: [Option<PathBuf>; 2],
    store: Option<ProcessStore>,
}

impl Shared {
    /// Remembers the first word on why it is ended, said while it lived.
    fn because(&self, reason: EndReason, detail: impl Into<String>) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = Pid::from_raw(self.info.pid.cast_signed());
        if !*reaped && !pid.is_some_and(is_dead) {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.why.get_or_insert_with(|| (reason, detail.into()));
        }
    }

    /// Signals the process group, if its leader still pins the id.
    fn signal_group(&self, signal: Signal) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped {
            return;
        }
        let Some(pid) = Pid::from_raw(self.info.pid.cast_signed()) else { return };
        if !is_dead(pid) {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.term |= signal == Signal::TERM;
            asked.kill |= signal == Signal::KILL;
        }
        match rustix::process::kill_process_group(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.info.pid, %error, ?signal, "cannot signal a group"),
        }
    }
}

/// Whether a child of ours has ended, or is on its way out, though nobody has waited for it yet: its connections end before
/// it does, and who hears that first has not ended it.
fn is_dead(pid: Pid) -> bool {
    /// `PF_EXITING` of the kernel's `include/linux/sched.h`.
    const EXITING: u32 = 4;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let ended = matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(Some(_)));
    let stat = || procfs::process::Process::new(pid.as_raw_nonzero().get()).and_then(|p| p.stat());
    ended || stat().is_ok_and(|stat| stat.flags & EXITING != 0)
}

/// A running child. Clones share it; when the last one is dropped the tree is killed.
#[derive(Clone)]
pub struct Process(Arc<Handle>);

/// A [`Process`] that is not kept alive by it.
#[derive(Clone)]
pub(super) struct WeakProcess(Weak<Handle>);

impl WeakProcess {
    pub fn upgrade(&self) -> Option<Process> {
        self.0.upgrade().map(Process)
    }
}

struct Handle {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.because(EndReason::Terminated, "nobody had a use for it any more");
        self.shared.signal_group(Signal::KILL);
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Process").field(self.info()).finish()
    }
}

impl Process {
    pub(super) fn watch(started: Started, born: Born, mut entry: Option<Entry>) -> Result<Self, SpawnError> {
        let Started { program, label, args, record, mark, lines } = started;
        let Born { mut child, pidfd, pid, start_ticks } = born;
        let info = ProcessInfo { label, program, args, pid, start_ticks, mark, record };
        let setup = |what| {
            let program = info.program.clone();
            move |source| SpawnError::Setup { what, program, source }
        };
        if let Some(entry) = &mut entry {
            entry.started(pid, start_ticks);
        }
        let files = entry.as_ref().map_or([None, None], Entry::files);
        let taken = [child.stdout.is_some(), child.stderr.is_some()];
        let [out_file, err_file] = files.clone();
        let (state, seen) = watch::channel(State::Running);
        let place = |file: Option<(PathBuf, u64)>, here: bool| file.filter(|_| here).map(|(path, _)| path);
        let shared = Arc::new(Shared {
            info: info.clone(),
            state,
            reaped: Mutex::new(false),
            asked: Mutex::default(),
            stdout: Tail::default(),
            stderr: Tail::default(),
            files: [place(out_file.clone(), taken[0]), place(err_file.clone(), taken[1])],
            store: entry.as_ref().map(Entry::store),
        });
        let process = Self(Arc::new(Handle { shared: shared.clone(), state: seen }));
        // From here an early return drops the handle, which kills the child.
        let out = child.stdout.take().map(|o| pipe::Receiver::from_owned_fd(OwnedFd::from(o)));
        let err = child.stderr.take().map(|e| pipe::Receiver::from_owned_fd(OwnedFd::from(e)));
        let pidfd = tree::watched(pidfd).map_err(setup("a process handle"))?;
        let mut readers = Vec::new();
        let ends = [(out, &shared.stdout, out_file, "stdout"), (err, &shared.stderr, err_file, "stderr")];
        for (end, tail, file, stream) in ends {
            let Some(end) = end else { continue };
            let end = end.map_err(setup("output capture"))?;
            let (tail, lines, label) = (tail.clone(), lines.clone(), info.label.clone());
            readers.push(tokio::spawn(Follow { tail, file, lines, label, pid, stream }.run(end)));
        }
        if let Some(entry) = &entry {
            entry.attach(&process);
        }
        registry().tell(ProcessEvent::Started(info));
        tokio::spawn(supervise(child, pidfd, shared, readers, entry));
        Ok(process)
    }

    pub(super) fn downgrade(&self) -> WeakProcess {
        WeakProcess(Arc::downgrade(&self.0))
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

    /// Says why it is about to be ended, for its record. The first word counts, and only while it runs.
    pub fn because(&self, reason: EndReason, detail: impl Into<String>) {
        self.0.shared.because(reason, detail);
    }

    /// SIGTERM to the group, `grace`, SIGKILL to the group and to every descendant wherever it hides.
    /// Returns when the tree is gone, at the latest about 10 s after the grace time. Idempotent.
    pub async fn terminate(&self, grace: Duration) -> Terminated {
        let info = self.info().clone();
        self.because(EndReason::Terminated, "it was told to end");
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
        self.because(EndReason::Terminated, "it was told to end");
        self.0.shared.signal_group(Signal::TERM);
    }

    /// SIGKILL now, without waiting; see [`Process::wait_gone`].
    pub fn kill(&self) {
        self.because(EndReason::Terminated, "it was killed");
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

    /// Where it is reached, for its record.
    pub fn reached_at(&self, url: &str) {
        let shared = &self.0.shared;
        if let (Some(store), Some(id)) = (&shared.store, &shared.info.record) {
            store.note(id, |record| record.url = Some(url.to_owned()));
        }
    }

    /// What it has written so far, on disk; `None` when that is not kept here.
    pub fn output(&self, stderr: bool) -> Option<OutputReader> {
        let shared = &self.0.shared;
        let [out, err] = &shared.files;
        let (path, tail) = if stderr { (err, &shared.stderr) } else { (out, &shared.stdout) };
        path.as_ref().map(|path| OutputReader::live(path, tail.position.clone()))
    }

    /// The number of bytes of an output, which changes when more of them can be read.
    pub fn written(&self, stderr: bool) -> watch::Receiver<u64> {
        let shared = &self.0.shared;
        if stderr { shared.stderr.news() } else { shared.stdout.news() }
    }

    /// As [`Process::wait_gone`], but the future does not keep the process alive.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.0.state.clone();
        async move {
            // An error says that the runtime which watched it was shut down.
            let _ = state.wait_for(|s| matches!(s, State::Gone(..))).await;
        }
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
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
    shared: Arc<Shared>,
    readers: Vec<tokio::task::JoinHandle<()>>,
    entry: Option<Entry>,
) {
    let info = &shared.info;
    if let Err(error) = pidfd.readable().await.map(drop) {
        tracing::error!(pid = info.pid, %error, "cannot watch a process");
    }
    // The leader is a zombie now and still pins its group id: the last moment to signal the group.
    shared.signal_group(Signal::KILL);
    let (exit, peak) = {
        let mut reaped = shared.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        *reaped = true;
        wait(&child)
    };
    let at_us = Some(wall_us());
    if let Ok(jobs) = spawner::get() {
        // Fails only when the spawner thread is gone, and then nobody reaps by its list either.
        let _ = jobs.send(Job::Forget(info.pid)).await;
    }
    tracing::debug!(label = info.label, pid = info.pid, %exit, "process ended");
    shared.state.send_replace(State::Exited(exit));
    registry().tell(ProcessEvent::Exited { info: info.clone(), exit });
    let sweep = tree::sweep(info.pid, info.start_ticks, &info.mark, &[], KILL_LIMIT).await;
    cgroup::remove(&info.mark).await;
    if !sweep.survivors.is_empty() {
        tracing::error!(label = info.label, pids = ?sweep.survivors, "processes that cannot be killed");
    }
    for mut reader in readers {
        if tokio::time::timeout(OUTPUT_LIMIT, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    if let Some(entry) = entry {
        let asked = shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (reason, mut detail) = conclude(exit, &asked);
        if !sweep.survivors.is_empty() {
            detail.push_str(&format!("; processes {:?} that it left cannot be killed", sweep.survivors));
        }
        let end = End { exit, reason, detail, peak, at_us };
        if let Err(error) = tokio::task::spawn_blocking(move || entry.ended(end)).await {
            tracing::error!(%error, label = info.label, "the end of a process is not recorded");
        }
    }
    registry().tell(ProcessEvent::Gone { info: info.clone(), sweep: sweep.clone() });
    shared.state.send_replace(State::Gone(exit, sweep));
}

/// Waits for a child that has ended: how it did, and what it has taken with all that it waited for itself.
fn wait(child: &Child) -> (Exit, Option<Peak>) {
    use std::os::unix::process::ExitStatusExt;
    let mut status = 0;
    // SAFETY: plain numbers, for which all bits zero are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both point to live values of ours of the types that the call fills.
        let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
        if waited >= 0 {
            break;
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            tracing::warn!(%error, "the exit status of a process is lost");
            return (Exit { code: None, signal: None }, None);
        }
    }
    let status = std::process::ExitStatus::from_raw(status);
    let ms = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or_default() * 1000
            + u64::try_from(time.tv_usec).unwrap_or_default() / 1000
    };
    let peak = Peak {
        rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or_default() << 10,
        cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime),
    };
    (Exit { code: status.code(), signal: status.signal() }, Some(peak))
}
