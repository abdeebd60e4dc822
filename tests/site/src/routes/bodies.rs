//! Responses whose bodies matter, and the endpoint that takes any request body.

use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;

use super::{Params, reply, with_headers};
use crate::log::sha256_hex;
use crate::observe::Decoded;
use crate::site::Shared;

/// A transparent PNG of one pixel.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\xdac\xfc\xcf\xc0P\x0f\0\x04\x85\x01\x80\x84\xa9\x8c!\0\0\0\0IEND\xaeB`\x82";

const KIB: usize = 1024;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/r/pixel.png", get(|| async { reply("image/png", PIXEL) }))
        .route("/r/style.css", get(|| async { reply("text/css", "b{color:#123}") }))
        .route("/r/script.js", get(|| async { reply("text/javascript", "void 0;") }))
        .route(
            "/r/frame",
            get(|| async { reply("text/html", "<!doctype html><title>frame</title><p>frame") }),
        )
        .route("/r/json", get(|| async { reply("application/json", "{\"a\":[1,2,3]}") }))
        .route("/r/text", get(|| async { reply("text/plain; charset=utf-8", "grüße\n") }))
        .route("/r/echo", any(echo))
        .route("/r/gzip", get(gzip))
        .route("/r/chunked", get(chunked))
        .route("/r/big", get(|| async { reply("application/octet-stream", pattern(2 * KIB * KIB, 7)) }))
        .route("/r/binary", get(|| async { reply("application/octet-stream", pattern(64 * KIB, 1)) }))
        .route("/r/prefix/{which}", get(prefix))
        .route("/r/cached.js", get(cached))
        .route("/r/download", get(download))
        .route("/r/redirect", any(redirect))
}

/// `len` bytes that hold every byte value, NUL too; `seed` makes them differ.
fn pattern(len: usize, seed: usize) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(31).wrapping_add(i >> 8).wrapping_mul(seed) & 0xff) as u8).collect()
}

/// Says what arrived: `{"method","len","sha256","type"}`.
async fn echo(method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let said = serde_json::json!({
        "method": method.as_str(), "len": body.len(), "sha256": sha256_hex(&body), "type": kind,
    });
    reply("application/json", said.to_string())
}

async fn gzip() -> Response {
    let plain = Bytes::from("compressed text, the same again and again. ".repeat(2000));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let encoded = encoder.write_all(&plain).and_then(|()| encoder.finish()).expect("a Vec takes every write");
    let mut response = with_headers(reply("text/plain", encoded), &[("content-encoding", "gzip")]);
    response.extensions_mut().insert(Decoded(plain));
    response
}

/// Ten chunks of 10 KiB, each flushed before the next.
async fn chunked() -> Response {
    let chunks = stream::unfold(0_usize, |i| async move {
        if i > 0 {
            // One turn of the scheduler lets the connection flush, so that the chunks travel apart.
            tokio::task::yield_now().await;
        }
        (i < 10).then(|| (Ok::<_, std::io::Error>(pattern(10 * KIB, i + 1)), i + 1))
    });
    reply("application/octet-stream", Body::from_stream(chunks))
}

/// Two bodies of 96 KiB, `a` and `b`, with equal first 64 KiB.
async fn prefix(Path(which): Path<String>) -> Response {
    let mut body = pattern(64 * KIB, 3).to_vec();
    match which.as_str() {
        "a" => body.extend_from_slice(&pattern(32 * KIB, 5)),
        "b" => body.extend_from_slice(&pattern(32 * KIB, 9)),
        _ => return (StatusCode::NOT_FOUND, "prefixes are a and b").into_response(),
    }
    reply("application/octet-stream", body)
}

async fn cached(headers: HeaderMap) -> Response {
    let caching = [("cache-control", "max-age=3600"), ("etag", "\"one\"")];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == "\"one\"") {
        return with_headers(StatusCode::NOT_MODIFIED.into_response(), &caching);
    }
    let mut response = reply("text/javascript", "window.cachedRuns = (window.cachedRuns || 0) + 1;");
    response.headers_mut().remove(header::CACHE_CONTROL);
    with_headers(response, &caching)
}

async fn download() -> Response {
    let name = [("content-disposition", "attachment; filename=\"fixture.bin\"")];
    with_headers(reply("application/octet-stream", pattern(32 * KIB, 11)), &name)
}

/// `?status=302&to=<path or URL>&v=`: `to` keeps its own query; the token is appended when it has none.
async fn redirect(Query(params): Params) -> Response {
    let status = params.get("status").and_then(|s| s.parse().ok()).unwrap_or(302_u16);
    let status =
        StatusCode::from_u16(status).ok().filter(|s| matches!(s.as_u16(), 301 | 302 | 303 | 307 | 308));
    let (Some(status), Some(to)) = (status, params.get("to")) else {
        return (StatusCode::BAD_REQUEST, "give status=301|302|303|307|308 and to=<URL>").into_response();
    };
    let token = params.get("v").map_or("", String::as_str);
    let mut to = to.clone();
    if !to.contains("v=") {
        to.push_str(if to.contains('?') { "&v=" } else { "?v=" });
        to.push_str(token);
    }
    match axum::http::HeaderValue::from_str(&to) {
        Ok(location) => {
            let mut response = reply("text/plain", "elsewhere");
            *response.status_mut() = status;
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => (StatusCode::BAD_REQUEST, "`to` must be a URL of ASCII characters").into_response(),
    }
}
