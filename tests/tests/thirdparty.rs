//! Real third-party scripts under full instrumentation: what they find out is what they find out unwatched.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, GetCommand, Instruments, LoadPolicy, Outcome};
use sonde_site::{DocOptions, DocSite, Site, SiteOptions};
use sonde_tests::session::{Browsers, Slot, all_instruments};
use sonde_tests::workspace;
use sonde_tests::world::World;

const PAGE: Duration = Duration::from_secs(90);

/// Page, and the files of packages that it loads.
const SCRIPTS: &[(&str, &[&str])] = &[
    ("fingerprint", &["@fingerprintjs/fingerprintjs/dist/fp.umd.js"]),
    ("analytics", &["posthog-js/dist/array.full.no-external.js"]),
    ("app", &["swagger-ui-dist/swagger-ui-bundle.js", "swagger-ui-dist/swagger-ui.css"]),
    ("graphics", &["three/build/three.module.js", "three/build/three.core.js"]),
    ("audio", &["tone/build/Tone.js"]),
];

/// The pages and the packages' files in one directory.
fn lay_out(directory: &Path) {
    let source = workspace::root().join("tests/thirdparty");
    for entry in std::fs::read_dir(source.join("pages")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    for file in SCRIPTS.iter().flat_map(|(_, files)| files.iter()) {
        let from = source.join("node_modules").join(file);
        let name = Path::new(file).file_name().unwrap();
        std::fs::copy(&from, directory.join(name)).unwrap_or_else(|e| {
            panic!("{}: {e}: run npm install in tests/thirdparty, or ./x setup", from.display())
        });
    }
}

struct Rig {
    site: Site,
    scripts: DocSite,
}

impl Rig {
    async fn result(
        &self,
        slot: &mut Slot,
        page: &str,
        token: &str,
        instruments: Instruments,
    ) -> (Value, i64) {
        let to = self.site.url("site-0.localhost", &format!("/truth?v={token}"));
        let encoded: String = url_encoded(&to);
        let url = format!("http://doc-0.localhost:{}/{page}.html?to={encoded}", self.scripts.port());
        let get = Step::Get(GetCommand { load_policy: LoadPolicy::Commit.into(), ..GetCommand::default() });
        let visit_id = slot.begin_interactive(&url, instruments, vec![get]).await;
        let waited = self.site.wait_done(token, "thirdparty", PAGE).await;
        let result = slot.finish(visit_id).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{token}: {result:#?}");
        waited.unwrap_or_else(|error| panic!("{token}: {error}"));
        let note = self.site.truth(token).notes.first().cloned().unwrap_or_default();
        (serde_json::from_str(&note).unwrap(), visit_id)
    }
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// I6, I7, M13: a fingerprinting library, an analytics client, a large single-page app, a WebGL and an audio library
/// give the same results watched and unwatched, and are recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn third_party_scripts_run_unbroken() {
    let world = World::new();
    let directory = world.path().join("scripts");
    std::fs::create_dir(&directory).unwrap();
    lay_out(&directory);
    let rig = Rig {
        site: Site::start(SiteOptions::default()).await.unwrap(),
        scripts: DocSite::start(DocOptions::new(&directory)).await.unwrap(),
    };
    let browsers = Browsers::start(&world, 2).await;
    for (n, kind) in [(0, BrowserKind::Chromium), (1, BrowserKind::Firefox)] {
        let mut slot = browsers.slot(n).await;
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
        let mut unwatched = Vec::new();
        for (page, _) in SCRIPTS {
            let token = format!("{page}-{n}-unwatched");
            unwatched.push(rig.result(&mut slot, page, &token, Instruments::default()).await.0);
        }
        for ((page, _), due) in SCRIPTS.iter().zip(unwatched) {
            let instruments = Instruments {
                save_content: vec!["all".into()],
                dns: true,
                javascript_settings: r#"["collection_fingerprinting", "collection_extended"]"#.into(),
                ..all_instruments()
            };
            let (found, visit) =
                rig.result(&mut slot, page, &format!("{page}-{n}-watched"), instruments).await;
            assert!(due.get("broken").is_none(), "{kind:?} {page}: the script does not run: {due:#}");
            let differing = differing("", &due, &found);
            assert!(differing.is_empty(), "{kind:?} {page}: {differing:#?}");
            let db = rusqlite::Connection::open(world.data().join("crawl.sqlite")).unwrap();
            let sql = "SELECT count(*) FROM javascript WHERE visit_id = ?1";
            let rows: i64 = db.query_row(sql, [visit], |row| row.get(0)).unwrap();
            println!(
                "{kind:?} {page}: {rows} calls recorded, {} bytes of results alike",
                due.to_string().len()
            );
            assert!(rows > 0 || *page == "audio", "{kind:?} {page}: no call was recorded");
        }
    }
}

/// Paths at which two results differ, with both values.
fn differing(path: &str, due: &Value, found: &Value) -> Vec<String> {
    match (due, found) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            let of = |key: &String| {
                differing(
                    &format!("{path}.{key}"),
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                )
            };
            keys.into_iter().flat_map(of).collect()
        }
        _ if due == found => Vec::new(),
        _ => vec![format!("{path}: {found} instead of {due}")],
    }
}
