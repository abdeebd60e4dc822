//! JavaScript in workers of every kind, on a real Chromium: the engine alone, with a storage in memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sonde_browser::Config;
use sonde_browser::engine::chromium::Chromium;
use sonde_browser::engine::{Engine, Fate, LaunchSpec, Progress, Scripts, VisitSetup};
use sonde_browser::uplink::{Bounds, SealParts, Uplink};
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{JavascriptCall, SiteVisit, Truncation};
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowserSpec, Command, CommandStatus, GetCommand, Instruments};
use support::{MemoryStorage, SOON};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

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

struct Server {
    url: String,
    said: Arc<Mutex<Value>>,
}

async fn serve() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let said = Arc::new(Mutex::new(Value::Null));
    let (over, _) = watch::channel(false);
    let (kept, over) = (said.clone(), Arc::new(over));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A browser that goes away wants no answer.
            tokio::spawn(answer(stream, kept.clone(), over.clone()));
        }
    });
    Server { url, said }
}

async fn answer(
    mut stream: TcpStream,
    said: Arc<Mutex<Value>>,
    over: Arc<watch::Sender<bool>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let path = head.split(' ').nth(1)?.to_owned();
    if path == "/done" {
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        *said.lock().unwrap() = serde_json::from_slice(&body).ok()?;
        over.send_replace(true);
    }
    if path == "/wait.js" {
        over.subscribe().wait_for(|over| *over).await.ok()?;
    }
    let body = FILES.iter().find(|(at, _)| *at == path).map_or("", |(_, body)| body);
    let kind = if path.ends_with(".js") { "text/javascript" } else { "text/html" };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok()
}

/// Rows of one visit of the page, in the order of their stream, and what its workers said.
async fn visit(instruments: &Instruments) -> (Vec<JavascriptCall>, Vec<Truncation>, Value) {
    let server = serve().await;
    let storage = MemoryStorage::start().await;
    let uplink = Uplink::start(storage.channel(), Bounds::default(), CancellationToken::new());
    let run_dir = tempfile::tempdir().unwrap();
    let config = Config {
        no_sandbox: rustix::process::geteuid().is_root(),
        run_dir: Some(run_dir.path().to_owned()),
        ..Config::default()
    };
    let engine = Arc::new(Chromium::new(&config, uplink.clone()).unwrap());
    let spec = LaunchSpec::new(&BrowserSpec::default(), Scripts::of(instruments));
    let browser = engine.launch(spec).await.unwrap();
    assert_eq!(browser.facts().capabilities["javascript.workers"], "observed");
    let attempt = uplink.attempt(1, 1);
    attempt
        .open(SiteVisit { visit_id: 1, fence: 1, ..SiteVisit::default() }, Instant::now() + SOON)
        .await
        .unwrap();
    let setup = VisitSetup {
        uplink: attempt.clone(),
        instruments: instruments.clone(),
        site_url: server.url.clone(),
        max_body_bytes: 1 << 20,
        deadline: Instant::now() + SOON,
        progress: Progress::new().0,
    };
    let mut visit = browser.clone().open_visit(setup).await.unwrap();
    let get = Step::Get(GetCommand { url: server.url.clone(), ..GetCommand::default() });
    let report =
        visit.run(0, &Command { step: Some(get), ..Command::default() }, Instant::now() + SOON * 2).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    let ending = timeout(SOON, visit.finish(Instant::now() + SOON)).await.unwrap();
    assert_eq!((ending.devtools.as_deref(), ending.incomplete_reason.as_str()), (Some(""), ""), "{ending:?}");
    attempt.flushed(Instant::now() + SOON).await.unwrap();
    let parts = SealParts { devtools: ending.devtools, sessions: ending.sessions, ..SealParts::default() };
    assert!(attempt.seal(parts, Instant::now() + SOON).await.unwrap().complete);
    assert_eq!(visit.dispose(Instant::now() + SOON).await, Fate::Keep);
    browser.close(Duration::from_secs(5)).await;
    let (mut calls, mut truncations) = (Vec::new(), Vec::new());
    for row in storage.rows(1) {
        match row {
            Row::Javascript(call) if call.frame_id == -1 => calls.push(call),
            Row::Truncation(row) if row.table_name == "javascript" => truncations.push(row),
            _ => {}
        }
    }
    let said = server.said.lock().unwrap().clone();
    (calls, truncations, said)
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
        flooding.tab_id > 0 && flooding.top_level_url.as_deref().unwrap().starts_with("http://127.0.0.1")
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
