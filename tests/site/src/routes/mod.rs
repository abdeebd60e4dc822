//! Every path the hosts answer. All hosts answer the same paths; an unknown host is refused with 421.

mod bodies;
mod cookies;
mod documents;
mod faults;
mod make;
mod media;
mod streams;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

use crate::log::Hit;
use crate::observe::{Seen, observe};
use crate::site::Shared;

pub(crate) type SharedState = State<Arc<Shared>>;
pub(crate) type Params = Query<HashMap<String, String>>;

pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(documents::index))
        .route("/p/{name}", any(documents::page))
        .route("/s/{name}", get(documents::script))
        .route("/truth", post(truth))
        .route("/csp-report", post(|| async { StatusCode::NO_CONTENT }))
        .route("/favicon.ico", get(|| async { StatusCode::NO_CONTENT }))
        .merge(bodies::routes())
        .merge(cookies::routes())
        .merge(faults::routes())
        .merge(make::routes())
        .merge(media::routes())
        .merge(streams::routes())
        .fallback(|| async { (StatusCode::NOT_FOUND, "the fixture site has no such path") })
        .layer(middleware::from_fn_with_state(Arc::clone(shared), hosts_and_cors))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared.log), observe))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(shared))
}

/// Refuses hosts that are not ours, answers preflights, and lets every origin read what it fetched.
async fn hosts_and_cors(
    State(shared): SharedState,
    Extension(seen): Extension<Seen>,
    request: Request,
    next: Next,
) -> Response {
    let host = seen.authority.rsplit_once(':').map_or(seen.authority.as_str(), |(host, _)| host);
    if !shared.hosts().iter().any(|known| known == host) {
        let text = format!("the fixture site has no host {host:?}; it has {:?}", shared.hosts());
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    let headers = request.headers();
    // A page about what happens without CORS says so in its URLs.
    let refuses = request.uri().query().is_some_and(|query| query.contains("cors=no"));
    let origin = headers.get(header::ORIGIN).filter(|_| !refuses).cloned();
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let preflight =
        request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if preflight {
            let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("0"));
        }
        if let Some(asked) = asked {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
    }
    response
}

/// For answers that are on their way when a visit's last document is done. Some pages ask for what never ends.
const TRAILING: Duration = Duration::from_millis(300);

/// Takes a page's report. The one that ends a visit is answered once all else that the visit asked for has been, and the
/// page is to say when it has that answer: then it has the others, too. 400 names what is wrong with it: a page that misreports is a bug of this crate.
async fn truth(State(shared): SharedState, Query(params): Params, body: Bytes) -> Response {
    let Some(token) = params.get("v").filter(|v| !v.is_empty()) else {
        return (StatusCode::BAD_REQUEST, "a truth report needs ?v=<token>").into_response();
    };
    match shared.truths.add(token, &body) {
        Ok(done) => {
            shared.log.touch();
            if !done.iter().any(|document| ends_visit(&shared, token, document)) {
                return StatusCode::NO_CONTENT.into_response();
            }
            if timeout(TRAILING, quiet(&shared, token)).await.is_err() {
                tracing::debug!(token, "a visit ends with requests open");
            }
            reply("text/plain", "settle")
        }
        Err(error) => {
            let status = match error {
                crate::truth::TruthError::Malformed(_) => StatusCode::BAD_REQUEST,
                crate::truth::TruthError::Full => StatusCode::INSUFFICIENT_STORAGE,
            };
            tracing::error!(%error, token, "a truth report was refused");
            (status, error.to_string()).into_response()
        }
    }
}

/// Whether a visit is over once this document has reported.
fn ends_visit(shared: &Shared, token: &str, document: &str) -> bool {
    let first = shared.log.first(|hit| hit.token.as_deref() == Some(token) && hit.path.starts_with("/p/"));
    let page = first.and_then(|hit| crate::pages::page(hit.path_only().strip_prefix("/p/")?));
    page.is_some_and(|page| page.done == Some(document))
}

/// Until the site has answered all that a visit asked for, but for the report that waits for it.
async fn quiet(shared: &Shared, token: &str) {
    let mut changes = shared.log.subscribe();
    let open = |hit: &Hit| hit.open && hit.token.as_deref() == Some(token);
    while shared.log.matching(open).len() > 1 {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A response with a content type that no cache keeps.
pub(crate) fn reply(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Adds headers given as text of our own.
pub(crate) fn with_headers(mut response: Response, headers: &[(&'static str, &str)]) -> Response {
    let out: &mut HeaderMap = response.headers_mut();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("header values of the site are plain ASCII");
        out.append(*name, value);
    }
    response
}
