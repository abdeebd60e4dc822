//! One browser-service: what it can run, and a task for each of its slots.
use std::{collections::HashMap, time::Duration};

use sonde_proto::{
    browser::v1::{GetInfoRequest, GetInfoResponse, browser_service_client::BrowserServiceClient},
    visit::v1::BrowserKind,
};
use sonde_runtime::backoff::Backoff;
use tokio::sync::mpsc;

use super::{Deps, Place, slot::SlotTask};
use crate::{
    engine::{Msg, Running},
    store::{SlotRow, StoreError, known_slots},
};

pub(super) const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
const DEADLINE: Duration = Duration::from_secs(10);
/// A service may be asked for as many; more are not used.
const MAX_SLOTS: u32 = 1024;
const COMMANDS: usize = 16;

pub(crate) struct Service {
    deps: Deps,
    place: Place,
    /// Attempts to take over, by slot, with the reason to cancel them, if there is one.
    resume: HashMap<u32, (Running, Option<String>)>,
    spawned: Vec<u32>,
    kinds: Vec<BrowserKind>,
}

impl Service {
    pub fn new(deps: Deps, place: Place, resume: HashMap<u32, (Running, Option<String>)>) -> Self {
        Self { deps, place, resume, spawned: Vec::new(), kinds: Vec::new() }
    }

    /// Until the fleet is stopped or closed.
    pub async fn run(mut self) {
        let (stop, close) = (self.deps.stop.clone(), self.deps.close.clone());
        tokio::select! {
            () = stop.cancelled() => {}
            () = close.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        let mut failures = 0;
        loop {
            match self.refresh().await {
                Ok(()) => {
                    failures = 0;
                    self.place.changed.notified().await;
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(
                            endpoint = self.place.endpoint,
                            error,
                            "the browser-service does not answer"
                        );
                    }
                    self.deps.live.update_status(|status| {
                        if status.kinds.is_empty() {
                            status.fleet = format!("browser-service {}: {error}", self.place.endpoint);
                        }
                    });
                    tokio::time::sleep(RETRY.next(failures, rand::random())).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), String> {
        // Slots of before are tended to at once: an attempt may be waiting there for its lease to be extended.
        if self.spawned.is_empty() {
            let endpoint = self.place.endpoint.clone();
            let known = self.deps.store.read(move |conn| known_slots(conn, &endpoint)).await;
            for row in known.map_err(|e: StoreError| e.to_string())? {
                if self.resume.contains_key(&row.browser_id) {
                    self.spawn(row).await;
                }
            }
        }
        let info = self.info().await?;
        self.kinds = info.browsers().collect();
        for slot in (0..info.slots.min(MAX_SLOTS)).filter(|s| !self.spawned.contains(s)).collect::<Vec<_>>() {
            let endpoint = self.place.endpoint.clone();
            let row = self.deps.store.write(move |tx| tx.slot(&endpoint, slot)).await;
            self.spawn(row.map_err(|e| e.to_string())?).await;
        }
        let kinds = Msg::Kinds { endpoint: self.place.endpoint.clone(), kinds: self.kinds.clone() };
        self.deps.engine.send(kinds).await;
        Ok(())
    }

    async fn info(&self) -> Result<GetInfoResponse, String> {
        let mut client = BrowserServiceClient::new(self.place.channel.clone());
        match tokio::time::timeout(DEADLINE, client.get_info(GetInfoRequest {})).await {
            Ok(Ok(info)) => Ok(info.into_inner()),
            Ok(Err(status)) => Err(format!("GetInfo: {:?}: {}", status.code(), status.message())),
            Err(_) => Err(format!("GetInfo: no answer within {DEADLINE:?}")),
        }
    }

    async fn spawn(&mut self, row: SlotRow) {
        self.spawned.push(row.slot);
        let (sender, commands) = mpsc::channel(COMMANDS);
        let resume = self.resume.remove(&row.browser_id);
        let task = SlotTask::new(self.deps.clone(), self.place.clone(), &row, commands, resume);
        self.deps.engine.send(Msg::SlotAdded { row, kinds: self.kinds.clone(), commands: sender }).await;
        self.deps.tasks.spawn(task.run());
    }
}
