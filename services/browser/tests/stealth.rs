//! Capture mode `stealth` on a real Chromium: the engine alone, with a storage in memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sonde_browser::ChromiumCapture;
use sonde_browser::engine::Scripts;
use sonde_proto::record::v1::{JavascriptCall, Truncation};
use sonde_proto::visit::v1::{BrowserSpec, CommandStatus, Instruments};
use support::pages::{Asked, Pages, reply};
use support::rig::Rig;
use tokio::sync::watch;

/// The load event of a page waits until it has said what it saw.
const HEAD: &str = r#"<!doctype html><link rel=icon href="data:,"><script async src="/wait.js"></script><script>
const done = (said) => fetch("/done", { method: "POST", body: JSON.stringify(said) });
</script>"#;

async fn serve(body: String) -> Pages {
    let (over, gate) = watch::channel(false);
    let answer = move |asked: &Asked, _| match asked.path.as_str() {
        "/done" => {
            over.send_replace(true);
            Some(reply("text/plain", ""))
        }
        "/wait.js" => Some(reply("text/javascript", "").once(&gate)),
        "/child" => Some(reply(
            "text/html",
            "<script>localStorage.getItem('inside'); parent.postMessage('ready', '*')</script>",
        )),
        "/" => Some(reply("text/html", format!("{HEAD}{body}"))),
        _ => None,
    };
    Pages::start(answer).await
}

struct Seen {
    calls: Vec<JavascriptCall>,
    cuts: Vec<Truncation>,
    said: Value,
    scripts: Vec<String>,
    origin: String,
}

async fn visit(body: &str, javascript_limit: u32) -> Seen {
    let instruments =
        Instruments { javascript: true, scripts: true, javascript_limit, ..Instruments::default() };
    let pages = serve(body.to_owned()).await;
    // No user is there to open a window.
    let spec =
        BrowserSpec { extra_flags: vec!["--disable-popup-blocking".to_owned()], ..BrowserSpec::default() };
    let rig = Rig::configured(spec, Scripts::of(&instruments), |config| {
        config.chromium_capture = ChromiumCapture::Stealth;
    })
    .await;
    let facts: Value = serde_json::from_str(&rig.browser.facts().provenance).unwrap();
    assert_eq!(facts["extension"]["javascript_capture"], "stealth");
    assert_eq!(rig.browser.facts().capabilities["javascript.workers"], "unsupported");
    let mut running = rig.open(&instruments).await;
    let report = running.get(&pages.url("/")).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    running.seal_whole().await;
    let rows = rig.storage.rows(running.visit_id);
    running.end().await;
    rig.close().await;
    Seen {
        calls: rows.javascript().into_iter().cloned().collect(),
        cuts: rows.truncations().into_iter().filter(|t| t.table_name == "javascript").cloned().collect(),
        said: serde_json::from_slice(&pages.hits("/done")[0].body).unwrap(),
        scripts: rows.scripts().into_iter().map(|s| s.url.clone()).collect(),
        origin: pages.url(""),
    }
}

/// I7, M13: values, arguments, failures and call sites, with nothing replaced.
#[tokio::test]
async fn calls_are_rows_and_nothing_is_replaced() {
    let seen = visit(
        r#"<canvas id=c></canvas><script>
function outer() { return navigator.userAgent; }
const own = { agent: outer() };
document.cookie = "a=1";
const c = document.getElementById("c");
c.getContext("2d").fillText("\ud83d\ude00", 1, 2);
[1].map(function inner() { return c.toDataURL("image/png"); });
eval("navigator.platform");
new OfflineAudioContext(1, 64, 44100);
const getter = Object.getOwnPropertyDescriptor(Navigator.prototype, "userAgent").get;
try { getter.call({}); } catch (error) { own.error = error.stack; }
own.text = String(getter);
try { structuredClone(getter); } catch (error) { own.clone = error.message; }
const before = performance.now();
for (let i = 0; i < 20; i++) debugger;
own.went = true;
setTimeout(() => { screen.width; done(own); });
</script>"#,
        0,
    )
    .await;
    let rows: Vec<Value> = seen
        .calls
        .iter()
        .map(|c| json!([c.symbol, c.operation, c.func_name, c.script_line, c.arguments]))
        .collect();
    let expected = json!([
        ["window.navigator.userAgent", "get", "outer", "4", null],
        ["window.document.cookie", "set", null, "6", null],
        ["HTMLCanvasElement.getContext", "call", null, "8", "[\"2d\"]"],
        ["CanvasRenderingContext2D.fillText", "call", null, "8", "[\"\u{1f600}\",1,2]"],
        ["HTMLCanvasElement.toDataURL", "call", "inner", "9", "[\"image/png\"]"],
        ["window.navigator.platform", "get", "eval", "1", null],
        ["window.OfflineAudioContext", "call", null, "11", "[1,64,44100]"],
        ["window.navigator.userAgent", "get(failed)", null, "13", null],
        ["window.screen.width", "get", null, "19", null],
    ]);
    assert_eq!(json!(rows), expected, "{:#?}", seen.calls);
    let first = &seen.calls[0];
    assert_eq!(first.value.as_deref(), seen.said["agent"].as_str());
    assert_eq!(first.document_url.as_deref(), Some(format!("{}/", seen.origin).as_str()));
    assert_eq!(first.top_level_url, first.document_url);
    assert_eq!((first.frame_id, first.tab_id > 0, first.tampered), (0, true, false));
    let stack = seen.calls[1].call_stack.as_deref().unwrap();
    assert_eq!(stack.lines().count(), 1, "{stack}");
    assert_eq!(seen.said["text"], "function get userAgent() { [native code] }");
    assert!(seen.said["clone"].as_str().unwrap().contains("function get userAgent() { [native code] }"));
    assert_eq!(seen.said["error"].as_str().unwrap().lines().count(), 2, "{}", seen.said);
    assert_eq!(seen.said["went"], true);
    assert_eq!(seen.cuts, []);
    let strange: Vec<&String> = seen.scripts.iter().filter(|url| !url.starts_with(&seen.origin)).collect();
    assert_eq!(strange, [""], "what is evaluated for the recording is no script of the page's; its eval is");
}

/// I3: the functions of realms that were just made, whichever way, and of documents in other processes.
#[tokio::test]
async fn calls_through_new_realms_are_seen() {
    let seen = visit(
        r#"<body><script>
const kinds = {
  blank: {}, src: { src: "/child" }, srcdoc: { srcdoc: "<p>" }, script: { src: "javascript:1" },
  sandbox: { sandbox: "allow-same-origin" }, hash: { src: "about:blank#x" },
  blob: { src: URL.createObjectURL(new Blob(["<p>"], { type: "text/html" })) },
};
let ready = 0;
addEventListener("error", ({ message, lineno }) => done({ failed: message, lineno }));
addEventListener("message", () => { if (++ready === 3) done({ made: names.length }); });
const names = [];
const use = (name, realm) => {
  names.push(name);
  realm.Storage.prototype.getItem.call(localStorage, name);
};
for (const [kind, attributes] of Object.entries(kinds)) {
  for (const way of ["window", "index"]) {
    const frame = document.createElement("iframe");
    for (const [name, value] of Object.entries(attributes)) frame.setAttribute(name, value);
    document.body.append(frame);
    use(`${kind} ${way}`, way === "window" ? frame.contentWindow : window[window.length - 1]);
  }
}
use("popup", window.open("about:blank"));
const far = document.createElement("iframe");
far.src = location.href.replace("localhost", "127.0.0.1") + "child";
document.body.append(far);
</script>"#,
        0,
    )
    .await;
    assert_eq!(seen.said["failed"], Value::Null, "{}", seen.said);
    let mut ways: BTreeMap<String, u32> = BTreeMap::new();
    for call in seen.calls.iter().filter(|c| c.symbol == "Storage.getItem") {
        *ways.entry(call.arguments.clone().unwrap()).or_default() += 1;
    }
    let inside = ways.remove("[\"inside\"]");
    assert_eq!(inside, Some(3), "{ways:?}");
    let far = |c: &&JavascriptCall| c.document_url.as_deref().is_some_and(|u| u.contains("127.0.0.1"));
    assert_eq!(seen.calls.iter().filter(far).count(), 2, "localStorage and its getItem: {:#?}", seen.calls);
    assert_eq!(ways.len() as u64, seen.said["made"].as_u64().unwrap(), "{ways:?}");
    assert!(ways.values().all(|n| *n == 1), "{ways:?}");
    // The first document of a popup cannot wait for its recorder.
    assert!(!seen.cuts.is_empty(), "the popup is marked");
    for cut in &seen.cuts {
        assert_eq!((cut.reason.as_str(), cut.subject.as_deref()), ("bypass_possible", Some("about:blank")));
    }
}

/// I12
#[tokio::test]
async fn beyond_the_limit_calls_are_counted_exactly() {
    let seen = visit(
        "<script>for (let i = 0; i < 3000; i++) navigator.userAgent; setTimeout(() => done({}));</script>",
        1000,
    )
    .await;
    assert_eq!(seen.calls.len(), 1000);
    let counted: Vec<_> =
        seen.cuts.iter().map(|t| (t.reason.as_str(), t.subject.as_deref(), t.dropped_rows)).collect();
    assert_eq!(counted, [("symbol_limit", Some("window.navigator.userAgent"), 2000)]);
}
