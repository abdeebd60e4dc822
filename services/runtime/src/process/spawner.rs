//! The long-lived thread that forks, and that reaps adopted orphans.
//!
//! One thread, because the parent-death signal fires when the spawning *thread* ends. Reaping happens
//! on it too, so that it can never take a child away from a `fork` that is still under way.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{ID_VARIABLE, MARK_VARIABLE, PARENT_VARIABLE, Spawn, SpawnError, cgroup, tree};

/// Above every number a child may ask for, so that moving descriptors never overwrites one of them.
const FIRST_FREE_FD: i32 = 10;

pub(super) enum Job {
    Spawn(Box<(Spawn, String)>, oneshot::Sender<Result<Born, SpawnError>>),
    /// The process was waited for; its pid may be used again by others.
    Forget(u32),
    /// Reap zombies that the kernel handed to us; answers how many.
    Reap(oneshot::Sender<usize>),
}

pub(super) struct Born {
    pub child: Child,
    pub pidfd: OwnedFd,
    pub pid: u32,
    pub start_ticks: u64,
}

pub(super) fn get() -> Result<&'static mpsc::Sender<Job>, SpawnError> {
    static SPAWNER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    SPAWNER
        .get_or_init(|| {
            let (jobs, inbox) = mpsc::channel(64);
            let thread = std::thread::Builder::new().name("sonde-spawner".into()).spawn(move || run(inbox));
            thread.map(|_| jobs).inspect_err(|error| tracing::error!(%error, "no spawner thread")).ok()
        })
        .as_ref()
        .ok_or(SpawnError::SpawnerGone)
}

/// Has orphans that the kernel hands to us reaped whenever they end: a sweep sees only those of its own tree, and an
/// orphan's own children may come much later. One task; it ends with its runtime, and the next start makes another.
pub(super) fn keep_reaping() {
    static REAPER: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if reaper.as_ref().is_some_and(|task| !task.is_finished()) {
        return;
    }
    match signal(SignalKind::child()) {
        Ok(mut ends) => {
            let reaping = async move {
                while ends.recv().await.is_some() {
                    tree::reap().await;
                }
            };
            *reaper = Some(tokio::spawn(reaping));
        }
        Err(error) => tracing::warn!(%error, "orphans are reaped only when a process of ours ends"),
    }
}

fn run(mut inbox: mpsc::Receiver<Job>) {
    // Any non-null pid switches it on: orphans of our children become ours instead of PID 1's.
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "cannot become a subreaper: zombies of killed browsers are left to PID 1");
    }
    let mut tracked = HashSet::new();
    while let Some(job) = inbox.blocking_recv() {
        match job {
            Job::Spawn(work, reply) => {
                let (spec, mark) = *work;
                let born = start(spec, &mark);
                if let Ok(born) = &born {
                    tracked.insert(born.pid);
                }
                if let Err(Ok(mut born)) = reply.send(born) {
                    // The caller gave up while we forked: nobody else will ever end this child.
                    tracked.remove(&born.pid);
                    if let Err(error) = born.child.kill().and_then(|()| born.child.wait()) {
                        tracing::warn!(pid = born.pid, %error, "could not end a child nobody waits for");
                    }
                }
            }
            Job::Forget(pid) => {
                tracked.remove(&pid);
            }
            Job::Reap(reply) => {
                // A gone receiver only means that nobody wants the number.
                let _ = reply.send(reap_adopted(&tracked));
            }
        }
    }
}

fn start(spec: Spawn, mark: &str) -> Result<Born, SpawnError> {
    let program = spec.program;
    let setup = |what| {
        let program = program.clone();
        move |source: io::Error| SpawnError::Setup { what, program, source }
    };
    let mut moved: Vec<(OwnedFd, i32)> = Vec::with_capacity(spec.extra_fds.len());
    for (fd, at) in spec.extra_fds {
        let high = rustix::io::fcntl_dupfd_cloexec(&fd, FIRST_FREE_FD)
            .map_err(|e| setup("descriptors")(e.into()))?;
        moved.push((high, at));
    }
    let mut command = Command::new(&program);
    if spec.clear_env {
        command.env_clear();
    }
    // What our supervisor told us is not meant for our children.
    command.env_remove(ID_VARIABLE).env_remove(PARENT_VARIABLE);
    let marks = match std::env::var(MARK_VARIABLE) {
        Ok(inherited) => format!("{inherited}/{mark}"),
        Err(_) => mark.to_owned(),
    };
    command.args(&spec.args).envs(spec.env).env(MARK_VARIABLE, marks);
    let output = |to: Option<OwnedFd>| to.map_or_else(Stdio::piped, Stdio::from);
    command.stdin(Stdio::null()).stdout(output(spec.stdout)).stderr(output(spec.stderr));
    if let Some(dir) = &spec.cwd {
        command.current_dir(dir);
    }
    let plan: Vec<(i32, i32)> = moved.iter().map(|(fd, at)| (fd.as_raw_fd(), *at)).collect();
    let parent = rustix::process::getpid();
    let bound = !spec.outlives_us;
    // One that outlives us is not to be taken for what we left.
    let group = if bound { cgroup::make(mark).map_err(setup("a control group"))? } else { None };
    let required = cgroup::is_required();
    let entered = group.as_ref().map(AsRawFd::as_raw_fd);
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe system calls; it
    // neither allocates nor locks.
    unsafe { command.pre_exec(move || become_child(parent, bound, entered, required, &plan)) };
    // std reports a failed exec over a descriptor of its own. Filling the low numbers keeps that one from
    // being a number which the child's own descriptors then overwrite.
    let low = fill_low_descriptors().map_err(setup("descriptors"))?;
    let child = command.spawn().map_err(|source| {
        if group.is_some() {
            cgroup::unmake(mark);
        }
        SpawnError::Exec { program: program.clone(), source }
    })?;
    drop((low, moved));
    identify(child).map_err(setup("a process handle"))
}

fn become_child(
    parent: Pid,
    bound: bool,
    group: Option<i32>,
    required: bool,
    plan: &[(i32, i32)],
) -> io::Result<()> {
    rustix::process::setsid()?;
    if let Some(procs) = group {
        // SAFETY: a descriptor that is open, and one byte that lives.
        let entered = unsafe { libc::write(procs, b"0".as_ptr().cast(), 1) };
        // Unless it is required, the session and the mark have to do.
        if entered != 1 && required {
            return Err(io::Error::last_os_error());
        }
    }
    if bound {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    // The parent may have died before the signal was armed.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    for (from, to) in plan {
        // SAFETY: plain descriptor numbers; `from` is open, and `to` holds nothing that is still needed.
        if unsafe { libc::dup2(*from, *to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn fill_low_descriptors() -> io::Result<Vec<OwnedFd>> {
    let null = std::fs::File::open("/dev/null")?;
    let mut held = Vec::new();
    loop {
        // SAFETY: F_DUPFD_CLOEXEC gives a new descriptor that we own.
        let fd = unsafe { libc::fcntl(null.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made by fcntl, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if fd.as_raw_fd() >= FIRST_FREE_FD {
            return Ok(held);
        }
        held.push(fd);
    }
}

fn identify(mut child: Child) -> io::Result<Born> {
    let pid = child.id();
    // Nobody can have reaped it yet: only this thread and the watcher, which starts later, wait for it.
    let opened = Pid::from_raw(pid.cast_signed())
        .ok_or_else(|| io::Error::other("pid 0"))
        .and_then(|p| Ok(rustix::process::pidfd_open(p, PidfdFlags::empty())?))
        .and_then(|fd| tree::start_ticks(pid).map(|ticks| (fd, ticks)));
    match opened {
        Ok((pidfd, start_ticks)) => Ok(Born { child, pidfd, pid, start_ticks }),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// Zombie children of ours that we did not start ourselves. Everything we start leads a session of its
/// own, so a child in *our* session belongs to some other code of this program, which waits for it.
fn reap_adopted(tracked: &HashSet<u32>) -> usize {
    let me = std::process::id();
    let all = tree::snapshot();
    // Not getsid(2) through rustix: as the first process of a PID namespace our session may lead outside of
    // it, which is session 0 here, and rustix takes 0 for impossible and panics.
    let Some(own_session) = all.iter().find(|p| p.pid == me).map(|p| p.session) else { return 0 };
    let mut reaped = 0;
    for p in all {
        let ours = p.parent == me && p.zombie && p.session != own_session && !tracked.contains(&p.pid);
        if !ours {
            continue;
        }
        let Some(pid) = Pid::from_raw(p.pid.cast_signed()) else { continue };
        if matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_))) {
            reaped += 1;
        }
    }
    reaped
}
