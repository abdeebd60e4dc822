//! What may be written: attempts, fences and ordinals, as a state machine without I/O.

use std::collections::{BTreeMap, HashMap};

use sonde_proto::record::v1::SiteVisit;
use sonde_proto::visit::v1::{Failure, FailureKind, RetryAdvice};
use tonic::Status;

use super::Batch;
use crate::sqlite::{Known, LoadedAttempt};
use crate::verdict::Stream;

/// Why a batch or a call is refused; sending it again cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("attempt {visit_id} is not open: OpenAttempt comes first")]
    NotOpen { visit_id: i64 },
    #[error("attempt {visit_id} is sealed, or being sealed: its data are immutable")]
    Sealed { visit_id: i64 },
    #[error(
        "fence {given} of attempt {visit_id} is stale: fence {highest} is the highest seen of its visit; stop writing"
    )]
    StaleFence { visit_id: i64, given: i64, highest: i64 },
    #[error("fence {given} is not that of attempt {visit_id}, which is {expected}")]
    WrongFence { visit_id: i64, given: i64, expected: i64 },
    #[error(
        "stream {stream} of attempt {visit_id} belongs to another producer or session: take the next stream"
    )]
    StreamTaken { visit_id: i64, stream: u32 },
    #[error("visit_id {visit_id} is that of another attempt already: draw another")]
    VisitIdTaken { visit_id: i64 },
}

impl Refusal {
    fn word(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NotOpen { .. } => "not_open",
            Self::Sealed { .. } => "sealed",
            Self::StaleFence { .. } => "stale_fence",
            Self::WrongFence { .. } => "wrong_fence",
            Self::StreamTaken { .. } => "stream_taken",
            Self::VisitIdTaken { .. } => "visit_id_taken",
        }
    }

    /// As a stream's answer to a batch.
    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::Invalid(_) | Self::StreamTaken { .. } => FailureKind::Invalid,
            _ => FailureKind::Storage,
        };
        Failure {
            kind: kind.into(),
            message: self.to_string(),
            retry: RetryAdvice::Never.into(),
            fingerprint: format!("storage.{}", self.word()),
            ..Default::default()
        }
    }

    /// As a call's error.
    pub fn status(&self) -> Status {
        let message = self.to_string();
        match self {
            Self::Invalid(_) => Status::invalid_argument(message),
            Self::NotOpen { .. } => Status::not_found(message),
            Self::VisitIdTaken { .. } => Status::already_exists(message),
            _ => Status::failed_precondition(message),
        }
    }
}

/// An attempt that takes no more batches, with all that it has.
#[derive(Debug)]
pub(crate) struct Closed {
    pub visit: SiteVisit,
    pub streams: BTreeMap<u32, Stream>,
}

#[derive(Debug)]
struct Attempt {
    visit: SiteVisit,
    state: State,
    streams: BTreeMap<u32, Stream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Sealing,
    /// By a higher fence of the visit.
    Superseded(i64),
}

impl Attempt {
    fn closed(&self) -> Closed {
        Closed { visit: self.visit.clone(), streams: self.streams.clone() }
    }
}

/// What a batch brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Whether any of its ordinals is new.
    pub new: bool,
    /// Every ordinal from 0 to here is in the log, once this batch is; -1 for none.
    pub through: i64,
}

/// All unsealed attempts.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    by_id: HashMap<i64, Attempt>,
    by_visit: HashMap<(String, i64), Vec<i64>>,
}

impl Attempts {
    /// Takes over an attempt found in the log; `highest` is the highest fence seen of its visit.
    pub fn load(&mut self, loaded: LoadedAttempt, highest: i64) {
        let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
        for batch in loaded.batches {
            let stream = streams.entry(batch.stream).or_insert_with(|| Stream {
                producer: batch.producer,
                session: batch.session,
                coverage: Default::default(),
            });
            stream.coverage.add(batch.first, batch.last);
        }
        let stale = loaded.visit.fence < highest;
        let state = if stale { State::Superseded(highest) } else { State::Open };
        self.insert(Attempt { visit: loaded.visit, state, streams });
    }

    fn insert(&mut self, attempt: Attempt) {
        let id = attempt.visit.visit_id;
        let visit = (attempt.visit.crawl_id.clone(), attempt.visit.visit_no);
        self.by_visit.entry(visit).or_default().push(id);
        self.by_id.insert(id, attempt);
    }

    /// Attempts that a higher fence closed, and that are not sealed.
    pub fn superseded(&self) -> Vec<Closed> {
        let superseded = |a: &&Attempt| matches!(a.state, State::Superseded(_));
        self.by_id.values().filter(superseded).map(Attempt::closed).collect()
    }

    /// The crawl and visit number of an attempt.
    pub fn visit_of(&self, visit_id: i64) -> Option<&SiteVisit> {
        self.by_id.get(&visit_id).map(|attempt| &attempt.visit)
    }

    /// A batch of an attempt. Batches of no visit have no state here.
    pub fn append(&mut self, batch: &Batch) -> Result<Taken, Refusal> {
        let Some((visit_id, fence)) = batch.attempt else {
            return Ok(Taken { new: true, through: batch.last });
        };
        let (visit_id, given) = (visit_id.get(), fence.get());
        let attempt = self.by_id.get_mut(&visit_id).ok_or(Refusal::NotOpen { visit_id })?;
        match attempt.state {
            State::Superseded(highest) => return Err(Refusal::StaleFence { visit_id, given, highest }),
            State::Sealing => return Err(Refusal::Sealed { visit_id }),
            State::Open if given != attempt.visit.fence => {
                return Err(Refusal::WrongFence { visit_id, given, expected: attempt.visit.fence });
            }
            State::Open => {}
        }
        let stream = attempt.streams.entry(batch.stream).or_insert_with(|| Stream {
            producer: batch.producer,
            session: batch.session.clone(),
            coverage: Default::default(),
        });
        if stream.producer != batch.producer || stream.session != batch.session {
            return Err(Refusal::StreamTaken { visit_id, stream: batch.stream });
        }
        let new = stream.coverage.add(batch.first, batch.last);
        Ok(Taken { new, through: stream.coverage.through() })
    }

    /// Registers an attempt; gives whether it is new and which earlier ones it closed. `known` is what is sealed.
    pub fn open(&mut self, visit: &SiteVisit, known: &Known) -> Result<(bool, Vec<Closed>), Refusal> {
        let (visit_id, given) = (visit.visit_id, visit.fence);
        let identity = |v: &SiteVisit| (v.crawl_id.clone(), v.visit_no, v.attempt, v.fence, v.browser_id);
        let here = self.by_id.get(&visit_id);
        if here.is_some_and(|attempt| identity(&attempt.visit) != identity(visit)) {
            return Err(Refusal::VisitIdTaken { visit_id });
        }
        if here.is_none()
            && let Some((crawl_id, visit_no, fence)) = &known.attempt
        {
            let same = (crawl_id, *visit_no, *fence) == (&visit.crawl_id, visit.visit_no, visit.fence);
            return Err(if same { Refusal::Sealed { visit_id } } else { Refusal::VisitIdTaken { visit_id } });
        }
        let highest = self.highest(&visit.crawl_id, visit.visit_no, known);
        if given < highest {
            return Err(Refusal::StaleFence { visit_id, given, highest });
        }
        if here.is_some_and(|attempt| attempt.state != State::Open) {
            return Err(Refusal::Sealed { visit_id });
        }
        let new = here.is_none();
        if new && given == highest {
            return Err(Refusal::Invalid(format!(
                "fence {given} is that of another attempt of visit {} already: fences grow with every lease",
                visit.visit_no
            )));
        }
        let closed = self.supersede(visit);
        if new {
            self.insert(Attempt { visit: visit.clone(), state: State::Open, streams: BTreeMap::new() });
        }
        Ok((new, closed))
    }

    fn highest(&self, crawl_id: &str, visit_no: i64, known: &Known) -> i64 {
        let ids = self.by_visit.get(&(crawl_id.to_owned(), visit_no)).into_iter().flatten();
        let here = ids.filter_map(|id| self.by_id.get(id)).map(|attempt| attempt.visit.fence).max();
        here.max(known.highest_fence).unwrap_or(0)
    }

    /// Closes the visit's attempts of lower fences that are not being sealed already.
    fn supersede(&mut self, by: &SiteVisit) -> Vec<Closed> {
        let Some(ids) = self.by_visit.get(&(by.crawl_id.clone(), by.visit_no)) else { return Vec::new() };
        let mut closed = Vec::new();
        for id in ids {
            let Some(attempt) = self.by_id.get_mut(id) else { continue };
            if attempt.visit.fence < by.fence {
                attempt.state = State::Superseded(by.fence);
                closed.push(attempt.closed());
            }
        }
        closed
    }

    /// Closes an attempt for its seal, by its own fence or a higher one of its visit. Asked again, answers again.
    pub fn close(&mut self, visit_id: i64, given: i64, known: &Known) -> Result<Closed, Refusal> {
        let visit = self.visit_of(visit_id).ok_or(Refusal::NotOpen { visit_id })?;
        let (own, crawl_id, visit_no) = (visit.fence, visit.crawl_id.clone(), visit.visit_no);
        let highest = self.highest(&crawl_id, visit_no, known);
        if given < highest {
            return Err(Refusal::StaleFence { visit_id, given, highest });
        }
        let attempt = self.by_id.get_mut(&visit_id).ok_or(Refusal::NotOpen { visit_id })?;
        attempt.state = if given > own { State::Superseded(given) } else { State::Sealing };
        Ok(attempt.closed())
    }

    /// Forgets a sealed attempt.
    pub fn forget(&mut self, visit_id: i64) {
        let Some(attempt) = self.by_id.remove(&visit_id) else { return };
        let visit = (attempt.visit.crawl_id, attempt.visit.visit_no);
        if let Some(ids) = self.by_visit.get_mut(&visit) {
            ids.retain(|id| *id != visit_id);
            if ids.is_empty() {
                self.by_visit.remove(&visit);
            }
        }
    }
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
