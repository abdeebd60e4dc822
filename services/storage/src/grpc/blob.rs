use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use sonde_proto::storage::v1::blob_service_server::BlobService;
use sonde_proto::storage::v1::{
    GetBlobRequest, GetBlobResponse, HasBlobsRequest, HasBlobsResponse, PutBlobRequest, PutBlobResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::blocking;
use crate::blobs::{BlobError, Hash};
use crate::stats::add;
use crate::storage::Shared;

/// Chunks between the socket and the disk, each way.
const QUEUE: usize = 4;
const PUT_CHUNK: usize = 1 << 20;
const GET_CHUNK: usize = 256 << 10;
const MAX_HASHES: usize = 1000;

pub(super) struct Blob(pub Arc<Shared>);

impl From<BlobError> for Status {
    fn from(error: BlobError) -> Self {
        let message = error.to_string();
        match error {
            BlobError::NotAHash(_) | BlobError::TooLong { .. } => Self::invalid_argument(message),
            BlobError::NotFound(_) => Self::not_found(message),
            BlobError::Mismatch { .. } | BlobError::Damaged { .. } => Self::data_loss(message),
            BlobError::Full(_) => Self::resource_exhausted(message),
            BlobError::Io { .. } => Self::unavailable(message),
        }
    }
}

/// A message of a put, or the end of the stream.
enum Piece {
    Chunk(bytes::Bytes),
    End,
}

#[tonic::async_trait]
impl BlobService for Blob {
    type GetBlobStream = Pin<Box<dyn Stream<Item = Result<GetBlobResponse, Status>> + Send>>;

    async fn put_blob(
        &self,
        request: Request<Streaming<PutBlobRequest>>,
    ) -> Result<Response<PutBlobResponse>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.ok_or_else(|| {
            Status::invalid_argument("no message came: send at least one, which may be empty")
        })?;
        let expected = if first.sha256.is_empty() { None } else { Some(Hash::parse(&first.sha256)?) };
        let (pieces, mut queue) = mpsc::channel(QUEUE);
        let shared = self.0.clone();
        let writing = blocking(move || {
            let mut incoming = shared.blobs.begin(expected)?;
            loop {
                match queue.blocking_recv() {
                    Some(Piece::Chunk(chunk)) => incoming.write(&chunk)?,
                    Some(Piece::End) => break,
                    None => return Err(Status::cancelled("the stream broke before the blob's end")),
                }
            }
            let stored = incoming.finish()?;
            add(&shared.stats.blobs, u64::from(!stored.existed));
            Ok(stored)
        });
        let feeding = feed(first, requests, pieces);
        let (stored, fed) = tokio::join!(writing, feeding);
        // A stream error is the cause of what the writer then says.
        fed?;
        let stored = stored?;
        Ok(Response::new(PutBlobResponse {
            sha256: stored.hash.as_str().to_owned(),
            bytes: stored.bytes,
            existed: stored.existed,
        }))
    }

    async fn get_blob(
        &self,
        request: Request<GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let hash = Hash::parse(&request.into_inner().sha256)?;
        let shared = self.0.clone();
        let mut outgoing = blocking(move || Ok(shared.blobs.read(&hash)?)).await?;
        let (pieces, queue) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            loop {
                let (message, last) = match outgoing.next(GET_CHUNK) {
                    Ok(Some(piece)) => (Ok(GetBlobResponse { chunk: piece.into() }), false),
                    Ok(None) => return,
                    Err(error) => (Err(Status::from(error)), true),
                };
                if pieces.blocking_send(message).is_err() || last {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }

    async fn has_blobs(
        &self,
        request: Request<HasBlobsRequest>,
    ) -> Result<Response<HasBlobsResponse>, Status> {
        let wanted = request.into_inner().sha256;
        if wanted.len() > MAX_HASHES {
            return Err(Status::invalid_argument(format!(
                "sha256: {} given, at most {MAX_HASHES}",
                wanted.len()
            )));
        }
        let shared = self.0.clone();
        let present = blocking(move || {
            wanted
                .iter()
                .map(|text| Ok(shared.blobs.has(&Hash::parse(text)?)?))
                .collect::<Result<_, Status>>()
        })
        .await?;
        Ok(Response::new(HasBlobsResponse { present }))
    }
}

/// Hands chunks to the writer until the stream's end, an error of either.
async fn feed(
    first: PutBlobRequest,
    mut requests: Streaming<PutBlobRequest>,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), Status> {
    let mut next = Some(first);
    while let Some(request) = next {
        if request.chunk.len() > PUT_CHUNK {
            return Err(Status::invalid_argument(format!(
                "chunk: {} bytes, at most {PUT_CHUNK}",
                request.chunk.len()
            )));
        }
        // A writer that is gone has failed, and says why.
        if !request.chunk.is_empty() && pieces.send(Piece::Chunk(request.chunk)).await.is_err() {
            return Ok(());
        }
        next = requests.message().await?;
    }
    if pieces.send(Piece::End).await.is_err() {
        tracing::debug!("the blob's writer failed before its end");
    }
    Ok(())
}
