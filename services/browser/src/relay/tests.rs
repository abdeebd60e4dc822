use std::fs;

use sonde_proto::browser::v1::{RelayBatch, RelayFlushed, RelayStart};
use sonde_proto::js_settings::JsSettings;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::state::{Inner, Place};
use super::{Capture, ExtensionConfig, PrepareError, prepare_extension};

fn batch(first_ordinal: i64, count: u32) -> RelayBatch {
    RelayBatch { visit_id: 7, first_ordinal, count, payload: Default::default() }
}

fn connected(state: &mut Inner, uuid: &str) -> (u32, mpsc::Receiver<sonde_proto::browser::v1::RelayDown>) {
    let (sender, receiver) = mpsc::channel(64);
    (state.connect(uuid, sender, CancellationToken::new()).unwrap(), receiver)
}

fn start(state: &mut Inner) {
    state.start(RelayStart { visit_id: 7, token: "t".into(), javascript: true, ..Default::default() });
}

/// I16
#[test]
fn a_batch_sent_twice_is_told_from_a_new_one() {
    let mut state = Inner::default();
    let (session, _down) = connected(&mut state, "a");
    assert_eq!(state.place(session, &batch(0, 3)), Place::Next);
    assert_eq!(state.place(session, &batch(0, 3)), Place::Duplicate);
    assert_eq!(state.place(session, &batch(3, 1)), Place::Next);
    assert_eq!(state.stats.duplicates, 1);
}

/// I16
#[test]
fn a_gap_and_a_restarted_background_make_the_end_suspect() {
    let mut state = Inner::default();
    let (first, _down) = connected(&mut state, "a");
    start(&mut state);
    state.place(first, &batch(0, 2));
    let (second, _down) = connected(&mut state, "b");
    state.place(second, &batch(5, 1));
    let serial = state.begin_flush(7, 100, Vec::new()).unwrap();
    assert_eq!(state.flushed(7, serial).unwrap(), None);
    state.answer(
        second,
        RelayFlushed { visit_id: 7, serial, last_ordinal: 5, silent_frames: 1, ..Default::default() },
    );
    let ends = state.flushed(7, serial).unwrap().unwrap();
    assert_eq!((ends[0].session_no, ends[0].last_ordinal), (0, 1));
    assert!(ends[0].suspect.contains("restarted"), "{ends:?}");
    assert!(ends[1].suspect.contains("where 0 was due") && ends[1].suspect.contains("1 frames"), "{ends:?}");
}

fn config() -> ExtensionConfig {
    ExtensionConfig {
        port: 1234,
        token: "t0k3nt0k3nt0k3nt0k3n".into(),
        secret: "s3cr3ts3cr3ts3cr3t".into(),
        capture: Capture::Wrapped,
        javascript: true,
        cookies: true,
        navigations: true,
        network: false,
        javascript_settings: JsSettings::parse(r#"[{"window.foo": ["bar"]}]"#).unwrap(),
        javascript_limit: 3,
        requests: false,
        testing: false,
    }
}

/// S5
#[test]
fn each_file_gets_only_what_it_needs_and_the_hash_is_of_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("dist");
    fs::create_dir(&source).unwrap();
    for name in ["background.js", "exported.js", "isolated.js", "main.js", "prefix.js", "worker.js"] {
        fs::write(source.join(name), "use(\"@@SONDE_CONFIG@@\");").unwrap();
    }
    let scripts = r#"[{"world":"MAIN","js":["main.js"]},{"world":"ISOLATED","js":["isolated.js"]}]"#;
    let permissions = r#"["tabs","cookies","dns","webRequest","webRequestBlocking"]"#;
    let manifest = format!(
        r#"{{"version":"1.2","key":"AAAA","permissions":{permissions},"content_scripts":{scripts}}}"#
    );
    fs::write(source.join("manifest.json"), &manifest).unwrap();
    let facts = prepare_extension(&source, &dir.path().join("a"), &config()).unwrap();
    let again =
        prepare_extension(&source, &dir.path().join("b"), &ExtensionConfig { port: 9, ..config() }).unwrap();
    assert_eq!(facts, again);
    assert_eq!(facts.version, "1.2");
    let main = fs::read_to_string(dir.path().join("a/main.js")).unwrap();
    assert!(main.contains("s3cr3t") && !main.contains("t0k3n"), "{main}");
    assert!(main.contains(r#"\"path\":[\"foo\"]"#) && main.contains(r#"\"limit\":3"#), "{main}");
    let background = fs::read_to_string(dir.path().join("a/background.js")).unwrap();
    assert!(background.contains("t0k3n") && !background.contains("s3cr3t"), "{background}");
    assert!(!background.contains("foo"), "{background}");
    let settings = JsSettings::parse(r#"[{"window.foo": ["b\u00e4r"]}]"#).unwrap();
    let hooking = ExtensionConfig { requests: true, javascript_settings: settings, ..config() };
    prepare_extension(&source, &dir.path().join("hooking"), &hooking).unwrap();
    let background = fs::read_to_string(dir.path().join("hooking/background.js")).unwrap();
    assert!(background.contains(r"b\\\\u00e4r") && !background.contains("s3cr3t"), "{background}");
    let manifest_of = |copy: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.path().join(copy).join("manifest.json")).unwrap()).unwrap()
    };
    let mut built: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    // Its id is that of no other copy.
    let key = |copy: &str| manifest_of(copy)["key"].clone();
    let other = ExtensionConfig { secret: "0therS3cr3t0therS3cr3t".into(), ..config() };
    let id = prepare_extension(&source, &dir.path().join("other"), &other).unwrap().chromium_id;
    assert!(id.is_some() && id != facts.chromium_id && key("a") != built["key"]);
    built["key"] = key("hooking");
    assert_eq!(manifest_of("hooking"), built);
    // The permission alone would slow every request down in a browser where the extension watches none (P2).
    built["permissions"] = serde_json::json!(["tabs", "cookies"]);
    assert_eq!(manifest_of("a"), built);
    let of = |copy: &str| {
        let files = fs::read_dir(dir.path().join(copy)).unwrap();
        let mut names: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(of("a"), ["background.js", "isolated.js", "main.js", "manifest.json"]);
    let exported = ExtensionConfig { capture: Capture::Exported, ..config() };
    assert_eq!(prepare_extension(&source, &dir.path().join("c"), &exported).unwrap(), facts, "one source");
    assert_eq!(of("c"), ["background.js", "exported.js", "manifest.json"]);
    let hooks = fs::read_to_string(dir.path().join("c/exported.js")).unwrap();
    assert!(hooks.contains("s3cr3t") && !hooks.contains("t0k3n"), "{hooks}");
    assert_eq!(
        manifest_of("c")["content_scripts"],
        serde_json::json!([{"world": "ISOLATED", "js": ["exported.js"]}])
    );
    let stealth = ExtensionConfig { capture: Capture::Stealth, ..config() };
    assert_eq!(prepare_extension(&source, &dir.path().join("d"), &stealth).unwrap(), facts, "one source");
    assert_eq!(of("d"), ["background.js", "isolated.js", "manifest.json"]);
    let background = fs::read_to_string(dir.path().join("d/background.js")).unwrap();
    assert!(background.contains(r#"\"javascript\":false"#), "calls are not its work: {background}");
}

#[test]
fn files_without_the_marker_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("main.js"), "nothing").unwrap();
    let error = prepare_extension(dir.path(), &dir.path().join("out"), &config()).unwrap_err();
    assert!(matches!(error, PrepareError::Foreign { .. }), "{error}");
}
