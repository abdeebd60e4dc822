//! The conformance corpus: every page of the fixture site, row for row, on both browsers, as a user runs it.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use sonde_tests::world::World;

/// All pages on one browser, on a loaded machine.
const CORPUS: Duration = Duration::from_secs(900);

/// One browser after the other: two of each are as many as two cores serve in the time that pages are given.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn corpus(browser: &str, browsers: &str) {
    let _turn = TURN.lock().await;
    let world = World::new();
    let mut sonde = world.sonde(["selftest", "--browser", browser, "--browsers", browsers]);
    let code = sonde.code(CORPUS).await;
    let said = sonde.stdout();
    assert_eq!(code, 0, "{said}\n{}", sonde.stderr());
    println!("{said}");
    world.assert_nothing_left(Duration::from_secs(10)).await;
}

/// M01, M05, M10-M18, I1-I5, I9-I14, I17, I18: each row is due and each due row is there, but for what
/// `tests/site/expectations.toml` lists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_is_recorded_row_for_row_on_chromium() {
    corpus("chromium", "2").await;
}

/// The same on Firefox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_is_recorded_row_for_row_on_firefox() {
    corpus("firefox", "2").await;
}
