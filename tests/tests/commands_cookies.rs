//! Cookies and headers of a visit on a real Chromium and a real Firefox.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use rusqlite::params;
use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, Instruments};
use sonde_site::THIRD;
use sonde_tests::rig::Rig;

/// A document of the fixture site with this markup.
fn document(rig: &Rig, host: &str, token: &str, html: &str) -> String {
    let query: String = [("v", token), ("type", "text/html"), ("text", html)]
        .iter()
        .map(|(name, value)| {
            let coded: String = value
                .bytes()
                .map(|byte| match byte.is_ascii_alphanumeric() {
                    true => char::from(byte).to_string(),
                    false => format!("%{byte:02X}"),
                })
                .collect();
            format!("&{name}={coded}")
        })
        .collect();
    rig.site.url(host, &format!("/r/make?{}", &query[1..]))
}

fn cookie_header(rig: &Rig, token: &str, path: &str) -> Vec<String> {
    let hits = rig.hits(token, path);
    let header = hits.first().unwrap_or_else(|| panic!("nothing asked for {path}")).header("cookie");
    let mut pairs: Vec<String> = header.unwrap_or_default().split("; ").map(str::to_owned).collect();
    pairs.sort();
    pairs
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|cookie| cookie["name"].as_str().unwrap()).collect()
}

async fn jar(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let (host, top) = (rig.site.hosts()[0].clone(), rig.site.hosts()[1].clone());
    let site = format!("http://{host}");
    let far = "2030-01-02T03:04:05Z";
    let cookies = json!([
        {"name": "host", "value": "1", "domain": host},
        {"name": "below", "value": "two words", "domain": format!(".{host}"), "expires": far, "same_site": "SAME_SITE_LAX"},
        {"name": "hidden", "value": "3", "domain": host, "path": "/p", "http_only": true, "same_site": "SAME_SITE_STRICT"},
        {"name": "away", "value": "4", "domain": host, "path": "/elsewhere"},
        {"name": "part", "value": "5", "domain": THIRD, "secure": true, "same_site": "SAME_SITE_NONE",
         "partition": {"top_level_site": site, "has_cross_site_ancestor": true}},
        {"name": "gone", "value": "6", "domain": host},
        {"name": "gone", "value": "", "domain": host, "expires": "2001-01-01T00:00:00Z"},
    ]);
    let script = json!({"evaluate": {"expression": "document.cookie.split('; ').sort()"}});
    let result = rig
        .visit_at(
            &rig.page("c1"),
            json!([{"set_cookies": {"cookies": cookies}}, {"get": {}}, script, {"get_cookies": {}},
                   {"get_cookies": {"domain": THIRD}}]),
        )
        .await;
    rig.assert_ok(&result);
    let value = |i: usize| serde_json::from_str::<Value>(&result.commands[i].value_json).unwrap();
    let sent = ["below=two words", "hidden=3", "host=1"];
    assert_eq!(cookie_header(&rig, "c1", "/p/interaction"), sent, "{kind:?}");
    assert_eq!(value(2), json!(["below=two words", "host=1"]), "{kind:?}: not those for HTTP only");
    let all = value(3);
    assert_eq!(names(&all), ["below", "host", "away", "hidden", "part"], "{kind:?}: {all}");
    let below = &all[0];
    assert_eq!(
        (&below["domain"], &below["same_site"]),
        (&json!(format!(".{host}")), &json!("SAME_SITE_LAX"))
    );
    assert!(
        below["expires"].as_str().unwrap() <= far && below["expires"].as_str().unwrap() > "2027",
        "{below}"
    );
    assert_eq!((&all[3]["http_only"], &all[3]["path"]), (&json!(true), &json!("/p")), "{kind:?}");
    let partition = &value(4)[0]["partition"];
    assert_eq!(partition, &json!({"top_level_site": site, "has_cross_site_ancestor": true}), "{kind:?}");

    // What was read can be set again, and a partition is one of its top document.
    let frame = |token: &str| {
        format!("<iframe src='{}'></iframe>", rig.site.url(THIRD, &format!("/r/frame?v={token}")))
    };
    let (own, other) = (document(&rig, &host, "c2", &frame("c2")), document(&rig, &top, "c3", &frame("c3")));
    let result = rig
        .visit_at(&own, json!([{"set_cookies": {"cookies": all}}, {"get": {}}, {"get": {"url": other}}]))
        .await;
    rig.assert_ok(&result);
    assert_eq!(cookie_header(&rig, "c2", "/r/frame"), ["part=5"], "{kind:?}");
    assert_eq!(cookie_header(&rig, "c3", "/r/frame"), [""], "{kind:?}");

    // The next visit has none of them, and a refusal names the cookie.
    let refused = json!([{"name": "broad", "value": "1", "domain": ".com"}]);
    let result = rig
        .visit_at(
            &rig.page("c4"),
            json!([{"get": {}}, {"get_cookies": {}}, {"set_cookies": {"cookies": refused}}]),
        )
        .await;
    assert_eq!(result.commands[1].value_json, "[]", "{kind:?}");
    assert_eq!(cookie_header(&rig, "c4", "/p/interaction"), [""], "{kind:?}");
    // A cookie for all of a public suffix: Firefox takes it of us, as it does of WebDriver.
    if kind == BrowserKind::Chromium {
        assert_eq!(result.commands[2].error, "cookie_refused", "{result:#?}");
        let why = rig.history(result.visit_id, 2, "traceback").unwrap();
        assert!(why.contains("broad") && why.contains(".com"), "{why}");
    }
    rig.stop().await;
}

/// M21, M31: cookies are set before the first request and read with all they have; none crosses to the next visit.
#[tokio::test]
async fn chromium_has_a_jar() {
    jar(BrowserKind::Chromium).await;
}

/// M21, M31
#[tokio::test]
async fn firefox_has_a_jar() {
    jar(BrowserKind::Firefox).await;
}

async fn headers(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    rig.instruments = Instruments { http: true, ..Instruments::default() };
    let host = rig.site.hosts()[0].clone();
    let at = |host: &str, token: &str, name: &str| rig.site.url(host, &format!("/r/make?v={token}&{name}"));
    let page = |token: &str| {
        let worker = format!("fetch('{}')", at(&host, token, "worker"));
        let html = format!(
            "<img src='{}'><iframe src='{}'></iframe><script>fetch('{}');
             new Worker(URL.createObjectURL(new Blob([\"{worker}\"])));</script>",
            at(&host, token, "image"),
            at(THIRD, token, "frame"),
            at(THIRD, token, "fetch"),
        );
        document(&rig, &host, token, &html)
    };
    let (first, second, third) = (page("h1"), page("h2"), page("h3"));
    let idle = |url: &str| json!({"get": {"url": url, "load_policy": "LOAD_POLICY_NETWORK_IDLE"}});
    let own =
        json!([{"name": "X-Sonde-Test", "value": "one, two"}, {"name": "Accept-Language", "value": "tlh"}]);
    let result = rig
        .visit_at(
            &first,
            json!([{"set_headers": {"headers": own}}, idle(&first), {"set_headers": {}}, idle(&second)]),
        )
        .await;
    rig.assert_ok(&result);
    let next = rig.visit_at(&third, json!([idle(&third)])).await;
    rig.assert_ok(&next);

    // A script's request to another origin may have a preflight, and a browser may ask twice for a picture.
    let got = |token: &str, name: &str| -> Vec<Option<String>> {
        let hits = rig.hits(token, "/r/make").into_iter().filter(|hit| hit.method == "GET");
        let of =
            hits.filter(|hit| hit.path.ends_with(name) || (name == "page" && hit.path.contains("type=")));
        let mut all: Vec<_> = of.map(|hit| hit.header("x-sonde-test").map(str::to_owned)).collect();
        all.dedup();
        all
    };
    for name in ["page", "image", "frame", "fetch", "worker"] {
        assert_eq!(got("h1", name), [Some("one, two".to_owned())], "{kind:?} {name}");
        assert_eq!(got("h2", name), [None], "{kind:?} {name}: no more");
        assert_eq!(got("h3", name), [None], "{kind:?} {name}: the next visit has none");
    }
    let hit = &rig.hits("h1", "/r/make")[0];
    assert_eq!(hit.header("accept-language"), Some("tlh"), "{kind:?}: the browser's own is replaced");
    assert_eq!(
        hit.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("accept-language")).count(),
        1
    );

    let sql = "SELECT headers LIKE '%one, two%', COUNT(DISTINCT url) FROM http_requests
               WHERE visit_id = ?1 AND url LIKE '%v=h1%' AND method = 'GET' GROUP BY 1";
    let db = rig.db();
    let mut statement = db.prepare(sql).unwrap();
    let found = statement.query_map(params![result.visit_id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let found: Vec<(bool, i64)> = found.map(Result::unwrap).collect();
    assert_eq!(found, [(true, 5)], "{kind:?}: the rows have them");
    drop(statement);
    drop(db);
    rig.stop().await;
}

/// M21: every request of a visit's pages, frames and workers has the headers, and is recorded with them.
#[tokio::test]
async fn chromium_sends_headers() {
    headers(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_sends_headers() {
    headers(BrowserKind::Firefox).await;
}
