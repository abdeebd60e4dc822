//! One hook from its start to its result.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::event::{Event, HookResult};
use super::super::launch;
use super::super::names::Background;
use super::super::outputs::{self, Before, Outputs};
use super::super::plan::Planned;
use super::super::record::{Record, Status};
use super::super::verdict::{self, Ended};
use super::Options;
use super::reader::{self, Printed};
use super::traces;
use crate::process::{self, EndReason, Exit, Process, ProcessKind, Spawn};

/// How long output may still come after the tree is gone.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// What the runner wants of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    /// It was sent SIGTERM; it has until its own deadline.
    End,
    Kill(Ended),
}

/// A running hook.
pub(super) struct Live {
    pub planned: Planned,
    pub process: Process,
    /// Answers at the first line of its output, or at its end; `None`: it was waited for.
    pub ready: Option<oneshot::Receiver<()>>,
    pub orders: watch::Sender<Order>,
    pub done: JoinHandle<HookResult>,
}

impl Live {
    pub fn order(&self, order: Order) {
        self.orders.send_replace(order);
    }

    /// Phase one of the shutdown: asks it to end, by SIGTERM to its group, at once.
    pub fn end(&self) {
        // Told first: the hook may obey before anybody looks.
        self.order(Order::End);
        self.process.interrupt();
    }
}

struct Follow {
    planned: Planned,
    process: Process,
    options: Options,
    events: mpsc::Sender<Event>,
    orders: watch::Receiver<Order>,
    cmd: Vec<String>,
    before: Before,
    logs: (PathBuf, PathBuf),
    started: Instant,
}

/// Starts a hook; where that cannot be done, its result says why.
pub(super) async fn start(
    planned: Planned,
    options: &Options,
    events: &mpsc::Sender<Event>,
) -> Result<Live, Box<HookResult>> {
    match begin(&planned, options, events).await {
        Ok(live) => Ok(live),
        Err(problem) => {
            let mut result = never(&planned, problem.to_string());
            // The record of it is on disk, too, where somebody looks for the hook's own words.
            let log = log_file(&planned, &uuid::Uuid::now_v7().to_string(), "stderr");
            if std::fs::write(&log, format!("{problem}\n")).is_ok() {
                result.stderr = log;
            }
            Err(Box::new(result))
        }
    }
}

/// The result of a hook that never ran: exit code 1, as ArchiveBox has it for a missing script.
pub(super) fn never(planned: &Planned, problem: String) -> HookResult {
    HookResult {
        plugin: planned.plugin.clone(),
        hook: planned.name.file.clone(),
        status: Status::Failed,
        output_str: problem,
        exit_code: 1,
        ended: None,
        background: planned.name.is_background(),
        duration_ms: 0,
        cmd: vec![planned.path.display().to_string()],
        pid: None,
        outputs: Vec::new(),
        notes: Vec::new(),
        records: Vec::new(),
        stdout: PathBuf::new(),
        stderr: PathBuf::new(),
    }
}

fn log_file(planned: &Planned, id: &str, stream: &str) -> PathBuf {
    beside(planned, id, &format!("{stream}.log"))
}

/// A file of ours in the hook's directory.
fn beside(planned: &Planned, id: &str, suffix: &str) -> PathBuf {
    planned.dir.join(format!("{}.{id}.{suffix}", planned.name.file))
}

async fn begin(planned: &Planned, options: &Options, events: &mpsc::Sender<Event>) -> anyhow::Result<Live> {
    let dir = planned.dir.clone();
    let before = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&dir)?;
        outputs::before(&dir)
    });
    let before = before.await?.map_err(|e| {
        let dir = planned.dir.display();
        anyhow::anyhow!(
            "the directory {dir} of the hook cannot be made or read: {e}; check its rights and free space"
        )
    })?;
    let search = planned.env.get("PATH").map(String::as_str).unwrap_or_default();
    let (program, mut args) = launch::command(&planned.path, options.launch, &options.limits, search)?;
    args.extend(planned.args.iter().map(Into::into));
    let id = uuid::Uuid::now_v7().to_string();
    let logs = (log_file(planned, &id, "stdout"), log_file(planned, &id, "stderr"));
    let (out_end, out) = pipe::pipe()?;
    let (err_end, err) = pipe::pipe()?;
    let words: Vec<_> = std::iter::once(program.clone().into()).chain(args.iter().cloned()).collect();
    let (pid_file, script) = (beside(planned, &id, "pid"), beside(planned, &id, "sh"));
    traces::script(&script, &planned.dir, &words).await?;
    let env = planned.env.iter().map(|(k, v)| (k.into(), v.into()));
    let label = format!("hook {}/{}", planned.plugin, planned.name.file);
    let spawn = Spawn::new(label, program)
        .args(args)
        .cwd(&planned.dir)
        .only_env(env)
        .kind(ProcessKind::Hook)
        .timeout(planned.timeout)
        .recorded_as(id, Some(logs.clone()))
        .belongs_to("plugin", &planned.plugin)
        .belongs_to("hook", &planned.name.file)
        .output(out_end.into_blocking_fd()?, err_end.into_blocking_fd()?);
    let out_log = tokio::fs::File::create_new(&logs.0).await?;
    let err_log = tokio::fs::File::create_new(&logs.1).await?;
    let started = Instant::now();
    let began = SystemTime::now();
    let process = process::spawn(spawn).await?;
    let mut cmd = vec![planned.path.display().to_string()];
    cmd.extend(planned.args.iter().cloned());
    let (plugin, hook) = (planned.plugin.clone(), planned.name.file.clone());
    let background = planned.name.is_background();
    let timeout_ms = u64::try_from(planned.timeout.as_millis()).unwrap_or(u64::MAX);
    let pid = process.pid();
    traces::pid(&pid_file, pid, began).await?;
    tell(events, Event::ProcessStarted { plugin, hook, pid, background, cmd: cmd.clone(), timeout_ms }).await;
    let (ready_end, ready) = oneshot::channel();
    let (over_end, over) = mpsc::channel(2);
    let (orders, seen) = watch::channel(Order::Run);
    let stdout = reader::Stdout {
        plugin: planned.plugin.clone(),
        hook: planned.name.file.clone(),
        extra: planned.extra.clone(),
        max_bytes: options.max_output,
        max_depth: options.max_depth,
        ready: Some(ready_end),
        over: over_end.clone(),
        events: events.clone(),
    };
    let out = tokio::spawn(stdout.read(out, out_log));
    let err = tokio::spawn(reader::stderr(err, err_log, options.max_output, over_end));
    let follow = Follow {
        planned: planned.clone(),
        process: process.clone(),
        options: options.clone(),
        events: events.clone(),
        orders: seen,
        cmd,
        before,
        logs,
        started,
    };
    let done = tokio::spawn(follow.run(out, err, over));
    Ok(Live { planned: planned.clone(), process, ready: Some(ready), orders, done })
}

/// Tells an event; that nobody listens any more is no reason to stop.
pub(super) async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    let _ = events.send(event).await;
}

impl Follow {
    async fn run(
        mut self,
        out: JoinHandle<Printed>,
        err: JoinHandle<String>,
        over: mpsc::Receiver<()>,
    ) -> HookResult {
        let (exit, mut ended) = self.watch(over).await;
        if ended.is_none() && *self.orders.borrow() == Order::End {
            ended = Some(Ended::CleanUp);
        }
        let (_, sweep) = self.process.wait_gone().await;
        let mut printed = ended_reader(out, "output").await;
        let stderr = ended_reader(err, "errors").await;
        if !sweep.survivors.is_empty() {
            printed.notes.push(format!("processes {:?} could not be killed", sweep.survivors));
        }
        let outputs = collect(&self.planned.dir, std::mem::take(&mut self.before)).await;
        self.result((exit, ended), printed, &stderr, outputs)
    }

    /// Waits for the end, and brings it about at the deadline, at too much output, or by order.
    async fn watch(&mut self, mut over: mpsc::Receiver<()>) -> (Exit, Option<Ended>) {
        let own = self.started + self.planned.timeout;
        // One that may be a daemon ends with the snapshot, not with its time.
        let lives_on = matches!(self.planned.name.background, Background::Daemon | Background::Unsaid);
        let mut deadline = (!lives_on).then_some(own);
        let mut ended = None;
        let mut killed = false;
        let mut listening = true;
        let process = self.process.clone();
        loop {
            let why = tokio::select! {
                exit = process.wait() => return (exit, ended),
                () = sleep_until(deadline.unwrap_or(own)), if deadline.is_some() && !killed => Ended::Timeout,
                Some(()) = over.recv(), if !killed => Ended::Output,
                order = self.orders.changed(), if listening && !killed => {
                    let order = order.map(|()| *self.orders.borrow_and_update());
                    match order {
                        Ok(Order::Run) => continue,
                        Ok(Order::End) => {
                            ended = Some(Ended::CleanUp);
                            deadline = Some(own.max(Instant::now() + self.options.grace));
                            self.told(15, Ended::CleanUp).await;
                            continue;
                        }
                        Ok(Order::Kill(why)) => why,
                        Err(_) => {
                            listening = false;
                            Ended::Aborted
                        }
                    }
                }
            };
            killed = true;
            ended = Some(why);
            let (reason, detail) = reason(why, &self.planned);
            process.because(reason, detail);
            process.kill();
            self.told(9, why).await;
        }
    }

    async fn told(&self, signal: i32, why: Ended) {
        let (plugin, hook) = (self.planned.plugin.clone(), self.planned.name.file.clone());
        tell(&self.events, Event::ProcessKill { plugin, hook, signal, why }).await;
    }

    fn result(
        self,
        (exit, ended): (Exit, Option<Ended>),
        printed: Printed,
        stderr: &str,
        outputs: io::Result<Outputs>,
    ) -> HookResult {
        let own: Option<&Record> = printed.records.iter().rev().find(|r| r.kind == "ArchiveResult");
        let (status, output_str) = verdict::conclude(exit, ended, own, stderr, self.options.mode);
        let code = verdict::code(exit);
        let obeyed = ended == Some(Ended::CleanUp) && code == 143;
        let mut notes = printed.notes;
        let outputs = outputs.unwrap_or_else(|error| {
            notes.push(format!("the files of the hook cannot be listed: {error}"));
            Outputs::default()
        });
        notes.extend(outputs.notes);
        let elapsed = self.started.elapsed().as_millis();
        HookResult {
            background: self.planned.name.is_background(),
            plugin: self.planned.plugin,
            hook: self.planned.name.file,
            status,
            output_str,
            exit_code: if obeyed { 0 } else { code },
            ended,
            duration_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            cmd: self.cmd,
            pid: Some(self.process.pid()),
            outputs: outputs.files,
            notes,
            records: printed.records,
            stdout: self.logs.0,
            stderr: self.logs.1,
        }
    }
}

/// Of a hook that is killed, for its record.
fn reason(why: Ended, planned: &Planned) -> (EndReason, String) {
    match why {
        Ended::Timeout => (EndReason::Timeout, format!("it ran longer than {:?}", planned.timeout)),
        Ended::Output => (EndReason::Terminated, "it wrote more than a hook may".to_owned()),
        Ended::Skipped => (EndReason::Terminated, "it was skipped".to_owned()),
        Ended::Aborted => (EndReason::Terminated, "its run was given up".to_owned()),
        Ended::CleanUp => (EndReason::Terminated, "what it belonged to ended".to_owned()),
    }
}

async fn ended_reader<T: Default>(mut reader: JoinHandle<T>, what: &str) -> T {
    match timeout(LAST_OUTPUT, &mut reader).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => {
            tracing::error!(%error, "the reader of a hook's {what} failed");
            T::default()
        }
        // Its events wait for a slow listener, or somebody outside of the tree holds the pipe.
        Err(_) => reader.await.unwrap_or_default(),
    }
}

async fn collect(dir: &Path, before: Before) -> io::Result<Outputs> {
    let dir = dir.to_owned();
    let listed = tokio::task::spawn_blocking(move || outputs::collect(&dir, &before)).await;
    listed.unwrap_or_else(|error| Err(io::Error::other(error)))
}
