//! The middleware that writes the log: every request passes it, and no handler can forget to.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, header, request};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use url::Url;

use crate::log::{BODY_CAP, Hit, Log, RequestBody, ResponseBody, hex, now_us, sha256_hex};
use crate::server::Scheme;
use crate::tap::{AnswerTap, HeadTap, parse_head};

/// Set by a handler whose body is encoded: the log then holds the decoded one.
#[derive(Clone)]
pub(crate) struct Decoded(pub Bytes);

/// Set by a handler whose answer is a page: the sources of its inline scripts.
#[derive(Clone)]
pub(crate) struct InlineScripts(pub Vec<String>);

/// Handlers find the request's log entry and body here: the middleware has read it.
#[derive(Clone)]
pub(crate) struct Seen {
    pub token: Option<String>,
    /// Host name and port as in the Host header.
    pub authority: String,
    pub scheme: Scheme,
}

pub(crate) async fn observe(
    State(log): State<Arc<Log>>,
    Extension(tap): Extension<HeadTap>,
    Extension(answers): Extension<AnswerTap>,
    Extension(scheme): Extension<Scheme>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let hit = hit_of(&parts, &tap, scheme);
    let (url, path) = (hit.url.clone(), hit.path.clone());
    let seen = Seen { token: hit.token.clone(), authority: authority(&parts.headers).to_owned(), scheme };
    let ordinal = log.open(hit);
    answers.expect(ordinal);
    let work = Work { log: Arc::clone(&log), ordinal };
    let bytes = read_body(&log, ordinal, body).await;
    tap.rearm();
    parts.extensions.insert(seen);
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    tracing::trace!(%path, status = response.status().as_u16(), "answered");
    let response = answer(work, &url, response).await;
    log.write_line(ordinal);
    response
}

fn authority(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("")
}

fn hit_of(parts: &request::Parts, tap: &HeadTap, scheme: Scheme) -> Hit {
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let authority = authority(&parts.headers);
    let raw = tap.take().as_deref().and_then(parse_head);
    let line = format!("{} {} ", parts.method, path);
    let (headers, headers_exact) = match raw {
        Some(head) if head.line.starts_with(&line) => (head.headers, true),
        _ => (header_list(&parts.headers), false),
    };
    let referer =
        parts.headers.get(header::REFERER).and_then(|r| r.to_str().ok()).and_then(|r| Url::parse(r).ok());
    Hit {
        ordinal: 0,
        time_us: now_us(),
        host: authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned(),
        method: parts.method.to_string(),
        url: format!("{}://{authority}{path}", scheme.name()),
        token: query_value(parts.uri.query().unwrap_or(""), "v")
            .or_else(|| query_value(referer?.query()?, "v")),
        path,
        headers,
        headers_exact,
        request_body: RequestBody::default(),
        open: true,
        status: None,
        response_headers: Vec::new(),
        location: None,
        set_cookies: Vec::new(),
        inline_scripts: Vec::new(),
        response_body: None,
    }
}

fn header_list(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.iter().map(|&b| char::from(b)).collect();
    headers.iter().map(|(n, v)| (n.to_string(), text(v.as_bytes()))).collect()
}

/// The first value of a parameter, decoded; empty counts as absent.
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.into_owned())
}

async fn read_body(log: &Log, ordinal: u64, body: Body) -> Bytes {
    let mut hash = Sha256::new();
    let mut all = Vec::new();
    let mut complete = true;
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                hash.update(&chunk);
                all.extend_from_slice(&chunk);
            }
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    let kept = all[..all.len().min(BODY_CAP)].to_vec();
    let sha256 = hex(&hash.finalize());
    log.set_body(ordinal, RequestBody { bytes: kept, len: all.len() as u64, sha256, complete });
    Bytes::from(all)
}

/// What the site does for one request; it ends with the answer or, if that comes first, the connection.
struct Work {
    log: Arc<Log>,
    ordinal: u64,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.log.update(self.ordinal, |hit| hit.open = false);
    }
}

async fn answer(work: Work, url: &str, response: Response) -> Response {
    let (log, ordinal) = (Arc::clone(&work.log), work.ordinal);
    let (parts, body) = response.into_parts();
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let location = parts.headers.get(header::LOCATION).map(text).filter(|_| parts.status.is_redirection());
    let location = location.and_then(|to| Some(Url::parse(url).ok()?.join(&to).ok()?.to_string()));
    let set_cookies: Vec<String> = parts.headers.get_all(header::SET_COOKIE).iter().map(text).collect();
    let decoded = parts.extensions.get::<Decoded>().cloned();
    let inline = parts.extensions.get::<InlineScripts>();
    let inline_scripts = inline.map(|scripts| scripts.0.clone()).unwrap_or_default();
    let status = parts.status.as_u16();
    let whole = body.size_hint().exact().is_some();
    let (body, seen) = if whole || decoded.is_some() {
        // A body in memory: it is hashed before it is sent, so the log is never behind the client.
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        let plain = decoded.map_or_else(|| bytes.clone(), |Decoded(plain)| plain);
        let seen = ResponseBody { len: plain.len() as u64, sha256: sha256_hex(&plain), complete: true };
        (Body::from(bytes), seen)
    } else {
        let seen = ResponseBody { len: 0, sha256: sha256_hex(b""), complete: false };
        let counted =
            Counted { inner: body.into_data_stream(), hash: Sha256::new(), len: 0, ended: false, work };
        (Body::from_stream(counted), seen)
    };
    log.update(ordinal, |hit| {
        hit.status = Some(status);
        hit.location = location;
        hit.set_cookies = set_cookies;
        hit.inline_scripts = inline_scripts;
        hit.response_body = Some(seen);
    });
    Response::from_parts(parts, body)
}

/// A streaming body that reports what was handed to the connection, once it ends or is dropped.
struct Counted {
    inner: BodyDataStream,
    hash: Sha256,
    len: u64,
    ended: bool,
    work: Work,
}

impl Stream for Counted {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.inner.poll_next_unpin(cx));
        match &next {
            Some(Ok(chunk)) => {
                self.hash.update(chunk);
                self.len += chunk.len() as u64;
            }
            Some(Err(_)) => {}
            None => self.ended = true,
        }
        Poll::Ready(next)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let seen =
            ResponseBody { len: self.len, sha256: hex(&self.hash.clone().finalize()), complete: self.ended };
        self.work.log.update(self.work.ordinal, |hit| hit.response_body = Some(seen));
    }
}
