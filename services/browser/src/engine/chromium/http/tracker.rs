//! From events to requests: what each event changes.

use std::collections::{HashMap, HashSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;

use super::events::*;
use super::exchange::{Body, End, Exchange, Failure, Hop, Post, Reply};
use super::frames::{Frames, Place, Tab};
use super::gone::Gone;
use super::links::Links;
use super::sockets::Socket;
use super::{Action, BodyResult, Decode, HttpConfig, MainDocument, PostDataRequest, RequestIds, cuts};
use crate::engine::chromium::cdp::{SessionId, SessionInfo, TargetId};

/// Turns the DevTools events of one visit's browser context into rows. Pure: what is to be done comes back as
/// [`Action`]s, and time is an argument.
#[derive(Debug)]
pub struct HttpTracker {
    pub(super) config: HttpConfig,
    pub(super) ids: RequestIds,
    pub(super) frames: Frames,
    pub(super) exchanges: HashMap<i64, Exchange>,
    pub(super) by_cdp: HashMap<String, i64>,
    /// ExtraInfo events that came before their request.
    pub(super) early: HashMap<String, Exchange>,
    pub(super) gone: Gone,
    /// Requests that wait for late events, with the end of their patience.
    pub(super) grace: VecDeque<(i64, i64)>,
    pub(super) sockets: HashMap<String, Socket>,
    main: Option<MainDocument>,
    last_activity_us: i64,
    pub(super) offset_us: Option<f64>,
    /// What was not recorded, by reason.
    pub(super) missed: HashMap<&'static str, i64>,
    /// data: URLs that were stored without their content, and how many bytes that was.
    pub(super) stripped: (i64, i64),
    pub(super) links: Links,
    pub(super) empty_stored: bool,
    /// DevTools ids of requests that were open at the end and whose answer is recorded.
    pub(super) answered: HashSet<String>,
    pub(super) finishing: bool,
    pub(super) now_us: i64,
    pub(super) out: Vec<Action>,
}

impl HttpTracker {
    pub fn new(config: HttpConfig, ids: RequestIds) -> Self {
        Self {
            config,
            ids,
            frames: Frames::default(),
            exchanges: HashMap::new(),
            by_cdp: HashMap::new(),
            early: HashMap::new(),
            gone: Gone::default(),
            grace: VecDeque::new(),
            sockets: HashMap::new(),
            main: None,
            last_activity_us: 0,
            offset_us: None,
            missed: HashMap::new(),
            stripped: (0, 0),
            links: Links::default(),
            empty_stored: false,
            answered: HashSet::new(),
            finishing: false,
            now_us: 0,
            out: Vec::new(),
        }
    }

    /// Takes one event; those that are not about the network or frames are ignored. `received_at_us` is the
    /// wall clock in microseconds since the Unix epoch.
    pub fn on_event<P: Decode + ?Sized>(
        &mut self,
        session: &SessionInfo,
        method: &str,
        params: &P,
        received_at_us: i64,
    ) -> Vec<Action> {
        if self.finishing {
            return Vec::new();
        }
        self.now_us = received_at_us;
        self.frames.note_session(session);
        if let Err(error) = self.dispatch(&session.id, method, params) {
            tracing::warn!(method, %error, "could not read a DevTools event");
            self.miss("undecodable_event");
        }
        self.expire();
        std::mem::take(&mut self.out)
    }

    fn dispatch<P: Decode + ?Sized>(
        &mut self,
        session: &SessionId,
        method: &str,
        params: &P,
    ) -> serde_json::Result<()> {
        let name = match method.split_once('.') {
            Some(("Network", name)) => name,
            Some(("Page", name)) => return self.frames.on_page(session, name, params),
            _ => {
                if method == "Target.detachedFromTarget" {
                    self.on_detached(session);
                }
                return Ok(());
            }
        };
        fn get<P: Decode + ?Sized, T: DeserializeOwned>(params: &P) -> serde_json::Result<T> {
            params.decode()
        }
        match name {
            "requestWillBeSent" => self.on_request(session, get(params)?),
            "requestWillBeSentExtraInfo" => self.on_request_extra(session, get(params)?),
            "responseReceived" => self.on_response(session, get(params)?),
            "responseReceivedExtraInfo" => self.on_response_extra(session, get(params)?),
            "dataReceived" => {
                let event: DataReceived = get(params)?;
                self.with(session, &event.request_id, |e| e.data_bytes += event.data_length);
            }
            "requestServedFromCache" => {
                let event: OfRequest = get(params)?;
                self.with(session, &event.request_id, |e| e.memory_cache = true);
            }
            "loadingFinished" => {
                let event: LoadingFinished = get(params)?;
                let encoded_bytes = event.encoded_data_length as i64;
                self.on_end(session, &event.request_id, |_| End::Finished { encoded_bytes });
            }
            "loadingFailed" => self.on_failed(session, get(params)?),
            "eventSourceMessageReceived" => self.on_event_source(session, get(params)?),
            "webSocketCreated" => self.on_socket_created(session, get(params)?),
            "webSocketWillSendHandshakeRequest" => self.on_socket_handshake(get(params)?),
            "webSocketHandshakeResponseReceived" => self.on_socket_open(get(params)?),
            "webSocketFrameSent" => self.on_socket_frame("sent", get(params)?),
            "webSocketFrameReceived" => self.on_socket_frame("received", get(params)?),
            "webSocketFrameError" => self.on_socket_error(get(params)?),
            "webSocketClosed" => self.on_socket_closed(get(params)?),
            "webTransportCreated" => self.miss("webtransport_not_recorded"),
            _ => {}
        }
        Ok(())
    }

    /// Says which browser tab a page is.
    pub fn set_tab(&mut self, page: &TargetId, tab_id: i64, window_id: Option<i64>) {
        self.frames.set_tab(page.clone(), Tab { tab_id, window_id });
    }

    /// The newest top-level navigation of the first page that was seen.
    pub fn main_document(&self) -> Option<&MainDocument> {
        self.main.as_ref()
    }

    /// Requests that wait for their response: no WebSockets, EventSources or media. A body under way shows in
    /// [`Self::last_activity_us`]; one that its page never reads would stay open for ever.
    pub fn open_requests(&self) -> usize {
        self.exchanges.values().filter(|e| e.is_open() && e.awaits_reply()).count()
    }

    /// Requests whose end is not known yet, bodies included.
    pub fn unended_requests(&self) -> usize {
        self.exchanges.values().filter(|e| e.is_open()).count()
    }

    /// When a request last made progress: `received_at_us` of that event, 0 before the first.
    pub fn last_activity_us(&self) -> i64 {
        self.last_activity_us
    }

    pub(super) fn miss(&mut self, reason: &'static str) {
        *self.missed.entry(reason).or_default() += 1;
    }

    /// Changes a request that is under way.
    fn with(&mut self, session: &SessionId, cdp_id: &str, change: impl FnOnce(&mut Exchange)) -> Option<i64> {
        let id = *self.by_cdp.get(cdp_id)?;
        let exchange = self.exchanges.get_mut(&id)?;
        exchange.session = session.clone();
        if exchange.is_open() {
            self.last_activity_us = self.now_us;
        }
        change(exchange);
        Some(id)
    }

    pub(super) fn clock(&mut self, timestamp: f64, wall_time: f64) -> f64 {
        let now = self.now_us as f64;
        match (wall_time > 0.0, self.offset_us) {
            (true, _) => {
                let offset = (wall_time - timestamp) * 1e6;
                self.offset_us = Some(offset);
                offset
            }
            (false, Some(offset)) => offset,
            (false, None) => now - timestamp * 1e6,
        }
    }

    fn on_request(&mut self, session: &SessionId, event: RequestWillBeSent) {
        let cdp_id = event.request_id.clone();
        if self.gone.has(&cdp_id) {
            return;
        }
        let id = match self.by_cdp.get(&cdp_id) {
            Some(id) => *id,
            None => match self.open(session, &event) {
                Some(id) => id,
                None => return,
            },
        };
        let Some(mut exchange) = self.exchanges.remove(&id) else { return };
        let redirected = event.redirect_response.is_some();
        if !exchange.is_repeated(session, redirected, &event.request.url) {
            self.last_activity_us = self.now_us;
            self.add_hop(&mut exchange, session, event);
        }
        self.exchanges.insert(id, exchange);
        self.advance(id, false);
    }

    /// Begins to follow a request; `None`: there are too many.
    fn open(&mut self, session: &SessionId, event: &RequestWillBeSent) -> Option<i64> {
        if self.exchanges.len() >= self.config.max_open {
            self.miss("open_requests_cap");
            return None;
        }
        let cdp_id = &event.request_id;
        let mut exchange =
            self.early.remove(cdp_id).unwrap_or_else(|| Exchange::new(0, cdp_id.clone(), session.clone()));
        exchange.id = self.ids.next();
        exchange.session = session.clone();
        exchange.offset_us = self.clock(event.timestamp, event.wall_time);
        let id = exchange.id;
        self.by_cdp.insert(cdp_id.clone(), id);
        self.exchanges.insert(id, exchange);
        Some(id)
    }

    /// Where the request belongs, and the document that loads it.
    fn place(&mut self, session: &SessionId, event: &RequestWillBeSent) -> (Place, Option<String>) {
        let cause = event.initiator.request_id.as_ref().filter(|_| event.initiator.kind == "preflight");
        let cause = cause.and_then(|id| self.exchanges.get(self.by_cdp.get(id)?)?.hops.last());
        if let Some(hop) = cause {
            return (hop.place.clone(), hop.document_url.clone());
        }
        let document = Some(event.document_url.clone()).filter(|d| !d.is_empty());
        (self.frames.place(session, event.frame_id.as_deref()), document)
    }

    fn add_hop(&mut self, exchange: &mut Exchange, session: &SessionId, event: RequestWillBeSent) {
        let (place, document_url) = self.place(session, &event);
        let at_us = exchange.at_us(event.timestamp);
        let RequestWillBeSent { request, redirect_response, redirect_has_extra_info, .. } = event;
        if let (Some(response), Some(hop)) = (redirect_response, exchange.hops.last_mut()) {
            hop.reply = Some(Reply { response, at_us, has_extra: redirect_has_extra_info });
        }
        exchange.session = session.clone();
        let mut hop = Hop {
            url: request.url,
            method: request.method,
            headers: request.headers,
            kind: event.kind,
            initiator: event.initiator,
            place,
            document_url,
            priority: request.initial_priority,
            at_us,
            ..Hop::default()
        };
        if request.has_post_data == Some(true) || !request.post_data_entries.is_empty() {
            hop.post = post(&request.post_data_entries, request.post_data);
        }
        if matches!(hop.post, Post::Asked { .. }) {
            hop.post = Post::Asked { last: hop.kind != "Document" };
            self.fetch_post_data(exchange, exchange.hops.len());
        }
        self.note_main(exchange, &hop);
        if self.config.link_scripts && !self.links.note(session, exchange.id, &hop) {
            self.miss("linked_urls_cap");
        }
        exchange.hops.push(hop);
    }

    fn fetch_post_data(&mut self, exchange: &Exchange, at: usize) {
        if self.config.http {
            self.out.push(Action::FetchPostData(PostDataRequest {
                request_id: exchange.id,
                hop_index: at as u32,
                session: exchange.session.clone(),
                cdp_request_id: exchange.cdp_id.clone(),
            }));
        }
    }

    /// Asks once more for the bodies that the browser did not have when their document had not come.
    fn fetch_later_post_data(&mut self, id: i64) {
        let Some(mut exchange) = self.exchanges.remove(&id) else { return };
        for at in 0..exchange.hops.len() {
            if matches!(exchange.hops[at].post, Post::Later) {
                exchange.hops[at].post = Post::Asked { last: true };
                self.fetch_post_data(&exchange, at);
            }
        }
        self.exchanges.insert(id, exchange);
    }

    fn note_main(&mut self, exchange: &Exchange, hop: &Hop) {
        let is_main = hop.kind == "Document" && hop.place.is_top && hop.place.page.is_some();
        if is_main && hop.place.page.as_ref() == self.frames.main_page() {
            let main =
                MainDocument { request_id: exchange.id, url: hop.url.clone(), ..MainDocument::default() };
            self.main = Some(main);
        }
    }

    fn update_main(&mut self, id: i64, change: impl FnOnce(&mut MainDocument)) {
        if let Some(main) = self.main.as_mut().filter(|m| m.request_id == id) {
            change(main);
        }
    }

    fn on_request_extra(&mut self, session: &SessionId, event: RequestExtra) {
        let cdp_id = event.request_id.clone();
        self.on_extra(session, &cdp_id, |e| e.sent.add(event, session));
    }

    fn on_response_extra(&mut self, session: &SessionId, event: ResponseExtra) {
        let cdp_id = event.request_id.clone();
        self.on_extra(session, &cdp_id, |e| e.received.add(event, session));
    }

    fn on_extra(&mut self, session: &SessionId, cdp_id: &str, add: impl FnOnce(&mut Exchange)) {
        if let Some(id) = self.by_cdp.get(cdp_id).copied() {
            if let Some(exchange) = self.exchanges.get_mut(&id) {
                add(exchange);
            }
            return self.advance(id, false);
        }
        if let Some(socket) = self.sockets.get_mut(cdp_id) {
            return add(&mut socket.exchange);
        }
        if self.gone.has(cdp_id) {
            return self.miss("late_extra_info");
        }
        if self.early.len() >= self.config.max_open && !self.early.contains_key(cdp_id) {
            return self.miss("extra_info_cap");
        }
        let made = || Exchange::new(0, cdp_id.to_owned(), session.clone());
        add(self.early.entry(cdp_id.to_owned()).or_insert_with(made));
    }

    fn on_response(&mut self, session: &SessionId, event: ResponseReceived) {
        let status = event.response.status;
        let found = self.with(session, &event.request_id, |exchange| {
            let at_us = exchange.at_us(event.timestamp);
            let Some(hop) = exchange.hops.last_mut().filter(|h| h.reply.is_none()) else { return };
            if hop.kind.is_empty() {
                hop.kind = event.kind;
            }
            hop.reply = Some(Reply { response: event.response, at_us, has_extra: event.has_extra_info });
        });
        match found {
            Some(id) => {
                self.update_main(id, |main| main.status = Some(status));
                self.advance(id, false);
            }
            None if self.gone.has(&event.request_id) => {}
            None => self.miss("response_without_request"),
        }
    }

    fn on_failed(&mut self, session: &SessionId, event: LoadingFailed) {
        let cdp_id = event.request_id.clone();
        self.on_end(session, &cdp_id, |exchange| {
            End::Failed(Failure {
                at_us: exchange.at_us(event.timestamp),
                error: match (&event.blocked_reason, event.error_text) {
                    (Some(reason), text) if text.is_empty() => format!("blocked: {reason}"),
                    (_, text) => text,
                },
                canceled: event.canceled == Some(true),
                blocked_reason: event.blocked_reason,
                cors_error: event.cors_error_status.map(|c| c.cors_error),
            })
        });
    }

    fn on_end(&mut self, session: &SessionId, cdp_id: &str, end: impl FnOnce(&Exchange) -> End) {
        let mut error = None;
        let found = self.with(session, cdp_id, |exchange| {
            if exchange.end.is_none() {
                let end = end(exchange);
                if let End::Failed(failure) = &end {
                    error = Some(failure.error.clone());
                }
                exchange.end = Some(end);
            }
        });
        if let Some(id) = found {
            self.update_main(id, |main| {
                main.finished = true;
                main.net_error = error.or(main.net_error.take());
            });
            self.fetch_later_post_data(id);
            self.advance(id, false);
        }
    }

    /// A session went: what it still had open may go on elsewhere (a frame that changes its process), but not
    /// for long without a word.
    fn on_detached(&mut self, session: &SessionId) {
        self.frames.forget_session(session);
        let until = self.now_us + self.config.extra_info_grace_us;
        for exchange in self.exchanges.values_mut().filter(|e| e.session == *session && e.end.is_none()) {
            exchange.session_gone = true;
            self.grace.push_back((until, exchange.id));
        }
    }

    /// The answer to [`Action::FetchBody`].
    pub fn on_body(&mut self, request_id: i64, result: BodyResult) -> Vec<Action> {
        if let Some(exchange) = self.exchanges.get_mut(&request_id).filter(|e| matches!(e.body, Body::Asked))
        {
            exchange.body = Body::Known(result);
            self.advance(request_id, false);
        }
        std::mem::take(&mut self.out)
    }

    /// The answer to [`Action::FetchPostData`]: the bytes, or `None` when the browser has them no more.
    pub fn on_post_data(&mut self, request: &PostDataRequest, bytes: Option<Vec<u8>>) -> Vec<Action> {
        let exchange = self.exchanges.get_mut(&request.request_id);
        let Some((exchange, at)) = exchange.zip(usize::try_from(request.hop_index).ok()) else {
            return Vec::new();
        };
        let ended = exchange.end.is_some();
        if let Some(hop) = exchange.hops.get_mut(at)
            && let Post::Asked { last } = hop.post
        {
            hop.post = match bytes {
                Some(bytes) => Post::Parts(vec![bytes]),
                None if last => Post::Unavailable,
                None => Post::Later,
            };
            if ended {
                self.fetch_later_post_data(request.request_id);
            }
            self.advance(request.request_id, false);
        }
        std::mem::take(&mut self.out)
    }

    /// Whether a request that was open at [`Self::finish`] has its answer in the rows, as the network service told of
    /// it; the page's own word of it may follow.
    pub fn has_answer(&self, cdp_request_id: &str) -> bool {
        self.answered.contains(cdp_request_id)
    }

    /// The end of the visit: what is still open becomes failures, and what was not recorded is counted.
    pub fn finish(&mut self, now_us: i64) -> Vec<Action> {
        self.now_us = now_us;
        self.finishing = true;
        cuts::finish(self);
        std::mem::take(&mut self.out)
    }
}

fn post(entries: &[PostDataEntry], text: Option<String>) -> Post {
    let parts: Option<Vec<Vec<u8>>> =
        entries.iter().map(|e| BASE64.decode(e.bytes.as_deref()?).ok()).collect();
    match (parts.filter(|p| !p.is_empty()), text) {
        (Some(parts), _) => Post::Parts(parts),
        // Some entry is a file or a blob.
        (None, _) if !entries.is_empty() => Post::Asked { last: true },
        (None, Some(text)) if text.is_ascii() => Post::Parts(vec![text.into_bytes()]),
        (None, _) => Post::Asked { last: true },
    }
}
