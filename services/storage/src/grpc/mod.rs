//! The services of the contract: they check what comes in, and hand it to the threads that write.

mod attempt;
mod blob;
mod ingest;
mod record;

use std::sync::Arc;

use sonde_proto::storage::v1::blob_service_server::BlobServiceServer;
use sonde_proto::storage::v1::ingest_service_server::IngestServiceServer;
use sonde_proto::storage::v1::record_service_server::RecordServiceServer;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::service::Routes;

use crate::crawl::Job;
use crate::error::StoreError;
use crate::ingest::{Command, Rejected, batch};
use crate::storage::Shared;

/// A batch of the largest payload, with its envelope.
const INGEST_MESSAGE: usize = batch::MAX_PAYLOAD + (64 << 10);

pub(crate) fn routes(shared: &Arc<Shared>) -> Routes {
    let ingest = IngestServiceServer::new(ingest::Ingest(shared.clone()));
    let blob = BlobServiceServer::new(blob::Blob(shared.clone()));
    let record = RecordServiceServer::new(record::Records(shared.clone()));
    Routes::new(ingest.max_decoding_message_size(INGEST_MESSAGE))
        .add_service(blob.max_decoding_message_size(2 << 20))
        .add_service(record)
}

impl Shared {
    /// Asks the ingest thread. While the disk is full that is an error, and not a wait: the caller may ask again.
    pub async fn ask_ingest<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Rejected>>) -> Command,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.ingest.send(command(reply)).await.map_err(|_| StoreError::Closing.status())?;
            let answer = answer.await.map_err(|_| StoreError::Closing.status())?;
            answer.map_err(|rejected| rejected.status())
        };
        tokio::select! {
            biased;
            answer = asked => answer,
            error = self.trouble.appears() => Err(error.status()),
        }
    }

    /// Asks the thread of `crawl.sqlite`.
    pub async fn ask_crawl<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| StoreError::Closing.status())?;
        let answer = answer.await.map_err(|_| StoreError::Closing.status())?;
        answer.map_err(|error| error.status())
    }
}

/// Runs file or database reads off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(format!("a storage task failed: {error}")))?
}
