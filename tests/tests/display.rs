//! Where browsers show their windows (M35), on both of them.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rusqlite::Connection;
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::world::{Running, World};

/// Where no browser starts, three attempts and what the slot rests between them.
const VISIT: Duration = Duration::from_secs(240);

fn visit(world: &World, site: &Site, browser: &str, display: &str) -> Running {
    let url = page("javascript").unwrap().url(site, "display", "");
    let data = world.data().display().to_string();
    world.sonde(["visit", &url, "--out", &data, "--browser", browser, "--display", display])
}

/// What the provenance says, and the height of the page's window.
fn shown(world: &World) -> (String, i64) {
    let db = Connection::open(world.data().join("crawl.sqlite")).unwrap();
    let display = "SELECT facts ->> '$.display' FROM provenance WHERE subject LIKE 'browser:%'";
    let display: String = db.query_row(display, [], |row| row.get(0)).unwrap();
    let height = "SELECT window_height FROM navigations WHERE window_height IS NOT NULL LIMIT 1";
    (display, db.query_row(height, [], |row| row.get(0)).unwrap())
}

async fn on_xvfb(browser: &str) {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
    let mut sonde = visit(&world, &site, browser, "xvfb");
    let code = sonde.code(VISIT).await;
    assert_eq!(code, 0, "{}\n{}", sonde.stdout(), sonde.stderr());
    let (display, height) = shown(&world);
    assert_eq!(display, "xvfb");
    assert!((1..=768).contains(&height), "the window fits the screen: {height}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// M35
#[tokio::test]
async fn chromium_has_windows_on_an_xvfb_of_its_own() {
    on_xvfb("chromium").await;
}

/// M35
#[tokio::test]
async fn firefox_has_windows_on_an_xvfb_of_its_own() {
    on_xvfb("firefox").await;
}

/// M35: a display that is not there, and none at all: each is said, with what to do.
#[tokio::test]
async fn a_headed_browser_without_a_display_says_so() {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
    let mut sonde = visit(&world, &site, "firefox", ":997");
    assert_eq!(sonde.code(VISIT).await, 9, "{}", sonde.stderr());
    let said = sonde.stdout() + &sonde.stderr();
    assert!(said.contains("997"), "{said}");
    let mut sonde = visit(&world, &site, "chromium", "somewhere");
    assert_eq!(sonde.code(VISIT).await, 4);
    assert!(sonde.stderr().contains("one of headless, headed, xvfb"), "{}", sonde.stderr());
    world.assert_nothing_left(Duration::from_secs(5)).await;
}
