//! Snapshots of a container's cookies, as rows of `javascript_cookies`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sonde_proto::record::v1::JavascriptCookie;
use sonde_proto::record::v1::record::Row;
use sonde_proto::visit::v1 as wire;
use url::Url;

use crate::attempt::timestamp;

/// OpenWPM's expiry of session cookies.
const NEVER: &str = "9999-12-31T21:59:59.000Z";

/// A cookie as [`super::chrome::COOKIES`] gives it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cookie {
    name: String,
    value: String,
    /// With a leading dot when it is a domain.
    host: String,
    path: String,
    /// Since the epoch; `None` for session cookies.
    expires_ms: Option<i64>,
    secure: bool,
    http_only: bool,
    /// As `nsICookie` counts.
    same_site: i32,
    /// As `(https,example.org)` or `(https,example.org,8443,f)`.
    partition_key: Option<String>,
}

/// `cause` is `visit-start` or `visit-end`, `store` the cookie store's name.
pub(super) fn snapshot_rows(cookies: &[Cookie], cause: &str, store: &str) -> Vec<Row> {
    let row = |cookie: &Cookie| {
        Row::JavascriptCookie(JavascriptCookie {
            record_type: "manual-export".to_owned(),
            change_cause: Some(cause.to_owned()),
            expiry: Some(cookie.expires_ms.and_then(iso).unwrap_or_else(|| NEVER.to_owned())),
            is_http_only: Some(cookie.http_only),
            is_host_only: Some(!cookie.host.starts_with('.')),
            is_session: Some(cookie.expires_ms.is_none()),
            host: Some(cookie.host.clone()),
            is_secure: Some(cookie.secure),
            name: cookie.name.clone(),
            path: Some(cookie.path.clone()),
            value: cookie.value.clone(),
            same_site: Some(same_site(cookie.same_site).to_owned()),
            store_id: Some(store.to_owned()),
            source: "snapshot".to_owned(),
            partition_key: cookie.partition_key.as_deref().map(partition),
            ..JavascriptCookie::default()
        })
    };
    cookies.iter().map(row).collect()
}

/// The extension API's words for `nsICookie`'s numbers.
fn same_site(number: i32) -> &'static str {
    match number {
        0 => "no_restriction",
        1 => "lax",
        2 => "strict",
        _ => "unspecified",
    }
}

fn iso(ms: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(ms).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

impl From<&Cookie> for wire::Cookie {
    fn from(cookie: &Cookie) -> Self {
        Self {
            name: cookie.name.clone(),
            value: cookie.value.clone(),
            domain: cookie.host.clone(),
            path: cookie.path.clone(),
            expires: cookie.expires_ms.map(|ms| timestamp(ms.saturating_mul(1000))),
            secure: cookie.secure,
            http_only: cookie.http_only,
            same_site: match cookie.same_site {
                0 => wire::SameSite::None,
                1 => wire::SameSite::Lax,
                2 => wire::SameSite::Strict,
                _ => wire::SameSite::Unspecified,
            }
            .into(),
            partition: cookie.partition_key.as_deref().map(|key| {
                let (top_level_site, foreign) = site(key);
                // Firefox marks only frames of the top document's own site that are under one of another.
                let has_cross_site_ancestor = foreign || !is_of_site(&cookie.host, &top_level_site);
                wire::CookiePartition { top_level_site, has_cross_site_ancestor }
            }),
        }
    }
}

/// A cookie as [`super::jar::SET_COOKIES`] takes it.
pub(super) fn stored(cookie: &wire::Cookie) -> Value {
    let expires_ms =
        cookie.expires.map(|at| at.seconds.saturating_mul(1000) + i64::from(at.nanos / 1_000_000));
    json!({
        "name": cookie.name,
        "value": cookie.value,
        "host": cookie.domain,
        "path": cookie.path,
        "expires_ms": expires_ms,
        "secure": cookie.secure,
        "http_only": cookie.http_only,
        "same_site": match cookie.same_site() {
            wire::SameSite::None => 0,
            wire::SameSite::Lax => 1,
            wire::SameSite::Strict => 2,
            wire::SameSite::Unspecified => 256,
        },
        "partition_key": cookie.partition.as_ref().map(|partition| partition_key(&cookie.domain, partition)),
    })
}

/// `https://example.org:8443` -> `(https,example.org,8443)`, with `,f` for a frame of that site under one of another.
fn partition_key(domain: &str, partition: &wire::CookiePartition) -> String {
    let top = &partition.top_level_site;
    let (scheme, host) = top.split_once("://").unwrap_or_default();
    let port = Url::parse(top).ok().and_then(|url| url.port());
    let host = match port {
        Some(port) => host.trim_end_matches(&format!(":{port}")),
        None => host,
    };
    let port = port.map_or_else(String::new, |port| format!(",{port}"));
    let foreign = if partition.has_cross_site_ancestor && is_of_site(domain, top) { ",f" } else { "" };
    format!("({scheme},{host}{port}{foreign})")
}

/// Whether a cookie's domain is of the site of a top document.
fn is_of_site(domain: &str, top_level_site: &str) -> bool {
    let domain = domain.trim_start_matches('.');
    let top = Url::parse(top_level_site).ok();
    let top = top.as_ref().and_then(Url::host_str).unwrap_or_default();
    let registrable = |host: &str| psl::domain_str(host).unwrap_or(host).to_owned();
    registrable(domain) == registrable(top)
}

/// `(https,example.org,8443,f)` -> `https://example.org:8443`, and whether it is for frames under one of another site.
fn site(key: &str) -> (String, bool) {
    let mut parts = key.trim_matches(['(', ')']).split(',');
    let (scheme, host) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (mut site, mut foreign) = (format!("{scheme}://{host}"), false);
    for part in parts {
        match part {
            // Firefox's mark of a frame under a frame of another site.
            "f" => foreign = true,
            port => site = format!("{site}:{port}"),
        }
    }
    (site, foreign)
}

/// `(https,example.org,8443,f)` -> `{"topLevelSite":"https://example.org:8443","hasCrossSiteAncestor":true}`.
fn partition(key: &str) -> String {
    let (site, foreign) = site(key);
    json!({"topLevelSite": site, "hasCrossSiteAncestor": foreign}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M12
    #[test]
    fn a_snapshot_has_a_row_for_every_cookie_with_its_partition() {
        let jar: Vec<Cookie> = serde_json::from_value(json!([
            {"name": "n", "value": "v", "host": ".a.test", "path": "/", "expires_ms": 1_700_000_000_500_i64,
             "secure": true, "http_only": true, "same_site": 1, "partition_key": "(https,t.test)"},
            {"name": "s", "value": "", "host": "a.test", "path": "/", "expires_ms": null,
             "secure": false, "http_only": false, "same_site": 256, "partition_key": null},
        ]))
        .unwrap();
        let rows = snapshot_rows(&jar, "visit-end", "firefox-container-6");
        let [Row::JavascriptCookie(n), Row::JavascriptCookie(s)] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!((n.expiry.as_deref(), n.is_host_only), (Some("2023-11-14T22:13:20.500Z"), Some(false)));
        assert_eq!(
            n.partition_key.as_deref(),
            Some(r#"{"hasCrossSiteAncestor":false,"topLevelSite":"https://t.test"}"#)
        );
        assert_eq!(
            (s.expiry.as_deref(), s.is_session, s.partition_key.as_deref()),
            (Some(NEVER), Some(true), None)
        );
        assert_eq!((n.same_site.as_deref(), s.same_site.as_deref()), (Some("lax"), Some("unspecified")));
        assert_eq!(s.store_id.as_deref(), Some("firefox-container-6"));
        assert_eq!(
            partition("(http,a.localhost,8080,f)"),
            r#"{"hasCrossSiteAncestor":true,"topLevelSite":"http://a.localhost:8080"}"#
        );
    }

    /// M21
    #[test]
    fn a_cookie_that_was_read_can_be_stored_again() {
        let text = json!({"name": "n", "value": "v", "host": ".a.test", "path": "/", "expires_ms": 1_700_000_000_500_i64,
                          "secure": true, "http_only": true, "same_site": 256, "partition_key": "(https,t.test,8443,f)"});
        let cookie: Cookie = serde_json::from_value(text.clone()).unwrap();
        let mut foreign = text.clone();
        foreign["partition_key"] = json!("(https,t.test,8443)");
        assert_eq!(
            stored(&wire::Cookie::from(&cookie)),
            foreign,
            "a third party is always below another site"
        );
        let own = json!({"host": "www.t.test", "partition_key": "(https,t.test,f)"});
        let mut text = text;
        text.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let cookie: Cookie = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(stored(&wire::Cookie::from(&cookie)), text);
    }
}
