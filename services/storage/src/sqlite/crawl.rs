//! `crawl.sqlite`: what users open.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction};
use sonde_proto::record::v1::SiteVisit;
use sonde_proto::storage::v1::LedgerRow;
use sonde_proto::visit::v1::SealSummary;

use super::connection::{self, Tuning};
use super::ingest_log::LogReader;
use super::migrate;
use super::rows::{RowWriter, Stamp};
use super::seal::{self, SealJob};
use crate::error::{OpenError, StoreError};
use crate::named::Names;

const TUNING: Tuning = Tuning { page_size: 8192, checkpoint_pages: 4000, cache_kib: 32 << 10 };

/// Batches of no visit moved in one transaction.
const DRAIN_BATCHES: usize = 64;

/// The one writer of `crawl.sqlite`; it reads the ingest log for what it seals.
pub(crate) struct CrawlDb {
    connection: Connection,
    log: LogReader,
    path: PathBuf,
    names: Names,
    /// The last batch of no visit that is in the tables.
    drained: i64,
}

impl CrawlDb {
    /// Opens or makes the database; the ingest log at `log` is there already. `now` is ISO 8601.
    pub fn open(path: &Path, log: &Path, now: &str) -> Result<Self, OpenError> {
        let store = |source| OpenError::Store { path: path.to_owned(), source };
        let mut connection = connection::writer(path, &TUNING).map_err(store)?;
        migrate::migrate(&mut connection, path, now)?;
        let log = LogReader::open(log).map_err(store)?;
        let names = Names::new(path.parent().unwrap_or(Path::new(".")));
        Ok(Self { connection, log, path: path.to_owned(), names, drained: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes ledger rows of several callers in one transaction; gives for each caller how many were new or newer.
    pub fn ledger(&mut self, visits: &[&SiteVisit], groups: &[&[LedgerRow]]) -> Result<Vec<u32>, StoreError> {
        connection::transaction(&mut self.connection, |transaction| {
            let mut writer = RowWriter::new(transaction, true);
            for visit in visits {
                writer.ledger(*visit)?;
            }
            let mut written = Vec::with_capacity(groups.len());
            for group in groups {
                let mut new = 0;
                for row in group.iter().filter_map(|row| row.row.as_ref()) {
                    new += u32::from(writer.ledger(row)?);
                }
                written.push(new);
            }
            Ok(written)
        })
    }

    /// Seals an attempt; durable when this returns.
    pub fn seal(&mut self, job: &SealJob, now: &str) -> Result<SealSummary, StoreError> {
        let (log, names) = (&self.log, &self.names);
        connection::transaction(&mut self.connection, |transaction| {
            let summary = seal::seal(transaction, log, job, now)?;
            // Before the end of the transaction: what is sealed has its names.
            if summary.rows.contains_key("artifacts") {
                give_names(transaction, names, job.visit.visit_id)?;
            }
            Ok(summary)
        })
    }

    /// Moves some batches of no visit from the log into the tables, each row once; gives the last batch's id, by which
    /// they are then removed from the log. `None` when there was none.
    pub fn drain(&mut self) -> Result<Option<i64>, StoreError> {
        let (log, before) = (&self.log, self.drained);
        if log.of_no_visit(before)?.is_none() {
            return Ok(None);
        }
        self.drained = connection::transaction(&mut self.connection, |transaction| {
            let mut writer = RowWriter::new(transaction, true);
            let mut last = before;
            for _ in 0..DRAIN_BATCHES {
                let Some(batch) = log.of_no_visit(last)? else { break };
                let stamp = Stamp {
                    visit_id: -1,
                    browser_id: 0,
                    attempt: 0,
                    stream: batch.stream,
                    producer: batch.producer,
                    session: &batch.session,
                };
                for (i, record) in (batch.first..).zip(seal::decode(batch.id, &batch.payload)?) {
                    writer.record(&stamp, i, i, &record)?;
                }
                last = batch.id;
            }
            Ok(last)
        })?;
        Ok(Some(self.drained))
    }

    pub fn checkpoint(&self) -> Result<(), StoreError> {
        connection::checkpoint(&self.connection)
    }
}

/// The artifacts of an attempt are files under their names, too. Where one cannot be, it is still a blob.
fn give_names(transaction: &Transaction<'_>, names: &Names, visit_id: i64) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT kind, name, content_hash FROM artifacts WHERE visit_id = ?1 ORDER BY event_ordinal",
    )?;
    let artifacts = statement.query_map([visit_id], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    for artifact in artifacts {
        let (kind, name, hash) = artifact?;
        if let Err(error) = names.give(&kind, &name, &hash) {
            tracing::warn!(visit_id, kind, name, hash, %error, "an artifact is a blob only: it could not be named");
        }
    }
    Ok(())
}
