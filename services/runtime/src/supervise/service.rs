//! The life of one supervised service.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::output::LineSink;
use super::policy::{RestartPolicy, Restarts};
use super::ready::until_serving;
use super::{Exit, Failure, ServiceSpec, State, Status};
use crate::clock::Mono;
use crate::process::{
    self, EndReason, ID_VARIABLE, PARENT_VARIABLE, Process, ProcessKind, Scope, Spawn, within,
};

pub(super) struct Running {
    pub spec: ServiceSpec,
    pub policy: RestartPolicy,
    pub output: LineSink,
    /// Where its processes are recorded.
    pub scope: Option<Scope>,
    pub stop: CancellationToken,
    pub immediate: CancellationToken,
}

/// One process's end.
enum End {
    Stopped(Option<Exit>),
    Failed(Failure),
}

impl Running {
    pub fn spawn(self) -> (watch::Receiver<Status>, JoinHandle<()>) {
        let first = Status { state: State::Starting, pid: None, starts: 0, failures: 0 };
        let (status, seen) = watch::channel(first);
        (seen, tokio::spawn(self.run(status)))
    }

    async fn run(self, status: watch::Sender<Status>) {
        let mut restarts = Restarts::default();
        let mut record = None;
        let exit = loop {
            let started = Mono::now();
            let failure = match self.run_once(&status, &mut record).await {
                End::Stopped(exit) => break exit,
                End::Failed(failure) => failure,
            };
            let delay = restarts.failed(&self.policy, started, Mono::now(), rand::random());
            tracing::warn!(service = self.spec.name, %failure, ?delay, "starting it again");
            status.send_modify(|status| {
                status.state = State::BackingOff { failure, delay };
                status.pid = None;
                status.failures = restarts.failures();
            });
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.asked_to_stop() => break None,
            }
        };
        tracing::info!(service = self.spec.name, ?exit, "stopped");
        status.send_modify(|status| {
            status.state = State::Stopped(exit);
            status.pid = None;
        });
    }

    async fn asked_to_stop(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.immediate.cancelled() => {}
        }
    }

    /// `record`: the one of the process before, and then of this one.
    async fn run_once(&self, status: &watch::Sender<Status>, record: &mut Option<String>) -> End {
        if self.stop.is_cancelled() || self.immediate.is_cancelled() {
            return End::Stopped(None);
        }
        let spawn = self.process(record);
        let process = match within(self.scope.clone(), process::spawn(spawn)).await {
            Ok(process) => process,
            Err(error) => return End::Failed(Failure::NotStarted(error.to_string())),
        };
        let pid = process.pid();
        tracing::info!(service = self.spec.name, pid, "started");
        status.send_modify(|status| {
            status.state = State::Starting;
            status.pid = Some(pid);
            status.starts = status.starts.saturating_add(1);
        });
        self.watch_process(&process, status).await
    }

    fn process(&self, record: &mut Option<String>) -> Spawn {
        let (name, sink) = (self.spec.name.clone(), self.output.clone());
        let program = self.spec.program.clone();
        let mut spawn = Spawn::new(&name, program.path).args(program.args).kind(ProcessKind::Service);
        (spawn.env, spawn.cwd) = (program.env, program.dir);
        spawn.lines = Some(Arc::new(move |line| sink(&name, line)));
        if let Some(scope) = &self.scope {
            let id = uuid::Uuid::now_v7().to_string();
            spawn.retry_of = record.replace(id.clone());
            // The service keeps records itself, and is to know which one it is.
            spawn = spawn.env(ID_VARIABLE, &id).env(PARENT_VARIABLE, scope.store().own_id());
            spawn = spawn.recorded_as(id, None);
        }
        spawn
    }

    async fn watch_process(&self, process: &Process, status: &watch::Sender<Status>) -> End {
        tokio::select! {
            _ = process.wait() => return self.ended_itself(process).await,
            () = self.asked_to_stop() => return End::Stopped(self.end(process, status, "it was stopped").await),
            result = self.until_ready() => match result {
                Ok(()) => status.send_modify(|status| status.state = State::Ready),
                Err(failure) => {
                    self.end(process, status, &failure.to_string()).await;
                    return End::Failed(failure);
                }
            }
        }
        tokio::select! {
            _ = process.wait() => self.ended_itself(process).await,
            () = self.asked_to_stop() => End::Stopped(self.end(process, status, "it was stopped").await),
        }
    }

    async fn ended_itself(&self, process: &Process) -> End {
        // What it left of its tree would collide with its successor over ports and files.
        let (exit, _) = process.wait_gone().await;
        End::Failed(Exit::of(exit).map_or(Failure::Lost, Failure::Ended))
    }

    async fn until_ready(&self) -> Result<(), Failure> {
        let Some(ready) = &self.spec.ready else { return Ok(()) };
        match tokio::time::timeout(ready.within, until_serving(&ready.endpoint)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::NotStarted(error.to_string())),
            Err(_) => Err(Failure::NotReady(ready.within)),
        }
    }

    async fn end(&self, process: &Process, status: &watch::Sender<Status>, why: &str) -> Option<Exit> {
        status.send_modify(|status| status.state = State::Stopping);
        process.because(EndReason::Terminated, why);
        let mut ending = std::pin::pin!(process.terminate(self.spec.grace));
        let ended = tokio::select! {
            ended = &mut ending => ended,
            () = self.immediate.cancelled() => {
                process.kill();
                ending.await
            }
        };
        Exit::of(ended.exit)
    }
}
