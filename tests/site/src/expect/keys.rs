//! What a row is known by when rows are compared.

use super::rows::Message;
use super::{Rows, Table};

/// A row due, or seen: the keys it may be known by, the most exact first, and how often.
pub(super) struct Keyed {
    pub keys: Vec<String>,
    pub count: u64,
}

impl Keyed {
    fn one(keys: Vec<String>) -> Self {
        Self { keys, count: 1 }
    }
}

/// URLs of requests: without fragment, and a WebSocket handshake as the HTTP request it is.
fn request_url(url: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
        (Some(rest), _) => format!("http://{rest}"),
        (_, Some(rest)) => format!("https://{rest}"),
        _ => url.to_owned(),
    }
}

/// The exact key first where a detail is known, then the key without it.
fn with_detail(detail: Option<&String>, key: String) -> Vec<String> {
    detail.map(|detail| format!("{key} [{detail}]")).into_iter().chain([key]).collect()
}

fn order(message: &Message) -> Keyed {
    let names: Vec<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
    Keyed::one(vec![format!("{} | {}", of(message), names.join(", "))])
}

fn ordered(messages: &[Message]) -> Vec<Keyed> {
    let told = |message: &&Message| message.on_the_wire && !message.headers.is_empty();
    messages.iter().filter(told).map(order).collect()
}

pub(super) fn of(message: &Message) -> String {
    let (what, url) = message.of.split_once(' ').unwrap_or_default();
    format!("{what} {}", request_url(url))
}

/// A row for each header, and one that says whether they are those on the wire.
fn headers(message: &Message) -> Vec<Keyed> {
    let of = of(message);
    let place = if message.on_the_wire { "on the wire" } else { "before the wire" };
    let told = message.headers.iter().filter(|_| message.on_the_wire);
    let each = told.map(|(name, value)| format!("{of} | {name}: {value}"));
    each.chain([format!("{of} | {place}")]).map(|key| Keyed::one(vec![key])).collect()
}

pub(super) fn keyed(table: Table, rows: &Rows) -> Vec<Keyed> {
    let url = request_url;
    let one = |key: String| Keyed::one(vec![key]);
    match table {
        Table::HttpRequests => {
            rows.http_requests.iter().map(|r| one(format!("{} {}", r.method, url(&r.url)))).collect()
        }
        Table::HttpResponses => {
            rows.http_responses.iter().map(|r| one(format!("{} {}", r.status, url(&r.url)))).collect()
        }
        Table::HttpRedirects => rows
            .http_redirects
            .iter()
            .map(|r| one(format!("{} {} -> {}", r.status, url(&r.old), url(&r.new))))
            .collect(),
        Table::HttpFailures => {
            rows.http_failures.iter().map(|r| one(format!("{:?} {}", r.class, url(&r.url)))).collect()
        }
        Table::Javascript => rows
            .javascript
            .iter()
            .map(|r| Keyed {
                keys: r.symbols.iter().map(|symbol| format!("{} {symbol}", r.operation)).collect(),
                count: r.count,
            })
            .collect(),
        Table::Navigations => {
            rows.navigations.iter().map(|r| Keyed::one(with_detail(r.kind.as_ref(), r.url.clone()))).collect()
        }
        Table::JavascriptCookies => rows
            .javascript_cookies
            .iter()
            .map(|r| {
                let host = r.host.trim_start_matches('.');
                let change = if r.deleted { "deleted" } else { "set" };
                Keyed::one(with_detail(r.how.as_ref(), format!("{change} {} {host}", r.name)))
            })
            .collect(),
        Table::WebsocketFrames => rows
            .websocket_frames
            .iter()
            .map(|r| one(format!("{} {} {}", r.direction, url(&r.url), r.payload)))
            .collect(),
        Table::Bodies => {
            rows.bodies.iter().map(|r| one(format!("{:.12} {}", r.sha256, url(&r.url)))).collect()
        }
        Table::DnsResponses => rows
            .dns_responses
            .iter()
            .map(|r| {
                let address = r.address.as_deref().unwrap_or("failed");
                one(format!("{} {address} {}", r.host, url(&r.url)))
            })
            .collect(),
        Table::Scripts => rows
            .scripts
            .iter()
            .map(|r| one(format!("{} {:.12} {}", r.how, r.sha256, r.url.as_deref().map_or("", |u| u))))
            .collect(),
        Table::Callstacks => {
            rows.callstacks.iter().map(|r| one(format!("{} {}", url(&r.of), r.frames))).collect()
        }
        Table::RequestHeaders => rows.request_headers.iter().flat_map(headers).collect(),
        Table::ResponseHeaders => rows.response_headers.iter().flat_map(headers).collect(),
        Table::RequestHeaderOrder => ordered(&rows.request_headers),
        Table::ResponseHeaderOrder => ordered(&rows.response_headers),
        Table::PostBodies => rows
            .post_bodies
            .iter()
            .map(|r| one(format!("{} {} {} bytes {:.12}", r.method, url(&r.url), r.bytes, r.sha256)))
            .collect(),
        Table::PostForms => {
            rows.post_forms.iter().map(|r| one(format!("{} {:?}", url(&r.url), r.fields))).collect()
        }
        Table::CallSites => rows.call_sites.iter().map(|r| one(format!("{} {}", r.of, r.frames))).collect(),
    }
}
