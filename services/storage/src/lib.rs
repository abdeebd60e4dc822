//! The storage-service: takes records, makes them durable, and seals them attempt by attempt; keeps blobs.
//!
//! A data directory holds `crawl.sqlite` (what users open: the tables of the contract, rows appear only when their
//! attempt is sealed), `ingest.sqlite` (the log of acked batches of attempts that are not sealed yet) and
//! `blobs/ab/cd/<sha256>`. Two threads write, one per database; everything else talks to them over bounded queues.
//!
//! It does NOT decide when an attempt ends, how a visit turned out, or what a record means.

mod blobs;
mod config;
mod coverage;
mod crawl;
mod directory;
mod error;
mod grpc;
mod ingest;
mod merge;
mod named;
mod sqlite;
mod stats;
mod storage;
mod verdict;

pub use config::Config;
pub use error::OpenError;
pub use sqlite::SCHEMA_VERSION;
pub use stats::Counts;
pub use storage::{SERVICE_NAMES, Storage};
