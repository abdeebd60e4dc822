//! Browsing by clicks (M20), on a real Chromium and a real Firefox.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use sonde_proto::visit::v1::BrowserKind;
use sonde_tests::rig::Rig;
use sonde_tests::trap::{Answer, Trap};

/// One link is plain, one lies under another element, one is a script's, one leads to what fails.
const PAGE: &str = "<!doctype html><title>browse</title><style>#lid { position: absolute; left: 0; top: 100px; \
    width: 300px; height: 40px; background: #ccc } #covered { position: absolute; left: 10px; top: 110px }</style>\
    <a id=plain href=/plain>plain</a> <a id=covered href=/covered>covered</a><div id=lid></div>\
    <a id=script href=/script>script</a> <a id=broken href=http://127.0.0.1:1/broken>broken</a>\
    <script>addEventListener('click', (event) => { \
      const name = event.target.id + (event.isTrusted ? '' : '-forged'); \
      fetch('/clicked-' + name, {method: 'POST', keepalive: true}); \
      if (name === 'script') event.preventDefault(); });</script>";

fn answer(target: &str) -> Answer {
    match target {
        "/" => Answer::html(PAGE),
        _ => Answer::html("<!doctype html><p>there</p>"),
    }
}

async fn browsed(kind: BrowserKind) {
    let site = Trap::start(answer).await;
    let mut rig = Rig::start(kind).await;
    let browse = json!([{"browse": {"num_links": 12, "seed": 3}}]);
    let result = rig.visit_at(&site.url("/"), browse).await;
    rig.assert_ok(&result);
    let asked = |path: &str| site.asked(path).iter().filter(|a| a.target == path).count();
    let (plain, covered, script) =
        (asked("/clicked-plain"), asked("/clicked-covered"), asked("/clicked-script"));
    assert!(plain > 0 && script > 0, "{kind:?}: the seed draws each: {plain} {script}");
    assert_eq!(asked("/plain"), plain, "{kind:?}: every visit of it is a click");
    assert_eq!((asked("/script"), covered), (0, 0), "{kind:?}: what the page did not let be is not forced");
    assert!(asked("/covered") > 0, "{kind:?}: what the mouse does not meet is loaded by its URL");
    assert!(asked("/clicked-broken") > 0, "{kind:?}: what fails is clicked, too, and ends nothing");
    assert!(site.asked("/clicked").iter().all(|a| !a.target.ends_with("-forged")), "{kind:?}");
    rig.stop().await;
}

/// M20: links are clicked as by a user; where the mouse does not meet one, it is loaded by its URL.
#[tokio::test]
async fn chromium_browses_by_clicks() {
    browsed(BrowserKind::Chromium).await;
}

/// M20
#[tokio::test]
async fn firefox_browses_by_clicks() {
    browsed(BrowserKind::Firefox).await;
}
