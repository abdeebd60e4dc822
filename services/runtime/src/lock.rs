//! Files that one process at a time holds.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Creates the file where there is none (0600). `None` when somebody else holds it, in this process, too.
    ///
    /// # Errors
    /// When it cannot be opened, or its file system has no locks.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        Self::hold(options.create(true).truncate(false).write(true).mode(0o600).open(path)?)
    }

    /// The same of an open file or directory.
    ///
    /// # Errors
    /// When its file system has no locks.
    pub fn hold(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that is between its fork and its exec holds the same open file, and the lock.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a file could not be unlocked; it is when its file is closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileLock;

    #[test]
    fn a_lock_ends_with_its_drop_even_where_the_open_file_lives_on() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::take(&path).unwrap().unwrap();
        assert!(FileLock::take(&path).unwrap().is_none());
        // As a forked child has it.
        let _same_open_file = lock.0.try_clone().unwrap();
        drop(lock);
        assert!(FileLock::take(&path).unwrap().is_some());
    }
}
