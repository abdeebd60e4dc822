//! Nothing is cut, dropped or late in silence; and what the capabilities say is so.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use sonde_browser::engine::chromium::cdp::{AutoAttach, Filter, RawCommand};
use sonde_browser::engine::chromium::keep_strangers;
use sonde_browser::engine::chromium::launch::{ChromiumOptions, launch};
use sonde_browser::uplink::{Bounds, Uplink};
use sonde_proto::VisitId;
use sonde_proto::record::v1::record::Row;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, CommandStatus, Instruments, LoadPolicy};
use support::pages::{Asked, Pages, Reply, links, reply};
use support::rig::{Rig, get};
use support::{MemoryStorage, PATIENCE, SOON, until};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn html(body: &str) -> Option<Reply> {
    Some(reply("text/html", format!("<!doctype html><meta charset=utf-8>{body}")))
}

fn everything() -> Instruments {
    Instruments {
        http: true,
        dns: true,
        scripts: true,
        save_content: vec!["all".to_owned()],
        ..Instruments::default()
    }
}

/// M18
#[tokio::test(flavor = "multi_thread")]
async fn every_cut_of_a_visit_has_its_row() {
    let mut rig = Rig::with(None, &["--disable-popup-blocking"]).await;
    rig.max_body_bytes = 5000;
    let long = "x".repeat(6000);
    let pages = Pages::start(move |asked: &Asked, _| match asked.path.as_str() {
        "/page" => html(
            "<script src=/long.js></script>
             <script>fetch('data:text/plain,12345678901234567890'); for(let n=0;n<18;n++)open('/popup?'+n);
             fetch('/post',{method:'POST',body:'p'.repeat(1100000)}).then(()=>fetch('/done'))</script>",
        ),
        "/long.js" => Some(reply("text/javascript", format!("var a='{long}'"))),
        _ => Some(reply("text/html", "ok")),
    })
    .await;
    let mut running = rig.open(&everything()).await;
    let report = running.run(get(&pages.url("/page"), LoadPolicy::NetworkIdle)).await;
    assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    pages.asked("/done").await;
    let rows = rig.finish(&mut running).await;
    let cuts = rows.cuts();
    for (reason, count) in [("popups_cap", 2), ("body_cap", 1), ("source_cap", 1), ("post_body_cap", 1)] {
        assert_eq!(cuts.get(reason), Some(&count), "{reason}: {:#?}", rows.truncations());
    }
    assert_eq!(cuts.get("data_url_content"), Some(&1), "{:#?}", rows.truncations());
    let of = |reason: &str| rows.truncations().into_iter().find(|t| t.reason == reason).unwrap();
    let post = of("post_body_cap");
    assert_eq!((post.dropped_bytes, post.limit_value), (1_100_000 - (1 << 20), 1 << 20));
    assert_eq!(post.subject, Some(rows.request("/post").request_id.to_string()));
    assert_eq!((of("body_cap").limit_value, of("popups_cap").limit_value), (5000, 16));
    let script = rows.scripts().into_iter().find(|s| s.url.ends_with("/long.js")).unwrap();
    assert_eq!(script.source_outcome.as_deref(), Some("capped"));
    assert_eq!(rows.response("/long.js").body_outcome, "capped");
    running.end().await;
    rig.close().await;
}

/// I14, M05: an answer that comes between the end of a visit and that of its context is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn late_answers_belong_to_no_visit_and_are_kept() {
    let rig = Rig::start().await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let pages = Pages::start(move |asked: &Asked, _| match asked.path.as_str() {
        "/page" => html("<script>new SharedWorker('/worker.js')</script>"),
        "/worker.js" => Some(reply("text/javascript", "fetch('/held')")),
        "/held" => Some(reply("text/plain", "late").once(&gate)),
        _ => None,
    })
    .await;
    let mut running = rig.open(&everything()).await;
    running.get(&pages.url("/page")).await;
    pages.asked("/held").await;
    let rows = rig.finish(&mut running).await;
    let id = rows.request("/held").request_id;
    let failure = rows.failures().into_iter().find(|f| f.request_id == id).unwrap();
    assert_eq!((failure.error.as_str(), failure.canceled), ("unfinished", false));
    open.send(true).unwrap();
    let storage = rig.storage.clone();
    let late = || {
        storage.rows(VisitId::NONE).0.into_iter().find_map(|row| match row {
            Row::Unattributed(row) if row.table_name == "http_responses" => Some(row),
            _ => None,
        })
    };
    until("the late answer", &rig.storage.changes(), || late().is_some()).await;
    let row = late().unwrap();
    assert_eq!(row.reason, "visit_ended");
    let payload: Value = serde_json::from_str(&row.payload).unwrap();
    assert_eq!(payload["visit_id"], running.visit_id);
    assert_eq!(payload["params"]["response"]["url"], pages.url("/held"));
    let visit_id = running.visit_id;
    running.end().await;
    // The next visit has nothing of it.
    let mut next = rig.open(&everything()).await;
    next.get(&pages.url("/none")).await;
    let rows = rig.finish(&mut next).await;
    assert!(rows.requests().iter().all(|r| !r.url.ends_with("/held")) && next.visit_id != visit_id);
    next.end().await;
    rig.close().await;
}

/// M23: the end of a recorded visit waits for nothing that does not come.
#[tokio::test(flavor = "multi_thread")]
async fn disposal_of_a_recorded_visit_does_not_wait_for_its_deadline() {
    let rig = Rig::start().await;
    let pages = Pages::start(|_: &Asked, _| html("<p>hello")).await;
    for _ in 0..3 {
        let mut running = rig.open(&everything()).await;
        running.get(&pages.url("/page")).await;
        rig.finish(&mut running).await;
        let begun = Instant::now();
        running.end().await;
        let taken = begun.elapsed();
        println!("disposed of in {taken:?}");
        assert!(taken < PATIENCE / 10, "its deadline was {PATIENCE:?}, and it took {taken:?}");
    }
    rig.close().await;
}

/// M18: on each kind of browser.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_very_many_links_is_cut_and_says_so() {
    let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
        "/enough" => Some(links(2000)),
        "/many" => Some(links(2001)),
        _ => html("<p>one"),
    })
    .await;
    for kind in [BrowserKind::Chromium, BrowserKind::Firefox] {
        let rig = Rig::launch(BrowserSpec { kind: kind.into(), ..BrowserSpec::default() }, None).await;
        let mut running = rig.open(&Instruments::default()).await;
        for (path, cuts) in [("/enough", 0), ("/many", 1)] {
            let report = running.browse(&pages.url(path)).await;
            assert_eq!(report.status, CommandStatus::Ok, "{kind:?} {report:?}");
            running.uplink.flushed(Instant::now() + PATIENCE).await.unwrap();
            let rows = rig.rows(running.visit_id);
            let told = rows.truncations().into_iter().filter(|t| t.reason == "links_cap").count();
            assert_eq!(told, cuts, "{kind:?} {path}: {rows:?}");
        }
        running.end().await;
        rig.close().await;
    }
}

/// I14: what happens outside of every visit's context is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_unknown_contexts_are_kept_as_nobodys() {
    let storage = MemoryStorage::start().await;
    let uplink = Uplink::start(storage.channel(), Bounds::default(), CancellationToken::new());
    let root = tempfile::tempdir().unwrap();
    let options = ChromiumOptions {
        no_sandbox: rustix::process::geteuid().is_root(),
        profile_root: Some(root.path().to_owned()),
        ..ChromiumOptions::default()
    };
    let browser = launch(options).await.unwrap();
    let connection = browser.connection().clone();
    let ours = browser.create_context(None, SOON).await.unwrap();
    let known = ours.clone();
    let events = connection.subscribe(Filter::outside(move |context| *context == known));
    let keeping = tokio::spawn(keep_strangers(events, uplink.clone()));
    let enable = |_: &_| vec![RawCommand::new("Network.enable", json!({}))];
    connection.auto_attach(AutoAttach::new(enable), SOON).await.unwrap();
    let pages = Pages::start(|_: &Asked, _| Some(reply("text/html", "hello"))).await;
    browser.create_page(Some(&ours), &pages.url("/visit"), SOON).await.unwrap();
    pages.asked("/visit").await;
    browser.create_page(None, &pages.url("/stranger"), SOON).await.unwrap();
    let rows = || -> Vec<(String, String, String)> {
        let rows = storage.rows(VisitId::NONE).0.into_iter().filter_map(|row| match row {
            Row::Unattributed(u) => Some((u.table_name, u.reason, u.payload)),
            _ => None,
        });
        rows.collect()
    };
    let answered = || rows().iter().any(|(t, _, p)| t == "http_responses" && p.contains("/stranger"));
    until("the stranger's answer", &storage.changes(), answered).await;
    let rows = rows();
    assert!(rows.iter().any(|(t, _, p)| t == "http_requests" && p.contains("/stranger")), "{rows:?}");
    assert!(rows.iter().all(|(_, why, p)| why == "context_unknown" && !p.contains("/visit")), "{rows:?}");
    browser.close(Duration::from_secs(5)).await;
    keeping.await.unwrap();
}
