//! What is true only while this process runs: watchers, phases of running attempts, slots as people see them.
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sonde_proto::{
    coordinator::v1::{BrowserSlot, CrawlEvent},
    visit::v1::{BrowserKind, Command, CommandResult, Failure, Phase},
};
use tokio::sync::{broadcast, mpsc};

use crate::store::CrawlKey;

/// Events that a slow watcher may lag behind before it reads the durable ones from the store again.
const WATCH_BUFFER: usize = 512;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watchers by crawl. Durable events come from the store's writer right after their commit, so in order.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<HashMap<CrawlKey, broadcast::Sender<Arc<CrawlEvent>>>>>);

impl Hub {
    pub fn subscribe(&self, crawl: CrawlKey) -> broadcast::Receiver<Arc<CrawlEvent>> {
        lock(&self.0).entry(crawl).or_insert_with(|| broadcast::channel(WATCH_BUFFER).0).subscribe()
    }

    pub fn is_watched(&self, crawl: CrawlKey) -> bool {
        lock(&self.0).contains_key(&crawl)
    }

    pub fn publish(&self, crawl: CrawlKey, event: &CrawlEvent) {
        let mut watched = lock(&self.0);
        // Nobody left to receive it: the entry goes, too.
        if watched.get(&crawl).is_some_and(|sender| sender.send(Arc::new(event.clone())).is_err()) {
            watched.remove(&crawl);
        }
    }
}

/// An answer to a command of a driven browser.
#[derive(Debug)]
pub(crate) enum DriveAnswer {
    Result(CommandResult),
    Refused(Failure),
}

/// The slot's end of a driven browser. When `steps` closes, the attempt is finished.
#[derive(Debug)]
pub(crate) struct DriveLink {
    pub steps: mpsc::Receiver<Command>,
    pub answers: mpsc::Sender<DriveAnswer>,
}

/// Why nothing can run, as far as the whole coordinator is concerned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// What is wrong with storage; "" when nothing.
    pub storage: String,
    /// What is wrong with our own store; "" when nothing.
    pub store: String,
    /// Kinds that a reachable slot can run.
    pub kinds: Vec<BrowserKind>,
    /// What is wrong with the fleet, where no slot can be reached.
    pub fleet: String,
    pub draining: bool,
}

#[derive(Default)]
struct State {
    phases: HashMap<i64, Phase>,
    slots: BTreeMap<(String, u32), (BrowserSlot, Option<i64>)>,
    drives: HashMap<CrawlKey, DriveLink>,
    status: Status,
}

/// Shared by the engine, the slots and the API; holds no decisions. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Live {
    pub hub: Hub,
    state: Arc<Mutex<State>>,
}

impl Live {
    pub fn set_phase(&self, visit_id: i64, phase: Phase) {
        lock(&self.state).phases.insert(visit_id, phase);
    }

    pub fn phase(&self, visit_id: i64) -> Option<Phase> {
        lock(&self.state).phases.get(&visit_id).cloned()
    }

    pub fn take_phase(&self, visit_id: i64) -> Option<Phase> {
        lock(&self.state).phases.remove(&visit_id)
    }

    /// `attempt` is the one that runs there.
    pub fn set_slot(&self, slot: BrowserSlot, attempt: Option<i64>) {
        lock(&self.state).slots.insert((slot.browser_service.clone(), slot.slot), (slot, attempt));
    }

    /// By service, then slot, each with the phase of its attempt.
    pub fn slots(&self) -> Vec<BrowserSlot> {
        let state = lock(&self.state);
        let shown = state.slots.values().map(|(slot, attempt)| BrowserSlot {
            phase: attempt.and_then(|id| state.phases.get(&id).cloned()),
            ..slot.clone()
        });
        shown.collect()
    }

    pub fn offer_drive(&self, crawl: CrawlKey, link: DriveLink) {
        lock(&self.state).drives.insert(crawl, link);
    }

    pub fn take_drive(&self, crawl: CrawlKey) -> Option<DriveLink> {
        lock(&self.state).drives.remove(&crawl)
    }

    pub fn status(&self) -> Status {
        lock(&self.state).status.clone()
    }

    pub fn update_status(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.state).status);
    }
}
