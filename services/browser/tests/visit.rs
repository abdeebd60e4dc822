//! Visits on a real Chromium, with a storage in memory: the engine alone, without sessions.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use sonde_browser::Config;
use sonde_browser::engine::chromium::Chromium;
use sonde_browser::engine::{Browser, Engine, Fate, LaunchSpec, Progress, Scripts, Visit, VisitSetup};
use sonde_browser::uplink::{AttemptUplink, Bounds, SealParts, Uplink};
use sonde_proto::record::v1::SiteVisit;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowserSpec, Command, CommandStatus, GetCommand, Instruments};
use sonde_site::{Site, SiteOptions};
use support::{MemoryStorage, SOON};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

struct Rig {
    browser: Arc<dyn Browser>,
    storage: MemoryStorage,
    uplink: Uplink,
    site: Site,
    _run_dir: tempfile::TempDir,
}

impl Rig {
    async fn start(extension: Option<Scripts>) -> Self {
        let storage = MemoryStorage::start().await;
        let uplink = Uplink::start(storage.channel(), Bounds::default(), CancellationToken::new());
        let run_dir = tempfile::tempdir().unwrap();
        let config = Config {
            no_sandbox: rustix::process::geteuid().is_root(),
            run_dir: Some(run_dir.path().to_owned()),
            ..Config::default()
        };
        let engine = Arc::new(Chromium::new(&config, uplink.clone()).unwrap());
        let browser = engine.launch(LaunchSpec::new(&BrowserSpec::default(), extension)).await.unwrap();
        let site = Site::start(SiteOptions::default()).await.unwrap();
        Self { browser, storage, uplink, site, _run_dir: run_dir }
    }

    fn page(&self, name: &str) -> String {
        self.site.url(&self.site.hosts()[0], &format!("/p/{name}?v=t"))
    }

    async fn open(&self, visit_id: i64, instruments: &Instruments) -> (Box<dyn Visit>, AttemptUplink) {
        let uplink = self.uplink.attempt(visit_id, 1);
        let row = SiteVisit { visit_id, fence: 1, ..SiteVisit::default() };
        uplink.open(row, Instant::now() + SOON).await.unwrap();
        let setup = VisitSetup {
            uplink: uplink.clone(),
            instruments: instruments.clone(),
            site_url: self.page("static-small"),
            max_body_bytes: 1 << 20,
            deadline: Instant::now() + SOON,
            progress: Progress::new().0,
        };
        (self.browser.clone().open_visit(setup).await.unwrap(), uplink)
    }
}

fn get(url: String) -> Command {
    Command { step: Some(Step::Get(GetCommand { url, ..GetCommand::default() })), ..Command::default() }
}

fn everything() -> Instruments {
    Instruments { http: true, cookies: true, javascript: true, navigations: true, ..Instruments::default() }
}

/// M05, R4: each producer has a stream, and each stream ends where it says.
#[tokio::test]
async fn every_producer_declares_its_stream() {
    let instruments = everything();
    let rig = Rig::start(Scripts::of(&instruments)).await;
    for visit_id in [1, 2] {
        let (mut visit, uplink) = rig.open(visit_id, &instruments).await;
        let report = visit.run(0, &get(rig.page("javascript")), Instant::now() + SOON).await;
        assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
        assert_eq!(report.http_status, 200);
        assert!(visit.instruments_ready_at_us() < visit.navigation_start_at_us());
        let ending = visit.finish(Instant::now() + SOON).await;
        assert_eq!(
            (ending.devtools.as_deref(), ending.incomplete_reason.as_str()),
            (Some(""), ""),
            "{ending:?}"
        );
        uplink.flushed(Instant::now() + SOON).await.unwrap();
        let parts =
            SealParts { devtools: ending.devtools, sessions: ending.sessions, ..SealParts::default() };
        let seal = uplink.seal(parts, Instant::now() + SOON).await.unwrap();
        assert!(seal.complete, "{:?}", rig.storage.kept().seals[&visit_id]);
        let streams = rig.storage.kept().seals[&visit_id].streams.clone();
        assert_eq!(streams.len(), 3, "{streams:?}");
        assert!(streams[1].last_ordinal > 0 && streams[2].last_ordinal > 0, "{streams:?}");
        assert_eq!(visit.dispose(Instant::now() + SOON).await, Fate::Keep);
    }
    rig.browser.clone().close(Duration::from_secs(5)).await;
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
    let rig = Rig::start(Some(scripts)).await;
    let (mut visit, uplink) = rig.open(1, &instruments).await;
    let report = visit.run(0, &get(rig.page("javascript")), Instant::now() + SOON).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    let ending = visit.finish(Instant::now() + SOON).await;
    assert_eq!(ending.incomplete_reason, "", "{ending:?}");
    let failure = ending.failure.unwrap();
    assert_eq!(
        (failure.message.as_str(), failure.fingerprint.as_str()),
        (
            "JS instrumentation failed: the page has no window['Nonsense'].prototype, no window.nowhere",
            "instrument:js_targets"
        )
    );
    uplink.flushed(Instant::now() + SOON).await.unwrap();
    let parts = SealParts { devtools: ending.devtools, sessions: ending.sessions, ..SealParts::default() };
    assert!(uplink.seal(parts, Instant::now() + SOON).await.unwrap().complete);
    assert_eq!(visit.dispose(Instant::now() + SOON).await, Fate::Keep);
    rig.browser.clone().close(Duration::from_secs(5)).await;
}
