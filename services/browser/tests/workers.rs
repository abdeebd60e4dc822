//! JavaScript in workers of every kind, on a real Chromium: the engine alone, with a storage in memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sonde_browser::engine::Scripts;
use sonde_proto::record::v1::{JavascriptCall, Truncation};
use sonde_proto::visit::v1::{CommandStatus, Instruments};
use support::pages::{Asked, Pages, reply};
use support::rig::Rig;
use tokio::sync::watch;

/// Its load event waits for /wait.js, which waits for POST /done with what the workers said.
const PAGE: &str = r#"<!doctype html><link rel=icon href="data:,"><script async src="/wait.js"></script><script>
const said = {};
let left = 6;
const from = (name) => ({ data }) => {
  said[name] = data;
  if (--left === 0) fetch("/done", { method: "POST", body: JSON.stringify(said) });
};
new Worker("/dedicated.js").onmessage = from("dedicated");
new Worker("/module.js", { type: "module" }).onmessage = from("module");
new Worker(URL.createObjectURL(new Blob(["navigator.platform; postMessage(1)"]))).onmessage = from("blob");
new Worker("data:text/javascript,navigator.appName; postMessage(1)").onmessage = from("data");
new SharedWorker("/shared.js").port.onmessage = from("shared");
navigator.serviceWorker.onmessage = from("service");
navigator.serviceWorker.register("/service.js").then(() => navigator.serviceWorker.ready)
  .then(({ active }) => active.postMessage("hello"));
</script>"#;

const DEDICATED: &str = r#"navigator.userAgent;
function flood() { for (let i = 0; i < 5000; i++) navigator.hardwareConcurrency; }
flood();
importScripts("/imported.js");
eval("navigator.language;");
const getter = Object.getOwnPropertyDescriptor(WorkerNavigator.prototype, "userAgent").get;
let thrown;
try { getter.call({}); } catch (error) { thrown = error.stack; }
const said = { text: String(getter), name: getter.name, thrown, own: Object.getOwnPropertyNames(self).length };
performance.mark("\ud800 \u{1f600}");
new Worker("/nested.js").onmessage = () => {
  setTimeout(() => { navigator.languages; postMessage(said); });
};"#;

const FILES: &[(&str, &str)] = &[
    ("/", PAGE),
    ("/dedicated.js", DEDICATED),
    ("/imported.js", "navigator.onLine;"),
    ("/nested.js", "navigator.product; postMessage(1);"),
    ("/module.js", "import '/part.js'; navigator.appCodeName; postMessage(1);"),
    ("/part.js", "navigator.appVersion;"),
    ("/shared.js", "navigator.deviceMemory; onconnect = ({ ports: [port] }) => port.postMessage(1);"),
    (
        "/service.js",
        "navigator.product; onmessage = ({ source }) => { navigator.platform; source.postMessage(1); };",
    ),
];

async fn serve() -> Pages {
    let (over, gate) = watch::channel(false);
    let answer = move |asked: &Asked, _| match asked.path.as_str() {
        "/done" => {
            over.send_replace(true);
            Some(reply("text/plain", ""))
        }
        "/wait.js" => Some(reply("text/javascript", "").once(&gate)),
        path => {
            let kind = if path.ends_with(".js") { "text/javascript" } else { "text/html" };
            FILES.iter().find(|(at, _)| *at == path).map(|(_, body)| reply(kind, *body))
        }
    };
    Pages::start(answer).await
}

/// Rows of one visit of the page, in the order of their stream, and what its workers said.
async fn visit(instruments: &Instruments) -> (Vec<JavascriptCall>, Vec<Truncation>, Value) {
    let pages = serve().await;
    let rig = Rig::with(Scripts::of(instruments), &[]).await;
    assert_eq!(rig.browser.facts().capabilities["javascript.workers"], "observed");
    let mut running = rig.open(instruments).await;
    let report = running.get(&pages.url("/")).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    let rows = rig.finish(&mut running).await;
    running.end().await;
    rig.close().await;
    let calls = rows.javascript().into_iter().filter(|c| c.frame_id == -1).cloned().collect();
    let cuts = rows.truncations().into_iter().filter(|t| t.table_name == "javascript").cloned().collect();
    let said = serde_json::from_slice(&pages.hits("/done")[0].body).unwrap();
    (calls, cuts, said)
}

/// M13: dedicated (classic, module, blob, data, nested), shared and service workers, from their first statement on.
#[tokio::test]
async fn calls_in_workers_of_every_kind_are_rows() {
    let settings = r#"["collection_fingerprinting", {"window.performance": ["mark"]}]"#;
    let instruments =
        Instruments { javascript: true, javascript_settings: settings.to_owned(), ..Instruments::default() };
    let (calls, truncations, said) = visit(&instruments).await;
    let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for call in &calls {
        let url = call.document_url.as_deref().unwrap();
        let (scheme, rest) = url.split_once(':').unwrap();
        let worker = if scheme == "http" { rest.rsplit('/').next().unwrap() } else { scheme };
        let symbols = seen.entry(worker).or_default();
        assert_eq!(call.page_scoped_event_ordinal, symbols.len() as i64, "{call:?}");
        symbols.push(call.symbol.strip_prefix("window.navigator.").unwrap_or(&call.symbol));
    }
    let flood = seen["dedicated.js"].iter().filter(|name| **name == "hardwareConcurrency").count();
    assert_eq!(flood, 5000);
    for symbols in seen.values_mut() {
        symbols.dedup();
    }
    let expected = json!({
        "dedicated.js": [
            "userAgent", "hardwareConcurrency", "onLine", "language", "userAgent", "window.performance.mark", "languages",
        ],
        "nested.js": ["product"],
        "module.js": ["appVersion", "appCodeName"],
        "blob": ["platform"],
        "data": ["appName"],
        "shared.js": ["deviceMemory"],
        "service.js": ["product", "platform"],
    });
    assert_eq!(json!(seen), expected);
    let mark = calls.iter().find(|c| c.symbol == "window.performance.mark").unwrap();
    assert_eq!(mark.arguments.as_deref(), Some("[\"\\ud800 \u{1f600}\"]"));
    assert_eq!(said["dedicated"]["text"], "function get userAgent() { [native code] }");
    assert_eq!(said["dedicated"]["name"], "get userAgent");
    assert!(said["dedicated"]["thrown"].as_str().unwrap().contains("dedicated.js:8:"), "{said}");
    assert_eq!(said["dedicated"]["thrown"].as_str().unwrap().lines().count(), 2, "{said}");
    let of = |worker: &str, name: &str| {
        calls
            .iter()
            .find(|c| c.document_url.as_deref().unwrap().ends_with(worker) && c.symbol.ends_with(name))
            .unwrap()
    };
    let flooding = of("dedicated.js", "hardwareConcurrency");
    assert_eq!((flooding.func_name.as_deref(), flooding.script_line.as_deref()), (Some("flood"), Some("2")));
    assert!(of("dedicated.js", "onLine").script_url.as_deref().unwrap().ends_with("/imported.js"));
    assert!(
        flooding.tab_id > 0 && flooding.top_level_url.as_deref().unwrap().starts_with("http://localhost")
    );
    assert!(of("nested.js", "product").tab_id > 0);
    assert_eq!(truncations, []);
}

/// I12, M18
#[tokio::test]
async fn beyond_the_limit_calls_in_workers_are_counted_exactly() {
    let instruments =
        Instruments { javascript: true, javascript_limit: 100, http: true, ..Instruments::default() };
    let (calls, truncations, _) = visit(&instruments).await;
    let flood = calls.iter().filter(|c| c.symbol == "window.navigator.hardwareConcurrency").count();
    assert_eq!(flood, 100);
    let [limit] = &truncations[..] else { panic!("{truncations:?}") };
    assert_eq!((limit.reason.as_str(), limit.dropped_rows, limit.limit_value), ("symbol_limit", 4900, 100));
    assert_eq!(limit.subject.as_deref(), Some("window.navigator.hardwareConcurrency"));
}
