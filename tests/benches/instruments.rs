//! P2: what all instruments cost, by browser and capture mode.
//!
//! An argument that does not begin with a dash chooses the modes whose names hold it, as `firefox` or `stealth`.
//! `--parts` compares each instrument alone, instead of all of them at once; `--part=NAME` one of them; `--page=NAME` takes
//! the pages whose names hold it.
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

/// Each instrument alone.
fn parts() -> Vec<(&'static str, Instruments)> {
    let none = Instruments::default();
    vec![
        ("http", Instruments { http: true, ..none.clone() }),
        ("cookies", Instruments { cookies: true, ..none.clone() }),
        ("javascript", Instruments { javascript: true, ..none.clone() }),
        ("navigations", Instruments { navigations: true, ..none.clone() }),
        ("dns", Instruments { dns: true, ..none.clone() }),
        ("scripts", Instruments { scripts: true, ..none }),
    ]
}

/// The value of `--NAME=VALUE` among the arguments.
fn option(name: &str) -> Option<String> {
    std::env::args().find_map(|argument| Some(argument.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

async fn compare(site: &Site, (name, kind, settings): Mode, sides: &[(&str, Instruments)]) {
    let world = World::new();
    let browsers = Browsers::start_with(&world, 2, settings).await;
    // One slot each: a browser with the extension and one without.
    let (mut plain, mut full) = (browsers.slot(0).await, browsers.slot(1).await);
    for slot in [&mut plain, &mut full] {
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
    }
    let (none, chosen) = (Instruments::default(), option("--page").unwrap_or_default());
    let url = |page_name: &str, query: &str| {
        page(page_name).expect("the site has the page").url(site, "bench", query)
    };
    for (what, page_name, query, count, target) in PAGES.into_iter().filter(|page| page.0.contains(&chosen)) {
        let url = url(page_name, query);
        for (side, instruments) in sides {
            // The first visits start browsers and fill caches of code.
            visits(&mut full, &url, instruments, 2).await;
            visits(&mut plain, &url, &none, 2).await;
            let mut pair = Pair::new("P2", what, "instrumented visit", "un-instrumented visit", target);
            for _ in 0..ROUNDS {
                let ours = visits(&mut full, &url, instruments, count).await;
                pair.add(ours, visits(&mut plain, &url, &none, count).await);
            }
            println!("{name}, {side}: {pair}");
        }
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
    let sides = match option("--part") {
        Some(part) => parts().into_iter().filter(|(name, _)| *name == part).collect(),
        None if std::env::args().any(|argument| argument == "--parts") => parts(),
        None => vec![("all instruments", all_instruments())],
    };
    let site = Site::start(SiteOptions::default()).await.expect("the site starts");
    for mode in modes {
        compare(&site, mode, &sides).await;
    }
}
