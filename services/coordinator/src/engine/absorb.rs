//! What each message changes in memory, and what it adds to the round's plan.
use std::{sync::Arc, time::Duration};

use sonde_proto::{
    browser::v1::{BrowserEvent, BrowserEventKind},
    coordinator::v1::CrawlState,
    visit::v1::{AttemptResult, Failure, FailureKind, Outcome},
};
use sonde_runtime::clock::Mono;

use super::{
    Engine, Msg, Unsteerable, Verb,
    book::{Book, Running, Slot, policy_of},
    lease::Lease,
    plan::{AttemptEnd, CancelQueued, Plan, StateChange, Steer},
};
use crate::{
    fleet::{Assigned, SlotCommand},
    ledger,
    store::{CrawlKey, CrawlKind, CrawlRow},
    time::{span, timestamp},
    visit::{Event, Step, apply},
};

impl Engine {
    pub(super) fn plan(&mut self) -> Plan {
        let limit = match self.deps.config.failure_limit {
            0 => 2 * self.slots.len() as u32 + 10,
            limit => limit,
        };
        let mut plan = Plan { now_us: self.deps.clock.us(), failure_limit: limit, ..Default::default() };
        plan.touched.clone_from(&self.touched);
        for book in self.crawls.values().filter(|book| self.touched.contains(&book.row.key)) {
            if book.row.state == CrawlState::Cancelling {
                plan.cancel.push(cancel_queued(book));
            }
        }
        plan
    }

    pub(super) fn absorb(&mut self, msg: Msg, plan: &mut Plan) {
        match msg {
            Msg::SlotAdded { .. } | Msg::Kinds { .. } | Msg::SlotUp { .. } | Msg::SlotDown { .. } => {
                self.absorb_fleet(msg, plan);
            }
            Msg::BrowserEvent { browser_id, event } => self.browser_event(browser_id, event, plan),
            Msg::Ended { browser_id, result } => self.ended(browser_id, result, plan),
            Msg::Lost { browser_id, visit_id, reason, failure } => {
                self.free(browser_id, visit_id);
                self.seal_lost(visit_id, reason, failure);
            }
            Msg::Sealed { visit_id, seal, reason, failure } => {
                let now = timestamp(plan.now_us);
                let failure = Failure { causes: vec![reason.to_owned()], ..failure };
                let result = AttemptResult {
                    visit_id,
                    outcome: Outcome::Crashed.into(),
                    failure: Some(failure.clone()),
                    seal: seal.and_then(|answer| answer.seal),
                    started_at: None,
                    ended_at: Some(now),
                    ..Default::default()
                };
                if let Some(running) = self.running.remove(&visit_id) {
                    let cancelled = self.is_cancelled(running.crawl);
                    self.conclude(running, Event::AttemptLost { failure, cancelled }, result, plan);
                }
            }
            Msg::Confirmed(ids) => plan.confirmed.extend(ids),
            Msg::Storage(error) => {
                self.storage_ok = error.is_none();
                self.deps.live.update_status(|status| status.storage = error.unwrap_or_default());
            }
            Msg::Crawl(crawl) => {
                plan.touched.insert(crawl);
            }
            Msg::Steer { crawl, .. } if self.must_reread(crawl) => {
                // Made a moment ago, or over: this round reads it, the next one knows.
                plan.touched.insert(crawl);
                self.later.push(msg);
            }
            Msg::Steer { crawl, verb, reply } => {
                self.reread.remove(&crawl);
                let result = self.steer(crawl, &verb, plan);
                plan.steer(Steer { crawl, verb, result, reply });
            }
            Msg::HooksEnded { crawl, ended } => plan.hooks_ended.push((crawl, ended)),
            Msg::Drain(reply) => {
                self.draining.get_or_insert_default().push(reply);
                self.write_task(plan, "");
                self.deps.live.update_status(|status| status.draining = true);
            }
        }
    }

    fn must_reread(&mut self, crawl: CrawlKey) -> bool {
        let waits = |msg: &Msg| matches!(msg, Msg::Steer { crawl: other, .. } if *other == crawl);
        !self.crawls.contains_key(&crawl) && (self.reread.insert(crawl) || self.later.iter().any(waits))
    }

    fn absorb_fleet(&mut self, msg: Msg, plan: &mut Plan) {
        match msg {
            Msg::SlotAdded { row, kinds, commands } => {
                plan.ledger.push(ledger::slot(
                    self.deps.task_id,
                    row.browser_id,
                    &row.endpoint,
                    row.slot,
                    plan.now_us,
                ));
                let attempt = self
                    .running
                    .values()
                    .find(|r| r.browser_id == row.browser_id && !r.sealing)
                    .map(|r| r.visit_id);
                let slot = Slot {
                    endpoint: row.endpoint,
                    slot: row.slot,
                    browser_id: row.browser_id,
                    kinds,
                    commands,
                    instance_id: None,
                    attempt,
                    last_crawl: None,
                    last_error: String::new(),
                    started: row.started,
                    resting: Vec::new(),
                };
                self.slots.insert(slot.browser_id, slot);
                self.slot_changed(row.browser_id);
            }
            Msg::Kinds { endpoint, kinds } => {
                self.slots
                    .values_mut()
                    .filter(|s| s.endpoint == endpoint)
                    .for_each(|s| s.kinds.clone_from(&kinds));
                self.fleet_changed();
            }
            Msg::SlotUp { browser_id, instance_id } => {
                if let Some(slot) = self.slots.get_mut(&browser_id) {
                    if slot.instance_id.as_ref() != Some(&instance_id) {
                        slot.resting.clear();
                    }
                    slot.instance_id = Some(instance_id);
                    slot.last_error.clear();
                }
                self.slot_changed(browser_id);
            }
            Msg::SlotDown { browser_id, error } => {
                if let Some(slot) = self.slots.get_mut(&browser_id) {
                    slot.instance_id = None;
                    slot.last_error = error;
                }
                self.slot_changed(browser_id);
            }
            _ => {}
        }
    }

    fn browser_event(&mut self, browser_id: u32, event: BrowserEvent, plan: &mut Plan) {
        let Some(slot) = self.slots.get_mut(&browser_id) else { return };
        match event.kind() {
            BrowserEventKind::Started => {
                slot.last_error.clear();
                slot.resting.retain(|(kind, _)| *kind != event.browser());
                slot.started = Some(event.clone());
                let version = ledger::product(&event);
                self.write_task(plan, &version);
                plan.started.push((browser_id, event));
            }
            BrowserEventKind::Crashed | BrowserEventKind::LaunchFailed => {
                slot.last_error = format!("{}: {}", event.kind().word(), event.detail);
            }
            BrowserEventKind::BreakerOpened => {
                slot.last_error = format!("{}: {}", event.kind().word(), event.detail);
                let until = Mono::now() + event.retry_after.as_ref().map_or(Duration::ZERO, span);
                slot.rest(event.browser(), until);
            }
            BrowserEventKind::Closed | BrowserEventKind::Unspecified => {}
        }
        self.slot_changed(browser_id);
    }

    /// Once a start, as soon as a browser's version is known, or else when something needs it.
    fn write_task(&mut self, plan: &mut Plan, browser_version: &str) {
        if !std::mem::replace(&mut self.task_written, true) {
            let started = self.deps.clock.us();
            plan.ledger.push(ledger::task(self.deps.task_id, &self.deps.config, browser_version, started));
        }
    }

    fn ended(&mut self, browser_id: u32, result: AttemptResult, plan: &mut Plan) {
        self.free(browser_id, result.visit_id);
        let Some(running) = self.running.remove(&result.visit_id) else {
            tracing::warn!(
                browser_id,
                visit_id = result.visit_id,
                "an attempt ended that is not running: ignored"
            );
            return;
        };
        self.write_task(plan, "");
        self.describe(&running, plan);
        let asked = self.crawls.get(&running.crawl).and_then(|book| book.cancelled.clone());
        let mut outcome = result.outcome();
        let mut failure = result.failure.clone();
        if let Some((wanted, reason)) = &asked
            && outcome == Outcome::Cancelled
            && *wanted != Outcome::Cancelled
        {
            outcome = *wanted;
            failure = Some(Failure {
                kind: FailureKind::Timeout.into(),
                message: reason.clone(),
                fingerprint: "idle-timeout".into(),
                phase: failure.map(|f| f.phase).unwrap_or_default(),
                ..Default::default()
            });
        }
        let cancelled = self.is_cancelled(running.crawl);
        self.conclude(running, Event::AttemptEnded { outcome, failure, cancelled }, result, plan);
    }

    fn is_cancelled(&self, crawl: CrawlKey) -> bool {
        self.crawls.get(&crawl).is_some_and(|book| book.row.state == CrawlState::Cancelling)
    }

    /// Lets the state machine decide what becomes of the visit.
    fn conclude(&mut self, running: Running, event: Event, result: AttemptResult, plan: &mut Plan) {
        let polite = self.crawls.get(&running.crawl).map(|book| book.politeness).unwrap_or_default();
        let keep = self.longest_delay();
        Arc::make_mut(&mut self.sites).end(&running.site, Mono::now(), keep);
        let policy = policy_of(&running.spec, running.kind);
        let (visit, step) = match apply(&running.machine, event, &policy, plan.now_us, rand::random()) {
            Ok(decided) => decided,
            Err(error) => {
                tracing::error!(visit_id = running.visit_id, %error, "an end was ignored");
                return;
            }
        };
        let failure = match &step {
            Step::Requeue { failure, .. } => Some(failure),
            Step::End { failure, .. } => failure.as_ref(),
            Step::Run => None,
        };
        let own_fault = failure.is_some_and(|f| {
            matches!(f.kind(), FailureKind::Browser | FailureKind::Instrument | FailureKind::Resources)
        });
        let phase = self.deps.live.take_phase(running.visit_id).map(|phase| phase.line());
        plan.ends.push(AttemptEnd {
            crawl: running.crawl,
            crawl_id: running.crawl_id,
            visit_no: running.visit_no,
            url: running.url,
            attempt: running.attempt,
            visit,
            step,
            leased_at: running.leased_at,
            result,
            phase,
            own_fault,
            site: (!polite.min_delay.is_zero()).then_some(running.site),
        });
    }

    /// Provenance of the browser that served this crawl, once.
    fn describe(&mut self, running: &Running, plan: &mut Plan) {
        let started = self.slots.get(&running.browser_id).and_then(|slot| slot.started.as_ref());
        let Some(started) = started else { return };
        if self.described.insert((running.crawl, running.browser_id)) {
            let rows =
                ledger::browser_provenance(&running.crawl_id, running.browser_id, started, plan.now_us);
            plan.ledger.extend(rows);
        }
    }

    fn longest_delay(&self) -> Duration {
        self.crawls.values().map(|book| book.politeness.min_delay).max().unwrap_or_default()
    }

    fn free(&mut self, browser_id: u32, visit_id: i64) {
        if let Some(slot) = self.slots.get_mut(&browser_id).filter(|slot| slot.attempt == Some(visit_id)) {
            slot.attempt = None;
        }
        self.slot_changed(browser_id);
    }

    fn steer(&mut self, crawl: CrawlKey, verb: &Verb, plan: &mut Plan) -> Result<(), Unsteerable> {
        let Some(book) = self.crawls.get_mut(&crawl) else { return Err(Unsteerable::Ended) };
        let before = book.row.state;
        let mut change = |state, reason: &str| {
            // At once: what this very round leases must obey it.
            book.row.state = state;
            plan.states.push(StateChange { crawl, state, reason: reason.to_owned() });
        };
        match (verb, before) {
            (_, CrawlState::Ended) => return Err(Unsteerable::Ended),
            (Verb::Cancel { .. }, CrawlState::Cancelling)
            | (Verb::Pause, CrawlState::Paused)
            | (Verb::Resume, CrawlState::Running) => {}
            (Verb::Pause | Verb::Resume, CrawlState::Cancelling) => return Err(Unsteerable::Cancelling),
            (Verb::Pause, _) => change(CrawlState::Paused, "paused by its user"),
            (Verb::Resume, _) => change(CrawlState::Running, "resumed by its user"),
            (Verb::Cancel { outcome, reason }, _) => {
                change(CrawlState::Cancelling, reason);
                book.cancelled = Some((*outcome, reason.clone()));
                plan.cancel.push(cancel_queued(book));
            }
        }
        Ok(())
    }

    pub(super) fn cancel_running(&mut self, crawl: CrawlKey, verb: &Verb) {
        let Verb::Cancel { reason, .. } = verb else { return };
        for running in self.running.values().filter(|r| r.crawl == crawl && !r.sealing) {
            let Some(slot) = self.slots.get(&running.browser_id) else { continue };
            let command = SlotCommand::Cancel { visit_id: running.visit_id, reason: reason.clone() };
            if slot.commands.try_send(command).is_err() {
                tracing::warn!(
                    visit_id = running.visit_id,
                    "its slot does not listen: the attempt ends by itself"
                );
            }
        }
    }

    /// Sends a lease that is on disk.
    pub(super) fn start(&mut self, lease: Lease) {
        let running = lease.running;
        let drive =
            (running.kind == CrawlKind::Driven).then(|| self.deps.live.take_drive(running.crawl)).flatten();
        Arc::make_mut(&mut self.sites).begin(&running.site);
        self.running.insert(running.visit_id, running.clone());
        let Some(slot) = self.slots.get_mut(&running.browser_id) else { return };
        (slot.attempt, slot.last_crawl) = (Some(running.visit_id), Some(running.crawl));
        let (browser_id, visit_id) = (running.browser_id, running.visit_id);
        let assigned = Assigned {
            running,
            site_rank: lease.site_rank,
            commands: lease.commands,
            fresh_browser: lease.fresh_browser,
        };
        if slot.commands.try_send(SlotCommand::Run { assigned: Box::new(assigned), drive }).is_err() {
            let failure = super::seal::lost_failure("its slot takes no commands".into(), "slot-deaf");
            self.free(browser_id, visit_id);
            self.seal_lost(visit_id, "lost", failure);
        }
        self.slot_changed(browser_id);
    }

    /// A crawl as the store has it after a round.
    pub(super) fn note_crawl(&mut self, row: CrawlRow) {
        let key = row.key;
        if row.state == CrawlState::Ended {
            self.crawls.remove(&key);
            self.ending_hooks.remove(&key);
            self.described.retain(|(crawl, _)| *crawl != key);
            // A driver that was never served.
            drop(self.deps.live.take_drive(key));
            return;
        }
        match self.crawls.get_mut(&key) {
            Some(book) => book.row = row,
            None => {
                self.crawls.insert(key, Book::new(row));
                // It is leased from in the next round.
                self.wake = Some(Mono::now());
            }
        }
    }

    fn slot_changed(&self, browser_id: u32) {
        let Some(slot) = self.slots.get(&browser_id) else { return };
        let running = slot.attempt.and_then(|id| self.running.get(&id));
        self.deps.live.set_slot(slot.shown(running), slot.attempt);
        self.fleet_changed();
    }

    fn fleet_changed(&self) {
        let mut kinds = Vec::new();
        let mut error = String::new();
        for slot in self.slots.values() {
            match &slot.instance_id {
                Some(_) => kinds
                    .extend(slot.kinds.iter().filter(|k| !kinds.contains(*k)).copied().collect::<Vec<_>>()),
                None if error.is_empty() => {
                    error = format!("browser-service {}: {}", slot.endpoint, slot.last_error)
                }
                None => {}
            }
        }
        if error.is_empty() {
            "no browser-service has answered yet".clone_into(&mut error);
        }
        self.deps.live.update_status(|status| {
            status.fleet = if kinds.is_empty() { error } else { String::new() };
            status.kinds = kinds;
        });
    }
}

fn cancel_queued(book: &Book) -> CancelQueued {
    let reason = book.cancelled.as_ref().map_or(book.row.reason.as_str(), |(_, reason)| reason.as_str());
    CancelQueued {
        crawl: book.row.key,
        crawl_id: book.row.crawl_id.clone(),
        policy: policy_of(&book.row.spec, book.row.kind),
        reason: reason.to_owned(),
    }
}
