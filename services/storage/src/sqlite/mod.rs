//! The only part that knows SQLite.

mod connection;
mod crawl;
mod ingest_log;
mod migrate;
mod read;
mod rows;
mod schema;
mod seal;

pub(crate) use crawl::CrawlDb;
pub(crate) use ingest_log::{IngestLog, LoadedAttempt, Write};
pub use migrate::SCHEMA_VERSION;
pub(crate) use read::{Known, Readers};
pub(crate) use seal::SealJob;
