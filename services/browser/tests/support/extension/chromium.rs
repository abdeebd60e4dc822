//! A Chromium with the extension, its relay, and what arrived of a visit.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use serde_json::{Value, json};
use sonde_browser::engine::chromium::cdp::{AutoAttach, ContextId};
use sonde_browser::engine::chromium::launch::{Browser, ChromiumOptions, Page, launch};
use sonde_browser::relay::{ExtensionBatch, ExtensionConfig, Relay, SessionEnd};
use sonde_proto::browser::v1::RelayStart;
use sonde_proto::js_settings::JsSettings;
use sonde_proto::record::v1::JavascriptCall;
use sonde_site::{Site, SiteOptions};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::super::Rows;
use super::super::pages::{Asked, Pages, reply};
use super::{assert_whole, config, flush, prepare, relay_options, rows_of};

pub const SOON: Duration = Duration::from_secs(30);

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
    pub rows: Rows,
    pub ends: Vec<SessionEnd>,
}

impl Deref for Arrived {
    type Target = Rows;

    fn deref(&self) -> &Rows {
        &self.rows
    }
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
        let relay = Relay::bind(relay_options(), sender).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let port = through.unwrap_or(relay.port());
        let mut config =
            ExtensionConfig { javascript: true, cookies: true, navigations: true, ..config(port) };
        configure(&mut config);
        let copy = files.path().join("extension");
        let id = prepare(&copy, &config);
        let browser = launch(ChromiumOptions {
            no_sandbox: rustix::process::geteuid().is_root(),
            ..ChromiumOptions::default()
        })
        .await
        .unwrap();
        browser.connection().auto_attach(AutoAttach::new(|_| Vec::new()), SOON).await.unwrap();
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
        arrived.ends =
            flush(&self.relay, &mut self.batches, visit_id, |batch| arrived.take(visit_id, batch)).await;
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
            self.rows.0.extend(rows_of(&batch));
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
        assert_whole(&self.ends, next);
    }

    pub fn calls(&self) -> impl Iterator<Item = &JavascriptCall> {
        self.rows.javascript().into_iter()
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

/// A server of one page each path, and of something empty elsewhere.
pub async fn serve(pages: &'static [(&'static str, &'static str)]) -> Pages {
    let answer = move |asked: &Asked, _| {
        let path = asked.path.split('?').next().unwrap_or_default();
        let body = pages.iter().find(|(at, _)| *at == path).map_or("", |(_, body)| body);
        Some(reply("text/html", body))
    };
    Pages::start(answer).await
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
