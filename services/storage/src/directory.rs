//! The data directory and its lock.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sonde_runtime::lock::FileLock;

use crate::error::OpenError;

/// A data directory that this process alone may write. The lock ends with the last clone's drop, or the process.
#[derive(Debug)]
pub(crate) struct Directory {
    pub path: PathBuf,
    _lock: FileLock,
}

impl Directory {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        match FileLock::take(&path.join("lock")).map_err(failed)? {
            Some(lock) => Ok(Self { path, _lock: lock }),
            None => Err(OpenError::InUse { path }),
        }
    }

    pub fn crawl_db(&self) -> PathBuf {
        self.path.join("crawl.sqlite")
    }

    pub fn ingest_db(&self) -> PathBuf {
        self.path.join("ingest.sqlite")
    }

    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }
}
