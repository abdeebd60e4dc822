//! The seal: an attempt's rows of all streams in one order, its counts and its verdict, in one transaction.

use std::collections::BTreeMap;

use prost::Message;
use rusqlite::Transaction;
use sonde_proto::record::v1::{IncompleteVisit, RecordList, SiteVisit, VisitSeal};
use sonde_proto::schema::Row;
use sonde_proto::visit::v1::{Outcome, SealSummary};
use sonde_proto::{Entries, Entry};

use super::ingest_log::LogReader;
use super::read::seal_of;
use super::rows::{RowWriter, Stamp};
use crate::error::StoreError;
use crate::merge::{Merge, Source};
use crate::verdict::{Declared, Stream, judge};

/// An attempt that is closed to writers, and what is said of its end.
#[derive(Debug)]
pub(crate) struct SealJob {
    pub visit: SiteVisit,
    pub streams: BTreeMap<u32, Stream>,
    pub declared: Vec<Declared>,
    pub outcome: Outcome,
    /// "" when the caller knows of nothing.
    pub incomplete_reason: String,
    pub instruments_ready_at: Option<i64>,
    pub navigation_start_at: Option<i64>,
}

/// The records of one stream: one batch in memory, ordinals that came twice given once.
struct Batches<'r> {
    log: &'r LogReader,
    visit_id: i64,
    stream: u32,
    /// Where the last batch began, and its id.
    at: (i64, i64),
    /// The lowest ordinal not given yet.
    next: i64,
    ordinal: i64,
    records: Entries,
}

impl Source for Batches<'_> {
    type Item = (i64, Entry);
    type Error = StoreError;

    fn next(&mut self) -> Result<Option<(i64, Entry)>, StoreError> {
        loop {
            for record in self.records.by_ref() {
                let ordinal = self.ordinal;
                self.ordinal += 1;
                if ordinal >= self.next {
                    self.next = ordinal + 1;
                    return Ok(Some((ordinal, record)));
                }
            }
            let Some(batch) = self.log.after(self.visit_id, self.stream, self.at.0, self.at.1)? else {
                return Ok(None);
            };
            self.at = (batch.first, batch.id);
            self.ordinal = batch.first;
            self.records = decode(batch.id, &batch.payload)?;
        }
    }

    fn captured_at(item: &(i64, Entry)) -> i64 {
        item.1.captured_at_us
    }
}

pub(super) fn decode(id: i64, payload: &[u8]) -> Result<Entries, StoreError> {
    let list = RecordList::decode(payload)
        .map_err(|e| StoreError::Broken(format!("batch {id} of the log does not decode: {e}")))?;
    list.entries().map_err(|e| StoreError::Broken(format!("batch {id} of the log is damaged: {e}")))
}

/// Seals within `transaction`; an attempt that is sealed already keeps its seal. `now` is ISO 8601.
pub(super) fn seal(
    transaction: &Transaction<'_>,
    log: &LogReader,
    job: &SealJob,
    now: &str,
) -> Result<SealSummary, StoreError> {
    if let Some((summary, _)) = seal_of(transaction, job.visit.visit_id)? {
        return Ok(summary);
    }
    let rows = insert_rows(transaction, log, job)?;
    let verdict = judge(&job.streams, &job.declared, &job.incomplete_reason);
    let complete = verdict.reason.is_empty();
    let counts = serde_json::to_string(&rows)
        .map_err(|e| StoreError::Broken(format!("row counts cannot be written: {e}")))?;
    let mut ledger = RowWriter::new(transaction, false);
    ledger.ledger(&VisitSeal {
        visit_id: job.visit.visit_id,
        crawl_id: job.visit.crawl_id.clone(),
        visit_no: job.visit.visit_no,
        attempt: job.visit.attempt,
        fence: job.visit.fence,
        complete,
        outcome: job.outcome.word().to_owned(),
        streams: verdict.streams,
        row_counts: counts,
        instruments_ready_at: job.instruments_ready_at,
        navigation_start_at: job.navigation_start_at,
        sealed_at: now.to_owned(),
    })?;
    if !complete || job.outcome != Outcome::Ok {
        let reason = if complete { job.outcome.word().to_owned() } else { verdict.reason.clone() };
        ledger.ledger(&IncompleteVisit { visit_id: job.visit.visit_id, reason, ranges: verdict.ranges })?;
    }
    // It is there since the attempt was opened, unless the service died in between.
    RowWriter::new(transaction, true).ledger(&job.visit)?;
    Ok(SealSummary { complete, reason: verdict.reason, rows: rows.into_iter().collect() })
}

fn insert_rows(
    transaction: &Transaction<'_>,
    log: &LogReader,
    job: &SealJob,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let stamps: Vec<Stamp<'_>> = job
        .streams
        .iter()
        .map(|(id, stream)| Stamp::of(&job.visit, *id, stream.producer, &stream.session))
        .collect();
    let mut merge = Merge::new(stamps.iter().map(|stamp| Batches {
        log,
        visit_id: stamp.visit_id,
        stream: stamp.stream,
        at: (-1, -1),
        next: 0,
        ordinal: 0,
        records: Entries::default(),
    }))?;
    let mut writer = RowWriter::new(transaction, false);
    let mut rows: Vec<(&'static str, u64)> = Vec::new();
    let mut event_ordinal = 0;
    while let Some((index, (ordinal, record))) = merge.next()? {
        let table = record.table();
        writer.record(&stamps[index], event_ordinal, ordinal, &record)?;
        event_ordinal += 1;
        match rows.iter_mut().find(|(name, _)| std::ptr::eq(*name, table.name)) {
            Some((_, count)) => *count += 1,
            None => rows.push((table.name, 1)),
        }
    }
    let stored: i64 = job.streams.values().map(|s| s.coverage.len()).sum();
    if event_ordinal != stored {
        return Err(StoreError::Broken(format!(
            "attempt {}: the log holds {event_ordinal} records where {stored} were acked",
            job.visit.visit_id
        )));
    }
    Ok(rows.into_iter().map(|(name, count)| (name.to_owned(), count)).collect())
}
