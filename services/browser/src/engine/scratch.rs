//! A directory for the files of one command; it goes with the command.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// For it to be removed.
const REMOVAL: Duration = Duration::from_secs(5);
/// Between tries of that.
const AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Among the browsers' files.
    pub fn new(run_dir: &Path, purpose: &str) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = std::path::absolute(run_dir)?.join(format!("{purpose}_{}", uuid::Uuid::new_v4()));
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a browser may still be at a file that it has given up: tries again until it is not.
    pub async fn remove(mut self) {
        let dir = std::mem::take(&mut self.0);
        let until = Instant::now() + REMOVAL;
        loop {
            match tokio::fs::remove_dir_all(&dir).await {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) if Instant::now() >= until => return stays(&dir, &error),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty()
            && let Err(error) = std::fs::remove_dir_all(&self.0)
        {
            stays(&self.0, &error);
        }
    }
}

fn stays(dir: &Path, error: &io::Error) {
    tracing::warn!(?dir, %error, "the files of a command could not be removed; they go with the service's directory");
}
