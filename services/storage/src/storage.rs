use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::crawl::{CrawlWriter, DrainSignal, Job, now};
use crate::directory::Directory;
use crate::error::{OpenError, StoreError};
use crate::grpc;
use crate::ingest::{Closed, Command, Recovered, Writer};
use crate::sqlite::{CrawlDb, IngestLog, Readers, SealJob};
use crate::stats::{Counts, Stats};
use sonde_proto::visit::v1::Outcome;

/// The gRPC services in [`Storage::routes`], for health.
pub const SERVICE_NAMES: &[&str] =
    &["sonde.storage.v1.IngestService", "sonde.storage.v1.BlobService", "sonde.storage.v1.RecordService"];

/// Commands waiting for the ingest thread; batches are bounded by their bytes as well.
const INGEST_QUEUE: usize = 4096;
const CRAWL_QUEUE: usize = 1024;
const FLUSH: Duration = Duration::from_secs(30);

/// Bytes that one permit of the queue stands for.
pub(crate) const PERMIT_BYTES: usize = 1024;

/// An open data directory. [`Storage::close`] it; a mere drop ends it without waiting for what is queued.
pub struct Storage {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the gRPC handlers need.
pub(crate) struct Shared {
    pub ingest: mpsc::Sender<Command>,
    pub jobs: mpsc::Sender<Job>,
    pub queue_bytes: Arc<Semaphore>,
    pub trouble: Arc<Trouble>,
    pub readers: Readers,
    pub blobs: Blobs,
    pub streams: CancellationToken,
    pub stats: Arc<Stats>,
    pub location: PathBuf,
}

impl Storage {
    /// Opens or makes the data directory, heals what a crash left, and starts the writers. It reads and writes files.
    ///
    /// # Errors
    /// If a setting is out of range, another process has the directory open, a newer version wrote it, or the system
    /// refuses.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        if let Some((key, expected)) = config.wrong() {
            return Err(OpenError::Config { key, expected });
        }
        let directory = Arc::new(Directory::open(&config.data_dir)?);
        let blobs = Blobs::open(&directory.blobs(), config.max_blob_bytes)
            .map_err(|source| OpenError::Directory { path: directory.blobs(), source })?;
        let (stats, trouble) = (Arc::new(Stats::default()), Arc::new(Trouble::default()));
        let (ingest, commands) = mpsc::channel(INGEST_QUEUE);
        let (jobs, job_queue) = mpsc::channel(CRAWL_QUEUE);
        let drain = DrainSignal::new(jobs.clone());
        let log = IngestLog::open(&directory.ingest_db())?;
        let mut db = CrawlDb::open(&directory.crawl_db(), &directory.ingest_db(), &now())?;
        let limits = (config.group_batches, config.group_delay);
        let (writer, recovered) =
            Writer::open(log, &directory.crawl_db(), drain.clone(), trouble.clone(), stats.clone(), limits)?;
        let sealed = heal(&mut db, recovered)?;
        let crawl = CrawlWriter::new(db, ingest.clone(), &drain, trouble.clone(), stats.clone());
        let threads = vec![
            spawn("storage-ingest", directory.clone(), move || writer.run(commands))?,
            spawn("storage-crawl", directory.clone(), move || crawl.run(job_queue))?,
        ];
        for visit_id in sealed {
            // When the queue is full of them, the rest is removed from the log at the next start.
            if ingest.try_send(Command::Forget(visit_id)).is_err() {
                break;
            }
        }
        drain.raise();
        let permits = usize::try_from(config.queue_bytes).unwrap_or(usize::MAX) / PERMIT_BYTES;
        let shared = Shared {
            ingest,
            jobs,
            queue_bytes: Arc::new(Semaphore::new(permits)),
            trouble,
            readers: Readers::new(&directory.crawl_db()),
            blobs,
            streams: CancellationToken::new(),
            stats,
            location: directory.path.clone(),
        };
        Ok(Self { shared: Arc::new(shared), threads })
    }

    /// The gRPC services; [`SERVICE_NAMES`] has their names.
    pub fn routes(&self) -> Routes {
        grpc::routes(&self.shared)
    }

    /// Ends the ingest streams after what they have taken is acked: give it to the server's drain, or cancel it.
    pub fn streams(&self) -> CancellationToken {
        self.shared.streams.clone()
    }

    /// The data directory, absolute.
    pub fn location(&self) -> &Path {
        &self.shared.location
    }

    /// What was done since it was opened.
    pub fn counts(&self) -> Counts {
        self.shared.stats.read()
    }

    /// Writes what is queued, copies the write-ahead logs back and frees the directory. Takes at most some 30 s for
    /// the queue; while the disk is full it does not wait: what is not acked is with its senders.
    pub async fn close(mut self) {
        self.shared.streams.cancel();
        let (reply, flushed) = oneshot::channel();
        let flush = async {
            if self.shared.ingest.send(Command::Flush(reply)).await.is_ok() && flushed.await.is_err() {
                tracing::debug!("the ingest thread had ended");
            }
            if self.shared.jobs.send(Job::Stop).await.is_err() {
                tracing::debug!("the crawl thread had ended");
            }
        };
        tokio::select! {
            () = flush => {}
            error = self.shared.trouble.appears() => tracing::error!(%error, "closing without waiting for the disk"),
            () = tokio::time::sleep(FLUSH) => tracing::error!("closing without what is still queued"),
        }
        let mut threads = std::mem::take(&mut self.threads);
        let (ingest, crawl) = (threads.remove(0), threads.remove(0));
        if self.shared.trouble.current().is_some() {
            self.stop();
        }
        join(crawl).await;
        self.stop();
        join(ingest).await;
    }

    fn stop(&self) {
        self.shared.trouble.stop();
        // A thread whose queue is full sees the flag after the command it is at.
        if self.shared.ingest.try_send(Command::Stop).is_err() {
            tracing::trace!("the ingest thread stops by itself");
        }
        if self.shared.jobs.try_send(Job::Stop).is_err() {
            tracing::trace!("the crawl thread stops by itself");
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.shared.streams.cancel();
        self.stop();
    }
}

/// Attempts that a higher fence closed before a crash are sealed now; gives their ids.
fn heal(db: &mut CrawlDb, recovered: Recovered) -> Result<Vec<i64>, OpenError> {
    let path = db.path().to_owned();
    let store = |source| OpenError::Store { path: path.clone(), source };
    if !recovered.visits.is_empty() {
        let visits: Vec<_> = recovered.visits.iter().collect();
        db.ledger(&visits, &[]).map_err(store)?;
    }
    let mut sealed = Vec::new();
    for closed in recovered.superseded {
        let job = superseded(closed);
        db.seal(&job, &now()).map_err(store)?;
        sealed.push(job.visit.visit_id);
    }
    Ok(sealed)
}

/// The seal of an attempt that nobody will end any more.
pub(crate) fn superseded(closed: Closed) -> SealJob {
    SealJob {
        visit: closed.visit,
        streams: closed.streams,
        declared: Vec::new(),
        outcome: Outcome::Unspecified,
        incomplete_reason: "superseded".into(),
        instruments_ready_at: None,
        navigation_start_at: None,
    }
}

fn spawn(
    name: &str,
    directory: Arc<Directory>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            run();
            // The lock is held until the last writer has ended.
            drop(directory);
        })
        .map_err(OpenError::Thread)
}

async fn join(thread: JoinHandle<()>) {
    let joined: io::Result<_> =
        tokio::task::spawn_blocking(move || thread.join()).await.map_err(io::Error::other);
    if !matches!(joined, Ok(Ok(()))) {
        tracing::error!("a storage thread panicked; the next start heals what it left");
    }
}

/// Whether writing is stalled, and whether all is to end.
#[derive(Debug)]
pub(crate) struct Trouble {
    stop: Mutex<bool>,
    stopped: Condvar,
    current: watch::Sender<Option<StoreError>>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { stop: Mutex::new(false), stopped: Condvar::new(), current: watch::Sender::new(None) }
    }
}

impl Trouble {
    /// Says what is wrong and waits before the next try; whether to give up.
    pub fn stall(&self, error: &StoreError, wait: Duration) -> bool {
        self.current.send_replace(Some(error.clone()));
        self.pause(wait)
    }

    /// Waits, unless all is to end; whether it is.
    pub fn pause(&self, wait: Duration) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stopped.wait_timeout_while(stop, wait, |stop| !*stop);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn clear(&self) {
        self.current.send_if_modified(|current| current.take().is_some());
    }

    pub fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }

    pub fn stopping(&self) -> bool {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn current(&self) -> Option<StoreError> {
        self.current.borrow().clone()
    }

    /// Waits until writing is stalled.
    pub async fn appears(&self) -> StoreError {
        let mut current = self.current.subscribe();
        let found = current.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        // The sender lives as long as this.
        found.unwrap_or(StoreError::Closing)
    }
}
