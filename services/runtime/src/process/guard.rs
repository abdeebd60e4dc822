//! A process beside a service that outlives it for as long as it takes to end what a killed service left: the kernel ends
//! only its direct children (parent-death signal), not what those had started in sessions of their own.
//!
//! It is the service's own program, started with a word that no user would give. It holds the reading end of a pipe, and
//! the service the only writing end: whatever way the service ends, the pipe ends with it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Process, ProcessKind, ProcessStatus, ProcessStore, Spawn, SpawnError, cgroup, journal, spawn, tree,
};
use crate::backoff::Backoff;

/// First argument of a guard.
const WORD: &str = "guard-of-processes";
/// Where a guard finds the pipe.
const PIPE: i32 = 3;
/// For everything that was left to be gone (R14).
const SWEEP: Duration = Duration::from_secs(5);
/// Between looks when something is left that could not be seen dying.
const LOOK: Duration = Duration::from_millis(20);
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// For a guard that is told to go.
const GOODBYE: Duration = Duration::from_secs(2);

/// This very program, also when its file was replaced by another version or removed.
const PROGRAM: &str = "/proc/self/exe";
const LABEL: &str = "guard";
/// One that has lived so long was no failure.
const WELL: Duration = Duration::from_secs(60);

/// Whether this program can be a guard: its `main` has asked [`take_over`].
static ABLE: AtomicBool = AtomicBool::new(false);

/// Call it first in `main`, before arguments are read: where this process was started as a guard, it is one, and the exit
/// code comes when its work is done. A program that never asks has no guards.
pub fn take_over() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(WORD.as_ref()) {
        ABLE.store(true, Ordering::Relaxed);
        return None;
    }
    Some(match guard(arguments.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the guard of a service's processes: {error}"));
            ExitCode::FAILURE
        }
    })
}

/// A service's guard, replaced when it dies. End it with [`Guard::stop`]: dropped, it takes the service for killed.
#[derive(Debug)]
pub struct Guard {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Guard {
    /// Guards what is recorded in `store`, and removes `directories` after a kill. `None` in a program that did not ask
    /// [`take_over`].
    pub fn start(store: &ProcessStore, directories: Vec<PathBuf>) -> Option<Self> {
        if !ABLE.load(Ordering::Relaxed) {
            return None;
        }
        let stop = CancellationToken::new();
        let mut arguments: Vec<OsString> = vec![WORD.into(), store.directory().into(), store.own_id().into()];
        arguments.extend(directories.into_iter().map(OsString::from));
        let keeping = store.scope().run(keep(arguments, stop.clone()));
        Some(Self { task: tokio::spawn(keeping), stop })
    }

    /// Whether a process is a guard.
    pub fn is(process: &Process) -> bool {
        process.info().label == LABEL
    }

    /// Tells it that the service ends in order.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the guard of the processes was not kept");
        }
    }
}

async fn keep(arguments: Vec<OsString>, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        match start(&arguments).await {
            Ok((process, mut pipe)) => {
                let began = Instant::now();
                tokio::select! {
                    exit = process.wait() => {
                        tracing::warn!(?exit, "the guard of the processes is gone; another one is started");
                        if began.elapsed() > WELL {
                            failures = 0;
                        }
                    }
                    () = stop.cancelled() => {
                        // One that is gone has nothing to read it with.
                        let _ = pipe.write_all(b"q");
                        if timeout(GOODBYE, process.wait_gone()).await.is_err() {
                            tracing::warn!("the guard of the processes did not go; it is killed");
                        }
                        return;
                    }
                }
            }
            Err(error) => tracing::error!(%error, "no guard: a kill of this service may leave processes"),
        }
        stop.run_until_cancelled(sleep(RETRY.next(failures, rand::random()))).await;
        failures = failures.saturating_add(1);
    }
}

async fn start(arguments: &[OsString]) -> Result<(Process, File), SpawnError> {
    let setup = |source: io::Error| SpawnError::Setup { what: "a pipe", program: PROGRAM.into(), source };
    let (read, write) = io::pipe().map_err(setup)?;
    let null = File::options().write(true).open("/dev/null").map_err(setup)?;
    // What it has to say comes after our end: nobody here could read it.
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(setup)?;
    let mut guard = Spawn::new(LABEL, PROGRAM)
        .kind(ProcessKind::Supervisor)
        .args(arguments.iter().cloned())
        .output(null.into(), stderr)
        .fd(read.into(), PIPE);
    guard.outlives_us = true;
    let process = spawn(guard).await?;
    Ok((process, File::from(OwnedFd::from(write))))
}

/// Waits for the service's end; after one that was not in order, ends what it left.
fn guard(arguments: Vec<OsString>) -> io::Result<()> {
    let mut arguments = arguments.into_iter();
    let (Some(directory), Some(service)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("is started by services only"));
    };
    // SAFETY: the service put the pipe there, and nothing else in this process knows of it.
    let mut pipe = File::from(unsafe { OwnedFd::from_raw_fd(PIPE) });
    if pipe.read(&mut [0])? > 0 {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, left) = runtime.block_on(sweep(Path::new(&directory), &service.to_string_lossy()))?;
    if ended > 0 {
        say(&format!("a service was killed; {ended} processes that it left were ended"));
    }
    if left > 0 {
        return Err(io::Error::other(format!("{left} processes of a killed service could not be ended")));
    }
    arguments.try_for_each(|directory| remove(Path::new(&directory)))
}

/// Kills what is left of all that the journal says to run; gives how many were killed, and how many are left. Nothing is
/// written there: the service's next start owns it.
async fn sweep(directory: &Path, service: &str) -> io::Result<(usize, usize)> {
    let records = journal::read(directory)?.records;
    let me = std::process::id();
    let open: Vec<_> = records
        .into_values()
        .filter(|r| r.status != ProcessStatus::Exited && r.id != service && r.pid != Some(me))
        .collect();
    let until = Instant::now() + SWEEP;
    let mut ended = 0;
    loop {
        let look = |r: &super::ProcessRecord| tree::left_over(r.pid.zip(r.start_ticks), &r.mark);
        let mut left: Vec<_> = open.iter().flat_map(look).collect();
        left.sort_unstable_by_key(|member| member.pid);
        left.dedup_by_key(|member| member.pid);
        if left.is_empty() {
            futures_util::future::join_all(open.iter().map(|record| cgroup::remove(&record.mark))).await;
            return Ok((ended, 0));
        }
        if Instant::now() >= until {
            return Ok((ended, left.len()));
        }
        if ended > 0 {
            open.iter().for_each(|record| cgroup::kill(&record.mark));
        }
        match tree::signal_and_wait(&left, Signal::KILL, until).await {
            // They end by themselves, or are not ours to end: another look.
            0 => sleep(LOOK).await,
            killed => ended += killed,
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    let mine = directory.symlink_metadata().is_ok_and(|d| d.is_dir() && d.uid() == geteuid().as_raw());
    match mine {
        true => std::fs::remove_dir_all(directory),
        false => Ok(()),
    }
}

/// On the service's standard error, if somebody still reads it.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "sonde: {text}");
}
