//! Profiles as artifacts (M20, M32), on a real Chromium and a real Firefox.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, Isolation};
use sonde_tests::rig::Rig;

const LEAVE: &str =
    "document.cookie = 'lasting=1; max-age=86400; path=/', document.cookie = 'session=1; path=/'";
const FOUND: &str = "document.cookie.split('; ').filter(Boolean).sort()";

fn evaluate(expression: &str) -> Value {
    json!({"evaluate": {"expression": expression}})
}

async fn dumped(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let url = rig.page("dp");
    let refused = rig.visit_at(&url, json!([{"dump_profile": {}}])).await;
    assert_eq!(refused.commands[0].error, "no_profile", "{kind:?}: {refused:#?}");
    let kept = |isolation: Isolation, seed: &str| BrowserSpec {
        kind: kind.into(),
        isolation: isolation.into(),
        seed_profile: seed.to_owned(),
        ..BrowserSpec::default()
    };
    rig.slot.browser = kept(Isolation::Profile, "");
    let dump = json!({"dump_profile": {"suffix": "now"}});
    let result = rig.visit_at(&url, json!([{"get": {}}, evaluate(LEAVE), dump])).await;
    rig.assert_ok(&result);
    let (artifact, archive) = rig.artifact(&result, 2);
    assert_eq!((artifact.kind.as_str(), artifact.media_type.as_str()), ("profile", "application/gzip"));
    assert!(artifact.name.ends_with("-now.tar.gz") && archive.starts_with(&[0x1f, 0x8b]), "{artifact:?}");
    let provenance: Value = serde_json::from_str(&rig.slot.provenance).unwrap();
    assert_eq!(provenance["profile"], json!({"kept": true, "seed": null}), "{kind:?}");

    let seed = result.commands[2].artifacts[0].sha256.clone();
    rig.slot.browser = kept(Isolation::Process, &seed);
    let result = rig.visit_at(&url, json!([{"get": {}}, evaluate(FOUND)])).await;
    rig.assert_ok(&result);
    assert_eq!(result.commands[1].value_json, r#"["lasting=1","session=1"]"#, "{kind:?}");
    let provenance: Value = serde_json::from_str(&rig.slot.provenance).unwrap();
    assert_eq!(provenance["profile"], json!({"kept": false, "seed": seed}), "{kind:?}");
    rig.stop().await;
}

/// M20, M23, M32: the profile as it is while its browser runs, cookies of this moment included, seeds another browser,
/// whose provenance says so; where there is no profile on disk, the command says what to do.
#[tokio::test]
async fn chromium_dumps_its_profile_while_it_runs() {
    dumped(BrowserKind::Chromium).await;
}

/// M20, M23, M32
#[tokio::test]
async fn firefox_dumps_its_profile_while_it_runs() {
    dumped(BrowserKind::Firefox).await;
}
