//! What a relay knows: sessions, running visits, and how far each stream is. No IO here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sonde_proto::browser::v1::{
    RelayAck, RelayBatch, RelayBodyPart, RelayDown, RelayEnd, RelayFlush, RelayFlushed, RelayReady,
    RelayStart, RelayWelcome, relay_down,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bodies::{Bodies, ExtensionBody, Taken};
use super::{RelayError, RelayStats, SessionEnd};

/// Sessions remembered: a background that restarts more often than this in one browser process is broken.
pub(super) const SESSIONS: usize = 256;

#[derive(Default)]
pub(super) struct State(Mutex<Inner>);

impl State {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every method leaves the state whole at each step, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(super) struct Inner {
    pub origin: Option<String>,
    pub stats: RelayStats,
    pub visits: HashMap<i64, Visit>,
    sessions: Vec<Session>,
    bodies: Bodies,
    current: Option<Current>,
    serial: u32,
}

/// The connection that is open.
struct Current {
    session_no: u32,
    down: mpsc::Sender<RelayDown>,
    cancel: CancellationToken,
}

struct Session {
    uuid: String,
    streams: HashMap<i64, Stream>,
}

#[derive(Default)]
struct Stream {
    /// Ordinal that the next batch begins with.
    next: i64,
    acked: Option<i64>,
    /// Why records of it may be missing.
    suspect: Vec<String>,
}

pub(super) struct Visit {
    start: RelayStart,
    pub ready: Option<RelayReady>,
    /// First session that may have records of it.
    first_session: Option<u32>,
    flush: Option<Flush>,
}

struct Flush {
    request: RelayFlush,
    answer: Option<(u32, RelayFlushed)>,
}

/// What a batch is to its stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Next,
    Duplicate,
}

fn down(message: relay_down::Message) -> RelayDown {
    RelayDown { message: Some(message) }
}

impl Inner {
    /// Queues for the extension. A connection too slow to take it is closed: a reconnect says everything again.
    fn send(&self, message: relay_down::Message) {
        if let Some(current) = &self.current
            && current.down.try_send(down(message)).is_err()
        {
            current.cancel.cancel();
        }
    }

    /// A connection said hello: its session's number. The connection before it is closed.
    pub fn connect(
        &mut self,
        uuid: &str,
        sender: mpsc::Sender<RelayDown>,
        cancel: CancellationToken,
    ) -> Option<u32> {
        let known = self.sessions.iter().position(|session| session.uuid == uuid);
        if known.is_none() && self.sessions.len() >= SESSIONS {
            return None;
        }
        let index = known.unwrap_or_else(|| {
            self.sessions.push(Session { uuid: uuid.to_owned(), streams: HashMap::new() });
            self.sessions.len() - 1
        });
        let session_no = u32::try_from(index).ok()?;
        if let Some(before) = self.current.take() {
            before.cancel.cancel();
        }
        for visit in self.visits.values_mut() {
            visit.first_session.get_or_insert(session_no);
        }
        self.bodies.begin(session_no);
        self.current = Some(Current { session_no, down: sender, cancel });
        self.stats.accepted += 1;
        let running = self.visits.values().map(|visit| visit.start.clone()).collect();
        self.send(relay_down::Message::Welcome(RelayWelcome { running }));
        for (visit_id, stream) in &self.sessions[index].streams {
            if let Some(through_ordinal) = stream.acked {
                self.send(relay_down::Message::Ack(RelayAck { visit_id: *visit_id, through_ordinal }));
            }
        }
        for visit in self.visits.values() {
            if let Some(Flush { request, answer: None }) = &visit.flush {
                self.send(relay_down::Message::Flush(request.clone()));
            }
        }
        Some(session_no)
    }

    /// Whether the connection that closed was the current one.
    pub fn disconnect(&mut self, cancel: &CancellationToken) -> bool {
        cancel.cancel();
        let current = self.current.take_if(|current| current.cancel.is_cancelled());
        current.is_some()
    }

    pub fn start(&mut self, start: RelayStart) {
        let first_session = self.current.as_ref().map(|current| current.session_no);
        let visit = Visit { start: start.clone(), ready: None, first_session, flush: None };
        self.visits.insert(start.visit_id, visit);
        self.send(relay_down::Message::Start(start));
    }

    pub fn end(&mut self, visit_id: i64) {
        self.visits.remove(&visit_id);
        for session in &mut self.sessions {
            session.streams.remove(&visit_id);
        }
        self.send(relay_down::Message::End(RelayEnd { visit_id }));
    }

    pub fn ready(&mut self, ready: RelayReady) {
        if let Some(visit) = self.visits.get_mut(&ready.visit_id) {
            visit.ready = Some(ready);
        }
    }

    pub fn begin_flush(
        &mut self,
        visit_id: i64,
        frame_timeout_ms: u32,
        bare_documents: Vec<String>,
    ) -> Result<u32, RelayError> {
        self.serial = self.serial.wrapping_add(1);
        let request = RelayFlush { visit_id, serial: self.serial, frame_timeout_ms, bare_documents };
        let visit = self.visits.get_mut(&visit_id).ok_or(RelayError::UnknownVisit(visit_id))?;
        visit.flush = Some(Flush { request: request.clone(), answer: None });
        self.send(relay_down::Message::Flush(request));
        Ok(self.serial)
    }

    pub fn answer(&mut self, session_no: u32, answer: RelayFlushed) {
        if let Some(flush) = self.visits.get_mut(&answer.visit_id).and_then(|visit| visit.flush.as_mut())
            && flush.request.serial == answer.serial
        {
            flush.answer = Some((session_no, answer));
        }
    }

    /// The ends of all sessions of a visit, once its flush is answered.
    pub fn flushed(&mut self, visit_id: i64, serial: u32) -> Result<Option<Vec<SessionEnd>>, RelayError> {
        let visit = self.visits.get(&visit_id).ok_or(RelayError::UnknownVisit(visit_id))?;
        let Some(Flush { request, answer: Some((session_no, answer)) }) = &visit.flush else {
            return Ok(None);
        };
        if request.serial != serial {
            return Ok(None);
        }
        let first = visit.first_session.unwrap_or(*session_no).min(*session_no);
        let ends =
            (first..=*session_no).map(|number| self.end_of(visit_id, number, *session_no, answer, request));
        Ok(Some(ends.collect()))
    }

    fn end_of(
        &self,
        visit_id: i64,
        number: u32,
        last_session: u32,
        answer: &RelayFlushed,
        request: &RelayFlush,
    ) -> SessionEnd {
        let session = &self.sessions[number as usize];
        let stream = session.streams.get(&visit_id);
        let received = stream.map_or(-1, |stream| stream.next - 1);
        let mut suspect = stream.map_or_else(Vec::new, |stream| stream.suspect.clone());
        if number < last_session {
            suspect.push("the extension's background restarted before it had sent everything".to_owned());
        } else {
            if answer.silent_frames > 0 {
                let (frames, millis) = (answer.silent_frames, request.frame_timeout_ms);
                suspect.push(format!("{frames} frames did not answer the flush in {millis} ms"));
            }
            let last = answer.last_ordinal;
            if last > received {
                suspect.push(format!("records {} to {last} did not arrive", received + 1));
            } else if last < received {
                suspect.push(format!("records {} to {received} came after the end was told", last + 1));
            }
        }
        SessionEnd {
            session_no: number,
            session_uuid: session.uuid.clone(),
            last_ordinal: if number < last_session { received } else { answer.last_ordinal },
            suspect: suspect.join("; "),
            missing_targets: if number < last_session { Vec::new() } else { answer.missing_targets.clone() },
        }
    }

    pub fn ack(&mut self, visit_id: i64, session_no: u32, through_ordinal: i64) {
        let Some(session) = self.sessions.get_mut(session_no as usize) else { return };
        let Some(stream) = session.streams.get_mut(&visit_id) else { return };
        stream.acked = stream.acked.max(Some(through_ordinal));
        if self.current.as_ref().is_some_and(|current| current.session_no == session_no) {
            self.send(relay_down::Message::Ack(RelayAck { visit_id, through_ordinal }));
        }
    }

    /// Takes part of a body; gives the body when it is whole.
    pub fn body_part(&mut self, session_no: u32, part: RelayBodyPart) -> Option<ExtensionBody> {
        match self.bodies.take(session_no, part) {
            Taken::Ack(ack) => self.send(relay_down::Message::BodyAck(ack)),
            Taken::Answer(answer) => self.send(relay_down::Message::BodyStored(answer)),
            Taken::Whole(body) => return Some(body),
            Taken::Nothing => {}
        }
        None
    }

    pub fn body_stored(&mut self, body: &ExtensionBody, stored: Result<(), String>) {
        let answer = self.bodies.stored(body, stored);
        // To another session the number means another body.
        if self.current.as_ref().is_some_and(|current| current.session_no == body.session_no) {
            self.send(relay_down::Message::BodyStored(answer));
        }
    }

    /// Where a batch belongs in its stream; moves the stream on when it is new.
    pub fn place(&mut self, session_no: u32, batch: &RelayBatch) -> Place {
        let stream = self.sessions[session_no as usize].streams.entry(batch.visit_id).or_default();
        let end = batch.first_ordinal + i64::from(batch.count);
        if end <= stream.next {
            self.stats.duplicates += 1;
            return Place::Duplicate;
        }
        if batch.first_ordinal != stream.next {
            let (expected, came) = (stream.next, batch.first_ordinal);
            stream.suspect.push(format!("a batch began with record {came} where {expected} was due"));
        }
        stream.next = end;
        Place::Next
    }
}
