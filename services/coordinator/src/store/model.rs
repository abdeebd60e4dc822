//! Rows as the rest of the crate sees them.
use std::sync::Arc;

use prost::Message;
use rusqlite::Row;
use sonde_proto::{
    coordinator::v1::{CrawlSpec, CrawlState, VisitState},
    visit::v1::{Command, CommandSequence, Failure, Outcome},
};

use super::StoreError;
use crate::visit::{Stage, Visit};

/// A crawl's number within this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CrawlKey(pub i64);

/// Who waits for a crawl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrawlKind {
    /// Nobody in particular: it outlives its submitter.
    Campaign = 0,
    /// The caller of RunVisit.
    Single = 1,
    /// The caller of Drive.
    Driven = 2,
}

#[derive(Clone, Debug)]
pub(crate) struct CrawlRow {
    pub key: CrawlKey,
    pub crawl_id: String,
    pub spec: Arc<CrawlSpec>,
    pub kind: CrawlKind,
    pub state: CrawlState,
    pub reason: String,
    pub sealed: bool,
    pub created_at: i64,
    pub ended_at: Option<i64>,
    pub last_sequence: i64,
    pub total: u64,
    pub queued: u64,
    pub running: u64,
    pub attempts: u64,
    /// By the outcome's number, from 1.
    pub outcomes: [u64; 8],
    /// Its hooks have ended everywhere.
    pub hooks_ended: bool,
}

impl CrawlRow {
    /// No more visits come, and each has its outcome.
    pub fn visits_are_over(&self) -> bool {
        self.sealed && self.total == self.outcomes.iter().sum::<u64>()
    }

    /// Whether it has hooks that have not ended.
    pub fn has_hooks(&self) -> bool {
        self.spec.hooks.is_some() && !self.hooks_ended
    }
}

pub(super) const CRAWL_COLUMNS: &str = "key, crawl_id, spec, kind, state, reason, sealed, created_at, ended_at, \
    last_sequence, total, queued, running, attempts, o1, o2, o3, o4, o5, o6, o7, o8, hooks_ended";

fn counter(row: &Row<'_>, column: usize) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

pub(super) fn crawl_row(row: &Row<'_>) -> Result<CrawlRow, StoreError> {
    let crawl_id: String = row.get(1)?;
    let damaged = |what: &str| StoreError::Damaged(format!("the {what} of crawl {crawl_id}"));
    let spec = CrawlSpec::decode(row.get_ref(2)?.as_blob().map_err(|_| damaged("spec"))?)
        .map_err(|_| damaged("spec"))?;
    let mut outcomes = [0; 8];
    for (i, count) in outcomes.iter_mut().enumerate() {
        *count = counter(row, 14 + i)?;
    }
    Ok(CrawlRow {
        key: CrawlKey(row.get(0)?),
        spec: Arc::new(spec),
        kind: match row.get::<_, i64>(3)? {
            0 => CrawlKind::Campaign,
            1 => CrawlKind::Single,
            2 => CrawlKind::Driven,
            _ => return Err(damaged("kind")),
        },
        state: CrawlState::try_from(row.get::<_, i32>(4)?).map_err(|_| damaged("state"))?,
        reason: row.get(5)?,
        sealed: row.get(6)?,
        created_at: row.get(7)?,
        ended_at: row.get(8)?,
        last_sequence: row.get(9)?,
        total: counter(row, 10)?,
        queued: counter(row, 11)?,
        running: counter(row, 12)?,
        attempts: counter(row, 13)?,
        outcomes,
        hooks_ended: row.get(22)?,
        crawl_id,
    })
}

/// How a visit is shown and counted while storage has not confirmed its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Queued,
    Running,
}

pub(super) const QUEUED: i64 = 1;
pub(super) const RUNNING: i64 = 2;
pub(super) const ENDED: i64 = 3;
pub(super) const ENDING_QUEUED: i64 = 4;
pub(super) const ENDING_RUNNING: i64 = 5;

pub(super) fn states_of(shown: VisitState) -> &'static [i64] {
    match shown {
        VisitState::Unspecified => &[],
        VisitState::Queued => &[QUEUED, ENDING_QUEUED],
        VisitState::Running => &[RUNNING, ENDING_RUNNING],
        VisitState::Ended => &[ENDED],
    }
}

#[derive(Clone, Debug)]
pub(crate) struct VisitRow {
    pub crawl: CrawlKey,
    pub visit_no: i64,
    pub url: String,
    pub site: String,
    pub site_rank: Option<i64>,
    /// None: the crawl's.
    pub commands: Vec<Command>,
    /// As outsiders may see it.
    pub shown: VisitState,
    /// Only once storage confirmed it.
    pub outcome: Option<Outcome>,
    pub failure: Option<Failure>,
    pub visit_id: Option<i64>,
    pub machine: Visit,
}

pub(super) const VISIT_COLUMNS: &str = "crawl, visit_no, url, site, site_rank, commands, state, not_before, attempts, \
    retries, losses, crashed_on, fresh, fence, outcome, failure, visit_id";

/// `browser_id` of a running visit is known to its attempt only; the caller sets it.
pub(super) fn visit_row(row: &Row<'_>) -> Result<VisitRow, StoreError> {
    let (crawl, visit_no) = (CrawlKey(row.get(0)?), row.get(1)?);
    let damaged =
        |what: &str| StoreError::Damaged(format!("the {what} of visit {visit_no} of crawl {}", crawl.0));
    let state: i64 = row.get(6)?;
    let outcome: Option<i32> = row.get(14)?;
    let outcome = outcome.map(Outcome::try_from).transpose().map_err(|_| damaged("outcome"))?;
    let commands = match row.get::<_, Option<Vec<u8>>>(5)? {
        Some(bytes) => CommandSequence::decode(bytes.as_slice()).map_err(|_| damaged("commands"))?.commands,
        None => Vec::new(),
    };
    let failure = match row.get::<_, Option<Vec<u8>>>(15)? {
        Some(bytes) => Some(Failure::decode(bytes.as_slice()).map_err(|_| damaged("failure"))?),
        None => None,
    };
    let crashed: String = row.get(11)?;
    let crashed_on = crashed.split_terminator(',').map(str::parse).collect::<Result<_, _>>();
    let fence = row.get(13)?;
    let stage = match (state, outcome) {
        (QUEUED, _) => Stage::Queued { not_before: row.get(7)? },
        (RUNNING, _) => Stage::Running { fence, browser_id: 0 },
        (_, Some(outcome)) => Stage::Ended(outcome),
        _ => return Err(damaged("state")),
    };
    Ok(VisitRow {
        crawl,
        visit_no,
        url: row.get(2)?,
        site: row.get(3)?,
        site_rank: row.get(4)?,
        commands,
        shown: match state {
            QUEUED | ENDING_QUEUED => VisitState::Queued,
            RUNNING | ENDING_RUNNING => VisitState::Running,
            _ => VisitState::Ended,
        },
        outcome: outcome.filter(|_| state == ENDED),
        failure,
        visit_id: row.get(16)?,
        machine: Visit {
            stage,
            attempts: row.get(8)?,
            retries: row.get(9)?,
            losses: row.get(10)?,
            crashed_on: crashed_on.map_err(|_| damaged("crashes"))?,
            fresh_browser: row.get(12)?,
            fence,
        },
    })
}
