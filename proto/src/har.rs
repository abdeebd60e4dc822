//! HTTP rows of a visit as HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::record::v1::record::Row;
use crate::record::v1::{HttpFailure, HttpRedirect, HttpRequest, HttpResponse};

/// What a HAR is of.
#[derive(Debug, Clone, Default)]
pub struct HarPage<'a> {
    /// URL of the page.
    pub url: &'a str,
    /// Name of the browser, as `chromium`; "" where it is not known.
    pub browser: &'a str,
}

/// One hop of a request and what is known of its end.
#[derive(Default)]
struct Hop<'a> {
    asked: Option<(i64, &'a HttpRequest)>,
    answered: Option<&'a HttpResponse>,
    redirected: Option<&'a HttpRedirect>,
    failed: Option<&'a HttpFailure>,
}

/// The log of rows with their times (microseconds since the epoch), in the order of the requests' times. Rows of other
/// tables are left out, and answers whose request is not among the rows. What HAR has no name for begins with `_`:
/// `_resourceType`, `_requestId`, `_hop`, `_error` of a request that failed, `_contentSha256` of a stored body.
/// Lengths that are not known are -1, as the format has it.
pub fn har<'a>(rows: impl IntoIterator<Item = (i64, &'a Row)>, page: &HarPage<'_>) -> Value {
    let mut hops: BTreeMap<(i64, u32), Hop<'a>> = BTreeMap::new();
    for (at, row) in rows {
        match row {
            Row::HttpRequest(row) => {
                hops.entry((row.request_id, row.hop_index)).or_default().asked = Some((at, row));
            }
            Row::HttpResponse(row) => {
                hops.entry((row.request_id, row.hop_index)).or_default().answered = Some(row);
            }
            Row::HttpRedirect(row) => {
                let Some(id) = row.old_request_id.as_deref().and_then(|id| id.parse().ok()) else { continue };
                hops.entry((id, row.hop_index)).or_default().redirected = Some(row);
            }
            Row::HttpFailure(row) => {
                hops.entry((row.request_id, row.hop_index)).or_default().failed = Some(row);
            }
            _ => {}
        }
    }
    let mut entries: Vec<(i64, Value)> = hops.values().filter_map(Hop::entry).collect();
    entries.sort_by_key(|(at, _)| *at);
    let began = entries.first().map_or(0, |(at, _)| *at);
    let mut log = json!({
        "version": "1.2",
        "creator": {"name": "sonde", "version": env!("CARGO_PKG_VERSION")},
        "pages": [{
            "startedDateTime": iso(began), "id": "page_1", "title": page.url, "pageTimings": {},
        }],
        "entries": entries.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(),
    });
    if !page.browser.is_empty() {
        log["browser"] = json!({"name": page.browser, "version": ""});
    }
    json!({"log": log})
}

impl Hop<'_> {
    fn entry(&self) -> Option<(i64, Value)> {
        let (at, asked) = self.asked?;
        let timings = self.answered.map_or_else(unknown, |answered| timings(answered.timing.as_deref()));
        let time: f64 = timings.values().filter_map(Value::as_f64).filter(|part| *part >= 0.0).sum();
        let mut entry = json!({
            "pageref": "page_1",
            "startedDateTime": iso(at),
            "time": time,
            "request": self.request(asked),
            "response": self.response(),
            "cache": {},
            "timings": timings,
            "_resourceType": asked.resource_type,
            "_requestId": asked.request_id,
            "_hop": asked.hop_index,
        });
        if let Some(ip) = self.answered.and_then(|answered| answered.remote_ip.as_deref()) {
            entry["serverIPAddress"] = json!(ip.trim_matches(['[', ']']));
        }
        if let Some(failed) = self.failed {
            entry["_error"] = json!(failed.error);
        }
        Some((at, entry))
    }

    fn version(&self) -> &str {
        let told = self.answered.and_then(|answered| answered.protocol.as_deref()).unwrap_or_default();
        match told {
            "h2" => "HTTP/2",
            "h3" => "HTTP/3",
            "http/1.0" => "HTTP/1.0",
            // What is not known is told as the most usual one: the format has no word for it.
            _ => "HTTP/1.1",
        }
    }

    fn request(&self, asked: &HttpRequest) -> Value {
        let headers = pairs(&asked.headers);
        let query = url_query(&asked.url);
        let mut request = json!({
            "method": asked.method,
            "url": asked.url,
            "httpVersion": self.version(),
            "cookies": cookies(&headers, "cookie"),
            "headers": headers,
            "queryString": query,
            "headersSize": -1,
            "bodySize": asked.post_body_bytes.unwrap_or(0),
        });
        if let Some(data) = post_data(asked, &headers) {
            request["postData"] = data;
        }
        request
    }

    fn response(&self) -> Value {
        let (status, status_text, headers, location) = match (self.answered, self.redirected) {
            (Some(r), _) => (
                r.response_status.unwrap_or(0),
                r.response_status_text.as_str(),
                r.headers.as_str(),
                r.location.as_str(),
            ),
            (None, Some(r)) => (
                r.response_status,
                r.response_status_text.as_str(),
                r.headers.as_str(),
                r.new_request_url.as_deref().unwrap_or_default(),
            ),
            (None, None) => (0, "", "[]", ""),
        };
        let headers = pairs(headers);
        let answered = self.answered;
        let mut content = json!({
            "size": answered.and_then(|r| r.body_bytes).unwrap_or(-1),
            "mimeType": answered.and_then(|r| r.mime_type.as_deref()).unwrap_or(value(&headers, "content-type")),
        });
        if let Some(hash) = answered.and_then(|r| r.content_hash.as_deref()) {
            content["_contentSha256"] = json!(hash);
        }
        json!({
            "status": status,
            "statusText": reason(status_text),
            "httpVersion": self.version(),
            "cookies": cookies(&headers, "set-cookie"),
            "headers": headers,
            "content": content,
            "redirectURL": location,
            "headersSize": -1,
            "bodySize": answered.and_then(|r| r.encoded_bytes).unwrap_or(-1),
        })
    }
}

/// `OK` of `HTTP/1.1 200 OK`.
fn reason(line: &str) -> &str {
    if !line.starts_with("HTTP/") {
        return line;
    }
    line.splitn(3, ' ').nth(2).unwrap_or_default()
}

fn iso(us: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(us).unwrap_or_default();
    format!("{at:.3}")
}

/// `[{"name", "value"}]` of a JSON array of pairs.
fn pairs(json: &str) -> Vec<Value> {
    let all: Vec<(String, String)> = serde_json::from_str(json).unwrap_or_default();
    all.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

fn url_query(url: &str) -> Vec<Value> {
    let query =
        url.split_once('#').map_or(url, |(url, _)| url).split_once('?').map_or("", |(_, query)| query);
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            json!({"name": name, "value": value})
        })
        .collect()
}

/// Names and values of the headers of this name, in lower case.
fn cookies(headers: &[Value], header: &str) -> Vec<Value> {
    let of =
        headers.iter().filter(|h| h["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(header)));
    let values = of.filter_map(|h| h["value"].as_str());
    let all = values.flat_map(|value| {
        // Of Set-Cookie what comes after the first is attributes.
        let most = if header == "set-cookie" { 1 } else { usize::MAX };
        value.split(';').take(most)
    });
    all.filter_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        Some(json!({"name": name, "value": value}))
    })
    .collect()
}

/// Of the first header of this name; "" where there is none.
fn value<'a>(headers: &'a [Value], name: &str) -> &'a str {
    let found = headers.iter().find(|h| h["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)));
    found.and_then(|h| h["value"].as_str()).unwrap_or_default()
}

fn post_data(asked: &HttpRequest, headers: &[Value]) -> Option<Value> {
    let kind = value(headers, "content-type");
    if let Some(fields) = &asked.post_body {
        let fields: BTreeMap<String, Vec<String>> = serde_json::from_str(fields).ok()?;
        let params: Vec<Value> = fields
            .into_iter()
            .flat_map(|(name, all)| all.into_iter().map(move |value| json!({"name": name, "value": value})))
            .collect();
        return Some(json!({"mimeType": kind, "params": params}));
    }
    let raw: Vec<(Option<String>, String)> = serde_json::from_str(asked.post_body_raw.as_ref()?).ok()?;
    // Base64 of its parts, one after the other: HAR has no word for bytes that are no text.
    Some(json!({"mimeType": kind, "params": [], "_parts": raw}))
}

fn unknown() -> Map<String, Value> {
    timings(None)
}

/// HAR's phases of DevTools' ResourceTiming, in milliseconds; what is not known or did not happen is -1, but send, wait
/// and receive are 0.
fn timings(timing: Option<&str>) -> Map<String, Value> {
    let told: Value = timing.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let at = |name: &str| told[name].as_f64().filter(|ms| *ms >= 0.0);
    let between = |from: &str, to: &str| Some((at(to)? - at(from)?).max(0.0));
    let first = [at("dnsStart"), at("connectStart"), at("sendStart")].into_iter().flatten().reduce(f64::min);
    let sent = at("sendEnd").or(at("sendStart"));
    let wait = sent.zip(at("receiveHeadersEnd")).map(|(sent, got)| (got - sent).max(0.0));
    let or = |value: Option<f64>, default: f64| json!(value.unwrap_or(default));
    Map::from_iter([
        ("blocked".to_owned(), or(first, -1.0)),
        ("dns".to_owned(), or(between("dnsStart", "dnsEnd"), -1.0)),
        ("connect".to_owned(), or(between("connectStart", "connectEnd"), -1.0)),
        ("send".to_owned(), or(between("sendStart", "sendEnd"), 0.0)),
        ("wait".to_owned(), or(wait, 0.0)),
        ("receive".to_owned(), or(between("receiveHeadersEnd", "loadingEnd"), 0.0)),
        // Within connect.
        ("ssl".to_owned(), or(between("sslStart", "sslEnd"), -1.0)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: i64, hop: u32, url: &str) -> Row {
        Row::HttpRequest(HttpRequest {
            request_id: id,
            hop_index: hop,
            url: url.to_owned(),
            method: "POST".to_owned(),
            headers: r#"[["Cookie","a=1; b=2"],["Content-Type","text/x"]]"#.to_owned(),
            post_body: Some(r#"{"q":["1","2"]}"#.to_owned()),
            ..HttpRequest::default()
        })
    }

    /// M21
    #[test]
    fn hops_become_entries_in_order() {
        let redirect = Row::HttpRedirect(HttpRedirect {
            old_request_id: Some("7".to_owned()),
            new_request_url: Some("http://a.test/2".to_owned()),
            response_status: 302,
            response_status_text: "HTTP/1.1 302 Found".to_owned(),
            headers: r#"[["Set-Cookie","x=1; Path=/"]]"#.to_owned(),
            ..HttpRedirect::default()
        });
        let answer = Row::HttpResponse(HttpResponse {
            request_id: 7,
            hop_index: 1,
            response_status: Some(200),
            response_status_text: "HTTP/1.1 200 Very good".to_owned(),
            protocol: Some("h2".to_owned()),
            remote_ip: Some("[::1]".to_owned()),
            body_bytes: Some(5),
            timing: Some(r#"{"dnsStart":-1,"dnsEnd":-1,"connectStart":2,"connectEnd":4,"sendStart":5,"sendEnd":6,"receiveHeadersEnd":9.5}"#.to_owned()),
            headers: "[]".to_owned(),
            ..HttpResponse::default()
        });
        let failed = Row::HttpFailure(HttpFailure {
            request_id: 8,
            error: "net::ERR_FAILED".to_owned(),
            ..HttpFailure::default()
        });
        let lone = Row::HttpFailure(HttpFailure { request_id: 9, ..HttpFailure::default() });
        let rows = [
            (3_000_000, request(8, 0, "http://b.test/")),
            (2_000_000, request(7, 1, "http://a.test/2?x=y&z#f")),
            (1_000_000, request(7, 0, "http://a.test/1")),
            (4_000_000, redirect),
            (5_000_000, answer),
            (6_000_000, failed),
            (7_000_000, lone),
        ];
        let page = HarPage { url: "http://a.test/1", browser: "chromium" };
        let har = har(rows.iter().map(|(at, row)| (*at, row)), &page);
        let entries = har["log"]["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 3, "{har:#}");
        assert_eq!(entries[0]["startedDateTime"], "1970-01-01T00:00:01.000Z");
        assert_eq!(entries[0]["response"]["status"], 302);
        assert_eq!(entries[0]["response"]["redirectURL"], "http://a.test/2");
        assert_eq!(entries[0]["response"]["cookies"], json!([{"name": "x", "value": "1"}]));
        assert_eq!(entries[1]["response"]["statusText"], "Very good");
        assert_eq!(entries[1]["request"]["httpVersion"], "HTTP/2");
        assert_eq!(entries[1]["serverIPAddress"], "::1");
        assert_eq!(entries[1]["time"], 2.0 + 2.0 + 1.0 + 3.5);
        assert_eq!(entries[1]["timings"]["dns"], -1.0);
        let pair = |name: &str, value: &str| json!({"name": name, "value": value});
        assert_eq!(entries[1]["request"]["queryString"], json!([pair("x", "y"), pair("z", "")]));
        assert_eq!(entries[1]["request"]["cookies"], json!([pair("a", "1"), pair("b", "2")]));
        assert_eq!(entries[1]["request"]["postData"]["params"], json!([pair("q", "1"), pair("q", "2")]));
        assert_eq!(entries[2]["response"]["status"], 0);
        assert_eq!(entries[2]["_error"], "net::ERR_FAILED");
        assert_eq!(har["log"]["browser"]["name"], "chromium");
    }
}
