//! Attempts, fences, and the slots that run them.
use prost::Message;
use rusqlite::{Connection, Row, params};
use sonde_proto::{BrowserId, browser::v1::BrowserEvent, visit::v1::AttemptResult};

use super::{CrawlKey, StoreError, Tx};

#[derive(Clone, Debug)]
pub(crate) struct AttemptRow {
    pub visit_id: i64,
    pub crawl: CrawlKey,
    pub visit_no: i64,
    pub attempt: u32,
    pub fence: i64,
    pub browser_id: u32,
    pub endpoint: String,
    pub instance_id: String,
    pub leased_at: i64,
    pub result: Option<AttemptResult>,
}

/// A lease to be written.
pub(crate) type NewAttempt = AttemptRow;

/// A slot and what its browser last said of itself.
#[derive(Clone, Debug)]
pub(crate) struct SlotRow {
    pub endpoint: String,
    pub slot: u32,
    pub browser_id: u32,
    pub started: Option<BrowserEvent>,
}

const COLUMNS: &str =
    "visit_id, crawl, visit_no, attempt, fence, browser_id, endpoint, instance_id, leased_at, result";

fn attempt_row(row: &Row<'_>) -> Result<AttemptRow, StoreError> {
    let visit_id = row.get(0)?;
    let result = match row.get::<_, Option<Vec<u8>>>(9)? {
        Some(bytes) => Some(
            AttemptResult::decode(bytes.as_slice())
                .map_err(|_| StoreError::Damaged(format!("the result of attempt {visit_id}")))?,
        ),
        None => None,
    };
    Ok(AttemptRow {
        visit_id,
        crawl: CrawlKey(row.get(1)?),
        visit_no: row.get(2)?,
        attempt: row.get(3)?,
        fence: row.get(4)?,
        browser_id: row.get(5)?,
        endpoint: row.get(6)?,
        instance_id: row.get(7)?,
        leased_at: row.get(8)?,
        result,
    })
}

impl Tx<'_> {
    /// A fence above all others so far.
    pub fn next_fence(&mut self) -> Result<i64, StoreError> {
        let mut next = self
            .conn
            .prepare_cached("UPDATE meta SET value = value + 1 WHERE name = 'fence' RETURNING value")?;
        Ok(next.query_row([], |row| row.get(0))?)
    }

    /// A random number that stays the same for this data directory's task, made anew at each start.
    pub fn set_task_id(&mut self, task_id: i64) -> Result<(), StoreError> {
        self.conn.execute("INSERT OR REPLACE INTO meta VALUES ('task_id', ?1)", [task_id])?;
        Ok(())
    }

    pub fn insert_attempt(&mut self, new: &NewAttempt) -> Result<(), StoreError> {
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO attempts (visit_id, crawl, visit_no, attempt, fence, browser_id, endpoint, instance_id, leased_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        insert.execute(params![
            new.visit_id,
            new.crawl.0,
            new.visit_no,
            new.attempt,
            new.fence,
            new.browser_id,
            new.endpoint,
            new.instance_id,
            new.leased_at
        ])?;
        Ok(())
    }

    pub fn end_attempt(&mut self, visit_id: i64, result: &AttemptResult) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("UPDATE attempts SET result = ?2 WHERE visit_id = ?1 AND result IS NULL")?
            .execute(params![visit_id, result.encode_to_vec()])?;
        Ok(())
    }

    /// The slot's id, drawn when it is seen first and the same ever after.
    pub fn slot(&mut self, endpoint: &str, slot: u32) -> Result<SlotRow, StoreError> {
        loop {
            self.conn.execute(
                "INSERT OR IGNORE INTO slots (endpoint, slot, browser_id) VALUES (?1, ?2, ?3)",
                params![endpoint, slot, BrowserId::random().0],
            )?;
            // Absent only when the id drawn is another slot's.
            if let Some(row) = known_slots(self.conn, endpoint)?.into_iter().find(|row| row.slot == slot) {
                return Ok(row);
            }
        }
    }

    pub fn browser_started(&mut self, browser_id: u32, event: &BrowserEvent) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("UPDATE slots SET started = ?2 WHERE browser_id = ?1")?
            .execute(params![browser_id, event.encode_to_vec()])?;
        Ok(())
    }
}

pub(crate) fn known_slots(conn: &Connection, endpoint: &str) -> Result<Vec<SlotRow>, StoreError> {
    let mut page = conn.prepare_cached(
        "SELECT endpoint, slot, browser_id, started FROM slots WHERE endpoint = ?1 ORDER BY slot",
    )?;
    let mut rows = page.query([endpoint])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let started: Option<Vec<u8>> = row.get(3)?;
        let started = started.map(|bytes| BrowserEvent::decode(bytes.as_slice())).transpose();
        found.push(SlotRow {
            endpoint: row.get(0)?,
            slot: row.get(1)?,
            browser_id: row.get(2)?,
            started: started.map_err(|_| StoreError::Damaged(format!("a slot of {endpoint}")))?,
        });
    }
    Ok(found)
}

/// Attempts that were leased and have no result.
pub(crate) fn running_attempts(conn: &Connection) -> Result<Vec<AttemptRow>, StoreError> {
    page(conn, "result IS NULL ORDER BY fence", [])
}

/// A visit's attempts, oldest first.
pub(crate) fn attempts_of(
    conn: &Connection,
    crawl: CrawlKey,
    visit_no: i64,
) -> Result<Vec<AttemptRow>, StoreError> {
    page(conn, "crawl = ?1 AND visit_no = ?2 ORDER BY fence", [crawl.0, visit_no])
}

/// The browser-services that served a crawl.
pub(crate) fn endpoints_of(conn: &Connection, crawl: CrawlKey) -> Result<Vec<String>, StoreError> {
    let mut all =
        conn.prepare_cached("SELECT DISTINCT endpoint FROM attempts WHERE crawl = ?1 ORDER BY endpoint")?;
    let rows = all.query_map([crawl.0], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn page(
    conn: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<AttemptRow>, StoreError> {
    let mut page = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM attempts WHERE {condition}"))?;
    let mut rows = page.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(attempt_row(row)?);
    }
    Ok(found)
}
