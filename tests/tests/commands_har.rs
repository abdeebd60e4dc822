//! The HTTP of a visit as HAR (M21), on a real Chromium and a real Firefox, judged by har-validator from npm.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, Instruments};
use sonde_tests::rig::Rig;
use sonde_tests::workspace;

const REQUESTS: &str = "async () => {
  await (await fetch('/r/redirect?v={v}&status=307&to=%2Fr%2Fjson%3Fx%3D1%26y')).text();
  await (await fetch('/r/echo?v={v}', {method: 'POST', body: new URLSearchParams({q: 'a b'})})).text();
  await fetch('/r/reset?v={v}').catch(() => {});
}";

/// Fails unless the public validator takes it as HAR 1.2.
fn validate(path: &std::path::Path) {
    let script = "const har = require('har-validator');
        const read = JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8'));
        har.har(read).then(() => process.exit(0), (error) => {
          console.error(JSON.stringify(error.errors, null, 1)); process.exit(1); });";
    let dir = workspace::root().join("tests/thirdparty");
    let output = Command::new("node").arg("-e").arg(script).arg(path).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn stored(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let url = rig.page("har");
    let refused = rig.visit_at(&url, json!([{"get": {}}, {"har": {}}])).await;
    assert_eq!(refused.commands[1].error, "no_http", "{kind:?}: {refused:#?}");
    rig.instruments =
        Instruments { http: true, save_content: vec!["xmlhttprequest".into()], ..Instruments::default() };
    let script = REQUESTS.replace("{v}", "har");
    let fetches = json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": script}});
    let result = rig.visit_at(&url, json!([{"get": {}}, fetches, {"har": {"suffix": "all"}}])).await;
    rig.assert_ok(&result);
    let (artifact, content) = rig.artifact(&result, 2);
    assert_eq!((artifact.kind.as_str(), artifact.media_type.as_str()), ("har", "application/json"));
    assert!(artifact.name.ends_with("-all.har"), "{artifact:?}");
    let path = rig.world.path().join("visit.har");
    std::fs::write(&path, &content).unwrap();
    validate(&path);
    let har: Value = serde_json::from_slice(&content).unwrap();
    let entries = har["log"]["entries"].as_array().unwrap();
    let of = |part: &str| -> Vec<&Value> {
        entries.iter().filter(|e| e["request"]["url"].as_str().unwrap().contains(part)).collect()
    };
    let one = |part: &str| -> &Value {
        let found = of(part);
        assert_eq!(found.len(), 1, "{kind:?}: {part}: {har:#}");
        found[0]
    };
    let page = one("/p/interaction");
    assert_eq!(
        (&page["response"]["status"], &page["response"]["statusText"]),
        (&json!(200), &json!("OK")),
        "{kind:?}"
    );
    let mime = page["response"]["content"]["mimeType"].as_str().unwrap();
    assert!(mime.starts_with("text/html"), "{kind:?}: {page:#}");
    assert!(page["time"].as_f64().unwrap() > 0.0, "{kind:?}: {page:#}");
    let hop = one("/r/redirect");
    assert_eq!(hop["response"]["status"], 307, "{kind:?}: {hop:#}");
    assert!(hop["response"]["redirectURL"].as_str().unwrap().contains("/r/json"), "{kind:?}: {hop:#}");
    // Its URL holds that of the redirect, too, escaped.
    let end = of("/r/json?x=1");
    assert_eq!((end.len(), &end[0]["_hop"]), (1, &json!(1)), "{kind:?}: {har:#}");
    assert!(end[0]["response"]["content"]["_contentSha256"].is_string(), "{kind:?}: {:#}", end[0]);
    let post = one("/r/echo");
    assert_eq!(post["request"]["method"], "POST");
    assert_eq!(
        post["request"]["postData"]["params"],
        json!([{"name": "q", "value": "a b"}]),
        "{kind:?}: {post:#}"
    );
    // Browsers try again a request whose connection was reset.
    let reset = of("/r/reset");
    assert!(
        reset.iter().all(|e| e["response"]["status"] == 0 && e["_error"].is_string()),
        "{kind:?}: {reset:#?}"
    );
    assert!(!reset.is_empty(), "{kind:?}");
    rig.stop().await;
}

/// M21
#[tokio::test]
async fn chromium_stores_a_har() {
    stored(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_stores_a_har() {
    stored(BrowserKind::Firefox).await;
}
