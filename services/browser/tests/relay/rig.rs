//! A Chromium with the extension, its relay, and what arrived of a visit.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use serde_json::{Value, json};
use sonde_browser::engine::chromium::cdp::{AutoAttach, ContextId};
use sonde_browser::engine::chromium::launch::{Browser, ChromiumOptions, Page, launch};
use sonde_browser::relay::{
    ExtensionBatch, ExtensionConfig, Relay, RelayLimits, RelayOptions, SessionEnd, locate_extension,
    prepare_extension,
};
use sonde_proto::browser::v1::RelayStart;
use sonde_proto::js_settings::JsSettings;
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{JavascriptCall, JavascriptCookie, Navigation, Record, RecordList, Truncation};
use sonde_site::{Site, SiteOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

pub const SOON: Duration = Duration::from_secs(30);
pub const FRAMES: Duration = Duration::from_secs(5);
pub const TOKEN: &str = "relaytokenrelaytoken0123456789";

pub struct Rig {
    pub browser: Browser,
    pub relay: Relay,
    pub batches: mpsc::Receiver<ExtensionBatch>,
    pub context: ContextId,
    pub id: String,
    _files: tempfile::TempDir,
}

/// All that arrived of one visit.
#[derive(Default)]
pub struct Arrived {
    pub batches: Vec<ExtensionBatch>,
    pub records: Vec<Record>,
    pub ends: Vec<SessionEnd>,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// `through`: the port the extension is told instead of the relay's.
    pub async fn with(through: Option<u16>) -> Self {
        Self::configured(through, |_| {}).await
    }

    /// With the APIs that these settings name.
    pub async fn recording(settings: &Value) -> Self {
        let settings = JsSettings::from_value(settings).unwrap();
        Self::configured(None, |config| config.javascript_settings = settings).await
    }

    pub async fn configured(through: Option<u16>, configure: impl FnOnce(&mut ExtensionConfig)) -> Self {
        let (sender, batches) = mpsc::channel(10_000);
        let options = RelayOptions { token: TOKEN.into(), limits: RelayLimits::default() };
        let relay = Relay::bind(options, sender).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut config = ExtensionConfig {
            port: through.unwrap_or(relay.port()),
            token: TOKEN.into(),
            secret: "5ecret5ecret5ecret5ecret5ecret00".into(),
            javascript: true,
            cookies: true,
            navigations: true,
            network: false,
            javascript_settings: JsSettings::default(),
            javascript_limit: 0,
            testing: false,
        };
        configure(&mut config);
        let copy = files.path().join("extension");
        let facts = prepare_extension(&locate_extension(None).unwrap(), &copy, &config).unwrap();
        let browser = launch(ChromiumOptions {
            no_sandbox: rustix::process::geteuid().is_root(),
            ..ChromiumOptions::default()
        })
        .await
        .unwrap();
        browser.connection().auto_attach(AutoAttach::new(|_| Vec::new()), SOON).await.unwrap();
        let id = facts.chromium_id.unwrap();
        relay.set_extension_id(&id);
        assert_eq!(browser.load_extension(&copy, SOON).await.unwrap(), id);
        let context = browser.create_context(None, SOON).await.unwrap();
        Self { browser, relay, batches, context, id, _files: files }
    }

    pub async fn open(&self, visit_id: i64) -> Page {
        let token = format!("visit-{visit_id}");
        let mut connected = self.relay.connected();
        timeout(SOON, connected.wait_for(Option::is_some)).await.unwrap().unwrap();
        self.relay.start_visit(RelayStart {
            visit_id,
            token: token.clone(),
            javascript: true,
            navigations: true,
            cookies: true,
            network: None,
        });
        let url = format!("about:blank#visit={token}");
        let page = self.browser.create_page(Some(&self.context), &url, SOON).await.unwrap();
        let ready = self.relay.wait_ready(visit_id, Instant::now() + SOON).await;
        let ready = ready.unwrap_or_else(|error| panic!("{error}: {:?}", self.relay.stats()));
        assert!(ready.tab_id > 0, "{ready:?}");
        page
    }

    pub async fn call(&self, page: &Page, method: &str, params: Value) -> Value {
        let answer =
            self.browser.connection().call_raw(Some(&page.session.id), method, params, SOON).await.unwrap();
        answer.decode().unwrap()
    }

    pub async fn goto(&self, page: &Page, url: &str) {
        let answer = self.call(page, "Page.navigate", json!({ "url": url })).await;
        assert_eq!(answer.get("errorText"), None, "{answer}");
    }

    /// Waits until an expression of the page holds.
    pub async fn until(&self, page: &Page, expression: &str) -> Value {
        let end = Instant::now() + SOON;
        loop {
            let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
            let connection = self.browser.connection();
            // A document that is being replaced has no context to evaluate in.
            let value =
                match connection.call_raw(Some(&page.session.id), "Runtime.evaluate", params, SOON).await {
                    Ok(answer) => answer.decode::<Value>().unwrap()["result"]["value"].clone(),
                    Err(error) => json!({ "error": error.to_string() }),
                };
            if value != json!(false) && value.get("error").is_none() && !value.is_null() {
                return value;
            }
            assert!(Instant::now() < end, "{expression} gave {value}");
            tokio::task::yield_now().await;
        }
    }

    pub async fn flush(&mut self, visit_id: i64) -> Arrived {
        let mut arrived = Arrived::default();
        let deadline = Instant::now() + SOON;
        let relay = self.relay.clone();
        let mut flush = std::pin::pin!(relay.flush(visit_id, FRAMES, deadline));
        loop {
            tokio::select! {
                biased;
                Some(batch) = self.batches.recv() => arrived.take(visit_id, batch),
                ends = &mut flush => {
                    arrived.ends = ends.unwrap();
                    break;
                }
            }
        }
        while let Ok(batch) = self.batches.try_recv() {
            arrived.take(visit_id, batch);
        }
        arrived.check();
        arrived
    }

    pub async fn visit(&mut self, visit_id: i64, url: &str, done: &str) -> (Page, Arrived) {
        let page = self.open(visit_id).await;
        self.goto(&page, url).await;
        self.until(&page, done).await;
        let arrived = self.flush(visit_id).await;
        (page, arrived)
    }

    pub async fn close(self) {
        drop(self.browser.close(Duration::from_secs(10)).await);
    }
}

impl Arrived {
    pub fn take(&mut self, visit_id: i64, batch: ExtensionBatch) {
        if batch.visit_id == visit_id {
            let records = RecordList::decode(batch.payload.clone()).unwrap().records;
            assert_eq!(records.len(), batch.count as usize);
            self.records.extend(records);
            self.batches.push(batch);
        }
    }

    /// Contiguous from 0 to the end that was declared, and nothing suspect.
    pub fn check(&self) {
        let mut next = 0;
        for batch in &self.batches {
            assert_eq!(batch.first_ordinal, next);
            next += i64::from(batch.count);
        }
        assert_eq!(self.ends.len(), 1, "{:?}", self.ends);
        assert_eq!((self.ends[0].last_ordinal, self.ends[0].suspect.as_str()), (next - 1, ""));
    }

    pub fn calls(&self) -> impl Iterator<Item = &JavascriptCall> {
        self.records.iter().filter_map(|record| match &record.row {
            Some(Row::Javascript(call)) => Some(call),
            _ => None,
        })
    }

    pub fn cookies(&self) -> Vec<&JavascriptCookie> {
        let rows = self.records.iter();
        rows.filter_map(|record| match &record.row {
            Some(Row::JavascriptCookie(cookie)) => Some(cookie),
            _ => None,
        })
        .collect()
    }

    pub fn navigations(&self) -> Vec<&Navigation> {
        let rows = self.records.iter();
        rows.filter_map(|record| match &record.row {
            Some(Row::Navigation(navigation)) => Some(navigation),
            _ => None,
        })
        .collect()
    }

    pub fn truncations(&self) -> Vec<&Truncation> {
        let rows = self.records.iter();
        rows.filter_map(|record| match &record.row {
            Some(Row::Truncation(truncation)) => Some(truncation),
            _ => None,
        })
        .collect()
    }

    /// Every call as `operation symbol value arguments`, "-" for NULL, in the order of its document.
    pub fn lines(&self) -> Vec<String> {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        self.calls()
            .map(|c| format!("{} {} {} {}", c.operation, c.symbol, shown(&c.value), shown(&c.arguments)))
            .collect()
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for call in self.calls() {
            *counts.entry(format!("{} {}", call.operation, call.symbol)).or_default() += 1;
        }
        counts
    }

    pub fn count(&self, key: &str) -> u64 {
        self.counts().get(key).copied().unwrap_or(0)
    }
}

/// A page server of one page each path.
pub async fn serve(pages: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                let path = text.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
                let body = pages.iter().find(|(at, _)| *at == path).map_or("", |(_, body)| body);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                // A browser that has gone away wants no answer.
                drop(stream.write_all(answer.as_bytes()).await);
            });
        }
    });
    format!("http://{address}")
}

pub fn done(name: &str) -> String {
    format!("document.documentElement?.dataset?.done === '{name}'")
}

pub async fn site() -> Site {
    Site::start(SiteOptions::default()).await.unwrap()
}

/// Every call the fixture page says it made, by the names it allows.
pub fn assert_truth(arrived: &Arrived, truth: &sonde_site::Truth) {
    let counts = arrived.counts();
    for (key, expected) in &truth.calls {
        let (operation, symbols) = key.split_once(' ').unwrap();
        let seen: u64 =
            symbols.split('|').map(|s| counts.get(&format!("{operation} {s}")).copied().unwrap_or(0)).sum();
        assert_eq!(seen, *expected, "{key}\nall: {counts:#?}");
    }
}
