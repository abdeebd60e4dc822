//! One test's own world: its directory, its processes, and the proof that nothing of them is left.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use crate::process::Process;
use crate::workspace;

/// Everything that is started in a world carries it in its environment.
const MARK: &str = "WORLD_OF_TEST";
/// How often a condition without an event of its own is asked.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `ready` has an answer.
///
/// # Panics
/// At the deadline.
pub async fn until<T>(what: &str, within: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {within:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// A directory and the processes started in it. Dropping it kills what is left, by pid.
pub struct World {
    directory: tempfile::TempDir,
    mark: String,
    /// Sessions of processes seen, of which children may have lost the mark (Chromium overwrites environments).
    sessions: Mutex<BTreeSet<u32>>,
    outputs: Mutex<Vec<PathBuf>>,
    started: AtomicU32,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("sw").tempdir().expect("the system has room for a directory");
        for inner in ["tmp", "log"] {
            std::fs::create_dir(directory.path().join(inner)).expect("a new directory can be written");
        }
        let mark = format!("{MARK}={}", directory.path().display());
        Self {
            directory,
            mark,
            sessions: Mutex::default(),
            outputs: Mutex::default(),
            started: AtomicU32::new(0),
        }
    }

    /// The directory of this world.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory of `sonde` commands.
    pub fn data(&self) -> PathBuf {
        self.path().join("out")
    }

    /// Writes a file of this world.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("a file of the world can be written");
        path
    }

    /// Starts `sonde` with arguments.
    pub fn sonde<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        self.start(&workspace::program("sonde"), arguments)
    }

    /// Starts a program in a process group of its own, as a shell does, with our environment and no input.
    pub fn start<A: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = A>) -> Running {
        self.start_with(program, arguments, Vec::new())
    }

    /// The same with more variables in its environment.
    pub fn start_with<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        variables: Vec<(String, String)>,
    ) -> Running {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let output = |kind: &str| self.path().join(format!("log/{number}-{name}.{kind}"));
        let (stdout, stderr) = (output("out"), output("err"));
        let open = |path: &Path| File::create(path).expect("a new file can be written");
        let mut command = tokio::process::Command::new(program);
        command.args(arguments);
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("SONDE_")) {
            command.env_remove(key);
        }
        command
            .envs(self.environment(name.starts_with("sonde")))
            .envs(variables)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(open(&stdout))
            .stderr(open(&stderr))
            .process_group(0)
            .kill_on_drop(true);
        let child =
            command.spawn().unwrap_or_else(|e| panic!("{} cannot be started: {e}", program.display()));
        let pid = child.id().expect("nobody has waited for it");
        self.outputs
            .lock()
            .expect("no code panics while it holds this")
            .extend([stdout.clone(), stderr.clone()]);
        Running { name, child, pid, stdout, stderr }
    }

    fn environment(&self, ours: bool) -> Vec<(OsString, OsString)> {
        let (key, value) = self.mark.split_once('=').expect("a mark is an assignment");
        let mut all: Vec<(OsString, OsString)> =
            vec![(key.into(), value.into()), ("TMPDIR".into(), self.path().join("tmp").into())];
        if ours {
            all.push(("SONDE_BROWSER__EXTENSION_DIR".into(), workspace::extension().into()));
        }
        if ours && rustix::process::geteuid().is_root() {
            all.push(("SONDE_BROWSER__NO_SANDBOX".into(), "true".into()));
        }
        all
    }

    /// Every living process of this world, its browsers' children included.
    pub fn processes(&self) -> Vec<Process> {
        let own = Process::read(std::process::id()).map(|own| own.session);
        let all = Process::all();
        let marked: BTreeSet<u32> =
            all.iter().filter(|p| p.environment_has(&self.mark)).map(|p| p.pid).collect();
        let mut sessions = self.sessions.lock().expect("no code panics while it holds this");
        sessions.extend(
            all.iter().filter(|p| marked.contains(&p.pid) && Some(p.session) != own).map(|p| p.session),
        );
        all.into_iter().filter(|p| marked.contains(&p.pid) || sessions.contains(&p.session)).collect()
    }

    /// The living main processes of browsers.
    pub fn browsers(&self) -> Vec<Process> {
        self.processes().into_iter().filter(Process::is_browser).collect()
    }

    /// The living process of a service, as `sonde-storage`.
    pub fn service(&self, name: &str) -> Option<Process> {
        self.processes().into_iter().find(|p| p.name() == name)
    }

    /// Waits until no process of this world is left.
    ///
    /// # Panics
    /// When one is left at the deadline.
    pub async fn assert_no_process_left(&self, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "processes are left after {within:?}: {left:#?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// R14: waits until no process of this world is left, and neither is a profile or a socket.
    ///
    /// # Panics
    /// When something is left at the deadline.
    pub async fn assert_nothing_left(&self, within: Duration) {
        self.assert_no_process_left(within).await;
        let mut files = Vec::new();
        list(&self.path().join("tmp"), &mut files);
        assert!(files.is_empty(), "temporary files are left: {files:#?}");
        let mut data = Vec::new();
        list(&self.data(), &mut data);
        data.retain(|path| path.extension().is_some_and(|e| e == "sock"));
        assert!(data.is_empty(), "sockets are left: {data:?}");
    }
}

fn list(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.filter_map(|e| Some(e.ok()?.path())) {
        if path.is_dir() && !path.is_symlink() {
            list(&path, found);
        }
        found.push(path);
    }
}

/// Lines of each output that a failed test shows.
const SHOWN: usize = 40;

impl Drop for World {
    fn drop(&mut self) {
        for process in self.processes() {
            process.signal(Signal::KILL);
        }
        if !std::thread::panicking() {
            return;
        }
        let outputs = self.outputs.get_mut().map(std::mem::take).unwrap_or_default();
        for path in outputs {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            if !lines.is_empty() {
                eprintln!("--- {}", path.display());
                eprintln!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
            }
        }
    }
}

/// A process that was started, and its outputs. Dropping it kills it.
pub struct Running {
    name: String,
    child: tokio::process::Child,
    pid: u32,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has written to standard output until now.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it has written to standard error until now.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Sends a signal to its process group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid.cast_signed()) else { return };
        rustix::process::kill_process_group(pid, signal)
            .unwrap_or_else(|e| panic!("{} cannot be signalled: {e}\n{}", self.name, self.stderr()));
    }

    /// Waits for a line of standard output that begins so, and returns the rest of it.
    pub async fn line(&mut self, beginning: &str, within: Duration) -> String {
        let rest = |text: &str| {
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().find_map(|line| line.strip_prefix(beginning)).map(|rest| rest.trim().to_owned())
        };
        self.shows(beginning, within, rest).await
    }

    /// Waits until its standard output so far has an answer, while it runs.
    ///
    /// # Panics
    /// When it ends before, and at the deadline.
    pub async fn shows<T>(&mut self, what: &str, within: Duration, answer: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + within;
        loop {
            let text = self.stdout();
            if let Some(answer) = answer(&text) {
                return answer;
            }
            let ended = self.child.try_wait().expect("a child can be asked");
            let (name, told) = (&self.name, || format!("{text}\n{}", self.stderr()));
            assert!(ended.is_none(), "{name} ended ({ended:?}) before it showed {what:?}\n{}", told());
            assert!(Instant::now() < end, "{name} has not shown {what:?} within {within:?}\n{}", told());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// At the deadline.
    pub async fn end(&mut self, within: Duration) -> ExitStatus {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => {
                panic!("{} has not ended within {within:?}\n{}\n{}", self.name, self.stdout(), self.stderr())
            }
        }
    }

    /// Waits for its end and returns its exit code.
    ///
    /// # Panics
    /// At the deadline, and when a signal ended it.
    pub async fn code(&mut self, within: Duration) -> i32 {
        let status = self.end(within).await;
        status.code().unwrap_or_else(|| panic!("{} ended by {status}\n{}", self.name, self.stderr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_world_knows_its_processes_and_leaves_none() {
        let world = World::new();
        // One child in a session of its own and without the mark, as a browser's helpers are.
        let script = "echo ready; setsid sh -c 'env -i sleep 1000 & sleep 1000' & wait";
        let mut shell = world.start(Path::new("/bin/sh"), ["-c", script]);
        shell.line("ready", SOON).await;
        let sleeping = || {
            let all: Vec<_> = world.processes().into_iter().filter(|p| p.name() == "sleep").collect();
            (all.len() == 2).then_some(all)
        };
        let all = until("both to sleep", SOON, sleeping).await;
        assert!(all.iter().all(|p| p.resident(false) > Some(0)));
        drop((world, shell));
        until("all to be gone", SOON, || all.iter().all(|p| !p.alive()).then_some(())).await;
    }

    #[tokio::test]
    async fn outputs_and_exit_codes_are_kept() {
        let world = World::new();
        let mut shell = world.start(Path::new("/bin/sh"), ["-c", "echo out 1; echo err 1 >&2; exit 7"]);
        assert_eq!(shell.code(SOON).await, 7);
        assert_eq!((shell.stdout().as_str(), shell.stderr().as_str()), ("out 1\n", "err 1\n"));
        world.assert_nothing_left(SOON).await;
    }
}
