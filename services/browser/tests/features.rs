//! The map from use counters to symbols, against the installed Chromium: each API is used alone, in a document of its own,
//! in a browser that nobody instruments.
//!
//! `SONDE_UPDATE_FEATURES=1` writes the map anew: every use that the collections ask for is made, and what the engine
//! counts for one symbol alone is kept, but for what `left-out.json` names with its reason.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde_json::{Value, json};
use sonde_browser::engine::chromium::cdp::{AutoAttach, Filter, Item, SessionInfo, Subscription};
use sonde_browser::engine::chromium::features::{Collected, FeatureUse, feature_uses, trace_config};
use sonde_browser::engine::chromium::launch::{Browser, ChromiumOptions, launch};
use sonde_proto::js_settings::{COLLECTIONS, JsSettings};
use support::pages::{Asked, Pages, reply};
use support::{PATIENCE, soon};
use tokio::time::timeout_at;

const PROBES: &str = include_str!("data/feature-probes.js");
const LEFT_OUT: &str = include_str!("../src/engine/chromium/features/left-out.json");
/// What is made and not used.
const NONE: &str = "none";

/// A browser with one page, and a trace that runs.
struct Bench {
    browser: Browser,
    pages: Pages,
    page: SessionInfo,
    events: Subscription,
}

fn monotonic_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

impl Bench {
    async fn start(root: &Path) -> Self {
        let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
            "/" => Some(reply("text/html", "<!doctype html><body><script src=/probes.js></script>")),
            "/probes.js" => Some(reply("text/javascript", PROBES)),
            path if path.ends_with(".js") => Some(reply("text/javascript", "0")),
            _ => Some(reply("text/plain", "")),
        })
        .await;
        let options = ChromiumOptions {
            no_sandbox: rustix::process::geteuid().is_root(),
            profile_root: Some(root.to_owned()),
            ..ChromiumOptions::default()
        };
        let browser = launch(options).await.unwrap();
        browser.connection().auto_attach(AutoAttach::new(|_| Vec::new()), PATIENCE).await.unwrap();
        let context = browser.create_context(None, PATIENCE).await.unwrap();
        let events = Filter::contexts([]).with_browser_level().methods(["Tracing."]);
        let events = browser.connection().subscribe(events);
        let params = json!({"transferMode": "ReportEvents", "traceConfig": trace_config()});
        browser.connection().call_raw(None, "Tracing.start", params, PATIENCE).await.unwrap();
        let page = browser.create_page(Some(&context), &pages.url("/"), PATIENCE).await.unwrap().session;
        Self { browser, pages, page: (*page).clone(), events }
    }

    async fn evaluate(&self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let call =
            self.browser.connection().call_raw(Some(&self.page.id), "Runtime.evaluate", params, PATIENCE);
        let answer: Value = call.await.unwrap().decode().unwrap();
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// A new document with the functions of the probes.
    async fn fresh(&self) {
        let call = self.browser.connection();
        let params = json!({"url": self.pages.url("/")});
        call.call_raw(Some(&self.page.id), "Page.navigate", params, PATIENCE).await.unwrap();
        let loaded = "new Promise((end) => document.readyState === 'complete' ? end() : addEventListener('load', end))";
        self.evaluate(loaded).await;
    }

    /// Uses one API in a document of its own: from when to when.
    async fn probe(&self, target: &Value, property: &str, operation: &str) -> (i64, i64) {
        self.fresh().await;
        let from = monotonic_us();
        self.evaluate(&format!("use({target}, {}, {})", json!(property), json!(operation))).await;
        (from, monotonic_us())
    }

    /// Ends the trace: when each feature was used first.
    async fn end(mut self) -> Vec<(i64, u32)> {
        self.browser.connection().call_raw(None, "Tracing.end", json!({}), PATIENCE).await.unwrap();
        let mut used = Vec::new();
        loop {
            let Item::Event(event) = timeout_at(soon(), self.events.recv()).await.unwrap().unwrap() else {
                panic!("the trace lost events");
            };
            if &*event.method == "Tracing.dataCollected" {
                used.extend(event.params.decode::<Collected>().unwrap().first_uses());
            } else if &*event.method == "Tracing.tracingComplete" {
                break;
            }
        }
        self.browser.close(PATIENCE).await;
        used
    }
}

/// Every target of every collection, as the extension is told.
fn targets() -> Vec<(String, Value)> {
    let of = |name: &str| JsSettings::parse(&json!([name]).to_string()).unwrap().for_extension();
    let all = COLLECTIONS.iter().flat_map(|collection| of(collection.name).as_array().unwrap().clone());
    all.map(|target| (target["instrumentedName"].as_str().unwrap().to_owned(), target)).collect()
}

/// The features of each symbol and operation, without those of what it is used on.
struct Found {
    /// Of the documents alone.
    idle: BTreeSet<u32>,
    of: BTreeMap<(String, String), BTreeSet<u32>>,
}

/// Makes the uses: by target, properties and operations.
async fn find(wanted: BTreeMap<String, Vec<(String, String)>>) -> Found {
    let root = tempfile::tempdir().unwrap();
    let bench = Bench::start(root.path()).await;
    let targets: BTreeMap<String, Value> = targets().into_iter().collect();
    let mut windows = Vec::new();
    for (name, uses) in &wanted {
        windows.push((
            name.clone(),
            String::new(),
            NONE.to_owned(),
            bench.probe(&targets[name], "", NONE).await,
        ));
        for (property, operation) in uses {
            let window = bench.probe(&targets[name], property, operation).await;
            windows.push((name.clone(), property.clone(), operation.clone(), window));
        }
    }
    let used = bench.end().await;
    let within = |(from, to): (i64, i64)| -> BTreeSet<u32> {
        used.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, feature)| *feature).collect()
    };
    let outside = |at: i64| !windows.iter().any(|(.., (from, to))| (*from..=*to).contains(&at));
    let idle = used.iter().filter(|(at, _)| outside(*at)).map(|(_, feature)| *feature).collect();
    let (mut base, mut of) = (BTreeSet::new(), BTreeMap::new());
    for (name, property, operation, window) in &windows {
        let found = within(*window);
        if operation == NONE {
            base = found;
        } else {
            let found = found.difference(&base).copied().collect();
            of.insert((format!("{name}.{property}"), operation.clone()), found);
        }
    }
    Found { idle, of }
}

fn split(symbol: &str) -> (String, String) {
    let (name, property) = symbol.rsplit_once('.').unwrap();
    (name.to_owned(), property.to_owned())
}

/// I3: each feature of the map is counted for its symbol, for no other symbol of the map, and not by documents alone.
#[tokio::test]
async fn each_feature_of_the_map_is_counted_for_its_symbol_and_no_other() {
    if std::env::var_os("SONDE_UPDATE_FEATURES").is_some() {
        learn().await;
        return;
    }
    let mut wanted: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for FeatureUse { symbol, operation, .. } in feature_uses() {
        let (name, property) = split(symbol);
        let uses = wanted.entry(name).or_default();
        if !uses.contains(&(property.clone(), operation.clone())) {
            uses.push((property, operation.clone()));
        }
    }
    let Found { idle, of } = find(wanted).await;
    let mut wrong = Vec::new();
    for used in feature_uses() {
        let FeatureUse { symbol, operation, feature, .. } = used;
        if !of[&(symbol.clone(), operation.clone())].contains(feature) {
            wrong.push(format!("{operation} {symbol}: {feature} is not counted"));
        }
        if idle.contains(feature) {
            wrong.push(format!("{symbol}: {feature} is counted of a document that does nothing"));
        }
        let others = of.iter().filter(|((other, _), found)| other != symbol && found.contains(feature));
        wrong
            .extend(others.map(|((other, _), _)| format!("{symbol}: {feature} is counted for {other}, too")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Every use that a collection asks for, once.
async fn all_uses() -> BTreeMap<String, Vec<(String, String)>> {
    let root = tempfile::tempdir().unwrap();
    let bench = Bench::start(root.path()).await;
    bench.fresh().await;
    let mut all: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (name, target) in targets() {
        let uses: Vec<(String, String, String)> =
            serde_json::from_value(bench.evaluate(&format!("uses({target})")).await).unwrap();
        let known = all.entry(name).or_default();
        for (_, property, operation) in uses {
            if !known.contains(&(property.clone(), operation.clone())) {
                known.push((property, operation));
            }
        }
    }
    bench.end().await;
    all
}

async fn learn() {
    let Found { idle, of } = find(all_uses().await).await;
    let left_out: BTreeMap<u32, String> = serde_json::from_str(LEFT_OUT).unwrap();
    let symbols_of = |feature: u32| -> HashSet<&str> {
        of.iter()
            .filter(|(_, found)| found.contains(&feature))
            .map(|((symbol, _), _)| symbol.as_str())
            .collect()
    };
    let mut taken = BTreeSet::new();
    let mut learned: Vec<FeatureUse> = Vec::new();
    for ((symbol, operation), found) in &of {
        for feature in found {
            let ours =
                !idle.contains(feature) && !left_out.contains_key(feature) && symbols_of(*feature).len() == 1;
            if ours && taken.insert(*feature) {
                let (symbol, operation) = (symbol.clone(), operation.clone());
                learned.push(FeatureUse { symbol, operation, feature: *feature });
            }
        }
    }
    learned.sort();
    let lines: Vec<String> = learned.iter().map(|used| serde_json::to_string(used).unwrap()).collect();
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/chromium/features/map.json");
    std::fs::write(path, text).unwrap();
}
