//! Files that the browser saves, where a command asks for them.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;
use sonde_proto::visit::v1::{ArtifactRef, ClickCommand, DownloadCommand, download_command::From};
use tokio::time::Instant;

use super::input::Act;
use super::interact::click_acts;
use super::script::Refusal;
use super::{Page, Why, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::no_page;
use crate::engine::scratch::Scratch;

/// Unless the command says so.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of a suggested name that are kept.
const MAX_NAME: usize = 200;

/// What makes the browser save a file.
#[derive(Debug)]
pub enum Trigger {
    Url(String),
    Acts(Vec<Act>),
}

/// A file that the browser has saved.
#[derive(Debug)]
pub struct Saved {
    pub url: String,
    /// As the server or the page suggests: never to be used as a path.
    pub name: String,
    pub path: PathBuf,
}

/// Runs the command.
pub(super) async fn download(
    page: &mut impl Page,
    index: u32,
    asked: &DownloadCommand,
    deadline: Instant,
) -> CommandReport {
    if matches!(asked.from, Some(From::Click(_))) && !page.loaded() {
        return no_page("download");
    }
    match fetch(page, index, asked, deadline).await {
        Ok((value, artifact)) => {
            let report = reported(page, "download", Ok(value), deadline).await;
            CommandReport { artifacts: vec![artifact], ..report }
        }
        Err(why) => reported(page, "download", Err(why), deadline).await,
    }
}

fn unwritten(error: io::Error) -> Refusal {
    Refusal::new("not_written", format!("the file cannot be kept on the server: {error}"))
}

async fn fetch<P: Page>(
    page: &mut P,
    index: u32,
    asked: &DownloadCommand,
    deadline: Instant,
) -> Result<(String, ArtifactRef), Why<P::NotLoaded>> {
    // Chromium may make it again, empty, when it looks after a download that it gave up.
    let scratch = Scratch::new(page.shared().run_dir.path(), "download").map_err(unwritten)?;
    let fetched = fetch_into(page, index, asked, scratch.path(), deadline).await;
    scratch.remove().await;
    fetched
}

async fn fetch_into<P: Page>(
    page: &mut P,
    index: u32,
    asked: &DownloadCommand,
    dir: &Path,
    deadline: Instant,
) -> Result<(String, ArtifactRef), Why<P::NotLoaded>> {
    let trigger = match &asked.from {
        Some(From::Url(url)) => Trigger::Url(url.clone()),
        Some(From::Click(target)) => {
            let click = ClickCommand { target: Some(target.clone()), ..ClickCommand::default() };
            Trigger::Acts(click_acts(page, &click, deadline).await?)
        }
        None => return Err(Refusal::new("invalid", "nothing to download").into()),
    };
    let max_bytes = if asked.max_bytes == 0 { MAX_BYTES } else { asked.max_bytes };
    page.progress().detail("waiting for the download");
    let Saved { url, name, path } = page.save(trigger, dir, max_bytes, deadline).await?;
    let content = tokio::fs::read(&path).await.map_err(unwritten)?;
    if content.len() as u64 > max_bytes {
        return Err(too_long(max_bytes));
    }
    let (bytes, sha256) = (content.len(), hex(&Sha256::digest(&content)));
    page.progress().detail("storing the download");
    let stored = page.uplink().put_blob_named(&sha256, content.into(), deadline).await;
    stored.map_err(|e| Refusal::new("not_stored", format!("the file was not stored: {e}")))?;
    let value = json!({"url": url, "name": name, "bytes": bytes, "sha256": sha256}).to_string();
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let mut safe: String = name.chars().map(|c| if fine(c) { c } else { '_' }).collect();
    safe.truncate(safe.floor_char_boundary(MAX_NAME));
    let artifact = ArtifactRef {
        kind: "download".to_owned(),
        name: format!("{}-{index}-{safe}", page.uplink().visit_id()),
        media_type: new_mime_guess::from_path(&safe).first_or_octet_stream().to_string(),
        sha256,
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
    };
    Ok((value, artifact))
}

/// The file has more bytes than it may.
pub fn too_long<E>(max_bytes: u64) -> Why<E> {
    Refusal::new(
        "too_long",
        format!("the file has more than {max_bytes} bytes (max_bytes): it was cancelled"),
    )
    .into()
}

/// The browser gave it up.
pub fn cancelled<E>() -> Why<E> {
    Refusal::new(
        "download_failed",
        "the browser gave the download up: the server cut it, or it could not be written",
    )
    .into()
}

/// A URL that is no file.
pub fn shown<E>() -> Why<E> {
    Refusal::new("not_a_download", "the URL is shown as a page, not saved as a file: use get").into()
}

/// Nothing was saved.
pub fn none_came<E>() -> Why<E> {
    Refusal::new("timeout", "the time ran out before a download was complete").into()
}
