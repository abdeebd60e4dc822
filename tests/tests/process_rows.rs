//! Processes as data: each that a browser-service starts is a row of the table `processes`, with a true end, whatever of
//! service, storage and browser is gone meanwhile.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, GetCommand, Instruments, Outcome};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot};
use sonde_tests::trap::{Answer, Trap};
use sonde_tests::up::Up;
use sonde_tests::world::{World, until};

const SOON: Duration = Duration::from_secs(60);

/// What the tests look at of a row.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    parent: Option<String>,
    kind: String,
    label: String,
    status: String,
    pid: Option<u32>,
    end_reason: Option<String>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    browser_id: Option<u32>,
    visits: String,
    env: String,
}

/// By id. Nothing while storage has no database.
fn rows(world: &World) -> BTreeMap<String, Row> {
    let path = world.data().join("crawl.sqlite");
    let Ok(db) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return BTreeMap::new();
    };
    let query = "SELECT process_id, parent_id, process_type, label, status, pid, end_reason, exit_code, signal, \
                 browser_id, visit_ids, env FROM processes";
    let Ok(mut statement) = db.prepare(query) else { return BTreeMap::new() };
    let all = statement.query_map([], |row| {
        let found = Row {
            parent: row.get(1)?,
            kind: row.get(2)?,
            label: row.get(3)?,
            status: row.get(4)?,
            pid: row.get(5)?,
            end_reason: row.get(6)?,
            exit_code: row.get(7)?,
            signal: row.get(8)?,
            browser_id: row.get(9)?,
            visits: row.get(10)?,
            env: row.get(11)?,
        };
        Ok((row.get(0)?, found))
    });
    all.unwrap().collect::<Result<_, _>>().unwrap()
}

fn of(rows: &BTreeMap<String, Row>, kind: &str) -> Vec<Row> {
    rows.values().filter(|row| row.kind == kind).cloned().collect()
}

/// Waits until the rows show something.
async fn shown<T>(world: &World, what: &str, see: impl Fn(&BTreeMap<String, Row>) -> Option<T>) -> T {
    until(what, SOON, || see(&rows(world))).await
}

/// The row of a process of this pid once it has ended.
fn ended(pid: u32) -> impl Fn(&BTreeMap<String, Row>) -> Option<Row> {
    move |rows| rows.values().find(|row| row.pid == Some(pid) && row.status == "exited").cloned()
}

struct Rig {
    world: World,
    site: Trap,
    browsers: Browsers,
    slot: Slot,
}

impl Rig {
    async fn start(kind: BrowserKind) -> Self {
        let (world, site) = (World::new(), Trap::start(|_| Answer::html("<!doctype html><p>plain")).await);
        let browsers = Self::browsers(&world).await;
        let mut slot = browsers.slot(0).await;
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
        Self { world, site, browsers, slot }
    }

    async fn browsers(world: &World) -> Browsers {
        let state = world.data().join("processes").display().to_string();
        Browsers::start_with(world, 1, &[("PRESTART", "off"), ("STATE_DIR", state.as_str())]).await
    }

    /// The visit's id.
    async fn visit(&mut self) -> i64 {
        let url = self.site.url("/");
        let get = Step::Get(GetCommand { url: url.clone(), ..GetCommand::default() });
        let result = self.slot.visit(&url, Instruments::default(), vec![get]).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
        result.visit_id
    }
}

/// A01, A14, A18: what was started and how it ended, with its parents.
async fn lives(kind: BrowserKind, browser: &str, driver: bool) {
    let mut rig = Rig::start(kind).await;
    let visit = rig.visit().await;
    let running = shown(&rig.world, "the browser's row", |rows| of(rows, "browser").first().cloned()).await;
    assert_eq!((running.status.as_str(), running.end_reason.as_deref()), ("running", None));
    assert_eq!((running.label.as_str(), running.pid), (browser, Some(rig.slot.pid)));
    let Rig { world, browsers, slot, .. } = rig;
    let service_pid = browsers.service.pid();
    drop(slot);
    browsers.stop(&world).await;
    let all = rows(&world);
    assert!(all.values().all(|row| row.status == "exited"), "{all:#?}");
    let [service] = &of(&all, "service")[..] else { panic!("one service: {all:#?}") };
    assert_eq!((service.pid, service.end_reason.as_deref()), (Some(service_pid), Some("exited")));
    let [row] = &of(&all, "browser")[..] else { panic!("one browser: {all:#?}") };
    assert_eq!(row.browser_id, Some(1), "{row:#?}");
    assert_eq!(row.visits, format!("[{visit}]"));
    assert_eq!(row.end_reason.as_deref(), Some("terminated"), "{row:#?}");
    // It went when it was asked, or by the signal that came next.
    assert_ne!(row.exit_code.is_some(), row.signal.is_some(), "{row:#?}");
    let above = |row: &Row| all.get(row.parent.as_ref().unwrap()).cloned().unwrap();
    let mut parent = above(row);
    assert_eq!(of(&all, "driver").len(), usize::from(driver), "{all:#?}");
    if parent.kind == "driver" {
        parent = above(&parent);
    }
    assert_eq!(&parent, service);
    let env: serde_json::Value = serde_json::from_str(&row.env).unwrap();
    assert!(env.as_object().unwrap().contains_key("PATH"), "{env}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chromium_is_a_row_from_its_start_to_its_end() {
    lives(BrowserKind::Chromium, "chromium", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firefox_and_its_driver_are_rows_from_their_start_to_their_end() {
    lives(BrowserKind::Firefox, "firefox", true).await;
}

/// A01, R8: what happens while storage is away is told when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_away_misses_no_process() {
    let mut rig = Rig::start(BrowserKind::Chromium).await;
    rig.visit().await;
    let first = rig.slot.pid;
    shown(&rig.world, "the browser's row", |rows| (!of(rows, "browser").is_empty()).then_some(())).await;
    rig.browsers.storage.signal_group(Signal::KILL);
    rig.browsers.storage.end(SOON).await;
    Process::read(first).unwrap().signal(Signal::KILL);
    while rig.slot.pid == first {
        rig.slot.told().await;
    }
    let second = rig.slot.pid;
    let before = rows(&rig.world);
    assert!(before.values().all(|row| row.pid != Some(second)), "{before:#?}");
    rig.browsers.storage = Browsers::start_storage(&rig.world);
    let row = shown(&rig.world, "the end of the first", ended(first)).await;
    assert_eq!((row.end_reason.as_deref(), row.signal), (Some("signalled"), Some(9)));
    let runs = |rows: &BTreeMap<String, Row>| rows.values().find(|row| row.pid == Some(second)).cloned();
    let row = shown(&rig.world, "the second", runs).await;
    assert_eq!(row.status, "running");
    let Rig { world, browsers, slot, .. } = rig;
    drop(slot);
    browsers.stop(&world).await;
}

/// A07, A16, R14: nobody saw the end of a killed service; the next one tells, and never of an exit code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_killed_service_is_told_by_the_next() {
    let mut rig = Rig::start(BrowserKind::Chromium).await;
    rig.visit().await;
    let (service, browser) = (rig.browsers.service.pid(), rig.slot.pid);
    shown(&rig.world, "the browser's row", |rows| (!of(rows, "browser").is_empty()).then_some(())).await;
    let Rig { world, browsers, slot, site } = rig;
    drop(slot);
    let Browsers { storage, service: killed, .. } = browsers;
    for mut service in [killed, storage] {
        service.signal_group(Signal::KILL);
        service.end(SOON).await;
    }
    let browsers = Rig::browsers(&world).await;
    let row = shown(&world, "the service's end", ended(service)).await;
    assert_eq!((row.end_reason.as_deref(), row.exit_code, row.signal), (Some("lost"), None, None));
    let row = shown(&world, "the browser's end", ended(browser)).await;
    assert!(matches!(row.end_reason.as_deref(), Some("lost" | "terminated")), "{row:#?}");
    assert_eq!(row.exit_code, None);
    drop(site);
    // The directories of the killed one are gone, too.
    browsers.stop(&world).await;
}

/// A01: `sonde up` and the services that it supervises are rows of one tree; how a run has ended is told by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_and_its_services_are_rows() {
    let world = World::new();
    let up = Up::start(&world, 1).await;
    let tree = |rows: &BTreeMap<String, Row>, status: &str| {
        let (top, _) = rows.iter().find(|(_, row)| row.kind == "supervisor" && row.parent.is_none())?;
        let services = rows.values().filter(|row| row.parent.as_ref() == Some(top) && row.status == status);
        let services: Vec<Row> = services.cloned().collect();
        (services.len() == 3).then(|| (top.clone(), services))
    };
    let (top, services) = shown(&world, "three services that run", |rows| tree(rows, "running")).await;
    assert!(services.iter().all(|row| row.kind == "service" && row.pid.is_some()), "{services:?}");
    up.stop(&world).await;
    let up = Up::start(&world, 1).await;
    let ended = |rows: &BTreeMap<String, Row>| {
        let all: Vec<Row> = rows
            .iter()
            .filter(|(id, row)| **id == top || row.parent.as_ref() == Some(&top))
            .map(|(_, row)| row.clone())
            .collect();
        all.iter().all(|row| row.status == "exited").then_some(all)
    };
    let ended = shown(&world, "the ends of the first run", ended).await;
    assert_eq!(ended.len(), 4, "{ended:#?}");
    for row in ended.iter().filter(|row| row.kind == "service") {
        assert_eq!(row.exit_code, Some(0), "{row:?}");
        assert_ne!(row.end_reason.as_deref(), Some("lost"), "{row:?}");
    }
    up.stop(&world).await;
}
