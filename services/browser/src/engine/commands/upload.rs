//! Files for the input elements of pages.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sonde_proto::visit::v1::{UploadCommand, upload_file::Source};
use tokio::time::Instant;

use super::interact::{ask, fields};
use super::script::{Refusal, target, task};
use super::{Done, Page, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::no_page;

/// Where `page.js` leaves the element, in a world that the page cannot see.
const ELEMENT: &str = "globalThis.sondeFileInput";

/// Files that an input element got. A page reads them when it likes: they go with the visit.
#[derive(Debug)]
pub struct Chosen {
    dir: PathBuf,
    pub files: Vec<PathBuf>,
}

impl Chosen {
    fn new(run_dir: &Path) -> io::Result<Self> {
        let dir = std::path::absolute(run_dir)?.join(format!("upload_{}", uuid::Uuid::new_v4()));
        DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self { dir, files: Vec::new() })
    }

    /// A place for one more file; two may have the same name.
    async fn place(&mut self, name: &str) -> io::Result<PathBuf> {
        let own = self.dir.join(self.files.len().to_string());
        tokio::fs::create_dir(&own).await?;
        let path = own.join(name);
        self.files.push(path.clone());
        Ok(path)
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = ?self.dir, %error, "the files of an upload could not be removed");
        }
    }
}

pub(super) async fn upload(page: &mut impl Page, upload: &UploadCommand, deadline: Instant) -> CommandReport {
    if !page.loaded() {
        return no_page("upload");
    }
    let done = choose(page, upload, deadline).await;
    reported(page, "upload", done, deadline).await
}

async fn choose<P: Page>(page: &mut P, upload: &UploadCommand, deadline: Instant) -> Done<P> {
    let files = written(page, upload, deadline).await?;
    page.progress().detail("waiting for the element");
    let element = target(upload.target.as_ref());
    let wanted = fields([("target", element), ("files", json!(upload.files.len()))]);
    ask(page, task("fileInput", wanted, deadline, true), deadline).await?;
    page.progress().detail("choosing files");
    if upload.files.is_empty() {
        // Told to choose none, Chromium leaves what was chosen before.
        return ask(page, task("emptied", fields([]), deadline, false), deadline).await;
    }
    page.choose_files(ELEMENT, files, deadline).await?;
    ask(page, task("chosenFiles", fields([]), deadline, false), deadline).await
}

async fn written<P: Page>(page: &P, upload: &UploadCommand, deadline: Instant) -> Result<Chosen, Refusal> {
    let unwritten =
        |e: io::Error| Refusal::new("not_written", format!("the files cannot be written on the server: {e}"));
    let mut chosen = Chosen::new(page.shared().run_dir.path()).map_err(unwritten)?;
    for file in &upload.files {
        let path = chosen.place(&file.name).await.map_err(unwritten)?;
        match &file.source {
            Some(Source::Content(content)) => tokio::fs::write(&path, content).await.map_err(unwritten)?,
            Some(Source::Blob(sha256)) => {
                page.progress().detail(format!("fetching {}", file.name));
                let fetched = page.uplink().get_blob(sha256, &path, deadline).await;
                fetched.map_err(|e| {
                    let message = format!("the blob {sha256} of {:?} was not fetched: {e}", file.name);
                    Refusal::new("blob_not_fetched", message)
                })?;
            }
            None => return Err(Refusal::new("invalid", format!("{:?} has no bytes", file.name))),
        }
    }
    Ok(chosen)
}
