//! The writer thread: what waits is committed together, each job in a savepoint of its own.
use rusqlite::Connection;
use sonde_proto::coordinator::v1::CrawlEvent;
use tokio::sync::{mpsc, oneshot};

use super::{CrawlKey, Order, StoreError, Tx};
use crate::live::Hub;

/// Jobs in one commit at most.
const GROUP: usize = 64;

pub(super) trait WriteJob: Send {
    /// Runs it once; false when it refused and must be undone.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// After the commit, or with the reason why there was none.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(super) struct Job<T, F> {
    work: Option<F>,
    result: Result<T, StoreError>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job<T, F> {
    pub fn new(work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { work: Some(work), result: Err(StoreError::Closed), reply }
    }
}

impl<T, F> WriteJob for Job<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        if let Some(work) = self.work.take() {
            self.result = work(tx).and_then(|value| tx.flush().map(|()| value));
        }
        self.result.is_ok()
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        // A caller that went away needs no answer.
        let _ = self.reply.send(committed.and(self.result));
    }
}

pub(super) fn run(conn: Connection, mut jobs: mpsc::Receiver<Order<Box<dyn WriteJob>>>, hub: &Hub) {
    let mut open = true;
    while open && let Some(Order::Do(first)) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(order) = jobs.try_recv()
        {
            match order {
                Order::Do(job) => group.push(job),
                Order::Close => {
                    open = false;
                    break;
                }
            }
        }
        let mut events = Vec::new();
        let committed = commit(&conn, &mut group, &mut events);
        if committed.is_err() && !conn.is_autocommit() {
            // The error that is reported is the first one.
            let _ = conn.execute_batch("ROLLBACK");
        }
        if committed.is_ok() {
            for (crawl, event) in &events {
                hub.publish(*crawl, event);
            }
        }
        for job in group {
            job.finish(committed.clone());
        }
    }
    if let Err((_, error)) = conn.close() {
        tracing::error!(%error, "coordinator.sqlite did not close cleanly");
    }
}

fn commit(
    conn: &Connection,
    group: &mut [Box<dyn WriteJob>],
    events: &mut Vec<(CrawlKey, CrawlEvent)>,
) -> Result<(), StoreError> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let alone = group.len() == 1;
    for job in group {
        if !alone {
            conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        }
        let mut tx = Tx::new(conn);
        let done = job.run(&mut tx);
        if done {
            events.append(&mut tx.take_events());
        }
        if conn.is_autocommit() {
            return Err(StoreError::Database("it rolled back by itself (disk full or I/O error)".into()));
        }
        match (alone, done) {
            (true, true) => {}
            (true, false) => {
                conn.prepare_cached("ROLLBACK")?.execute([])?;
                return Ok(());
            }
            (false, true) => {
                conn.prepare_cached("RELEASE job")?.execute([])?;
            }
            (false, false) => {
                conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
                conn.prepare_cached("RELEASE job")?.execute([])?;
            }
        }
    }
    conn.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
