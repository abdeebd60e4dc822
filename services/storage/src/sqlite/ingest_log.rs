//! `ingest.sqlite`: acked batches of attempts that are not sealed yet, as they came.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sonde_proto::record::v1::{Producer, SiteVisit};

use super::connection::{self, Tuning};
use super::migrate;
use crate::error::{OpenError, StoreError};

const VERSION: i64 = 1;

// A batch is one value of some 50 KiB: large pages keep its overflow chain short. The log is emptied by seals, so
// copying it back often would be for nothing.
const TUNING: Tuning = Tuning { page_size: 16384, checkpoint_pages: 2000, cache_kib: 16 << 10 };

// Ids are never used twice: "all up to this id" must not come to mean other batches.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS attempts (visit_id INTEGER PRIMARY KEY, visit BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS fences (
        crawl_id TEXT NOT NULL, visit_no INTEGER NOT NULL, fence INTEGER NOT NULL, PRIMARY KEY (crawl_id, visit_no)
    );
    CREATE TABLE IF NOT EXISTS batches (
        id INTEGER PRIMARY KEY AUTOINCREMENT, visit_id INTEGER NOT NULL, stream INTEGER NOT NULL, first_ordinal INTEGER NOT NULL,
        last_ordinal INTEGER NOT NULL, producer INTEGER NOT NULL, session TEXT NOT NULL, payload BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS batches_key ON batches (visit_id, stream, first_ordinal);";

/// One change of the log.
#[derive(Debug)]
pub(crate) enum Write {
    Open(SiteVisit),
    Batch {
        visit_id: i64,
        stream: u32,
        first: i64,
        last: i64,
        producer: Producer,
        session: String,
        payload: Bytes,
    },
    /// The highest fence seen of a visit, where no attempt carries it.
    Fence {
        crawl_id: String,
        visit_no: i64,
        fence: i64,
    },
    /// Removes a sealed attempt.
    Forget(i64),
    /// Removes batches of no visit up to this id.
    Drained(i64),
}

/// An unsealed attempt, as found when the log is opened.
#[derive(Debug)]
pub(crate) struct LoadedAttempt {
    pub visit: SiteVisit,
    pub batches: Vec<LoadedBatch>,
}

#[derive(Debug)]
pub(crate) struct LoadedBatch {
    pub stream: u32,
    pub first: i64,
    pub last: i64,
    pub producer: Producer,
    pub session: String,
}

pub(crate) struct IngestLog {
    connection: Connection,
    path: PathBuf,
}

impl IngestLog {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let store = |source| OpenError::Store { path: path.to_owned(), source };
        let connection = connection::writer(path, &TUNING).map_err(store)?;
        migrate::version(&connection, path, VERSION)?;
        connection.execute_batch(TABLES).map_err(|e| store(e.into()))?;
        connection.execute_batch(&format!("PRAGMA user_version = {VERSION}")).map_err(|e| store(e.into()))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every attempt in the log, without payloads.
    pub fn load(&self) -> Result<Vec<LoadedAttempt>, StoreError> {
        let mut attempts = self.connection.prepare("SELECT visit_id, visit FROM attempts")?;
        let mut batches = self.connection.prepare(
            "SELECT stream, first_ordinal, last_ordinal, producer, session FROM batches WHERE visit_id = ?1
             ORDER BY stream, first_ordinal",
        )?;
        let mut rows = attempts.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let visit_id: i64 = row.get(0)?;
            let damaged = |what: String| StoreError::Broken(format!("attempt {visit_id} of the log: {what}"));
            let visit = SiteVisit::decode(row.get_ref(1)?.as_blob().map_err(|e| damaged(e.to_string()))?)
                .map_err(|e| damaged(e.to_string()))?;
            let found = batches.query_map([visit_id], |row| {
                Ok(LoadedBatch {
                    stream: row.get(0)?,
                    first: row.get(1)?,
                    last: row.get(2)?,
                    producer: Producer::try_from(row.get::<_, i32>(3)?).unwrap_or_default(),
                    session: row.get(4)?,
                })
            })?;
            all.push(LoadedAttempt { visit, batches: found.collect::<Result<_, _>>()? });
        }
        Ok(all)
    }

    /// The highest fence kept apart from attempts.
    pub fn fence(&self, crawl_id: &str, visit_no: i64) -> Result<Option<i64>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT fence FROM fences WHERE crawl_id = ?1 AND visit_no = ?2")?;
        Ok(statement.query_row((crawl_id, visit_no), |row| row.get(0)).optional()?)
    }

    /// Makes all changes in one transaction; they are on disk when this returns.
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        connection::transaction(&mut self.connection, |transaction| {
            writes.iter().try_for_each(|write| apply(transaction, write))
        })
    }

    pub fn checkpoint(&self) -> Result<(), StoreError> {
        connection::checkpoint(&self.connection)
    }
}

fn apply(transaction: &Transaction<'_>, write: &Write) -> Result<(), StoreError> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<(), StoreError> {
        transaction.prepare_cached(sql)?.execute(values)?;
        Ok(())
    };
    match write {
        Write::Open(visit) => run(
            "INSERT INTO attempts (visit_id, visit) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![visit.visit_id, visit.encode_to_vec()],
        ),
        Write::Batch { visit_id, stream, first, last, producer, session, payload } => run(
            "INSERT INTO batches (visit_id, stream, first_ordinal, last_ordinal, producer, session, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![visit_id, stream, first, last, i32::from(*producer), session, &payload[..]],
        ),
        Write::Fence { crawl_id, visit_no, fence } => run(
            "INSERT INTO fences (crawl_id, visit_no, fence) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET fence = max(fence, excluded.fence)",
            params![crawl_id, visit_no, fence],
        ),
        Write::Forget(visit_id) => {
            run("DELETE FROM batches WHERE visit_id = ?1", params![visit_id])?;
            run("DELETE FROM attempts WHERE visit_id = ?1", params![visit_id])
        }
        Write::Drained(through) => {
            run("DELETE FROM batches WHERE visit_id = -1 AND id <= ?1", params![through])
        }
    }
}

/// One stored batch.
pub(super) struct StoredBatch {
    pub id: i64,
    pub stream: u32,
    pub first: i64,
    pub producer: Producer,
    pub session: String,
    pub payload: Vec<u8>,
}

/// Reads batches while the writer goes on.
pub(super) struct LogReader(Connection);

impl LogReader {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        connection::reader(path).map(Self)
    }

    /// The batch of a stream after the one that began at `first` and has `id`.
    pub fn after(
        &self,
        visit_id: i64,
        stream: u32,
        first: i64,
        id: i64,
    ) -> Result<Option<StoredBatch>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, stream, first_ordinal, producer, session, payload FROM batches
             WHERE visit_id = ?1 AND stream = ?2 AND (first_ordinal, id) > (?3, ?4)
             ORDER BY first_ordinal, id LIMIT 1",
        )?;
        Ok(statement.query_row((visit_id, stream, first, id), stored).optional()?)
    }

    /// The batch of no visit after the one with `id`.
    pub fn of_no_visit(&self, id: i64) -> Result<Option<StoredBatch>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, stream, first_ordinal, producer, session, payload FROM batches
             WHERE visit_id = -1 AND id > ?1 ORDER BY id LIMIT 1",
        )?;
        Ok(statement.query_row([id], stored).optional()?)
    }
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredBatch> {
    Ok(StoredBatch {
        id: row.get(0)?,
        stream: row.get(1)?,
        first: row.get(2)?,
        producer: Producer::try_from(row.get::<_, i32>(3)?).unwrap_or_default(),
        session: row.get(4)?,
        payload: row.get(5)?,
    })
}
