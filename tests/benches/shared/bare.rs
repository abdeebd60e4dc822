//! The other side of the ratios: a browser of the same build and flags, and a bare script over its DevTools pipe.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sonde_browser::engine::chromium::cdp::{AutoAttach, Filter, Item, RawCommand, SessionInfo};
use sonde_browser::engine::chromium::launch::{Browser, ChromiumOptions, launch};

const SOON: Duration = Duration::from_secs(120);

fn enable(info: &SessionInfo) -> Vec<RawCommand> {
    if &*info.kind == "page" { vec![RawCommand::new("Page.enable", json!({}))] } else { Vec::new() }
}

/// A browser without anything of ours in it, with the flags of a crawl.
pub async fn browser(profiles: &Path) -> Browser {
    let options = ChromiumOptions {
        no_sandbox: rustix::process::geteuid().is_root(),
        profile_root: Some(profiles.to_owned()),
        ..ChromiumOptions::default()
    };
    let browser = launch(options).await.expect("Chromium starts");
    browser
        .connection()
        .auto_attach(AutoAttach::new(enable), SOON)
        .await
        .expect("Chromium tells of its targets");
    browser
}

/// Loads a page in a fresh context and disposes of it; returns when all that is done.
pub async fn visit(browser: &Browser, url: &str) -> Duration {
    let began = Instant::now();
    let context = browser.create_context(None, SOON).await.expect("a context is made");
    let filter = Filter::contexts([context.clone()]).methods(["Page.loadEventFired"]);
    let page = browser.create_page(Some(&context), "about:blank", SOON).await.expect("a page is made");
    let mut loaded = browser.connection().subscribe(filter);
    let answer = browser
        .connection()
        .call_raw(Some(&page.session.id), "Page.navigate", json!({"url": url}), SOON)
        .await;
    let answer: Value = answer.expect("the page navigates").decode().expect("an answer is JSON");
    assert!(answer.get("errorText").is_none(), "{url}: {answer}");
    let event = tokio::time::timeout(SOON, loaded.recv()).await.expect("the page loads in time");
    assert!(matches!(event, Some(Item::Event(_))), "the browser ended while it loaded {url}");
    browser.dispose_context(&context, SOON).await.expect("the context is disposed of");
    began.elapsed()
}
