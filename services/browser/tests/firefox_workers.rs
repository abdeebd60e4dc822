//! JavaScript in workers on a real Firefox, whose extension puts its hooks before their scripts.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sonde_browser::FirefoxCapture;
use sonde_browser::engine::Scripts;
use sonde_proto::digest::hex;
use sonde_proto::record::v1::{HttpResponse, JavascriptCall, Truncation};
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, CommandStatus, Instruments};
use support::firefox::assert_nothing_left;
use support::pages::{Asked, Pages, reply};
use support::rig::Rig;
use tokio::sync::watch;
use tokio::time::Instant;

/// Its load event waits for /wait.js, which waits for POST /done with what the workers said.
const PAGE: &str = r#"<!doctype html><link rel=icon href="data:,"><script async src="/wait.js"></script><script>
const said = {}, kept = [];
// Firefox may collect a worker that nothing refers to before it asks for its script.
const keep = (made) => kept[kept.push(made) - 1], worker = (...how) => keep(new Worker(...how));
const names = ["dedicated", "module", "strict", "moved", "closing", "attack", "shared", "service", "stopped"];
const from = (name) => ({ data }) => {
  said[name] = data;
  if (names.every((name) => name in said)) fetch("/done", { method: "POST", body: JSON.stringify(said) });
};
for (const name of ["dedicated", "strict", "moved", "closing", "attack"]) worker(`/${name}.js`).onmessage = from(name);
worker("/module.js", { type: "module" }).onmessage = from("module");
const stopped = new Worker("/stopped.js");
stopped.onmessage = () => { stopped.terminate(); from("stopped")({ data: 1 }); };
keep(new SharedWorker("/shared.js")).port.onmessage = from("shared");
navigator.serviceWorker.onmessage = from("service");
navigator.serviceWorker.register("/service.js").then(() => navigator.serviceWorker.ready)
  .then(({ active }) => active.postMessage("hello"));
</script>"#;

/// Left once its service worker is there.
const FIRST: &str = r#"<!doctype html><link rel=icon href="data:,"><script async src="/stay.js"></script><script>
navigator.serviceWorker.register("/through.js").then(() => navigator.serviceWorker.ready)
  .then(() => fetch("/left", { method: "POST" }));
</script>"#;

/// Its requests, and its worker's script, go by the service worker that the page before it left.
const SECOND: &str = r#"<!doctype html><link rel=icon href="data:,"><script async src="/wait.js"></script><script>
const message = (target) => new Promise((end) => { target.onmessage = ({ data }) => end(data); });
(async () => {
  const controlled = navigator.serviceWorker.controller !== null;
  const registration = await navigator.serviceWorker.ready;
  await registration.update();
  const same = registration.installing === null && registration.waiting === null;
  registration.active.postMessage("hello");
  await message(navigator.serviceWorker);
  const strict = await message(window.kept = new Worker("/strict.js"));
  await fetch("/done", { method: "POST", body: JSON.stringify({ controlled, same, strict }) });
})();
</script>"#;

const DEDICATED: &str = r#"navigator.userAgent;
function flood() { for (let i = 0; i < 5000; i++) navigator.hardwareConcurrency; }
flood();
importScripts("/imported.js");
eval("navigator.language;");
const getter = Object.getOwnPropertyDescriptor(WorkerNavigator.prototype, "userAgent").get;
const said = { text: String(getter), name: getter.name };
performance.mark("\ud800 \u{1f600}");
const nested = new Worker("/nested.js");
nested.onmessage = () => {
  setTimeout(() => { navigator.languages; postMessage(said); });
};"#;

/// Replaces what hooks could use to tell of its calls, and looks for traces of them.
const ATTACK: &str = r#"let heard = 0;
const spy = (owner, name) => { const was = owner[name]; owner[name] = function (...args) { heard++; return was.apply(this, args); }; };
spy(BroadcastChannel.prototype, "postMessage"); spy(EventTarget.prototype, "dispatchEvent"); spy(EventTarget.prototype, "addEventListener");
spy(Promise.prototype, "then"); spy(JSON, "stringify"); spy(Map.prototype, "get"); spy(String.prototype, "slice");
Object.defineProperty(Array.prototype, 0, { set() { heard++; }, configurable: true });
Object.defineProperty(Object.prototype, "value", { get() { heard++; }, configurable: true });
self.BroadcastChannel = class { constructor() { heard++; } };
onmessage = onmessageerror = () => { heard++; };
for (let i = 0; i < 7; i++) navigator.platform;
setTimeout(async () => {
  const count = heard;
  delete Array.prototype[0]; delete Object.prototype.value;
  const source = await (await fetch(location.href)).text();
  postMessage({ count, source, keys: Reflect.ownKeys(self).map(String).filter((key) => /sonde/i.test(key)) });
}, 50);"#;

const STRICT: &str = "/* a */ 'use strict'; navigator.platform; postMessage((function () { return this === undefined; })());\nnavigator.platform;";

const FILES: &[(&str, &str)] = &[
    ("/", PAGE),
    ("/dedicated.js", DEDICATED),
    ("/first", FIRST),
    ("/second", SECOND),
    (
        "/through.js",
        "onfetch = () => {}; onmessage = ({ source }) => { navigator.language; source.postMessage(1); };",
    ),
    ("/imported.js", "navigator.onLine;"),
    ("/nested.js", "navigator.product; postMessage(1);"),
    ("/module.js", "import '/part.js'; navigator.appCodeName; postMessage(this === undefined);"),
    ("/part.js", "navigator.appVersion;"),
    ("/strict.js", STRICT),
    ("/target.js", "navigator.appName; postMessage(location.pathname);"),
    ("/closing.js", "navigator.product; postMessage(1); navigator.platform; close(); navigator.language;"),
    ("/attack.js", ATTACK),
    ("/stopped.js", "navigator.product; postMessage(1);"),
    ("/shared.js", "navigator.hardwareConcurrency; onconnect = ({ ports: [port] }) => port.postMessage(1);"),
    (
        "/service.js",
        "navigator.product; onmessage = ({ source }) => { navigator.platform; source.postMessage(1); };",
    ),
];

async fn serve() -> Pages {
    let ((over, gate), (left, stay)) = (watch::channel(false), watch::channel(false));
    let answer = move |asked: &Asked, _| match asked.path.as_str() {
        path @ ("/done" | "/left") => {
            (if path == "/done" { &over } else { &left }).send_replace(true);
            Some(reply("text/plain", ""))
        }
        path @ ("/wait.js" | "/stay.js") => {
            Some(reply("text/javascript", "").once(if path == "/wait.js" { &gate } else { &stay }))
        }
        "/moved.js" => Some(reply("", "").status("302 Found").header("Location", "/target.js")),
        path => {
            let kind = if path.ends_with(".js") { "text/javascript" } else { "text/html" };
            let (_, body) = FILES.iter().find(|(at, _)| *at == path)?;
            // The workers may ask for nothing; but for one that asks for its own script.
            let policy = if path == "/attack.js" || !path.ends_with(".js") { "'self'" } else { "'none'" };
            let csp = format!("connect-src {policy}; script-src 'self' 'unsafe-inline' 'unsafe-eval'");
            Some(reply(kind, *body).header("Content-Security-Policy", &csp))
        }
    };
    Pages::start(answer).await
}

struct Seen {
    calls: Vec<JavascriptCall>,
    truncations: Vec<Truncation>,
    responses: Vec<HttpResponse>,
    said: Value,
    end: Duration,
}

async fn visit(paths: &[&str], instruments: &Instruments, capture: FirefoxCapture) -> Seen {
    let pages = serve().await;
    let spec = BrowserSpec { kind: BrowserKind::Firefox.into(), ..BrowserSpec::default() };
    let scripts = Scripts::of_kind(BrowserKind::Firefox, instruments);
    let rig = Rig::configured(spec, scripts, |config| config.firefox_capture = capture).await;
    for (group, state) in [("workers", "observed"), ("local_workers", "unsupported")] {
        assert_eq!(rig.browser.facts().capabilities[&format!("javascript.{group}")], state);
    }
    let mut running = rig.open(instruments).await;
    for path in paths {
        let report = running.get(&pages.url(path)).await;
        assert_eq!(report.status, CommandStatus::Ok, "{path}: {report:?}");
    }
    let before = Instant::now();
    let rows = rig.finish(&mut running).await;
    let end = before.elapsed();
    running.end().await;
    rig.browser.clone().close(Duration::from_secs(5)).await;
    assert_nothing_left(rig.run_dir.path()).await;
    Seen {
        calls: rows.javascript().into_iter().filter(|c| c.frame_id == -1).cloned().collect(),
        truncations: rows
            .truncations()
            .into_iter()
            .filter(|t| t.table_name == "javascript")
            .cloned()
            .collect(),
        responses: rows.responses().into_iter().cloned().collect(),
        said: serde_json::from_slice(&pages.hits("/done")[0].body).unwrap(),
        end,
    }
}

/// The symbols of each worker's calls, those that follow each other alike once; ordinals are contiguous.
fn by_worker(calls: &[JavascriptCall]) -> BTreeMap<&str, Vec<&str>> {
    let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for call in calls {
        let worker = call.document_url.as_deref().unwrap().rsplit('/').next().unwrap();
        let symbols = seen.entry(worker).or_default();
        assert_eq!(call.page_scoped_event_ordinal, symbols.len() as i64, "{call:?}");
        symbols.push(call.symbol.strip_prefix("window.navigator.").unwrap_or(&call.symbol));
    }
    let flood = seen["dedicated.js"].iter().filter(|name| **name == "hardwareConcurrency").count();
    assert_eq!(flood, 5000);
    assert_eq!(seen["attack.js"], ["platform"; 7], "I1: nothing is kept back");
    for symbols in seen.values_mut() {
        symbols.dedup();
    }
    seen
}

fn instruments(network: bool) -> Instruments {
    Instruments {
        javascript: true,
        javascript_settings: r#"["collection_fingerprinting", {"window.performance": ["mark"]}]"#.to_owned(),
        http: network,
        save_content: if network { vec!["all".to_owned()] } else { Vec::new() },
        ..Instruments::default()
    }
}

fn assert_sound(seen: &Seen) {
    let Seen { calls, truncations, said, end, .. } = seen;
    let expected = json!({
        "dedicated.js": [
            "userAgent", "hardwareConcurrency", "onLine", "language", "window.performance.mark", "languages",
        ],
        "nested.js": ["product"],
        "module.js": ["appVersion", "appCodeName"],
        "strict.js": ["platform"],
        "target.js": ["appName"],
        "closing.js": ["product", "platform", "language"],
        "attack.js": ["platform"],
        "stopped.js": ["product"],
        "shared.js": ["hardwareConcurrency"],
        "service.js": ["product", "platform"],
    });
    assert_eq!(json!(by_worker(calls)), expected);
    let mark = calls.iter().find(|c| c.symbol == "window.performance.mark").unwrap();
    assert_eq!(mark.arguments.as_deref(), Some("[\"\\ud800 \u{1f600}\"]"));
    let text = "function userAgent() {\n    [native code]\n}";
    assert_eq!(said["dedicated"], json!({ "text": text, "name": "get userAgent" }));
    assert_eq!(
        (&said["strict"], &said["module"], &said["moved"]),
        (&json!(true), &json!(true), &json!("/target.js"))
    );
    let attack = &said["attack"];
    assert_eq!(
        (&attack["count"], &attack["keys"], &attack["source"]),
        (&json!(0), &json!([]), &json!(ATTACK)),
        "I2, I6"
    );
    let of = |worker: &str, name: &str| {
        let made = |c: &&JavascriptCall| {
            c.document_url.as_deref().unwrap().ends_with(worker) && c.symbol.ends_with(name)
        };
        calls.iter().filter(made).collect::<Vec<_>>()
    };
    let site = |c: &JavascriptCall| {
        (c.func_name.clone(), c.script_line.clone().unwrap(), c.script_col.clone().unwrap())
    };
    let flooding = of("dedicated.js", "hardwareConcurrency")[0];
    assert_eq!((site(flooding).0.as_deref(), site(flooding).1.as_str()), (Some("flood"), "2"));
    assert!(of("dedicated.js", "onLine")[0].script_url.as_deref().unwrap().ends_with("/imported.js"));
    let [first, second] = of("strict.js", "platform")[..] else { panic!("{calls:?}") };
    let (first, second) = (site(first), site(second));
    assert_eq!((first.1.as_str(), second.1.as_str()), ("1", "2"));
    let column = |site: &(Option<String>, String, String)| site.2.parse::<usize>().unwrap();
    assert_eq!(
        column(&first),
        column(&second) + STRICT.find("navigator").unwrap(),
        "of the script as it came"
    );
    for (worker, name) in [("target.js", "appName"), ("module.js", "appVersion"), ("stopped.js", "product")] {
        let [call] = of(worker, name)[..] else { panic!("{calls:?}") };
        assert_eq!(column(&site(call)), column(&second), "{call:?}");
    }
    for dedicated in ["dedicated.js", "nested.js", "module.js"] {
        let call = calls.iter().find(|c| c.document_url.as_deref().unwrap().ends_with(dedicated)).unwrap();
        assert!(
            call.tab_id > 0 && call.top_level_url.as_deref().unwrap().starts_with("http://localhost"),
            "{call:?}"
        );
    }
    for other in ["shared.js", "service.js"] {
        let call = calls.iter().find(|c| c.document_url.as_deref().unwrap().ends_with(other)).unwrap();
        assert_eq!((call.tab_id, call.top_level_url.as_deref()), (-1, None), "{call:?}");
    }
    assert_eq!(truncations, &[]);
    assert!(*end < Duration::from_secs(10), "workers that have ended held the end of the visit: {end:?}");
}

/// M13, I1, I2, I3, I18: dedicated (classic, module, nested, redirected, strict), shared and service workers, from their
/// first statement on, with their bodies as the site sent them.
#[tokio::test]
async fn calls_in_workers_are_rows_and_bodies_stay_what_they_were() {
    let seen = visit(&["/"], &instruments(true), FirefoxCapture::Wrapped).await;
    assert_sound(&seen);
    let hash = |body: &str| hex(&Sha256::digest(body));
    for (path, body) in FILES.iter().filter(|(path, _)| path.ends_with(".js")) {
        let answers =
            seen.responses.iter().filter(|r| r.url.ends_with(path) && r.response_status == Some(200));
        for answer in answers {
            assert_eq!(answer.content_hash.as_deref(), Some(hash(body).as_str()), "{path}: {answer:?}");
            assert_eq!(answer.body_bytes, Some(body.len() as i64), "{path}");
        }
    }
}

/// M13: the same where the network is not recorded, and in the other capture mode.
#[tokio::test]
async fn workers_are_recorded_without_the_network() {
    assert_sound(&visit(&["/"], &instruments(false), FirefoxCapture::Exported).await);
}

/// I12, M18
#[tokio::test]
async fn beyond_the_limit_calls_in_workers_are_counted_exactly() {
    let limited = Instruments { javascript_limit: 100, ..instruments(false) };
    let Seen { calls, truncations, .. } = visit(&["/"], &limited, FirefoxCapture::Wrapped).await;
    let flood = |c: &&JavascriptCall| {
        c.symbol == "window.navigator.hardwareConcurrency"
            && c.document_url.as_deref().unwrap().ends_with("/dedicated.js")
    };
    assert_eq!(calls.iter().filter(flood).count(), 100);
    let [limit] = &truncations[..] else { panic!("{truncations:?}") };
    assert_eq!((limit.reason.as_str(), limit.dropped_rows, limit.limit_value), ("symbol_limit", 4900, 100));
}

/// M13, I18: what a service worker does for a later document is heard by that one; the hooks make no new version of it,
/// and are in the scripts that it lets pass.
#[tokio::test]
async fn a_service_worker_is_heard_by_the_next_document() {
    let Seen { calls, truncations, said, .. } =
        visit(&["/first", "/second"], &instruments(true), FirefoxCapture::Wrapped).await;
    assert_eq!(said, json!({ "controlled": true, "same": true, "strict": true }));
    let of = |worker: &str| {
        let calls = calls.iter().filter(|c| c.document_url.as_deref().unwrap().ends_with(worker));
        calls.map(|c| c.symbol.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("/through.js"), ["window.navigator.language"]);
    assert_eq!(of("/strict.js"), ["window.navigator.platform"; 2]);
    assert_eq!(truncations, &[]);
}
