//! What one round is to write: data only, so that it can be tried again.
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use sonde_proto::{
    browser::v1::BrowserEvent,
    coordinator::v1::{CrawlHooksEnded, CrawlState},
    storage::v1::LedgerRow,
    visit::v1::AttemptResult,
};
use sonde_runtime::clock::Mono;
use tokio::sync::oneshot;

use super::{Unsteerable, Verb};
use crate::{
    schedule::{CrawlLoad, FreeSlot, Sites},
    store::CrawlKey,
    visit::{Policy, Step, Visit},
};

/// An attempt that ended, and what becomes of its visit.
#[derive(Clone, Debug)]
pub(super) struct AttemptEnd {
    pub crawl: CrawlKey,
    pub crawl_id: String,
    pub visit_no: i64,
    pub url: String,
    pub attempt: u32,
    pub visit: Visit,
    pub step: Step,
    pub result: AttemptResult,
    pub leased_at: i64,
    pub phase: Option<String>,
    pub own_fault: bool,
    /// Noted for politeness over a restart.
    pub site: Option<String>,
}

pub(super) struct Steer {
    pub crawl: CrawlKey,
    pub verb: Verb,
    pub result: Result<(), Unsteerable>,
    pub reply: oneshot::Sender<Result<(), Unsteerable>>,
}

/// A change of a crawl's state.
#[derive(Clone, Debug)]
pub(super) struct StateChange {
    pub crawl: CrawlKey,
    pub state: CrawlState,
    pub reason: String,
}

/// Queued visits of a cancelled crawl end, page by page.
#[derive(Clone, Debug)]
pub(super) struct CancelQueued {
    pub crawl: CrawlKey,
    pub crawl_id: String,
    pub policy: Policy,
    pub reason: String,
}

#[derive(Clone, Debug)]
pub(super) struct LeaseInput {
    pub slots: Vec<FreeSlot>,
    /// Endpoint and instance of each slot, by the same index.
    pub places: Vec<(String, String)>,
    pub crawls: Vec<CrawlLoad>,
    pub sites: Arc<Sites>,
    pub now: Mono,
}

#[derive(Default)]
pub(super) struct Plan {
    pub now_us: i64,
    pub confirmed: Vec<i64>,
    pub ends: Vec<AttemptEnd>,
    pub started: Vec<(u32, BrowserEvent)>,
    pub ledger: Vec<LedgerRow>,
    pub states: Vec<StateChange>,
    pub hooks_ended: Vec<(CrawlKey, CrawlHooksEnded)>,
    pub cancel: Vec<CancelQueued>,
    pub touched: BTreeSet<CrawlKey>,
    pub lease: Option<LeaseInput>,
    /// Own-fault failures in a row that pause a crawl.
    pub failure_limit: u32,
    /// Answers that wait for the commit; no part of what is written.
    pub steers: Mutex<Vec<Steer>>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.confirmed.is_empty()
            && self.ends.is_empty()
            && self.started.is_empty()
            && self.ledger.is_empty()
            && self.states.is_empty()
            && self.hooks_ended.is_empty()
            && self.cancel.is_empty()
            && self.touched.is_empty()
            && self.lease.is_none()
            && self.steers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub fn steer(&self, steer: Steer) {
        self.steers.lock().unwrap_or_else(PoisonError::into_inner).push(steer);
    }

    pub fn take_steers(&self) -> Vec<Steer> {
        std::mem::take(&mut *self.steers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
