//! Scripts of events as Chromium 156 sends them, and the rows they give.

mod cuts;
mod exchanges;
mod pairing;
mod pings;
mod placing;

use serde_json::{Value, json};
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{
    HttpFailure, HttpRedirect, HttpRequest, HttpResponse, JavascriptCookie, Truncation,
};

use super::*;
use crate::engine::chromium::cdp::SessionInfo;

pub(super) const PAGE: &str = "PAGE";

pub(super) fn session(id: &str, kind: &str, target: &str, parent: Option<&str>) -> SessionInfo {
    SessionInfo {
        id: id.into(),
        parent: parent.map(Into::into),
        target_id: target.into(),
        kind: kind.into(),
        url: "".into(),
        context_id: None,
        opener_id: None,
        parent_frame_id: None,
        subtype: None,
        was_paused: true,
    }
}

/// Feeds events and collects what comes out.
pub(super) struct Bench {
    pub tracker: HttpTracker,
    pub page: SessionInfo,
    pub actions: Vec<Action>,
    pub now: i64,
}

impl Bench {
    pub fn new(config: HttpConfig) -> Self {
        let page = session("S", "page", PAGE, None);
        let mut tracker = HttpTracker::new(config, RequestIds::default());
        tracker.set_tab(&PAGE.into(), 7, Some(3));
        Self { tracker, page, actions: Vec::new(), now: 1_000_000_000_000_000 }
    }

    pub fn with(save_content: SaveContent) -> Self {
        Self::new(HttpConfig { save_content, ..HttpConfig::default() })
    }

    pub fn event_of(&mut self, session: &SessionInfo, method: &str, params: &Value) {
        self.now += 1000;
        let actions = self.tracker.on_event(session, method, params.to_string().as_str(), self.now);
        self.actions.extend(actions);
    }

    pub fn event(&mut self, (method, params): (&str, Value)) {
        let page = self.page.clone();
        self.event_of(&page, method, &params);
    }

    pub fn events<'a>(&mut self, events: impl IntoIterator<Item = (&'a str, Value)>) {
        for event in events {
            self.event(event);
        }
    }

    pub fn finish(&mut self) {
        self.now += 1000;
        let actions = self.tracker.finish(self.now);
        self.actions.extend(actions);
    }

    fn rows<'a, T>(&'a self, pick: impl Fn(&'a Row) -> Option<&'a T> + 'a) -> Vec<&'a T> {
        let rows = self.actions.iter().filter_map(|a| match a {
            Action::Record { row, .. } => Some(row),
            _ => None,
        });
        rows.filter_map(pick).collect()
    }

    pub fn requests(&self) -> Vec<&HttpRequest> {
        self.rows(|r| if let Row::HttpRequest(r) = r { Some(r) } else { None })
    }

    pub fn responses(&self) -> Vec<&HttpResponse> {
        self.rows(|r| if let Row::HttpResponse(r) = r { Some(r) } else { None })
    }

    pub fn redirects(&self) -> Vec<&HttpRedirect> {
        self.rows(|r| if let Row::HttpRedirect(r) = r { Some(r) } else { None })
    }

    pub fn failures(&self) -> Vec<&HttpFailure> {
        self.rows(|r| if let Row::HttpFailure(r) = r { Some(r) } else { None })
    }

    pub fn cookies(&self) -> Vec<&JavascriptCookie> {
        self.rows(|r| if let Row::JavascriptCookie(r) = r { Some(r) } else { None })
    }

    pub fn dns(&self) -> Vec<&sonde_proto::record::v1::DnsResponse> {
        self.rows(|r| if let Row::DnsResponse(r) = r { Some(r) } else { None })
    }

    pub fn truncations(&self) -> Vec<&Truncation> {
        self.rows(|r| if let Row::Truncation(r) = r { Some(r) } else { None })
    }

    pub fn frames(&self) -> Vec<&sonde_proto::record::v1::WebsocketFrame> {
        self.rows(|r| if let Row::WebsocketFrame(r) = r { Some(r) } else { None })
    }

    pub fn asked_bodies(&self) -> Vec<&BodyRequest> {
        let asked = self.actions.iter().filter_map(|a| match a {
            Action::FetchBody(request) => Some(request),
            _ => None,
        });
        asked.collect()
    }
}

pub(super) fn sent(id: &str, url: &str, kind: &str) -> (&'static str, Value) {
    let params = json!({
        "requestId": id, "loaderId": "L", "documentURL": "https://top.test/", "timestamp": 100.0, "wallTime": 1000.0,
        "request": {"url": url, "method": "GET", "headers": {"Accept": "*/*"}, "initialPriority": "High"},
        "initiator": {"type": "parser", "url": "https://top.test/", "lineNumber": 3}, "type": kind, "frameId": PAGE,
    });
    ("Network.requestWillBeSent", params)
}

pub(super) fn redirected(id: &str, url: &str, from: &str, has_extra: bool) -> (&'static str, Value) {
    let (method, mut params) = sent(id, url, "Script");
    params["timestamp"] = 101.0.into();
    params["redirectHasExtraInfo"] = has_extra.into();
    params["redirectResponse"] =
        json!({"url": from, "status": 302, "statusText": "Found", "headers": {"Location": url}});
    (method, params)
}

pub(super) fn sent_extra(id: &str, mark: f64) -> (&'static str, Value) {
    let params = json!({"requestId": id, "headers": {"Host": "h", "X-Mark": mark.to_string()}, "associatedCookies": [],
        "connectTiming": {"requestTime": mark}, "clientSecurityState": {"unknown": 1}});
    ("Network.requestWillBeSentExtraInfo", params)
}

pub(super) fn received_extra(id: &str, status: i64, cookie: &str) -> (&'static str, Value) {
    let text = format!("HTTP/1.1 {status} Text\r\nSet-Cookie: {cookie}\r\nX-B: 2\r\n\r\n");
    let params = json!({"requestId": id, "statusCode": status, "headers": {"Set-Cookie": cookie, "X-B": "2"},
        "headersText": text, "blockedCookies": [], "resourceIPAddressSpace": "Local"});
    ("Network.responseReceivedExtraInfo", params)
}

pub(super) fn received(
    id: &str,
    url: &str,
    kind: &str,
    status: i64,
    has_extra: bool,
) -> (&'static str, Value) {
    let params = json!({"requestId": id, "timestamp": 102.0, "type": kind, "hasExtraInfo": has_extra, "response": {
        "url": url, "status": status, "statusText": "OK", "headers": {"X-A": "1"}, "mimeType": "text/plain",
        "remoteIPAddress": "127.0.0.1", "remotePort": 80, "fromDiskCache": false, "protocol": "http/1.1",
        "timing": {"requestTime": 100.5}, "securityDetails": {"protocol": "TLS 1.3", "certificateId": 0}}});
    ("Network.responseReceived", params)
}

pub(super) fn data(id: &str, bytes: u64) -> (&'static str, Value) {
    (
        "Network.dataReceived",
        json!({"requestId": id, "timestamp": 102.5, "dataLength": bytes, "encodedDataLength": 0}),
    )
}

pub(super) fn finished(id: &str) -> (&'static str, Value) {
    ("Network.loadingFinished", json!({"requestId": id, "timestamp": 103.0, "encodedDataLength": 321}))
}

pub(super) fn failed(id: &str, error: &str, canceled: bool) -> (&'static str, Value) {
    let params = json!({"requestId": id, "timestamp": 103.0, "type": "Script", "errorText": error, "canceled": canceled});
    ("Network.loadingFailed", params)
}
