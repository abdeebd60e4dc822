//! Visits on a real Chromium with a real storage: what they leave, and what hostile pages cannot do.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use sonde_proto::browser::v1::BrowserEventKind;
use sonde_proto::browser::v1::session_response::Message as Told;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    AttemptResult, BrowseCommand, Command, CommandStatus, DumpPageSourceCommand, GetCommand, ImageFormat,
    Instruments, LoadPolicy, Outcome, RetryAdvice, ScreenshotCommand, SleepCommand,
};
use sonde_site::{Site, SiteOptions};
use sonde_tests::session::{Browsers, Slot, all_instruments};
use sonde_tests::world::{World, until};

const SOON: Duration = Duration::from_secs(30);
/// A page that hangs is given up after this.
const SHORT: prost_types::Duration = prost_types::Duration { seconds: 3, nanos: 0 };

struct Rig {
    world: World,
    site: Site,
    browsers: Browsers,
    slot: Slot,
}

impl Rig {
    async fn start() -> Self {
        let world = World::new();
        let site = Site::start(SiteOptions::default()).await.unwrap();
        let browsers = Browsers::start(&world, 1).await;
        let slot = browsers.slot(0).await;
        Self { world, site, browsers, slot }
    }

    fn page(&self, name: &str, token: &str) -> String {
        self.site.url(&self.site.hosts()[0], &format!("/p/{name}?v={token}"))
    }

    /// A visit whose commands have little time.
    async fn visit_within(&mut self, url: &str, steps: Vec<Step>) -> AttemptResult {
        let command = |step| Command { timeout: Some(SHORT), step: Some(step), ..Command::default() };
        let commands = steps.into_iter().map(command).collect();
        self.slot.begin_commands(url, all_instruments(), commands).await;
        self.slot.ended().await
    }

    fn db(&self) -> Connection {
        Connection::open(self.world.data().join("crawl.sqlite")).unwrap()
    }

    fn count(&self, table: &str, visit_id: i64) -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE visit_id = ?1");
        self.db().query_row(&sql, [visit_id], |row| row.get(0)).unwrap()
    }

    /// SIGTERM; nothing is left.
    async fn stop(self) {
        let Self { world, browsers, slot, .. } = self;
        drop(slot);
        browsers.stop(&world).await;
    }
}

fn get() -> Step {
    Step::Get(GetCommand::default())
}

/// M20, M40, R4, R14: each table of each instrument has its rows, bound to the visit and sealed.
#[tokio::test]
async fn an_instrumented_visit_leaves_rows_in_every_table() {
    let mut rig = Rig::start().await;
    let instruments = Instruments { save_content: vec!["all".into()], ..all_instruments() };
    let commands = vec![
        Step::Get(GetCommand { load_policy: LoadPolicy::NetworkIdle.into(), ..GetCommand::default() }),
        Step::Screenshot(ScreenshotCommand { full_page: true, ..ScreenshotCommand::default() }),
        Step::Screenshot(ScreenshotCommand {
            format: ImageFormat::Jpeg.into(),
            suffix: "view".into(),
            ..ScreenshotCommand::default()
        }),
        Step::DumpPageSource(DumpPageSourceCommand::default()),
        Step::Sleep(SleepCommand { duration: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }) }),
    ];
    let result = rig.slot.visit(&rig.page("cookies", "t1"), instruments, commands).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    let seal = result.seal.as_ref().unwrap();
    assert!(seal.complete, "{seal:?}");
    assert_eq!(result.commands[0].http_status, 200);
    assert!(result.commands[0].final_url.contains("/p/cookies"), "{:?}", result.commands[0]);
    let visit = result.visit_id;
    for table in ["http_requests", "http_responses", "javascript_cookies", "navigations", "artifacts"] {
        assert!(rig.count(table, visit) > 0, "{table} is empty");
    }
    assert_eq!(rig.count("crawl_history", visit), 5);
    assert_eq!(rig.count("site_visits", visit), 1);
    assert_eq!(rig.count("incomplete_visits", visit), 0);
    let db = rig.db();
    let (ready, navigated): (i64, i64) = db
        .query_row(
            "SELECT instruments_ready_at, navigation_start_at FROM visit_seals WHERE visit_id = ?1",
            [visit],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .unwrap();
    assert!(ready < navigated);
    let source = |cause: &str| -> i64 {
        let sql = "SELECT count(*) FROM javascript_cookies WHERE visit_id = ?1 AND change_cause = ?2";
        db.query_row(sql, rusqlite::params![visit, cause], |r| r.get(0)).unwrap()
    };
    assert!(source("visit-end") > 0, "the snapshot at the end");
    assert_eq!(source("visit-start"), 0, "a new context has none");
    let result = rig.slot.visit(&rig.page("javascript", "t2"), all_instruments(), vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    assert!(rig.count("javascript", result.visit_id) > 0);
    rig.stop().await;
}

/// P1: what is not asked for is not done.
#[tokio::test]
async fn a_visit_without_instruments_has_its_history_only() {
    let mut rig = Rig::start().await;
    let result = rig.slot.visit(&rig.page("static-small", "t1"), Instruments::default(), vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    let seal = result.seal.unwrap();
    let rows: BTreeMap<String, u64> = seal.rows.into_iter().filter(|(_, n)| *n > 0).collect();
    assert!(seal.complete);
    assert_eq!(rows.get("crawl_history"), Some(&1), "{rows:?}");
    assert_eq!(rig.count("http_requests", result.visit_id), 0);
    assert_eq!(result.commands[0].http_status, 200);
    rig.stop().await;
}

/// M33, M40: network errors keep the browser, and say what the browser says.
#[tokio::test]
async fn network_errors_have_the_browsers_code() {
    let mut rig = Rig::start().await;
    let refused = format!("http://localhost:{}/", rig.site.refused_port());
    let nowhere = "http://nowhere.invalid/".to_owned();
    for (url, code, retry) in [
        (refused, "CONNECTION_REFUSED", RetryAdvice::Same),
        (nowhere, "NAME_NOT_RESOLVED", RetryAdvice::Never),
    ] {
        let result = rig.slot.visit(&url, all_instruments(), vec![get()]).await;
        assert_eq!(result.outcome(), Outcome::Neterror, "{result:#?}");
        assert_eq!(result.commands[0].error, code);
        let failure = result.failure.unwrap();
        assert_eq!(failure.retry(), retry);
        assert_eq!(failure.net_error, format!("net::ERR_{code}"));
        let seal = result.seal.unwrap();
        assert!(seal.complete, "{seal:?}");
    }
    // A bare host: https cannot connect, http can.
    let bare = rig.page("static-small", "t3").replace("http://", "");
    let result = rig.slot.visit(&bare, all_instruments(), vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    rig.stop().await;
}

/// M24, M25, P12: neither loops nor dialogs hang a visit, and the next one is well.
#[tokio::test]
async fn hostile_pages_do_not_hang_a_visit() {
    let mut rig = Rig::start().await;
    let away = Step::Get(GetCommand { url: rig.page("static-small", "d2"), ..GetCommand::default() });
    let commands = vec![
        get(),
        Step::Sleep(SleepCommand { duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }) }),
        away,
    ];
    let result = rig.slot.visit(&rig.page("dialog", "d1"), all_instruments(), commands).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    for page in ["popups", "download"] {
        let result = rig.slot.visit(&rig.page(page, page), all_instruments(), vec![get()]).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{page}: {result:#?}");
    }
    let hang = rig.page("hang", "h1");
    let result = rig.visit_within(&hang, vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Timeout, "{result:#?}");
    assert!(rig.count("http_requests", result.visit_id) > 0, "what came is kept");
    // Stopped before its first element: no recorder ever runs in it, and none is missed.
    let bare = rig.site.url(&rig.site.hosts()[0], "/r/hang?mode=document&v=e1");
    let result = rig.visit_within(&bare, vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Timeout, "{result:#?}");
    assert!(result.seal.as_ref().unwrap().complete, "{result:#?}");
    let endless = format!("{}&d=1", rig.page("infinite-loop", "l1"));
    let picture = Step::Screenshot(ScreenshotCommand::default());
    let wait = Step::Sleep(SleepCommand { duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }) });
    let result = rig.visit_within(&endless, vec![get(), wait, picture]).await;
    assert_eq!(result.outcome(), Outcome::Timeout, "{result:#?}");
    assert_eq!(result.commands[2].status(), CommandStatus::Timeout);
    let result = rig.slot.visit(&rig.page("static-small", "n1"), all_instruments(), vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "the next visit: {result:#?}");
    rig.stop().await;
}

/// M40, P12
#[tokio::test]
async fn a_killed_browser_is_a_crash_and_is_replaced() {
    let mut rig = Rig::start().await;
    let url = rig.page("hang", "k1");
    rig.slot.begin(&url, all_instruments(), vec![get()]).await;
    let asked = |site: &Site| site.hits_for("k1").iter().any(|hit| hit.path_only() == "/r/hang");
    rig.site.wait_for("the page's request", SOON, asked).await.unwrap();
    let browser = until("a browser", SOON, || rig.world.browsers().into_iter().next()).await;
    browser.signal(Signal::KILL);
    let mut crashed = false;
    let result = loop {
        match rig.slot.told().await {
            Told::BrowserEvent(event) => crashed |= event.kind() == BrowserEventKind::Crashed,
            Told::AttemptEnded(ended) => break ended.result.unwrap(),
            _ => {}
        }
    };
    assert!(crashed);
    assert_eq!(result.outcome(), Outcome::Crashed, "{result:#?}");
    assert_eq!(result.commands[0].status(), CommandStatus::Critical);
    let seal = result.seal.unwrap();
    assert!(!seal.complete && !seal.reason.is_empty(), "{seal:?}");
    assert_eq!(rig.count("incomplete_visits", result.visit_id), 1);
    let result = rig.slot.visit(&rig.page("static-small", "k2"), all_instruments(), vec![get()]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    rig.stop().await;
}

/// M20
#[tokio::test]
async fn browse_follows_links_and_stores_its_seed() {
    let mut rig = Rig::start().await;
    let browse =
        Step::Browse(BrowseCommand { num_links: Some(2), seed: Some(7), ..BrowseCommand::default() });
    let result = rig.slot.visit(&rig.page("navigation", "b1"), all_instruments(), vec![browse]).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    let sql = "SELECT arguments FROM crawl_history WHERE visit_id = ?1";
    let arguments: String = rig.db().query_row(sql, [result.visit_id], |r| r.get(0)).unwrap();
    assert!(arguments.contains("\"seed\":7"), "{arguments}");
    rig.stop().await;
}
