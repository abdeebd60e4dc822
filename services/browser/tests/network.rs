//! The extension's network instrument in a real Firefox: what a server saw is what the rows say.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use sonde_proto::browser::v1::RelayNetwork;
use sonde_site::sha256_hex;
use support::Rows;
use support::extension::firefox::{Rig, SOON, everything};
use support::extension::hop;
use support::http_site::{Site, twin};
use support::http_truth::{check_bodies, check_body, check_facts, check_log};
use tokio::time::timeout;

/// Everything that one visit to the page gave.
async fn visit(rig: &mut Rig, site: &Site, visit_id: i64, network: RelayNetwork) -> Rows {
    let (page, _) = rig.open(visit_id, network).await;
    rig.goto(&page, &site.url("/page")).await;
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
        last.iter().all(|path| rows.responses().into_iter().any(|r| r.url.ends_with(path)))
            && rows.failures().len() >= 2
    };
    rig.until(visit_id, "the page's last requests", ended).await;
    rig.finish(visit_id).await
}

/// What the extension tells beyond what is due in every browser.
fn check_own(rows: &Rows) {
    assert_eq!(rows.request("/style.css").context_type.as_deref(), Some("page"));
    assert_eq!(rows.request("/in-frame").is_third_party_to_top_window, Some(true));
    let page = rows.request("/page").tab_id;
    for path in ["/in-worker", "/style.css", "/in-frame"] {
        assert_eq!(rows.request(path).tab_id, page, "{path}");
    }
    for path in ["/in-shared", "/in-sw", "/shared.js", "/sw.js"] {
        assert_eq!(rows.request(path).tab_id, -1, "{path}");
    }
    assert!(rows.request("/popup").tab_id != page && rows.request("/popup").tab_id > 0);
    assert!(
        rows.requests()
            .into_iter()
            .all(|r| r.headers_final || r.url.ends_with("/made-up") || r.url.ends_with("/passed-on"))
    );
    let errors: BTreeMap<_, _> = rows
        .failures()
        .into_iter()
        .map(|f| (f.url.rsplit('/').next().unwrap(), (f.error.as_str(), f.browser_error.as_deref())))
        .collect();
    assert_eq!(errors["refused"], ("net::ERR_CONNECTION_REFUSED", Some("NS_ERROR_CONNECTION_REFUSED")));
    assert_eq!(errors["reset"], ("net::ERR_CONNECTION_RESET", Some("NS_ERROR_NET_RESET")));
    assert_eq!(rows.response("/page").remote_ip.as_deref(), Some("127.0.0.1"));
    assert!(rows.truncations().is_empty() && rows.unattributed().is_empty(), "{rows:#?}");
}

fn check_cookies(rows: &Rows) {
    let of = |source: &str| -> Vec<_> {
        let rows = rows.cookies().into_iter().filter(|c| c.source == source);
        rows.map(|c| (c.name.as_str(), c.is_http_only, c.host.as_deref())).collect()
    };
    let set = [("hop", Some(true), Some("localhost")), ("b", Some(false), Some("localhost"))];
    assert_eq!(of("http"), set);
    assert_eq!(of("jar"), set);
    let stores: Vec<_> = rows.cookies().into_iter().map(|c| c.store_id.clone().unwrap()).collect();
    assert!(stores.iter().all(|s| s.starts_with("firefox-container-") && *s == stores[0]), "{stores:?}");
    let causes: Vec<_> = rows.cookies().into_iter().map(|c| c.change_cause.as_deref().unwrap()).collect();
    assert!(causes.iter().all(|c| *c == "explicit"), "{causes:?}");
}

fn check_names(rows: &Rows) {
    let on_the_wire = rows.responses().into_iter().filter(|r| !r.is_cached && !r.from_service_worker).count();
    assert_eq!(rows.dns().len(), on_the_wire + rows.redirects().len());
    for row in rows.dns() {
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
    let bad: Vec<_> = rows.responses().into_iter().filter(|r| r.body_outcome == "failed").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    {
        let blobs = rig.blobs.lock().unwrap();
        check_bodies(&rows, &blobs);
        check_body(&rows, &blobs, "/made-up", b"made");
    }
    check_facts(&site, &rows);
    check_own(&rows);
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
    let started = json!({"context": second, "url": other.url("/page"), "wait": "none"});
    rig.call("browsingContext.navigate", started).await;
    let rows = visit(&mut rig, &one, 1, scripts).await;
    check_log(&one, &rows);
    let saved: Vec<_> =
        rows.responses().into_iter().filter(|r| r.content_hash.is_some()).map(|r| r.request_id).collect();
    let of_scripts =
        |id: &i64| rows.requests().into_iter().any(|r| r.request_id == *id && r.resource_type == "script");
    assert!(saved.len() >= 6 && saved.iter().all(of_scripts), "{saved:?}");
    assert_eq!(rows.response("/gzip").body_outcome, "not_asked");
    assert!(rows.dns().is_empty() && rows.cookies().is_empty());
    let done = |rows: &Rows| rows.responses().into_iter().any(|r| r.url.ends_with("/done"));
    rig.until(2, "the other visit's page", done).await;
    let rows = rig.finish(2).await;
    assert!(
        rows.requests().into_iter().all(|r| !r.url.contains(&format!(":{}/", one.pages.port))),
        "{rows:#?}"
    );
    let twin = rows.response("/twin-a");
    assert_eq!((twin.body_outcome.as_str(), twin.content_hash.as_deref()), ("capped", None));
    let cut: Vec<_> = rows.truncations().into_iter().map(|t| (t.reason.as_str(), t.limit_value)).collect();
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
    rig.goto(&page, &RESTLESS.replace("{port}", &site.pages.port.to_string())).await;
    rig.until(1, "a few requests", |rows| rows.responses().len() > 20).await;
    let rows = rig.finish(1).await;
    let recorded: Vec<&str> = rows.requests().into_iter().map(|r| r.url.as_str()).collect();
    let (next, _) = rig.open(2, everything()).await;
    rig.goto(&next, &site.url("/frame")).await;
    rig.until(2, "the next visit", |rows| rows.responses().into_iter().any(|r| r.url.ends_with("/in-frame")))
        .await;
    rig.call("browser.removeUserContext", json!({"userContext": container})).await;
    let other = rig.finish(2).await;
    assert_eq!((other.requests().len(), other.responses().len()), (2, 2), "{other:#?}");
    for ((_, url), count) in site.pages.tally() {
        let mine = recorded.contains(&url.as_str()) || other.requests().into_iter().any(|r| r.url == url);
        assert!(mine && count == 1, "{url} has no row");
    }
    let strays = rig.rows(-1);
    assert!(strays.unattributed().into_iter().all(|row| row.reason == "visit_ended"), "{strays:#?}");
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
    rig.goto(&page, &site.url("/frame")).await;
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
        assert_eq!(
            rows.response(path).content_hash.as_deref(),
            Some(sha256_hex(&twin(last)).as_str()),
            "{path}"
        );
    }
    assert_eq!(rows.responses().len(), 4, "{rows:#?}");
    rig.close().await;
}

/// M10: what a policy refuses before it begins is a failure, and no request.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_by_policy_are_failures() {
    let site = Site::start().await;
    let mut rig = Rig::start().await;
    let (page, _) = rig.open(1, everything()).await;
    rig.goto(&page, &site.url("/policy")).await;
    rig.until(1, "the refusals", |rows| rows.failures().len() == 2 && rows.responses().len() == 2).await;
    let rows = rig.finish(1).await;
    let mut failures: Vec<_> = rows
        .failures()
        .into_iter()
        .map(|f| {
            (f.url.rsplit('/').next().unwrap(), f.resource_type.as_str(), f.error.as_str(), f.request_id < 0)
        })
        .collect();
    failures.sort_unstable();
    let error = "net::ERR_BLOCKED_BY_CSP";
    assert_eq!(failures, [("elsewhere", "xmlhttprequest", error, true), ("image.png", "image", error, true)]);
    assert_eq!((rows.requests().len(), site.pages.tally().len()), (2, 2), "{rows:#?}");
    rig.close().await;
}
