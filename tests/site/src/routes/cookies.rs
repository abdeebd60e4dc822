//! Set-Cookie in its variants.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{reply, with_headers};
use crate::site::Shared;

const FIRST_PARTY: [(&str, &str); 8] = [
    ("set-cookie", "plain=1"),
    ("set-cookie", "http_only=2; HttpOnly; Path=/"),
    ("set-cookie", "secure=3; Secure; Path=/"),
    ("set-cookie", "strict=4; SameSite=Strict; Path=/"),
    ("set-cookie", "lax_age=5; SameSite=Lax; Max-Age=3600; Path=/"),
    ("set-cookie", "dated=6; Expires=Wed, 01 Jan 2031 00:00:00 GMT; Path=/"),
    ("set-cookie", "under_path=7; Path=/r"),
    ("set-cookie", "to_delete=8; Path=/"),
];
const DELETE: [(&str, &str); 1] =
    [("set-cookie", "to_delete=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")];
const OVERWRITE: [(&str, &str); 1] = [("set-cookie", "lax_age=again; SameSite=Lax; Max-Age=7200; Path=/")];
const THIRD_PARTY: [(&str, &str); 2] = [
    ("set-cookie", "third_none=1; SameSite=None; Secure; Path=/"),
    ("set-cookie", "third_lax=2; SameSite=Lax; Path=/"),
];
const PARTITIONED: [(&str, &str); 1] =
    [("set-cookie", "third_part=1; SameSite=None; Secure; Path=/; Partitioned")];

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/r/cookies/{what}", get(set)).route("/r/cookieframe", get(frame))
}

/// `/r/cookies/<set>`: a pixel that sets the cookies of the named set.
async fn set(Path(what): Path<String>) -> Response {
    let headers: &[(&str, &str)] = match what.as_str() {
        "first" => &FIRST_PARTY,
        "delete" => &DELETE,
        "overwrite" => &OVERWRITE,
        "third" => &THIRD_PARTY,
        "partitioned" => &PARTITIONED,
        _ => {
            return (StatusCode::NOT_FOUND, "sets: first delete overwrite third partitioned").into_response();
        }
    };
    with_headers(reply("text/plain", "cookies"), headers)
}

async fn frame() -> Response {
    with_headers(reply("text/html", "<!doctype html><title>third</title>"), &THIRD_PARTY)
}
