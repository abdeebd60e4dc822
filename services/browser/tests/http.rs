//! The HTTP instrument against a real Chromium: what a server saw is what the rows say.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::json;
use sonde_browser::engine::chromium::cdp::{AutoAttach, Filter, Item, SessionInfo, Subscription};
use sonde_browser::engine::chromium::http::{
    Action, BlobSink, BodyFetcher, Caller, HttpConfig, HttpTracker, JarCookie, RequestIds, SaveContent,
    setup_commands, snapshot_rows,
};
use sonde_browser::engine::chromium::launch::{Browser, ChromiumOptions, launch};
use sonde_proto::record::v1::record::Row;
use support::Rows;
use support::http_site::Site;
use support::http_truth::{check_bodies, check_facts, check_log, check_upload};
use tokio::time::{Instant, timeout, timeout_at};

const SOON: Duration = Duration::from_secs(30);

#[derive(Default, Clone)]
struct Blobs(Arc<Mutex<HashMap<String, Bytes>>>);

impl BlobSink for Blobs {
    async fn put(&self, sha256: &str, bytes: Bytes) -> Result<(), String> {
        self.0.lock().unwrap().insert(sha256.to_owned(), bytes);
        Ok(())
    }
}

fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_micros().try_into().unwrap()
}

struct Visit {
    tracker: HttpTracker,
    fetcher: BodyFetcher<Caller, Blobs>,
    events: Subscription,
    rows: Rows,
}

impl Visit {
    async fn perform(&mut self, actions: Vec<Action>) {
        let mut todo: std::collections::VecDeque<_> = actions.into();
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Record { captured_at_us, row } => {
                    assert!((now_us() - captured_at_us).abs() < 120_000_000, "{captured_at_us}: {row:?}");
                    self.rows.0.push(row);
                }
                Action::FetchBody(request) => {
                    let result = self.fetcher.fetch(&request).await;
                    todo.extend(self.tracker.on_body(request.request_id, result));
                }
                Action::FetchPostData(request) => {
                    let bytes = self.fetcher.fetch_post_data(&request).await;
                    todo.extend(self.tracker.on_post_data(&request, bytes));
                }
                Action::StoreEmptyBody => self.fetcher.store_empty().await.unwrap(),
            }
        }
    }

    /// Takes events until the condition holds.
    async fn until(&mut self, done: impl Fn(&HttpTracker, &Rows) -> bool) {
        let late = Instant::now() + SOON;
        while !done(&self.tracker, &self.rows) {
            let item = timeout_at(late, self.events.recv()).await;
            let item = item.unwrap_or_else(|_| panic!("not done: {:#?}", self.tracker));
            match item.unwrap() {
                Item::Event(event) => {
                    let session: Arc<SessionInfo> = event.session.clone().unwrap();
                    let actions = self.tracker.on_event(&session, &event.method, &event.params, now_us());
                    self.perform(actions).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn start(config: &HttpConfig, root: &std::path::Path) -> Browser {
    let options = ChromiumOptions {
        no_sandbox: rustix::process::geteuid().is_root(),
        profile_root: Some(root.to_owned()),
        extra_args: vec!["--disable-popup-blocking".to_owned()],
        ..ChromiumOptions::default()
    };
    let browser = launch(options).await.unwrap();
    let config = config.clone();
    let hook = AutoAttach::new(move |info: &SessionInfo| setup_commands(&info.kind, &config));
    browser.connection().auto_attach(hook, SOON).await.unwrap();
    browser
}

/// Everything that one visit to the page gave.
async fn visit(site: &Site) -> (Rows, HashMap<String, Bytes>, Vec<Row>) {
    let root = tempfile::tempdir().unwrap();
    let config = HttpConfig { save_content: SaveContent::All, ..HttpConfig::default() };
    let browser = start(&config, root.path()).await;
    let connection = browser.connection().clone();
    let context = browser.create_context(None, SOON).await.unwrap();
    let blobs = Blobs::default();
    let mut visit = Visit {
        events: connection.subscribe(Filter::contexts([context.clone()])),
        tracker: HttpTracker::new(config, RequestIds::default()),
        fetcher: BodyFetcher {
            caller: Caller { connection: connection.clone(), deadline: SOON },
            sink: blobs.clone(),
        },
        rows: Rows::default(),
    };
    let page = site.url("/page");
    browser.create_page(Some(&context), &page, SOON).await.unwrap();
    let last = [
        "/done",
        "/in-frame",
        "/after/formed",
        "/after/popup",
        "/in-worker",
        "/in-shared",
        "/in-sw",
        "/beacon",
    ];
    // By the rows, not the server's log: that may be ahead of the events.
    visit
        .until(|tracker, rows| {
            let recorded = |path: &&str| rows.requests().into_iter().any(|r| r.url.ends_with(*path));
            last.iter().all(recorded) && tracker.unended_requests() == 0
        })
        .await;
    let main = visit.tracker.main_document().unwrap().clone();
    assert_eq!((main.url, main.status, main.finished), (page, Some(200), true));
    let params = json!({"browserContextId": context});
    let jar = connection.call_raw(None, "Storage.getCookies", params, SOON).await.unwrap();
    #[derive(serde::Deserialize)]
    struct Jar {
        cookies: Vec<JarCookie>,
    }
    let jar: Jar = jar.decode().unwrap();
    let snapshot = snapshot_rows(&jar.cookies, "visit-end", Some(context.as_str()));
    let actions = visit.tracker.finish(now_us());
    visit.perform(actions).await;
    timeout(SOON, browser.close(Duration::from_secs(5))).await.unwrap();
    let blobs = blobs.0.lock().unwrap().clone();
    (visit.rows, blobs, snapshot)
}

/// What DevTools tells beyond what is due in every browser.
fn check_own(site: &Site, rows: &Rows) {
    // What a service worker answers the browser does not keep for a single session; the row says so.
    let failed = rows.responses().into_iter().filter(|r| r.body_outcome == "failed");
    let bad: Vec<_> = failed.filter(|r| !(r.from_service_worker && r.body_error.is_some())).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    for row in
        rows.requests().into_iter().filter(|r| r.url.starts_with("http") && !r.url.ends_with("/refused"))
    {
        let by_worker =
            rows.responses().into_iter().any(|a| a.request_id == row.request_id && a.from_service_worker);
        let in_shared = matches!(row.context_type.as_deref(), Some("shared_worker" | "service_worker"));
        assert!(row.headers_final || by_worker || in_shared, "{row:?}");
    }
    check_upload(site, rows, "/formed");
    let reset = rows.failures().into_iter().find(|f| f.url.ends_with("/reset")).unwrap();
    assert_eq!(reset.error, "net::ERR_EMPTY_RESPONSE");
    let frames: Vec<_> =
        rows.frames().into_iter().map(|f| (f.direction.as_str(), f.opcode, f.payload.as_str())).collect();
    for frame in [
        ("sent", Some(1), "hello"),
        ("received", Some(2), "AAEC"),
        ("received", None, "one"),
        ("received", None, "two"),
    ] {
        assert!(frames.contains(&frame), "{frame:?} in {frames:?}");
    }
    let has_stack =
        |id| rows.callstacks().iter().any(|c| c.request_id == id && c.call_stack.contains("/page:"));
    assert!(has_stack(rows.request("/gzip").request_id));
}

/// M10, M11, M12, M16, I10, I15, I17
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_agree_with_the_servers_log() {
    let site = Site::start().await;
    let (rows, blobs, snapshot) = visit(&site).await;
    check_log(&site, &rows);
    check_bodies(&rows, &blobs);
    check_facts(&site, &rows);
    check_own(&site, &rows);
    let cookies: Vec<_> =
        rows.cookies().into_iter().map(|c| (c.name.as_str(), c.is_http_only, c.host.as_deref())).collect();
    assert_eq!(cookies, [("hop", Some(true), Some("localhost")), ("b", Some(false), Some("localhost"))]);
    assert_eq!(snapshot.len(), 2);
    let cuts = rows.truncations().into_iter().map(|cut| cut.reason.as_str());
    assert_eq!(cuts.collect::<Vec<_>>(), [""; 0], "nothing is cut");
}
