//! Crawls of real pages in the middle of which something is killed. Whatever dies, every visit ends ok exactly once, and
//! the stored data are sound.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rustix::process::Signal;
use sonde_tests::checker::{Expectation, Report, check};
use sonde_tests::docs::Docs;
use sonde_tests::process::Process;
use sonde_tests::up::Up;
use sonde_tests::world::{Running, World, until};

const CRAWL: Duration = Duration::from_secs(300);
/// R14: after a service was killed, nothing of its browsers lives longer.
const ORPHANS: Duration = Duration::from_secs(5);
/// R10: from the fault to the next page that is visited.
const PROGRESS: Duration = Duration::from_secs(30);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Browser,
    Service(&'static str),
}

const BROWSER_SERVICE: Victim = Victim::Service("sonde-browser");
const COORDINATOR: Victim = Victim::Service("sonde-coordinator");
const STORAGE: Victim = Victim::Service("sonde-storage");

async fn kill(world: &World, victim: Victim) {
    let found = |world: &World| match victim {
        Victim::Browser => world.browsers().into_iter().next(),
        Victim::Service(name) => world.service(name),
    };
    let process = until(&format!("{victim:?} to kill"), PROGRESS, || found(world)).await;
    let browsers = world.browsers();
    // The whole trees: a killed browser's children, and those of a killed service's browsers.
    let doomed: Vec<Process> = match victim {
        Victim::Browser => world.processes().into_iter().filter(|p| p.session == process.session).collect(),
        BROWSER_SERVICE => {
            let sessions: Vec<u32> = browsers.iter().map(|b| b.session).collect();
            world.processes().into_iter().filter(|p| sessions.contains(&p.session)).collect()
        }
        Victim::Service(_) => Vec::new(),
    };
    process.signal(Signal::KILL);
    until("the killed process to be gone", ORPHANS, || (!process.alive()).then_some(())).await;
    let orphans = || doomed.iter().filter(|p| p.alive()).count();
    until(&format!("the processes of {victim:?} to be gone"), ORPHANS, || (orphans() == 0).then_some(()))
        .await;
}

/// Crawls `pages` pages on three processes and kills each victim once so many pages were visited.
async fn crawl_and_kill(pages: usize, faults: &[(usize, Victim)]) -> Report {
    let (world, docs) = (World::new(), Docs::start(pages).await);
    let up = Up::start(&world, 2).await;
    let list = world.write("sites.txt", &docs.list());
    let list = list.to_str().unwrap();
    let mut crawl =
        world.sonde(["crawl", "--server", &up.coordinator, "--list", list, "--progress", "plain"]);
    for (at, victim) in faults {
        until(&format!("{at} pages"), CRAWL, || (docs.visited() >= *at).then_some(())).await;
        kill(&world, *victim).await;
        let before = docs.visited();
        until(&format!("the next page after {victim:?} was killed"), PROGRESS, || {
            (docs.visited() > before).then_some(())
        })
        .await;
    }
    let code = crawl.code(CRAWL).await;
    assert_eq!(code, 0, "{}\n{}\n{}", crawl.stdout(), crawl.stderr(), up.log());
    match faults.iter().any(|(_, victim)| *victim == BROWSER_SERVICE) {
        true => up.stop_after_kills(&world).await,
        false => up.stop(&world).await,
    }
    let report = check(&world.data(), &Expectation::all_ok(pages as u64).with_log(docs.log())).unwrap();
    report.assert_clean();
    println!("{report}");
    report
}

/// R1, R3, R4, R5, R10, R14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_browser_costs_an_attempt_and_no_visit() {
    let report = crawl_and_kill(60, &[(10, Victim::Browser), (30, Victim::Browser)]).await;
    assert!(report.figure("attempts") >= 60, "{report}");
}

/// R1, R3, R4, R5, R10, R14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_browser_service_leaves_no_orphan_and_loses_no_visit() {
    let report = crawl_and_kill(40, &[(15, BROWSER_SERVICE)]).await;
    assert!(
        report.figure("attempts") > 40,
        "no attempt was lost with its service: the kill came too late\n{report}"
    );
}

/// R1, R3, R4, R5, R6, R10, R12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_coordinator_goes_on_where_it_was() {
    crawl_and_kill(40, &[(15, COORDINATOR)]).await;
}

/// R1, R2, R3, R4, R5, R10, R15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_storage_loses_nothing_it_had_acknowledged() {
    crawl_and_kill(40, &[(15, STORAGE)]).await;
}

/// The crawl of the done list: 200 pages, and each kind of death in its middle. R1, R2, R3, R4, R5, R10, R12, R14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pages_outlive_every_kind_of_death() {
    let faults = [
        (30, Victim::Browser),
        (60, STORAGE),
        (90, BROWSER_SERVICE),
        (120, COORDINATOR),
        (150, Victim::Browser),
    ];
    crawl_and_kill(200, &faults).await;
}

fn embedded(world: &World, list: &str) -> Running {
    let data = world.data().display().to_string();
    world.sonde(["crawl", "--out", &data, "--list", list, "--browsers", "2", "--progress", "plain"])
}

/// A crawl with its services inside is interrupted, killed, and run again each time. R1, R2, R3, R4, R5, R12, R14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_crawl_outlives_an_interrupt_and_a_kill() {
    const PAGES: usize = 120;
    let (world, docs) = (World::new(), Docs::start(PAGES).await);
    let list = world.write("sites.txt", &docs.list());
    let list = list.to_str().unwrap();
    let visited = |count: usize| {
        let docs = &docs;
        async move { until(&format!("{count} pages"), CRAWL, || (docs.visited() >= count).then_some(())).await }
    };

    let mut interrupted = embedded(&world, list);
    visited(30).await;
    interrupted.signal_group(Signal::INT);
    assert_eq!(interrupted.code(CRAWL).await, 11, "{}", interrupted.stderr());

    let mut killed = embedded(&world, list);
    visited(70).await;
    let tree = world.processes();
    let main = tree.iter().find(|p| p.pid == killed.pid()).expect("it runs");
    main.signal(Signal::KILL);
    killed.end(ORPHANS).await;
    let orphans = || tree.iter().filter(|p| p.alive()).count();
    until("the killed crawl's browsers to be gone", ORPHANS, || (orphans() == 0).then_some(())).await;

    let mut last = embedded(&world, list);
    assert_eq!(last.code(CRAWL).await, 0, "{}\n{}", last.stdout(), last.stderr());
    let report = check(&world.data(), &Expectation::all_ok(PAGES as u64).with_log(docs.log())).unwrap();
    report.assert_clean();
    // At most the two visits that ran when it was killed were made again.
    assert!(report.figure("attempts") <= PAGES as u64 + 2, "finished visits were made again\n{report}");
    println!("{report}");
}
