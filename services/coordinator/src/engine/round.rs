//! One round's transaction: a plan in, what it did out.
use std::collections::BTreeSet;

use sonde_proto::coordinator::v1::{AttemptFailed, CrawlState, VisitEnded, crawl_event};
use sonde_runtime::clock::Mono;

use super::{
    hooks::HooksDue,
    lease::{self, Lease},
    plan::{AttemptEnd, CancelQueued, Plan},
};
use crate::{
    ledger,
    store::{
        CrawlKey, CrawlRow, Shown, StoreError, Tx, VisitFilter, crawls_by_key, endpoints_of, outbox_len,
        visit_page,
    },
    time::{timestamp, wire},
    visit::{Event, Step, apply},
};

/// Visits of a cancelled crawl that end in one round.
const CANCEL_PAGE: usize = 256;
/// Unconfirmed rows beyond which nothing is leased or cancelled.
const OUTBOX_MAX: usize = 2000;

/// What a round did.
pub(super) struct Done {
    pub leases: Vec<Lease>,
    /// The crawls it changed, as they are now.
    pub crawls: Vec<CrawlRow>,
    pub more_to_cancel: BTreeSet<CrawlKey>,
    /// Crawls whose visits have all ended, and whose hooks have not.
    pub hooks_due: Vec<HooksDue>,
    pub outbox_grew: bool,
    pub outbox_full: bool,
    /// Whether storage has yet to confirm a row.
    pub outbox_left: bool,
    /// When the next retry is due: microseconds since the epoch.
    pub wake: Option<i64>,
    /// When the next site may be visited again.
    pub site_ready: Option<Mono>,
}

pub(super) fn run(tx: &mut Tx<'_>, plan: &Plan) -> Result<Done, StoreError> {
    let mut touched = plan.touched.clone();
    for id in &plan.confirmed {
        touched.extend(tx.confirm(*id, plan.now_us)?);
    }
    for (browser_id, event) in &plan.started {
        tx.browser_started(*browser_id, event)?;
    }
    for change in &plan.states {
        tx.set_crawl_state(change.crawl, change.state, &change.reason, plan.now_us)?;
        touched.insert(change.crawl);
    }
    for (crawl, ended) in &plan.hooks_ended {
        tx.hooks_ended(*crawl)?;
        tx.event(*crawl, plan.now_us, crawl_event::Event::CrawlHooksEnded(ended.clone()))?;
        touched.insert(*crawl);
    }
    let mut outbox_grew = !plan.ledger.is_empty();
    for row in &plan.ledger {
        tx.push_ledger(row)?;
    }
    for end in &plan.ends {
        outbox_grew |= end_attempt(tx, end, plan)?;
        touched.insert(end.crawl);
    }
    let outbox_full = outbox_len(tx.conn(), OUTBOX_MAX)? >= OUTBOX_MAX;
    let mut more_to_cancel = BTreeSet::new();
    for cancel in plan.cancel.iter().filter(|_| !outbox_full) {
        let ended = cancel_queued(tx, cancel, plan.now_us)?;
        outbox_grew |= ended > 0;
        touched.insert(cancel.crawl);
        if ended == CANCEL_PAGE {
            more_to_cancel.insert(cancel.crawl);
        }
    }
    tx.flush()?;
    let leased = match &plan.lease {
        Some(input) if !outbox_full => lease::lease(tx, input, plan.now_us)?,
        _ => lease::Leased::default(),
    };
    touched.extend(leased.leases.iter().map(|lease| lease.running.crawl));
    tx.flush()?;
    let (crawls, hooks_due) = settle(tx, &touched, plan)?;
    let outbox_left = outbox_len(tx.conn(), 1)? > 0;
    Ok(Done {
        leases: leased.leases,
        crawls,
        more_to_cancel,
        hooks_due,
        outbox_grew,
        outbox_full,
        outbox_left,
        wake: leased.wake,
        site_ready: leased.site_ready,
    })
}

/// Whether storage has to be told.
fn end_attempt(tx: &mut Tx<'_>, end: &AttemptEnd, plan: &Plan) -> Result<bool, StoreError> {
    tx.end_attempt(end.result.visit_id, &end.result)?;
    if let Some(site) = &end.site {
        tx.note_site_end(site, plan.now_us)?;
    }
    let streak = tx.streak(end.crawl, end.own_fault)?;
    let visit_id = end.result.visit_id;
    let grew = match &end.step {
        Step::Run => false,
        Step::Requeue { not_before, outcome, failure } => {
            tx.requeue_visit(end.crawl, end.visit_no, &end.visit, failure, visit_id)?;
            let failed = AttemptFailed {
                visit_no: end.visit_no,
                visit_id,
                attempt: end.attempt,
                outcome: (*outcome).into(),
                failure: Some(failure.clone()),
                not_before: Some(timestamp(*not_before)),
            };
            tx.event(end.crawl, plan.now_us, crawl_event::Event::AttemptFailed(failed))?;
            false
        }
        Step::End { outcome, failure } => {
            let took = u64::try_from(plan.now_us - end.leased_at).unwrap_or(0);
            let event = VisitEnded {
                visit_no: end.visit_no,
                url: end.url.clone(),
                outcome: (*outcome).into(),
                visit_id,
                attempts: end.visit.attempts,
                failure: failure.clone(),
                commands: end.result.commands.clone(),
                seal: end.result.seal.clone(),
                took: Some(wire(std::time::Duration::from_micros(took))),
            };
            let (shown, failure) = (Shown::Running, failure.as_ref());
            tx.end_visit(end.crawl, end.visit_no, &end.visit, shown, failure, Some(visit_id))?;
            let row = ledger::outcome(&end.crawl_id, &event, end.phase.clone(), plan.now_us);
            tx.push_outcome(end.crawl, &row, &event)?;
            true
        }
    };
    if end.own_fault && streak == plan.failure_limit {
        let reason = format!(
            "{streak} attempts in a row failed by our own fault (the last: visit {}: {}); mend it, then ResumeCrawl",
            end.visit_no,
            end.result.failure.as_ref().map(|f| f.message.as_str()).unwrap_or("no reason given")
        );
        tx.flush()?;
        pause_if_running(tx, end.crawl, &reason, plan.now_us)?;
    }
    Ok(grew)
}

fn pause_if_running(tx: &mut Tx<'_>, crawl: CrawlKey, reason: &str, now_us: i64) -> Result<(), StoreError> {
    let rows = crawls_by_key(tx.conn(), &[crawl])?;
    if rows.iter().any(|row| row.state == CrawlState::Running) {
        tracing::warn!(crawl = rows[0].crawl_id, reason, "the crawl is paused");
        tx.set_crawl_state(crawl, CrawlState::Paused, reason, now_us)?;
    }
    Ok(())
}

fn cancel_queued(tx: &mut Tx<'_>, cancel: &CancelQueued, now_us: i64) -> Result<usize, StoreError> {
    let filter = VisitFilter { leasable: true, ..Default::default() };
    let page = visit_page(tx.conn(), cancel.crawl, &filter, 0, CANCEL_PAGE)?;
    for row in &page {
        let cancelled = Event::Cancelled { reason: cancel.reason.clone() };
        let (visit, step) = apply(&row.machine, cancelled, &cancel.policy, now_us, 0.0)
            .map_err(|error| StoreError::Damaged(format!("visit {}: {error}; it", row.visit_no)))?;
        let Step::End { outcome, failure } = step else { continue };
        let event = VisitEnded {
            visit_no: row.visit_no,
            url: row.url.clone(),
            outcome: outcome.into(),
            visit_id: row.visit_id.unwrap_or_default(),
            attempts: visit.attempts,
            failure: failure.clone(),
            ..Default::default()
        };
        tx.end_visit(cancel.crawl, row.visit_no, &visit, Shown::Queued, failure.as_ref(), row.visit_id)?;
        tx.push_outcome(cancel.crawl, &ledger::outcome(&cancel.crawl_id, &event, None, now_us), &event)?;
    }
    Ok(page.len())
}

/// Ends the crawls whose visits, and hooks, have all ended; says how the touched ones are now, and whose hooks are to end.
fn settle(
    tx: &mut Tx<'_>,
    touched: &BTreeSet<CrawlKey>,
    plan: &Plan,
) -> Result<(Vec<CrawlRow>, Vec<HooksDue>), StoreError> {
    let keys: Vec<CrawlKey> = touched.iter().copied().collect();
    let mut rows = crawls_by_key(tx.conn(), &keys)?;
    let mut hooks_due = Vec::new();
    for row in rows.iter_mut().filter(|row| row.state != CrawlState::Ended && row.visits_are_over()) {
        if row.has_hooks() {
            let endpoints = endpoints_of(tx.conn(), row.key)?;
            if !endpoints.is_empty() {
                hooks_due.push(HooksDue { crawl: row.key, crawl_id: row.crawl_id.clone(), endpoints });
                continue;
            }
        }
        let reason = match row.state {
            CrawlState::Cancelling => "cancelled",
            _ => "every visit has its outcome",
        };
        tx.set_crawl_state(row.key, CrawlState::Ended, reason, plan.now_us)?;
        row.state = CrawlState::Ended;
    }
    Ok((rows, hooks_due))
}
