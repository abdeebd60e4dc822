//! The integrity suite on both browsers; `./x integrity` prints its table.

use sonde_proto::visit::v1::BrowserKind;
use sonde_site::{Site, SiteOptions};
use sonde_tests::integrity::{Lab, run, table};
use sonde_tests::session::Browsers;
use sonde_tests::world::World;

/// Of all lines, or of some; with settings of the browser-service.
async fn holds(kind: BrowserKind, settings: &[(&str, &str)], lines: &[Option<&str>]) {
    let world = World::new();
    let site = Site::start(SiteOptions::default()).await.expect("a port is free");
    let browsers = Browsers::start_with(&world, 1, settings).await;
    let mut lab = Lab::new(browsers.slot(0).await, kind, site, world.data());
    for line in lines {
        let column = run(&mut lab, *line).await;
        assert_eq!(column.faults(), Vec::<String>::new(), "{}", table(std::slice::from_ref(&column)));
        assert!(!column.verdicts.is_empty(), "no line {line:?}");
    }
}

/// I1 to I18, M17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_holds_every_line() {
    holds(BrowserKind::Chromium, &[], &[None]).await;
}

/// I1 to I18, M17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firefox_holds_every_line() {
    holds(BrowserKind::Firefox, &[], &[None]).await;
}

/// I3, I6, I7, I11: what the other capture mode is there for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firefox_tells_little_of_functions_that_it_lends() {
    let lines = ["I3", "I6", "I7", "I11"].map(Some);
    holds(BrowserKind::Firefox, &[("FIREFOX_CAPTURE", "exported")], &lines).await;
}
