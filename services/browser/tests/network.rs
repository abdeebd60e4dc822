//! The extension's network instrument in a real Firefox: what a server saw is what the rows say.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

#[path = "relay/hop.rs"]
mod hop;
mod http_site;
#[path = "network/rig.rs"]
mod rig;

use std::collections::BTreeMap;

use base64::Engine as _;
use hop::hop;
use http_site::{Site, twin};
use rig::{Blobs, Rig, Rows, SOON, everything};
use serde_json::json;
use sha2::{Digest, Sha256};
use sonde_proto::browser::v1::RelayNetwork;
use sonde_proto::record::v1::HttpRequest;
use tokio::time::timeout;

fn sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect()
}

/// Everything that one visit to the page gave.
async fn visit(rig: &mut Rig, site: &Site, visit_id: i64, network: RelayNetwork) -> Rows {
    let (page, _) = rig.open(visit_id, network).await;
    rig.goto(&page, &format!("http://localhost:{}/page", site.port)).await;
    let last = [
        "/done",
        "/in-frame",
        "/after/formed",
        "/after/popup",
        "/in-worker",
        "/in-shared",
        "/in-sw",
        "/beacon",
        "/events",
    ];
    let ended = move |rows: &Rows| {
        last.iter().all(|path| rows.responses.iter().any(|r| r.url.ends_with(path)))
            && rows.failures.len() >= 2
    };
    rig.until(visit_id, "the page's last requests", ended).await;
    rig.finish(visit_id).await
}

/// Firefox asks again where the connection is reset; that is one request to it.
const ASKED_AGAIN: &str = "/reset";

fn check_log(site: &Site, rows: &Rows) {
    let mut expected = site.log.hits();
    expected.insert(("GET".to_owned(), format!("ws://localhost:{}/socket", site.ws)), 1);
    let again = ("GET".to_owned(), format!("http://localhost:{}{ASKED_AGAIN}", site.port));
    assert!(expected.insert(again, 1).unwrap() >= 1);
    let never_sent = |r: &&HttpRequest| {
        let of = |id: i64| id == r.request_id;
        rows.failures.iter().any(|f| of(f.request_id) && f.error == "net::ERR_CONNECTION_REFUSED")
            || rows.responses.iter().any(|a| of(a.request_id) && (a.is_cached || a.from_service_worker))
    };
    let mut recorded = BTreeMap::new();
    for row in rows.requests.iter().filter(|r| !never_sent(r)) {
        *recorded.entry((row.method.clone(), row.url.clone())).or_default() += 1;
    }
    assert_eq!(expected, recorded);
    for row in &rows.requests {
        let answered = rows.responses.iter().filter(|a| a.request_id == row.request_id).count();
        let alone =
            |f: &&sonde_proto::record::v1::HttpFailure| f.request_id == row.request_id && !f.after_response;
        assert_eq!(answered + rows.failures.iter().filter(alone).count(), 1, "{row:?}");
    }
}

fn check_bodies(rows: &Rows, blobs: &Blobs) {
    let bad: Vec<_> = rows.responses.iter().filter(|r| r.body_outcome == "failed").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let blobs = blobs.lock().unwrap();
    let bodies: [(&str, Vec<u8>); 9] = [
        ("/twin-a", twin(b'a')),
        ("/twin-b", twin(b'b')),
        ("/gzip", b"squeezed ".repeat(700)),
        ("/latin.js", b"x='\xe9\xff'".into()),
        ("/bom.js", b"\xef\xbb\xbfx='\xc3\xa9'".into()),
        ("/in-frame", b"/in-frame".into()),
        ("/in-worker", b"/in-worker".into()),
        ("/missing", b"no".into()),
        ("/made-up", b"made".into()),
    ];
    for (path, body) in bodies {
        let response = rows.response(path);
        let hash = sha256(&body);
        assert_eq!(
            (response.content_hash.as_deref(), response.body_outcome.as_str()),
            (Some(hash.as_str()), "complete"),
            "{response:?}"
        );
        assert_eq!((response.body_bytes, &blobs[&hash][..]), (Some(body.len() as i64), &body[..]));
    }
    for path in ["/204", "/empty", "/headed"] {
        assert_eq!(rows.response(path).body_outcome, "empty", "{path}");
        assert!(blobs[rows.response(path).content_hash.as_ref().unwrap()].is_empty());
    }
}

fn check_kinds(rows: &Rows) {
    let types = [
        ("/page", "main_frame"),
        ("/frame", "sub_frame"),
        ("/style.css", "stylesheet"),
        ("/image.png", "image"),
        ("/imported.js", "script"),
        ("/beacon", "beacon"),
        ("/gzip", "xmlhttprequest"),
        ("/socket", "websocket"),
        ("/formed", "sub_frame"),
        ("/popup", "main_frame"),
        ("/cors", "xmlhttprequest"),
    ];
    for (path, kind) in types {
        assert_eq!(rows.request(path).resource_type, kind, "{path}");
    }
    let contexts = [
        ("/style.css", "page"),
        ("/in-frame", "iframe"),
        ("/in-worker", "worker"),
        ("/in-shared", "shared_worker"),
        ("/in-sw", "service_worker"),
    ];
    for (path, kind) in contexts {
        assert_eq!(rows.request(path).context_type.as_deref(), Some(kind), "{path}");
    }
    let frame = rows.request("/in-frame");
    assert_eq!((frame.parent_frame_id, frame.is_third_party_channel), (Some(0), Some(false)));
    assert_eq!(frame.is_third_party_to_top_window, Some(true));
    assert!(frame.frame_id > 0 && frame.top_level_url.as_ref().unwrap().ends_with("/page"));
    let page = rows.request("/page").tab_id;
    for path in ["/in-worker", "/style.css", "/in-frame"] {
        assert_eq!(rows.request(path).tab_id, page, "{path}");
    }
    for path in ["/in-shared", "/in-sw", "/shared.js", "/sw.js"] {
        assert_eq!(rows.request(path).tab_id, -1, "{path}");
    }
    assert!(rows.request("/popup").tab_id != page && rows.request("/popup").tab_id > 0);
    assert!(
        rows.requests
            .iter()
            .all(|r| r.headers_final || r.url.ends_with("/made-up") || r.url.ends_with("/passed-on"))
    );
}

fn check_facts(site: &Site, rows: &Rows) {
    let hops: Vec<_> =
        rows.redirects.iter().map(|r| (r.response_status, r.headers_final, r.hop_index)).collect();
    assert_eq!(hops, [(302, true, 0), (307, true, 1)]);
    let last = rows.request("/final.js");
    assert_eq!((last.hop_index, last.request_id), (2, rows.request("/r1").request_id));
    assert_eq!(rows.request("/urlencoded").post_body.as_deref(), Some(r#"{"a":["1"],"b":["é"]}"#));
    assert_eq!(rows.request("/formed").post_body.as_deref(), Some(r#"{"q":["a b"]}"#));
    for path in ["/binary", "/long", "/beacon", "/in-worker"] {
        let raw: Vec<(Option<String>, String)> =
            serde_json::from_str(rows.request(path).post_body_raw.as_ref().unwrap()).unwrap();
        let parts =
            raw.iter().flat_map(|(_, b)| base64::engine::general_purpose::STANDARD.decode(b).unwrap());
        assert_eq!(parts.collect::<Vec<u8>>(), site.log.body(path), "{path}");
    }
    for path in ["/binary", "/urlencoded", "/formed"] {
        assert_eq!(rows.request(path).post_body_bytes, Some(site.log.body(path).len() as i64), "{path}");
    }
    let errors: BTreeMap<_, _> = rows
        .failures
        .iter()
        .map(|f| (f.url.rsplit('/').next().unwrap(), (f.error.as_str(), f.browser_error.as_deref())))
        .collect();
    assert_eq!(errors["refused"], ("net::ERR_CONNECTION_REFUSED", Some("NS_ERROR_CONNECTION_REFUSED")));
    assert_eq!(errors["reset"], ("net::ERR_CONNECTION_RESET", Some("NS_ERROR_NET_RESET")));
    let made_up = rows.response("/made-up");
    assert_eq!((made_up.from_service_worker, made_up.body_bytes), (true, Some(4)));
    assert_eq!(rows.response("/page").remote_ip.as_deref(), Some("127.0.0.1"));
    assert!(rows.truncations.is_empty() && rows.unattributed.is_empty(), "{rows:#?}");
}

fn check_cookies(rows: &Rows) {
    let of = |source: &str| -> Vec<_> {
        let rows = rows.cookies.iter().filter(|c| c.source == source);
        rows.map(|c| (c.name.as_str(), c.is_http_only, c.host.as_deref())).collect()
    };
    let set = [("hop", Some(true), Some("localhost")), ("b", Some(false), Some("localhost"))];
    assert_eq!(of("http"), set);
    assert_eq!(of("jar"), set);
    let stores: Vec<_> = rows.cookies.iter().map(|c| c.store_id.clone().unwrap()).collect();
    assert!(stores.iter().all(|s| s.starts_with("firefox-container-") && *s == stores[0]), "{stores:?}");
    let causes: Vec<_> = rows.cookies.iter().map(|c| c.change_cause.as_deref().unwrap()).collect();
    assert!(causes.iter().all(|c| *c == "explicit"), "{causes:?}");
}

fn check_names(rows: &Rows) {
    let on_the_wire = rows.responses.iter().filter(|r| !r.is_cached && !r.from_service_worker).count();
    assert_eq!(rows.dns.len(), on_the_wire + rows.redirects.len());
    for row in &rows.dns {
        assert!(row.hostname.as_deref().unwrap().ends_with("localhost"), "{row:?}");
        assert_eq!(row.used_address.as_deref(), Some("127.0.0.1"));
        assert_eq!(row.source.as_deref(), Some("second_lookup"));
        assert!(
            row.addresses.as_deref().unwrap().contains("127.0.0.1") && row.is_trr == Some(false),
            "{row:?}"
        );
    }
}

/// M10, M11, M12, M15, I10, I15, I17
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_agree_with_the_servers_log() {
    let site = Site::start().await;
    let mut rig = Rig::start().await;
    let rows = visit(&mut rig, &site, 1, everything()).await;
    check_log(&site, &rows);
    check_bodies(&rows, &rig.blobs);
    check_kinds(&rows);
    check_facts(&site, &rows);
    check_cookies(&rows);
    check_names(&rows);
    rig.close().await;
}

/// M05, M11, M18: a visit gets what is its own and asked for, two at once as well; caps are said.
#[tokio::test(flavor = "multi_thread")]
async fn visits_are_kept_apart_and_get_what_they_ask_for() {
    let (one, other) = (Site::start().await, Site::start().await);
    let mut rig = Rig::start().await;
    let scripts =
        RelayNetwork { save_content: vec!["script".to_owned()], dns: false, cookies: false, ..everything() };
    let capped = RelayNetwork { max_body_bytes: 1 << 20, ..everything() };
    let (second, _) = rig.open(2, capped).await;
    let started =
        json!({"context": second, "url": format!("http://localhost:{}/page", other.port), "wait": "none"});
    rig.call("browsingContext.navigate", started).await;
    let rows = visit(&mut rig, &one, 1, scripts).await;
    check_log(&one, &rows);
    let saved: Vec<_> =
        rows.responses.iter().filter(|r| r.content_hash.is_some()).map(|r| r.request_id).collect();
    let of_scripts =
        |id: &i64| rows.requests.iter().any(|r| r.request_id == *id && r.resource_type == "script");
    assert!(saved.len() >= 6 && saved.iter().all(of_scripts), "{saved:?}");
    assert_eq!(rows.response("/gzip").body_outcome, "not_asked");
    assert!(rows.dns.is_empty() && rows.cookies.is_empty());
    let done = |rows: &Rows| rows.responses.iter().any(|r| r.url.ends_with("/done"));
    rig.until(2, "the other visit's page", done).await;
    let rows = rig.finish(2).await;
    assert!(rows.requests.iter().all(|r| !r.url.contains(&format!(":{}/", one.port))), "{rows:#?}");
    let twin = rows.response("/twin-a");
    assert_eq!((twin.body_outcome.as_str(), twin.content_hash.as_deref()), ("capped", None));
    let cut: Vec<_> = rows.truncations.iter().map(|t| (t.reason.as_str(), t.limit_value)).collect();
    assert_eq!(cut, [("body_cap", 1 << 20); 2]);
    assert_eq!(rows.response("/gzip").body_outcome, "complete");
    rig.close().await;
}

const RESTLESS: &str =
    "data:text/html,<script>setInterval(()=>fetch('http://localhost:{port}/tick'+Math.random()))</script>";

/// M05, R2: what a page still does when its visit ends reaches neither the site nor another visit.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_of_a_visit_nothing_of_it_leaves_the_browser() {
    let site = Site::start().await;
    let mut rig = Rig::start().await;
    let (page, container) = rig.open(1, everything()).await;
    rig.goto(&page, &RESTLESS.replace("{port}", &site.port.to_string())).await;
    rig.until(1, "a few requests", |rows| rows.responses.len() > 20).await;
    let rows = rig.finish(1).await;
    let recorded: Vec<&str> = rows.requests.iter().map(|r| r.url.as_str()).collect();
    let (next, _) = rig.open(2, everything()).await;
    rig.goto(&next, &format!("http://localhost:{}/frame", site.port)).await;
    rig.until(2, "the next visit", |rows| rows.responses.iter().any(|r| r.url.ends_with("/in-frame"))).await;
    rig.call("browser.removeUserContext", json!({"userContext": container})).await;
    let other = rig.finish(2).await;
    assert_eq!((other.requests.len(), other.responses.len()), (2, 2), "{other:#?}");
    for ((_, url), count) in site.log.hits() {
        let mine = recorded.contains(&url.as_str()) || other.requests.iter().any(|r| r.url == url);
        assert!(mine && count == 1, "{url} has no row");
    }
    let strays = rig.rows(-1);
    assert!(strays.unattributed.iter().all(|row| row.reason == "visit_ended"), "{strays:#?}");
    rig.close().await;
}

/// M11, I16, R6: bodies and rows of a time without a connection come when it is back, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_no_body() {
    let site = Site::start().await;
    let (control, state) = tokio::sync::watch::channel((0, true));
    let through = hop(state).await;
    let mut rig = Rig::with(Some((through, &control))).await;
    let mut connected = rig.relay.connected();
    let (page, _) = rig.open(1, everything()).await;
    rig.goto(&page, &format!("http://localhost:{}/frame", site.port)).await;
    for path in ["/twin-a", "/twin-b"] {
        control.send_replace((rig.relay.port(), false));
        timeout(SOON, connected.wait_for(Option::is_none)).await.unwrap().unwrap();
        let fetched = format!("fetch('{path}').then(r => r.arrayBuffer()).then(b => b.byteLength)");
        assert_eq!(rig.evaluate(&page, &fetched).await, json!(2 << 20));
        control.send_replace((rig.relay.port(), true));
        timeout(SOON, connected.wait_for(Option::is_some)).await.unwrap().unwrap();
    }
    let rows = rig.finish(1).await;
    for (path, last) in [("/twin-a", b'a'), ("/twin-b", b'b')] {
        assert_eq!(rows.response(path).content_hash.as_deref(), Some(sha256(&twin(last)).as_str()), "{path}");
    }
    assert_eq!(rows.responses.len(), 4, "{rows:#?}");
    rig.close().await;
}

/// M10: what a policy refuses before it begins is a failure, and no request.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_by_policy_are_failures() {
    let site = Site::start().await;
    let mut rig = Rig::start().await;
    let (page, _) = rig.open(1, everything()).await;
    rig.goto(&page, &format!("http://localhost:{}/policy", site.port)).await;
    rig.until(1, "the refusals", |rows| rows.failures.len() == 2 && rows.responses.len() == 2).await;
    let rows = rig.finish(1).await;
    let mut failures: Vec<_> = rows
        .failures
        .iter()
        .map(|f| {
            (f.url.rsplit('/').next().unwrap(), f.resource_type.as_str(), f.error.as_str(), f.request_id < 0)
        })
        .collect();
    failures.sort_unstable();
    let error = "net::ERR_BLOCKED_BY_CSP";
    assert_eq!(failures, [("elsewhere", "xmlhttprequest", error, true), ("image.png", "image", error, true)]);
    assert_eq!((rows.requests.len(), site.log.hits().len()), (2, 2), "{rows:#?}");
    rig.close().await;
}
