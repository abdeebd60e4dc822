//! The unary calls of the ingest service.

use std::collections::BTreeSet;
use std::sync::Arc;

use sonde_proto::record::v1::{Producer, SiteVisit};
use sonde_proto::storage::v1::{
    OpenAttemptRequest, OpenAttemptResponse, SealAttemptRequest, SealAttemptResponse, StreamEnd,
    WriteLedgerRequest, WriteLedgerResponse,
};
use sonde_proto::visit::v1::{Outcome, SealSummary};
use sonde_proto::{Fence, VisitId};
use tonic::Status;

use super::blocking;
use crate::crawl::Job;
use crate::ingest::{Closed, Command};
use crate::sqlite::SealJob;
use crate::storage::{Shared, superseded};
use crate::verdict::Declared;

const MAX_LEDGER_ROWS: usize = 1000;
const MAX_STREAMS: usize = 4096;

fn invalid(what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(what.to_string())
}

pub(super) async fn open(
    shared: &Arc<Shared>,
    request: OpenAttemptRequest,
) -> Result<OpenAttemptResponse, Status> {
    let visit = request.visit.ok_or_else(|| invalid("visit: is required"))?;
    check_visit(&visit)?;
    let attempt = visit.clone();
    let closed = shared.ask_ingest(|reply| Command::Open { visit: attempt, reply }).await?;
    for earlier in closed {
        let job = Box::new(superseded(earlier));
        shared.ask_crawl(|reply| Job::Seal { job, reply }).await?;
    }
    shared.ask_crawl(|reply| Job::Visit { visit, reply }).await?;
    Ok(OpenAttemptResponse {})
}

fn check_visit(visit: &SiteVisit) -> Result<(), Status> {
    VisitId::try_from(visit.visit_id).map_err(|e| invalid(format!("visit.{e}")))?;
    Fence::try_from(visit.fence).map_err(|e| invalid(format!("visit.{e}")))?;
    if visit.crawl_id.is_empty() || visit.crawl_id.len() > 128 {
        return Err(invalid("visit.crawl_id: 1 to 128 bytes"));
    }
    if visit.visit_no < 1 {
        return Err(invalid("visit.visit_no: 1 or more"));
    }
    if visit.attempt < 1 {
        return Err(invalid("visit.attempt: 1 or more"));
    }
    Ok(())
}

pub(super) async fn seal(
    shared: &Arc<Shared>,
    request: SealAttemptRequest,
) -> Result<SealAttemptResponse, Status> {
    let visit_id = VisitId::try_from(request.visit_id).map_err(invalid)?.get();
    let fence = Fence::try_from(request.fence).map_err(invalid)?.get();
    let outcome = Outcome::try_from(request.outcome).unwrap_or_default();
    if outcome == Outcome::Unspecified {
        return Err(invalid("outcome: is required"));
    }
    let declared = declared(request.streams)?;
    if let Some(seal) = first_seal(shared, visit_id, fence).await? {
        return Ok(SealAttemptResponse { seal: Some(seal) });
    }
    let closed = shared.ask_ingest(|reply| Command::Close { visit_id, fence, reply }).await;
    let Closed { visit, streams } = match closed {
        Ok(closed) => closed,
        // Perhaps another call sealed it in between.
        Err(status) => {
            let seal = first_seal(shared, visit_id, fence).await?.ok_or(status)?;
            return Ok(SealAttemptResponse { seal: Some(seal) });
        }
    };
    let job = Box::new(SealJob {
        visit,
        streams,
        declared,
        outcome,
        incomplete_reason: request.incomplete_reason,
        instruments_ready_at: request.instruments_ready_at_us,
        navigation_start_at: request.navigation_start_at_us,
    });
    let seal = shared.ask_crawl(|reply| Job::Seal { job, reply }).await?;
    Ok(SealAttemptResponse { seal: Some(seal) })
}

/// What an earlier call sealed, for callers whose fence is not below the attempt's.
async fn first_seal(shared: &Arc<Shared>, visit_id: i64, fence: i64) -> Result<Option<SealSummary>, Status> {
    let reading = shared.clone();
    let found = blocking(move || reading.readers.seal(visit_id).map_err(|e| e.status())).await?;
    match found {
        Some((_, sealed)) if fence < sealed => Err(Status::failed_precondition(format!(
            "fence {fence} of attempt {visit_id} is stale: it was sealed with fence {sealed}; stop writing"
        ))),
        Some((seal, _)) => Ok(Some(seal)),
        None => Ok(None),
    }
}

fn declared(streams: Vec<StreamEnd>) -> Result<Vec<Declared>, Status> {
    if streams.len() > MAX_STREAMS {
        return Err(invalid(format!("streams: at most {MAX_STREAMS}")));
    }
    let mut seen = BTreeSet::new();
    let mut all = Vec::with_capacity(streams.len());
    for (i, end) in streams.into_iter().enumerate() {
        if !seen.insert(end.stream) {
            return Err(invalid(format!("streams[{i}].stream: {} is declared twice", end.stream)));
        }
        if !(-1..1 << 53).contains(&end.last_ordinal) {
            return Err(invalid(format!("streams[{i}].last_ordinal: -1 to 2^53")));
        }
        let producer = match Producer::try_from(end.producer) {
            Ok(Producer::Unspecified) | Err(_) => {
                return Err(invalid(format!("streams[{i}].producer: is required")));
            }
            Ok(producer) => producer,
        };
        all.push(Declared {
            stream: end.stream,
            producer,
            session: end.extension_session_uuid,
            last_ordinal: end.last_ordinal,
            suspect: end.suspect,
        });
    }
    Ok(all)
}

pub(super) async fn ledger(
    shared: &Arc<Shared>,
    request: WriteLedgerRequest,
) -> Result<WriteLedgerResponse, Status> {
    let rows = request.rows;
    if !(1..=MAX_LEDGER_ROWS).contains(&rows.len()) {
        return Err(invalid(format!("rows: {} given, 1 to {MAX_LEDGER_ROWS} are taken at once", rows.len())));
    }
    if let Some(i) = rows.iter().position(|row| row.row.is_none()) {
        return Err(invalid(format!("rows[{i}].row: is not set, or of a table that this version lacks")));
    }
    let written = shared.ask_crawl(|reply| Job::Ledger { rows, reply }).await?;
    Ok(WriteLedgerResponse { written })
}
