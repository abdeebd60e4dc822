//! The JavaScript instrument on a real Firefox, in both of its capture modes: what settings promise is what arrives.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use sonde_browser::FirefoxCapture;
use sonde_browser::engine::Scripts;
use sonde_proto::record::v1::JavascriptCall;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, Instruments};
use support::firefox::assert_nothing_left;
use support::pages::{Pages, html};
use support::rig::Rig;

/// A script error ends the page, and is what it tells.
const HEAD: &str = "<body><script>
const tell = ((fetch, stringify) => (out) => fetch('/done', { method: 'POST', body: stringify(out) }))(fetch, JSON.stringify);
onerror = (message) => tell({ error: message });
</script>";

/// What a page of these settings tells, and the calls that arrived.
async fn visit(capture: FirefoxCapture, settings: &Value, body: &str) -> (Value, Vec<JavascriptCall>) {
    visit_of(capture, settings, &[("/page", body)]).await
}

/// Of several pages; the visit is to /page.
async fn visit_of(
    capture: FirefoxCapture,
    settings: &Value,
    pages: &[(&str, &str)],
) -> (Value, Vec<JavascriptCall>) {
    let instruments =
        Instruments { javascript: true, javascript_settings: settings.to_string(), ..Instruments::default() };
    let spec = BrowserSpec {
        kind: BrowserKind::Firefox.into(),
        // Pages may open windows without a click.
        extra_flags: vec!["--set-pref=dom.disable_open_during_load=false".to_owned()],
        ..BrowserSpec::default()
    };
    let scripts = Scripts::of_kind(BrowserKind::Firefox, &instruments);
    let rig = Rig::configured(spec, scripts, |config| config.firefox_capture = capture).await;
    let told: Value = serde_json::from_str(&rig.browser.facts().provenance).unwrap();
    assert_eq!(told["extension"]["javascript_capture"], json!(capture));
    let served: Vec<_> =
        pages.iter().map(|(at, body)| ((*at).to_owned(), html(&format!("{HEAD}{body}")))).collect();
    let pages = Pages::start(move |asked, _| {
        served.iter().find(|(at, _)| *at == asked.path).map(|(_, page)| page.clone())
    })
    .await;
    let rows = rig.visit(&pages, &instruments).await;
    let told = pages.asked("/done").await.body;
    rig.browser.clone().close(std::time::Duration::from_secs(5)).await;
    assert_nothing_left(rig.run_dir.path()).await;
    (serde_json::from_slice(&told).unwrap(), rows.javascript().into_iter().cloned().collect())
}

fn line(call: &JavascriptCall) -> String {
    let of = |field: &Option<String>| field.clone().unwrap_or_else(|| "-".to_owned());
    format!("{} {} {} {}", call.operation, call.symbol, of(&call.value), of(&call.arguments))
}

const EACH: &str = r#"<script>
const out = {};
screen.width > 1; screen.height;
localStorage.setItem("k", "v"); localStorage.getItem("k"); localStorage.length;
function stacked() { document.cookie = "a=1"; return document.cookie; } stacked();
navigator.imaginary; navigator.imaginary = 5; navigator.imaginary;
function handler() { return 42; }
document.removeEventListener("z", handler);
const canvas = document.createElement("canvas"), read = canvas.toDataURL;
HTMLCanvasElement.prototype.toDataURL = 5;
out.kept = canvas.toDataURL === read;
canvas.width = 7;
try { canvas.width = Symbol("s"); } catch (error) { out.failed = error.constructor === TypeError; }
try { Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, "width").get.call({}); }
catch (error) { out.frames = error.stack.split("\n").length; out.file = error.fileName === location.href; }
performance.timing.navigationStart > 1e12; atob("eA==");
const gl = canvas.getContext("webgl"); WebGLRenderingContext.prototype.getParameter.length;
class Own extends OfflineAudioContext { own() { return 1; } }
const audio = new Own(1, 1, 44100);
out.constructor = [
  audio.own(), audio instanceof OfflineAudioContext, audio.constructor === Own, OfflineAudioContext.name,
  OfflineAudioContext.prototype.constructor === OfflineAudioContext, String(OfflineAudioContext),
  Object.getPrototypeOf(OfflineAudioContext) === BaseAudioContext,
];
tell(out);
</script>"#;

/// M13: every kind of property and every setting, in both modes alike.
#[tokio::test]
async fn both_modes_record_the_same_of_every_kind_of_property() {
    let settings = json!([
        { "window.screen": ["width"] },
        { "Storage": { "excludedProperties": ["setItem"] } },
        { "window.document": { "propertiesToInstrument": ["cookie"], "logCallStack": true } },
        { "window.navigator": {
            "propertiesToInstrument": null, "nonExistingPropertiesToInstrument": ["imaginary"] } },
        { "EventTarget": { "propertiesToInstrument": ["removeEventListener"], "logFunctionsAsStrings": true } },
        { "HTMLCanvasElement": {
            "propertiesToInstrument": ["toDataURL", "width"], "logFunctionGets": true, "preventSets": true } },
        { "window.performance": { "propertiesToInstrument": ["timing"], "recursive": true, "depth": 1 } },
        { "window": ["atob", "OfflineAudioContext"] },
    ]);
    for capture in [FirefoxCapture::Exported, FirefoxCapture::Wrapped] {
        let (out, calls) = visit(capture, &settings, EACH).await;
        let mut lines: Vec<_> = calls.iter().map(line).collect();
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
                "set window.document.cookie a=1 -",
                "get window.document.cookie a=1 -",
                "get window.navigator.imaginary - -",
                "set window.navigator.imaginary 5 -",
                "get window.navigator.imaginary 5 -",
                r#"call EventTarget.removeEventListener - ["z","function handler() { return 42; }"]"#,
                "get(function) HTMLCanvasElement.toDataURL FUNCTION -",
                "set(prevented) HTMLCanvasElement.toDataURL 5 -",
                "get(function) HTMLCanvasElement.toDataURL FUNCTION -",
                "set HTMLCanvasElement.width 7 -",
                "set(failed) HTMLCanvasElement.width Symbol(s) -",
                "get(failed) HTMLCanvasElement.width - -",
                "get window.performance.timing.navigationStart",
                r#"call window.atob - ["eA=="]"#,
                "call window.OfflineAudioContext - [1,1,44100]",
            ],
            "{capture:?}: {out}"
        );
        let native = "function OfflineAudioContext() {\n    [native code]\n}";
        let constructor = json!([1, true, true, "OfflineAudioContext", true, native, true]);
        assert_eq!((&out["constructor"], &out["kept"]), (&constructor, &json!(true)), "{capture:?}");
        let (stacks, others): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.call_stack.is_some());
        assert!(stacks.iter().all(|call| call.symbol == "window.document.cookie") && stacks.len() == 2);
        for call in &stacks {
            let stack = call.call_stack.as_deref().unwrap();
            assert_eq!(call.func_name.as_deref(), Some("stacked"), "{capture:?}: {stack}");
            assert!(!stack.contains("moz-extension"), "{stack}");
        }
        let site = |call: &JavascriptCall| (call.script_url.clone(), call.script_line.clone());
        assert!(others.iter().all(|call| site(call).0.unwrap().ends_with("/page")), "{others:?}");
        if capture == FirefoxCapture::Exported {
            assert_eq!((&out["frames"], &out["file"]), (&json!(2), &json!(true)), "no frame of ours");
        }
    }
}

const NATIVE: &str = r#"<script>
const get = (owner, name) => Object.getOwnPropertyDescriptor(owner, name).get;
const frame = document.createElement("iframe"); document.body.append(frame);
const agent = get(Navigator.prototype, "userAgent"), item = Storage.prototype.getItem;
const foreign = frame.contentWindow.Function.prototype.toString;
const stackOf = (run) => { try { run(); return "none"; } catch (error) { return [error instanceof TypeError, error.stack.split("\n").length]; } };
let depth = 0; const dive = () => { depth++; navigator.userAgent; dive(); };
const deep = () => { try { dive(); } catch (error) { return [error instanceof InternalError, error.message]; } };
let seen; localStorage.setItem({ toString() { seen = new Error().stack; return "k"; } }, 1);
tell({
  text: [agent, item, get(Document.prototype, "cookie")].map((f) => [String(f), foreign.call(f), f.name, f.length]),
  keys: [agent, item].map((f) => Reflect.ownKeys(f).join()),
  made: [agent, item].map((f) => stackOf(() => new f())[0] && !("prototype" in f) && Object.getPrototypeOf(f) === Function.prototype),
  same: agent === get(Navigator.prototype, "userAgent"), wrong: stackOf(() => agent.call({})),
  clone: (() => { try { structuredClone(item); } catch (error) { return error.message; } })(),
  order: Object.keys(Navigator.prototype).indexOf("userAgent") < Object.keys(Navigator.prototype).indexOf("onLine"),
  deep: [deep(), deep()], callback: seen.includes("moz-extension") || seen.includes("anonymous code"),
  globals: Object.keys(window).filter((name) => /sonde|instrument/i.test(name)),
});
</script>"#;

/// I6, I7: what stands in the place of natives cannot be told from them.
#[tokio::test]
async fn exported_functions_look_like_natives() {
    let settings = json!(["collection_fingerprinting"]);
    let (out, _) = visit(FirefoxCapture::Exported, &settings, NATIVE).await;
    let native = |name: &str| format!("function {name}() {{\n    [native code]\n}}");
    let row = |name: &str, full: &str, length: u32| json!([native(name), native(name), full, length]);
    assert_eq!(
        out["text"],
        json!([
            row("userAgent", "get userAgent", 0),
            row("getItem", "getItem", 1),
            row("cookie", "get cookie", 0)
        ])
    );
    assert_eq!(out["keys"], json!(["name,length", "name,length"]));
    assert_eq!((&out["made"], &out["wrong"]), (&json!([true, true]), &json!([true, 4])));
    assert_eq!((&out["same"], &out["order"], &out["callback"]), (&json!(true), &json!(true), &json!(false)));
    assert_eq!(out["clone"], "Function object could not be cloned.");
    assert_eq!(out["deep"], json!([[true, "too much recursion"], [true, "too much recursion"]]));
    assert_eq!(out["globals"], json!([]));
}

const REALMS: &str = r#"<script>
const out = {};
const put = (html) => { const div = document.createElement("div"); div.innerHTML = html; document.body.append(div); return div.firstChild; };
const last = () => window[window.length - 1];
put("<iframe></iframe>").contentWindow.navigator.vendor;
put("<iframe></iframe>").contentDocument.defaultView.navigator.vendor;
put("<iframe></iframe>"); last().navigator.vendor;
put("<iframe src='/nothing'></iframe>"); last().navigator.vendor;
const taken = put("<iframe srcdoc='x'></iframe>"); last().navigator.vendor; const before = last().Navigator;
put("<iframe src='javascript:1'></iframe>"); last().navigator.vendor;
put("<iframe sandbox='allow-same-origin'></iframe>"); last().navigator.vendor;
put("<iframe src='about:blank#x'></iframe>"); last().navigator.vendor;
const nest = put("<iframe></iframe>").contentDocument; nest.body.innerHTML = "<iframe></iframe>"; nest.defaultView[0].navigator.vendor;
document.write("<iframe></iframe>"); last().navigator.vendor;
const removed = put("<iframe></iframe>"), view = removed.contentWindow;
const agent = Object.getOwnPropertyDescriptor(view.Navigator.prototype, "vendor").get, canvas = view.document.createElement("canvas");
removed.remove();
const written = put("<iframe></iframe>"), append = written.contentWindow.Node.prototype.appendChild;
written.contentDocument.open(); written.contentDocument.write("x"); written.contentDocument.close(); written.remove();
const popup = open("about:blank"); popup?.navigator.vendor; out.popup = popup !== null; popup?.close();
addEventListener("load", () => {
  // Firefox takes an extension's wrappers of a removed frame away when it is idle, a second later.
  setTimeout(() => {
    // The realm of the frame's empty document may be that of the one that came after it.
    const own = Object.getOwnPropertyDescriptor(taken.contentWindow.Navigator.prototype, "vendor").get;
    out.taken = [taken.contentWindow.Navigator === before, own.call(taken.contentWindow.navigator) === ""];
    try { out.later = [agent.call(navigator) === navigator.vendor, canvas.toDataURL().length > 10, append.call(document.body, canvas) === canvas]; }
    catch (error) { out.later = String(error); }
    tell(out);
  }, 3000);
});
</script>"#;

/// I3: realms are hooked by the time a page has them, once each; functions and objects of removed frames still work.
#[tokio::test]
async fn new_realms_are_hooked_before_a_page_has_them() {
    let settings = json!([{ "window.navigator": ["vendor"] }, { "HTMLCanvasElement": ["toDataURL"] }]);
    for capture in [FirefoxCapture::Exported, FirefoxCapture::Wrapped] {
        let (out, calls) = visit(capture, &settings, REALMS).await;
        assert_eq!(out["later"], json!([true, true, true]), "{capture:?}: {out}");
        assert_eq!(out["taken"], json!([true, true]), "{capture:?}: {out}");
        let popup = usize::from(out["popup"] == true);
        let vendor = calls.iter().filter(|call| call.symbol == "window.navigator.vendor").count();
        assert_eq!(vendor, 10 + popup + 3, "{capture:?}: {:?}", calls.iter().map(line).collect::<Vec<_>>());
    }
}

const OPENER: &str = "<script>
const popup = open('/popup');
addEventListener('message', () => { location.href = '/after'; });
if (popup === null) tell('blocked');
</script>";

/// Its first document may have been hooked by the opener, whose functions die with it.
const POPUP: &str = "<script>
new BroadcastChannel('turn').onmessage = () => {
  const child = document.createElement('iframe');
  document.body.append(child);
  try { tell([navigator.vendor === '', child.contentWindow.navigator.vendor === '']); } catch (error) { tell(String(error)); }
};
opener.postMessage('here', '*');
</script>";

const AFTER: &str = "<script>
// As above: taken away when Firefox is idle.
setTimeout(() => new BroadcastChannel('turn').postMessage('yours'), 3000);
</script>";

/// I3: a popup is recorded, and unbroken, after its opener is gone.
#[tokio::test]
async fn popups_outlive_their_openers() {
    let pages = [("/page", OPENER), ("/popup", POPUP), ("/after", AFTER)];
    let settings = json!([{ "window.navigator": ["vendor"] }]);
    let (out, calls) = visit_of(FirefoxCapture::Exported, &settings, &pages).await;
    assert_eq!(out, json!([true, true]));
    let urls: Vec<_> = calls.iter().map(|call| call.top_level_url.as_deref().unwrap_or("-")).collect();
    assert!(urls.len() == 2 && urls.iter().all(|url| url.ends_with("/popup")), "{urls:?}");
}
