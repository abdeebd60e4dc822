//! The thread that owns `crawl.sqlite`: ledger rows, seals, and rows of no visit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sonde_proto::record::v1::SiteVisit;
use sonde_proto::storage::v1::LedgerRow;
use sonde_proto::visit::v1::SealSummary;
use sonde_runtime::clock::{rfc3339_ms, wall_us};
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::ingest::Command;
use crate::sqlite::{CrawlDb, SealJob};
use crate::stats::{Stats, add};
use crate::storage::Trouble;

/// What the thread is asked for.
pub(crate) enum Job {
    Visit {
        visit: SiteVisit,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Ledger {
        rows: Vec<LedgerRow>,
        reply: oneshot::Sender<Result<u32, StoreError>>,
    },
    Seal {
        job: Box<SealJob>,
        reply: oneshot::Sender<Result<SealSummary, StoreError>>,
    },
    /// Looks at the [`DrainSignal`].
    Wake,
    Stop,
}

/// Says that the ingest log holds batches of no visit.
#[derive(Clone)]
pub(crate) struct DrainSignal {
    raised: Arc<AtomicBool>,
    jobs: mpsc::Sender<Job>,
}

impl DrainSignal {
    pub fn new(jobs: mpsc::Sender<Job>) -> Self {
        Self { raised: Arc::new(AtomicBool::new(false)), jobs }
    }

    /// Never waits: the two threads must not wait for each other. A full queue's thread looks by itself.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        if self.jobs.try_send(Job::Wake).is_err() {
            tracing::trace!("the queue is full, or the thread has ended");
        }
    }
}

const DRAIN_PAUSE: Duration = Duration::from_millis(200);
/// Ledger calls in one transaction.
const GROUP: usize = 256;

pub(crate) struct CrawlWriter {
    db: CrawlDb,
    ingest: mpsc::Sender<Command>,
    /// Only the flag: a sender of its own jobs would keep the thread's queue open for ever.
    drain: Arc<AtomicBool>,
    trouble: Arc<Trouble>,
    stats: Arc<Stats>,
    waiting: VecDeque<Job>,
    /// Ledger writes in a row that failed.
    failures: u32,
}

impl CrawlWriter {
    pub fn new(
        db: CrawlDb,
        ingest: mpsc::Sender<Command>,
        drain: &DrainSignal,
        trouble: Arc<Trouble>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            db,
            ingest,
            drain: drain.raised.clone(),
            trouble,
            stats,
            waiting: VecDeque::new(),
            failures: 0,
        }
    }

    /// Until `Stop`, or all senders are gone.
    pub fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = self.next(&mut jobs) {
            match job {
                Job::Stop => break,
                Job::Wake => {}
                Job::Seal { job, reply } => {
                    let result = self.seal(&job);
                    tell(reply, result);
                }
                job => self.ledgers(job, &mut jobs),
            }
            self.drain();
            if self.trouble.stopping() {
                break;
            }
        }
        self.drain();
        jobs.close();
        if let Err(error) = self.db.checkpoint() {
            tracing::warn!(%error, "crawl.sqlite-wal was not copied back; that is done at the next start");
        }
    }

    fn next(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        if let Some(job) = self.waiting.pop_front() {
            return Some(job);
        }
        // A drain that failed is tried again even when nobody asks.
        while self.drain.load(Ordering::Acquire) {
            match jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    if self.trouble.pause(DRAIN_PAUSE) {
                        break;
                    }
                    self.drain();
                }
            }
        }
        jobs.blocking_recv()
    }

    /// Says what failed at ever longer intervals: the callers try again, and a full disk stays full for long.
    fn count<T>(&mut self, result: &Result<T, StoreError>) {
        let Err(error) = result else {
            self.failures = 0;
            return;
        };
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let path = self.db.path().display();
            tracing::error!(%error, %path, failures = self.failures, "ledger rows were not written");
        }
    }

    /// `first` and what else is queued of its kind, in one transaction.
    fn ledgers(&mut self, first: Job, jobs: &mut mpsc::Receiver<Job>) {
        let (mut visits, mut groups) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Visit { visit, reply } => visits.push((visit, reply)),
                Job::Ledger { rows, reply } => groups.push((rows, reply)),
                Job::Wake => {}
                other => {
                    self.waiting.push_back(other);
                    break;
                }
            }
            if visits.len() + groups.len() < GROUP {
                next = jobs.try_recv().ok();
            }
        }
        if visits.is_empty() && groups.is_empty() {
            return;
        }
        let visit_rows: Vec<&SiteVisit> = visits.iter().map(|(visit, _)| visit).collect();
        let ledger_rows: Vec<&[LedgerRow]> = groups.iter().map(|(rows, _)| rows.as_slice()).collect();
        let result = self.db.ledger(&visit_rows, &ledger_rows);
        self.count(&result);
        for (_, reply) in visits {
            tell(reply, result.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        for (index, (_, reply)) in groups.into_iter().enumerate() {
            tell(reply, result.as_ref().map(|written| written[index]).map_err(Clone::clone));
        }
    }

    fn seal(&mut self, job: &SealJob) -> Result<SealSummary, StoreError> {
        let visit_id = job.visit.visit_id;
        match self.db.seal(job, &now()) {
            Ok(summary) => {
                add(&self.stats.seals, 1);
                // The ingest thread never waits for this one, so this ends. When it has ended, the next start does it.
                if self.ingest.blocking_send(Command::Forget(visit_id)).is_err() {
                    tracing::debug!(visit_id, "sealed while closing");
                }
                Ok(summary)
            }
            Err(error) => {
                tracing::error!(%error, visit_id, path = %self.db.path().display(), "an attempt was not sealed");
                Err(error)
            }
        }
    }

    fn drain(&mut self) {
        if !self.drain.swap(false, Ordering::AcqRel) {
            return;
        }
        loop {
            match self.db.drain() {
                Ok(None) => return,
                Ok(Some(through)) => {
                    if self.ingest.blocking_send(Command::Drained(through)).is_err() {
                        tracing::debug!("drained while closing");
                    }
                }
                Err(error) => {
                    tracing::error!(%error, path = %self.db.path().display(), "rows of no visit wait in the ingest log");
                    self.drain.store(true, Ordering::Release);
                    return;
                }
            }
        }
    }
}

pub(crate) fn now() -> String {
    rfc3339_ms(wall_us())
}

fn tell<T>(reply: oneshot::Sender<T>, answer: T) {
    // A caller that left asks again; every job can be repeated.
    if reply.send(answer).is_err() {
        tracing::debug!("the caller left before its answer");
    }
}
