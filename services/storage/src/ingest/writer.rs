use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sonde_proto::record::v1::SiteVisit;
use sonde_proto::storage::v1::IngestResponse;
use sonde_runtime::backoff::Backoff;
use sonde_runtime::clock::Mono;
use tokio::sync::{mpsc, oneshot};

use super::attempts::{Attempts, Closed};
use super::{Ack, Batch, Command, Refusal, Rejected};
use crate::crawl::DrainSignal;
use crate::error::{OpenError, StoreError};
use crate::sqlite::{IngestLog, Known, Readers, Write};
use crate::stats::{Stats, add};
use crate::storage::Trouble;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The thread that owns the ingest log.
pub(crate) struct Writer {
    log: IngestLog,
    attempts: Attempts,
    crawl: Readers,
    drain: DrainSignal,
    trouble: Arc<Trouble>,
    stats: Arc<Stats>,
    group_batches: usize,
    group_delay: Duration,
    broken: Option<StoreError>,
}

/// Who waits for a commit, and what they are then told.
enum Waiting {
    Batch { ack: Ack, visit_id: i64, stream: u32, through: i64 },
    Opened(oneshot::Sender<Result<Vec<Closed>, Rejected>>, Vec<Closed>),
    Closed(oneshot::Sender<Result<Closed, Rejected>>, Closed),
    Flushed(oneshot::Sender<()>),
}

/// What one commit writes.
#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    waiting: Vec<Waiting>,
    no_visit: bool,
    stop: bool,
}

impl Writer {
    /// Takes over the log. Attempts that are sealed by now (the service died between the seal and this) are removed
    /// from it; those that a higher fence closed are returned, to be sealed.
    pub fn open(
        log: IngestLog,
        crawl: &Path,
        drain: DrainSignal,
        trouble: Arc<Trouble>,
        stats: Arc<Stats>,
        (group_batches, group_delay): (usize, Duration),
    ) -> Result<(Self, Recovered), OpenError> {
        let path = log.path().to_owned();
        let store = |source| OpenError::Store { path: path.clone(), source };
        let readers = Readers::new(crawl);
        let mut writer = Self {
            log,
            attempts: Attempts::default(),
            crawl: readers,
            drain,
            trouble,
            stats,
            group_batches,
            group_delay,
            broken: None,
        };
        let recovered = writer.recover().map_err(store)?;
        Ok((writer, recovered))
    }

    fn recover(&mut self) -> Result<Recovered, StoreError> {
        let loaded = self.log.load()?;
        let mut highest = std::collections::HashMap::new();
        for attempt in &loaded {
            let key = (attempt.visit.crawl_id.clone(), attempt.visit.visit_no);
            let fence: &mut i64 = highest.entry(key).or_default();
            *fence = (*fence).max(attempt.visit.fence);
        }
        let (mut visits, mut sealed) = (Vec::new(), Vec::new());
        for attempt in loaded {
            let visit = &attempt.visit;
            let known = self.known(visit)?;
            if known.sealed {
                sealed.push(Write::Forget(visit.visit_id));
                continue;
            }
            let here = highest.get(&(visit.crawl_id.clone(), visit.visit_no)).copied();
            visits.push(visit.clone());
            self.attempts.load(attempt, here.max(known.highest_fence).unwrap_or(0));
        }
        if !sealed.is_empty() {
            tracing::info!(attempts = sealed.len(), "sealed attempts removed from the ingest log");
            self.log.commit(&sealed)?;
        }
        Ok(Recovered { visits, superseded: self.attempts.superseded() })
    }

    fn known(&self, visit: &SiteVisit) -> Result<Known, StoreError> {
        let mut known = self.crawl.known(visit.visit_id, &visit.crawl_id, visit.visit_no)?;
        known.highest_fence = known.highest_fence.max(self.log.fence(&visit.crawl_id, visit.visit_no)?);
        Ok(known)
    }

    /// Until `Stop`, or all senders are gone.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let group = self.collect(first, &mut commands);
            let stop = group.stop;
            self.finish(group);
            if stop || self.trouble.stopping() {
                break;
            }
        }
        commands.close();
        if let Err(error) = self.log.checkpoint() {
            tracing::warn!(%error, "the ingest log was not copied back; that is done at the next start");
        }
    }

    /// All that is queued, up to the limits of one commit.
    fn collect(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) -> Group {
        let mut group = Group::default();
        let deadline = Mono::now() + self.group_delay;
        let mut next = Some(first);
        while let Some(command) = next {
            self.take(command, &mut group);
            if group.stop || group.waiting.len() >= self.group_batches || Mono::now() >= deadline {
                break;
            }
            next = commands.try_recv().ok();
        }
        group
    }

    fn take(&mut self, command: Command, group: &mut Group) {
        match command {
            Command::Append { batch, ack } => self.append(batch, ack, group),
            Command::Open { visit, reply } => match self.open_attempt(visit, group) {
                Ok(closed) => group.waiting.push(Waiting::Opened(reply, closed)),
                Err(rejected) => tell(reply, Err(rejected)),
            },
            Command::Close { visit_id, fence, reply } => match self.close_attempt(visit_id, fence, group) {
                Ok(closed) => group.waiting.push(Waiting::Closed(reply, closed)),
                Err(rejected) => tell(reply, Err(rejected)),
            },
            Command::Forget(visit_id) => {
                self.attempts.forget(visit_id);
                group.writes.push(Write::Forget(visit_id));
            }
            Command::Flush(reply) => group.waiting.push(Waiting::Flushed(reply)),
            Command::Drained(through) => group.writes.push(Write::Drained(through)),
            Command::Stop => group.stop = true,
        }
    }

    fn append(&mut self, batch: Batch, ack: Ack, group: &mut Group) {
        let (visit_id, stream) = (batch.visit_id(), batch.stream);
        let taken = match self.attempts.append(&batch) {
            Ok(taken) => taken,
            Err(refusal) => {
                let refusal = self.explain(refusal);
                add(&self.stats.refused, 1);
                ack.send(Ok(refused(visit_id, stream, &refusal)));
                return;
            }
        };
        add(&self.stats.batches, 1);
        if taken.new {
            add(&self.stats.rows, batch.count());
            group.no_visit |= batch.attempt.is_none();
            group.writes.push(Write::Batch {
                visit_id,
                stream,
                first: batch.first,
                last: batch.last,
                producer: batch.producer,
                session: batch.session,
                payload: batch.payload,
            });
        } else {
            add(&self.stats.repeated, 1);
        }
        group.waiting.push(Waiting::Batch { ack, visit_id, stream, through: taken.through });
    }

    /// Sealed attempts are not kept in memory: a better answer for those.
    fn explain(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::NotOpen { visit_id } if matches!(self.crawl.seal(visit_id), Ok(Some(_))) => {
                Refusal::Sealed { visit_id }
            }
            other => other,
        }
    }

    fn open_attempt(&mut self, visit: SiteVisit, group: &mut Group) -> Result<Vec<Closed>, Rejected> {
        let known = self.known(&visit).map_err(Rejected::Failed)?;
        let (new, closed) = self.attempts.open(&visit, &known).map_err(Rejected::Refused)?;
        if new {
            group.writes.push(Write::Open(visit));
        }
        Ok(closed)
    }

    fn close_attempt(&mut self, visit_id: i64, fence: i64, group: &mut Group) -> Result<Closed, Rejected> {
        let visit = self
            .attempts
            .visit_of(visit_id)
            .ok_or_else(|| Rejected::Refused(self.explain(Refusal::NotOpen { visit_id })))?;
        let known = self.known(visit).map_err(Rejected::Failed)?;
        let closed = self.attempts.close(visit_id, fence, &known).map_err(Rejected::Refused)?;
        if fence > closed.visit.fence {
            let SiteVisit { crawl_id, visit_no, .. } = closed.visit.clone();
            group.writes.push(Write::Fence { crawl_id, visit_no, fence });
        }
        Ok(closed)
    }

    /// Commits, however long that takes while there is hope, and only then answers.
    fn finish(&mut self, group: Group) {
        let result = if group.writes.is_empty() { Ok(()) } else { self.commit(&group.writes) };
        if result.is_ok() && group.no_visit {
            self.drain.raise();
        }
        for waiting in group.waiting {
            match (waiting, &result) {
                (Waiting::Batch { ack, visit_id, stream, through }, Ok(())) => {
                    ack.send(Ok(IngestResponse {
                        visit_id,
                        stream,
                        through_ordinal: through,
                        refused: None,
                    }));
                }
                (Waiting::Batch { ack, .. }, Err(error)) => ack.send(Err(error.status())),
                (Waiting::Opened(reply, closed), Ok(())) => tell(reply, Ok(closed)),
                (Waiting::Opened(reply, _), Err(e)) => tell(reply, Err(Rejected::Failed(e.clone()))),
                (Waiting::Closed(reply, closed), Ok(())) => tell(reply, Ok(closed)),
                (Waiting::Closed(reply, _), Err(e)) => tell(reply, Err(Rejected::Failed(e.clone()))),
                (Waiting::Flushed(reply), _) => tell(reply, ()),
            }
        }
    }

    /// R15: nothing is answered and nothing more is taken until there is space again.
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let mut attempt = 0;
        loop {
            let error = match self.log.commit(writes) {
                Ok(()) => {
                    add(&self.stats.commits, 1);
                    self.trouble.clear();
                    return Ok(());
                }
                Err(error) => error,
            };
            if !error.retry() {
                tracing::error!(%error, path = %self.log.path().display(), "the ingest log failed: nothing more is taken");
                self.broken = Some(error.clone());
                return Err(error);
            }
            add(&self.stats.stalls, 1);
            if attempt == 0 {
                tracing::error!(%error, path = %self.log.path().display(), "nothing is acked until this is over");
            }
            if self.trouble.stall(&error, BACKOFF.next(attempt, 0.5)) {
                return Err(StoreError::Closing);
            }
            attempt += 1;
        }
    }
}

/// What the log held when it was opened.
pub(crate) struct Recovered {
    /// The unsealed attempts' rows, in case the service died before it wrote them.
    pub visits: Vec<SiteVisit>,
    pub superseded: Vec<Closed>,
}

fn tell<T>(reply: oneshot::Sender<T>, answer: T) {
    // A caller that left asks again; every command can be repeated.
    if reply.send(answer).is_err() {
        tracing::debug!("the caller left before its answer");
    }
}

/// The answer to a batch that is not taken.
pub(crate) fn refused(visit_id: i64, stream: u32, refusal: &Refusal) -> IngestResponse {
    IngestResponse { visit_id, stream, through_ordinal: -1, refused: Some(refusal.failure()) }
}
