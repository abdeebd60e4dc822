use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use sonde_proto::storage::v1::ingest_service_server::IngestService;
use sonde_proto::storage::v1::{
    IngestRequest, IngestResponse, OpenAttemptRequest, OpenAttemptResponse, SealAttemptRequest,
    SealAttemptResponse, WriteLedgerRequest, WriteLedgerResponse,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{attempt, blocking};
use crate::error::StoreError;
use crate::ingest::{Ack, Answer, Batch, Command, refused};
use crate::stats::add;
use crate::storage::{PERMIT_BYTES, Shared};

/// Batches of one stream that are not answered yet; then the stream is not read.
const WINDOW: usize = 256;
/// Payloads above this are decoded off the async threads.
const INLINE_BYTES: usize = 256 << 10;

pub(super) struct Ingest(pub Arc<Shared>);

#[tonic::async_trait]
impl IngestService for Ingest {
    type IngestStream = Pin<Box<dyn Stream<Item = Result<IngestResponse, Status>> + Send>>;

    async fn ingest(
        &self,
        request: Request<Streaming<IngestRequest>>,
    ) -> Result<Response<Self::IngestStream>, Status> {
        let (answers, delivered) = mpsc::channel::<Answer>(WINDOW);
        tokio::spawn(read(self.0.clone(), request.into_inner(), answers));
        // An answer's place in the window is free once the transport took it.
        let responses = ReceiverStream::new(delivered).map(|(answer, _place)| answer);
        Ok(Response::new(Box::pin(responses)))
    }

    async fn open_attempt(
        &self,
        request: Request<OpenAttemptRequest>,
    ) -> Result<Response<OpenAttemptResponse>, Status> {
        attempt::open(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn seal_attempt(
        &self,
        request: Request<SealAttemptRequest>,
    ) -> Result<Response<SealAttemptResponse>, Status> {
        attempt::seal(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn write_ledger(
        &self,
        request: Request<WriteLedgerRequest>,
    ) -> Result<Response<WriteLedgerResponse>, Status> {
        attempt::ledger(&self.0, request.into_inner()).await.map(Response::new)
    }
}

/// Reads a stream until its end, an error, or the drain. The response stream ends when all that was taken is answered.
async fn read(shared: Arc<Shared>, mut requests: Streaming<IngestRequest>, answers: mpsc::Sender<Answer>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    loop {
        let place = tokio::select! {
            place = window.clone().acquire_owned() => place.expect("the window is never closed"),
            () = answers.closed() => return,
        };
        let request = tokio::select! {
            request = requests.message() => request,
            () = shared.streams.cancelled() => return,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "an ingest stream broke; what is not acked comes again");
                return;
            }
        };
        let ack = Ack { answers: answers.clone(), place, bytes: None };
        if take(&shared, request, ack).await.is_err() {
            return;
        }
    }
}

/// Checks and queues one batch; an error ends the stream.
async fn take(shared: &Arc<Shared>, request: IngestRequest, mut ack: Ack) -> Result<(), ()> {
    let (visit_id, stream) = (request.visit_id, request.stream);
    let bytes = request.payload.len();
    let checked = if bytes <= INLINE_BYTES {
        Ok(Batch::try_from(request))
    } else {
        blocking(move || Ok(Batch::try_from(request))).await
    };
    let batch = match checked {
        Ok(Ok(batch)) => batch,
        Ok(Err(refusal)) => {
            add(&shared.stats.refused, 1);
            ack.send(Ok(refused(visit_id, stream, &refusal)));
            return Ok(());
        }
        Err(status) => {
            ack.send(Err(status));
            return Err(());
        }
    };
    let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
    let permit = shared.queue_bytes.clone().acquire_many_owned(permits).await;
    ack.bytes = Some(permit.expect("the queue's semaphore is never closed"));
    if let Err(mpsc::error::SendError(Command::Append { ack, .. })) =
        shared.ingest.send(Command::Append { batch, ack }).await
    {
        ack.send(Err(StoreError::Closing.status()));
        return Err(());
    }
    Ok(())
}
