//! Visits on a real Chromium in which the engine itself tells of calls: what no row tells of is named, and nothing else.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sonde_browser::engine::Scripts;
use sonde_browser::engine::chromium::features::checkable;
use sonde_proto::js_settings::JsSettings;
use sonde_proto::visit::v1::{BrowserSpec, CaptureMode, Instruments};
use support::pages::{Asked, Pages, reply};
use support::rig::Rig;

const PROBES: &str = include_str!("data/feature-probes.js");
const HEAD: &str = "<!doctype html><link rel=icon href='data:,'><script>\
  const done = () => fetch('/done', { method: 'POST' });</script>";

async fn serve(body: String) -> Pages {
    Pages::start(move |asked: &Asked, _| match asked.path.as_str() {
        "/page" => Some(reply("text/html", format!("{HEAD}{body}"))),
        "/probes.js" => Some(reply("text/javascript", PROBES)),
        "/uses.js" => {
            let text = "navigator.hardwareConcurrency; self.onconnect = ({ ports }) => ports[0].postMessage(0); \
                        self.postMessage?.(0)";
            Some(reply("text/javascript", text))
        }
        "/child" => Some(reply("text/html", "<script>navigator.maxTouchPoints</script>")),
        path if path.ends_with(".js") => Some(reply("text/javascript", "0")),
        _ => Some(reply("text/plain", "")),
    })
    .await
}

fn recording(settings: &str, capture: CaptureMode) -> Instruments {
    Instruments {
        javascript: true,
        feature_use_check: true,
        javascript_settings: settings.to_owned(),
        javascript_capture: capture.into(),
        ..Instruments::default()
    }
}

/// What is marked in a visit of a page, and the symbols that have rows. `extension`: another one than the built.
async fn visit(
    body: String,
    instruments: &Instruments,
    extension: Option<&Path>,
) -> (Vec<(String, String)>, BTreeSet<String>) {
    let pages = serve(body).await;
    let spec = BrowserSpec::default();
    let rig = Rig::configured(spec, Scripts::of(instruments), |config| {
        config.extension_dir = extension.map(Path::to_owned);
    })
    .await;
    let rows = rig.visit(&pages, instruments).await;
    rig.close().await;
    let told = ["bypass_possible", "feature_use_unchecked"];
    let marked = rows.truncations().into_iter().filter(|cut| told.contains(&cut.reason.as_str()));
    let marked = marked.map(|cut| (cut.reason.clone(), cut.subject.clone().unwrap())).collect();
    (marked, rows.javascript().into_iter().map(|call| call.symbol.clone()).collect())
}

fn bypassed(symbols: &[&str]) -> Vec<(String, String)> {
    symbols.iter().map(|symbol| ("bypass_possible".to_owned(), (*symbol).to_owned())).collect()
}

const USES: &str = "<script>navigator.hardwareConcurrency; document.createElement('canvas').toDataURL(); \
                    new OfflineAudioContext(1, 64, 44100).createOscillator(); done();</script>";

/// The built extension, whose hooks do nothing in documents.
fn without_hooks(to: &Path) {
    let built = sonde_browser::relay::locate_extension(None).unwrap();
    for entry in std::fs::read_dir(built).unwrap() {
        let entry = entry.unwrap();
        let mut contents = std::fs::read(entry.path()).unwrap();
        if entry.file_name() == "main.js" {
            let marker = "\"@@SONDE_CONFIG@@\"";
            let off = format!(r#"{marker}.replace('"javascript":true','"javascript":false')"#);
            contents = String::from_utf8(contents).unwrap().replace(marker, &off).into_bytes();
        }
        std::fs::write(to.join(entry.file_name()), contents).unwrap();
    }
}

/// I3: calls that no hook sees are named, and those of which nobody asked are not.
#[tokio::test]
async fn calls_past_the_hooks_are_named() {
    let unhooked = tempfile::tempdir().unwrap();
    without_hooks(unhooked.path());
    let (marked, recorded) =
        visit(USES.to_owned(), &recording("", CaptureMode::Wrapped), Some(unhooked.path())).await;
    assert_eq!(recorded, BTreeSet::new(), "the hooks are off");
    let due = [
        "BaseAudioContext.createOscillator",
        "HTMLCanvasElement.toDataURL",
        "window.navigator.hardwareConcurrency",
    ];
    assert_eq!(marked, bypassed(&due));
    let settings = r#"[{ "window.navigator": { "excludedProperties": ["hardwareConcurrency"] } }]"#;
    let (marked, _) =
        visit(USES.to_owned(), &recording(settings, CaptureMode::Wrapped), Some(unhooked.path())).await;
    assert_eq!(marked, []);
}

/// I3: nothing is hooked in workers.
#[tokio::test]
async fn calls_in_workers_are_named_where_stealth_does_not_see_them() {
    let body = "<script>navigator.platform; const worker = new Worker('/uses.js'); worker.onmessage = done;</script>";
    let (marked, recorded) = visit(body.to_owned(), &recording("", CaptureMode::Stealth), None).await;
    assert!(recorded.contains("window.navigator.platform"), "{recorded:?}");
    assert_eq!(marked, bypassed(&["window.navigator.hardwareConcurrency"]));
}

/// I3: documents, frames of the same and of another site, empty ones, and workers; calls beyond a limit.
#[tokio::test]
async fn calls_that_are_recorded_are_not_named() {
    let body = format!(
        "{}<body><script>
const frame = (src) => {{ const made = document.createElement('iframe'); made.src = src; document.body.append(made);
  return new Promise((end) => made.onload = end); }};
const blank = document.body.appendChild(document.createElement('iframe')).contentWindow;
Object.getOwnPropertyDescriptor(blank.Navigator.prototype, 'languages').get.call(navigator);
for (let i = 0; i < 9; i++) navigator.vendor;
const far = location.origin.replace('localhost', '127.0.0.1');
const heard = [new Worker('/uses.js'), new SharedWorker('/uses.js').port].map((worker) =>
  new Promise((end) => worker.onmessage = end));
Promise.all([frame('/child'), frame(far + '/child'), ...heard]).then(done);
</script>",
        USES.replace("done();", "")
    );
    let limited = Instruments { javascript_limit: 2, ..recording("", CaptureMode::Wrapped) };
    let (marked, recorded) = visit(body, &limited, None).await;
    assert!(recorded.contains("window.navigator.maxTouchPoints"), "{recorded:?}");
    assert_eq!(marked, []);
}

/// Every use of the map that these settings ask for, one after the other.
fn all_uses(settings: &JsSettings) -> String {
    let targets: Value = settings.for_extension();
    let uses: Vec<Value> = checkable(settings)
        .into_iter()
        .filter_map(|used| {
            let (name, property) = used.symbol.rsplit_once('.').unwrap();
            let target =
                targets.as_array().unwrap().iter().find(|target| target["instrumentedName"] == name)?;
            Some(json!([target, property, used.operation]))
        })
        .collect();
    format!(
        "<body><script src=/probes.js></script><script>(async () => {{
  for (const [target, property, operation] of {}) await use(target, property, operation);
  done();
}})();</script>",
        json!(uses)
    )
}

/// I3: whatever can be compared is recorded when it is used, under the name that it is compared by.
#[tokio::test]
async fn no_use_of_the_map_is_named_in_wrapped_once_it_is_recorded() {
    let text = r#"["collection_extended"]"#;
    let body = all_uses(&JsSettings::parse(text).unwrap());
    let (marked, recorded) = visit(body, &recording(text, CaptureMode::Wrapped), None).await;
    assert_eq!(marked, []);
    assert!(recorded.len() > 150, "{recorded:?}");
}

/// I3
#[tokio::test]
async fn no_use_of_the_map_is_named_in_stealth_once_it_is_recorded() {
    let text = r#"["collection_stealth"]"#;
    let body = all_uses(&JsSettings::parse(text).unwrap());
    let (marked, recorded) = visit(body, &recording("", CaptureMode::Stealth), None).await;
    assert_eq!(marked, []);
    assert!(recorded.len() > 25, "{recorded:?}");
}
