//! The data directory and its lock.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::OpenError;

/// A data directory that this process alone may write. The lock ends with the last clone's drop, or the process.
#[derive(Debug)]
pub(crate) struct Directory {
    pub path: PathBuf,
    _lock: File,
}

impl Directory {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { path }),
            Err(error) => Err(failed(error.into())),
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
