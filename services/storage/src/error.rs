//! What can go wrong with the store, split by what the caller can do about it.

use std::path::PathBuf;

use tonic::Status;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("storage.{key} {expected}")]
    Config { key: &'static str, expected: &'static str },
    #[error("{path}: cannot be used as a data directory: {source}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error(
        "{path}: another storage-service has this data directory open; stop it, or give another directory (storage.data_dir)"
    )]
    InUse { path: PathBuf },
    #[error(
        "{path}: written by a newer version of Sonde (schema {found}, this version knows up to {known}); open it with that version or a later one"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{path}: {reason}")]
    Schema { path: PathBuf, reason: String },
    #[error("{path}: {source}")]
    Store { path: PathBuf, source: StoreError },
    #[error("a writer thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// A failed read or write of a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Writes go on by themselves once there is space.
    #[error("no space left on the disk ({0}): free some, and storage goes on by itself")]
    Full(String),
    /// Perhaps it works later.
    #[error("the database cannot be used now: {0}")]
    Unavailable(String),
    /// Trying again does not help.
    #[error("the database failed: {0}")]
    Broken(String),
    /// The service is ending.
    #[error("storage is closing: try again once it runs again")]
    Closing,
}

impl StoreError {
    /// Whether the same write may work later.
    pub fn retry(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Unavailable(_))
    }

    /// As gRPC says it.
    pub fn status(&self) -> Status {
        let message = self.to_string();
        match self {
            Self::Full(_) => Status::resource_exhausted(message),
            Self::Unavailable(_) | Self::Closing => Status::unavailable(message),
            Self::Broken(_) => Status::internal(message),
        }
    }
}
