//! The HTTP instrument against a real Chromium: what a server saw is what the rows say.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

mod http_site;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use http_site::{Site, twin};
use serde_json::json;
use sha2::{Digest, Sha256};
use sonde_browser::engine::chromium::cdp::{AutoAttach, Filter, Item, SessionInfo, Subscription};
use sonde_browser::engine::chromium::http::{
    Action, BlobSink, BodyFetcher, Caller, HttpConfig, HttpTracker, JarCookie, RequestIds, SaveContent,
    setup_commands, snapshot_rows,
};
use sonde_browser::engine::chromium::launch::{Browser, ChromiumOptions, launch};
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{HttpFailure, HttpRedirect, HttpRequest, HttpResponse, WebsocketFrame};
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

#[derive(Default, Debug)]
struct Rows {
    requests: Vec<HttpRequest>,
    responses: Vec<HttpResponse>,
    redirects: Vec<HttpRedirect>,
    failures: Vec<HttpFailure>,
    frames: Vec<WebsocketFrame>,
    other: Vec<Row>,
}

impl Rows {
    fn add(&mut self, row: Row) {
        match row {
            Row::HttpRequest(row) => self.requests.push(row),
            Row::HttpResponse(row) => self.responses.push(row),
            Row::HttpRedirect(row) => self.redirects.push(row),
            Row::HttpFailure(row) => self.failures.push(row),
            Row::WebsocketFrame(row) => self.frames.push(row),
            row => self.other.push(row),
        }
    }

    fn request(&self, end: &str) -> &HttpRequest {
        self.requests.iter().find(|r| r.url.ends_with(end)).unwrap_or_else(|| panic!("no request {end}"))
    }

    fn response(&self, end: &str) -> &HttpResponse {
        self.responses.iter().find(|r| r.url.ends_with(end)).unwrap_or_else(|| panic!("no response {end}"))
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
                    self.rows.add(row);
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
    let page = format!("http://localhost:{}/page", site.port);
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
            let recorded = |path: &&str| rows.requests.iter().any(|r| r.url.ends_with(*path));
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

fn check_log(site: &Site, rows: &Rows) {
    let mut expected = site.log.hits();
    expected.insert(("GET".to_owned(), format!("ws://localhost:{}/socket", site.ws)), 1);
    let never_sent = |r: &&HttpRequest| {
        let of = |id: i64| id == r.request_id;
        r.url.starts_with("data:")
            || rows.failures.iter().any(|f| of(f.request_id) && f.error == "net::ERR_CONNECTION_REFUSED")
            || rows.responses.iter().any(|a| of(a.request_id) && (a.is_cached || a.from_service_worker))
    };
    let mut recorded = BTreeMap::new();
    for row in rows.requests.iter().filter(|r| !never_sent(r)) {
        *recorded.entry((row.method.clone(), row.url.clone())).or_default() += 1;
    }
    assert_eq!(expected, recorded);
    for row in &rows.requests {
        let answered = rows.responses.iter().filter(|a| a.request_id == row.request_id).count();
        let alone = |f: &&HttpFailure| f.request_id == row.request_id && !f.after_response;
        let failed = rows.failures.iter().filter(alone).count();
        assert_eq!(answered + failed, 1, "{row:?}");
    }
}

fn check_bodies(rows: &Rows, blobs: &HashMap<String, Bytes>) {
    // What a service worker answers the browser does not keep for us; the row says so.
    let failed = rows.responses.iter().filter(|r| r.body_outcome == "failed");
    let bad: Vec<_> = failed.filter(|r| !(r.from_service_worker && r.body_error.is_some())).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let bodies: [(&str, Vec<u8>); 8] = [
        ("/twin-a", twin(b'a')),
        ("/twin-b", twin(b'b')),
        ("/gzip", b"squeezed ".repeat(700)),
        ("/latin.js", b"x='\xe9\xff'".into()),
        ("/bom.js", b"\xef\xbb\xbfx='\xc3\xa9'".into()),
        ("/in-frame", b"/in-frame".into()),
        ("/in-worker", b"/in-worker".into()),
        ("/missing", b"no".into()),
    ];
    for (path, body) in bodies {
        let response = rows.response(path);
        let hash: String = Sha256::digest(&body).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            (response.content_hash.as_deref(), response.body_outcome.as_str()),
            (Some(hash.as_str()), "complete"),
            "{response:?}"
        );
        assert_eq!((response.body_bytes, blobs[&hash].len()), (Some(body.len() as i64), body.len()));
    }
    for path in ["/204", "/empty", "/headed"] {
        assert_eq!(rows.response(path).body_outcome, "empty");
        assert!(blobs[rows.response(path).content_hash.as_ref().unwrap()].is_empty());
    }
}

fn check_facts(site: &Site, rows: &Rows) {
    let hops: Vec<_> =
        rows.redirects.iter().map(|r| (r.response_status, r.headers_final, r.hop_index)).collect();
    assert_eq!(hops, [(302, true, 0), (307, true, 1)]);
    let last = rows.request("/final.js");
    assert_eq!(
        (last.hop_index, last.request_id, last.headers_final),
        (2, rows.request("/r1").request_id, true)
    );
    let types = [
        ("/page", "main_frame"),
        ("/frame", "sub_frame"),
        ("/style.css", "stylesheet"),
        ("/image.png", "image"),
        ("/imported.js", "script"),
        ("/beacon", "beacon"),
        ("/gzip", "xmlhttprequest"),
        ("/socket", "websocket"),
        ("/formed", "sub_frame"),
        ("/popup", "main_frame"),
        ("/cors", "xmlhttprequest"),
    ];
    for (path, kind) in types {
        assert_eq!(rows.request(path).resource_type, kind, "{path}");
    }
    let contexts = [
        ("/in-frame", "iframe"),
        ("/in-worker", "worker"),
        ("/in-shared", "shared_worker"),
        ("/in-sw", "service_worker"),
    ];
    for (path, kind) in contexts {
        assert_eq!(rows.request(path).context_type.as_deref(), Some(kind));
    }
    let frame = rows.request("/in-frame");
    assert_eq!((frame.parent_frame_id, frame.is_third_party_channel), (Some(0), Some(false)));
    assert!(frame.frame_id > 0 && frame.top_level_url.as_ref().unwrap().ends_with("/page"));
    for row in rows.requests.iter().filter(|r| r.url.starts_with("http") && !r.url.ends_with("/refused")) {
        let by_worker =
            rows.responses.iter().any(|a| a.request_id == row.request_id && a.from_service_worker);
        let in_shared = matches!(row.context_type.as_deref(), Some("shared_worker" | "service_worker"));
        assert!(row.headers_final || by_worker || in_shared, "{row:?}");
    }
    assert_eq!(rows.request("/urlencoded").post_body.as_deref(), Some(r#"{"a":["1"],"b":["é"]}"#));
    assert_eq!(rows.request("/formed").post_body.as_deref(), Some(r#"{"q":["a b"]}"#));
    for path in ["/binary", "/long", "/formed", "/beacon"] {
        let raw: Vec<(Option<String>, String)> =
            serde_json::from_str(rows.request(path).post_body_raw.as_ref().unwrap()).unwrap();
        let parts =
            raw.iter().flat_map(|(_, b)| base64::engine::general_purpose::STANDARD.decode(b).unwrap());
        assert_eq!(parts.collect::<Vec<u8>>(), site.log.body(path), "{path}");
    }
    let errors: BTreeMap<_, _> =
        rows.failures.iter().map(|f| (f.url.rsplit('/').next().unwrap(), f.error.as_str())).collect();
    assert_eq!(errors["refused"], "net::ERR_CONNECTION_REFUSED");
    assert_eq!(errors["reset"], "net::ERR_EMPTY_RESPONSE");
    let frames: Vec<_> =
        rows.frames.iter().map(|f| (f.direction.as_str(), f.opcode, f.payload.as_str())).collect();
    for frame in [
        ("sent", Some(1), "hello"),
        ("received", Some(2), "AAEC"),
        ("received", None, "one"),
        ("received", None, "two"),
    ] {
        assert!(frames.contains(&frame), "{frame:?} in {frames:?}");
    }
    let made_up = rows.response("/made-up");
    assert_eq!((made_up.from_service_worker, made_up.body_bytes), (true, Some(4)));
    let has_stack = |id| {
        rows.other
            .iter()
            .any(|r| matches!(r, Row::Callstack(c) if c.request_id == id && c.call_stack.contains("/page:")))
    };
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
    let cookies: Vec<_> = rows
        .other
        .iter()
        .filter_map(|r| match r {
            Row::JavascriptCookie(c) => Some((c.name.as_str(), c.is_http_only, c.host.as_deref())),
            _ => None,
        })
        .collect();
    assert_eq!(cookies, [("hop", Some(true), Some("localhost")), ("b", Some(false), Some("localhost"))]);
    assert_eq!(snapshot.len(), 2);
    let cuts = rows.other.iter().filter_map(|r| match r {
        Row::Truncation(cut) => Some(cut.reason.as_str()),
        _ => None,
    });
    assert_eq!(cuts.collect::<Vec<_>>(), [""; 0], "nothing is cut");
}
