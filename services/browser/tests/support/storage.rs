use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::stream::BoxStream;
use prost::Message;
use sonde_proto::record::v1::{Record, RecordList};
use sonde_proto::storage::v1::blob_service_server::{BlobService, BlobServiceServer};
use sonde_proto::storage::v1::ingest_service_server::{IngestService, IngestServiceServer};
use sonde_proto::storage::v1::*;
use sonde_proto::visit::v1::SealSummary;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::Rows;

#[derive(Default)]
pub struct Kept {
    pub opened: HashMap<i64, i64>,
    /// What came under each ordinal, by visit and stream; a repeated ordinal counts in `repeats`.
    pub records: BTreeMap<(i64, u32), BTreeMap<i64, Record>>,
    pub blobs: HashMap<String, Vec<u8>>,
    pub repeats: u64,
    pub batches: u64,
    pub seals: HashMap<i64, SealAttemptRequest>,
    /// Batches are taken and not acked.
    pub mute: bool,
    /// Batches of this visit are refused.
    pub refuse: Option<i64>,
}

/// A storage-service in memory.
#[derive(Clone)]
pub struct MemoryStorage {
    kept: Arc<Mutex<Kept>>,
    changes: Arc<watch::Sender<u64>>,
    address: SocketAddr,
    stop: Arc<Mutex<CancellationToken>>,
}

impl MemoryStorage {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let storage = Self {
            kept: Arc::default(),
            changes: Arc::new(watch::Sender::new(0)),
            address: listener.local_addr().unwrap(),
            stop: Arc::default(),
        };
        storage.serve(listener);
        storage
    }

    fn serve(&self, listener: TcpListener) {
        let stop = CancellationToken::new();
        *self.stop.lock().unwrap() = stop.clone();
        let server = Server::builder()
            .add_service(IngestServiceServer::new(self.clone()))
            .add_service(BlobServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { stop.run_until_cancelled(server).await });
    }

    /// Breaks every stream and stops listening.
    pub fn go_away(&self) {
        self.stop.lock().unwrap().cancel();
    }

    pub async fn come_back(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serve(listener);
    }

    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// The rows of a visit, in the order of its streams.
    pub fn rows(&self, visit_id: i64) -> Rows {
        let kept = self.kept();
        let streams = kept.records.range((visit_id, 0)..=(visit_id, u32::MAX));
        let records = streams.flat_map(|(_, records)| records.values());
        Rows(records.filter_map(|record| record.row.clone()).collect())
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Ordinals of a stream that are there.
    pub fn count(&self, visit_id: i64, stream: u32) -> usize {
        self.kept().records.get(&(visit_id, stream)).map_or(0, BTreeMap::len)
    }

    fn take(&self, batch: &IngestRequest) -> Option<IngestResponse> {
        let mut kept = self.kept();
        let IngestRequest { visit_id, stream, first_ordinal, count, .. } = *batch;
        kept.batches += 1;
        if kept.refuse == Some(visit_id) {
            let refused =
                sonde_proto::visit::v1::Failure { message: "stale fence".into(), ..Default::default() };
            return Some(IngestResponse { visit_id, stream, through_ordinal: -1, refused: Some(refused) });
        }
        let list = RecordList::decode(batch.payload.clone()).unwrap();
        assert_eq!(list.count(), count as usize);
        let mut repeats = 0;
        let records = kept.records.entry((visit_id, stream)).or_default();
        for (ordinal, record) in (first_ordinal..).zip(list.entries().unwrap().map(Record::from)) {
            repeats += u64::from(records.insert(ordinal, record).is_some());
        }
        let through_ordinal = (0..).take_while(|o| records.contains_key(o)).last().unwrap_or(-1);
        kept.repeats += repeats;
        (!kept.mute).then_some(IngestResponse { visit_id, stream, through_ordinal, refused: None })
    }
}

#[tonic::async_trait]
impl IngestService for MemoryStorage {
    type IngestStream = BoxStream<'static, Result<IngestResponse, Status>>;

    async fn ingest(
        &self,
        request: Request<Streaming<IngestRequest>>,
    ) -> Result<Response<Self::IngestStream>, Status> {
        let (sender, answers) = mpsc::channel(16);
        let (this, mut batches) = (self.clone(), request.into_inner());
        let stop = self.stop.lock().unwrap().clone();
        tokio::spawn(async move {
            while let Some(Ok(Some(batch))) = stop.run_until_cancelled(batches.message()).await {
                let answer = this.take(&batch);
                this.changed();
                if let Some(answer) = answer
                    && sender.send(Ok(answer)).await.is_err()
                {
                    return;
                }
            }
            // An end by the caller needs no word.
            let _ = sender.send(Err(Status::unavailable("storage went away"))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn open_attempt(
        &self,
        request: Request<OpenAttemptRequest>,
    ) -> Result<Response<OpenAttemptResponse>, Status> {
        let visit = request.into_inner().visit.unwrap();
        self.kept().opened.insert(visit.visit_id, visit.fence);
        self.changed();
        Ok(Response::new(OpenAttemptResponse {}))
    }

    async fn seal_attempt(
        &self,
        request: Request<SealAttemptRequest>,
    ) -> Result<Response<SealAttemptResponse>, Status> {
        let seal = request.into_inner();
        let complete = seal.incomplete_reason.is_empty()
            && seal.streams.iter().all(|s| {
                s.suspect.is_empty() && self.count(seal.visit_id, s.stream) as i64 == s.last_ordinal + 1
            });
        let reason = if complete { String::new() } else { format!("{} ", seal.incomplete_reason) };
        self.kept().seals.insert(seal.visit_id, seal);
        self.changed();
        let seal = SealSummary { complete, reason, rows: HashMap::new() };
        Ok(Response::new(SealAttemptResponse { seal: Some(seal) }))
    }

    async fn write_ledger(
        &self,
        _: Request<WriteLedgerRequest>,
    ) -> Result<Response<WriteLedgerResponse>, Status> {
        Err(Status::unimplemented("the browser-service writes no ledgers"))
    }
}

#[tonic::async_trait]
impl BlobService for MemoryStorage {
    async fn put_blob(
        &self,
        request: Request<Streaming<PutBlobRequest>>,
    ) -> Result<Response<PutBlobResponse>, Status> {
        let mut pieces = request.into_inner();
        let (mut sha256, mut content) = (String::new(), Vec::new());
        while let Some(piece) = pieces.message().await? {
            sha256.push_str(&piece.sha256);
            content.extend_from_slice(&piece.chunk);
        }
        let bytes = content.len() as u64;
        self.kept().blobs.insert(sha256.clone(), content);
        Ok(Response::new(PutBlobResponse { sha256, bytes, existed: false }))
    }

    type GetBlobStream = BoxStream<'static, Result<GetBlobResponse, Status>>;

    async fn get_blob(&self, _: Request<GetBlobRequest>) -> Result<Response<Self::GetBlobStream>, Status> {
        Err(Status::unimplemented("not asked by the browser-service"))
    }

    async fn has_blobs(&self, _: Request<HasBlobsRequest>) -> Result<Response<HasBlobsResponse>, Status> {
        Err(Status::unimplemented("not asked by the browser-service"))
    }
}
