//! Rows for storage that it has not confirmed yet.
use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};
use sonde_proto::{
    coordinator::v1::{VisitEnded, crawl_event},
    storage::v1::LedgerRow,
};

use super::{CrawlKey, StoreError, Tx};

#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    pub id: i64,
    pub ledger: LedgerRow,
}

impl Tx<'_> {
    pub fn push_ledger(&mut self, row: &LedgerRow) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("INSERT INTO outbox (ledger) VALUES (?1)")?
            .execute([row.encode_to_vec()])?;
        Ok(())
    }

    /// An outcome: its event is written when storage has confirmed the row.
    pub fn push_outcome(
        &mut self,
        crawl: CrawlKey,
        row: &LedgerRow,
        event: &VisitEnded,
    ) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("INSERT INTO outbox (ledger, crawl, visit_no, event) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![row.encode_to_vec(), crawl.0, event.visit_no, event.encode_to_vec()])?;
        Ok(())
    }

    /// Storage has the row: takes it out and, for an outcome, makes it visible with its event.
    pub fn confirm(&mut self, id: i64, now_us: i64) -> Result<Option<CrawlKey>, StoreError> {
        type Found = (Option<i64>, Option<i64>, Option<Vec<u8>>);
        let found: Option<Found> = self
            .conn
            .prepare_cached("DELETE FROM outbox WHERE id = ?1 RETURNING crawl, visit_no, event")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((Some(crawl), Some(visit_no), Some(event))) = found else { return Ok(None) };
        let crawl = CrawlKey(crawl);
        let event = VisitEnded::decode(event.as_slice())
            .map_err(|_| StoreError::Damaged(format!("row {id} of the outbox")))?;
        if self.show_outcome(crawl, visit_no)? {
            self.event(crawl, now_us, crawl_event::Event::VisitEnded(event))?;
        }
        Ok(Some(crawl))
    }
}

/// Rows after `after`, at most `limit` and about `max_bytes`.
pub(crate) fn outbox_page(
    conn: &Connection,
    after: i64,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<OutboxRow>, StoreError> {
    let mut page = conn.prepare_cached("SELECT id, ledger FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let mut rows = page.query([after, limit as i64])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let blob = row.get_ref(1)?.as_blob().map_err(|_| StoreError::Damaged("the outbox".into()))?;
        bytes += blob.len();
        let ledger =
            LedgerRow::decode(blob).map_err(|_| StoreError::Damaged(format!("row {id} of the outbox")))?;
        found.push(OutboxRow { id, ledger });
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(found)
}

/// Rows that wait, counted up to `most`.
pub(crate) fn outbox_len(conn: &Connection, most: usize) -> Result<usize, StoreError> {
    let mut count = conn.prepare_cached("SELECT COUNT(*) FROM (SELECT 1 FROM outbox LIMIT ?1)")?;
    Ok(usize::try_from(count.query_row([most as i64], |row| row.get::<_, i64>(0))?).unwrap_or(0))
}
