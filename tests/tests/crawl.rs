//! `sonde crawl` with its services inside, as a user runs it.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::checker::{Expectation, LoggedRequest, check};
use sonde_tests::docs::Docs;
use sonde_tests::world::{Running, World, until};

const CRAWL: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);

/// `sonde crawl` into the world's data directory.
fn crawl(world: &World, arguments: &[&str]) -> Running {
    let data = world.data().display().to_string();
    let mut all = vec!["crawl", "--out", &data, "--progress", "plain"];
    all.extend(arguments);
    world.sonde(all)
}

async fn ends(world: &World, arguments: &[&str], code: i32) -> Running {
    let mut sonde = crawl(world, arguments);
    let ended = sonde.code(CRAWL).await;
    assert_eq!(ended, code, "{arguments:?}\n{}\n{}", sonde.stdout(), sonde.stderr());
    sonde
}

fn count(world: &World, sql: &str) -> i64 {
    let db = Connection::open(world.data().join("crawl.sqlite")).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

async fn fixture() -> Site {
    Site::start(SiteOptions::default()).await.unwrap()
}

fn urls(site: &Site, pages: &[&str]) -> Vec<String> {
    let url = |name: &&str| page(name).unwrap_or_else(|| panic!("no page {name}")).url(site, name, "");
    pages.iter().map(url).collect()
}

/// Every table that applies has rows, a second crawl is added to the first, and both are sound.
/// M01, M06, R1, R3, R4, R5, R7, R8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_all_kinds_fill_the_tables_and_a_second_crawl_is_appended() {
    let (world, site) = (World::new(), fixture().await);
    let first = urls(
        &site,
        &["redirects", "failures", "posts", "bodies", "cookies", "frames", "javascript", "websocket"],
    );
    let options = [
        "--load",
        "networkidle",
        "--save-content",
        "all",
        "--screenshot",
        "--page-source",
        "--browsers",
        "2",
    ];
    let arguments: Vec<&str> = first.iter().map(String::as_str).chain(options).collect();
    let sonde = ends(&world, &arguments, 0).await;
    assert!(
        sonde.stdout().contains("crawl.sqlite"),
        "it does not say where the data are: {}",
        sonde.stdout()
    );
    let report = check(&world.data(), &Expectation::all_ok(8)).unwrap();
    report.assert_clean();
    let tables = [
        "http_requests",
        "http_responses",
        "http_redirects",
        "http_failures",
        "callstacks",
        "websocket_frames",
        "javascript",
        "javascript_cookies",
        "navigations",
        "crawl_history",
        "artifacts",
    ];
    for table in tables {
        assert!(report.figure(&format!("rows.{table}")) > 0, "{table} has no rows\n{report}");
    }
    for ledger in ["task", "crawl", "provenance", "capabilities"] {
        assert!(count(&world, &format!("SELECT count(*) FROM {ledger}")) > 0, "{ledger} has no rows");
    }
    assert!(report.figure("blobs") > 0, "no bodies were saved\n{report}");

    let second = urls(&site, &["static-small", "posts"]);
    let arguments: Vec<&str> = second.iter().map(String::as_str).collect();
    ends(&world, &arguments, 0).await;
    check(&world.data(), &Expectation::all_ok(10)).unwrap().assert_clean();
    assert_eq!(count(&world, "SELECT count(DISTINCT crawl_id) FROM visit_outcomes"), 2);
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// M13, I3, I7: a crawl chooses how its calls are caught, and its provenance says so; and whether the engine is asked, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_chooses_its_capture_mode() {
    let (world, site) = (World::new(), fixture().await);
    let url = urls(&site, &["javascript"]).remove(0);
    let sonde = ends(&world, &[&url, "--js-capture", "exported"], 4).await;
    let told = sonde.stderr();
    assert!(told.contains("javascript_capture") && told.contains("exported is a mode of Firefox"), "{told}");
    let sonde = ends(&world, &[&url, "--feature-use-check", "--browser", "firefox"], 4).await;
    assert!(sonde.stderr().contains("feature_use_check"), "{}", sonde.stderr());
    for (n, mode) in [(1, "wrapped"), (2, "stealth")] {
        ends(
            &world,
            &[&url, "--feature-use-check", "--isolation", "process", "--js-capture", mode, "--name", mode],
            0,
        )
        .await;
        check(&world.data(), &Expectation::all_ok(n)).unwrap().assert_clean();
        let said = format!(
            "SELECT count(*) FROM provenance WHERE subject LIKE 'browser:%' \
             AND facts ->> '$.extension.javascript_capture' = '{mode}'"
        );
        assert_eq!(count(&world, &said), 1, "{mode}");
        let called =
            "SELECT count(DISTINCT visit_id) FROM javascript WHERE symbol = 'window.navigator.userAgent'";
        assert_eq!(count(&world, called), i64::try_from(n).unwrap(), "{mode}");
    }
    let unseen =
        "SELECT count(*) FROM truncations WHERE reason IN ('bypass_possible', 'feature_use_unchecked')";
    assert_eq!(count(&world, unseen), 0);
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// M46
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_lines_are_named_and_the_others_are_visited() {
    let (world, site) = (World::new(), fixture().await);
    let good = urls(&site, &["static-small"]).remove(0);
    let list = world.write("sites.txt", &format!("{good}\nftp://x.localhost/\nno such host\n# a comment\n"));
    let sonde = ends(&world, &["--list", list.to_str().unwrap()], 0).await;
    let told = sonde.stderr();
    assert!(told.contains("sites.txt:2") && told.contains("sites.txt:3"), "{told}");
    check(&world.data(), &Expectation::all_ok(1)).unwrap().assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_input_ends_with_4_and_says_what_and_where() {
    let world = World::new();
    let config = world.write("sonde.toml", "[storage]\n\n[browser]\nslots = \"many\"\n");
    let config = config.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["ftp://x.localhost/"], &["ftp://x.localhost/"]),
        (&["--list", "no-such-file.txt"], &["no-such-file.txt"]),
        (&["--config", config, "http://site-0.localhost/"], &["sonde.toml", "4", "slots"]),
        (&[], &["nothing to visit"]),
    ];
    for (arguments, words) in cases {
        let sonde = ends(&world, arguments, 4).await;
        for word in words {
            assert!(sonde.stderr().contains(word), "{arguments:?}: {word} is not in: {}", sonde.stderr());
        }
    }
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_cannot_be_reached_is_a_neterror_and_ends_with_9() {
    let (world, site) = (World::new(), fixture().await);
    let good = urls(&site, &["static-small"]).remove(0);
    ends(&world, &["http://does-not-exist.invalid/", &good, "--retries", "0"], 9).await;
    let report = check(&world.data(), &Expectation { visits: Some(2), ..Expectation::default() }).unwrap();
    report.assert_clean();
    assert_eq!((report.figure("outcome.neterror"), report.figure("outcome.ok")), (1, 1), "{report}");
}

/// The whole of it: 200 real pages on ten hosts, two browsers, every request of the site's log in the data and the
/// other way round. R1, R3, R4, R5, R7, M05, M07, I10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_real_pages_are_recorded_request_for_request() {
    let (world, docs) = (World::new(), Docs::start(200).await);
    let list = world.write("sites.txt", &docs.list());
    ends(&world, &["--list", list.to_str().unwrap(), "--browsers", "2"], 0).await;
    let report = check(&world.data(), &Expectation::all_ok(200).with_log(docs.log())).unwrap();
    report.assert_clean();
    assert_eq!(report.figure("attempts"), 200, "visits were made more than once\n{report}");
    assert!(report.figure("site.hits") >= 200, "{report}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
    println!("{report}");
}

/// Ctrl-C lets running visits end, running it again does the rest and nothing twice. R1, R12, R14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_crawl_is_resumed_without_a_second_visit() {
    const PAGES: usize = 60;
    let (world, docs) = (World::new(), Docs::start(PAGES).await);
    let list = world.write("sites.txt", &docs.list());
    let arguments = ["--list", list.to_str().unwrap(), "--browsers", "2"];
    let mut sonde = crawl(&world, &arguments);
    until("a third of the pages", CRAWL, || (docs.visited() >= PAGES / 3).then_some(())).await;
    sonde.signal_group(Signal::INT);
    assert_eq!(sonde.code(SOON).await, 11, "{}", sonde.stderr());
    world.assert_nothing_left(Duration::from_secs(5)).await;
    let interrupted =
        Expectation { unfinished: true, most_unattributed: Some(0), all_ok: true, ..Expectation::default() };
    let report = check(&world.data(), &interrupted).unwrap();
    report.assert_clean();
    let done = report.figure("outcomes");
    assert!((1..PAGES as u64).contains(&done), "{done} of {PAGES} visits were done when it was interrupted");
    assert_eq!(docs.visited() as u64, done, "a running visit did not end");

    ends(&world, &arguments, 0).await;
    let report = check(&world.data(), &Expectation::all_ok(PAGES as u64).with_log(docs.log())).unwrap();
    report.assert_clean();
    assert_eq!(report.figure("attempts"), PAGES as u64, "finished visits were made again\n{report}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// The fixture site's own log agrees with the rows, too: third parties, frames, redirects, posts. I10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn third_parties_and_frames_are_recorded_request_for_request() {
    let (world, site) = (World::new(), fixture().await);
    let all = urls(&site, &["static-small", "two-hundred-requests", "redirects", "posts", "frames"]);
    let arguments: Vec<&str> = all.iter().map(String::as_str).chain(["--load", "networkidle"]).collect();
    ends(&world, &arguments, 0).await;
    let log = site.log().iter().map(LoggedRequest::from).collect();
    check(&world.data(), &Expectation::all_ok(5).with_log(log)).unwrap().assert_clean();
}
