//! The one task that speaks Ingest: sends what waits, takes acks, and starts over when the stream breaks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sonde_proto::storage::v1::{IngestRequest, IngestResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{BACKOFF, Shared, State, UplinkError};

/// Batches handed to the transport and not yet written.
const IN_TRANSPORT: usize = 64;

pub(super) async fn run(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        if shared.cancel.run_until_cancelled(shared.wait_for_work()).await.is_none() {
            return;
        }
        let mut acks = 0;
        let Some(ended) = shared.cancel.run_until_cancelled(connection(&shared, &mut acks)).await else {
            return;
        };
        shared.rewind();
        failures = if acks > 0 { 0 } else { failures + 1 };
        let pause = BACKOFF.next(failures, rand::random());
        match ended {
            Ok(()) => tracing::info!(?pause, "storage ended the ingest stream; opening another"),
            Err(status) => tracing::warn!(%status, ?pause, "the ingest stream broke; opening another"),
        }
        if shared.cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn connection(shared: &Shared, acks: &mut u64) -> Result<(), Status> {
    let (to_transport, requests) = mpsc::channel(IN_TRANSPORT);
    let mut client = shared.client();
    let receiving = async {
        let mut responses = client.ingest(ReceiverStream::new(requests)).await?.into_inner();
        while let Some(response) = responses.message().await? {
            *acks += 1;
            shared.on_response(response);
        }
        Ok(())
    };
    let sending = async {
        loop {
            let batch = shared.next_batch().await;
            if to_transport.send(batch).await.is_err() {
                // The receiving side tells why.
                return std::future::pending::<Infallible>().await;
            }
        }
    };
    tokio::select! {
        ended = receiving => ended,
        never = sending => match never {},
    }
}

impl Shared {
    async fn wait_for_work(&self) {
        while !self.lock().attempts.values().any(|a| a.opened && a.streams.values().any(|s| !s.is_flushed()))
        {
            self.work.notified().await;
        }
    }

    fn rewind(&self) {
        self.lock().attempts.values_mut().flat_map(|a| a.streams.values_mut()).for_each(|s| s.rewind());
    }

    /// The next batch that is due. Cancel-safe: what it gives counts as sent, and is sent again after a rewind.
    async fn next_batch(&self) -> IngestRequest {
        loop {
            let due = match self.lock().take_batch(Instant::now()) {
                Ok(batch) => return batch,
                Err(due) => due,
            };
            // Without a batch being filled only news can make work.
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = self.work.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    fn on_response(&self, response: IngestResponse) {
        let IngestResponse { visit_id, stream, through_ordinal, refused } = response;
        let mut state = self.lock();
        // An attempt that is sealed and forgotten may still be acked.
        let Some(attempt) = state.attempts.get_mut(&visit_id) else { return };
        match refused {
            Some(failure) => {
                tracing::warn!(visit_id, stream, message = failure.message, "storage refused a batch");
                let refusal = UplinkError::Refused { what: "a batch", message: failure.message };
                if visit_id == sonde_proto::VisitId::NONE {
                    // Only this stream's records are concerned; the others go on.
                    attempt.streams.entry(stream).and_modify(|s| s.abandon());
                } else {
                    attempt.refused.get_or_insert(refusal);
                    attempt.streams.values_mut().for_each(|s| s.abandon());
                }
                attempt.recount();
            }
            None => {
                let Some(buffer) = attempt.streams.get_mut(&stream) else { return };
                let gone = buffer.ack(through_ordinal);
                attempt.held.records -= gone.records;
                attempt.held.bytes -= gone.bytes;
            }
        }
        attempt.news.send_modify(|n| *n += 1);
    }
}

impl State {
    /// A batch to send, or when the next one is due.
    fn take_batch(&mut self, now: Instant) -> Result<IngestRequest, Option<Instant>> {
        let mut due: Option<Instant> = None;
        let mut ids: Vec<i64> = self.attempts.keys().copied().collect();
        ids.sort_unstable();
        let turn = self.turn % ids.len().max(1);
        ids.rotate_left(turn);
        for visit_id in ids {
            let Some(attempt) = self.attempts.get_mut(&visit_id).filter(|a| a.opened) else { continue };
            let fence = attempt.fence;
            for (stream, buffer) in &mut attempt.streams {
                match buffer.due_at() {
                    Some(at) if at <= now => buffer.cut(),
                    Some(at) => due = Some(due.map_or(at, |d| d.min(at))),
                    None => {}
                }
                if let Some(batch) = buffer.take_unsent() {
                    self.turn = self.turn.wrapping_add(1);
                    return Ok(IngestRequest {
                        visit_id,
                        fence,
                        stream: *stream,
                        producer: buffer.producer.into(),
                        extension_session_uuid: buffer.session_uuid.clone(),
                        first_ordinal: batch.first,
                        count: batch.count,
                        payload: batch.payload,
                    });
                }
            }
        }
        Err(due)
    }
}
