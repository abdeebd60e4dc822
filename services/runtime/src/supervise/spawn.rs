//! Starts child processes, each leading its own process group and tied to the life of this process.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

const WAITING_SPAWNS: usize = 16;
/// From SIGKILL until the kernel has reaped; longer only in uninterruptible I/O.
const REAP: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
    /// Added to this process's environment.
    pub env: Vec<(OsString, OsString)>,
    pub dir: Option<PathBuf>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

type Request = (Program, oneshot::Sender<io::Result<Child>>);

/// A thread of its own that starts all children: the parent-death signal is sent when the *thread* that started a
/// child ends, and threads of a pool end when idle.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    pub fn start(runtime: Handle) -> io::Result<Self> {
        let (requests, mut received) = mpsc::channel::<Request>(WAITING_SPAWNS);
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            let _within = runtime.enter();
            while let Some((program, reply)) = received.blocking_recv() {
                // If the asker is gone, the child is dropped with the reply, which kills it.
                let _ = reply.send(command(&program).spawn());
            }
        })?;
        Ok(Self { requests })
    }

    pub async fn spawn(&self, program: Program) -> io::Result<Child> {
        let ended = || io::Error::other("the thread that starts children has ended");
        let (reply, child) = oneshot::channel();
        self.requests.send((program, reply)).await.map_err(|_| ended())?;
        child.await.map_err(|_| ended())?
    }
}

fn command(program: &Program) -> Command {
    let mut command = std::process::Command::new(&program.path);
    command
        .args(&program.args)
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(dir) = &program.dir {
        command.current_dir(dir);
    }
    let parent = std::process::id().cast_signed();
    // SAFETY: between fork and exec only prctl and getppid are called, which are async-signal-safe; nothing allocates.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the signal was set.
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

/// Sends `signal` to the whole group that `leader` leads. True if there was anyone to receive it.
pub(super) fn signal_group(leader: u32, signal: libc::c_int) -> bool {
    let Ok(group) = i32::try_from(leader) else { return false };
    if group <= 1 {
        return false;
    }
    // SAFETY: kill takes no pointers.
    unsafe { libc::kill(-group, signal) == 0 }
}

/// SIGTERM to the group, `grace` to comply, then SIGKILL to whoever is left. `hurry` cuts the grace short.
pub(super) async fn end_group(
    child: &mut Child,
    leader: u32,
    grace: Duration,
    hurry: impl Future<Output = ()>,
) -> Option<Exit> {
    signal_group(leader, libc::SIGTERM);
    let polite = tokio::select! {
        status = child.wait() => Some(status),
        () = tokio::time::sleep(grace) => None,
        () = hurry => None,
    };
    // Also after a polite end: the group may hold children of the child.
    signal_group(leader, libc::SIGKILL);
    let status = match polite {
        Some(status) => status,
        None => match tokio::time::timeout(REAP, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                tracing::error!(pid = leader, "still there {REAP:?} after SIGKILL: it hangs in the kernel");
                return None;
            }
        },
    };
    match status {
        Ok(status) => Some(status.into()),
        Err(error) => {
            tracing::error!(pid = leader, %error, "the child could not be waited for");
            None
        }
    }
}
