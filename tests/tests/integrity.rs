//! The integrity suite on both browsers; `./x integrity` prints its table.

use sonde_proto::visit::v1::BrowserKind;
use sonde_site::{Site, SiteOptions};
use sonde_tests::integrity::{Lab, run, table};
use sonde_tests::session::Browsers;
use sonde_tests::world::World;

/// Of all lines, or of some; with settings of the browser-service.
async fn holds(kind: BrowserKind, settings: &[(&str, &str)], only: &[&str]) {
    let world = World::new();
    let site = Site::start(SiteOptions::default()).await.expect("a port is free");
    let browsers = Browsers::start_with(&world, 1, settings).await;
    let mut lab = Lab::new(browsers.slot(0).await, kind, site, world.data());
    let column = run(&mut lab, only).await;
    assert_eq!(column.faults(), Vec::<String>::new(), "{}", table(std::slice::from_ref(&column)));
    assert!(only.is_empty() || column.verdicts.len() == only.len(), "a line of {only:?} is not there");
}

/// I1 to I18, M17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_holds_every_line() {
    holds(BrowserKind::Chromium, &[], &[]).await;
}

/// I1 to I18, M17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firefox_holds_every_line() {
    holds(BrowserKind::Firefox, &[], &[]).await;
}

/// I3, I6, I7, I11: what the other capture mode is there for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firefox_tells_little_of_functions_that_it_lends() {
    let lines = ["I3", "I6", "I7", "I11"];
    holds(BrowserKind::Firefox, &[("FIREFOX_CAPTURE", "exported")], &lines).await;
}

/// The lines that depend on how calls are captured. I1, I3, I4, I5, I6, I7, I11, I12, I13, I18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_holds_the_lines_of_calls_in_stealth() {
    let lines = ["I1", "I3", "I4", "I5", "I6", "I7", "I11", "I12", "I13", "I18"];
    holds(BrowserKind::Chromium, &[("CHROMIUM_CAPTURE", "stealth")], &lines).await;
}
