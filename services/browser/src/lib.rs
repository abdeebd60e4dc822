//! The browser-service: owns browsers, runs command sequences on isolated ones, and streams what the
//! instruments record into storage.
//!
//! A visit's way through it: [`Browsers`] serves sessions; a session drives a `slot`; the slot keeps a
//! browser of an [`engine`] warm and runs an `attempt`; the attempt's records leave by the [`uplink`].
//! It does NOT know of crawls, queues or retries: those are the coordinator's.

// `Failure` is the contract's error, and no result that holds one is in a hot path.
#![allow(clippy::result_large_err)]

mod attempt;
mod config;
pub mod engine;
pub mod hooks;
pub use sonde_runtime::process;
mod processes;
pub mod relay;
mod service;
mod slot;
pub mod uplink;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sonde_proto::browser::v1::browser_service_server::BrowserServiceServer;
use sonde_proto::browser::v1::process_service_server::ProcessServiceServer;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec};
use sonde_runtime::process::{
    Guard, Limits, Network, ProcessKind, ProcessRecord, ProcessStatus, ProcessStore, Redactor, StoreError,
    StoreOptions, cgroup, terminate_all,
};
use sonde_runtime::serve::limits::MESSAGE_BYTES;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Channel;

pub use attempt::fault;
pub use config::{ChromiumCapture, Config, FirefoxCapture, Prestart, PrestartKind, StartError};
pub use processes::{ProcessRows, process_message};

use engine::{Engine, LaunchSpec, RunDir, Scripts, run_dir};
use hooks::crawls::Crawls;
use processes::Ledger;
use slot::{Fences, Slot};
use uplink::{Bounds, Uplink};

/// Services for health and reflection.
pub const SERVICE_NAMES: &[&str] = &["sonde.browser.v1.BrowserService", "sonde.browser.v1.ProcessService"];

/// How long a close may take beyond its own steps.
const CLOSE: Duration = Duration::from_secs(20);

/// What an earlier service left is given this long to end by itself.
const LEFT_OVER: Duration = Duration::from_secs(2);

/// In the context of a service's own record: the directory that goes with it.
const RUN_DIR: &str = "run_dir";

/// The directories of services that nobody saw the end of, once all that used them has ended.
async fn remove_left(before: &[Arc<ProcessRecord>], processes: &ProcessStore) {
    let ended = |record: &&Arc<ProcessRecord>| {
        record.status == ProcessStatus::Running
            && processes.get(&record.id).is_some_and(|now| now.status == ProcessStatus::Exited)
    };
    let dirs = before.iter().filter(ended).filter_map(|record| record.context.get(RUN_DIR));
    let dirs: Vec<PathBuf> = dirs.map(PathBuf::from).collect();
    let removing = tokio::task::spawn_blocking(move || dirs.iter().for_each(|dir| run_dir::remove_left(dir)));
    if let Err(error) = removing.await {
        tracing::error!(%error, "removing the directories of killed services");
    }
}

/// A running browser-service. End it with [`Browsers::drain`] and [`Browsers::close`]; dropping it leaves its
/// tasks to the runtime.
pub struct Browsers {
    instance_id: String,
    engine: Arc<dyn Engine>,
    slots: Arc<[Slot]>,
    crawls: Crawls,
    uplink: Uplink,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Of all processes; `None` where none is started.
    processes: Option<ProcessStore>,
    /// Their way into storage.
    ledger: Option<Ledger>,
    /// Ends what is left of us after a kill.
    guard: Option<Guard>,
    /// Where they are kept, when that goes with us.
    _state: Option<RunDir>,
}

impl Browsers {
    /// Starts the slots; browsers come up when a slot is opened. `cancel` drains it (and ends its sessions) as
    /// the server's own shutdown does.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub async fn start(
        config: Config,
        storage: Channel,
        cancel: CancellationToken,
    ) -> Result<Self, StartError> {
        config.check()?;
        cgroup::set(config.cgroup).map_err(|why| StartError::Config {
            key: "cgroup",
            message: format!(
                "required, and there is none: {why}; delegate a group to the service, or say auto"
            ),
        })?;
        let uplink = Self::uplink(&config, storage);
        let engine = engine::Installed::new(&config, &uplink)?;
        let (directory, state) = match &config.state_dir {
            Some(directory) => (directory.clone(), None),
            None => {
                let own = RunDir::prepare(None)?;
                (own.path().to_owned(), Some(own))
            }
        };
        let processes = Self::processes(directory, engine.own_run_dir())?;
        // Before anything is started: its ports, sockets and profiles may be those of what is left.
        let left = processes.all();
        processes.repair(LEFT_OVER).await;
        remove_left(&left, &processes).await;
        let own_dirs = engine.own_run_dir().into_iter().chain(state.as_ref().map(RunDir::path));
        let guard = Guard::start(&processes, own_dirs.map(Path::to_owned).collect());
        let ledger = Ledger::start(processes.clone(), uplink.clone());
        let mut browsers = Self::assemble(&config, Arc::new(engine), uplink, cancel, Some(processes));
        browsers.ledger = Some(ledger);
        browsers.guard = guard;
        browsers._state = state;
        Ok(browsers)
    }

    fn processes(directory: PathBuf, run_dir: Option<&Path>) -> Result<ProcessStore, StoreError> {
        let run_dir = run_dir.map(|dir| (RUN_DIR.to_owned(), dir.to_string_lossy().into_owned()));
        ProcessStore::open(StoreOptions {
            directory,
            owner: "browser",
            kind: ProcessKind::Service,
            limits: Limits::default(),
            redactor: Redactor::default(),
            context: run_dir.into_iter().collect(),
        })
    }

    fn uplink(config: &Config, storage: Channel) -> Uplink {
        let bounds = Bounds { bytes: config.buffer, ..Bounds::default() };
        Uplink::start(storage, bounds, CancellationToken::new())
    }

    /// As [`Browsers::start`], with another engine; for tests of what is around it.
    pub fn with_engine(
        config: &Config,
        engine: Arc<dyn Engine>,
        storage: Channel,
        cancel: CancellationToken,
    ) -> Self {
        Self::assemble(config, engine, Self::uplink(config, storage), cancel, None)
    }

    fn assemble(
        config: &Config,
        engine: Arc<dyn Engine>,
        uplink: Uplink,
        cancel: CancellationToken,
        processes: Option<ProcessStore>,
    ) -> Self {
        let instance_id = uuid::Uuid::new_v4().to_string();
        let tasks = TaskTracker::new();
        let network = config.prestart_kind == PrestartKind::Firefox;
        let all =
            Scripts { javascript: true, cookies: true, navigations: true, network, ..Scripts::default() };
        let extension = (config.prestart == Prestart::Instrumented).then_some(all);
        let kind = BrowserKind::from(config.prestart_kind).into();
        let prestarted = BrowserSpec { kind, ..BrowserSpec::default() };
        let fences = Fences::default();
        let host = engine.hooks();
        let crawls = Crawls::new(host, uplink.clone(), instance_id.clone(), tasks.clone());
        // A starting browser keeps about two cores busy: more at a time only make the first one late.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((cores / 2).max(1)));
        let start = |slot| {
            Slot::start(slot::Options {
                slot,
                instance_id: instance_id.clone(),
                engine: engine.clone(),
                uplink: uplink.clone(),
                fences: fences.clone(),
                spec: LaunchSpec::new(&prestarted, extension.clone()),
                prestart: config.prestart != Prestart::Off,
                wear: config.wear(),
                spare: config.spare,
                turns: turns.clone(),
                crawls: crawls.clone(),
                processes: processes.as_ref().map(|store| store.scope().with("slot", slot)),
                tasks: tasks.clone(),
            })
        };
        let slots: Arc<[Slot]> = (0..config.slots).map(start).collect();
        let (stop, drained) = (CancellationToken::new(), slots.clone());
        let stopping = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => for slot in &*drained {
                    slot.drain().await;
                },
                () = stopping.cancelled() => {}
            }
        });
        Self {
            instance_id,
            engine,
            slots,
            crawls,
            uplink,
            tasks,
            stop,
            processes,
            ledger: None,
            guard: None,
            _state: None,
        }
    }

    /// Random per start.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// The gRPC services.
    pub fn routes(&self) -> Routes {
        let service = service::Service {
            instance_id: self.instance_id.clone(),
            engine: self.engine.clone(),
            slots: self.slots.clone(),
            crawls: self.crawls.clone(),
            stop: self.stop.clone(),
        };
        let server = BrowserServiceServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let routes = Routes::new(server);
        let Some(store) = self.processes.clone() else { return routes };
        let network = Network::default();
        let processes = processes::Processes { store, network, stop: self.stop.clone() };
        routes.add_service(ProcessServiceServer::new(processes))
    }

    /// Lets running attempts end until the deadline, then ends them; closes all browsers.
    pub async fn drain(&self, deadline: Instant) {
        for slot in &*self.slots {
            slot.drain().await;
        }
        let ended = async {
            for slot in &*self.slots {
                slot.ended().await;
            }
        };
        if timeout_at(deadline, ended).await.is_err() {
            for slot in &*self.slots {
                slot.abort().await;
            }
        }
        self.crawls.close(deadline).await;
    }

    /// Ends everything; returns when no browser is left. Says whether all ended in time.
    pub async fn close(self) -> bool {
        for slot in &*self.slots {
            slot.abort().await;
        }
        self.crawls.close(Instant::now() + CLOSE / 2).await;
        self.tasks.close();
        let clean = timeout_at(Instant::now() + CLOSE, self.tasks.wait()).await.is_ok();
        if let Some(processes) = &self.processes {
            let left = processes.processes().into_iter().filter(|process| !Guard::is(process));
            let left = terminate_all(left.map(|process| (process, Duration::ZERO))).await;
            if !left.is_empty() {
                tracing::warn!(count = left.len(), "processes had to be ended that no slot had ended");
            }
        }
        // Until here a kill of ours would leave what it sees to.
        if let Some(guard) = self.guard {
            guard.stop().await;
        }
        if let Some(processes) = &self.processes {
            processes.close();
        }
        if let Some(ledger) = self.ledger {
            ledger.flush().await;
        }
        self.stop.cancel();
        self.uplink.close();
        clean
    }
}
