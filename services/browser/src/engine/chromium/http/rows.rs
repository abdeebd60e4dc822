//! Rows of the http tables, from what is known of a request.

use sonde_proto::record::v1::{Callstack, HttpFailure, HttpRedirect, HttpRequest, HttpResponse, Truncation};

use super::events::{AssociatedCookie, Headers, NamedCookie, Response, ResponseExtra};
use super::exchange::{Exchange, Failure, Hop, Reply};
use super::frames::Tab;
use super::post::PostBody;
use super::site::{origin, stored_url, third_party};
use super::{resource, stack};

/// SHA-256 of no bytes.
pub(super) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What the rows of a request share.
pub(super) struct Shared<'a> {
    pub exchange: &'a Exchange,
    pub hop: &'a Hop,
    pub index: u32,
    pub tab: Tab,
    pub incognito: bool,
}

/// What became of a response's body.
#[derive(Debug, Default)]
pub(super) struct BodyFate {
    pub outcome: &'static str,
    pub error: Option<String>,
    pub content_hash: Option<String>,
    pub bytes: Option<i64>,
    pub encoded_bytes: Option<i64>,
}

/// The document that loads it and the origin that caused it.
fn causes(hop: &Hop) -> (Option<String>, Option<String>) {
    let place = &hop.place;
    let navigation = hop.kind == "Document";
    let loading = match (navigation, place.is_top) {
        (true, true) => None,
        (true, false) => place.parent_url.clone(),
        // DevTools says of workers' own scripts and preflights that they load themselves.
        _ => hop.document_url.clone().filter(|d| *d != hop.url).or_else(|| place.frame_url.clone()),
    };
    let initiator =
        hop.initiator.url.as_deref().or_else(|| stack::innermost_url(hop.initiator.stack.as_ref()?));
    let triggering = match (&loading, navigation) {
        (Some(url), false) => origin(url),
        _ => initiator.or(loading.as_deref()).and_then(origin),
    };
    (loading, triggering)
}

pub(super) fn request(shared: &Shared<'_>, post: PostBody) -> HttpRequest {
    let Shared { exchange, hop, index, tab, incognito } = *shared;
    let place = &hop.place;
    let headers = hop.request_headers();
    let resource_type = hop.resource_type();
    let top_level_url = match resource_type {
        "main_frame" => Some(hop.url.clone()),
        _ => place.top_url.clone(),
    };
    let (loading_href, triggering_origin) = causes(hop);
    HttpRequest {
        incognito,
        window_id: tab.window_id,
        tab_id: tab.tab_id,
        frame_id: place.frame_id,
        url: stored_url(&hop.url),
        is_third_party_channel: loading_href.as_deref().and_then(|l| third_party(&hop.url, l)),
        is_third_party_to_top_window: top_level_url.as_deref().and_then(|t| third_party(&hop.url, t)),
        top_level_url: top_level_url.map(|u| stored_url(&u)),
        parent_frame_id: place.parent_frame_id,
        frame_ancestors: place.ancestors.clone(),
        method: hop.method.clone(),
        referrer: headers.get("referer").unwrap_or_default().to_owned(),
        headers: headers.json(),
        request_id: exchange.id,
        is_xhr: resource::is_xhr(&hop.kind),
        triggering_origin,
        loading_origin: loading_href.as_deref().and_then(origin),
        loading_href: loading_href.map(|u| stored_url(&u)),
        req_call_stack: None,
        resource_type: resource_type.to_owned(),
        post_body_bytes: (post.raw.is_some() || post.bytes > 0).then_some(post.bytes),
        post_body: post.fields,
        post_body_raw: post.raw,
        hop_index: index,
        headers_final: hop.sent.is_some(),
        initiator: Some(stack::initiator_json(&hop.initiator)),
        context_type: Some(place.context_type.clone()).filter(|c| !c.is_empty()),
        devtools_frame_id: place.devtools_frame.clone(),
        priority: hop.priority.clone(),
        blocked_cookies: hop.sent.as_ref().and_then(|s| blocked_cookies(&s.associated_cookies)),
    }
}

/// The cookies that were kept back, with why.
fn blocked_cookies(cookies: &[AssociatedCookie]) -> Option<String> {
    let blocked: Vec<_> = cookies
        .iter()
        .filter(|c| !c.blocked_reasons.is_empty())
        .map(|c| {
            let NamedCookie { name, domain, path } = &c.cookie;
            serde_json::json!({"name": name, "domain": domain, "path": path, "reasons": c.blocked_reasons})
        })
        .collect();
    (!blocked.is_empty()).then(|| serde_json::Value::Array(blocked).to_string())
}

pub(super) fn callstack(shared: &Shared<'_>) -> Option<Callstack> {
    let call_stack = stack::text(shared.hop.initiator.stack.as_ref()?)?;
    Some(Callstack { request_id: shared.exchange.id, call_stack })
}

/// Head of a response: status, status line, headers, whether they are those on the wire.
struct Head {
    status: i64,
    line: String,
    headers: Headers,
    on_the_wire: bool,
}

fn head(response: &Response, extra: Option<&ResponseExtra>) -> Head {
    let text = extra.and_then(|e| e.headers_text.as_deref()).or(response.headers_text.as_deref());
    let text = text.filter(|t| t.starts_with("HTTP/"));
    let status = extra.map(|e| e.status_code).filter(|s| *s > 0).unwrap_or(response.status);
    let line = match text.and_then(|t| t.lines().next()) {
        Some(line) => line.trim_end().to_owned(),
        None => status_line(response, status),
    };
    let headers = match (text, extra) {
        (Some(text), _) => Headers::of_text(text),
        (None, Some(extra)) => extra.headers.clone(),
        (None, None) => response.headers.clone(),
    };
    Head { status, line, headers, on_the_wire: extra.is_some() }
}

fn status_line(response: &Response, status: i64) -> String {
    let version = match response.protocol.as_deref() {
        Some("h2") => "HTTP/2",
        Some(h3) if h3.starts_with("h3") => "HTTP/3",
        Some("http/1.0") => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let text = if status == response.status { response.status_text.as_str() } else { "" };
    format!("{version} {status} {text}").trim_end().to_owned()
}

pub(super) fn cache_source(
    exchange: &Exchange,
    response: &Response,
    extra: Option<&ResponseExtra>,
) -> Option<&'static str> {
    let revalidated = extra.is_some_and(|e| e.status_code == 304) && response.status != 304;
    if response.from_service_worker {
        let from_cache = response.service_worker_response_source.as_deref() == Some("cache-storage");
        return from_cache.then_some("service_worker");
    }
    match () {
        () if exchange.memory_cache => Some("memory"),
        () if response.from_prefetch_cache => Some("prefetch"),
        () if response.from_disk_cache || revalidated => Some("disk"),
        () => None,
    }
}

pub(super) fn response(shared: &Shared<'_>, reply: &Reply, fate: BodyFate) -> HttpResponse {
    let Shared { exchange, hop, index, tab, incognito } = *shared;
    let extra = hop.received.last();
    let answer = &reply.response;
    let head = head(answer, extra);
    let cache_source = cache_source(exchange, answer, extra);
    HttpResponse {
        incognito,
        window_id: tab.window_id,
        tab_id: tab.tab_id,
        frame_id: hop.place.frame_id,
        url: stored_url(if answer.url.is_empty() { &hop.url } else { &answer.url }),
        method: hop.method.clone(),
        response_status: Some(head.status),
        response_status_text: head.line,
        is_cached: cache_source.is_some(),
        location: head.headers.get("location").unwrap_or_default().to_owned(),
        headers: head.headers.json(),
        request_id: exchange.id,
        content_hash: fate.content_hash,
        hop_index: index,
        cache_source: cache_source.map(str::to_owned),
        mime_type: answer.mime_type.clone().filter(|m| !m.is_empty()),
        protocol: answer.protocol.clone().filter(|p| !p.is_empty()),
        remote_ip: answer.remote_ip_address.clone().filter(|ip| !ip.is_empty()),
        remote_port: answer.remote_port.filter(|p| *p > 0),
        encoded_bytes: fate.encoded_bytes,
        body_bytes: fate.bytes,
        body_outcome: fate.outcome.to_owned(),
        body_error: fate.error,
        tls: answer.security_details.as_ref().map(tls),
        timing: answer.timing.as_ref().map(|t| t.get().to_owned()),
        headers_final: head.on_the_wire,
        from_service_worker: answer.from_service_worker,
    }
}

/// The facts without the certificate's bulk.
fn tls(details: &serde_json::Value) -> String {
    let mut details = details.clone();
    if let Some(fields) = details.as_object_mut() {
        fields.remove("signedCertificateTimestampList");
        fields.remove("certificateId");
    }
    details.to_string()
}

pub(super) fn redirect(shared: &Shared<'_>, reply: &Reply, to: &Hop) -> HttpRedirect {
    let Shared { exchange, hop, index, tab, incognito } = *shared;
    let head = head(&reply.response, hop.received.last());
    HttpRedirect {
        incognito,
        old_request_url: Some(stored_url(&hop.url)),
        old_request_id: Some(exchange.id.to_string()),
        new_request_url: Some(stored_url(&to.url)),
        new_request_id: Some(exchange.id.to_string()),
        window_id: tab.window_id,
        tab_id: tab.tab_id,
        frame_id: hop.place.frame_id,
        response_status: head.status,
        response_status_text: head.line,
        headers: head.headers.json(),
        hop_index: index,
        headers_final: head.on_the_wire,
    }
}

pub(super) fn failure(shared: &Shared<'_>, failure: &Failure) -> HttpFailure {
    let Shared { exchange, hop, index, tab, .. } = *shared;
    HttpFailure {
        request_id: exchange.id,
        hop_index: index,
        url: stored_url(&hop.url),
        method: hop.method.clone(),
        tab_id: tab.tab_id,
        frame_id: hop.place.frame_id,
        resource_type: hop.resource_type().to_owned(),
        error: failure.error.clone(),
        canceled: failure.canceled,
        blocked_reason: failure.blocked_reason.clone(),
        cors_error: failure.cors_error.clone(),
        after_response: hop.reply.is_some(),
        browser_error: None,
    }
}

pub(in crate::engine::chromium) fn truncation(
    table: &str,
    column: Option<&str>,
    reason: &str,
    (rows, bytes): (i64, i64),
    limit: i64,
    subject: Option<String>,
) -> Truncation {
    Truncation {
        table_name: table.to_owned(),
        column_name: column.map(str::to_owned),
        reason: reason.to_owned(),
        dropped_rows: rows,
        dropped_bytes: bytes,
        limit_value: limit,
        subject,
    }
}
