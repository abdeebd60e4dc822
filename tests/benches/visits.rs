//! P1: what a visit costs through a warm browser-service, without instruments, against a bare DevTools script.

#[path = "shared/bare.rs"]
mod bare;
#[path = "shared/turns.rs"]
mod turns;

use std::time::{Duration, Instant};

use sonde_proto::visit::v1::Instruments;
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::measure::{Pair, ROUNDS};
use sonde_tests::session::Browsers;
use sonde_tests::world::World;
use turns::visits;

/// Visits per turn: one alone is shorter than the noise of the machine.
const VISITS: u32 = 10;

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
    let browsers = Browsers::start(&world, 1).await;
    let mut plain = browsers.slot(0).await;
    let none = Instruments::default();
    let bare_browser = bare::browser(world.path()).await;
    let small = page("static-small").expect("the site has the page").url(&site, "bench", "");
    // The first visits start browsers and fill caches of code.
    for _ in 0..3 {
        visits(&mut plain, &small, &none, 1).await;
        bare::visit(&bare_browser, &small).await;
    }
    let mut first =
        Pair::new("P1", "static page", "un-instrumented visit", "bare DevTools script", "<= 1.05");
    for _ in 0..ROUNDS {
        let ours = visits(&mut plain, &small, &none, VISITS).await;
        first.add(ours, bare(&bare_browser, &small).await);
    }
    println!("{first}");
    bare_browser.close(Duration::from_secs(10)).await;
}
