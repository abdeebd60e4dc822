//! One request with all its hops, and the pairing of its ExtraInfo events.
//!
//! ExtraInfo events come from another process than the rest: before or after their partner, by another
//! session perhaps, but per request in the order of its hops. `hasExtraInfo` says whether they come at all;
//! it is known when the hop has its response.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::BodyResult;
use super::events::{Headers, Initiator, RequestExtra, Response, ResponseExtra};
use super::frames::Place;
use crate::engine::chromium::cdp::SessionId;

/// ExtraInfo events kept for one request.
pub(super) const MAX_EXTRAS: usize = 256;

/// The same event, told by two sessions.
pub(super) trait Digest {
    fn digest(&self) -> u64;
}

impl Digest for RequestExtra {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.headers.0, self.connect_timing.request_time.to_bits()).hash(&mut hasher);
        hasher.finish()
    }
}

impl Digest for ResponseExtra {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.headers.0, &self.headers_text, self.status_code).hash(&mut hasher);
        hasher.finish()
    }
}

/// The events of one kind, each once, that no hop has taken yet.
#[derive(Debug)]
pub(super) struct Extras<T> {
    waiting: VecDeque<T>,
    told: Vec<(u64, SessionId)>,
    by_session: Vec<(SessionId, usize)>,
    dropped: usize,
}

impl<T> Default for Extras<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), told: Vec::new(), by_session: Vec::new(), dropped: 0 }
    }
}

fn count_one(counts: &mut Vec<(SessionId, usize)>, session: &SessionId) -> usize {
    match counts.iter_mut().find(|(s, _)| s == session) {
        Some((_, count)) => {
            *count += 1;
            *count - 1
        }
        None => {
            counts.push((session.clone(), 1));
            0
        }
    }
}

impl<T: Digest> Extras<T> {
    /// Keeps it, unless another session told it before or there are too many.
    pub fn add(&mut self, event: T, session: &SessionId) {
        let digest = event.digest();
        let at = count_one(&mut self.by_session, session);
        let doubled = self.told.get(at).is_some_and(|(d, s)| *d == digest && s != session);
        if doubled {
            return;
        }
        if self.told.len() >= MAX_EXTRAS {
            self.dropped += 1;
            return;
        }
        self.told.push((digest, session.clone()));
        self.waiting.push_back(event);
    }

    /// The oldest one.
    pub fn take(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// The body of a request.
#[derive(Debug, Default)]
pub(super) enum Post {
    #[default]
    None,
    /// `last`: there is no later time at which the browser could have it.
    Asked {
        last: bool,
    },
    /// It is to be asked for again when the document has come: of navigations the browser may have it then only.
    Later,
    Parts(Vec<Vec<u8>>),
    Unavailable,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub response: Response,
    pub at_us: i64,
    pub has_extra: Option<bool>,
}

#[derive(Debug, Default)]
pub(super) struct Hop {
    pub url: String,
    pub method: String,
    pub headers: Headers,
    /// DevTools' word.
    pub kind: String,
    pub initiator: Initiator,
    pub place: Place,
    pub document_url: Option<String>,
    pub priority: Option<String>,
    pub at_us: i64,
    pub post: Post,
    pub reply: Option<Reply>,
    pub sent: Option<RequestExtra>,
    /// The last is that of the reply; those before were answered by the browser itself (authentication).
    pub received: Vec<ResponseExtra>,
}

impl Post {
    /// It may still be had.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Later)
    }
}

impl Hop {
    /// The headers on the wire, or those known before.
    pub fn request_headers(&self) -> &Headers {
        self.sent.as_ref().map_or(&self.headers, |s| &s.headers)
    }

    pub fn resource_type(&self) -> &'static str {
        let headers = self.request_headers();
        super::resource::kind(
            &self.kind,
            self.place.is_top,
            &self.place.context_type,
            &self.initiator,
            headers,
        )
    }
}

#[derive(Debug)]
pub(super) enum End {
    Finished {
        encoded_bytes: i64,
    },
    Failed(Failure),
    /// Nobody tells how it went on.
    GivenUp(Failure),
}

impl End {
    /// Whether the page or the browser ended it or went before it, and not the network: an answer may have come all
    /// the same.
    fn is_canceled(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.canceled) || matches!(self, Self::GivenUp(_))
    }

    /// Whether the browser kept it from being sent, unless a header on the wire says otherwise.
    fn is_withheld(&self) -> bool {
        matches!(self, Self::Failed(f) if f.canceled || f.blocked_reason.is_some() || f.cors_error.is_some())
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Failure {
    pub at_us: i64,
    pub error: String,
    pub canceled: bool,
    pub blocked_reason: Option<String>,
    pub cors_error: Option<String>,
}

#[derive(Debug, Default)]
pub(super) enum Body {
    #[default]
    Undecided,
    Asked,
    Known(BodyResult),
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub id: i64,
    pub cdp_id: String,
    /// Of its newest event: it has the body.
    pub session: SessionId,
    /// Wall clock minus monotonic clock, in microseconds.
    pub offset_us: f64,
    pub hops: Vec<Hop>,
    announced: Vec<(SessionId, usize)>,
    pub sent: Extras<RequestExtra>,
    pub received: Extras<ResponseExtra>,
    /// Hops whose request is recorded, and hops that are recorded wholly.
    pub requests_done: usize,
    pub hops_done: usize,
    pub data_bytes: u64,
    pub memory_cache: bool,
    pub end: Option<End>,
    pub body: Body,
    /// It stands in the queue of those that wait for late events.
    pub in_grace: bool,
    pub session_gone: bool,
}

impl Exchange {
    pub fn new(id: i64, cdp_id: String, session: SessionId) -> Self {
        Self {
            id,
            cdp_id,
            session,
            offset_us: 0.0,
            hops: Vec::new(),
            announced: Vec::new(),
            sent: Extras::default(),
            received: Extras::default(),
            requests_done: 0,
            hops_done: 0,
            data_bytes: 0,
            memory_cache: false,
            end: None,
            body: Body::Undecided,
            in_grace: false,
            session_gone: false,
        }
    }

    /// Whether this announcement of a hop was made before by another session.
    pub fn is_repeated(&mut self, session: &SessionId, redirected: bool, url: &str) -> bool {
        let new_session = !self.announced.iter().any(|(s, _)| s == session);
        let known = self.hops.len();
        let at = count_one(&mut self.announced, session);
        if !redirected {
            return known > 0;
        }
        if new_session && known > 0 {
            // It joins in the middle: what it tells is the last hop again, or the next one.
            let repeated = self.hops[known - 1].url == url;
            let at = if repeated { known } else { known + 1 };
            if let Some((_, count)) = self.announced.iter_mut().find(|(s, _)| s == session) {
                *count = at;
            }
            return repeated;
        }
        at < known
    }

    pub fn at_us(&self, timestamp: f64) -> i64 {
        (timestamp * 1e6 + self.offset_us).round() as i64
    }

    /// It counts as network activity.
    pub fn is_open(&self) -> bool {
        let kind = self.hops.last().map(|h| h.kind.as_str());
        self.end.is_none() && !self.session_gone && kind.is_some_and(|k| !super::resource::never_ends(k))
    }

    pub fn awaits_reply(&self) -> bool {
        self.hops.last().is_some_and(|hop| hop.reply.is_none())
    }

    /// Takes the hop's ExtraInfo events. False: they are still to come. With `waive` nothing is waited for.
    pub fn claim(&mut self, at: usize, waive: bool) -> bool {
        let is_last = at + 1 == self.hops.len();
        let hop = &mut self.hops[at];
        let expects = match &hop.reply {
            Some(reply) => reply.has_extra,
            None if is_last && self.end.is_some() => None,
            None => return false,
        };
        if expects == Some(false) && !(is_last && waive) {
            return true;
        }
        let Some(reply) = &hop.reply else {
            // It failed: whether it was sent at all shows in time only. One that its page gave up may be
            // answered all the same (keepalive): then only the ExtraInfo says so.
            let canceled = self.end.as_ref().is_some_and(End::is_canceled);
            hop.sent = hop.sent.take().or_else(|| self.sent.take());
            if canceled && hop.received.is_empty() {
                hop.received.extend(self.received.take());
            }
            return hop.sent.is_some() && (!canceled || !hop.received.is_empty()) || waive;
        };
        let status = reply.response.status;
        let fits = |e: &ResponseExtra| matches!(e.status_code, 0 | 304) || e.status_code == status;
        let place = self.received.waiting.iter().position(fits);
        let place = place.or_else(|| self.received.waiting.len().checked_sub(1).filter(|_| waive && is_last));
        let sent_ready = self.sent.waiting.len() > place.unwrap_or_default();
        if !waive && (place.is_none() || !sent_ready) {
            return false;
        }
        if let Some(place) = place {
            hop.received.extend(self.received.waiting.drain(..=place));
        }
        // A request that the browser repeated by itself was sent as often as it was answered.
        let taken = place.map_or(1, |p| p + 1).min(self.sent.waiting.len());
        hop.sent = self.sent.waiting.drain(..taken).next_back();
        true
    }

    /// Whether the browser itself kept the hop from being sent (CSP, mixed content, a failed preflight, a page
    /// that went before it).
    pub fn was_withheld(&self, at: usize) -> bool {
        let hop = &self.hops[at];
        let last = at + 1 == self.hops.len();
        last && hop.sent.is_none() && hop.reply.is_none() && self.end.as_ref().is_some_and(End::is_withheld)
    }

    /// The answer to a request whose page was gone when it came, from its ExtraInfo.
    pub fn answer_late(&mut self, at: usize) {
        let canceled = self.end.as_ref().is_some_and(End::is_canceled);
        let at_us = match &self.end {
            Some(End::Failed(failure) | End::GivenUp(failure)) => failure.at_us,
            _ => return,
        };
        let hop = &mut self.hops[at];
        if canceled
            && hop.reply.is_none()
            && let Some(extra) = hop.received.last()
        {
            let response = Response::from_extra(extra, &hop.url);
            hop.reply = Some(Reply { response, at_us, has_extra: Some(true) });
        }
    }

    /// ExtraInfo events that were too many.
    pub fn dropped_extras(&self) -> usize {
        self.sent.dropped + self.received.dropped
    }

    /// ExtraInfo events for which no hop was found.
    pub fn unclaimed(&mut self) -> (usize, Vec<ResponseExtra>) {
        (self.sent.waiting(), self.received.waiting.drain(..).collect())
    }
}
