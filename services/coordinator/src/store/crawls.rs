//! Crawls, their events, and politeness over restarts.
use prost::Message;
use rusqlite::{Connection, params};
use sonde_proto::coordinator::v1::{CrawlEvent, CrawlSpec, CrawlState, CrawlStateChanged, crawl_event};

use super::model::{CRAWL_COLUMNS, crawl_row};
use super::{CrawlKey, CrawlKind, CrawlRow, StoreError, Tx};

/// A crawl to be made.
pub(crate) struct NewCrawl {
    pub crawl_id: String,
    pub request_id: Option<String>,
    /// As it was submitted, to compare repeated requests with.
    pub submitted: CrawlSpec,
    /// With defaults filled in.
    pub spec: CrawlSpec,
    pub kind: CrawlKind,
}

impl Tx<'_> {
    pub fn insert_crawl(&mut self, new: &NewCrawl, now_us: i64) -> Result<CrawlKey, StoreError> {
        self.conn
            .prepare_cached(
                "INSERT INTO crawls (crawl_id, request_id, submitted, spec, kind, state, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                new.crawl_id,
                new.request_id,
                new.submitted.encode_to_vec(),
                new.spec.encode_to_vec(),
                new.kind as i64,
                CrawlState::Running as i64,
                now_us
            ])?;
        let key = CrawlKey(self.conn.last_insert_rowid());
        self.state_event(key, CrawlState::Running, "created", now_us)?;
        Ok(key)
    }

    /// Changes a crawl's state with its event. Entering a paused or running state starts a new streak.
    pub fn set_crawl_state(
        &mut self,
        crawl: CrawlKey,
        state: CrawlState,
        reason: &str,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let ended = (state == CrawlState::Ended).then_some(now_us);
        self.conn
            .prepare_cached("UPDATE crawls SET state = ?2, reason = ?3, ended_at = ?4 WHERE key = ?1")?
            .execute(params![crawl.0, state as i64, reason, ended])?;
        self.streak(crawl, false)?;
        self.state_event(crawl, state, reason, now_us)
    }

    fn state_event(
        &mut self,
        crawl: CrawlKey,
        state: CrawlState,
        reason: &str,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let changed = CrawlStateChanged { state: state.into(), reason: reason.into() };
        self.event(crawl, now_us, crawl_event::Event::CrawlState(changed))
    }

    pub fn seal_crawl(&mut self, crawl: CrawlKey) -> Result<(), StoreError> {
        self.conn.prepare_cached("UPDATE crawls SET sealed = 1 WHERE key = ?1")?.execute([crawl.0])?;
        Ok(())
    }

    /// The crawl waits for its hooks no more.
    pub fn hooks_ended(&mut self, crawl: CrawlKey) -> Result<(), StoreError> {
        self.conn.prepare_cached("UPDATE crawls SET hooks_ended = 1 WHERE key = ?1")?.execute([crawl.0])?;
        Ok(())
    }

    pub fn note_site_end(&mut self, site: &str, now_us: i64) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO site_ends (site, ended_at) VALUES (?1, ?2)")?
            .execute(params![site, now_us])?;
        Ok(())
    }

    /// Forgets ends of visits before `before_us`.
    pub fn prune_site_ends(&mut self, before_us: i64) -> Result<(), StoreError> {
        self.conn.execute("DELETE FROM site_ends WHERE ended_at < ?1", [before_us])?;
        Ok(())
    }
}

fn one(
    conn: &Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
) -> Result<Option<CrawlRow>, StoreError> {
    let mut found =
        conn.prepare_cached(&format!("SELECT {CRAWL_COLUMNS} FROM crawls WHERE {condition} = ?1"))?;
    let mut rows = found.query([value])?;
    rows.next()?.map(crawl_row).transpose()
}

pub(crate) fn crawl_by_id(conn: &Connection, crawl_id: &str) -> Result<Option<CrawlRow>, StoreError> {
    one(conn, "crawl_id", crawl_id)
}

pub(crate) fn crawl_key(conn: &Connection, key: CrawlKey) -> Result<Option<CrawlRow>, StoreError> {
    one(conn, "key", key.0)
}

/// With the spec as it was submitted.
pub(crate) fn crawl_by_request(
    conn: &Connection,
    request_id: &str,
) -> Result<Option<(CrawlRow, CrawlSpec)>, StoreError> {
    let Some(row) = one(conn, "request_id", request_id)? else { return Ok(None) };
    let submitted: Vec<u8> =
        conn.query_row("SELECT submitted FROM crawls WHERE key = ?1", [row.key.0], |r| r.get(0))?;
    let submitted = CrawlSpec::decode(submitted.as_slice())
        .map_err(|_| StoreError::Damaged(format!("the request of crawl {}", row.crawl_id)))?;
    Ok(Some((row, submitted)))
}

pub(crate) fn crawls_by_key(conn: &Connection, keys: &[CrawlKey]) -> Result<Vec<CrawlRow>, StoreError> {
    keys.iter().filter_map(|key| crawl_key(conn, *key).transpose()).collect()
}

/// Newest first, before `before` ("" for the newest of all).
pub(crate) fn crawl_page(conn: &Connection, before: &str, limit: usize) -> Result<Vec<CrawlRow>, StoreError> {
    let mut page = conn.prepare_cached(&format!(
        "SELECT {CRAWL_COLUMNS} FROM crawls WHERE ?1 = '' OR crawl_id < ?1 ORDER BY crawl_id DESC LIMIT ?2"
    ))?;
    let mut rows = page.query(params![before, limit as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(crawl_row(row)?);
    }
    Ok(found)
}

pub(crate) fn active_crawls(conn: &Connection) -> Result<Vec<CrawlRow>, StoreError> {
    let mut page =
        conn.prepare_cached(&format!("SELECT {CRAWL_COLUMNS} FROM crawls WHERE state <> 4 ORDER BY key"))?;
    let mut rows = page.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(crawl_row(row)?);
    }
    Ok(found)
}

pub(crate) fn count_active(conn: &Connection) -> Result<u64, StoreError> {
    let mut count = conn.prepare_cached("SELECT COUNT(*) FROM crawls WHERE state <> 4")?;
    Ok(count.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Durable events after a sequence number, in order.
pub(crate) fn events_after(
    conn: &Connection,
    crawl: CrawlKey,
    after: i64,
    limit: usize,
) -> Result<Vec<CrawlEvent>, StoreError> {
    let mut page = conn.prepare_cached(
        "SELECT payload FROM events WHERE crawl = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let mut rows = page.query(params![crawl.0, after, limit as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(0)?.as_blob().map_err(|_| StoreError::Damaged("an event".into()))?;
        let event = CrawlEvent::decode(bytes)
            .map_err(|_| StoreError::Damaged(format!("an event of crawl {} after {after}", crawl.0)))?;
        found.push(event);
    }
    Ok(found)
}

/// Sites visited since, with the time of the end.
pub(crate) fn recent_site_ends(conn: &Connection, since_us: i64) -> Result<Vec<(String, i64)>, StoreError> {
    let mut page = conn.prepare_cached(
        "SELECT site, ended_at FROM site_ends WHERE ended_at >= ?1 ORDER BY ended_at DESC LIMIT 65536",
    )?;
    let rows = page.query_map([since_us], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
