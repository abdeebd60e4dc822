use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sonde_runtime::config::{duration, size};
use sonde_runtime::endpoint::Endpoint;

/// The `[storage]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the service listens; not used when it is embedded through [`crate::Storage::routes`].
    pub listen: Endpoint,
    /// Directory of the databases and blobs; made when it is not there.
    pub data_dir: PathBuf,
    /// How long open streams may take to end after a request to stop.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// Longest blob taken.
    #[serde(with = "size")]
    pub max_blob_bytes: u64,
    /// Payloads waiting for the disk, over all streams; further ones are not read from their sockets. At least 32 MiB.
    #[serde(with = "size")]
    pub queue_bytes: u64,
    /// Batches in one commit, at most.
    pub group_batches: usize,
    /// How long a commit may collect batches while more are waiting; it never waits for batches to come.
    #[serde(with = "duration")]
    pub group_delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Endpoint::Tcp { host: "127.0.0.1".into(), port: 7401 },
            data_dir: "sonde-data".into(),
            drain: Duration::from_secs(10),
            max_blob_bytes: 1 << 30,
            queue_bytes: 64 << 20,
            group_batches: 1000,
            group_delay: Duration::from_millis(10),
        }
    }
}

/// One batch of 16 MiB must fit, or its stream would wait for ever.
const LEAST_QUEUE_BYTES: u64 = 32 << 20;

impl Config {
    /// The first value out of its range: its key, and what it must be.
    pub fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if self.data_dir.as_os_str().is_empty() {
            Some(("data_dir", "is empty: give a directory"))
        } else if !(LEAST_QUEUE_BYTES..=4 << 30).contains(&self.queue_bytes) {
            Some(("queue_bytes", "must be 32MiB to 4GiB"))
        } else if !(1..=100_000).contains(&self.group_batches) {
            Some(("group_batches", "must be 1 to 100000"))
        } else if self.group_delay > Duration::from_secs(1) {
            Some(("group_delay", "must be at most 1s"))
        } else {
            None
        }
    }
}
