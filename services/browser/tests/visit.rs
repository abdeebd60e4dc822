//! Visits on a real Chromium, with a storage in memory: the engine alone, without sessions.
#![allow(clippy::unwrap_used)]

mod support;

use sonde_browser::engine::{LaunchSpec, Scripts};
use sonde_proto::visit::v1::{BrowserSpec, CommandStatus, Instruments};
use sonde_site::{Site, SiteOptions};
use support::rig::{Rig, everything};

fn page(site: &Site) -> String {
    site.url(&site.hosts()[0], "/p/javascript?v=t")
}

/// M05, R4: each producer has a stream, and each stream ends where it says.
#[tokio::test]
async fn every_producer_declares_its_stream() {
    let instruments = everything();
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let rig = Rig::with(Scripts::of(&instruments), &[]).await;
    for _ in 0..2 {
        let mut running = rig.open(&instruments).await;
        let report = running.get(&page(&site)).await;
        assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
        assert_eq!(report.http_status, 200);
        assert!(running.visit.instruments_ready_at_us() < running.visit.navigation_start_at_us());
        running.seal_whole().await;
        let streams = rig.storage.kept().seals[&running.visit_id].streams.clone();
        assert_eq!(streams.len(), 3, "{streams:?}");
        assert!(streams[1].last_ordinal > 0 && streams[2].last_ordinal > 0, "{streams:?}");
        running.end().await;
    }
    rig.close().await;
}

/// M13: a visit whose settings name objects that its page has not fails with all of them; what the others recorded is
/// whole.
#[tokio::test]
async fn bad_targets_fail_the_visit_with_every_name() {
    let settings = r#"["window.navigator", "Nonsense", {"window.nowhere": ["x"]}]"#;
    let instruments = Instruments { javascript_settings: settings.to_owned(), ..everything() };
    let scripts = Scripts::of(&instruments).unwrap();
    assert_ne!(
        LaunchSpec::new(&BrowserSpec::default(), Some(scripts.clone())),
        LaunchSpec::new(&BrowserSpec::default(), Scripts::of(&everything())),
        "other settings need another browser"
    );
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let rig = Rig::with(Some(scripts), &[]).await;
    let mut running = rig.open(&instruments).await;
    let report = running.get(&page(&site)).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    let ending = running.seal_whole().await;
    let failure = ending.failure.unwrap();
    assert_eq!(
        (failure.message.as_str(), failure.fingerprint.as_str()),
        (
            "JS instrumentation failed: the page has no window['Nonsense'].prototype, no window.nowhere",
            "instrument:js_targets"
        )
    );
    running.end().await;
    rig.close().await;
}
