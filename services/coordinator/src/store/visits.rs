//! Visits: adding, finding what is due, and what becomes of them.
use prost::Message;
use rusqlite::{Connection, params};
use sonde_proto::{
    coordinator::v1::VisitState,
    visit::v1::{Command, CommandSequence, Failure, Outcome},
};

use super::model::{
    ENDED, ENDING_QUEUED, ENDING_RUNNING, QUEUED, RUNNING, VISIT_COLUMNS, states_of, visit_row,
};
use super::{CrawlKey, Shown, StoreError, Tx, VisitRow};
use crate::visit::{Stage, Visit};

/// A checked line of a site list.
#[derive(Clone, Debug)]
pub(crate) struct NewVisit {
    /// 0: the next free one.
    pub line_no: i64,
    pub url: String,
    pub site: String,
    pub site_rank: Option<i64>,
    pub commands: Vec<Command>,
}

impl Tx<'_> {
    /// Adds visits; those whose number is there already are left as they are. Says how many were new.
    pub fn add_visits(&mut self, crawl: CrawlKey, visits: &[NewVisit]) -> Result<u64, StoreError> {
        let mut last: i64 =
            self.conn.query_row("SELECT last_no FROM crawls WHERE key = ?1", [crawl.0], |row| row.get(0))?;
        let mut added = 0;
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO visits (crawl, visit_no, url, site, site_rank, commands, state) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1) ON CONFLICT DO NOTHING",
        )?;
        for visit in visits {
            let number = if visit.line_no > 0 { visit.line_no } else { last + 1 };
            last = last.max(number);
            let commands = (!visit.commands.is_empty()).then(|| {
                CommandSequence { url: String::new(), commands: visit.commands.clone() }.encode_to_vec()
            });
            added +=
                insert.execute(params![crawl.0, number, visit.url, visit.site, visit.site_rank, commands])?;
        }
        self.conn.execute("UPDATE crawls SET last_no = ?2 WHERE key = ?1", [crawl.0, last])?;
        self.count_added(crawl, added as i64)?;
        Ok(added as u64)
    }

    /// Writes a visit that was leased: it runs now.
    pub fn lease_visit(&mut self, row: &VisitRow, next: &Visit, visit_id: i64) -> Result<(), StoreError> {
        self.save(row.crawl, row.visit_no, next, RUNNING, None, None, Some(visit_id))?;
        self.count_leased(row.crawl)
    }

    /// Writes a visit that waits for its next attempt.
    pub fn requeue_visit(
        &mut self,
        crawl: CrawlKey,
        visit_no: i64,
        next: &Visit,
        failure: &Failure,
        visit_id: i64,
    ) -> Result<(), StoreError> {
        self.save(crawl, visit_no, next, QUEUED, None, Some(failure), Some(visit_id))?;
        self.count_requeued(crawl)
    }

    /// Writes a visit's outcome, which outsiders see only after [`Tx::show_outcome`].
    pub fn end_visit(
        &mut self,
        crawl: CrawlKey,
        visit_no: i64,
        next: &Visit,
        from: Shown,
        failure: Option<&Failure>,
        visit_id: Option<i64>,
    ) -> Result<(), StoreError> {
        let Stage::Ended(outcome) = next.stage else {
            return Err(StoreError::Damaged(format!(
                "visit {visit_no} of crawl {}: no outcome, it",
                crawl.0
            )));
        };
        let state = match from {
            Shown::Queued => ENDING_QUEUED,
            Shown::Running => ENDING_RUNNING,
        };
        self.save(crawl, visit_no, next, state, Some(outcome), failure, visit_id)
    }

    /// Storage has the outcome: it becomes visible and is counted. False when it was before.
    pub fn show_outcome(&mut self, crawl: CrawlKey, visit_no: i64) -> Result<bool, StoreError> {
        let found = {
            let mut state = self
                .conn
                .prepare_cached("SELECT state, outcome FROM visits WHERE crawl = ?1 AND visit_no = ?2")?;
            state.query_row([crawl.0, visit_no], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i32>>(1)?))
            })?
        };
        let from = match found.0 {
            ENDING_QUEUED => Shown::Queued,
            ENDING_RUNNING => Shown::Running,
            _ => return Ok(false),
        };
        let outcome = found.1.and_then(|o| Outcome::try_from(o).ok()).unwrap_or_default();
        self.conn
            .prepare_cached("UPDATE visits SET state = ?3 WHERE crawl = ?1 AND visit_no = ?2")?
            .execute(params![crawl.0, visit_no, ENDED])?;
        self.count_ended(crawl, from, outcome)?;
        Ok(true)
    }

    #[expect(clippy::too_many_arguments, reason = "one UPDATE")]
    fn save(
        &mut self,
        crawl: CrawlKey,
        visit_no: i64,
        next: &Visit,
        state: i64,
        outcome: Option<Outcome>,
        failure: Option<&Failure>,
        visit_id: Option<i64>,
    ) -> Result<(), StoreError> {
        let not_before = match next.stage {
            Stage::Queued { not_before } => not_before,
            _ => 0,
        };
        let crashed_on: String = next.crashed_on.iter().map(|b| format!("{b},")).collect();
        let mut update = self.conn.prepare_cached(
            "UPDATE visits SET state = ?3, not_before = ?4, attempts = ?5, retries = ?6, losses = ?7, crashed_on = ?8, \
             fresh = ?9, fence = ?10, outcome = ?11, failure = ?12, visit_id = ?13 \
             WHERE crawl = ?1 AND visit_no = ?2 AND outcome IS NULL",
        )?;
        let changed = update.execute(params![
            crawl.0,
            visit_no,
            state,
            not_before,
            next.attempts,
            next.retries,
            next.losses,
            crashed_on,
            next.fresh_browser,
            next.fence,
            outcome.map(|o| o as i32),
            failure.map(Message::encode_to_vec),
            visit_id
        ])?;
        // The last line of defence for "exactly one outcome": it never happens, and would be undone.
        if changed != 1 {
            let what = format!("visit {visit_no} of crawl {}: it has its outcome already and", crawl.0);
            return Err(StoreError::Damaged(what));
        }
        Ok(())
    }
}

/// Queued visits that are due, retries first, then in order of their numbers; none of the `blocked` sites.
pub(crate) fn due_visits(
    conn: &Connection,
    crawl: CrawlKey,
    now_us: i64,
    blocked: &[&str],
    limit: usize,
) -> Result<Vec<VisitRow>, StoreError> {
    let mut found = Vec::new();
    for (from, to) in [(1, now_us), (0, 0)] {
        let except =
            if blocked.is_empty() { "" } else { "AND site NOT IN (SELECT value FROM json_each(?5))" };
        let mut page = conn.prepare_cached(&format!(
            "SELECT {VISIT_COLUMNS} FROM visits WHERE crawl = ?1 AND state = 1 AND not_before BETWEEN ?2 AND ?3 \
             {except} ORDER BY not_before, visit_no LIMIT ?4"
        ))?;
        let mut rows = if blocked.is_empty() {
            page.query(params![crawl.0, from, to, limit as i64])?
        } else {
            let names = serde_json::Value::from(blocked.to_vec()).to_string();
            page.query(params![crawl.0, from, to, limit as i64, names])?
        };
        while let Some(row) = rows.next()? {
            found.push(visit_row(row)?);
        }
    }
    Ok(found)
}

/// When the next visit that waits for a retry is due.
pub(crate) fn next_due(conn: &Connection, crawl: CrawlKey, now_us: i64) -> Result<Option<i64>, StoreError> {
    let mut first = conn.prepare_cached(
        "SELECT MIN(not_before) FROM visits WHERE crawl = ?1 AND state = 1 AND not_before > ?2",
    )?;
    Ok(first.query_row([crawl.0, now_us], |row| row.get(0))?)
}

pub(crate) fn visit(
    conn: &Connection,
    crawl: CrawlKey,
    visit_no: i64,
) -> Result<Option<VisitRow>, StoreError> {
    let mut one = conn
        .prepare_cached(&format!("SELECT {VISIT_COLUMNS} FROM visits WHERE crawl = ?1 AND visit_no = ?2"))?;
    let mut rows = one.query([crawl.0, visit_no])?;
    rows.next()?.map(visit_row).transpose()
}

/// Which visits to list; none of a kind: all.
#[derive(Clone, Debug, Default)]
pub(crate) struct VisitFilter {
    pub states: Vec<VisitState>,
    pub outcomes: Vec<Outcome>,
    /// Only those that wait in the queue for real, none whose outcome is on its way.
    pub leasable: bool,
}

/// By number, after `after`.
pub(crate) fn visit_page(
    conn: &Connection,
    crawl: CrawlKey,
    filter: &VisitFilter,
    after: i64,
    limit: usize,
) -> Result<Vec<VisitRow>, StoreError> {
    let mut sql = format!("SELECT {VISIT_COLUMNS} FROM visits WHERE crawl = ?1 AND visit_no > ?2");
    let list = |values: Vec<String>| values.join(",");
    if filter.leasable {
        sql += " AND state = 1";
    } else if !filter.states.is_empty() {
        let states = filter.states.iter().flat_map(|s| states_of(*s)).map(i64::to_string).collect();
        sql += &format!(" AND state IN ({})", list(states));
    }
    if !filter.outcomes.is_empty() {
        let outcomes = filter.outcomes.iter().map(|o| (*o as i32).to_string()).collect();
        sql += &format!(" AND state = {ENDED} AND outcome IN ({})", list(outcomes));
    }
    sql += " ORDER BY visit_no LIMIT ?3";
    let mut page = conn.prepare_cached(&sql)?;
    let mut rows = page.query(params![crawl.0, after, limit as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(visit_row(row)?);
    }
    Ok(found)
}
