//! The way of records to storage: one Ingest stream for the whole service, reconnected after a loss, with
//! every un-acked batch sent again.
//!
//! What is held is bounded per attempt: a producer waits when storage does not keep up (R15). Nothing here
//! knows of browsers.

mod attempt;
mod blobs;
mod buffer;
mod pump;
mod symbols;
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sonde_proto::VisitId;
use sonde_proto::record::v1::{Producer, record};
use sonde_proto::storage::v1::ingest_service_client::IngestServiceClient;
use sonde_proto::storage::v1::{LedgerRow, WriteLedgerRequest};
use sonde_proto::visit::v1::{Failure, FailureKind, RetryAdvice};
use sonde_runtime::backoff::Backoff;
use sonde_runtime::serve::limits::MESSAGE_BYTES;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub use attempt::{AttemptUplink, SealParts, StreamClaim};
use buffer::Buffer;
pub use symbols::Symbols;
pub use traffic::Traffic;

/// Between tries of a call or a stream that storage did not answer.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// How much may wait for storage.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Records of one attempt.
    pub records: u64,
    /// Their encoded bytes.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { records: 65_536, bytes: 32 << 20 }
    }
}

/// Why storage did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UplinkError {
    /// It answered that it will not.
    #[error("storage refused {what}: {message}")]
    Refused { what: &'static str, message: String },
    /// It did not answer, over all tries.
    #[error("storage did not answer to {what} within {after:?} ({last}); check that it runs and has room")]
    Deadline { what: &'static str, after: Duration, last: String },
    #[error("the uplink to storage is closed: the service is stopping")]
    Closed,
}

impl UplinkError {
    /// As it goes into results.
    pub fn failure(&self) -> Failure {
        let (retry, fingerprint) = match self {
            Self::Refused { what, .. } => (RetryAdvice::Never, format!("storage:refused:{what}")),
            Self::Deadline { what, .. } => (RetryAdvice::Same, format!("storage:deadline:{what}")),
            Self::Closed => (RetryAdvice::Same, "storage:closed".to_owned()),
        };
        Failure {
            kind: FailureKind::Storage.into(),
            message: self.to_string(),
            retry: retry.into(),
            fingerprint,
            ..Failure::default()
        }
    }
}

/// The streams of one attempt, or of the records of no visit.
struct Attempt {
    fence: i64,
    /// Storage knows it: batches may go.
    opened: bool,
    streams: BTreeMap<u32, Buffer>,
    held: buffer::Held,
    refused: Option<UplinkError>,
    /// Bumped at every ack and refusal.
    news: watch::Sender<u64>,
}

impl Attempt {
    fn new(fence: i64, opened: bool) -> Self {
        let news = watch::Sender::new(0);
        Self { fence, opened, streams: BTreeMap::new(), held: buffer::Held::default(), refused: None, news }
    }

    fn has_room(&self, bounds: Bounds) -> bool {
        self.held.records < bounds.records && self.held.bytes < bounds.bytes
    }

    fn recount(&mut self) {
        self.held = self.streams.values().map(Buffer::held).fold(Default::default(), |a, b| buffer::Held {
            records: a.records + b.records,
            bytes: a.bytes + b.bytes,
        });
    }
}

#[derive(Default)]
struct State {
    attempts: HashMap<i64, Attempt>,
    /// Where the search for work goes on, so that no attempt starves.
    turn: usize,
    /// Streams given to sessions that send records of no visit.
    unattributed: HashMap<String, u32>,
    closed: bool,
}

struct Shared {
    channel: Channel,
    bounds: Bounds,
    state: Mutex<State>,
    work: Notify,
    cancel: CancellationToken,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES + (1 << 16))
    }
}

/// The service's way to storage. Cheap to clone; ends with [`Uplink::close`].
#[derive(Clone)]
pub struct Uplink {
    shared: Arc<Shared>,
}

impl Uplink {
    /// Starts the task that sends. `cancel` ends it.
    pub fn start(channel: Channel, bounds: Bounds, cancel: CancellationToken) -> Self {
        let shared =
            Arc::new(Shared { channel, bounds, state: Mutex::default(), work: Notify::new(), cancel });
        shared.lock().attempts.insert(VisitId::NONE, Attempt::new(0, true));
        tokio::spawn(pump::run(shared.clone()));
        Self { shared }
    }

    /// Makes room for an attempt. What it records waits here until [`AttemptUplink::open`] has registered it.
    pub fn attempt(&self, visit_id: i64, fence: i64) -> AttemptUplink {
        self.shared.lock().attempts.insert(visit_id, Attempt::new(fence, false));
        AttemptUplink::new(self.shared.clone(), visit_id)
    }

    /// Takes a batch of records of no visit, numbered by their session. Waits while the buffer is full.
    pub async fn unattributed(
        &self,
        session_uuid: &str,
        first: i64,
        count: u32,
        payload: bytes::Bytes,
    ) -> Result<(), UplinkError> {
        let stream = {
            let mut state = self.shared.lock();
            let next = 2 + state.unattributed.len() as u32;
            *state.unattributed.entry(session_uuid.to_owned()).or_insert(next)
        };
        let batch = attempt::Numbered { first, count, payload };
        attempt::forward(&self.shared, VisitId::NONE, stream, session_uuid, batch).await
    }

    /// How far storage has the records of no visit of a session; -1: nothing yet.
    pub fn unattributed_acked(&self, session_uuid: &str) -> i64 {
        let state = self.shared.lock();
        let stream = state.unattributed.get(session_uuid);
        let attempt = state.attempts.get(&VisitId::NONE);
        stream.and_then(|s| attempt?.streams.get(s)).map_or(-1, Buffer::acked)
    }

    /// Changes at every ack of records of no visit.
    pub fn unattributed_news(&self) -> watch::Receiver<u64> {
        let mut state = self.shared.lock();
        state.attempts.entry(VisitId::NONE).or_insert_with(|| Attempt::new(0, true)).news.subscribe()
    }

    /// Records a row of no visit that this service itself made.
    pub async fn record_unattributed(
        &self,
        captured_at_us: i64,
        row: record::Row,
    ) -> Result<(), UplinkError> {
        record_of_no_visit(&self.shared, captured_at_us, row).await
    }

    /// Waits until storage has all records of no visit.
    pub async fn flush_unattributed(&self, deadline: Instant) -> Result<(), UplinkError> {
        attempt::flushed(&self.shared, VisitId::NONE, deadline).await
    }

    /// Stores a blob; gives its SHA-256 in lower-case hex. Durable when it returns.
    pub async fn put_blob(&self, content: bytes::Bytes, deadline: Instant) -> Result<String, UplinkError> {
        blobs::put(&self.shared, content, deadline).await
    }

    /// Fetches a blob into a file. On an error what is there of the file is of no use.
    pub async fn get_blob(
        &self,
        sha256: &str,
        to: &std::path::Path,
        deadline: Instant,
    ) -> Result<(), UplinkError> {
        blobs::get(&self.shared, sha256, to, deadline).await
    }

    /// Writes rows of ledgers, 1 to 1000. Durable when it returns.
    pub async fn write_ledger(&self, rows: Vec<LedgerRow>, deadline: Instant) -> Result<(), UplinkError> {
        let client = self.shared.client();
        let call = || {
            let (mut client, rows) = (client.clone(), rows.clone());
            async move { client.write_ledger(WriteLedgerRequest { rows }).await }
        };
        let written = retried("WriteLedger", deadline, call);
        self.shared.cancel.run_until_cancelled(written).await.unwrap_or(Err(UplinkError::Closed)).map(drop)
    }

    /// Ends sending. What is un-acked is lost to this process (extensions keep theirs until they end, too).
    pub fn close(&self) {
        self.shared.cancel.cancel();
        let mut state = self.shared.lock();
        state.closed = true;
        for attempt in state.attempts.values_mut() {
            attempt.refused.get_or_insert(UplinkError::Closed);
            attempt.news.send_modify(|n| *n += 1);
        }
    }
}

async fn record_of_no_visit(
    shared: &Shared,
    captured_at_us: i64,
    row: record::Row,
) -> Result<(), UplinkError> {
    let row = attempt::Row { stream: 0, producer: Producer::Service, captured_at_us, row };
    attempt::record(shared, VisitId::NONE, row).await
}

/// Calls until it is answered, refused or too late.
async fn retried<T, F: Future<Output = Result<T, Status>>>(
    what: &'static str,
    deadline: Instant,
    mut call: impl FnMut() -> F,
) -> Result<T, UplinkError> {
    let after = deadline.saturating_duration_since(Instant::now());
    let mut last = "no answer".to_owned();
    for attempt in 0.. {
        let status = match timeout_at(deadline, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => status,
            Err(_) => break,
        };
        if !worth_retrying(status.code()) {
            return Err(UplinkError::Refused { what, message: status.message().to_owned() });
        }
        last = status.message().to_owned();
        let pause = BACKOFF.next(attempt, rand::random());
        if Instant::now() + pause >= deadline {
            break;
        }
        tracing::warn!(what, %status, ?pause, "storage did not answer; trying again");
        tokio::time::sleep(pause).await;
    }
    Err(UplinkError::Deadline { what, after, last })
}

fn worth_retrying(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unknown
    )
}
