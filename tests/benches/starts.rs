//! P12 and P14: how soon there is a browser again after one was killed, and a first visit after the command was given.

#[path = "shared/bare.rs"]
mod bare;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sonde_proto::visit::v1::{GetCommand, Instruments, Outcome, command::Step};
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::measure::{Pair, ROUNDS};
use sonde_tests::session::Browsers;
use sonde_tests::world::{World, until};

const SOON: Duration = Duration::from_secs(60);

async fn cold_launch(world: &World) -> Duration {
    let began = Instant::now();
    let browser = bare::browser(world.path()).await;
    let took = began.elapsed();
    browser.close(Duration::from_secs(10)).await;
    took
}

/// From SIGKILL of the only browser to the request of the next visit at the site.
async fn recovery(site: &Site, spare: bool) -> Pair {
    let world = World::new();
    let browsers = Browsers::start_with(&world, 1, &[("SPARE", if spare { "true" } else { "false" })]).await;
    let mut slot = browsers.slot(0).await;
    let (what, target) = match spare {
        true => ("browser killed, a spare held ready", "<= 0.1"),
        false => ("browser killed", "<= 1.3"),
    };
    let mut pair = Pair::new("P12", what, "SIGKILL to next navigation", "cold launch", target);
    let visit = |token: String| page("static-small").expect("the site has the page").url(site, &token, "");
    for round in 0..=ROUNDS {
        let token = |when: &str| format!("{when}-{round}-{spare}");
        let (before, after) = (token("before"), token("after"));
        let get = || vec![Step::Get(GetCommand::default())];
        let result = slot.visit(&visit(before), Instruments::default(), get()).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{:?}", result.failure);
        let serving = slot.pid;
        let wanted = if spare { 2 } else { 1 };
        let running = || Some(world.browsers()).filter(|browsers| browsers.len() == wanted);
        let running = until("the browsers of the slot", SOON, running).await;
        let browser = running.into_iter().find(|browser| browser.pid == serving).expect("it runs");
        let began = Instant::now();
        browser.signal(Signal::KILL);
        let token = after.as_str();
        let arrived = site.wait_for("the next navigation", SOON, |site| !site.hits_for(token).is_empty());
        let next = async {
            // A visit that meets the dying browser ends as a crash: then the one after it is the next.
            while slot.visit(&visit(after.clone()), Instruments::default(), get()).await.outcome()
                != Outcome::Ok
            {}
        };
        let arrived = async {
            arrived.await.expect("a visit reaches the site");
            began.elapsed()
        };
        let (arrived, ()) = tokio::join!(arrived, next);
        let cold = cold_launch(&world).await;
        // The first round warms the disk's cache.
        if round > 0 {
            pair.add(arrived, cold);
        }
    }
    pair
}

/// From the start of the command to its first finished visit.
async fn first_visit(site: &Site, browsers: &'static str, what: &'static str) -> Pair {
    let mut pair = Pair::new("P14", what, "sonde crawl to first visit", "launch and bare visit", "<= 1.3");
    let url = page("static-small").expect("the site has the page").url(site, "start", "");
    for round in 0..=ROUNDS {
        let world = World::new();
        let data = world.data().display().to_string();
        let began = Instant::now();
        let mut sonde =
            world.sonde(["crawl", &url, "--out", &data, "--browsers", browsers, "--progress", "plain"]);
        until("the first visit", SOON, || sonde.stderr().contains("1/1 ok").then_some(())).await;
        let ours = began.elapsed();
        assert_eq!(sonde.code(SOON).await, 0, "{}", sonde.stderr());
        let began = Instant::now();
        let browser = bare::browser(world.path()).await;
        bare::visit(&browser, &url).await;
        let theirs = began.elapsed();
        browser.close(Duration::from_secs(10)).await;
        if round > 0 {
            pair.add(ours, theirs);
        }
    }
    pair
}

#[tokio::main]
async fn main() {
    let site = Site::start(SiteOptions::default()).await.expect("the site starts");
    println!("{}", recovery(&site, false).await);
    println!("{}", recovery(&site, true).await);
    println!("{}", first_visit(&site, "1", "one browser").await);
    println!("{}", first_visit(&site, "2", "two browsers").await);
}
