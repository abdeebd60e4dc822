//! What an attempt sees of the uplink: record, forward, flush, seal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sonde_proto::StreamId;
use sonde_proto::record::v1::{Producer, Record, SiteVisit, record};
use sonde_proto::storage::v1::{OpenAttemptRequest, SealAttemptRequest, StreamEnd};
use sonde_proto::visit::v1::{Outcome, SealSummary};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::buffer::Buffer;
use super::symbols::Symbols;
use super::traffic::Traffic;
use super::{Shared, State, UplinkError, retried};

pub(super) struct Row {
    pub stream: u32,
    pub producer: Producer,
    pub captured_at_us: i64,
    pub row: record::Row,
}

pub(super) struct Numbered {
    pub first: i64,
    pub count: u32,
    pub payload: Bytes,
}

/// What a producer outside this service says of its stream at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamClaim {
    pub stream: u32,
    pub session_uuid: String,
    /// Its last ordinal; -1 when it carried nothing.
    pub last_ordinal: i64,
    /// Why it may have lost records; "" when it has not.
    pub suspect: String,
}

/// What a seal says beside the streams that the uplink knows.
#[derive(Debug, Clone, Default)]
pub struct SealParts {
    pub outcome: Outcome,
    /// Why the data are incomplete even without a gap; "" when they are not.
    pub incomplete_reason: String,
    pub instruments_ready_at_us: Option<i64>,
    pub navigation_start_at_us: Option<i64>,
    /// Why the DevTools stream may have lost records; `None` when nothing was to be recorded there.
    pub devtools: Option<String>,
    /// The extension's sessions.
    pub sessions: Vec<StreamClaim>,
}

/// An open attempt's way to storage. Clones share it; the last one dropped forgets what is un-acked.
#[derive(Clone)]
pub struct AttemptUplink {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    visit_id: i64,
    symbols: Symbols,
    traffic: Traffic,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.lock().attempts.remove(&self.visit_id);
    }
}

impl AttemptUplink {
    /// The service's own, for what belongs to no attempt.
    pub fn service(&self) -> super::Uplink {
        super::Uplink { shared: self.inner.shared.clone() }
    }

    pub(super) fn new(shared: Arc<Shared>, visit_id: i64) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                visit_id,
                symbols: Symbols::default(),
                traffic: Traffic::default(),
            }),
        }
    }

    pub fn visit_id(&self) -> i64 {
        self.inner.visit_id
    }

    /// What its JavaScript rows are of.
    pub fn symbols(&self) -> &Symbols {
        &self.inner.symbols
    }

    /// Its HTTP rows.
    pub fn traffic(&self) -> &Traffic {
        &self.inner.traffic
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Registers the attempt with storage, which refuses a stale fence.
    pub async fn open(&self, visit: SiteVisit, deadline: Instant) -> Result<(), UplinkError> {
        let request = OpenAttemptRequest { visit: Some(visit) };
        let client = self.shared().client();
        let call = || {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.open_attempt(request).await }
        };
        retried("OpenAttempt", deadline, call).await?;
        if let Some(attempt) = self.shared().lock().attempts.get_mut(&self.inner.visit_id) {
            attempt.opened = true;
        }
        self.shared().work.notify_one();
        Ok(())
    }

    /// Numbers a row and keeps it until it is on storage's disk. Waits while the buffer is full.
    ///
    /// # Errors
    /// When storage refused an earlier batch of this attempt, or the service stops.
    pub async fn record(
        &self,
        stream: StreamId,
        captured_at_us: i64,
        row: record::Row,
    ) -> Result<(), UplinkError> {
        self.inner.symbols.note(&row);
        self.inner.traffic.note(captured_at_us, &row);
        let producer = if stream == StreamId::SERVICE { Producer::Service } else { Producer::Devtools };
        let row = Row { stream: stream.0, producer, captured_at_us, row };
        record(self.shared(), self.inner.visit_id, row).await
    }

    /// Records a row that belongs to no visit any more.
    pub async fn record_unattributed(
        &self,
        captured_at_us: i64,
        row: record::Row,
    ) -> Result<(), UplinkError> {
        super::record_of_no_visit(self.shared(), captured_at_us, row).await
    }

    /// Takes a batch that a session of the extension numbered. Waits while the buffer is full.
    pub async fn forward(
        &self,
        stream: StreamId,
        session_uuid: &str,
        first: i64,
        count: u32,
        payload: Bytes,
    ) -> Result<(), UplinkError> {
        self.inner.symbols.note_batch(&payload);
        self.inner.traffic.note_batch(&payload);
        let batch = Numbered { first, count, payload };
        forward(self.shared(), self.inner.visit_id, stream.0, session_uuid, batch).await
    }

    /// Whether nothing was recorded or forwarded so far.
    pub fn is_untouched(&self) -> bool {
        self.with(|state| Some(state.attempts.get(&self.inner.visit_id)?.streams.is_empty())).unwrap_or(false)
    }

    /// How far storage has a stream; -1: nothing yet.
    pub fn acked(&self, stream: StreamId) -> i64 {
        self.with(|state| {
            let attempt = state.attempts.get(&self.inner.visit_id)?;
            attempt.streams.get(&stream.0).map(Buffer::acked)
        })
        .unwrap_or(-1)
    }

    /// How far storage has the streams of the extension's sessions.
    pub fn extension_acks(&self) -> Vec<(u32, i64)> {
        let state = self.shared().lock();
        let streams = state.attempts.get(&self.inner.visit_id).map(|a| &a.streams);
        let extension = streams.into_iter().flatten().filter(|(stream, _)| **stream >= StreamId::EXTENSION.0);
        extension.map(|(stream, buffer)| (*stream, buffer.acked())).collect()
    }

    /// Waits until a stream has been forwarded up to an ordinal.
    pub async fn received(
        &self,
        stream: StreamId,
        ordinal: i64,
        deadline: Instant,
    ) -> Result<(), UplinkError> {
        let there = until(self.shared(), self.inner.visit_id, |attempt| {
            let last = attempt.streams.get(&stream.0).map_or(-1, Buffer::last_ordinal);
            (last >= ordinal).then_some(())
        });
        let late = |_| UplinkError::Deadline {
            what: "the extension's records",
            after: Duration::ZERO,
            last: format!("they are not all here up to {ordinal}"),
        };
        timeout_at(deadline, there).await.map_err(late)?
    }

    /// Changes at every ack, at a refusal, and when records were forwarded.
    pub fn news(&self) -> watch::Receiver<u64> {
        subscribe(&self.shared().lock(), self.inner.visit_id).unwrap_or_else(|| watch::channel(0).1)
    }

    /// Waits for a refusal: from then on the attempt can record nothing.
    pub async fn refused(&self) -> UplinkError {
        let mut news = self.news();
        loop {
            news.borrow_and_update();
            if let Some(error) = self.refusal() {
                return error;
            }
            if news.changed().await.is_err() {
                return UplinkError::Closed;
            }
        }
    }

    fn refusal(&self) -> Option<UplinkError> {
        self.with(|state| state.attempts.get(&self.inner.visit_id)?.refused.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&State) -> Option<T>) -> Option<T> {
        look(&self.shared().lock())
    }

    /// Waits until storage has everything that was recorded and forwarded.
    pub async fn flushed(&self, deadline: Instant) -> Result<(), UplinkError> {
        flushed(self.shared(), self.inner.visit_id, deadline).await
    }

    /// Stores a blob; gives its SHA-256 in lower-case hex.
    pub async fn put_blob(&self, content: Bytes, deadline: Instant) -> Result<String, UplinkError> {
        super::blobs::put(self.shared(), content, deadline).await
    }

    /// Fetches a blob into a file. On an error what is there of the file is of no use.
    pub async fn get_blob(&self, sha256: &str, to: &Path, deadline: Instant) -> Result<(), UplinkError> {
        super::blobs::get(self.shared(), sha256, to, deadline).await
    }

    /// As [`AttemptUplink::put_blob`], when the SHA-256 is known (storage checks it).
    pub async fn put_blob_named(
        &self,
        sha256: &str,
        content: Bytes,
        deadline: Instant,
    ) -> Result<(), UplinkError> {
        super::blobs::put_named(self.shared(), sha256, content, deadline).await
    }

    /// Seals the attempt with every stream declared: those of this service as they were numbered here, the
    /// extension's as its sessions claim, or as far as they came when a session claims nothing any more.
    pub async fn seal(&self, parts: SealParts, deadline: Instant) -> Result<SealSummary, UplinkError> {
        let request = self.seal_request(parts);
        let client = self.shared().client();
        let call = || {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.seal_attempt(request).await }
        };
        let answer = retried("SealAttempt", deadline, call).await?;
        Ok(answer.into_inner().seal.unwrap_or_default())
    }

    fn seal_request(&self, parts: SealParts) -> SealAttemptRequest {
        let visit_id = self.inner.visit_id;
        let state = self.shared().lock();
        let attempt = state.attempts.get(&visit_id);
        let known = |stream: StreamId| {
            attempt.and_then(|a| a.streams.get(&stream.0)).map_or(-1, Buffer::last_ordinal)
        };
        let own = |stream: StreamId, producer: Producer, suspect: String| StreamEnd {
            stream: stream.0,
            producer: producer.into(),
            extension_session_uuid: String::new(),
            last_ordinal: known(stream),
            suspect,
        };
        let mut streams = vec![own(StreamId::SERVICE, Producer::Service, String::new())];
        if parts.devtools.is_some() || known(StreamId::DEVTOOLS) >= 0 {
            streams.push(own(StreamId::DEVTOOLS, Producer::Devtools, parts.devtools.unwrap_or_default()));
        }
        let claimed: Vec<u32> = parts.sessions.iter().map(|c| c.stream).collect();
        streams.extend(parts.sessions.into_iter().map(|claim| StreamEnd {
            stream: claim.stream,
            producer: Producer::Extension.into(),
            extension_session_uuid: claim.session_uuid,
            last_ordinal: claim.last_ordinal,
            suspect: claim.suspect,
        }));
        let unclaimed = attempt
            .into_iter()
            .flat_map(|a| &a.streams)
            .filter(|(stream, _)| **stream >= StreamId::EXTENSION.0 && !claimed.contains(stream));
        streams.extend(unclaimed.map(|(stream, buffer)| StreamEnd {
            stream: *stream,
            producer: Producer::Extension.into(),
            extension_session_uuid: buffer.session_uuid.clone(),
            last_ordinal: buffer.last_ordinal(),
            suspect: "the extension's session did not say where it ended".to_owned(),
        }));
        SealAttemptRequest {
            visit_id,
            fence: attempt.map_or(0, |a| a.fence),
            streams,
            outcome: parts.outcome.into(),
            incomplete_reason: parts.incomplete_reason,
            instruments_ready_at_us: parts.instruments_ready_at_us,
            navigation_start_at_us: parts.navigation_start_at_us,
        }
    }
}

fn subscribe(state: &State, visit_id: i64) -> Option<watch::Receiver<u64>> {
    Some(state.attempts.get(&visit_id)?.news.subscribe())
}

/// Waits until `ready` says so; `None` from it: not yet.
async fn until<T>(
    shared: &Shared,
    visit_id: i64,
    mut ready: impl FnMut(&mut super::Attempt) -> Option<T>,
) -> Result<T, UplinkError> {
    let mut news = subscribe(&shared.lock(), visit_id).ok_or(UplinkError::Closed)?;
    loop {
        news.borrow_and_update();
        {
            let mut state = shared.lock();
            let closed = state.closed;
            let attempt = state.attempts.get_mut(&visit_id).ok_or(UplinkError::Closed)?;
            if let Some(refused) = &attempt.refused {
                return Err(refused.clone());
            }
            if closed {
                return Err(UplinkError::Closed);
            }
            if let Some(done) = ready(attempt) {
                return Ok(done);
            }
        }
        news.changed().await.map_err(|_| UplinkError::Closed)?;
    }
}

pub(super) async fn record(shared: &Shared, visit_id: i64, row: Row) -> Result<(), UplinkError> {
    let record = Record { captured_at_us: row.captured_at_us, row: Some(row.row) };
    let bounds = shared.bounds;
    let look = until(shared, visit_id, |attempt| {
        if !attempt.has_room(bounds) {
            return None;
        }
        let buffer =
            attempt.streams.entry(row.stream).or_insert_with(|| Buffer::new(row.producer, String::new()));
        let before = buffer.held();
        let look = buffer.push(&record, Instant::now());
        attempt.held.records += buffer.held().records - before.records;
        attempt.held.bytes += buffer.held().bytes - before.bytes;
        Some(look)
    })
    .await?;
    if look {
        shared.work.notify_one();
    }
    Ok(())
}

pub(super) async fn forward(
    shared: &Shared,
    visit_id: i64,
    stream: u32,
    session_uuid: &str,
    batch: Numbered,
) -> Result<(), UplinkError> {
    let bounds = shared.bounds;
    until(shared, visit_id, |attempt| {
        if !attempt.has_room(bounds) {
            return None;
        }
        let new = || Buffer::new(Producer::Extension, session_uuid.to_owned());
        let buffer = attempt.streams.entry(stream).or_insert_with(new);
        let before = buffer.held();
        buffer.forward(batch.first, batch.count, batch.payload.clone());
        attempt.held.records += buffer.held().records - before.records;
        attempt.held.bytes += buffer.held().bytes - before.bytes;
        attempt.news.send_modify(|n| *n += 1);
        Some(())
    })
    .await?;
    shared.work.notify_one();
    Ok(())
}

pub(super) async fn flushed(shared: &Shared, visit_id: i64, deadline: Instant) -> Result<(), UplinkError> {
    let after = deadline.saturating_duration_since(Instant::now());
    if let Some(attempt) = shared.lock().attempts.get_mut(&visit_id) {
        attempt.streams.values_mut().for_each(Buffer::cut);
    }
    shared.work.notify_one();
    let empty =
        until(shared, visit_id, |attempt| attempt.streams.values().all(Buffer::is_flushed).then_some(()));
    let late = |_| UplinkError::Deadline {
        what: "the last batches",
        after: Duration::from_millis(after.as_millis() as u64),
        last: "acks are missing".to_owned(),
    };
    timeout_at(deadline, empty).await.map_err(late)?
}
