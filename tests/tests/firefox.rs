//! Firefox through the services and the command line: what it leaves, its kinds of end, and a slot's change of browsers.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use sonde_proto::browser::v1::BrowserEventKind;
use sonde_proto::browser::v1::session_response::Message as Told;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, Command, CommandStatus, GetCommand, Outcome};
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::checker::{Expectation, check};
use sonde_tests::session::{Browsers, all_instruments};
use sonde_tests::world::{World, until};

const CRAWL: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(90);
/// A page that hangs is given up after this.
const SHORT: prost_types::Duration = prost_types::Duration { seconds: 3, nanos: 0 };

fn get() -> Step {
    Step::Get(GetCommand::default())
}

/// The whole way on Firefox: pages that script, navigate and set cookies, with sealed rows and honest capabilities.
/// M01, M05, M10, M12, M13, M14, R1, R3, R4, R5, R7, R14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_on_firefox_is_sound() {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
    let pages = ["javascript", "cookies", "frames", "navigation", "static-small", "posts"];
    let urls: Vec<String> = pages.iter().map(|name| page(name).unwrap().url(&site, name, "")).collect();
    let data = world.data().display().to_string();
    let options =
        ["--browser", "firefox", "--browsers", "1", "--load", "networkidle", "--screenshot", "--page-source"];
    let mut arguments = vec!["crawl", "--out", &data, "--progress", "plain"];
    arguments.extend(options.iter().chain(&[]).copied());
    arguments.extend(urls.iter().map(String::as_str));
    let mut sonde = world.sonde(arguments);
    let code = sonde.code(CRAWL).await;
    assert_eq!(code, 0, "{}\n{}", sonde.stdout(), sonde.stderr());
    let report = check(&world.data(), &Expectation::all_ok(pages.len() as u64)).unwrap();
    report.assert_clean();
    for table in [
        "http_requests",
        "http_responses",
        "javascript",
        "javascript_cookies",
        "navigations",
        "crawl_history",
        "artifacts",
    ] {
        assert!(report.figure(&format!("rows.{table}")) > 0, "{table} has no rows\n{report}");
    }
    assert_eq!(report.figure("attempts"), pages.len() as u64, "visits were made more than once\n{report}");
    let db = Connection::open(world.data().join("crawl.sqlite")).unwrap();
    let text = |sql: &str| db.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let product = text("SELECT facts ->> '$.product' FROM provenance WHERE subject LIKE 'browser:%'");
    assert!(product.starts_with("Firefox/"), "{product}");
    let state = |group: &str| text(&format!("SELECT state FROM capabilities WHERE field_group = '{group}'"));
    assert_eq!((state("javascript.calls"), state("navigations")), ("observed".into(), "observed".into()));
    assert_eq!((state("http.requests"), state("http.callstacks")), ("observed".into(), "unsupported".into()));
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// M33, M40, R14: a slot changes browsers as its visits ask, a killed Firefox or geckodriver is a crash, and another
/// comes.
#[tokio::test]
async fn a_slot_changes_browsers_and_outlives_them() {
    let world = World::new();
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let url = |name: &str, token: &str| site.url(&site.hosts()[0], &format!("/p/{name}?v={token}"));
    let browsers = Browsers::start(&world, 1).await;
    let mut slot = browsers.slot(0).await;
    let kind = |kind: BrowserKind| BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
    for (n, browser) in [BrowserKind::Chromium, BrowserKind::Firefox].into_iter().enumerate() {
        slot.browser = kind(browser);
        let result = slot.visit(&url("javascript", &format!("c{n}")), all_instruments(), vec![get()]).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{browser:?}: {result:#?}");
        assert!(result.seal.unwrap().complete);
        // Stopped before its first element: no recorder ever runs in it, and none is missed.
        let bare = site.url(&site.hosts()[0], &format!("/r/hang?mode=document&v=e{n}"));
        let load = Command { timeout: Some(SHORT), step: Some(get()), ..Command::default() };
        slot.begin_commands(&bare, all_instruments(), vec![load]).await;
        let result = slot.ended().await;
        assert_eq!(result.outcome(), Outcome::Timeout, "{browser:?}: {result:#?}");
        assert!(result.seal.as_ref().unwrap().complete, "{browser:?}: {result:#?}");
    }
    for victim in ["firefox", "geckodriver"] {
        slot.begin(&url("hang", victim), all_instruments(), vec![get()]).await;
        let asked = |site: &Site| site.hits_for(victim).iter().any(|hit| hit.path_only() == "/r/hang");
        site.wait_for("the page's request", SOON, asked).await.unwrap();
        let process = until("the victim", SOON, || match victim {
            "firefox" => world.browsers().into_iter().next(),
            _ => world.processes().into_iter().find(|p| p.name() == "geckodriver"),
        });
        process.await.signal(Signal::KILL);
        let mut crashed = false;
        let result = loop {
            match slot.told().await {
                Told::BrowserEvent(event) => crashed |= event.kind() == BrowserEventKind::Crashed,
                Told::AttemptEnded(ended) => break ended.result.unwrap(),
                _ => {}
            }
        };
        assert!(crashed, "{victim}");
        assert_eq!(result.outcome(), Outcome::Crashed, "{victim}: {result:#?}");
        assert_eq!(result.commands[0].status(), CommandStatus::Critical);
        let seal = result.seal.unwrap();
        assert!(!seal.complete && !seal.reason.is_empty(), "{seal:?}");
    }
    slot.browser = kind(BrowserKind::Chromium);
    let result = slot.visit(&url("static-small", "last"), all_instruments(), vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    drop(slot);
    browsers.stop(&world).await;
}

/// R14: a browser-service that is killed leaves no Firefox behind.
#[tokio::test]
async fn a_killed_service_takes_its_firefox_along() {
    let world = World::new();
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let browsers = Browsers::start(&world, 1).await;
    let mut slot = browsers.slot(0).await;
    slot.browser = BrowserSpec { kind: BrowserKind::Firefox.into(), ..BrowserSpec::default() };
    let url = site.url(&site.hosts()[0], "/p/static-small?v=k");
    let result = slot.visit(&url, all_instruments(), vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    let Browsers { service, mut storage, .. } = browsers;
    service.signal_group(Signal::KILL);
    let left = || {
        let names: Vec<String> = world.processes().iter().map(|p| p.name().to_owned()).collect();
        (names.iter().all(|name| name.starts_with("sonde-storage"))).then_some(())
    };
    until("the browser to be gone", Duration::from_secs(5), left).await;
    storage.signal_group(Signal::TERM);
    assert_eq!(storage.code(SOON).await, 0, "{}", storage.stderr());
}
