//! The durable queue: crawls, visits, attempts, events, slots, and rows for storage that it has not confirmed.
//!
//! One thread owns the writing connection. Work is a closure over a [`Tx`]; what waits is committed together. A second
//! connection reads. Everything that a caller may rely on is on disk when the call returns. No SQL stands outside this
//! module, so that another database can take its place.
mod attempts;
mod crawls;
mod model;
mod outbox;
mod schema;
mod tx;
mod visits;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub(crate) use attempts::{
    AttemptRow, NewAttempt, SlotRow, attempts_of, endpoints_of, known_slots, running_attempts,
};
pub(crate) use crawls::{
    NewCrawl, active_crawls, count_active, crawl_by_id, crawl_by_request, crawl_key, crawl_page,
    crawls_by_key, events_after, recent_site_ends,
};
pub(crate) use model::{CrawlKey, CrawlKind, CrawlRow, Shown, VisitRow};
pub(crate) use outbox::{OutboxRow, outbox_len, outbox_page};
pub(crate) use tx::Tx;
pub(crate) use visits::{NewVisit, VisitFilter, due_visits, next_due, visit, visit_page};

use crate::live::Hub;
use writer::{Job, WriteJob};

/// Jobs that wait for the writer.
const WRITE_QUEUE: usize = 256;
const READ_QUEUE: usize = 256;

/// Why the store did not do something. Nothing was changed then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed; disk full and the like end by themselves.
    #[error("coordinator.sqlite: {0}")]
    Database(String),
    /// The file was written by a later version.
    #[error(
        "{path} has schema version {found}, this version knows up to {known}: use the Sonde that wrote it, or later"
    )]
    Newer {
        /// File.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A row does not decode.
    #[error("coordinator.sqlite: {0} is damaged: restore the data directory from a copy")]
    Damaged(String),
    /// The store was closed.
    #[error("the coordinator's store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// To a thread of the store.
enum Order<T> {
    Do(T),
    /// Close the file; what comes after is refused.
    Close,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    writer: mpsc::Sender<Order<Box<dyn WriteJob>>>,
    reader: mpsc::Sender<Order<Read>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Store {
    /// Opens or makes `path`. Events are published to `hub` once they are durable.
    pub fn open(path: &Path, hub: Hub) -> Result<Self, StoreError> {
        let writing = schema::open(path)?;
        let reading = schema::open_reader(path)?;
        let (writer, jobs) = mpsc::channel(WRITE_QUEUE);
        let (reader, mut reads) = mpsc::channel::<Order<Read>>(READ_QUEUE);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(body)
                .map_err(|e| StoreError::Database(format!("no thread for it: {e}")))
        };
        let threads = vec![
            spawn("store-write", Box::new(move || writer::run(writing, jobs, &hub)))?,
            spawn(
                "store-read",
                Box::new(move || {
                    while let Some(Order::Do(read)) = reads.blocking_recv() {
                        read(&reading);
                    }
                }),
            )?,
        ];
        Ok(Self { writer, reader, threads: Arc::new(Mutex::new(threads)) })
    }

    /// Runs `work` in a transaction and returns once it is on disk. An `Err` of it undoes all it did.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.writer.send(Order::Do(Box::new(Job::new(work, reply)))).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on what was committed last.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |conn| {
            // A caller that went away needs no answer.
            let _ = reply.send(work(conn));
        });
        self.reader.send(Order::Do(read)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Waits until the files are closed; all other clones find the store closed from then on.
    pub async fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // A thread that is gone already needs no order.
        let _ = self.writer.send(Order::Close).await;
        let _ = self.reader.send(Order::Close).await;
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| {
                if thread.join().is_err() {
                    tracing::error!("a thread of the store panicked");
                }
            });
        });
        if joined.await.is_err() {
            tracing::error!("waiting for the store's threads failed");
        }
    }
}

#[cfg(test)]
mod tests;
