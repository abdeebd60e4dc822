//! A storage-service that keeps ledger rows in memory and does as it is told.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use sonde_proto::{
    record::v1::VisitOutcome,
    storage::v1::{
        IngestRequest, IngestResponse, LedgerRow, OpenAttemptRequest, OpenAttemptResponse,
        SealAttemptRequest, SealAttemptResponse, WriteLedgerRequest, WriteLedgerResponse,
        ingest_service_server::{IngestService, IngestServiceServer},
        ledger_row::Row,
    },
    visit::v1::SealSummary,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, service::Routes};

#[derive(Default)]
pub struct Kept {
    /// By (crawl, visit), each row as often as it came with something new in it.
    pub outcomes: HashMap<(String, i64), Vec<VisitOutcome>>,
    pub others: Vec<LedgerRow>,
    pub seals: Vec<SealAttemptRequest>,
}

#[derive(Clone)]
pub struct ScriptedStorage {
    pub kept: Arc<Mutex<Kept>>,
    /// false: every call is refused as unavailable.
    pub up: watch::Sender<bool>,
    /// false: rows are not confirmed until it is true.
    pub confirm: watch::Sender<bool>,
}

impl ScriptedStorage {
    pub fn new() -> Self {
        Self { kept: Arc::default(), up: watch::Sender::new(true), confirm: watch::Sender::new(true) }
    }

    pub fn routes(&self) -> Routes {
        Routes::new(IngestServiceServer::new(self.clone()))
    }

    fn check(&self) -> Result<(), Status> {
        if *self.up.borrow() { Ok(()) } else { Err(Status::unavailable("the disk is full")) }
    }

    pub fn outcomes(&self) -> usize {
        self.kept.lock().unwrap().outcomes.len()
    }
}

#[tonic::async_trait]
impl IngestService for ScriptedStorage {
    type IngestStream = tokio_stream::Empty<Result<IngestResponse, Status>>;

    async fn ingest(
        &self,
        _: Request<Streaming<IngestRequest>>,
    ) -> Result<Response<Self::IngestStream>, Status> {
        Err(Status::unimplemented("scripted"))
    }

    async fn open_attempt(
        &self,
        _: Request<OpenAttemptRequest>,
    ) -> Result<Response<OpenAttemptResponse>, Status> {
        Err(Status::unimplemented("scripted"))
    }

    async fn seal_attempt(
        &self,
        request: Request<SealAttemptRequest>,
    ) -> Result<Response<SealAttemptResponse>, Status> {
        self.check()?;
        let request = request.into_inner();
        let seal = SealSummary { reason: request.incomplete_reason.clone(), ..Default::default() };
        self.kept.lock().unwrap().seals.push(request);
        Ok(Response::new(SealAttemptResponse { seal: Some(seal) }))
    }

    async fn write_ledger(
        &self,
        request: Request<WriteLedgerRequest>,
    ) -> Result<Response<WriteLedgerResponse>, Status> {
        self.check()?;
        let mut confirm = self.confirm.subscribe();
        confirm.wait_for(|yes| *yes).await.map_err(|_| Status::unavailable("gone"))?;
        self.check()?;
        let mut kept = self.kept.lock().unwrap();
        let rows = request.into_inner().rows;
        let written = rows.len() as u32;
        for row in rows {
            match row.row {
                Some(Row::VisitOutcome(outcome)) => {
                    let same = kept.outcomes.entry((outcome.crawl_id.clone(), outcome.visit_no)).or_default();
                    if !same.contains(&outcome) {
                        same.push(outcome);
                    }
                }
                _ => kept.others.push(row),
            }
        }
        Ok(Response::new(WriteLedgerResponse { written }))
    }
}
