//! Cookies: Set-Cookie headers and snapshots of the jar, as rows of `javascript_cookies`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;
use sonde_proto::record::v1::JavascriptCookie;
use sonde_proto::record::v1::record::Row;
use sonde_proto::visit::v1 as wire;
use url::Url;

use super::events::ResponseExtra;
use crate::attempt::timestamp;

/// OpenWPM's expiry of session cookies.
const NEVER: &str = "9999-12-31T21:59:59.000Z";

/// Where a Set-Cookie header came from.
pub(super) struct Setter<'a> {
    pub request_id: Option<i64>,
    pub url: Option<&'a str>,
    pub tab_id: Option<i64>,
    pub frame_id: Option<i64>,
    pub store_id: Option<&'a str>,
    pub at_us: i64,
}

/// One row for every Set-Cookie header of the response, refused ones too.
pub(super) fn rows(extra: &ResponseExtra, from: &Setter<'_>) -> Vec<JavascriptCookie> {
    let mut blocked: Vec<_> = extra.blocked_cookies.iter().collect();
    let key = extra.cookie_partition_key.as_ref();
    let lines = extra.headers.all("set-cookie");
    let mut rows: Vec<_> = lines
        .map(|line| {
            let place = blocked.iter().position(|b| b.cookie_line == line);
            let reasons = place.map(|at| blocked.remove(at).blocked_reasons.join(","));
            row(line, reasons, key, from)
        })
        .collect();
    // Refused ones that the headers do not show.
    rows.extend(
        blocked
            .iter()
            .filter(|b| !b.cookie_line.is_empty())
            .map(|b| row(&b.cookie_line, Some(b.blocked_reasons.join(",")), key, from)),
    );
    rows
}

fn row(line: &str, blocked: Option<String>, key: Option<&Value>, from: &Setter<'_>) -> JavascriptCookie {
    let cookie = SetCookie::parse(line);
    let url = from.url.and_then(|u| Url::parse(u).ok());
    let expires_us = match cookie.max_age {
        Some(seconds) => Some(from.at_us.saturating_add(seconds.saturating_mul(1_000_000))),
        None => cookie.expires_us,
    };
    let deleted = expires_us.is_some_and(|at| at <= from.at_us);
    let own_host = || url.as_ref().and_then(|u| u.host_str()).map(str::to_owned);
    let path = cookie.path.filter(|p| p.starts_with('/')).map(str::to_owned);
    JavascriptCookie {
        record_type: if deleted { "deleted" } else { "added-or-changed" }.to_owned(),
        change_cause: Some(if deleted { "expired_overwrite" } else { "explicit" }.to_owned()),
        expiry: Some(expires_us.and_then(iso).unwrap_or_else(|| NEVER.to_owned())),
        is_http_only: Some(cookie.http_only),
        is_host_only: Some(cookie.domain.is_none()),
        is_session: Some(expires_us.is_none()),
        host: cookie.domain.map(|d| format!(".{}", d.to_ascii_lowercase())).or_else(own_host),
        is_secure: Some(cookie.secure),
        name: cookie.name.to_owned(),
        path: path.or_else(|| url.as_ref().map(default_path)),
        value: cookie.value.to_owned(),
        same_site: Some(same_site(cookie.same_site).to_owned()),
        first_party_domain: None,
        store_id: from.store_id.map(str::to_owned),
        source: "http".to_owned(),
        partition_key: key.filter(|_| cookie.partitioned).map(partition),
        request_id: from.request_id,
        url: from.url.map(str::to_owned),
        tab_id: from.tab_id,
        frame_id: from.frame_id,
        blocked_reasons: blocked,
        raw: Some(line.to_owned()),
    }
}

fn partition(key: &Value) -> String {
    let field = |name| key.get(name).cloned().unwrap_or(Value::Null);
    let has_cross = key.get("hasCrossSiteAncestor").or_else(|| key.get("hasCrossSiteAncestors"));
    match key {
        Value::String(site) => serde_json::json!({"topLevelSite": site}).to_string(),
        _ => serde_json::json!({
            "topLevelSite": field("topLevelSite"),
            "hasCrossSiteAncestor": has_cross.cloned().unwrap_or(Value::Null),
        })
        .to_string(),
    }
}

fn same_site(attribute: Option<&str>) -> &'static str {
    match attribute.map(str::to_ascii_lowercase).as_deref() {
        Some("strict") => "strict",
        Some("lax") => "lax",
        Some("none") => "no_restriction",
        _ => "unspecified",
    }
}

/// RFC 6265 5.1.4.
fn default_path(url: &Url) -> String {
    match url.path().rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(at) => url.path()[..at].to_owned(),
    }
}

fn iso(us: i64) -> Option<String> {
    let at = Timestamp::from_microsecond(us).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

#[derive(Debug, Default, PartialEq)]
struct SetCookie<'a> {
    name: &'a str,
    value: &'a str,
    expires_us: Option<i64>,
    max_age: Option<i64>,
    domain: Option<&'a str>,
    path: Option<&'a str>,
    secure: bool,
    http_only: bool,
    partitioned: bool,
    same_site: Option<&'a str>,
}

impl<'a> SetCookie<'a> {
    /// RFC 6265bis 5.6: of repeated attributes the last counts.
    fn parse(line: &'a str) -> Self {
        let mut parts = line.split(';');
        let pair = parts.next().unwrap_or_default();
        // A pair without `=` is a value without a name.
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        let mut cookie = Self { name: name.trim(), value: value.trim(), ..Self::default() };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "expires" => cookie.expires_us = cookie_date(value).or(cookie.expires_us),
                "max-age" => cookie.max_age = max_age(value).or(cookie.max_age),
                "domain" => cookie.domain = Some(value.trim_start_matches('.')).filter(|d| !d.is_empty()),
                "path" => cookie.path = Some(value),
                "secure" => cookie.secure = true,
                "httponly" => cookie.http_only = true,
                "partitioned" => cookie.partitioned = true,
                "samesite" => cookie.same_site = Some(value),
                _ => {}
            }
        }
        cookie
    }
}

fn max_age(value: &str) -> Option<i64> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(value.parse().unwrap_or(if value.starts_with('-') { i64::MIN } else { i64::MAX }))
}

/// RFC 6265 5.1.1, in microseconds since the epoch.
fn cookie_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    let tokens = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'));
    for token in tokens.filter(|t| !t.is_empty()) {
        let digits = token.bytes().take_while(u8::is_ascii_digit).count();
        let number: Option<i16> = token[..digits].parse().ok();
        if time.is_none() && token.contains(':') {
            time = clock(token);
        } else if day.is_none() && (1..=2).contains(&digits) {
            day = number;
        } else if let Some(at) = MONTHS
            .iter()
            .position(|m| month.is_none() && token.get(..3).is_some_and(|t| t.eq_ignore_ascii_case(m)))
        {
            month = Some(at as i8 + 1);
        } else if year.is_none() && (2..=4).contains(&digits) {
            year = number.map(|y| match y {
                70..=99 => y + 1900,
                0..=69 => y + 2000,
                _ => y,
            });
        }
    }
    let ((hour, minute, second), day) = (time?, i8::try_from(day?).ok()?);
    let year = year.filter(|y| *y >= 1601)?;
    let at = DateTime::new(year, month?, day, hour, minute, second, 0).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

fn clock(token: &str) -> Option<(i8, i8, i8)> {
    let mut parts = token.splitn(3, ':').map(|p| {
        let digits = p.bytes().take_while(u8::is_ascii_digit).count();
        p[..digits].parse::<i8>().ok()
    });
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// A cookie as `Storage.getCookies` gives it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JarCookie {
    name: String,
    value: String,
    domain: String,
    path: String,
    /// Seconds since the epoch; -1 for session cookies.
    expires: f64,
    http_only: bool,
    secure: bool,
    session: bool,
    same_site: Option<String>,
    partition_key: Option<Value>,
    partition_key_opaque: Option<bool>,
}

impl From<&JarCookie> for wire::Cookie {
    fn from(cookie: &JarCookie) -> Self {
        let lasting = !cookie.session && cookie.expires >= 0.0;
        let microseconds = (cookie.expires * 1e6) as i64;
        Self {
            name: cookie.name.clone(),
            value: cookie.value.clone(),
            domain: cookie.domain.clone(),
            path: cookie.path.clone(),
            expires: lasting.then(|| timestamp(microseconds)),
            secure: cookie.secure,
            http_only: cookie.http_only,
            same_site: match cookie.same_site.as_deref() {
                Some("None") => wire::SameSite::None,
                Some("Lax") => wire::SameSite::Lax,
                Some("Strict") => wire::SameSite::Strict,
                _ => wire::SameSite::Unspecified,
            }
            .into(),
            partition: cookie.partition_key.as_ref().map(|key| wire::CookiePartition {
                top_level_site: key["topLevelSite"].as_str().unwrap_or_default().to_owned(),
                has_cross_site_ancestor: key["hasCrossSiteAncestor"] == true,
            }),
        }
    }
}

/// The rows of a snapshot of the jar. `cause` is `visit-start` or `visit-end`, `context` the browser context.
pub fn snapshot_rows(cookies: &[JarCookie], cause: &str, context: Option<&str>) -> Vec<Row> {
    let rows = cookies.iter().map(|cookie| {
        let opaque = cookie.partition_key_opaque == Some(true);
        let expires_us = (cookie.expires * 1e6) as i64;
        let lasting = !cookie.session && cookie.expires >= 0.0;
        Row::JavascriptCookie(JavascriptCookie {
            record_type: "manual-export".to_owned(),
            change_cause: Some(cause.to_owned()),
            expiry: Some(
                Some(expires_us).filter(|_| lasting).and_then(iso).unwrap_or_else(|| NEVER.to_owned()),
            ),
            is_http_only: Some(cookie.http_only),
            is_host_only: Some(!cookie.domain.starts_with('.')),
            is_session: Some(cookie.session),
            host: Some(cookie.domain.clone()),
            is_secure: Some(cookie.secure),
            name: cookie.name.clone(),
            path: Some(cookie.path.clone()),
            value: cookie.value.clone(),
            same_site: Some(same_site(cookie.same_site.as_deref()).to_owned()),
            store_id: context.map(str::to_owned),
            source: "snapshot".to_owned(),
            partition_key: match &cookie.partition_key {
                Some(key) => Some(partition(key)),
                None => opaque.then(|| r#"{"topLevelSite":null}"#.to_owned()),
            },
            ..JavascriptCookie::default()
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::chromium::http::events::{BlockedSetCookie, Headers};

    const NOW: i64 = 1_700_000_000_000_000;

    fn from(url: &str) -> Setter<'_> {
        Setter {
            request_id: Some(1),
            url: Some(url),
            tab_id: Some(2),
            frame_id: Some(0),
            store_id: None,
            at_us: NOW,
        }
    }

    fn one(line: &str) -> JavascriptCookie {
        row(line, None, None, &from("https://a.test/x/y"))
    }

    /// M12
    #[test]
    fn attributes_are_read_as_browsers_do() {
        let c = one("id = a=b ; Domain=.Test.COM; path=/p; HttpOnly; secure; SameSite=None; Max-Age=60");
        assert_eq!((c.name.as_str(), c.value.as_str()), ("id", "a=b"));
        assert_eq!((c.host.as_deref(), c.is_host_only), (Some(".test.com"), Some(false)));
        assert_eq!(c.path.as_deref(), Some("/p"));
        assert_eq!(c.expiry.as_deref(), Some("2023-11-14T22:14:20.000Z"));
        assert_eq!((c.is_http_only, c.is_secure, c.is_session), (Some(true), Some(true), Some(false)));
        assert_eq!(c.same_site.as_deref(), Some("no_restriction"));
        let bare = one("just");
        assert_eq!((bare.name.as_str(), bare.value.as_str(), bare.path.as_deref()), ("", "just", Some("/x")));
        assert_eq!((bare.host.as_deref(), bare.expiry.as_deref()), (Some("a.test"), Some(NEVER)));
    }

    #[test]
    fn expired_ones_are_deletions() {
        for line in [
            "a=; Max-Age=0",
            "a=; Expires=Thu, 01-Jan-1970 00:00:00 GMT",
            "a=; expires=Thu, 01 Jan 70 00:00:01",
        ] {
            let c = one(line);
            assert_eq!(
                (c.record_type.as_str(), c.change_cause.as_deref()),
                ("deleted", Some("expired_overwrite")),
                "{line}"
            );
        }
        assert_eq!(
            one("a=1; Expires=Wed, 21 Oct 2065 07:28:00 GMT").expiry.as_deref(),
            Some("2065-10-21T07:28:00.000Z")
        );
        assert_eq!(one("a=1; Expires=nonsense").is_session, Some(true));
    }

    #[test]
    fn refused_cookies_carry_their_reasons_and_partitioned_ones_their_key() {
        let extra = ResponseExtra {
            headers: Headers(vec![
                ("Set-Cookie".into(), "a=1".into()),
                ("set-cookie".into(), "b=2; Secure; Partitioned".into()),
            ]),
            blocked_cookies: vec![BlockedSetCookie {
                blocked_reasons: vec!["UserPreferences".into()],
                cookie_line: "a=1".into(),
            }],
            cookie_partition_key: Some(
                serde_json::json!({"topLevelSite": "https://t.test", "hasCrossSiteAncestor": true}),
            ),
            ..ResponseExtra::default()
        };
        let rows = rows(&extra, &from("https://a.test/"));
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].blocked_reasons.as_deref(), rows[0].partition_key.as_deref()),
            (Some("UserPreferences"), None)
        );
        assert_eq!(
            rows[1].partition_key.as_deref(),
            Some(r#"{"hasCrossSiteAncestor":true,"topLevelSite":"https://t.test"}"#)
        );
    }

    #[test]
    fn a_snapshot_has_a_row_for_every_cookie() {
        let jar: Vec<JarCookie> = serde_json::from_str(
            r#"[{"name":"n","value":"v","domain":".a.test","path":"/","expires":1700000000.5,"size":2,"httpOnly":true,
                 "secure":true,"session":false,"sameSite":"Lax","partitionKey":{"topLevelSite":"https://t.test","hasCrossSiteAncestor":false}},
                {"name":"s","value":"","domain":"a.test","path":"/","expires":-1,"session":true}]"#,
        )
        .unwrap();
        let rows = snapshot_rows(&jar, "visit-end", Some("ctx"));
        let [Row::JavascriptCookie(n), Row::JavascriptCookie(s)] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!((n.expiry.as_deref(), n.is_host_only), (Some("2023-11-14T22:13:20.500Z"), Some(false)));
        assert_eq!(
            (s.expiry.as_deref(), s.is_session, s.same_site.as_deref()),
            (Some(NEVER), Some(true), Some("unspecified"))
        );
        assert_eq!((s.change_cause.as_deref(), s.store_id.as_deref()), (Some("visit-end"), Some("ctx")));
    }
}
