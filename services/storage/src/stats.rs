use std::sync::atomic::{AtomicU64, Ordering};

/// What storage has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub batches: AtomicU64,
    pub rows: AtomicU64,
    pub repeated: AtomicU64,
    pub refused: AtomicU64,
    pub commits: AtomicU64,
    pub stalls: AtomicU64,
    pub seals: AtomicU64,
    pub blobs: AtomicU64,
}

/// A reading of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches taken and acked.
    pub batches: u64,
    /// Records in them.
    pub rows: u64,
    /// Batches that brought nothing new.
    pub repeated: u64,
    /// Batches refused.
    pub refused: u64,
    /// Commits of the ingest log.
    pub commits: u64,
    /// Commits that had to be tried again: disk full, I/O errors.
    pub stalls: u64,
    /// Attempts sealed.
    pub seals: u64,
    /// Blobs stored that were not there before.
    pub blobs: u64,
}

impl Stats {
    pub fn read(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            batches: get(&self.batches),
            rows: get(&self.rows),
            repeated: get(&self.repeated),
            refused: get(&self.refused),
            commits: get(&self.commits),
            stalls: get(&self.stalls),
            seals: get(&self.seals),
            blobs: get(&self.blobs),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
