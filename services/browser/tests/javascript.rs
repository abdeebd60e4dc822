//! The JavaScript instrument against a real Chromium: what each setting promises is what arrives, row for row.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::extension::chromium::{Arrived, Rig, done, serve};
use support::pages::Pages;

/// A script error ends the page at once, and is what it leaves.
const ICON: &str = "<!doctype html><link rel=icon href='data:,'><script>{ const { stringify } = JSON; onerror = (message) => {\
  document.documentElement.dataset.out = stringify({ error: message });\
  document.documentElement.dataset.done = 'x'; } }</script>";

/// Serves one page at /, and something empty elsewhere.
async fn page(body: &str) -> Pages {
    let body: &'static str = Box::leak(format!("{ICON}{body}").into_boxed_str());
    serve(Box::leak(Box::new([("/", body)]))).await
}

/// What a page of these settings leaves in `data-out`, and what arrived.
async fn visit(rig: &mut Rig, body: &str) -> (Value, Arrived) {
    let pages = page(body).await;
    let (page, arrived) = rig.visit(1, &pages.url("/"), &done("x")).await;
    let out = rig.until(&page, "document.documentElement.dataset.out ?? '{}'").await;
    (serde_json::from_str(out.as_str().unwrap()).unwrap(), arrived)
}

const END: &str = "document.documentElement.dataset.out = JSON.stringify(out);
document.documentElement.dataset.done = 'x';";

/// M13
#[tokio::test(flavor = "multi_thread")]
async fn each_setting_gives_exactly_its_rows() {
    let settings = json!([
        { "window.screen": ["width"] },
        { "Storage": { "excludedProperties": ["setItem"] } },
        { "window.document": { "propertiesToInstrument": ["cookie"], "logCallStack": true } },
        { "window.navigator": {
            "propertiesToInstrument": null, "nonExistingPropertiesToInstrument": ["imaginary"] } },
        { "EventTarget": { "propertiesToInstrument": ["removeEventListener"], "logFunctionsAsStrings": true } },
        { "HTMLCanvasElement": {
            "propertiesToInstrument": ["toDataURL", "width"], "logFunctionGets": true, "preventSets": true } },
        { "window.performance": { "propertiesToInstrument": ["timing", "now"], "recursive": true, "depth": 1 } },
        { "window": ["atob", "OfflineAudioContext", "RTCPeerConnection"] },
    ]);
    let mut rig = Rig::recording(&settings).await;
    let body = format!(
        r#"<script>
const out = {{}};
screen.width; screen.height;
localStorage.setItem("k", "v"); localStorage.getItem("k"); localStorage.length; sessionStorage.clear();
document.cookie = "a=1"; document.cookie; document.referrer;
navigator.userAgent; navigator.imaginary; navigator.imaginary = 5; navigator.imaginary;
function handler() {{ return 42; }}
document.removeEventListener("z", handler);
const canvas = document.createElement("canvas");
const read = canvas.toDataURL;
out.same = canvas.toDataURL === read;
read.call(canvas, "image/webp").length;
HTMLCanvasElement.prototype.toDataURL = 5;
out.kept = canvas.toDataURL === read;
canvas.width = 7; canvas.width;
try {{ canvas.width = Symbol("s"); }} catch (error) {{ out.failed = error.constructor.name; }}
try {{ Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, "width").get.call({{}}); }} catch (error) {{ out.failedGet = error.message; }}
performance.timing.navigationStart > 1e12; performance.now();
atob("eA==");
const context = new OfflineAudioContext(1, 1, 44100);
out.constructor = [
  OfflineAudioContext.prototype.constructor === OfflineAudioContext, context instanceof OfflineAudioContext,
  context.constructor === OfflineAudioContext, OfflineAudioContext.name, OfflineAudioContext.toString(),
  webkitRTCPeerConnection === RTCPeerConnection && RTCPeerConnection.prototype.constructor === RTCPeerConnection,
  Object.getPrototypeOf(OfflineAudioContext) === BaseAudioContext,
];
{END}
</script>"#
    );
    let (out, arrived) = visit(&mut rig, &body).await;
    let mut lines = arrived.lines();
    for line in &mut lines {
        for prefix in ["get window.screen.width ", "get window.performance.timing.navigationStart "] {
            if line.starts_with(prefix) {
                *line = prefix.trim_end().to_owned();
            }
        }
    }
    assert_eq!(
        lines,
        [
            "get window.screen.width",
            r#"call Storage.getItem - ["k"]"#,
            "get Storage.length 1 -",
            "call Storage.clear - -",
            "set window.document.cookie a=1 -",
            "get window.document.cookie a=1 -",
            "get window.navigator.imaginary - -",
            "set window.navigator.imaginary 5 -",
            "get window.navigator.imaginary 5 -",
            r#"call EventTarget.removeEventListener - ["z","function handler() { return 42; }"]"#,
            "get(function) HTMLCanvasElement.toDataURL FUNCTION -",
            "get(function) HTMLCanvasElement.toDataURL FUNCTION -",
            r#"call HTMLCanvasElement.toDataURL - ["image/webp"]"#,
            "set(prevented) HTMLCanvasElement.toDataURL 5 -",
            "get(function) HTMLCanvasElement.toDataURL FUNCTION -",
            "set HTMLCanvasElement.width 7 -",
            "get HTMLCanvasElement.width 7 -",
            "set(failed) HTMLCanvasElement.width Symbol(s) -",
            "get(failed) HTMLCanvasElement.width - -",
            "get window.performance.timing.navigationStart",
            "call window.performance.now - -",
            r#"call window.atob - ["eA=="]"#,
            "call window.OfflineAudioContext - [1,1,44100]",
        ],
        "{out}"
    );
    assert_eq!(
        (&out["same"], &out["kept"], &out["failed"]),
        (&json!(true), &json!(true), &json!("TypeError"))
    );
    assert_eq!(out["failedGet"], "Illegal invocation");
    let native = "function OfflineAudioContext() { [native code] }";
    assert_eq!(
        out["constructor"],
        json!([true, true, true, "OfflineAudioContext", native, true, true]),
        "identities of a constructor"
    );
    let stacks: Vec<_> =
        arrived.calls().filter(|call| call.call_stack.is_some()).map(|c| c.symbol.as_str()).collect();
    assert_eq!(stacks, ["window.document.cookie"; 2]);
    let ordinals: Vec<_> = arrived.calls().map(|call| call.page_scoped_event_ordinal).collect();
    assert_eq!(ordinals, (0..23).collect::<Vec<_>>());
    assert_eq!(arrived.cookies().len(), 1);
    assert_eq!(arrived.truncations(), Vec::<&sonde_proto::record::v1::Truncation>::new());
    rig.close().await;
}

/// M13: all own and inherited properties, of the asked-for objects only.
#[tokio::test(flavor = "multi_thread")]
async fn inherited_properties_are_recorded_of_the_asked_for_objects_only() {
    let settings = json!(["HTMLCanvasElement", "AudioContext", "OfflineAudioContext", "window.localStorage"]);
    let mut rig = Rig::recording(&settings).await;
    let body = format!(
        r#"<script>
const out = {{}};
const canvas = document.createElement("canvas"), div = document.createElement("div");
div.append(canvas); div.setAttribute("a", "b"); div.style.width = "1px"; document.addEventListener("z", () => {{}});
canvas.setAttribute("a", "b"); canvas.nodeType; canvas.style; canvas.addEventListener("z", () => {{}});
new OfflineAudioContext(1, 1, 44100).sampleRate;
localStorage.setItem("a", "b"); sessionStorage.setItem("a", "b");
canvas.hasOwnProperty("x"); canvas.constructor;
out.text = [
  Node.prototype.appendChild, Element.prototype.setAttribute, EventTarget.prototype.addEventListener,
  Object.getOwnPropertyDescriptor(Node.prototype, "nodeType").get,
].map(String);
out.message = (() => {{ try {{ document.body.appendChild(1); }} catch (error) {{ return error.stack.split("\n").length; }} }})();
{END}
</script>"#
    );
    let (out, arrived) = visit(&mut rig, &body).await;
    assert_eq!(
        arrived.lines(),
        [
            r#"call HTMLCanvasElement.setAttribute - ["a","b"]"#,
            "get HTMLCanvasElement.nodeType 1 -",
            r#"get HTMLCanvasElement.style "[object CSSStyleDeclaration]" -"#,
            r#"call HTMLCanvasElement.addEventListener - ["z","FUNCTION"]"#,
            "get OfflineAudioContext.sampleRate 44100 -",
            r#"call window.localStorage.setItem - ["a","b"]"#,
        ]
    );
    assert_eq!(
        out["text"],
        json!([
            "function appendChild() { [native code] }",
            "function setAttribute() { [native code] }",
            "function addEventListener() { [native code] }",
            "function get nodeType() { [native code] }",
        ])
    );
    rig.close().await;
}

/// M13, M18
#[tokio::test(flavor = "multi_thread")]
async fn targets_that_are_not_there_are_named_together_and_the_others_work() {
    let settings = json!([
        "Nonsense",
        { "window.nowhere.at.all": ["x"] },
        "window.navigator",
        { "window.screen": ["width", "notThere"] },
        { "window": ["location", "eval", "name"] },
        "collection_extended",
    ]);
    let mut rig = Rig::recording(&settings).await;
    let body = format!(
        "<script>const out = {{}}; navigator.vendor; screen.width; eval('out.direct = 1'); name; {END}</script>"
    );
    let (out, arrived) = visit(&mut rig, &body).await;
    let missing: Vec<_> =
        arrived.ends[0].missing_targets.iter().map(|t| (t.object.as_str(), t.insecure)).collect();
    assert_eq!(missing, [("window['Nonsense'].prototype", false), ("window.nowhere.at.all", false)]);
    assert_eq!(arrived.count("get window.navigator.vendor"), 1);
    assert_eq!((arrived.count("get window.screen.width"), arrived.count("get window.name")), (1, 1));
    assert_eq!(out["direct"], 1, "eval is left as it is, or it would not be a direct one");
    let said: Vec<_> =
        arrived.truncations().iter().map(|t| (t.reason.as_str(), t.subject.as_deref().unwrap())).collect();
    assert_eq!(
        said,
        [
            ("not_replaceable", "window.location"),
            ("not_replaceable", "window.eval"),
            ("not_there", "window.screen.notThere"),
        ]
    );
    rig.close().await;
}

/// I12, M18
#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_calls_are_counted_exactly_in_each_document() {
    let mut rig = Rig::configured(None, |config| config.javascript_limit = 100).await;
    let body = format!(
        r#"<script>const out = {{}};
for (let i = 0; i < 1234; i++) navigator.vendor;
for (let i = 0; i < 100; i++) navigator.platform;
document.cookie = "a=1";
for (let i = 0; i < 150; i++) document.cookie = "b=" + i;
const frame = document.createElement("iframe"); document.documentElement.append(frame);
for (let i = 0; i < 107; i++) frame.contentWindow.navigator.vendor;
{END}</script>"#
    );
    let (_, arrived) = visit(&mut rig, &body).await;
    assert_eq!(arrived.count("get window.navigator.vendor"), 200);
    assert_eq!(arrived.count("get window.navigator.platform"), 100);
    assert_eq!(arrived.count("set window.document.cookie"), 100);
    assert_eq!(arrived.cookies().len(), 151, "cookies are rows of their own");
    let mut said: Vec<_> = arrived
        .truncations()
        .iter()
        .map(|t| (t.subject.clone().unwrap(), t.dropped_rows, t.limit_value, t.reason.as_str()))
        .collect();
    said.sort();
    let said: Vec<_> =
        said.iter().map(|(s, rows, limit, reason)| (s.as_str(), *rows, *limit, *reason)).collect();
    assert_eq!(
        said,
        [
            ("window.document.cookie", 51, 100, "symbol_limit"),
            ("window.navigator.vendor", 7, 100, "symbol_limit"),
            ("window.navigator.vendor", 1134, 100, "symbol_limit"),
        ]
    );
    rig.close().await;
}

/// I12
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_calls_are_a_hundred_thousand_rows() {
    let mut rig = Rig::start().await;
    let body = format!(
        "<script>const out = {{}}; for (let i = 0; i < 100000; i++) navigator.vendor; {END}</script>"
    );
    let (_, arrived) = visit(&mut rig, &body).await;
    assert_eq!(arrived.count("get window.navigator.vendor"), 100_000);
    assert_eq!(arrived.calls().count(), 100_000);
    assert!(arrived.truncations().is_empty());
    rig.close().await;
}

const TESTED: &str = r#"<script>
const out = { offered: typeof instrumentJS };
if (out.offered === "function") {
  window.test = { plain: "p", method(x) { return x + 1; }, below: { deeper: { deepest: 1 } }, list: [1] };
  instrumentJS([
    { object: window.test, instrumentedName: "window.test", logSettings: { recursive: true, depth: 1, nonExistingPropertiesToInstrument: ["no"] } },
  ]);
  const { test } = window;
  test.plain; test.plain = "q"; test.plain; test.method(1); test.method = (x) => x + 2; out.new = test.method(1);
  out.same = test.method === test.method;
  test.below.deeper; test.below.deeper.deepest; test.no; test.list[0];
  window.kept = { f() { return 1; }, o: {}, plain: 1 };
  instrumentJS([{ object: "window.kept", instrumentedName: "kept", logSettings: { preventSets: true, logFunctionGets: true } }]);
  const { kept } = window;
  kept.f = null; kept.o = null; kept.plain = 2; kept.f();
  try { instrumentJS([{ object: "window.a", instrumentedName: "a" }, { object: 5, instrumentedName: "b" }]); } catch (error) { out.bad = error.message; }
}
document.documentElement.dataset.out = JSON.stringify(out);
document.documentElement.dataset.done = "x";
</script>"#;

/// M13
#[tokio::test(flavor = "multi_thread")]
async fn pages_can_instrument_their_own_objects_in_testing_only() {
    let mut rig = Rig::start().await;
    let (out, arrived) = visit(&mut rig, TESTED).await;
    assert_eq!((out, arrived.calls().count()), (json!({ "offered": "undefined" }), 0));
    rig.close().await;
    let mut rig = Rig::configured(None, |config| config.testing = true).await;
    let (out, arrived) = visit(&mut rig, TESTED).await;
    assert_eq!((&out["new"], &out["same"]), (&json!(3), &json!(true)));
    assert_eq!(out["bad"], "JS instrumentation failed for a: window.a is no object; b: 5 is no object");
    assert_eq!(
        arrived.lines(),
        [
            "get window.test.plain p -",
            "set window.test.plain q -",
            "get window.test.plain q -",
            "call window.test.method - [1]",
            "set window.test.method FUNCTION -",
            "call window.test.method - [1]",
            // Its depth is spent: the object itself is the value.
            r#"get window.test.below.deeper {"deepest":1} -"#,
            r#"get window.test.below.deeper {"deepest":1} -"#,
            "get window.test.no - -",
            "get window.test.list.0 1 -",
            "set(prevented) kept.f null -",
            "set(prevented) kept.o null -",
            "set kept.plain 2 -",
            "get(function) kept.f FUNCTION -",
            "call kept.f - -",
        ]
    );
    rig.close().await;
}

const SITES: &str = r#"<script>
const out = {}, expected = [];
// The browser's own word for the place of the call on the same line, which is made just before it.
const here = (how) => expected.push([how, new Error().stack.split("\n")[2].trim()]);
function named() { here("function"); navigator.vendor; }
named();
here("top"); navigator.vendor;
class Foo { constructor() { here("constructor"); navigator.vendor; } method() { here("method"); navigator.vendor; } }
new Foo().method();
eval("here('eval'); navigator.vendor;");
eval("\n\neval('here(\"nested\"); navigator.vendor;')");
new Function("here('Function'); navigator.vendor;")();
[1].map(() => { here("arrow"); navigator.vendor; });
setTimeout(function timer() { here("timer"); navigator.vendor;
  (async () => { await null; here("async"); navigator.vendor;
    document.documentElement.dataset.out = JSON.stringify(expected);
    document.documentElement.dataset.done = "x";
  })();
});
</script>"#;

/// M13
#[tokio::test(flavor = "multi_thread")]
async fn call_sites_are_those_that_the_browser_gives() {
    let mut rig = Rig::start().await;
    let (expected, arrived) = visit(&mut rig, SITES).await;
    let expected = expected.as_array().unwrap();
    let calls: Vec<_> = arrived.calls().collect();
    assert_eq!(calls.len(), expected.len(), "{:?} {:?}", arrived.navigations(), arrived.ends);
    for (call, expected) in calls.iter().zip(expected) {
        let (how, frame) = (expected[0].as_str().unwrap(), expected[1].as_str().unwrap());
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        let function = of(&call.func_name);
        assert!(frame.contains(&function), "{how}: {frame} is not in {function:?}");
        assert_eq!(function.is_empty(), !frame.contains('('), "{how}: {frame}");
        let url = call.document_url.clone().unwrap();
        assert_eq!(call.script_url.as_deref(), Some(url.as_str()), "{how}: {frame}");
        let line = format!(":{}:", of(&call.script_line));
        assert!(frame.contains(&line), "{how}: {frame} is not in line {line}");
        let eval = match how {
            "eval" => Some("line 10 > eval"),
            "nested" => Some("line 11 > eval line 3 > eval"),
            "Function" => Some("line 12 > eval"),
            _ => None,
        };
        assert_eq!(call.script_loc_eval.as_deref(), eval, "{how}: {frame}");
    }
    let columns: Vec<u32> = calls.iter().map(|c| c.script_col.as_deref().unwrap().parse().unwrap()).collect();
    let source: Vec<&str> = SITES.lines().collect();
    // Where the source has the call, counted by hand of the file: the column of the property.
    for (call, column) in calls.iter().zip(columns).filter(|(call, _)| call.script_loc_eval.is_none()) {
        let line: usize = call.script_line.as_deref().unwrap().parse().unwrap();
        let text = if line == 1 { format!("{ICON}{}", source[0]) } else { source[line - 1].to_owned() };
        assert!(text[column as usize - 1..].starts_with("vendor"), "{line}:{column} of {text}");
    }
    rig.close().await;
}

const POISONED: &str = r#"<script>
const out = { ran: 0 };
const ask = navigator.__lookupGetter__("vendor");
const stringify = JSON.stringify;
const poison = () => { out.ran++; return "poison"; };
JSON.stringify = poison; Date.now = poison; performance.now = poison; window.setTimeout = poison;
for (const name of ["push", "join", "map", "slice", "concat"]) Array.prototype[name] = poison;
for (const name of ["slice", "indexOf", "split", "replace"]) String.prototype[name] = poison;
Object.defineProperty(Array.prototype, "0", { set: poison, get: poison, configurable: true });
for (const name of ["value", "get", "detail", "stack"]) {
  Object.defineProperty(Object.prototype, name, { __proto__: null, get: poison, set: poison, configurable: true });
}
Reflect.apply = Reflect.ownKeys = Object.getOwnPropertyDescriptor = Object.getPrototypeOf = poison;
Map.prototype.get = Map.prototype.set = WeakMap.prototype.get = WeakMap.prototype.set = poison;
EventTarget.prototype.dispatchEvent = MessagePort.prototype.postMessage = poison;
const canvas = document.createElement("canvas");
const options = { get alpha() { ask.call(navigator); return true; }, toJSON: poison, toString: poison };
canvas.getContext("2d", options);
localStorage.setItem("k", { toString() { ask.call(navigator); return "text"; }, toJSON: poison });
for (const name of ["value", "get", "detail", "stack"]) delete Object.prototype[name];
delete Array.prototype[0];
document.documentElement.dataset.out = stringify(out);
document.documentElement.dataset.done = "x";
</script>"#;

/// I11, I13
#[tokio::test(flavor = "multi_thread")]
async fn page_code_is_not_run_by_the_recording_and_poisoned_helpers_change_nothing() {
    let mut rig = Rig::start().await;
    let (out, arrived) = visit(&mut rig, POISONED).await;
    assert_eq!(out["ran"], 0, "{out}");
    assert_eq!(
        arrived.lines(),
        [
            r#"call HTMLCanvasElement.getContext - ["2d","{\"alpha\":\"ACCESSOR\",\"toJSON\":\"FUNCTION\",\"toString\":\"FUNCTION\"}"]"#,
            "get window.navigator.vendor Google Inc. -",
            r#"get window.localStorage "[object Storage]" -"#,
            r#"call Storage.setItem - ["k","{\"toString\":\"FUNCTION\",\"toJSON\":\"FUNCTION\"}"]"#,
            "get window.navigator.vendor Google Inc. -",
        ]
    );
    rig.close().await;
}

/// I18
#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_end_of_documents_and_frames_arrive() {
    const FRAME: &str = "<!doctype html><script>
      addEventListener('pagehide', () => navigator.vendor); addEventListener('unload', () => navigator.platform);
      parent.postMessage('here', '*');</script>";
    const PAGE: &str = "<!doctype html><link rel=icon href='data:,'><iframe src='/frame'></iframe><script>
      if (location.search) document.documentElement.dataset.done = 'x';
      else {
        addEventListener('beforeunload', () => navigator.product);
        addEventListener('pagehide', () => navigator.productSub);
        document.addEventListener('visibilitychange', () => navigator.appName);
        addEventListener('message', () => {
          document.querySelector('iframe').remove();
          navigator.appCodeName;
          location.href = '/?second';
        });
      }</script>";
    let pages = serve(&[("/", PAGE), ("/frame", FRAME)]).await;
    let url = pages.url("/");
    let mut rig = Rig::start().await;
    let (_page, arrived) = rig.visit(1, &url, &done("x")).await;
    for name in ["vendor", "product", "productSub", "appName", "appCodeName"] {
        assert_eq!(
            arrived.count(&format!("get window.navigator.{name}")),
            1,
            "{name}: {:?}",
            arrived.counts()
        );
    }
    rig.close().await;
}
