//! WebSockets and EventSources.

use sonde_proto::record::v1::WebsocketFrame;
use sonde_proto::record::v1::record::Row;

use super::events::{
    EventSourceMessage, Headers, RequestExtra, ResponseExtra, SocketClosed, SocketCreated, SocketError,
    SocketFrame, SocketHandshakeReceived, SocketHandshakeSent,
};
use super::exchange::{Exchange, Failure, Hop, Reply};
use super::rows::{self, BodyFate};
use super::site::stored_url;
use super::tracker::HttpTracker;
use crate::engine::chromium::cdp::SessionId;

/// A WebSocket: its handshake, and whether that was recorded.
#[derive(Debug)]
pub(super) struct Socket {
    pub exchange: Exchange,
    recorded: bool,
    error: Option<String>,
}

impl HttpTracker {
    pub(super) fn on_socket_created(&mut self, session: &SessionId, event: SocketCreated) {
        if self.sockets.contains_key(&event.request_id) {
            return;
        }
        if self.sockets.len() >= self.config.max_open {
            return self.miss("open_sockets_cap");
        }
        let early = self.early.remove(&event.request_id);
        let made = || Exchange::new(0, event.request_id.clone(), session.clone());
        let mut exchange = early.unwrap_or_else(made);
        exchange.id = self.ids.next();
        exchange.offset_us = self.clock(0.0, 0.0);
        let place = self.frames.place(session, None);
        exchange.hops.push(Hop {
            url: event.url,
            method: "GET".to_owned(),
            kind: "WebSocket".to_owned(),
            initiator: event.initiator,
            document_url: place.frame_url.clone(),
            place,
            at_us: self.now_us,
            ..Hop::default()
        });
        let socket = Socket { exchange, recorded: false, error: None };
        self.sockets.insert(event.request_id, socket);
    }

    pub(super) fn on_socket_handshake(&mut self, event: SocketHandshakeSent) {
        let offset = self.clock(event.timestamp, event.wall_time);
        let Some(socket) = self.sockets.get_mut(&event.request_id) else { return };
        socket.exchange.offset_us = offset;
        let at_us = socket.exchange.at_us(event.timestamp);
        let hop = &mut socket.exchange.hops[0];
        hop.headers = event.request.headers;
        hop.at_us = at_us;
    }

    pub(super) fn on_socket_open(&mut self, event: SocketHandshakeReceived) {
        let Some(mut socket) = self.sockets.remove(&event.request_id) else { return };
        if !socket.recorded {
            let exchange = &mut socket.exchange;
            let at_us = exchange.at_us(event.timestamp);
            let response = event.response;
            let text = response.request_headers_text.as_deref().map(Headers::of_text);
            if let Some(headers) = text.or_else(|| response.request_headers.clone()) {
                let request_id = event.request_id.clone();
                exchange.hops[0].sent = Some(RequestExtra { request_id, headers, ..RequestExtra::default() });
            }
            let told = exchange.unclaimed().1;
            let own = || ResponseExtra {
                headers: response.headers.clone(),
                headers_text: response.headers_text.clone(),
                status_code: response.status,
                ..ResponseExtra::default()
            };
            exchange.hops[0].received = if told.is_empty() { vec![own()] } else { told };
            exchange.hops[0].reply = Some(Reply { response, at_us, has_extra: None });
            self.emit_request(exchange, 0);
            let shared = self.shared(exchange, 0);
            if let Some(reply) = &shared.hop.reply {
                let fate = BodyFate { outcome: "not_asked", ..BodyFate::default() };
                let row = rows::response(&shared, reply, fate);
                self.record(reply.at_us, Row::HttpResponse(row));
            }
            socket.recorded = true;
        }
        self.sockets.insert(event.request_id, socket);
    }

    pub(super) fn on_socket_frame(&mut self, direction: &str, event: SocketFrame) {
        let Some(socket) = self.sockets.get(&event.request_id) else {
            return self.miss("frame_without_websocket");
        };
        let (id, url) = (socket.exchange.id, stored_url(&socket.exchange.hops[0].url));
        let at_us = socket.exchange.at_us(event.timestamp);
        let opcode = event.response.opcode as i64;
        let (payload, payload_bytes) = self.cut_payload(at_us, id, event.response.payload_data, opcode != 1);
        let row = WebsocketFrame {
            request_id: id,
            url,
            direction: direction.to_owned(),
            opcode: Some(opcode),
            payload,
            payload_bytes,
        };
        self.record(at_us, Row::WebsocketFrame(row));
    }

    pub(super) fn on_socket_error(&mut self, event: SocketError) {
        if let Some(socket) = self.sockets.get_mut(&event.request_id) {
            // Of a handshake that failed Chromium tells no more than that.
            let told = Some(event.error_message).filter(|text| !text.is_empty());
            socket.error = Some(told.unwrap_or_else(|| "net::ERR_FAILED".to_owned()));
        }
    }

    pub(super) fn on_socket_closed(&mut self, event: SocketClosed) {
        if let Some(socket) = self.sockets.remove(&event.request_id) {
            let at_us = socket.exchange.at_us(event.timestamp);
            let error = socket.error.clone().unwrap_or_else(|| "closed before the handshake".to_owned());
            self.end_socket(socket, at_us, &error);
            self.gone.add(event.request_id);
        }
    }

    /// A socket that never opened has a request and a failure.
    fn end_socket(&mut self, mut socket: Socket, at_us: i64, error: &str) {
        if socket.recorded {
            return;
        }
        socket.exchange.hops[0].sent = socket.exchange.sent.take();
        self.emit_request(&socket.exchange, 0);
        let received = socket.exchange.unclaimed().1;
        self.leftover_cookies(Some(&socket.exchange), &received);
        let failure = Failure { at_us, error: error.to_owned(), ..Failure::default() };
        let row = rows::failure(&self.shared(&socket.exchange, 0), &failure);
        self.record(at_us, Row::HttpFailure(row));
        self.unresolved(&socket.exchange, 0, &failure);
    }

    pub(super) fn finish_sockets(&mut self) {
        let mut sockets: Vec<_> = std::mem::take(&mut self.sockets).into_values().collect();
        sockets.sort_by_key(|s| s.exchange.id);
        for socket in sockets {
            self.end_socket(socket, self.now_us, "unfinished");
        }
    }

    pub(super) fn on_event_source(&mut self, session: &SessionId, event: EventSourceMessage) {
        let exchange = self.by_cdp.get(&event.request_id).and_then(|id| self.exchanges.get(id));
        let Some(exchange) = exchange.filter(|e| e.session == *session) else {
            return self.miss("message_without_event_source");
        };
        let at_us = exchange.at_us(event.timestamp);
        let id = exchange.id;
        let url = exchange.hops.last().map(|h| stored_url(&h.url)).unwrap_or_default();
        let (payload, payload_bytes) = self.cut_payload(at_us, id, event.data, false);
        let row = WebsocketFrame {
            request_id: id,
            url,
            direction: "received".to_owned(),
            opcode: None,
            payload,
            payload_bytes,
        };
        self.record(at_us, Row::WebsocketFrame(row));
    }
}
