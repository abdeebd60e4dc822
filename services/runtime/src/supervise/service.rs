//! The life of one supervised service.

use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::output::{LineSink, pump};
use super::policy::{RestartPolicy, Restarts};
use super::ready::until_serving;
use super::spawn::{Exit, Spawner, end_group, signal_group};
use super::{Failure, ServiceSpec, State, Status};
use crate::clock::Mono;

/// How long output may still come after the process ended: someone it started may hold the pipe.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

pub(super) struct Running {
    pub spec: ServiceSpec,
    pub policy: RestartPolicy,
    pub output: LineSink,
    pub spawner: Spawner,
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
        let exit = loop {
            let started = Mono::now();
            let failure = match self.run_once(&status).await {
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

    async fn run_once(&self, status: &watch::Sender<Status>) -> End {
        if self.stop.is_cancelled() || self.immediate.is_cancelled() {
            return End::Stopped(None);
        }
        let mut child = match self.spawner.spawn(self.spec.program.clone()).await {
            Ok(child) => child,
            Err(error) => {
                let program = self.spec.program.path.display();
                return End::Failed(Failure::NotStarted(format!("{program}: {error}")));
            }
        };
        let Some(pid) = child.id() else { return End::Failed(Failure::Lost) };
        tracing::info!(service = self.spec.name, pid, "started");
        let mut pumps = self.pump_output(&mut child);
        status.send_modify(|status| {
            status.state = State::Starting;
            status.pid = Some(pid);
            status.starts = status.starts.saturating_add(1);
        });
        let end = self.watch_child(&mut child, pid, status).await;
        let drained = async { while pumps.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_OUTPUT, drained).await.is_err() {
            tracing::debug!(service = self.spec.name, "its output was still held open by a process it left");
        }
        end
    }

    fn pump_output(&self, child: &mut Child) -> JoinSet<()> {
        let mut pumps = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            pumps.spawn(pump(self.spec.name.clone(), stdout, self.output.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            pumps.spawn(pump(self.spec.name.clone(), stderr, self.output.clone()));
        }
        pumps
    }

    async fn watch_child(&self, child: &mut Child, pid: u32, status: &watch::Sender<Status>) -> End {
        tokio::select! {
            waited = child.wait() => return self.ended_itself(pid, waited),
            () = self.asked_to_stop() => return End::Stopped(self.end(child, pid, status).await),
            result = self.until_ready() => match result {
                Ok(()) => status.send_modify(|status| status.state = State::Ready),
                Err(failure) => {
                    self.end(child, pid, status).await;
                    return End::Failed(failure);
                }
            }
        }
        tokio::select! {
            waited = child.wait() => self.ended_itself(pid, waited),
            () = self.asked_to_stop() => End::Stopped(self.end(child, pid, status).await),
        }
    }

    fn ended_itself(&self, pid: u32, waited: std::io::Result<std::process::ExitStatus>) -> End {
        // What it left of its group would collide with its successor over ports and files.
        signal_group(pid, libc::SIGKILL);
        End::Failed(match waited {
            Ok(exit) => Failure::Ended(exit.into()),
            Err(_) => Failure::Lost,
        })
    }

    async fn until_ready(&self) -> Result<(), Failure> {
        let Some(ready) = &self.spec.ready else { return Ok(()) };
        match tokio::time::timeout(ready.within, until_serving(&ready.endpoint)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::NotStarted(error.to_string())),
            Err(_) => Err(Failure::NotReady(ready.within)),
        }
    }

    async fn end(&self, child: &mut Child, pid: u32, status: &watch::Sender<Status>) -> Option<Exit> {
        status.send_modify(|status| status.state = State::Stopping);
        end_group(child, pid, self.spec.grace, self.immediate.cancelled()).await
    }
}
