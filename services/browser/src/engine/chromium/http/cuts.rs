//! Every cut, drop and gap, as rows of `truncations` (M18); and the end of a visit, which says what was missed.

use sonde_proto::record::v1::record::Row;

use super::HttpTracker;
use super::emit::given_up;
use super::exchange::{Exchange, Hop, MAX_EXTRAS};
use super::frames::{MAX_ANCESTORS, MAX_FRAMES};
use super::site::STRIPPED;
use super::{links, rows, stack};

impl HttpTracker {
    fn cut(&mut self, at_us: i64, (table, column): (&str, &str), reason: &str, limit: usize, subject: i64) {
        let subject = Some(subject.to_string());
        let row = rows::truncation(table, Some(column), reason, (1, 0), limit as i64, subject);
        self.record(at_us, Row::Truncation(row));
    }

    pub(super) fn cut_stack(&mut self, exchange: &Exchange, hop: &Hop) {
        let cut = hop.initiator.stack.as_ref().map_or(0, stack::cut);
        if cut > 0 && self.config.http && self.config.callstacks {
            self.cut(hop.at_us, ("callstacks", "call_stack"), "stack_cap", stack::MAX_FRAMES, exchange.id);
        }
    }

    /// What the row of a request says of places shorter than it is.
    pub(super) fn cut_places(&mut self, exchange: &Exchange, hop: &Hop) {
        if !self.config.http {
            return;
        }
        if hop.place.ancestors_left_out > 0 {
            let column = ("http_requests", "frame_ancestors");
            self.cut(hop.at_us, column, "ancestors_cap", MAX_ANCESTORS, exchange.id);
        }
        let stripped = stripped_bytes(&hop.url);
        if stripped > 0 {
            self.stripped.0 += 1;
            self.stripped.1 += stripped as i64;
        }
    }

    /// Text as it is stored, and its whole length in bytes; cut at the cap, which is recorded.
    pub(super) fn cut_payload(
        &mut self,
        at_us: i64,
        id: i64,
        payload: String,
        binary: bool,
    ) -> (String, i64) {
        let cap = self.config.payload_cap;
        let padding = payload.bytes().rev().take_while(|b| *b == b'=').count();
        let bytes = if binary { (payload.len() / 4 * 3).saturating_sub(padding) } else { payload.len() };
        if bytes <= cap {
            return (payload, bytes as i64);
        }
        let subject = Some(id.to_string());
        let dropped = (1, (bytes - cap) as i64);
        let row = rows::truncation(
            "websocket_frames",
            Some("payload"),
            "payload_cap",
            dropped,
            cap as i64,
            subject,
        );
        if self.config.websocket {
            self.record(at_us, Row::Truncation(row));
        }
        // Whole groups of base64 stay decodable.
        let keep = if binary { cap / 3 * 4 } else { cap };
        let end = (0..=keep.min(payload.len())).rev().find(|at| payload.is_char_boundary(*at)).unwrap_or(0);
        (payload[..end].to_owned(), bytes as i64)
    }
}

/// Bytes of the URL that are not stored.
fn stripped_bytes(url: &str) -> usize {
    let stored = super::stored_url(url);
    let kept = stored.strip_suffix(STRIPPED).filter(|_| stored != url);
    kept.map_or(0, |kept| url.len().saturating_sub(kept.len()))
}

/// Records all that is left.
pub(super) fn finish(tracker: &mut HttpTracker) {
    let mut ids: Vec<i64> = tracker.exchanges.keys().copied().collect();
    ids.sort_unstable();
    let now_us = tracker.now_us;
    for id in ids {
        if let Some(exchange) = tracker.exchanges.get_mut(&id) {
            exchange.end.get_or_insert_with(|| given_up("unfinished", now_us));
        }
        tracker.advance(id, true);
    }
    tracker.finish_sockets();
    let mut early: Vec<_> = std::mem::take(&mut tracker.early).into_values().collect();
    early.sort_by(|a, b| a.cdp_id.cmp(&b.cdp_id));
    for mut exchange in early {
        let (sent, received) = exchange.unclaimed();
        *tracker.missed.entry("extra_info_without_request").or_default() += (sent + received.len()) as i64;
        tracker.leftover_cookies(None, &received);
    }
    say_what_is_missing(tracker);
}

fn say_what_is_missing(tracker: &mut HttpTracker) {
    let now_us = tracker.now_us;
    let mut missed: Vec<_> = std::mem::take(&mut tracker.missed).into_iter().collect();
    missed.sort_unstable();
    for (reason, count) in missed {
        let limit = match reason {
            "extra_info_per_request_cap" => MAX_EXTRAS,
            "linked_urls_cap" => links::MAX_URLS,
            reason if reason.ends_with("_cap") => tracker.config.max_open,
            _ => 0,
        };
        let (table, column) = match reason {
            "linked_urls_cap" => ("scripts", Some("request_id")),
            "frame_without_websocket" | "message_without_event_source" => ("websocket_frames", None),
            _ => ("http_requests", None),
        };
        let row = rows::truncation(table, column, reason, (count, 0), limit as i64, None);
        tracker.record(now_us, Row::Truncation(row));
    }
    let unknown = tracker.frames.beyond();
    if unknown > 0 {
        let row = rows::truncation(
            "http_requests",
            Some("frame_id"),
            "frames_cap",
            (unknown, 0),
            MAX_FRAMES as i64,
            None,
        );
        tracker.record(now_us, Row::Truncation(row));
    }
    if tracker.stripped.0 > 0 {
        // Their bodies are those of their responses.
        let row =
            rows::truncation("http_requests", Some("url"), "data_url_content", tracker.stripped, 0, None);
        tracker.record(now_us, Row::Truncation(row));
    }
}
