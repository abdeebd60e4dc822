//! The commands of a visit on a real Chromium and a real Firefox, with what they leave in `crawl_history`.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, CommandResult, CommandStatus, Outcome};
use sonde_tests::rig::Rig;

fn at(selector: &str) -> Value {
    json!({"selector": selector})
}

/// What the page has noted, and whether all events were trusted.
fn noted() -> Value {
    json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": "() => [state.log.join(' '), state.trusted]"}})
}

async fn mouse(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let many = json!({"selector": ".many", "nth": 1});
    let in_frame = json!({"selector": "#in-frame", "frame": "#inner"});
    let found = rig
        .value(
            "m1",
            json!([
                {"hover": {"target": at("#plain")}},
                {"click": {"target": at("#plain"), "count": 2, "position": {"x": 3, "y": 3}}},
                {"click": {"target": at("#plain"), "button": "MOUSE_BUTTON_RIGHT"}},
                {"click": {"target": at("#plain"), "modifiers": ["MODIFIER_SHIFT"]}},
                {"click": {"target": at("#late")}},
                {"click": {"target": at("#mover")}},
                {"click": {"target": many}},
                {"click": {"target": at("#host >>> #deep >>> .shade")}},
                {"click": {"target": in_frame}},
                {"click": {"target": at("#far")}},
                noted(),
            ]),
        )
        .await;
    let log = "hover plain plain2 menu plain shift late mover two shade frame far";
    assert_eq!(found, json!([log, true]), "{kind:?}");
    rig.stop().await;
}

/// M21: clicks and hovers are those of a user, and wait for what a user waits for.
#[tokio::test]
async fn chromium_is_clicked_as_by_a_user() {
    mouse(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_is_clicked_as_by_a_user() {
    mouse(BrowserKind::Firefox).await;
}

async fn keyboard(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let read = r"() => [text.value, area.value, choice.value, state.log.join(' '), state.trusted,
                        scrollY > 2000 && getComputedStyle(far).display]";
    let found = rig
        .value(
            "k1",
            json!([
                {"type": {"target": at("#text"), "text": "Grüße, 5€ & more!", "delay": "0.005s"}},
                {"press": {"target": at("#text"), "keys": "Enter"}},
                {"type": {"target": at("#area"), "text": "old\ntext"}},
                {"press": {"keys": "Control+A"}},
                {"press": {"keys": "Backspace"}},
                {"type": {"text": "new"}},
                {"press": {"keys": "Shift+Home"}},
                {"press": {"keys": "N"}},
                {"select": {"target": at("#choice"), "value": "b"}},
                {"select": {"target": at("#choice"), "label": "Third"}},
                {"select": {"target": at("#choice"), "index": 1}},
                {"scroll": {"element": at("#far")}},
                {"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": read}},
            ]),
        )
        .await;
    let expected =
        json!(["Grüße, 5€ & more!", "N", "b", "enter choice b choice c choice b", true, "inline-block"]);
    assert_eq!(found, expected, "{kind:?}");
    let end = rig.value("k2", json!([{"scroll": {"bottom": {}}}])).await;
    assert_eq!(end["complete"], true, "{kind:?} {end}");
    assert!(
        end["height"].as_f64().unwrap() > 7000.0 && end["y"].as_f64().unwrap() > 6000.0,
        "{kind:?} {end}"
    );
    let cut = rig
        .value("k3", json!([{"scroll": {"by": {"y": 50}}}, {"scroll": {"bottom": {"max_steps": 2}}}]))
        .await;
    assert_eq!((cut["complete"].clone(), cut["steps"].clone()), (json!(false), json!(2)), "{kind:?} {cut}");
    rig.stop().await;
}

/// M21: keys, options and scrolling.
#[tokio::test]
async fn chromium_is_typed_into() {
    keyboard(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_is_typed_into() {
    keyboard(BrowserKind::Firefox).await;
}

async fn failures(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let click = |selector: &str| json!({"timeout": "1.5s", "click": {"target": at(selector)}});
    let result = rig
        .visit(
            "f1",
            json!([
                click("#nowhere"),
                click("#hidden"),
                click("#never"),
                click("#covered"),
                click("a["),
                {"timeout": "1s", "type": {"target": at("#fixed"), "text": "x"}},
                {"timeout": "1s", "select": {"target": at("#choice"), "value": "z"}},
                {"select": {"target": at("#text"), "value": "z"}},
                {"timeout": "1s", "click": {"target": {"selector": "b", "frame": "#text"}}},
                {"timeout": "1s", "wait_for": {"element": {"target": at("#plain"), "state": "ELEMENT_STATE_HIDDEN"}}},
                {"timeout": "1s", "wait_for": {"url": "http://*/elsewhere"}},
                {"evaluate": {"expression": "nothing.there"}},
                {"evaluate": {"expression": "'x'.repeat(200)", "max_bytes": 100}},
                {"timeout": "1s", "assert": {"text": {"target": at("#plain"), "text": {"equals": "fancy"}}}},
                {"timeout": "1s", "assert": {"count": {"target": at(".many"), "count": 4}}},
                {"timeout": "1s", "assert": {"expression": "1 > 2"}},
                {"evaluate": {"expression": "new Promise(() => { location.href = '/p/interaction?v=f1&page=2'; })"}},
            ]),
        )
        .await;
    let errors: Vec<&str> = result.commands[1..].iter().map(|c| c.error.as_str()).collect();
    let expected = [
        "element_not_found",
        "not_visible",
        "not_enabled",
        "obscured",
        "invalid_selector",
        "not_editable",
        "option_not_found",
        "not_a_select",
        "frame_not_reachable",
        "not_hidden",
        "timeout",
        "script_error",
        "result_too_large",
        "assertion_failed",
        "assertion_failed",
        "assertion_failed",
        "navigation",
    ];
    assert_eq!(errors, expected, "{kind:?}: {result:#?}");
    let status = |c: &CommandResult| c.status();
    assert!(
        result.commands[1..11].iter().all(|c| status(c) == CommandStatus::Error),
        "{kind:?}: {result:#?}"
    );
    assert_eq!(status(&result.commands[11]), CommandStatus::Timeout, "{kind:?}");
    let why = rig.history(result.visit_id, 14, "traceback").unwrap();
    assert!(why.contains("fancy") && why.contains("plain"), "{kind:?}: {why}");
    let why = rig.history(result.visit_id, 4, "traceback").unwrap();
    assert!(why.contains("sheet"), "what is over it is named: {kind:?}: {why}");
    rig.stop().await;
}

/// M21, M22: a failure says which condition was not met, and the sequence goes on where it may.
#[tokio::test]
async fn chromium_says_what_was_missing() {
    failures(BrowserKind::Chromium).await;
}

/// M21, M22
#[tokio::test]
async fn firefox_says_what_was_missing() {
    failures(BrowserKind::Firefox).await;
}

async fn reading(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let field = |name: &str, selector: &str, kind: &str, key: &str, all: bool| json!({"name": name, "target": at(selector), "kind": format!("EXTRACT_KIND_{kind}"), "key": key, "all": all});
    let found = rig
        .value(
            "r1",
            json!([
                {"click": {"target": at("#adder")}},
                {"wait_for": {"element": {"target": at(".added")}}},
                {"wait_for": {"load": "LOAD_POLICY_LOAD"}},
                {"wait_for": {"load": "LOAD_POLICY_NETWORK_IDLE"}},
                {"wait_for": {"time": "0.05s"}},
                {"assert": {"visible": at(".added")}},
                {"assert": {"text": {"target": at(".added"), "text": {"matches": "^added\\s+later$"}}}},
                {"assert": {"url": {"contains": "/p/interaction?v=r1"}}},
                {"assert": {"title": {"equals": "interaction"}}},
                {"assert": {"expression": "document.querySelectorAll('.many').length === 3"}},
                {"evaluate": {"expression": "typeof state"}},
                {"extract": {"fields": [
                    field("text", ".added", "TEXT", "", false),
                    field("html", ".added", "HTML", "", false),
                    field("number", ".added", "ATTRIBUTE", "data-n", false),
                    field("value", "#fixed", "PROPERTY", "value", false),
                    field("none", "#nowhere", "TEXT", "", false),
                    field("many", ".many", "TEXT", "", true),
                    field("deep", "#host >>> #deep >>> button", "TEXT", "", true),
                ]}},
            ]),
        )
        .await;
    let expected = json!({
        "text": "added later", "html": "<p class=\"added\" data-n=\"7\">added <b>later</b></p>", "number": "7",
        "value": "read only", "none": null, "many": ["one", "two", "three"], "deep": ["shade"],
    });
    assert_eq!(found, expected, "{kind:?}");
    let promised =
        json!([{"evaluate": {"expression": "new Promise((done) => setTimeout(done, 50, [1, {a: 'ä'}]))"}}]);
    assert_eq!(rig.value("r2", promised).await, json!([1, {"a": "ä"}]), "{kind:?}");
    let isolated = json!([{"evaluate": {"expression": "typeof state + ' ' + document.title"}}]);
    assert_eq!(rig.value("r3", isolated).await, json!("undefined interaction"), "{kind:?}");
    rig.stop().await;
}

/// M21: waiting by events, values, assertions.
#[tokio::test]
async fn chromium_is_read() {
    reading(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_is_read() {
    reading(BrowserKind::Firefox).await;
}

async fn interruptions(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let click = |selector: &str| json!({"timeout": "20s", "click": {"target": at(selector)}});
    let found = rig
        .value(
            "i1",
            json!([
                click("#alert"),
                click("#confirm"),
                click("#prompt"),
                click("#open"),
                click("#save"),
                click("#plain"),
                click("#guard"),
                noted(),
            ]),
        )
        .await;
    let log = "confirm false prompt null open true save hover plain guard";
    assert_eq!(found, json!([log, true]), "{kind:?}");
    let result = rig
        .visit(
            "i2",
            json!([
                click("#guard"),
                click("#next"),
                {"wait_for": {"url": "**page=2"}},
                {"wait_for": {"load": "LOAD_POLICY_LOAD"}},
                {"assert": {"url": {"contains": "page=2"}}},
            ]),
        )
        .await;
    assert_eq!(result.outcome(), Outcome::Ok, "{kind:?}: {result:#?}");
    assert!(result.commands.iter().all(|c| c.status() == CommandStatus::Ok), "{kind:?}: {result:#?}");
    assert!(result.commands[5].final_url.ends_with("page=2"), "{kind:?}: {result:#?}");
    rig.stop().await;
}

/// M25: dialogs, beforeunload, windows and downloads that a click opens hang nothing.
#[tokio::test]
async fn chromium_goes_on_after_interruptions() {
    interruptions(BrowserKind::Chromium).await;
}

/// M25
#[tokio::test]
async fn firefox_goes_on_after_interruptions() {
    interruptions(BrowserKind::Firefox).await;
}
