//! A control group (version 2) for each process that is started, where ours lets us make them: what belongs to a process is
//! then known whatever it does to its session, its parents and its environment, and is killed at one stroke.
//!
//! Only membership and the kill are used: no controller is needed, and no limit set.

use std::collections::HashSet;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

const PREFIX: &str = "sonde-";
/// An empty group that is older is nobody's: whoever makes one enters it at once.
const LEFT: Duration = Duration::from_secs(60);
/// For a group whose processes were killed to be empty.
const EMPTY: Duration = Duration::from_secs(2);

/// Whether processes get groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Where it is possible.
    #[default]
    Auto,
    Off,
    /// Or nothing is started.
    Require,
}

const AUTO: u8 = 0;
const OFF: u8 = 1;
const REQUIRE: u8 = 2;
static MODE: AtomicU8 = AtomicU8::new(AUTO);
static LANE: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// Says how this program is to use groups; the first process that is started settles it.
///
/// # Errors
/// When they are required, and cannot be made.
pub fn set(mode: Mode) -> Result<(), String> {
    let stored = match mode {
        Mode::Auto => AUTO,
        Mode::Off => OFF,
        Mode::Require => REQUIRE,
    };
    MODE.store(stored, Ordering::Relaxed);
    match (mode, lane()) {
        (Mode::Require, Err(why)) => Err(why.clone()),
        _ => Ok(()),
    }
}

/// The group below which those of processes are made, or why there are none.
pub fn lane() -> &'static Result<PathBuf, String> {
    LANE.get_or_init(|| match MODE.load(Ordering::Relaxed) {
        OFF => Err("it is switched off".to_owned()),
        _ => find(),
    })
}

/// For provenance: where the groups are, or `none` and why.
pub fn described() -> String {
    match lane() {
        Ok(group) => group.display().to_string(),
        Err(why) => format!("none: {why}"),
    }
}

fn find() -> Result<PathBuf, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let mounts = read("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        // Fields: id, parent, device, root within the file system, mount point.
        let place: Vec<&str> = place.split(' ').collect();
        kind.starts_with("cgroup2 ").then(|| (place.get(3).copied(), place.get(4).copied()))
    });
    let Some((Some(root), Some(mount))) = mount else {
        return Err("no file system of cgroup v2 is mounted".to_owned());
    };
    let own = read("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or(own);
    let group = Path::new(mount).join(below.trim_start_matches('/'));
    usable(&group).map_err(|e| format!("{}: {e}", group.display()))?;
    remove_left(&group, SystemTime::now() - LEFT);
    Ok(group)
}

/// Removes what services left that were killed together with their guards: the kernel refuses it of a group with a
/// process in it.
fn remove_left(lane: &Path, before: SystemTime) {
    let ours = |entry: &DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX);
    let old = |entry: &DirEntry| entry.metadata().and_then(|m| m.modified()).is_ok_and(|made| made < before);
    for group in below(lane).filter(|entry| ours(entry) && old(entry)) {
        match std::fs::remove_dir(group.path()) {
            Ok(()) => tracing::debug!(group = ?group.path(), "an empty control group is removed"),
            Err(error) => tracing::debug!(group = ?group.path(), %error, "a control group is in use"),
        }
    }
}

fn usable(group: &Path) -> io::Result<()> {
    // systemd is the one writer of its groups, but for those that it says it has delegated.
    if Path::new("/run/systemd/system").exists() {
        let delegated = ["trusted.delegate", "user.delegate"].iter().any(|name| {
            let mut value = [0; 1];
            rustix::fs::getxattr(group, *name, &mut value).is_ok_and(|n| n == 1 && value == *b"1")
        });
        if !delegated {
            return Err(io::Error::other("systemd has not delegated it (Delegate=yes)"));
        }
    }
    // Whoever moves a process must be able to write to the group above both.
    rustix::fs::access(group.join("cgroup.procs"), Access::WRITE_OK)?;
    let probe = group.join(format!("{PREFIX}{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&probe)?;
    let kind = std::fs::read_to_string(probe.join("cgroup.type"));
    let kills = probe.join("cgroup.kill").exists();
    std::fs::remove_dir(&probe)?;
    match kind?.trim() {
        "domain" if kills => Ok(()),
        "domain" => Err(io::Error::other("the kernel is older than 5.14: there is no cgroup.kill")),
        kind => Err(io::Error::other(format!("its children would be {kind}"))),
    }
}

fn group_of(mark: &str) -> Option<PathBuf> {
    let lane = lane().as_ref().ok()?;
    (!mark.is_empty() && !mark.contains('/')).then(|| lane.join(format!("{PREFIX}{mark}")))
}

/// Whether a process without a group is not to be started.
pub(super) fn is_required() -> bool {
    MODE.load(Ordering::Relaxed) == REQUIRE
}

/// Makes the group of a process that is about to be started; whoever writes `0` to the file is in it.
///
/// # Errors
/// When it cannot be made, and is required.
pub(super) fn make(mark: &str) -> io::Result<Option<File>> {
    let Some(group) = group_of(mark) else { return Ok(None) };
    let made = std::fs::create_dir(&group)
        .and_then(|()| OpenOptions::new().write(true).open(group.join("cgroup.procs")));
    match made {
        Ok(procs) => Ok(Some(procs)),
        Err(error) if is_required() => Err(error),
        Err(error) => {
            tracing::warn!(?group, %error, "a process is started without a control group");
            Ok(None)
        }
    }
}

/// The processes in the group of a mark, and in the groups below.
pub(super) fn pids(mark: &str) -> HashSet<u32> {
    let mut found = HashSet::new();
    if let Some(group) = group_of(mark) {
        collect(&group, &mut found);
    }
    found
}

fn collect(group: &Path, found: &mut HashSet<u32>) {
    // One that is gone has none.
    let Ok(procs) = std::fs::read_to_string(group.join("cgroup.procs")) else { return };
    found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
    below(group).for_each(|inner| collect(&inner.path(), found));
}

fn below(group: &Path) -> impl Iterator<Item = DirEntry> {
    let entries = std::fs::read_dir(group).ok().into_iter().flatten();
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}

/// SIGKILL to all in the group at once, also to what they start meanwhile.
pub(super) fn kill(mark: &str) {
    let Some(group) = group_of(mark) else { return };
    let killed = OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.kill"))
        .and_then(|mut file| file.write_all(b"1"));
    match killed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(?group, %error, "a control group cannot be killed");
        }
        _ => {}
    }
}

/// Removes the group, once nothing is in it.
pub(super) async fn remove(mark: &str) {
    let Some(group) = group_of(mark).filter(|group| group.exists()) else { return };
    let until = Instant::now() + EMPTY;
    if let Err(error) = emptied(&group, until).await {
        tracing::warn!(?group, %error, "a control group cannot be watched");
    }
    if let Err(error) = remove_now(&group) {
        tracing::warn!(?group, %error, "a control group stays");
    }
}

/// The same of one that nobody entered.
pub(super) fn unmake(mark: &str) {
    if let Some(group) = group_of(mark)
        && let Err(error) = remove_now(&group)
    {
        tracing::warn!(?group, %error, "a control group stays");
    }
}

fn remove_now(group: &Path) -> io::Result<()> {
    for inner in below(group) {
        remove_now(&inner.path())?;
    }
    match std::fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Waits until no living process is in the group.
async fn emptied(group: &Path, until: Instant) -> io::Result<()> {
    let events = File::open(group.join("cgroup.events"))?;
    // SAFETY: a File is open and stays the same descriptor for as long as the AsyncFd owns it.
    let mut events = unsafe { AsyncFd::register_with_interest(events, Interest::PRIORITY) }?;
    loop {
        let mut text = String::new();
        io::Seek::rewind(events.get_mut())?;
        events.get_mut().read_to_string(&mut text)?;
        if text.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        // The kernel says so whenever the file has changed since it was read.
        match timeout_at(until, events.ready(Interest::PRIORITY)).await {
            Ok(ready) => ready?.clear_ready(),
            Err(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of directories of a file system as any: what is young, or no group of ours, stays.
    #[test]
    fn empty_groups_of_the_dead_are_removed() {
        let lane = tempfile::tempdir().unwrap();
        for name in ["sonde-old", "sonde-used/inner", "other"] {
            std::fs::create_dir_all(lane.path().join(name)).unwrap();
        }
        remove_left(lane.path(), SystemTime::now() - LEFT);
        assert!(lane.path().join("sonde-old").exists(), "it is young");
        remove_left(lane.path(), SystemTime::now() + LEFT);
        let left = |name: &str| lane.path().join(name).exists();
        assert!(!left("sonde-old") && left("sonde-used") && left("other"));
    }
}
