//! Blobs by the SHA-256 of their whole content, as files `ab/cd/<sha256>`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use sonde_proto::digest::{hex, is_sha256};

/// Why a blob was not stored or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("{0:?} is no SHA-256: 64 lower-case hex digits are")]
    NotAHash(String),
    #[error("there is no blob {0}")]
    NotFound(String),
    #[error("the content's SHA-256 is {found}, not {expected}: nothing was stored")]
    Mismatch { expected: String, found: String },
    #[error("blob {sha256} on disk is damaged: {what}")]
    Damaged { sha256: String, what: String },
    #[error("the blob is longer than {max} bytes (storage.max_blob_bytes): nothing was stored")]
    TooLong { max: u64 },
    #[error("no space left on the disk for blobs ({0}): free some and send the blob again")]
    Full(io::Error),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A SHA-256 as 64 lower-case hex digits: the only thing that ever becomes a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hash(String);

impl Hash {
    pub fn parse(text: &str) -> Result<Self, BlobError> {
        if is_sha256(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BlobError::NotAHash(text.chars().take(80).collect()))
        }
    }

    fn of(digest: Sha256) -> Self {
        Self(hex(&digest.finalize()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
    max_bytes: u64,
    next: AtomicU64,
}

/// A stored blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub hash: Hash,
    pub bytes: u64,
    pub existed: bool,
}

impl Blobs {
    /// Makes the directory, and removes what processes that died left half written (the caller holds the lock).
    pub fn open(root: &Path, max_bytes: u64) -> io::Result<Self> {
        let blobs = Self { root: root.to_owned(), max_bytes, next: AtomicU64::new(0) };
        DirBuilder::new().recursive(true).mode(0o700).create(blobs.partial())?;
        for entry in fs::read_dir(blobs.partial())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(blobs)
    }

    fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        self.root.join(&hash.0[..2]).join(&hash.0[2..4]).join(&hash.0)
    }

    /// Begins a blob. It reads and writes files, as do the methods of what it returns.
    pub fn begin(&self, expected: Option<Hash>) -> Result<Incoming<'_>, BlobError> {
        let path = self.partial().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| failed(&path, e))?;
        Ok(Incoming { blobs: self, expected, file, path, digest: Sha256::new(), bytes: 0 })
    }

    pub fn has(&self, hash: &Hash) -> Result<bool, BlobError> {
        let path = self.path(hash);
        match fs::symlink_metadata(&path) {
            Ok(found) => Ok(found.is_file()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Opens a blob for reading.
    pub fn read(&self, hash: &Hash) -> Result<Outgoing, BlobError> {
        let path = self.path(hash);
        match File::open(&path) {
            Ok(file) => Ok(Outgoing { file, path, hash: hash.clone(), digest: Sha256::new() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(BlobError::NotFound(hash.0.clone())),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Makes the two directories of a blob durable, and gives the inner.
    fn directory(&self, hash: &Hash) -> Result<PathBuf, BlobError> {
        let outer = self.root.join(&hash.0[..2]);
        let inner = outer.join(&hash.0[2..4]);
        for (path, parent) in [(&outer, self.root.as_path()), (&inner, outer.as_path())] {
            match DirBuilder::new().mode(0o700).create(path) {
                Ok(()) => sync(parent)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(path, error)),
            }
        }
        Ok(inner)
    }
}

/// A blob on its way in. Dropped before its end, it leaves nothing.
pub(crate) struct Incoming<'b> {
    blobs: &'b Blobs,
    expected: Option<Hash>,
    file: File,
    path: PathBuf,
    digest: Sha256,
    bytes: u64,
}

impl Incoming<'_> {
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.blobs.max_bytes {
            return Err(BlobError::TooLong { max: self.blobs.max_bytes });
        }
        self.digest.update(chunk);
        self.file.write_all(chunk).map_err(|e| failed(&self.path, e))
    }

    /// Checks the hash and makes the blob durable.
    pub fn finish(mut self) -> Result<Stored, BlobError> {
        let hash = Hash::of(std::mem::take(&mut self.digest));
        if let Some(expected) = self.expected.take().filter(|expected| *expected != hash) {
            return Err(BlobError::Mismatch { expected: expected.0, found: hash.0 });
        }
        let directory = self.blobs.directory(&hash)?;
        let path = directory.join(&hash.0);
        // A file of another length was damaged by something else: it is replaced.
        let existed =
            fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() == self.bytes);
        if !existed {
            self.file.sync_all().map_err(|e| failed(&self.path, e))?;
            fs::rename(&self.path, &path).map_err(|e| failed(&path, e))?;
        }
        // Also when it existed: another call may have renamed it a moment ago.
        sync(&directory)?;
        Ok(Stored { hash, bytes: self.bytes, existed })
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "a partial blob stays until the next start");
            }
            _ => {}
        }
    }
}

/// A blob on its way out.
pub(crate) struct Outgoing {
    file: File,
    path: PathBuf,
    hash: Hash,
    digest: Sha256,
}

impl Outgoing {
    /// The next piece; `None` at the end, once the whole was verified.
    pub fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>, BlobError> {
        let mut piece = Vec::new();
        let limit = most as u64;
        Read::by_ref(&mut self.file)
            .take(limit)
            .read_to_end(&mut piece)
            .map_err(|e| failed(&self.path, e))?;
        if !piece.is_empty() {
            self.digest.update(&piece);
            return Ok(Some(piece));
        }
        let found = Hash::of(std::mem::take(&mut self.digest));
        if found == self.hash {
            Ok(None)
        } else {
            let what = format!("its content's SHA-256 is {}", found.0);
            Err(BlobError::Damaged { sha256: self.hash.0.clone(), what })
        }
    }
}

fn sync(directory: &Path) -> Result<(), BlobError> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| failed(directory, e))
}

fn failed(path: &Path, source: io::Error) -> BlobError {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::Full(source),
        _ => BlobError::Io { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S9
    #[test]
    fn only_a_hash_becomes_a_path() {
        let good = "a".repeat(64);
        assert!(Hash::parse(&good).is_ok());
        for bad in
            ["", "a", "../../etc/passwd", &"A".repeat(64), &"a".repeat(65), &format!("{}/", "a".repeat(63))]
        {
            assert!(matches!(Hash::parse(bad), Err(BlobError::NotAHash(_))), "{bad}");
        }
    }

    /// R8: a crash in the middle of a blob leaves nothing behind.
    #[test]
    fn partial_files_of_dead_processes_go_at_the_next_start() {
        let dir = tempfile::tempdir().expect("temp dir");
        let blobs = Blobs::open(dir.path(), 100).expect("opens");
        fs::write(blobs.partial().join("7"), b"half").expect("written");
        let blobs = Blobs::open(dir.path(), 100).expect("opens");
        assert_eq!(fs::read_dir(blobs.partial()).expect("there").count(), 0);
    }

    #[test]
    fn a_blob_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let blobs = Blobs::open(dir.path(), 10).expect("opens");
        let mut incoming = blobs.begin(None).expect("begins");
        assert!(matches!(incoming.write(&[0; 11]), Err(BlobError::TooLong { max: 10 })));
        drop(incoming);
        assert_eq!(fs::read_dir(blobs.partial()).expect("there").count(), 0);
    }
}
