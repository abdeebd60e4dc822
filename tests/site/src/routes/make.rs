//! Answers made to order, by the query: so that a page about one header, status or script needs no route of its own.

use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::reply;
use crate::site::Shared;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/r/make", any(make))
}

/// `status` (200), `type` (text/plain), `text` (empty), and any number of `header=Name: value`; other parameters only
/// tell one URL from another. Not cached, unless a header says so.
async fn make(RawQuery(query): RawQuery) -> Response {
    match parts(query.as_deref().unwrap_or_default()) {
        Ok(response) => response,
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

fn parts(query: &str) -> Result<Response, String> {
    let mut response = reply("text/plain", "");
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "status" => {
                let status = value.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
                *response.status_mut() = status
                    .filter(|s| s.as_u16() >= 200)
                    .ok_or(format!("status={value}: give one from 200 to 999"))?;
            }
            "text" => *response.body_mut() = value.into_owned().into(),
            "type" => {
                let kind = HeaderValue::from_str(&value).map_err(|e| format!("type={value}: {e}"))?;
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            "header" => {
                let (name, value) =
                    value.split_once(": ").ok_or(format!("header={value}: give `Name: value`"))?;
                let name: HeaderName = name.parse().map_err(|e| format!("header={name}: {e}"))?;
                let value = HeaderValue::from_str(value).map_err(|e| format!("header={value}: {e}"))?;
                match name {
                    header::CACHE_CONTROL => drop(response.headers_mut().insert(name, value)),
                    _ => drop(response.headers_mut().append(name, value)),
                }
            }
            _ => {}
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_what_its_url_orders() {
        let query =
            "name=x&status=206&type=text/css&header=Set-Cookie:+a%3D1&header=Set-Cookie:+b%3D2&text=%7B%7D";
        let response = parts(query).unwrap();
        assert_eq!(response.status(), 206);
        assert_eq!(response.headers()["content-type"], "text/css");
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert!(parts("status=99").unwrap_err().contains("status=99"));
        assert!(parts("header=nothing").is_err());
    }
}
