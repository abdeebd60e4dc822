//! Scripts of events as Chromium 156 sends them, and the rows they give.

use serde_json::{Value, json};
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{Script, Truncation};

use super::*;
use crate::engine::chromium::cdp::SessionInfo;
use crate::engine::chromium::http::{HttpConfig, HttpTracker, RequestIds};

const PAGE: &str = "https://a.test/";

struct Bench {
    scripts: ScriptTracker,
    http: HttpTracker,
    session: SessionInfo,
    actions: Vec<ScriptAction>,
}

impl Bench {
    fn new(config: ScriptConfig) -> Self {
        let session = SessionInfo {
            id: "S".into(),
            parent: None,
            target_id: "PAGE".into(),
            kind: "page".into(),
            url: PAGE.into(),
            context_id: None,
            opener_id: None,
            parent_frame_id: None,
            subtype: None,
            was_paused: true,
        };
        let http = HttpTracker::new(HttpConfig::default(), RequestIds::default());
        Self { scripts: ScriptTracker::new(config), http, session, actions: Vec::new() }
    }

    fn event(&mut self, method: &str, params: Value) {
        let text = params.to_string();
        let actions = self.scripts.on_event(&self.session, method, text.as_str(), 7, &mut self.http);
        self.actions.extend(actions);
    }

    fn parsed(&mut self, url: &str, place: (i64, i64), hash: &str, more: Value) {
        let mut params = json!({"scriptId": hash, "url": url, "embedderName": url, "startLine": place.0,
            "startColumn": place.1, "hash": hash, "length": 3, "scriptLanguage": "JavaScript",
            "executionContextAuxData": {"isDefault": true, "type": "default", "frameId": "PAGE"}});
        for (name, value) in more.as_object().unwrap() {
            params[name] = value.clone();
        }
        self.event("Debugger.scriptParsed", params);
    }

    fn asked(&self) -> Vec<&SourceRequest> {
        let asked = self.actions.iter().filter_map(|action| match action {
            ScriptAction::ReadSource(request) => Some(request),
            ScriptAction::Record { .. } => None,
        });
        asked.collect()
    }

    fn answer(&mut self, id: u64, result: SourceResult) {
        let actions = self.scripts.on_source(id, result);
        self.actions.extend(actions);
    }

    fn finish(&mut self) {
        let actions = self.scripts.finish(9);
        self.actions.extend(actions);
    }

    fn rows<'a, T: 'a>(&'a self, pick: fn(&'a Row) -> Option<&'a T>) -> Vec<&'a T> {
        let rows = self.actions.iter().filter_map(|a| match a {
            ScriptAction::Record { row, .. } => Some(row),
            ScriptAction::ReadSource(_) => None,
        });
        rows.filter_map(pick).collect()
    }

    fn scripts(&self) -> Vec<&Script> {
        self.rows(|r| if let Row::Script(s) = r { Some(s) } else { None })
    }

    fn truncations(&self) -> Vec<&Truncation> {
        self.rows(|r| if let Row::Truncation(t) = r { Some(t) } else { None })
    }
}

fn read(head: &str, called: Option<&str>) -> SourceResult {
    let called = called.map(str::to_owned);
    SourceResult::Read { sha256: "read".into(), bytes: 3, head: head.into(), called }
}

fn stack() -> Value {
    json!({"stackTrace": {"callFrames": [{"functionName": "f", "scriptId": "9", "url": "https://a.test/x.js",
        "lineNumber": 1, "columnNumber": 4}]}})
}

/// I5
#[test]
fn handlers_are_told_from_scripts_by_their_place() {
    let mut bench = Bench::new(ScriptConfig::default());
    bench.event("Page.frameNavigated", json!({"frame": {"id": "PAGE", "url": PAGE}}));
    let params = json!({"frame": {"id": "PAGE", "url": PAGE}}).to_string();
    bench.http.on_event(&bench.session.clone(), "Page.frameNavigated", params.as_str(), 7);
    bench.parsed(PAGE, (1, 5), "a", json!({}));
    bench.parsed(PAGE, (9, 0), "b", json!({}));
    bench.parsed(PAGE, (4, 2), "c", json!({}));
    bench.parsed(PAGE, (12, 0), "d", stack());
    bench.parsed(PAGE, (0, 9), "e", json!({"isModule": true}));
    bench.event("Page.domContentEventFired", json!({"timestamp": 1}));
    bench.parsed(PAGE, (20, 0), "f", json!({}));
    // Another document begins anew.
    bench.event("Page.frameNavigated", json!({"frame": {"id": "PAGE", "url": PAGE}}));
    bench.parsed(PAGE, (1, 5), "g", json!({}));
    let hows: Vec<&str> = bench.scripts().iter().map(|s| s.how.as_str()).collect();
    assert_eq!(hows, ["inline", "inline", "handler", "handler", "inline", "handler", "inline"]);
    assert!(bench.asked().is_empty(), "hashes come with the events");
    assert_eq!(bench.scripts()[0].content_hash.as_deref(), Some("a"));
}

#[test]
fn text_without_a_url_is_what_its_source_says() {
    let mut bench = Bench::new(ScriptConfig::default());
    bench.parsed("", (0, 0), "a", stack());
    bench.parsed("", (0, 0), "b", json!({}));
    let [asked] = bench.asked()[..] else { panic!("{:?}", bench.actions) };
    assert_eq!(asked.call_site.as_ref().map(|s| (s.line, s.column)), Some((1, 4)));
    bench.answer(0, read("(function anonymous(a\n", Some("Function")));
    bench.parsed("", (0, 0), "c", stack());
    bench.answer(2, read("window.x=1", Some("appendChild")));
    // The same text from the same place is known.
    bench.parsed("", (0, 0), "c", stack());
    bench.parsed("", (0, 0), "d", stack());
    bench.answer(4, SourceResult::Failed { why: "gone".into() });
    // Inserted by a function that the extension replaced.
    let mut by_hook = stack();
    by_hook["stackTrace"]["callFrames"][0]["url"] = "chrome-extension://a/main.js".into();
    bench.parsed("", (0, 0), "e", by_hook);
    bench.answer(5, read("window.y=1", None));
    let told: Vec<_> =
        bench.scripts().iter().map(|s| (s.how.clone(), s.source_outcome.clone().unwrap())).collect();
    let expected = [
        ("anonymous", "not_asked"),
        ("function", "complete"),
        ("inline", "complete"),
        ("inline", "complete"),
        ("eval", "failed"),
        ("inline", "complete"),
    ];
    assert_eq!(told, expected.map(|(how, outcome)| (how.to_owned(), outcome.to_owned())));
    assert_eq!(
        bench.scripts()[4].content_hash.as_deref(),
        Some("d"),
        "the engine's hash is there all the same"
    );
}

#[test]
fn what_is_not_the_pages_is_left_out() {
    let mut bench = Bench::new(ScriptConfig { ours: vec!["ours".into()], ..ScriptConfig::default() });
    bench.parsed(
        "https://a.test/x.js",
        (0, 0),
        "a",
        json!({"executionContextAuxData": {"type": "isolated"}}),
    );
    bench.parsed("chrome-extension://id/main.js", (0, 0), "b", json!({}));
    bench.parsed("", (0, 0), "ours", json!({}));
    // A page cannot hide behind the name of an extension.
    let named = json!({"hasSourceURL": true, "embedderName": "https://a.test/y.js"});
    bench.parsed("chrome-extension://id/main.js", (0, 0), "c", named);
    let [script] = bench.scripts()[..] else { panic!("{:?}", bench.actions) };
    assert_eq!((script.how.as_str(), script.named_by_itself), ("external", Some(true)));
}

/// M18
#[test]
fn the_bounds_of_the_scripts_are_told() {
    let config =
        ScriptConfig { max_scripts: 2, max_source_bytes: 10, save_sources: true, ..ScriptConfig::default() };
    let mut bench = Bench::new(config);
    bench.parsed("https://a.test/1.js", (0, 0), "a", json!({"length": 11}));
    bench.parsed("https://a.test/2.js", (0, 0), "b", json!({}));
    for n in 0..3 {
        bench.parsed("https://a.test/3.js", (0, 0), &format!("c{n}"), json!({}));
    }
    bench.finish();
    let cuts: Vec<_> =
        bench.truncations().iter().map(|t| (t.reason.as_str(), t.dropped_rows, t.limit_value)).collect();
    assert_eq!(cuts, [("source_cap", 1, 10), ("scripts_cap", 3, 2)]);
    let outcomes: Vec<_> = bench.scripts().iter().map(|s| s.source_outcome.clone().unwrap()).collect();
    assert_eq!(outcomes, ["capped", "failed"]);
    assert!(bench.scripts()[1].source_error.as_ref().unwrap().contains("the visit ended"));
}
