//! P1 and P2: what a visit costs through a warm browser-service, bare, without instruments and with all of them.

#[path = "shared/bare.rs"]
mod bare;

use std::time::{Duration, Instant};

use sonde_proto::visit::v1::{GetCommand, Instruments, Outcome, command::Step};
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::measure::{Pair, ROUNDS};
use sonde_tests::session::{Browsers, Slot, all_instruments};
use sonde_tests::world::World;

/// Visits per turn: one alone is shorter than the noise of the machine.
const VISITS: u32 = 10;

async fn through_service(slot: &mut Slot, url: &str, instruments: &Instruments, visits: u32) -> Duration {
    let began = Instant::now();
    for _ in 0..visits {
        let get = Step::Get(GetCommand::default());
        let result = slot.visit(url, instruments.clone(), vec![get]).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{url}: {:?}", result.failure);
    }
    began.elapsed() / visits
}

async fn bare(browser: &sonde_browser::engine::chromium::launch::Browser, url: &str) -> Duration {
    let began = Instant::now();
    for _ in 0..VISITS {
        bare::visit(browser, url).await;
    }
    began.elapsed() / VISITS
}

#[tokio::main]
async fn main() {
    let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.expect("the site starts"));
    let browsers = Browsers::start(&world, 2).await;
    // One slot each: a browser with the extension and one without.
    let (mut plain, mut full) = (browsers.slot(0).await, browsers.slot(1).await);
    let (none, all) = (Instruments::default(), all_instruments());
    let bare_browser = bare::browser(world.path()).await;
    let url = |name: &str, more: &str| page(name).expect("the site has the page").url(&site, "bench", more);

    let small = url("static-small", "");
    // The first visits start browsers and fill caches of code.
    for _ in 0..3 {
        through_service(&mut plain, &small, &none, 1).await;
        through_service(&mut full, &small, &all, 1).await;
        bare::visit(&bare_browser, &small).await;
    }
    let mut first =
        Pair::new("P1", "static page", "un-instrumented visit", "bare DevTools script", "<= 1.05");
    for _ in 0..ROUNDS {
        let ours = through_service(&mut plain, &small, &none, VISITS).await;
        first.add(ours, bare(&bare_browser, &small).await);
    }
    println!("{first}");
    bare_browser.close(Duration::from_secs(10)).await;

    let pages = [
        ("static page", small, VISITS, "<= 1.25"),
        ("page of 200 requests", url("two-hundred-requests", ""), 2, "<= 1.25"),
        // The page reads two properties n times each.
        ("page of 10^5 instrumented calls", url("js-flood", "&n=50000"), 1, "<= 2.0"),
    ];
    for (what, url, visits, target) in pages {
        let mut pair = Pair::new("P2", what, "instrumented visit", "un-instrumented visit", target);
        through_service(&mut full, &url, &all, 1).await;
        through_service(&mut plain, &url, &none, 1).await;
        for _ in 0..ROUNDS {
            let ours = through_service(&mut full, &url, &all, visits).await;
            pair.add(ours, through_service(&mut plain, &url, &none, visits).await);
        }
        println!("{pair}");
    }
}
