//! A storage-service to test against, records to send, and a look at what it stored.
#![allow(dead_code)]

use std::path::Path;
use std::time::Duration;

use prost::Message;
use sonde_proto::record::v1::{HttpFailure, Producer, Record, RecordList, SiteVisit, record};
use sonde_proto::storage::v1::blob_service_client::BlobServiceClient;
use sonde_proto::storage::v1::ingest_service_client::IngestServiceClient;
use sonde_proto::storage::v1::record_service_client::RecordServiceClient;
use sonde_proto::storage::v1::{
    IngestRequest, IngestResponse, OpenAttemptRequest, SealAttemptRequest, StreamEnd,
};
use sonde_proto::visit::v1::{Outcome, SealSummary};
use sonde_runtime::endpoint::{Endpoint, Inproc, Listener, connect};
use sonde_runtime::serve::{ServerBuilder, ServerHandle};
use sonde_storage::{Config, SERVICE_NAMES, Storage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub const DEADLINE: Duration = Duration::from_secs(20);

/// A storage behind real gRPC on a Unix socket, in this process.
pub struct Service {
    pub storage: Storage,
    pub server: ServerHandle,
    pub channel: Channel,
    _socket: tempfile::TempDir,
}

impl Service {
    pub async fn start(data_dir: &Path) -> Self {
        Self::start_with(Config { data_dir: data_dir.to_owned(), ..Config::default() }).await
    }

    pub async fn start_with(config: Config) -> Self {
        let storage = Storage::open(config).expect("storage opens");
        let socket = tempfile::tempdir().expect("temp dir");
        let listen = Endpoint::Unix(socket.path().join("s.sock"));
        let inproc = Inproc::new();
        let listener = Listener::bind(&listen, &inproc).await.expect("binds");
        let server = ServerBuilder::new(storage.routes(), SERVICE_NAMES, sonde_proto::DESCRIPTORS)
            .streams(storage.streams())
            .start(listener, CancellationToken::new(), Duration::from_secs(5))
            .await
            .expect("serves");
        let channel = connect(server.endpoint(), &inproc).expect("an endpoint");
        Self { storage, server, channel, _socket: socket }
    }

    pub fn client(&self) -> Client {
        Client::new(self.channel.clone())
    }

    pub async fn stop(self) {
        drop(self.channel);
        self.server.stop().await.expect("stops");
        self.storage.close().await;
    }
}

#[derive(Clone)]
pub struct Client {
    pub ingest: IngestServiceClient<Channel>,
    pub blobs: BlobServiceClient<Channel>,
    pub records: RecordServiceClient<Channel>,
}

impl Client {
    pub fn new(channel: Channel) -> Self {
        Self {
            ingest: IngestServiceClient::new(channel.clone()),
            blobs: BlobServiceClient::new(channel.clone()),
            records: RecordServiceClient::new(channel),
        }
    }

    pub async fn open(&mut self, visit: &SiteVisit) -> Result<(), Status> {
        let request = OpenAttemptRequest { visit: Some(visit.clone()) };
        self.ingest.open_attempt(request).await.map(|_| ())
    }

    pub async fn seal(
        &mut self,
        visit: &SiteVisit,
        streams: Vec<StreamEnd>,
        outcome: Outcome,
    ) -> Result<SealSummary, Status> {
        let request = SealAttemptRequest {
            visit_id: visit.visit_id,
            fence: visit.fence,
            streams,
            outcome: outcome.into(),
            ..Default::default()
        };
        let response = self.ingest.seal_attempt(request).await?;
        Ok(response.into_inner().seal.expect("a seal"))
    }

    pub async fn stream(&mut self) -> Result<Stream, Status> {
        let (requests, queue) = mpsc::channel(64);
        let answers = self.ingest.ingest(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Stream { requests, answers })
    }

    /// Sends one batch on a stream of its own and gives the answer.
    pub async fn send(&mut self, batch: IngestRequest) -> IngestResponse {
        let mut stream = self.stream().await.expect("a stream");
        stream.requests.send(batch).await.expect("sent");
        stream.next().await.expect("an answer")
    }
}

pub struct Stream {
    pub requests: mpsc::Sender<IngestRequest>,
    pub answers: Streaming<IngestResponse>,
}

impl Stream {
    pub async fn next(&mut self) -> Option<IngestResponse> {
        let answer = tokio::time::timeout(DEADLINE, self.answers.message()).await.expect("in time");
        answer.expect("no error")
    }
}

pub fn visit(visit_id: i64, visit_no: i64, attempt: u32) -> SiteVisit {
    SiteVisit {
        visit_id,
        browser_id: 7,
        site_url: "http://site.test/".into(),
        crawl_id: "0198c0de-0000-7000-8000-000000000001".into(),
        visit_no,
        attempt,
        fence: i64::from(attempt) * 10,
        start_time: "2026-01-01T00:00:00.000Z".into(),
        ..Default::default()
    }
}

/// A record whose content says where it belongs.
pub fn record(visit_id: i64, stream: u32, ordinal: i64) -> Record {
    Record {
        captured_at_us: 1_700_000_000_000_000 + ordinal * 1000 + i64::from(stream),
        row: Some(record::Row::HttpFailure(HttpFailure {
            request_id: ordinal,
            url: format!("http://{visit_id}/{stream}/{ordinal}"),
            ..Default::default()
        })),
    }
}

pub fn batch_of(visit: &SiteVisit, stream: u32, first: i64, records: Vec<Record>) -> IngestRequest {
    IngestRequest {
        visit_id: visit.visit_id,
        fence: visit.fence,
        stream,
        producer: Producer::Devtools.into(),
        extension_session_uuid: String::new(),
        first_ordinal: first,
        count: records.len() as u32,
        payload: RecordList { records, ..RecordList::default() }.encode_to_vec().into(),
    }
}

/// Records `first..=last` of a stream.
pub fn batch(visit: &SiteVisit, stream: u32, first: i64, last: i64) -> IngestRequest {
    batch_of(visit, stream, first, (first..=last).map(|o| record(visit.visit_id, stream, o)).collect())
}

pub fn end(stream: u32, last_ordinal: i64) -> StreamEnd {
    StreamEnd { stream, producer: Producer::Devtools.into(), last_ordinal, ..Default::default() }
}

/// `crawl.sqlite` as a user opens it.
pub fn database(data_dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(data_dir.join("crawl.sqlite")).expect("opens")
}

pub fn number(data_dir: &Path, sql: &str) -> i64 {
    database(data_dir).query_row(sql, [], |row| row.get(0)).expect(sql)
}

/// Tries until it is so.
pub async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
