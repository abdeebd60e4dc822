//! What belongs to a child, read from `/proc`, and its end.
//!
//! A process group is not enough: crash handlers put themselves in a session of their own with parent 1.
//! A process belongs to a child when it is in the session the child leads, descends from such a one, or
//! carries the child's mark in its environment.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{MARK_VARIABLE, cgroup, spawner};

/// One process of a tree. `start_ticks` is the start time in clock ticks since boot: with the pid it names
/// a process beyond the reuse of pids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub pid: u32,
    pub start_ticks: u64,
    pub parent: u32,
    pub session: u32,
    pub zombie: bool,
    pub name: String,
}

/// The end of a tree: how many processes had to be killed, and which could not be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepReport {
    pub killed: usize,
    pub survivors: Vec<u32>,
}

/// When a process started, in clock ticks since boot.
///
/// # Errors
/// When there is none of this id.
pub fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = procfs::process::Process::new(pid.cast_signed()).and_then(|p| p.stat());
    stat.map(|s| s.starttime).map_err(io::Error::other)
}

/// Every process that can be read just now; those that end meanwhile are left out.
pub(super) fn snapshot() -> Vec<Member> {
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    all.filter_map(|p| p.ok()?.stat().ok())
        .map(|s| Member {
            pid: s.pid.cast_unsigned(),
            start_ticks: s.starttime,
            parent: s.ppid.cast_unsigned(),
            session: s.session.cast_unsigned(),
            zombie: matches!(s.state, 'Z' | 'X'),
            name: s.comm,
        })
        .collect()
}

/// Whether exactly this process lives: not another one of that pid, and not as a zombie.
pub(super) fn is_alive(pid: u32, ticks: u64) -> bool {
    let stat = procfs::process::Process::new(pid.cast_signed()).and_then(|p| p.stat());
    stat.is_ok_and(|stat| stat.starttime == ticks && !matches!(stat.state, 'Z' | 'X'))
}

fn carries(pid: u32, mark: &str) -> bool {
    // Unreadable means another user's or a hardened process: then its session has to tell.
    let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let value = environ
        .split(|b| *b == 0)
        .find_map(|entry| entry.strip_prefix(MARK_VARIABLE.as_bytes())?.strip_prefix(b"="));
    // Each generation appends its own to that of its parent.
    !mark.is_empty() && value.is_some_and(|marks| marks.split(|b| *b == b'/').any(|m| m == mark.as_bytes()))
}

/// Living processes whose environment carries `mark`, wherever they hang in the process tree.
pub fn find_marked(mark: &str) -> Vec<Member> {
    let mut all = snapshot();
    all.retain(|p| !p.zombie && carries(p.pid, mark));
    all
}

/// Everything that belongs to the child `root` (started at `start_ticks`, marked `mark`), itself included.
/// Zombies are listed as such.
pub fn members(root: u32, start_ticks: u64, mark: &str) -> Vec<Member> {
    let all = snapshot();
    let me = std::process::id();
    let reused = all.iter().any(|p| p.pid == root && p.start_ticks != start_ticks);
    let group = cgroup::pids(mark);
    let inside = all
        .iter()
        .filter(|p| p.pid != me)
        .filter(|p| {
            let led = !reused && (p.pid == root || p.session == root);
            led || group.contains(&p.pid) || carries(p.pid, mark)
        })
        .map(|p| p.pid)
        .collect();
    with_descendants(all, inside)
}

/// What still lives of a child of a service that is dead: its `leader` (pid and start time) with its session, when that is
/// alive; whoever carries `mark`; and all their descendants. Never us, nor who started us.
pub(super) fn left_over(leader: Option<(u32, u64)>, mark: &str) -> Vec<Member> {
    let all = snapshot();
    let alive = |(pid, ticks): (u32, u64)| {
        all.iter().any(|p| p.pid == pid && p.start_ticks == ticks && !p.zombie).then_some(pid)
    };
    let root = leader.and_then(alive);
    let group = cgroup::pids(mark);
    let inside = all
        .iter()
        .filter(|p| {
            let led = root.is_some_and(|root| p.pid == root || p.session == root);
            led || group.contains(&p.pid) || carries(p.pid, mark)
        })
        .map(|p| p.pid)
        .collect();
    let parents: HashMap<u32, u32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let mut line = HashSet::from([std::process::id()]);
    let mut above = std::process::id();
    while let Some(parent) = parents.get(&above)
        && line.insert(*parent)
    {
        above = *parent;
    }
    let mut found = with_descendants(all, inside);
    found.retain(|p| !p.zombie && !line.contains(&p.pid));
    found
}

fn with_descendants(all: Vec<Member>, mut inside: HashSet<u32>) -> Vec<Member> {
    let me = std::process::id();
    let parents: HashMap<u32, u32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let descends = |mut pid: u32, inside: &HashSet<u32>| {
        // A chain of parents ends at 0; the bound is against a picture torn by reuse.
        for _ in 0..64 {
            match parents.get(&pid) {
                Some(parent) if inside.contains(parent) => return true,
                Some(parent) if *parent > 1 => pid = *parent,
                _ => return false,
            }
        }
        false
    };
    let descendants: Vec<u32> =
        all.iter().map(|p| p.pid).filter(|p| *p != me && descends(*p, &inside)).collect();
    inside.extend(descendants);
    all.into_iter().filter(|p| inside.contains(&p.pid)).collect()
}

/// A handle on exactly this process, or `None` when it is gone or its pid names another one by now.
fn open(member: &Member) -> Option<OwnedFd> {
    let pid = Pid::from_raw(member.pid.cast_signed())?;
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    (start_ticks(member.pid).ok()? == member.start_ticks).then_some(fd)
}

/// Tells when a descriptor is readable, as a pidfd is when its process ends.
pub fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and stays the same descriptor for as long as the AsyncFd owns it.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// Signals exactly these processes, all at once, and waits until they have ended or the time has come; gives how many
/// there were to receive it.
pub(super) async fn signal_and_wait(targets: &[Member], signal: Signal, until: Instant) -> usize {
    let mut dying = Vec::new();
    for member in targets {
        let Some(fd) = open(member) else { continue };
        match rustix::process::pidfd_send_signal(&fd, signal) {
            Ok(()) => dying.push((member.pid, fd)),
            Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                tracing::warn!(pid = member.pid, %error, ?signal, "cannot signal a left-over process")
            }
        }
    }
    let signalled = dying.len();
    for (pid, fd) in dying {
        match watched(fd) {
            // Past the time limit the next look at /proc reports it as a survivor.
            Ok(fd) => drop(timeout_at(until, fd.readable()).await),
            Err(error) => tracing::warn!(pid, %error, "cannot watch a dying process"),
        }
    }
    signalled
}

pub(super) async fn reap() -> usize {
    let (reply, answer) = oneshot::channel();
    let Ok(jobs) = spawner::get() else { return 0 };
    if jobs.send(spawner::Job::Reap(reply)).await.is_err() {
        return 0;
    }
    answer.await.unwrap_or(0)
}

/// Kills and reaps all that belongs to the child, and `also` (seen in the tree earlier), until nothing is
/// left or `limit` has passed.
pub(super) async fn sweep(
    root: u32,
    ticks: u64,
    mark: &str,
    also: &[Member],
    limit: Duration,
) -> SweepReport {
    let until = Instant::now() + limit;
    let mut report = SweepReport::default();
    loop {
        let owned = mark.to_owned();
        let also_now = also.to_vec();
        let look = tokio::task::spawn_blocking(move || {
            let mut seen = members(root, ticks, &owned);
            for earlier in also_now {
                let here = seen.iter().any(|m| m.pid == earlier.pid);
                if !here && start_ticks(earlier.pid).ok() == Some(earlier.start_ticks) {
                    seen.push(earlier);
                }
            }
            seen
        });
        let Ok(seen) = look.await else { return report };
        let me = std::process::id();
        let (zombies, living): (Vec<_>, Vec<_>) = seen.into_iter().partition(|m| m.zombie);
        // A zombie under a parent that is neither ours nor part of the tree is that parent's to reap.
        let to_reap = zombies.iter().any(|z| z.parent == me && z.pid != root);
        if living.is_empty() && !to_reap {
            return report;
        }
        if Instant::now() >= until {
            report.survivors = living.iter().map(|m| m.pid).collect();
            return report;
        }
        if report.killed > 0 {
            // They are not all yet, or more are started all the time: the last rung.
            cgroup::kill(mark);
        }
        report.killed += signal_and_wait(&living, Signal::KILL, until).await;
        if reap().await == 0 {
            // Nothing to wait on: a parent is about to die or the kernel about to hand a zombie over.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
