//! What the engine knows of crawls, slots and running attempts without asking the store.
use std::{sync::Arc, time::Duration};

use sonde_proto::{
    browser::v1::BrowserEvent,
    coordinator::v1::{BrowserSlot, CrawlSpec, SlotState},
    visit::v1::{BrowserKind, Outcome},
};
use sonde_runtime::clock::Mono;
use tokio::sync::mpsc;

use crate::{
    fleet::SlotCommand,
    schedule::Politeness,
    store::{CrawlKey, CrawlKind, CrawlRow},
    time::span,
    visit::{MAX_LOSSES, Policy, Visit},
};

/// A crawl that has not ended.
pub(super) struct Book {
    pub row: CrawlRow,
    pub politeness: Politeness,
    pub browser: BrowserKind,
    /// Cancelled: the outcome and reason of what is stopped on that account.
    pub cancelled: Option<(Outcome, String)>,
}

impl Book {
    pub fn new(row: CrawlRow) -> Self {
        let polite = row.spec.politeness.unwrap_or_default();
        let politeness = Politeness {
            max_per_site: polite.max_per_site,
            min_delay: polite.min_delay.as_ref().map_or(Duration::ZERO, span),
        };
        let browser = match row.spec.browser.as_ref().map(|b| b.kind()).unwrap_or_default() {
            BrowserKind::Unspecified => BrowserKind::Chromium,
            kind => kind,
        };
        Self { row, politeness, browser, cancelled: None }
    }
}

/// Attempts and pauses of a crawl's visits.
pub(crate) fn policy_of(spec: &CrawlSpec, kind: CrawlKind) -> Policy {
    let retry = spec.retry.unwrap_or_default();
    let pause = |value: Option<prost_types::Duration>, default| {
        value.as_ref().map_or(Duration::from_secs(default), span).max(Duration::from_millis(1))
    };
    let driven = kind == CrawlKind::Driven;
    Policy {
        // Nobody can repeat what a driver did by hand.
        max_retries: if driven { 0 } else { retry.max_retries.unwrap_or(2) },
        max_losses: if driven { 0 } else { MAX_LOSSES },
        initial_backoff: pause(retry.initial_backoff, 1),
        max_backoff: pause(retry.max_backoff, 60),
    }
}

pub(super) struct Slot {
    pub endpoint: String,
    pub slot: u32,
    pub browser_id: u32,
    pub kinds: Vec<BrowserKind>,
    pub commands: mpsc::Sender<SlotCommand>,
    /// Of the service, while it is reached.
    pub instance_id: Option<String>,
    pub attempt: Option<i64>,
    pub last_crawl: Option<CrawlKey>,
    pub last_error: String,
    /// What its browser said of itself when it started last.
    pub started: Option<BrowserEvent>,
    /// Kinds of browsers that it does not start for a while: too many failed.
    pub resting: Vec<(BrowserKind, Mono)>,
}

impl Slot {
    pub fn is_free(&self, now: Mono) -> bool {
        self.instance_id.is_some() && self.attempt.is_none() && !self.ready_kinds(now).is_empty()
    }

    /// What it can run now.
    pub fn ready_kinds(&self, now: Mono) -> Vec<BrowserKind> {
        let rests = |kind: &BrowserKind| self.resting.iter().any(|(k, until)| k == kind && *until > now);
        self.kinds.iter().filter(|kind| !rests(kind)).copied().collect()
    }

    /// When it can run more kinds than now.
    pub fn rested_at(&self, now: Mono) -> Option<Mono> {
        self.resting.iter().map(|(_, until)| *until).filter(|until| *until > now).min()
    }

    /// It starts no browser of this kind before.
    pub fn rest(&mut self, kind: BrowserKind, until: Mono) {
        self.resting.retain(|(k, _)| *k != kind);
        self.resting.push((kind, until));
    }

    pub fn shown(&self, attempt: Option<&Running>) -> BrowserSlot {
        let state = match (&self.instance_id, self.attempt) {
            (None, _) => SlotState::Lost,
            (Some(_), None) => SlotState::Free,
            (Some(_), Some(_)) => SlotState::Busy,
        };
        BrowserSlot {
            browser_service: self.endpoint.clone(),
            slot: self.slot,
            browser_id: self.browser_id,
            state: state.into(),
            crawl_id: attempt.map(|a| a.crawl_id.clone()).unwrap_or_default(),
            visit_no: attempt.map_or(0, |a| a.visit_no),
            phase: None,
            last_error: self.last_error.clone(),
        }
    }
}

/// An attempt without a result.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub crawl: CrawlKey,
    pub crawl_id: String,
    pub kind: CrawlKind,
    pub spec: Arc<CrawlSpec>,
    pub visit_no: i64,
    pub url: String,
    pub site: String,
    pub visit_id: i64,
    pub fence: i64,
    pub attempt: u32,
    pub browser_id: u32,
    pub instance_id: String,
    pub leased_at: i64,
    pub machine: Visit,
    /// Being sealed for having been lost.
    pub sealing: bool,
}
