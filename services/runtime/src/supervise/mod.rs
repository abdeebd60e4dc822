//! Runs the services of one machine as child processes: starts them, waits until each is healthy, restarts what
//! crashes with growing delays, and stops all within their grace.

mod output;
mod policy;
mod program;
mod ready;
mod service;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::endpoint::Endpoint;
use crate::process::Scope;

pub use output::{LineSink, to_stderr};
pub use policy::{RestartPolicy, Restarts};
pub use program::{Exit, Program};

/// One service to run.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Unique; prefixes its output.
    pub name: String,
    pub program: Program,
    /// `None`: ready once started.
    pub ready: Option<Readiness>,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

/// Ready when `grpc.health.v1` at `endpoint` answers SERVING for the whole server.
#[derive(Debug, Clone)]
pub struct Readiness {
    pub endpoint: Endpoint,
    /// From its start; a service that takes longer is stopped and started again.
    pub within: Duration,
}

/// Why a service is not running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("it could not be started: {0}")]
    NotStarted(String),
    #[error("it ended: {0:?}")]
    Ended(Exit),
    #[error("it was not ready within {0:?}")]
    NotReady(Duration),
    #[error("it could not be waited for")]
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Starting,
    Ready,
    /// Waits `delay` before the next start.
    BackingOff {
        failure: Failure,
        delay: Duration,
    },
    Stopping,
    /// The last state. `None` if no process was running, or it could not be waited for.
    Stopped(Option<Exit>),
}

/// What is known of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    pub pid: Option<u32>,
    /// Processes started so far.
    pub starts: u32,
    /// Failures in a row.
    pub failures: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("two services are named `{0}`; give each its own name")]
    Duplicate(String),
    #[error("{name} is not ready after {after:?}: {state:?}")]
    NotReady { name: String, after: Duration, state: State },
}

/// The running services. Dropping it stops them in the background; [`Supervisor::stop`] waits for that.
#[derive(Debug)]
pub struct Supervisor {
    stop: CancellationToken,
    services: BTreeMap<String, (watch::Receiver<Status>, JoinHandle<()>)>,
}

impl Supervisor {
    /// Starts all `specs` at once. Cancelling `stop` stops them within their grace; cancelling `immediate` kills them.
    /// Call within a tokio runtime. Called in a [`Scope`], it has its processes recorded there.
    ///
    /// # Errors
    /// If two have one name. A program that cannot be started is in its status.
    pub fn start(
        specs: Vec<ServiceSpec>,
        policy: RestartPolicy,
        output: LineSink,
        stop: &CancellationToken,
        immediate: &CancellationToken,
    ) -> Result<Self, SuperviseError> {
        let mut names = std::collections::BTreeSet::new();
        if let Some(twice) = specs.iter().find(|spec| !names.insert(&spec.name)) {
            return Err(SuperviseError::Duplicate(twice.name.clone()));
        }
        let scope = Scope::current();
        let stop = stop.child_token();
        let services = specs
            .into_iter()
            .map(|spec| {
                let name = spec.name.clone();
                let running = service::Running {
                    spec,
                    policy,
                    output: output.clone(),
                    scope: scope.clone(),
                    stop: stop.clone(),
                    immediate: immediate.clone(),
                };
                (name, running.spawn())
            })
            .collect();
        Ok(Self { stop, services })
    }

    /// The status of `name`, and each change of it.
    pub fn status(&self, name: &str) -> Option<watch::Receiver<Status>> {
        self.services.get(name).map(|(status, _)| status.clone())
    }

    /// The present status of every service.
    pub fn statuses(&self) -> BTreeMap<String, Status> {
        self.services.iter().map(|(name, (status, _))| (name.clone(), status.borrow().clone())).collect()
    }

    /// Waits until all services are ready.
    ///
    /// # Errors
    /// If one of them is not after `within`, or has stopped.
    pub async fn ready(&self, within: Duration) -> Result<(), SuperviseError> {
        let deadline = tokio::time::sleep(within);
        tokio::pin!(deadline);
        for (name, (status, _)) in &self.services {
            let mut status = status.clone();
            let reached = tokio::select! {
                // The sender lives until the service has stopped, which is a final state too.
                found = status.wait_for(|status| matches!(status.state, State::Ready | State::Stopped(_))) => {
                    found.is_ok_and(|status| status.state == State::Ready)
                }
                () = &mut deadline => false,
            };
            if !reached {
                let state = status.borrow().state.clone();
                return Err(SuperviseError::NotReady { name: name.clone(), after: within, state });
            }
        }
        Ok(())
    }

    /// Stops all services, each within its grace, and says how each ended.
    pub async fn stop(mut self) -> BTreeMap<String, Option<Exit>> {
        self.stop.cancel();
        let mut exits = BTreeMap::new();
        for (name, (status, task)) in std::mem::take(&mut self.services) {
            if let Err(error) = task.await {
                tracing::error!(service = name, %error, "its supervision failed");
            }
            let exit = match &status.borrow().state {
                State::Stopped(exit) => *exit,
                _ => None,
            };
            exits.insert(name, exit);
        }
        exits
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
