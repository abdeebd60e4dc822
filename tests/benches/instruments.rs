//! P2: what all instruments cost, by browser and capture mode.
//!
//! An argument that does not begin with a dash chooses the modes whose names hold it, as `firefox` or `stealth`.
#[path = "shared/turns.rs"]
mod turns;

use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, Instruments};
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::measure::{Pair, ROUNDS};
use sonde_tests::session::{Browsers, all_instruments};
use sonde_tests::world::World;
use turns::visits;

/// Name, browser, settings of the browser-service.
type Mode = (&'static str, BrowserKind, &'static [(&'static str, &'static str)]);

const MODES: [Mode; 4] = [
    ("chromium wrapped", BrowserKind::Chromium, &[]),
    ("chromium stealth", BrowserKind::Chromium, &[("CHROMIUM_CAPTURE", "stealth")]),
    ("firefox wrapped", BrowserKind::Firefox, &[]),
    ("firefox exported", BrowserKind::Firefox, &[("FIREFOX_CAPTURE", "exported")]),
];

/// What is visited; query; visits per turn, as one alone may be shorter than the noise of the machine; target.
const PAGES: [(&str, &str, &str, u32, &str); 3] = [
    ("static page", "static-small", "", 10, "<= 1.25"),
    ("page of 200 requests", "two-hundred-requests", "", 2, "<= 1.25"),
    // It reads two properties n times each.
    ("page of 10^5 instrumented calls", "js-flood", "&n=50000", 1, "<= 2.0"),
];

async fn compare(site: &Site, (name, kind, settings): Mode) {
    let world = World::new();
    let browsers = Browsers::start_with(&world, 2, settings).await;
    // One slot each: a browser with the extension and one without.
    let (mut plain, mut full) = (browsers.slot(0).await, browsers.slot(1).await);
    for slot in [&mut plain, &mut full] {
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
    }
    let (none, all) = (Instruments::default(), all_instruments());
    let url = |page_name: &str, query: &str| {
        page(page_name).expect("the site has the page").url(site, "bench", query)
    };
    for (what, page_name, query, count, target) in PAGES {
        let url = url(page_name, query);
        // The first visits start browsers and fill caches of code.
        visits(&mut full, &url, &all, 2).await;
        visits(&mut plain, &url, &none, 2).await;
        let mut pair = Pair::new("P2", what, "instrumented visit", "un-instrumented visit", target);
        for _ in 0..ROUNDS {
            let ours = visits(&mut full, &url, &all, count).await;
            pair.add(ours, visits(&mut plain, &url, &none, count).await);
        }
        println!("{name}: {pair}");
    }
}

#[tokio::main]
async fn main() {
    let chosen = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let modes: Vec<Mode> = MODES.into_iter().filter(|(name, ..)| name.contains(&chosen)).collect();
    if modes.is_empty() {
        let names = MODES.map(|(name, ..)| name).join(", ");
        eprintln!("no mode's name contains {chosen:?}; there are: {names}");
        std::process::exit(2);
    }
    let site = Site::start(SiteOptions::default()).await.expect("the site starts");
    for mode in modes {
        compare(&site, mode).await;
    }
}
