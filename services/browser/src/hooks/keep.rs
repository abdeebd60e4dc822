//! The files that hooks left, as blobs, within bounds.

use std::path::Path;

use tokio::time::Instant;

use super::event::HookResult;
use super::outputs::Output;
use crate::uplink::{Uplink, UplinkError};

/// Files stored of one run.
const MAX_FILES: usize = 1000;
/// Bytes of one of them.
const MAX_FILE: u64 = 64 << 20;
/// Bytes of all of them.
pub const MAX_BYTES: u64 = 512 << 20;

/// A file of a hook.
#[derive(Debug)]
pub struct Kept<'a> {
    pub result: &'a HookResult,
    pub output: &'a Output,
    /// SHA-256 and length of the blob; `None`: it was too much, or the file was gone.
    pub blob: Option<(String, i64)>,
}

/// Stores what the plugins left in their directories below `dir`, in the order of the results.
///
/// # Errors
/// When storage does not take a blob by the deadline.
pub async fn keep<'a>(
    uplink: &Uplink,
    dir: &Path,
    results: &'a [HookResult],
    deadline: Instant,
) -> Result<Vec<Kept<'a>>, UplinkError> {
    let (mut all, mut files, mut bytes) = (Vec::new(), 0, 0);
    for result in results {
        for output in &result.outputs {
            let fits = files < MAX_FILES && output.size <= MAX_FILE && bytes + output.size <= MAX_BYTES;
            // A hook's path was told by the runner, which follows no links; a file may be gone meanwhile.
            let content = match fits {
                true => tokio::fs::read(dir.join(&result.plugin).join(&output.path)).await.ok(),
                false => None,
            };
            let mut blob = None;
            if let Some(content) = content {
                (files, bytes) = (files + 1, bytes + output.size);
                let length = i64::try_from(content.len()).unwrap_or(i64::MAX);
                blob = Some((uplink.put_blob(content.into(), deadline).await?, length));
            }
            all.push(Kept { result, output, blob });
        }
    }
    Ok(all)
}
