//! Bodies, pictures and sources to storage, in pieces.

use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;
use sonde_proto::storage::v1::blob_service_client::BlobServiceClient;
use sonde_proto::storage::v1::{GetBlobRequest, PutBlobRequest};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tonic::Status;

use super::{Shared, UplinkError, retried};

const CHUNK: usize = 256 << 10;
/// Beyond this a hash is worth a thread of its own.
const BLOCKING: usize = 1 << 20;

pub(super) async fn put(shared: &Shared, content: Bytes, deadline: Instant) -> Result<String, UplinkError> {
    let sha256 = if content.len() > BLOCKING {
        let content = content.clone();
        tokio::task::spawn_blocking(move || hex(&Sha256::digest(&content)))
            .await
            .map_err(|_| UplinkError::Closed)?
    } else {
        hex(&Sha256::digest(&content))
    };
    put_named(shared, &sha256, content, deadline).await?;
    Ok(sha256)
}

pub(super) async fn put_named(
    shared: &Shared,
    sha256: &str,
    content: Bytes,
    deadline: Instant,
) -> Result<(), UplinkError> {
    let client = BlobServiceClient::new(shared.channel.clone());
    let pieces = pieces(sha256, &content);
    let call = || {
        let (mut client, pieces) = (client.clone(), tokio_stream::iter(pieces.clone()));
        async move { client.put_blob(pieces).await }
    };
    retried("PutBlob", deadline, call).await?;
    Ok(())
}

/// Writes a blob to a file, which is whole when this returns.
pub(super) async fn get(
    shared: &Shared,
    sha256: &str,
    to: &Path,
    deadline: Instant,
) -> Result<(), UplinkError> {
    let client = BlobServiceClient::new(shared.channel.clone());
    let call = || {
        let mut client = client.clone();
        async move {
            let mut pieces =
                client.get_blob(GetBlobRequest { sha256: sha256.to_owned() }).await?.into_inner();
            let unwritten =
                |e: std::io::Error| Status::internal(format!("cannot write {}: {e}", to.display()));
            let mut file = tokio::fs::File::create(to).await.map_err(unwritten)?;
            // Storage checks the hash as it reads: a stream that ends well is the blob.
            while let Some(piece) = pieces.message().await? {
                file.write_all(&piece.chunk).await.map_err(unwritten)?;
            }
            file.flush().await.map_err(unwritten)
        }
    };
    retried("GetBlob", deadline, call).await
}

fn pieces(sha256: &str, content: &Bytes) -> Vec<PutBlobRequest> {
    let head = PutBlobRequest { sha256: sha256.to_owned(), chunk: content.slice(..content.len().min(CHUNK)) };
    let rest = (CHUNK..content.len()).step_by(CHUNK);
    let piece = |at: usize| PutBlobRequest {
        sha256: String::new(),
        chunk: content.slice(at..(at + CHUNK).min(content.len())),
    };
    std::iter::once(head).chain(rest.map(piece)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_content() {
        for size in [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let content = Bytes::from(vec![7u8; size]);
            let pieces = pieces("h", &content);
            assert_eq!(pieces.iter().map(|p| p.chunk.len()).sum::<usize>(), size);
            assert_eq!(pieces.iter().filter(|p| !p.sha256.is_empty()).count(), 1);
            assert!(pieces.iter().all(|p| p.chunk.len() <= CHUNK));
        }
    }
}
