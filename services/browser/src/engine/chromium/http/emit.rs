//! From requests to rows: what can be recorded now, and what must wait.

use sonde_proto::record::v1::record::Row;

use super::cookies::{self, Setter};
use super::events::ResponseExtra;
use super::exchange::{Body, End, Exchange, Failure, Hop, Post};
use super::post::{self, PostBody};
use super::rows::{self, BodyFate, EMPTY_SHA256, Shared};
use super::tracker::HttpTracker;
use super::{Action, BodyRequest, BodyResult};

/// What the last hop waits for.
enum Fate {
    Known(BodyFate),
    Asked,
}

/// How a request ended, for its rows.
enum Ending {
    Whole,
    /// A response came, and nobody wanted, or told of, all of it.
    Cut(&'static str),
    Failed(Failure),
}

impl HttpTracker {
    pub(super) fn record(&mut self, captured_at_us: i64, row: Row) {
        let wanted = match &row {
            Row::JavascriptCookie(_) => self.config.cookies,
            Row::WebsocketFrame(_) => self.config.websocket,
            Row::Callstack(_) => self.config.http && self.config.callstacks,
            Row::DnsResponse(_) => self.config.dns,
            Row::Truncation(_) => true,
            _ => self.config.http,
        };
        if wanted {
            self.out.push(Action::Record { captured_at_us, row });
        }
    }

    pub(super) fn shared<'a>(&self, exchange: &'a Exchange, at: usize) -> Shared<'a> {
        let hop = &exchange.hops[at];
        let tab = self.frames.tab(hop.place.page.as_ref());
        Shared { exchange, hop, index: at as u32, tab, incognito: self.config.incognito }
    }

    /// Records what is known of the request. With `waive` late ExtraInfo events are not waited for.
    pub(super) fn advance(&mut self, id: i64, waive: bool) {
        let Some(mut exchange) = self.exchanges.remove(&id) else { return };
        if self.emit(&mut exchange, waive) {
            let (sent, received) = exchange.unclaimed();
            self.count("unpaired_extra_info", sent + received.len());
            self.count("extra_info_per_request_cap", exchange.dropped_extras());
            self.leftover_cookies(Some(&exchange), &received);
            self.by_cdp.remove(&exchange.cdp_id);
            self.gone.add(exchange.cdp_id);
            return;
        }
        let hop = exchange.hops.get(exchange.requests_done);
        let waits = hop.is_some_and(|h| h.reply.is_some()) || exchange.end.is_some();
        if waits && !exchange.in_grace && exchange.requests_done < exchange.hops.len() {
            exchange.in_grace = true;
            self.grace.push_back((self.now_us + self.config.extra_info_grace_us, id));
        }
        self.exchanges.insert(id, exchange);
    }

    /// Ends the patience with requests whose time has come.
    pub(super) fn expire(&mut self) {
        while let Some((_, id)) = self.grace.pop_front_if(|(until, _)| *until <= self.now_us) {
            let now_us = self.now_us;
            if let Some(exchange) = self.exchanges.get_mut(&id) {
                exchange.in_grace = false;
                if exchange.session_gone && exchange.end.is_none() {
                    exchange.end = Some(given_up("target_gone", now_us));
                }
            }
            self.advance(id, true);
        }
    }

    /// True: all is recorded.
    fn emit(&mut self, exchange: &mut Exchange, waive: bool) -> bool {
        while exchange.hops_done < exchange.hops.len() {
            let at = exchange.hops_done;
            if exchange.requests_done == at {
                // Before its ExtraInfo is claimed, which goes once only.
                if exchange.hops[at].post.is_awaited() && self.config.http && !self.finishing {
                    return false;
                }
                if !exchange.claim(at, waive || self.finishing) {
                    return false;
                }
                exchange.answer_late(at);
                if !exchange.was_withheld(at) {
                    self.emit_request(exchange, at);
                }
                exchange.requests_done = at + 1;
            }
            if at + 1 < exchange.hops.len() {
                let shared = self.shared(exchange, at);
                if let Some(reply) = &shared.hop.reply {
                    let row = rows::redirect(&shared, reply, &exchange.hops[at + 1]);
                    self.record(reply.at_us, Row::HttpRedirect(row));
                    self.resolved(exchange, at);
                }
            } else if !self.emit_end(exchange, at) {
                return false;
            }
            exchange.hops_done = at + 1;
        }
        exchange.end.is_some()
    }

    pub(super) fn emit_request(&mut self, exchange: &Exchange, at: usize) {
        let shared = self.shared(exchange, at);
        let hop = shared.hop;
        let body = self.post_body(exchange, hop);
        self.record(hop.at_us, Row::HttpRequest(rows::request(&shared, body)));
        if at == 0
            && let Some(row) = rows::callstack(&shared)
        {
            self.record(hop.at_us, Row::Callstack(row));
            self.cut_stack(exchange, hop);
        }
        self.cut_places(exchange, hop);
        let at_us = hop.reply.as_ref().map_or(hop.at_us, |r| r.at_us);
        for extra in &hop.received {
            let setter = Setter {
                request_id: Some(exchange.id),
                url: Some(&hop.url),
                tab_id: Some(shared.tab.tab_id),
                frame_id: Some(hop.place.frame_id),
                store_id: self.config.context_id.as_deref(),
                at_us,
            };
            for row in cookies::rows(extra, &setter) {
                self.record(at_us, Row::JavascriptCookie(row));
            }
        }
    }

    fn post_body(&mut self, exchange: &Exchange, hop: &Hop) -> PostBody {
        let cap = self.config.post_body_cap;
        let headers = hop.request_headers();
        let content_type = headers.get("content-type").or_else(|| hop.headers.get("content-type"));
        let sent: Option<i64> = headers.get("content-length").and_then(|length| length.parse().ok());
        let (body, reason) = match &hop.post {
            Post::None => return PostBody::default(),
            Post::Parts(parts) => {
                let body = post::columns(parts, content_type, cap);
                match sent.filter(|sent| *sent > body.bytes) {
                    // Files are left out of what the browser keeps.
                    Some(sent) => {
                        let cut = sent - body.bytes;
                        (PostBody { raw: None, bytes: sent, cut, ..body }, "post_body_unavailable")
                    }
                    None => (body, "post_body_cap"),
                }
            }
            Post::Asked { .. } | Post::Later | Post::Unavailable => {
                let bytes = sent.unwrap_or(0);
                let body = PostBody { bytes, cut: bytes.max(1), ..PostBody::default() };
                (body, "post_body_unavailable")
            }
        };
        if body.cut > 0 && self.config.http {
            let subject = Some(exchange.id.to_string());
            let cut = rows::truncation(
                "http_requests",
                Some("post_body_raw"),
                reason,
                (1, body.cut),
                cap as i64,
                subject,
            );
            self.record(hop.at_us, Row::Truncation(cut));
        }
        body
    }

    /// The response or failure of the last hop. False: it has not ended, or its body is awaited.
    fn emit_end(&mut self, exchange: &mut Exchange, at: usize) -> bool {
        let has_reply = exchange.hops[at].reply.is_some();
        let ending = match &exchange.end {
            None => return false,
            Some(End::Finished { .. }) => Ending::Whole,
            // The page let go of a body that there is not.
            Some(End::Failed(failure)) if failure.canceled && is_bodiless(&exchange.hops[at]) => {
                Ending::Whole
            }
            Some(End::Failed(failure)) if failure.canceled && has_reply => Ending::Cut("the page gave it up"),
            Some(End::GivenUp(_)) if has_reply => Ending::Cut("its end was not seen"),
            Some(End::Failed(failure) | End::GivenUp(failure)) => Ending::Failed(failure.clone()),
        };
        if has_reply {
            let arrived = (exchange.data_bytes > 0).then_some(exchange.data_bytes as i64);
            let aborted = BodyFate { outcome: "aborted", bytes: arrived, ..BodyFate::default() };
            let fate = match &ending {
                Ending::Failed(_) => aborted,
                Ending::Cut(why) => BodyFate { error: Some((*why).to_owned()), ..aborted },
                Ending::Whole => match self.fate(exchange, at) {
                    Fate::Known(fate) => fate,
                    Fate::Asked => return false,
                },
            };
            let shared = self.shared(exchange, at);
            let reply = shared.hop.reply.as_ref().expect("looked at above");
            let row = rows::response(&shared, reply, fate);
            self.record(reply.at_us, Row::HttpResponse(row));
            self.resolved(exchange, at);
            if self.finishing {
                self.answered.insert(exchange.cdp_id.clone());
            }
        }
        if let Ending::Failed(failure) = ending
            && !is_ours(&failure)
        {
            let row = rows::failure(&self.shared(exchange, at), &failure);
            self.record(failure.at_us, Row::HttpFailure(row));
            self.unresolved(exchange, at, &failure);
        }
        true
    }

    fn fate(&mut self, exchange: &mut Exchange, at: usize) -> Fate {
        let hop = &exchange.hops[at];
        let arrived = exchange.data_bytes;
        let encoded_bytes = match exchange.end {
            Some(End::Finished { encoded_bytes }) => Some(encoded_bytes),
            _ => None,
        };
        let wanted = self.config.http && self.config.save_content.covers(hop.resource_type());
        let known = |outcome| BodyFate { outcome, encoded_bytes, ..BodyFate::default() };
        if arrived == 0 && (is_bodiless(hop) || is_empty(hop)) {
            let content_hash = wanted.then(|| self.empty_hash());
            return Fate::Known(BodyFate { content_hash, bytes: Some(0), ..known("empty") });
        }
        if !wanted {
            let bytes = (arrived > 0).then_some(arrived as i64);
            return Fate::Known(BodyFate { bytes, ..known("not_asked") });
        }
        let size = if arrived > 0 { arrived } else { encoded_bytes.unwrap_or(0).max(0) as u64 };
        match &exchange.body {
            Body::Undecided if size > self.config.max_body_bytes => {
                Fate::Known(self.capped(exchange, at, size, known("capped")))
            }
            Body::Undecided if !self.finishing => {
                exchange.body = Body::Asked;
                self.out.push(Action::FetchBody(BodyRequest {
                    request_id: exchange.id,
                    session: exchange.session.clone(),
                    cdp_request_id: exchange.cdp_id.clone(),
                    expected_bytes: (arrived > 0).then_some(arrived),
                    max_bytes: self.config.max_body_bytes,
                }));
                Fate::Asked
            }
            Body::Asked if !self.finishing => Fate::Asked,
            Body::Undecided | Body::Asked => {
                let error = Some("the visit ended before the body came".to_owned());
                Fate::Known(BodyFate { error, ..known("failed") })
            }
            Body::Known(BodyResult::Stored { bytes: 0, .. }) => {
                let content_hash = Some(self.empty_hash());
                Fate::Known(BodyFate { content_hash, bytes: Some(0), ..known("empty") })
            }
            Body::Known(BodyResult::Stored { sha256, bytes }) => {
                let (content_hash, bytes) = (Some(sha256.clone()), Some(*bytes as i64));
                Fate::Known(BodyFate { content_hash, bytes, ..known("complete") })
            }
            Body::Known(BodyResult::Capped { bytes }) => {
                Fate::Known(self.capped(exchange, at, *bytes, known("capped")))
            }
            Body::Known(BodyResult::Failed { why }) => {
                let bytes = (arrived > 0).then_some(arrived as i64);
                Fate::Known(BodyFate { error: Some(why.clone()), bytes, ..known("failed") })
            }
        }
    }

    fn empty_hash(&mut self) -> String {
        if !std::mem::replace(&mut self.empty_stored, true) {
            self.out.push(Action::StoreEmptyBody);
        }
        EMPTY_SHA256.to_owned()
    }

    fn capped(&mut self, exchange: &Exchange, at: usize, size: u64, fate: BodyFate) -> BodyFate {
        let at_us = exchange.hops[at].reply.as_ref().map_or(self.now_us, |r| r.at_us);
        let limit = self.config.max_body_bytes as i64;
        let subject = Some(exchange.id.to_string());
        let row = rows::truncation(
            "http_responses",
            Some("content_hash"),
            "body_cap",
            (1, size as i64),
            limit,
            subject,
        );
        self.record(at_us, Row::Truncation(row));
        BodyFate { bytes: Some(size as i64), ..fate }
    }

    fn count(&mut self, reason: &'static str, count: usize) {
        if count > 0 {
            *self.missed.entry(reason).or_default() += count as i64;
        }
    }

    /// Cookies of responses that belong to no recorded hop.
    pub(super) fn leftover_cookies(&mut self, exchange: Option<&Exchange>, extras: &[ResponseExtra]) {
        let at_us = self.now_us;
        let hop = exchange.and_then(|e| e.hops.last());
        for extra in extras {
            let setter = Setter {
                request_id: exchange.map(|e| e.id),
                url: hop.map(|h| h.url.as_str()),
                tab_id: hop.map(|h| self.frames.tab(h.place.page.as_ref()).tab_id),
                frame_id: hop.map(|h| h.place.frame_id),
                store_id: self.config.context_id.as_deref(),
                at_us,
            };
            for row in cookies::rows(extra, &setter) {
                self.record(at_us, Row::JavascriptCookie(row));
            }
        }
    }
}

/// We keep requests from leaving once the visit is over: they belong to no visit.
fn is_ours(failure: &Failure) -> bool {
    failure.blocked_reason.as_deref() == Some("inspector")
}

fn is_bodiless(hop: &Hop) -> bool {
    let status = hop.reply.as_ref().map(|r| r.response.status);
    hop.method == "HEAD" || matches!(status, Some(100..=199 | 204 | 205 | 304))
}

/// Says itself that it has no body; of preflights nobody can read it.
fn is_empty(hop: &Hop) -> bool {
    let headers = hop.reply.as_ref().map(|r| &r.response.headers);
    hop.initiator.kind == "preflight" || headers.is_some_and(|h| h.get("content-length") == Some("0"))
}

pub(super) fn given_up(error: &str, at_us: i64) -> End {
    End::GivenUp(Failure { at_us, error: error.to_owned(), ..Failure::default() })
}
