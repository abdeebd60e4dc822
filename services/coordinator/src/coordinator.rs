//! Putting the parts together, and taking them apart in order.
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sonde_proto::VisitId;
use sonde_runtime::lock::FileLock;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{service::Routes, transport::Channel};

use crate::{
    api::{self, Api},
    config::Config,
    engine::{self, Engine, EngineHandle, Msg, Running},
    fleet::{self, Place, Service},
    ledger::push::{Pusher, StorageClient},
    live::Live,
    store::{Store, StoreError, known_slots},
    time::Clock,
};

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration cannot be.
    #[error("coordinator.{key}: {message}")]
    Config {
        /// Key within the section.
        key: &'static str,
        /// What is wrong and what it must be.
        message: String,
    },
    /// The data directory cannot be used.
    #[error("the data directory {path}: {source}; make it writable for this user, or give another data_dir")]
    DataDir {
        /// Directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another coordinator runs on it.
    #[error("the data directory {path} is in use by another coordinator: stop it, or give another data_dir")]
    InUse {
        /// Directory.
        path: PathBuf,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StartError {
    /// Whether the configuration must be mended; else trying again may help.
    pub fn is_config(&self) -> bool {
        !matches!(self, Self::Store(StoreError::Database(_) | StoreError::Closed))
    }
}

/// A running coordinator. Dropping it stops it at once, as [`Coordinator::close`] does.
pub struct Coordinator {
    routes: Routes,
    engine: EngineHandle,
    store: Store,
    tasks: TaskTracker,
    stop: CancellationToken,
    streams: CancellationToken,
    close_idle: CancellationToken,
    lock: Option<FileLock>,
}

impl Coordinator {
    /// Starts on `config.data_dir` and takes up what a coordinator before left there. `browsers` are the
    /// browser-services by name (their endpoint, which must stay the same over restarts); they and `storage` need not
    /// be there yet. Cancelling `cancel` ends it as [`Coordinator::close`] does.
    ///
    /// Call within a tokio runtime.
    ///
    /// # Errors
    /// When the configuration or the data directory cannot be used.
    pub async fn start(
        config: Config,
        storage: Channel,
        browsers: Vec<(String, Channel)>,
        cancel: CancellationToken,
    ) -> Result<Self, StartError> {
        check(&config)?;
        let lock = lock(&config.data_dir)?;
        let live = Live::default();
        let store = Store::open(&config.data_dir.join("coordinator.sqlite"), live.hub.clone())?;
        live.update_status(|status| status.storage = "storage: no answer yet".into());
        let (stop, tasks) = (cancel.child_token(), TaskTracker::new());
        let streams = stop.child_token();
        let config = Arc::new(config);
        let task_id = VisitId::random().get();
        store.write(move |tx| tx.set_task_id(task_id)).await?;
        let (handle, inbox) = engine::channel();
        let (bell, clock) = (Arc::new(Notify::new()), Clock::start());
        let storage = StorageClient::new(storage);
        let deps = engine::Deps {
            config: config.clone(),
            store: store.clone(),
            live: live.clone(),
            storage: storage.clone(),
            browsers: browsers.iter().cloned().collect(),
            outbox_bell: bell.clone(),
            clock,
            task_id,
            stop: stop.clone(),
        };
        let (mut engine, running) = Engine::recover(deps, handle.clone()).await?;
        let close_idle = CancellationToken::new();
        let fleet = fleet::Deps {
            store: store.clone(),
            live: live.clone(),
            engine: handle.clone(),
            lease: config.lease,
            stop: stop.clone(),
            close: close_idle.clone(),
            tasks: tasks.clone(),
        };
        spawn_services(&fleet, browsers, &mut engine, running).await?;
        let pusher = Pusher {
            storage,
            store: store.clone(),
            engine: handle.clone(),
            bell: bell.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(pusher.run());
        tasks.spawn(engine.run(inbox));
        let api = Api {
            store: store.clone(),
            live,
            engine: handle.clone(),
            config,
            clock,
            task_id,
            outbox_bell: bell,
            stop: streams.clone(),
        };
        let routes = api::routes(&api);
        Ok(Self { routes, engine: handle, store, tasks, stop, streams, close_idle, lock: Some(lock) })
    }

    /// The services, to be served; their names are [`crate::SERVICE_NAMES`].
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Ends the streams of watchers when cancelled; give it to the server as its token for streams.
    pub fn streams(&self) -> CancellationToken {
        self.streams.clone()
    }

    /// Leases nothing more and waits at most `deadline` for what runs. What still runs then is left to be taken over
    /// by the next start. Returns whether nothing was left.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let (reply, drained) = oneshot::channel();
        let waiting = async {
            self.engine.send(Msg::Drain(reply)).await;
            drained.await.is_ok()
        };
        let empty = tokio::time::timeout(deadline, waiting).await.unwrap_or(false);
        self.close_idle.cancel();
        empty
    }

    /// Ends everything now: attempts that run are left to be taken over by the next start. Closes the store and frees
    /// the data directory; calls that come later are answered with UNAVAILABLE.
    pub async fn close(mut self) {
        self.tasks.close();
        if self.close_idle.is_cancelled() {
            // After a drain: sessions of idle slots are closing in order.
            let closing = tokio::time::timeout(Duration::from_secs(1), async {
                while self.tasks.len() > 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            if closing.await.is_err() {
                tracing::debug!("some slots did not close in time");
            }
        }
        self.stop.cancel();
        self.tasks.wait().await;
        self.store.close().await;
        drop(self.lock.take());
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn check(config: &Config) -> Result<(), StartError> {
    if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&config.lease) {
        return Err(StartError::Config {
            key: "lease",
            message: format!("{:?}: 1 s to 10 min", config.lease),
        });
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<FileLock, StartError> {
    let unusable = |source| StartError::DataDir { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(unusable)?;
    let lock = FileLock::take(&dir.join("coordinator.lock")).map_err(unusable)?;
    lock.ok_or_else(|| StartError::InUse { path: dir.to_owned() })
}

async fn spawn_services(
    fleet: &fleet::Deps,
    browsers: Vec<(String, Channel)>,
    engine: &mut Engine,
    running: Vec<Running>,
) -> Result<(), StoreError> {
    let cancels: HashMap<i64, String> = engine.recovered_cancels().into_iter().collect();
    let mut left: HashMap<u32, Running> = running.into_iter().map(|r| (r.browser_id, r)).collect();
    for (endpoint, channel) in browsers {
        let name = endpoint.clone();
        let known = fleet.store.read(move |conn| known_slots(conn, &name)).await?;
        let resume = known.iter().filter_map(|row| {
            let running = left.remove(&row.browser_id)?;
            let cancel = cancels.get(&running.visit_id).cloned();
            Some((row.browser_id, (running, cancel)))
        });
        let resume = resume.collect();
        let place = Place { endpoint, channel, changed: Arc::new(Notify::new()) };
        fleet.tasks.spawn(Service::new(fleet.clone(), place, resume).run());
    }
    left.into_values().for_each(|running| engine.abandon(running.visit_id));
    Ok(())
}
