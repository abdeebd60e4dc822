//! The one loop in which effects happen.
//!
//! A round: take all messages that wait, decide purely, write everything in one transaction (leases included), and
//! only then act: send runs to slots, ring the pusher, answer callers. While the disk is busy, messages gather for the
//! next round, so that commits are shared without being delayed.
mod absorb;
mod book;
mod hooks;
mod lease;
mod plan;
mod recover;
mod round;
mod seal;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sonde_proto::{
    browser::v1::BrowserEvent,
    coordinator::v1::CrawlHooksEnded,
    storage::v1::SealAttemptResponse,
    visit::v1::{AttemptResult, BrowserKind, Failure, Outcome},
};
use sonde_runtime::{backoff::Backoff, clock::Mono};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub(crate) use book::Running;
use book::{Book, Slot};
pub(crate) use lease::MAX_ACTIVE_CRAWLS;
use plan::{Plan, Steer};
pub(crate) use seal::lost_failure;

use crate::{
    config::Config,
    fleet::SlotCommand,
    ledger::push::StorageClient,
    live::Live,
    schedule::Sites,
    store::{CrawlKey, SlotRow, Store, StoreError},
    time::Clock,
};

const QUEUE: usize = 1024;
/// Messages in one round.
const ROUND: usize = 512;
const STORE_RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// What a caller wants of a crawl.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verb {
    Pause,
    Resume,
    /// Attempts that end on this account get the outcome: cancelled, or timeout when nobody drove on.
    Cancel {
        outcome: Outcome,
        reason: String,
    },
}

/// Why a verb cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unsteerable {
    Ended,
    Cancelling,
}

/// To the engine.
#[derive(Debug)]
pub(crate) enum Msg {
    /// A slot of a browser-service, seen for the first time since the start.
    SlotAdded {
        row: SlotRow,
        kinds: Vec<BrowserKind>,
        commands: mpsc::Sender<SlotCommand>,
    },
    /// What a browser-service can run.
    Kinds {
        endpoint: String,
        kinds: Vec<BrowserKind>,
    },
    SlotUp {
        browser_id: u32,
        instance_id: String,
    },
    SlotDown {
        browser_id: u32,
        error: String,
    },
    BrowserEvent {
        browser_id: u32,
        event: BrowserEvent,
    },
    Ended {
        browser_id: u32,
        result: AttemptResult,
    },
    /// The attempt is gone; it must be sealed before the visit goes on.
    Lost {
        browser_id: u32,
        visit_id: i64,
        reason: &'static str,
        failure: Failure,
    },
    Sealed {
        visit_id: i64,
        seal: Option<SealAttemptResponse>,
        reason: &'static str,
        failure: Failure,
    },
    Confirmed(Vec<i64>),
    /// What is wrong with storage.
    Storage(Option<String>),
    /// A crawl was made or changed in the store.
    Crawl(CrawlKey),
    Steer {
        crawl: CrawlKey,
        verb: Verb,
        reply: oneshot::Sender<Result<(), Unsteerable>>,
    },
    /// The hooks of a crawl have ended on all of its services.
    HooksEnded {
        crawl: CrawlKey,
        ended: CrawlHooksEnded,
    },
    /// Stop leasing; answered when nothing runs any more and storage has what ended.
    Drain(oneshot::Sender<()>),
}

#[derive(Clone)]
pub(crate) struct EngineHandle(mpsc::Sender<Msg>);

impl EngineHandle {
    /// Waits while the engine is busy; drops the message when it has stopped, as all others then.
    pub async fn send(&self, msg: Msg) {
        if self.0.send(msg).await.is_err() {
            tracing::debug!("the engine has stopped: a message was dropped");
        }
    }

    /// The message back when the engine is busy.
    pub fn try_send(&self, msg: Msg) -> Result<(), Box<Msg>> {
        self.0.try_send(msg).map_err(|e| match e {
            mpsc::error::TrySendError::Full(msg) | mpsc::error::TrySendError::Closed(msg) => Box::new(msg),
        })
    }
}

/// Made before the engine, because the fleet needs the handle first.
pub(crate) fn channel() -> (EngineHandle, mpsc::Receiver<Msg>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (EngineHandle(sender), receiver)
}

pub(crate) struct Deps {
    pub config: Arc<Config>,
    pub store: Store,
    pub live: Live,
    pub storage: StorageClient,
    /// The browser-services, by endpoint.
    pub browsers: BTreeMap<String, Channel>,
    pub outbox_bell: Arc<Notify>,
    pub clock: Clock,
    pub task_id: i64,
    pub stop: CancellationToken,
}

pub(crate) struct Engine {
    deps: Deps,
    handle: EngineHandle,
    crawls: BTreeMap<CrawlKey, Book>,
    slots: BTreeMap<u32, Slot>,
    running: HashMap<i64, Running>,
    sites: Arc<Sites>,
    storage_ok: bool,
    /// Whether the task row is in the outbox; it waits for the first browser's version.
    task_written: bool,
    /// (crawl, browser) whose provenance is written.
    described: HashSet<(CrawlKey, u32)>,
    draining: Option<Vec<oneshot::Sender<()>>>,
    /// Crawls that the next round reads again.
    touched: BTreeSet<CrawlKey>,
    wake: Option<Mono>,
    /// For the next round: verbs for crawls that this one reads first.
    later: Vec<Msg>,
    reread: BTreeSet<CrawlKey>,
    outbox_full: bool,
    outbox_left: bool,
    seals: Arc<tokio::sync::Semaphore>,
    /// Crawls whose hooks were asked to end.
    ending_hooks: HashSet<CrawlKey>,
}

impl Engine {
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Msg>) {
        let stop = self.deps.stop.clone();
        let mut batch = Vec::with_capacity(ROUND);
        // The first round has no messages: it leases what a restart left in the queue and ends what can end.
        loop {
            let mut plan = self.plan();
            for msg in batch.drain(..) {
                self.absorb(msg, &mut plan);
            }
            self.ask_for_leases(&mut plan);
            if !plan.is_empty() {
                let plan = Arc::new(plan);
                let done = tokio::select! {
                    done = self.commit(plan.clone()) => done,
                    () = stop.cancelled() => return,
                };
                let Some(done) = done else { return };
                self.act(&plan, done);
            }
            if !self.later.is_empty() {
                batch.append(&mut self.later);
                continue;
            }
            if self.is_drained() {
                self.draining.iter_mut().flat_map(|waiting| waiting.drain(..)).for_each(|reply| {
                    // Whoever waited may have met its deadline.
                    let _ = reply.send(());
                });
            }
            let wake = self.wake.map_or(Duration::from_secs(3600), |at| at.remaining(Mono::now()));
            tokio::select! {
                n = inbox.recv_many(&mut batch, ROUND) => if n == 0 { return },
                () = tokio::time::sleep(wake) => self.wake = None,
                () = stop.cancelled() => return,
            }
        }
    }

    /// Outcomes are taken to storage first, so that a drained crawl can be read whole; what storage does not take
    /// waits in the outbox for the next start.
    fn is_drained(&self) -> bool {
        let told = !self.outbox_left || !self.storage_ok;
        self.draining.is_some() && self.running.is_empty() && told
    }

    /// Until it is written: a full disk is a wait, not a loss (R15). Slots keep their leases meanwhile.
    async fn commit(&self, plan: Arc<Plan>) -> Option<round::Done> {
        let mut failures = 0u32;
        loop {
            let work = plan.clone();
            match self.deps.store.write(move |tx| round::run(tx, &work)).await {
                Ok(done) => {
                    if failures > 0 {
                        tracing::info!("coordinator.sqlite takes writes again");
                        self.deps.live.update_status(|status| status.store.clear());
                    }
                    return Some(done);
                }
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    // Said at ever longer intervals: a full disk stays full for long.
                    if failures == 0 || failures.is_power_of_two() {
                        tracing::error!(%error, failures, "coordinator.sqlite was not written; trying again");
                    }
                    self.deps.live.update_status(|status| status.store = error.to_string());
                    tokio::time::sleep(STORE_RETRY.next(failures, rand::random())).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// What follows from a round that is on disk.
    fn act(&mut self, plan: &Plan, done: round::Done) {
        if done.outbox_grew {
            self.deps.outbox_bell.notify_one();
        }
        for lease in done.leases {
            self.start(lease);
        }
        for due in done.hooks_due {
            self.end_hooks(due);
        }
        for row in done.crawls {
            self.touched.remove(&row.key);
            self.note_crawl(row);
        }
        self.outbox_full = done.outbox_full;
        self.outbox_left = done.outbox_left;
        self.touched.extend(done.more_to_cancel);
        if self.outbox_full {
            // The round that follows a confirmation goes on with them.
            self.touched.extend(plan.cancel.iter().map(|cancel| cancel.crawl));
        } else if !self.touched.is_empty() {
            self.wake = Some(Mono::now());
        }
        if let Some(at) = done.wake {
            let at =
                Mono::now() + Duration::from_micros(u64::try_from(at - self.deps.clock.us()).unwrap_or(0));
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
        if let Some(at) = done.site_ready {
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
        for Steer { crawl, verb, result, reply } in plan.take_steers() {
            if result.is_ok() && matches!(verb, Verb::Cancel { .. }) {
                self.cancel_running(crawl, &verb);
            }
            // A caller that went away needs no answer.
            let _ = reply.send(result);
        }
    }
}
