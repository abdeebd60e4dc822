//! Exploring a page within guard-rails (M21), on a real Chromium and a real Firefox.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sonde_proto::visit::v1::{AttemptResult, BrowserKind, CommandStatus};
use sonde_tests::rig::Rig;

fn explore(asked: Value) -> Value {
    json!({"explore": asked})
}

/// Runs a script of the page's own.
fn script(text: &str) -> Value {
    json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": format!("() => {{ {text} }}")}})
}

/// What a command gave.
fn value(kind: BrowserKind, result: &AttemptResult, index: usize) -> Value {
    let command = &result.commands[index];
    assert_eq!(command.status(), CommandStatus::Ok, "{kind:?}: {command:#?}");
    serde_json::from_str(&command.value_json).unwrap()
}

/// The texts of what was clicked, each with what came of it.
fn actions(explored: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    explored["actions"].as_array().unwrap().iter().map(|a| (text(&a["text"]), text(&a["result"]))).collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

async fn explored(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let host = rig.site.hosts()[0].clone();
    let url = rig.site.url(&host, "/p/explore?v=ex");
    // Everything but what leads to other pages of the site.
    let stay = || {
        script(
            "for (const link of document.querySelectorAll('a[href^=explore]:not([target])')) link.remove();",
        )
    };
    let clicked = || json!({"evaluate": {"expression": "document.documentElement.dataset.clicked"}});
    let only = |html: &str| script(&format!("document.body.innerHTML = {html:?};"));
    let all = || explore(json!({"max_clicks": 20, "max_depth": 9}));
    let third = rig.site.url("third.localhost", "/p/child?v=ex-left");
    let commands = json!([
        {"get": {}}, explore(json!({})),
        {"get": {}}, stay(), all(), clicked(),
        {"get": {}}, stay(), all(), clicked(),
        {"get": {}}, stay(), explore(json!({"max_clicks": 2, "blocked_words": ["tour"]})),
        {"get": {}}, explore(json!({"max_depth": 1})),
        {"get": {}}, only(&format!("<button onclick='location = \"{third}\"'>Try it</button><button>Later</button>")),
        explore(json!({})),
        {"get": {}}, only("<button>Try it</button><input type='password'>"), explore(json!({})),
        explore(json!({"allow_password_fields": true})),
    ]);
    let result = rig.visit_at(&url, commands).await;
    let value = |index: usize| value(kind, &result, index);

    // It follows what is inviting, and waits for a page that is slow.
    let first = value(1);
    assert_eq!(
        actions(&first),
        pairs(&[("Features", "navigated"), ("Slow page", "navigated")]),
        "{kind:?}: {first:#}"
    );
    assert_eq!(first["stop_reason"], "NO_ELEMENTS");
    assert_eq!(
        (&first["clicks"], &first["depth"], &first["state"]),
        (&json!(2), &json!(2), &json!("complete"))
    );
    let visited = first["visited_urls"].as_array().unwrap();
    assert_eq!(visited.len(), 3, "{kind:?}: {first:#}");
    assert!(visited[2].as_str().unwrap().contains("/r/slow"), "{kind:?}: {first:#}");

    // All that may be clicked, and nothing else, once each.
    let (all, again) = (value(4), value(8));
    let truth = value(5);
    let truth: BTreeSet<&str> = truth.as_str().unwrap().split(' ').collect();
    let wanted = BTreeSet::from(["count", "push", "pointer", "tab", "gone", "deep", "shadow", "frame"]);
    assert_eq!(truth, wanted, "{kind:?}: {all:#}");
    assert_eq!(
        (&all["clicks"], &all["depth"], &all["stop_reason"]),
        (&json!(8), &json!(1), &json!("NO_ELEMENTS"))
    );
    let skipped = json!({
        "auth": 1, "blocked_word": 3, "domain": 1, "download": 1, "form_post": 1, "form_sensitive": 1,
        "new_tab": 1, "obscured": 1, "scheme": 1,
    });
    assert_eq!(all["skipped"], skipped, "{kind:?}: {all:#}");
    assert_eq!(all["actions"], again["actions"], "{kind:?}: the same page is explored the same way");
    let fingerprints: BTreeSet<&str> =
        all["actions"].as_array().unwrap().iter().map(|a| a["fingerprint"].as_str().unwrap()).collect();
    // What lies under another was out of view when all else had been clicked: it was aimed at in vain.
    assert_eq!(fingerprints.len(), 9, "{kind:?}: {all:#}");
    let below = ("Try below".to_owned(), "obscured".to_owned());
    assert_eq!(actions(&all).last(), Some(&below), "{kind:?}: {all:#}");

    // Bounds.
    let two = value(12);
    assert_eq!((&two["clicks"], &two["stop_reason"]), (&json!(2), &json!("MAX_CLICKS")), "{kind:?}: {two:#}");
    assert!(actions(&two).iter().all(|(text, _)| text != "Explore the tour"), "{kind:?}: {two:#}");
    assert_eq!((&value(14)["depth"], &value(14)["stop_reason"]), (&json!(1), &json!("MAX_DEPTH")));
    let left = value(17);
    assert_eq!(
        (&left["clicks"], &left["stop_reason"]),
        (&json!(1), &json!("DOMAIN_CHANGED")),
        "{kind:?}: {left:#}"
    );
    let auth = value(20);
    assert_eq!(
        (&auth["clicks"], &auth["stop_reason"]),
        (&json!(0), &json!("AUTH_PAGE")),
        "{kind:?}: {auth:#}"
    );
    assert_eq!(actions(&value(21)), pairs(&[("Try it", "clicked")]), "{kind:?}");

    // The server's side.
    for path in ["/p/login", "/p/child", "/r/download"] {
        assert!(rig.hits("ex", path).is_empty(), "{kind:?}: {path}");
    }
    assert!(
        rig.hits("ex", "/p/explore-next").iter().all(|hit| hit.method == "GET"),
        "{kind:?}: nothing is posted"
    );
    rig.stop().await;
}

/// M21, D27, D28, D30, D32, D35, D42, D44, D45, D47-D49, D51, D55, D77
#[tokio::test]
async fn chromium_explores_within_its_guard_rails() {
    explored(BrowserKind::Chromium).await;
}

/// M21, D27, D28, D30, D32, D35, D42, D44, D45, D47-D49, D51, D55, D77
#[tokio::test]
async fn firefox_explores_within_its_guard_rails() {
    explored(BrowserKind::Firefox).await;
}
