//! Answers that fail, wait or never come.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::{Params, SharedState, reply, with_headers};
use crate::site::Shared;
use crate::tap::Hangup;

const SLOWEST: Duration = Duration::from_secs(300);
const AWAIT: Duration = Duration::from_secs(10);

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/r/status/{code}", any(status))
        .route("/r/empty", get(|| async { reply("text/plain", "") }))
        .route("/r/notmodified", get(not_modified))
        .route("/r/truncated", get(truncated))
        .route("/r/hang", any(hang))
        .route("/r/slow", any(slow))
        .route("/r/reset", any(|Extension(hangup)| hang_up(hangup, true)))
        .route("/r/close", any(|Extension(hangup)| hang_up(hangup, false)))
        .route("/r/loop", get(itself))
        .route("/r/await", get(await_hit))
}

async fn status(Path(code): Path<u16>) -> Response {
    match StatusCode::from_u16(code) {
        Ok(StatusCode::NO_CONTENT) => StatusCode::NO_CONTENT.into_response(),
        Ok(status) if code >= 200 => {
            let mut response = reply("text/plain", format!("status {code}"));
            *response.status_mut() = status;
            response
        }
        _ => (StatusCode::BAD_REQUEST, "give a status from 200 to 999").into_response(),
    }
}

async fn not_modified(headers: HeaderMap) -> Response {
    let tag = [("etag", "\"fixture\"")];
    match headers.contains_key(header::IF_NONE_MATCH) {
        true => with_headers(StatusCode::NOT_MODIFIED.into_response(), &tag),
        false => with_headers(reply("text/plain", "fresh"), &tag),
    }
}

/// Promises 1000 bytes, sends 100, and closes.
async fn truncated() -> Response {
    let sent = stream::once(async { Ok(Bytes::from(vec![b'x'; 100])) });
    let cut = stream::once(async {
        // One turn of the scheduler lets the connection send head and bytes before it is closed.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut on purpose"))
    });
    let mut response = reply("application/octet-stream", Body::from_stream(sent.chain(cut)));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("1000"));
    response
}

/// Never answers; with `mode=head` it sends head and ten bytes first, with `mode=document` the head and the doctype of a
/// page. Ends when the site stops.
async fn hang(State(shared): SharedState, Query(params): Params) -> Response {
    let first = match params.get("mode").map(String::as_str) {
        Some("head") => Some(("application/octet-stream", "0123456789")),
        Some("document") => Some(("text/html; charset=utf-8", "<!doctype html>")),
        _ => None,
    };
    if let Some((kind, first)) = first {
        let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(first.as_bytes())) });
        return reply(kind, Body::from_stream(first.chain(stream::pending())));
    }
    shared.cancel.cancelled().await;
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

/// Ends the connection without an answer.
async fn hang_up(hangup: Hangup, reset: bool) -> Response {
    hangup.now(reset);
    std::future::pending().await
}

/// Answers after `?ms=` milliseconds, at most five minutes.
async fn slow(State(shared): SharedState, Query(params): Params) -> Response {
    let wait = params.get("ms").and_then(|ms| ms.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
    tokio::select! {
        () = tokio::time::sleep(wait.min(SLOWEST)) => reply("text/plain", "slow"),
        () = shared.cancel.cancelled() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Redirects to itself.
async fn itself(RawQuery(query): RawQuery) -> Response {
    let mut response = reply("text/plain", "again");
    *response.status_mut() = StatusCode::FOUND;
    let to = format!("/r/loop?{}", query.unwrap_or_default());
    with_headers(response, &[("location", &to)])
}

/// Answers once the visit's log holds a hit on `?path=` (its query may follow): pages act on what has reached the
/// server, not on time.
async fn await_hit(State(shared): SharedState, Query(params): Params) -> Response {
    let (Some(token), Some(path)) = (params.get("v"), params.get("path")) else {
        return (StatusCode::BAD_REQUEST, "give v=<token> and path=<path without query>").into_response();
    };
    let mut changes = shared.log.subscribe();
    let arrived = async {
        while !shared.log.any(|hit| {
            hit.token.as_ref() == Some(token) && [hit.path_only(), &hit.path].contains(&path.as_str())
        }) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    match timeout(AWAIT, arrived).await {
        Ok(()) => reply("text/plain", "arrived"),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, format!("no hit on {path} in {AWAIT:?}")).into_response(),
    }
}
