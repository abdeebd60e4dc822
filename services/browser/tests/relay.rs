//! The extension and its relay against a real Chromium: what pages did is what arrives, whatever they try.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use sonde_browser::relay::locate_extension;
use sonde_proto::record::v1::record::Row;
use support::extension::chromium::{Arrived, Rig, SOON, assert_truth, done, serve, site};
use support::extension::hop;
use support::extension::{FRAMES, TOKEN, rows_of};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// M05, I14, I16
#[tokio::test(flavor = "multi_thread")]
async fn calls_cookies_and_navigations_of_a_page_arrive() {
    let (site, mut rig) = (site().await, Rig::start().await);
    let page = sonde_site::page("javascript").unwrap();
    let (_page, arrived) = rig.visit(1, &page.url(&site, "v1", ""), &done("javascript")).await;
    assert_truth(&arrived, &site.truth("v1"));
    let user_agent = arrived.calls().find(|call| call.symbol == "window.navigator.userAgent").unwrap();
    assert!(user_agent.value.as_deref().unwrap().contains("Chrome/"));
    assert!(user_agent.script_url.as_deref().unwrap().starts_with("http://site-"), "{user_agent:?}");
    assert!(user_agent.script_line.as_deref().unwrap().parse::<u32>().unwrap() > 10, "{user_agent:?}");
    assert!(user_agent.incognito && user_agent.tab_id > 0 && user_agent.document_id.is_some());
    let text = arrived.calls().find(|call| call.symbol == "CanvasRenderingContext2D.fillText").unwrap();
    assert_eq!(text.arguments.as_deref(), Some(r#"["Cwm fjordbank",2,15]"#));
    let cookie = arrived
        .calls()
        .find(|call| call.symbol == "window.document.cookie" && call.operation == "set")
        .unwrap();
    assert!(cookie.call_stack.as_deref().unwrap().contains("http://site-"), "{cookie:?}");
    assert_eq!(arrived.cookies()[0].name, "js_cookie");
    let navigation = arrived.navigations()[0];
    assert_eq!((navigation.kind.as_str(), navigation.frame_id), ("committed", 0));
    assert!(navigation.window_width.unwrap() > 0 && navigation.uuid.is_some(), "{navigation:?}");
    rig.close().await;
}

/// I1, I2, I4, I13
#[tokio::test(flavor = "multi_thread")]
async fn hostile_pages_neither_suppress_nor_forge() {
    let (site, mut rig) = (site().await, Rig::start().await);
    for (visit_id, name) in [
        (1, "hostile-control"),
        (2, "hostile-suppress-before"),
        (3, "hostile-suppress-after"),
        (4, "csp-strict"),
        (5, "csp-sandbox"),
        (6, "hostile-forge"),
    ] {
        let token = format!("v{visit_id}");
        let page = sonde_site::page(name).unwrap();
        let url = page.url(&site, &token, "");
        let (_page, arrived) = rig.visit(visit_id, &url, &done(name)).await;
        site.wait_done(&token, name, SOON).await.unwrap();
        let truth = site.truth(&token);
        assert_truth(&arrived, &truth);
        assert!(
            !truth.notes.iter().any(|note| note.starts_with("violations") && note != "violations 0"),
            "{truth:?}"
        );
        assert!(site.csp_reports(&token).is_empty());
        if name == "hostile-forge" {
            assert!(arrived.calls().all(|call| !call.symbol.contains("forged")));
            assert!(truth.notes.contains(&"leaked 0".to_owned()), "{truth:?}");
        } else {
            let all: u64 = truth.calls.values().sum();
            assert_eq!(arrived.calls().count() as u64, all, "{name}: {:?}", arrived.counts());
        }
    }
    rig.close().await;
}

/// I18, I3
#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_end_of_a_document_arrive() {
    let (site, mut rig) = (site().await, Rig::start().await);
    let page = sonde_site::page("js-unload").unwrap();
    let (_page, arrived) = rig.visit(1, &page.url(&site, "v1", ""), &done("js-unload-next")).await;
    assert_truth(&arrived, &site.truth("v1"));
    rig.close().await;
}

/// I12
#[tokio::test(flavor = "multi_thread")]
async fn floods_are_counted_exactly() {
    let (site, mut rig) = (site().await, Rig::start().await);
    let page = sonde_site::page("js-flood").unwrap();
    let before = Instant::now();
    let (_page, arrived) = rig.visit(1, &page.url(&site, "v1", "&n=100000"), &done("js-flood")).await;
    println!("200000 calls: visit took {:?}", before.elapsed());
    assert_truth(&arrived, &site.truth("v1"));
    assert!(arrived.count("get window.navigator.userAgent") >= 1000);
    rig.close().await;
}

const REALMS: &str = r#"<!doctype html><link rel=icon href="data:,"><body>
<iframe id=parsed src="/empty"></iframe><script>
const made = (set) => { const f = document.createElement("iframe"); set(f); document.body.append(f); return f; };
// The parser's own frame, before it has its document.
window[0].navigator.vendor;
const later = [];
for (const set of [
  (f) => {}, (f) => { f.src = "/empty"; }, (f) => { f.srcdoc = "<p>x"; }, (f) => { f.src = "about:blank#x"; },
  (f) => { f.sandbox = "allow-same-origin"; }, (f) => { f.src = "javascript:'x'"; }, (f) => { f.loading = "lazy"; f.src = "/empty"; },
  (f) => { f.sandbox = "allow-same-origin"; f.srcdoc = "y"; }, (f) => { f.src = URL.createObjectURL(new Blob(["z"], { type: "text/html" })); },
]) {
  const f = made(set);
  f.contentWindow.navigator.platform;                                   // synchronously
  f.contentDocument.defaultView.Navigator.prototype.__lookupGetter__("language").call(navigator);
  window[window.length - 1].navigator.product;                          // by index
  later.push(f);
}
const nested = made(() => {}).contentDocument;
nested.body.append(nested.createElement("iframe"));
frames[frames.length - 1][0].navigator.platform;
addEventListener("load", () => {
  for (const f of later) f.contentWindow.navigator.appName;             // in the documents that came
  const plain = later.every((f) => f.contentWindow.Function.prototype.toString.call(
    Object.getOwnPropertyDescriptor(Navigator.prototype, "userAgent").get) === "function get userAgent() { [native code] }");
  document.documentElement.dataset.done = "realms " + plain;
});
</script>"#;

/// I3, I7
#[tokio::test(flavor = "multi_thread")]
async fn new_realms_are_hooked_before_their_first_use() {
    let pages = serve(&[("/", REALMS), ("/empty", "<p>empty")]).await;
    let url = pages.url("/");
    let mut rig = Rig::start().await;
    let (_page, arrived) =
        rig.visit(1, &url, "document.documentElement?.dataset?.done?.startsWith('realms')").await;
    let plain = rig.until(&_page, "document.documentElement.dataset.done").await;
    assert_eq!(plain, json!("realms true"));
    assert_eq!(arrived.count("get window.navigator.vendor"), 1);
    assert_eq!(arrived.count("get window.navigator.platform"), 10, "{:?}", arrived.counts());
    assert_eq!(arrived.count("get window.navigator.language"), 9);
    assert_eq!(arrived.count("get window.navigator.product"), 9);
    assert_eq!(arrived.count("get window.navigator.appName"), 9);
    rig.close().await;
}

const HARD: &str = r#"<!doctype html><link rel=icon href="data:,"><script>
const out = {};
const own = Object.getOwnPropertyNames(window).length;
const getter = Object.getOwnPropertyDescriptor(Navigator.prototype, "userAgent").get;
out.text = getter.toString();
out.name = getter.name;
out.identical = Object.getOwnPropertyDescriptor(Navigator.prototype, "userAgent").get === getter;
try { Navigator.prototype.userAgent; } catch (error) { out.stack = error.stack; }
try { new getter(); } catch (error) { out.construct = error.message; }
try { Object.setPrototypeOf(getter, Object.create(getter)); } catch (error) { out.cycle = error.message; }
out.mine = Object.getOwnPropertyNames(navigator).length;
out.timer = setTimeout(() => {});
Error.prepareStackTrace = (error, frames) => { out.prepared = true; return "mine"; };
navigator.vendor;
delete Error.prepareStackTrace;
let ran = 0;
const evil = { get secret() { ran++; return 1; }, toJSON() { ran++; return 2; }, plain: { a: [1, null, "\ud800"] } };
document.createElement("canvas").getContext("2d", evil);
localStorage.setItem("lone \ud800", "NUL \0 '; DROP TABLE javascript; --");
// At the end of the stack a call either is recorded or fails.
let answered = 0;
const dive = () => { try { dive(); } catch {} try { navigator.productSub; answered++; } catch {} };
try { dive(); } catch {}
out.answered = answered;
document.cookie = "gone=1; Max-Age=0; path=/";
document.cookie = "kept=1; Path=/a; SameSite=Lax; Secure";
addEventListener("load", () => {
  document.open(); document.write("<p>again"); document.close();
  navigator.appVersion;
  document.documentElement.dataset.out = JSON.stringify(out);
  for (let i = 0; i < 100; i++) navigator.vendorSub;
  if (!location.search) location.href = "/?second";
});
</script>"#;

/// I6, I7, I9, I11, I18
#[tokio::test(flavor = "multi_thread")]
async fn hard_cases_are_recorded_and_look_native() {
    let pages = serve(&[("/", HARD)]).await;
    let url = pages.url("/");
    let mut rig = Rig::start().await;
    let (page, arrived) = rig
        .visit(1, &url, "location.search === '?second' && 'out' in document.documentElement.dataset")
        .await;
    let out = rig.until(&page, "document.documentElement.dataset.out").await;
    let out: Value = serde_json::from_str(out.as_str().unwrap()).unwrap();
    assert_eq!(out["text"], "function get userAgent() { [native code] }");
    assert_eq!(
        (&out["name"], &out["identical"], &out["mine"]),
        (&json!("get userAgent"), &json!(true), &json!(0))
    );
    assert!(!out["stack"].as_str().unwrap().contains("chrome-extension"), "{out}");
    assert_eq!(out["cycle"], "Cyclic __proto__ value");
    assert_eq!(out["timer"], 1, "timer ids are shared with the page");
    assert_eq!(out.get("prepared"), None, "the page's prepareStackTrace ran for a stack of ours");
    assert_eq!(arrived.count("get window.navigator.appVersion"), 2);
    assert_eq!(arrived.count("get window.navigator.vendorSub"), 200);
    let context = arrived.calls().find(|call| call.symbol == "HTMLCanvasElement.getContext").unwrap();
    let arguments: Value = serde_json::from_str(context.arguments.as_deref().unwrap()).unwrap();
    assert!(arguments[1].as_str().unwrap().contains(r#""secret":"ACCESSOR""#), "{arguments}");
    let item = arrived.calls().find(|call| call.symbol == "Storage.setItem").unwrap();
    assert_eq!(
        item.arguments.as_deref(),
        Some(r#"["lone \ud800","NUL \u0000 '; DROP TABLE javascript; --"]"#)
    );
    let kinds: Vec<_> =
        arrived.cookies().iter().map(|row| (row.name.as_str(), row.record_type.as_str())).collect();
    assert_eq!(kinds[..2], [("gone", "deleted"), ("kept", "added-or-changed")]);
    let answered = out["answered"].as_u64().unwrap();
    println!("near the end of the stack: {answered} answered in the second document");
    assert!(arrived.count("get window.navigator.productSub") >= answered);
    rig.close().await;
}

/// S5
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let rig = Rig::start().await;
    let (port, id) = (rig.relay.port(), rig.id.clone());
    let mut connected = rig.relay.connected();
    timeout(SOON, connected.wait_for(Option::is_some)).await.unwrap().unwrap();
    let attempt = async |token: &str, origin: &str, host: &str| {
        let mut request = format!("ws://127.0.0.1:{port}/relay?token={token}").into_client_request().unwrap();
        request.headers_mut().insert("Origin", origin.parse().unwrap());
        request.headers_mut().insert("Host", host.parse().unwrap());
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Ok(_) => 101,
            Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
    };
    let (host, ours) = (format!("127.0.0.1:{port}"), format!("chrome-extension://{id}"));
    assert_eq!(attempt("wrong", &ours, &host).await, 401);
    assert_eq!(attempt(TOKEN, "http://site-0.localhost", &host).await, 403);
    assert_eq!(attempt(TOKEN, &ours, &format!("localhost:{port}")).await, 421);
    assert_eq!(attempt(TOKEN, &ours, &host).await, 101);
    rig.close().await;
}

/// I16, R6
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_and_doubles_nothing() {
    let site = site().await;
    let (control, state) = tokio::sync::watch::channel((0, true));
    let through = hop(state).await;
    let mut rig = Rig::with(Some(through)).await;
    control.send_replace((rig.relay.port(), true));
    let page = rig.open(1).await;
    rig.goto(&page, &sonde_site::page("js-flood").unwrap().url(&site, "v1", "&n=20000")).await;
    let mut early = Arrived::default();
    early.take(1, timeout(SOON, rig.batches.recv()).await.unwrap().unwrap());
    let mut connected = rig.relay.connected();
    for _ in 0..3 {
        control.send_replace((rig.relay.port(), false));
        timeout(SOON, connected.wait_for(Option::is_none)).await.unwrap().unwrap();
        control.send_replace((rig.relay.port(), true));
        timeout(SOON, connected.wait_for(Option::is_some)).await.unwrap().unwrap();
    }
    rig.until(&page, &done("js-flood")).await;
    let deadline = Instant::now() + SOON;
    early.ends = rig.relay.flush(1, FRAMES, Vec::new(), deadline).await.unwrap();
    while let Ok(batch) = rig.batches.try_recv() {
        early.take(1, batch);
    }
    early.check();
    assert_truth(&early, &site.truth("v1"));
    assert!(rig.relay.stats().duplicates > 0, "nothing was acknowledged, so everything was sent again");
    rig.close().await;
}

/// M05, I14
#[tokio::test(flavor = "multi_thread")]
async fn popups_belong_to_their_opener_and_late_records_to_none() {
    const PAGE: &str = "<!doctype html><link rel=icon href='data:,'><script>
      if (location.hash) navigator.vendor; else navigator.platform;
      document.documentElement.dataset.done = 'x';</script>";
    let pages = serve(&[("/", PAGE)]).await;
    let url = pages.url("/");
    let mut rig = Rig::start().await;
    let page = rig.open(1).await;
    rig.goto(&page, &url).await;
    rig.until(&page, &done("x")).await;
    for features in ["", "noopener", "popup"] {
        let expression = format!("open('/#popup', '_blank', '{features}'); true");
        let params = json!({ "expression": expression, "userGesture": true });
        rig.call(&page, "Runtime.evaluate", params).await;
    }
    let mut arrived = Arrived::default();
    let end = Instant::now() + SOON;
    while arrived.count("get window.navigator.vendor") < 3 {
        let batch = tokio::time::timeout_at(end, rig.batches.recv()).await.unwrap().unwrap();
        arrived.take(1, batch);
    }
    rig.relay.end_visit(1);
    // When the second visit is ready, the end of the first has come through as well.
    let other = rig.open(2).await;
    let late = "navigator.product; 'ok'";
    rig.until(&page, late).await;
    let unattributed = loop {
        let batch = tokio::time::timeout_at(end, rig.batches.recv()).await.unwrap().unwrap();
        assert_ne!(batch.visit_id, 2);
        if batch.visit_id == -1 {
            break rows_of(&batch);
        }
    };
    let row = unattributed.into_iter().find_map(|row| match row {
        Row::Unattributed(row) => Some(row),
        _ => None,
    });
    let row = row.unwrap();
    assert_eq!(row.reason, "visit_ended");
    assert!(row.payload.contains("navigator.product"), "{row:?}");
    drop(other);
    rig.close().await;
}

#[test]
fn the_built_extension_is_found() {
    assert!(locate_extension(None).unwrap().join("main.js").is_file());
    assert!(locate_extension(Some(Path::new("/nonexistent"))).is_err());
}
