//! Takes rows from the outbox to storage until each is confirmed, and says whether storage is there.
use std::{sync::Arc, time::Duration};

use sonde_proto::storage::v1::{
    LedgerRow, SealAttemptRequest, SealAttemptResponse, WriteLedgerRequest,
    ingest_service_client::IngestServiceClient,
};
use sonde_runtime::{backoff::Backoff, serve::limits};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    engine::{EngineHandle, Msg},
    store::{OutboxRow, Store, outbox_page},
};

const ROWS: usize = 500;
const BYTES: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(10);
/// Between checks while there is nothing to push.
const CHECK: Duration = Duration::from_secs(1);
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
const SERVICE: &str = "sonde.storage.v1.IngestService";

/// Storage as the coordinator calls it.
#[derive(Clone)]
pub(crate) struct StorageClient {
    ingest: IngestServiceClient<Channel>,
    health: HealthClient<Channel>,
}

impl StorageClient {
    pub fn new(channel: Channel) -> Self {
        let ingest = IngestServiceClient::new(channel.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        Self { ingest, health: HealthClient::new(channel) }
    }

    async fn write(&mut self, rows: Vec<LedgerRow>) -> Result<(), Status> {
        within(self.ingest.write_ledger(WriteLedgerRequest { rows })).await.map(|_| ())
    }

    pub async fn seal(&mut self, request: SealAttemptRequest) -> Result<SealAttemptResponse, Status> {
        within(self.ingest.seal_attempt(request)).await.map(tonic::Response::into_inner)
    }

    /// Whether storage takes rows now. One without a health service is taken at its word when it answers.
    async fn check(&mut self) -> Result<(), Status> {
        match within(self.health.check(HealthCheckRequest { service: SERVICE.into() })).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::NotServing => {
                Err(Status::unavailable("it says that it is not serving: see its log"))
            }
            Ok(_) => Ok(()),
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => Ok(()),
            Err(status) => Err(status),
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {DEADLINE:?}"))),
    }
}

pub(crate) struct Pusher {
    pub storage: StorageClient,
    pub store: Store,
    pub engine: EngineHandle,
    /// Rung when the outbox got rows.
    pub bell: Arc<Notify>,
    pub stop: CancellationToken,
}

impl Pusher {
    pub async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.push() => {}
        }
    }

    async fn push(mut self) {
        let mut sent = 0;
        // Unknown at first, so that nothing is leased before the first answer.
        let mut down = true;
        let mut failures = 0;
        loop {
            let (result, pushed) = match self.page(sent).await {
                Some(rows) if !rows.is_empty() => self.write(rows).await,
                _ => (self.storage.check().await, Vec::new()),
            };
            let idle = pushed.is_empty();
            if let Some(last) = pushed.last() {
                sent = *last;
                self.engine.send(Msg::Confirmed(pushed)).await;
            }
            match result {
                Ok(()) => {
                    failures = 0;
                    if std::mem::take(&mut down) {
                        tracing::info!("storage is there");
                        self.engine.send(Msg::Storage(None)).await;
                    }
                    if idle {
                        tokio::select! {
                            () = self.bell.notified() => {}
                            () = tokio::time::sleep(CHECK) => {}
                        }
                    }
                }
                Err(status) => {
                    let what = format!("storage: {:?}: {}", status.code(), status.message());
                    if !std::mem::replace(&mut down, true) || failures == 0 {
                        tracing::warn!("{what}; nothing is leased until it is back");
                    }
                    self.engine.send(Msg::Storage(Some(what))).await;
                    tokio::time::sleep(RETRY.next(failures, rand::random())).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    async fn page(&self, after: i64) -> Option<Vec<OutboxRow>> {
        match self.store.read(move |conn| outbox_page(conn, after, ROWS, BYTES)).await {
            Ok(rows) => Some(rows),
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                None
            }
        }
    }

    /// Ids of the rows that storage has now. A row that it refuses holds up only those after it in its page, and shows
    /// in `waiting_for`: an outcome must not become visible without its row.
    async fn write(&mut self, rows: Vec<OutboxRow>) -> (Result<(), Status>, Vec<i64>) {
        let ids = rows.iter().map(|row| row.id).collect();
        let all = rows.iter().map(|row| row.ledger.clone()).collect();
        match self.storage.write(all).await {
            Ok(()) => return (Ok(()), ids),
            Err(status) if status.code() != Code::InvalidArgument || rows.len() == 1 => {
                return (Err(status), Vec::new());
            }
            Err(_) => {}
        }
        let mut written = Vec::new();
        for row in rows {
            match self.storage.write(vec![row.ledger]).await {
                Ok(()) => written.push(row.id),
                Err(status) => return (Err(status), written),
            }
        }
        (Ok(()), written)
    }
}
