//! Leasing: pages of the queue, the scheduler's choice among them, and fences written before anything is sent.
use sonde_proto::{
    VisitId,
    coordinator::v1::{AttemptStarted, CrawlState, crawl_event},
    visit::v1::Command,
};
use sonde_runtime::clock::Mono;

use super::{
    Engine,
    book::{Running, policy_of},
    plan::{LeaseInput, Plan},
};
use crate::{
    schedule::{Assignment, Candidate, CrawlLoad, FreeSlot, Problem, schedule},
    store::{
        CrawlKey, CrawlKind, CrawlRow, NewAttempt, StoreError, Tx, VisitRow, crawls_by_key, due_visits,
        next_due,
    },
    visit::{Event, apply},
};

/// Due visits looked at in one go where politeness may hold some back.
const PAGE: usize = 256;
/// Crawls looked at in one round, best first.
const CRAWLS: usize = 64;
/// Crawls that have not ended; further ones are refused.
pub(crate) const MAX_ACTIVE_CRAWLS: u64 = 10_000;

/// A lease that is on disk, to be sent.
pub(super) struct Lease {
    pub running: Running,
    pub site_rank: Option<i64>,
    pub commands: Vec<Command>,
    pub fresh_browser: bool,
}

#[derive(Default)]
pub(super) struct Leased {
    pub leases: Vec<Lease>,
    pub wake: Option<i64>,
    pub site_ready: Option<Mono>,
}

impl Engine {
    /// Adds what may be leased to the plan, if anything may.
    pub(super) fn ask_for_leases(&mut self, plan: &mut Plan) {
        if !self.storage_ok || self.draining.is_some() || self.outbox_full {
            return;
        }
        let mut crawls: Vec<CrawlLoad> = self
            .crawls
            .values()
            .filter_map(|book| {
                let row = &book.row;
                let paused = plan
                    .states
                    .iter()
                    .any(|change| change.crawl == row.key && change.state != CrawlState::Running);
                let resumed = plan
                    .states
                    .iter()
                    .any(|change| change.crawl == row.key && change.state == CrawlState::Running);
                let may = (row.state == CrawlState::Running && !paused) || resumed;
                // Visits requeued in this very round are not counted in the row yet.
                let waits = row.queued > 0
                    || plan.touched.contains(&row.key)
                    || plan.ends.iter().any(|e| e.crawl == row.key);
                (may && waits).then(|| CrawlLoad {
                    key: row.key,
                    priority: row.spec.priority,
                    running: self.running.values().filter(|r| r.crawl == row.key).count() as u64,
                    max_parallel: row.spec.max_parallel,
                    kind: book.browser,
                    politeness: book.politeness,
                })
            })
            .collect();
        crawls.retain(CrawlLoad::has_room);
        let now = Mono::now();
        let rested = self.slots.values().filter_map(|slot| slot.rested_at(now)).min();
        if let Some(at) = rested {
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
        let free: Vec<_> = self.slots.values().filter(|slot| slot.is_free(now)).collect();
        if crawls.is_empty() || free.is_empty() {
            return;
        }
        crawls.sort_by_key(|c| (std::cmp::Reverse(c.priority), c.running, c.key));
        crawls.truncate(CRAWLS);
        let slots = free.iter().map(|slot| FreeSlot {
            browser_id: slot.browser_id,
            kinds: slot.ready_kinds(now),
            last_crawl: slot.last_crawl,
        });
        let places =
            free.iter().map(|slot| (slot.endpoint.clone(), slot.instance_id.clone().unwrap_or_default()));
        plan.lease = Some(LeaseInput {
            slots: slots.collect(),
            places: places.collect(),
            crawls,
            sites: self.sites.clone(),
            now,
        });
    }
}

pub(super) fn lease(tx: &mut Tx<'_>, input: &LeaseInput, now_us: i64) -> Result<Leased, StoreError> {
    let (mut slots, mut places) = (input.slots.clone(), input.places.clone());
    let (mut crawls, mut sites) = (input.crawls.clone(), (*input.sites).clone());
    // As they are after what this round did before: one may have been paused by its failures.
    let keys: Vec<CrawlKey> = crawls.iter().map(|c| c.key).collect();
    let mut open = crawls_by_key(tx.conn(), &keys)?;
    open.retain(|row| row.state == CrawlState::Running);
    crawls.retain(|c| open.iter().any(|row| row.key == c.key));
    let mut leased = Leased::default();
    loop {
        let mut rows: Vec<VisitRow> = Vec::new();
        for crawl in crawls.iter().filter(|c| c.has_room()) {
            let blocked = if crawl.politeness.is_none() {
                Vec::new()
            } else {
                sites.blocked(&crawl.politeness, input.now)
            };
            let limit = if crawl.politeness.is_none() { slots.len() } else { PAGE };
            rows.extend(due_visits(tx.conn(), crawl.key, now_us, &blocked, limit)?);
        }
        let candidates: Vec<Candidate> = rows.iter().map(candidate).collect();
        let problem = Problem {
            slots: &slots,
            crawls: &crawls,
            candidates: &candidates,
            sites: &sites,
            now: input.now,
        };
        let assignments = schedule(&problem);
        for Assignment { slot, candidate } in &assignments {
            let row = &rows[*candidate];
            let crawl = crawls.iter_mut().find(|c| c.key == row.crawl);
            crawl.into_iter().for_each(|c| c.running += 1);
            sites.begin(&row.site);
            leased.leases.push(write_lease(tx, row, &open, slots[*slot].browser_id, &places[*slot], now_us)?);
        }
        let mut taken: Vec<usize> = assignments.iter().map(|a| a.slot).collect();
        taken.sort_unstable_by(|a, b| b.cmp(a));
        for slot in taken {
            slots.remove(slot);
            places.remove(slot);
        }
        let polite = crawls.iter().any(|c| !c.politeness.is_none());
        if assignments.is_empty() || slots.is_empty() || !polite {
            break;
        }
    }
    if !slots.is_empty() {
        for crawl in &crawls {
            let due = next_due(tx.conn(), crawl.key, now_us)?;
            leased.wake = [leased.wake, due].into_iter().flatten().min();
            let ready = sites.next_ready(&crawl.politeness, input.now);
            leased.site_ready = [leased.site_ready, ready].into_iter().flatten().min();
        }
    }
    Ok(leased)
}

fn candidate(row: &VisitRow) -> Candidate {
    Candidate { crawl: row.crawl, site: row.site.clone(), avoid: row.machine.crashed_on.last().copied() }
}

fn write_lease(
    tx: &mut Tx<'_>,
    row: &VisitRow,
    crawls: &[CrawlRow],
    browser_id: u32,
    (endpoint, instance_id): &(String, String),
    now_us: i64,
) -> Result<Lease, StoreError> {
    let crawl = crawls.iter().find(|crawl| crawl.key == row.crawl);
    let crawl = crawl.ok_or_else(|| StoreError::Damaged(format!("crawl {}, not asked for,", row.crawl.0)))?;
    let (fence, visit_id) = (tx.next_fence()?, VisitId::random().get());
    let policy = policy_of(&crawl.spec, crawl.kind);
    let (machine, _) = apply(&row.machine, Event::Leased { fence, browser_id }, &policy, now_us, 0.0)
        .map_err(|error| StoreError::Damaged(format!("visit {}: {error}; it", row.visit_no)))?;
    tx.lease_visit(row, &machine, visit_id)?;
    let attempt = machine.attempts;
    tx.insert_attempt(&NewAttempt {
        visit_id,
        crawl: row.crawl,
        visit_no: row.visit_no,
        attempt,
        fence,
        browser_id,
        endpoint: endpoint.clone(),
        instance_id: instance_id.clone(),
        leased_at: now_us,
        result: None,
    })?;
    let started =
        AttemptStarted { visit_no: row.visit_no, url: row.url.clone(), visit_id, attempt, browser_id };
    tx.event(row.crawl, now_us, crawl_event::Event::AttemptStarted(started))?;
    let fresh_browser = row.machine.fresh_browser;
    let commands = match (row.commands.is_empty(), crawl.kind) {
        (_, CrawlKind::Driven) => Vec::new(),
        (true, _) => crawl.spec.commands.clone(),
        (false, _) => row.commands.clone(),
    };
    let running = Running {
        crawl: row.crawl,
        crawl_id: crawl.crawl_id.clone(),
        kind: crawl.kind,
        spec: crawl.spec.clone(),
        visit_no: row.visit_no,
        url: row.url.clone(),
        site: row.site.clone(),
        visit_id,
        fence,
        attempt,
        browser_id,
        instance_id: instance_id.clone(),
        leased_at: now_us,
        machine,
        sealing: false,
    };
    Ok(Lease { running, site_rank: row.site_rank, commands, fresh_browser })
}
