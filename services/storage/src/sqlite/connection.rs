use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::error::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let message = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(message),
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory,
            ) => Self::Unavailable(message),
            _ => Self::Broken(message),
        }
    }
}

/// How one database file is tuned.
pub(super) struct Tuning {
    /// Bytes; only for a new file.
    pub page_size: u32,
    /// Pages in the write-ahead log before it is copied back.
    pub checkpoint_pages: u32,
    /// KiB of page cache.
    pub cache_kib: u32,
}

const BUSY_MS: u32 = 5000;
const JOURNAL_LIMIT_BYTES: u32 = 64 << 20;

/// Opens a file for its one writer: WAL, and a commit returns only once it is on disk.
pub(super) fn writer(path: &Path, tuning: &Tuning) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA busy_timeout = {BUSY_MS};
         PRAGMA page_size = {page_size};
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = {checkpoint};
         PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES};
         PRAGMA cache_size = -{cache};",
        page_size = tuning.page_size,
        checkpoint = tuning.checkpoint_pages,
        cache = tuning.cache_kib,
    ))?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(connection)
}

/// Opens a file for reading only.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch(&format!("PRAGMA busy_timeout = {BUSY_MS}; PRAGMA query_only = ON;"))?;
    Ok(connection)
}

/// Runs `work` in one transaction that is durable when this returns, and rolled back when it fails.
pub(super) fn transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// Copies the write-ahead log back and empties it, so that the file can be copied alone.
pub(super) fn checkpoint(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}
