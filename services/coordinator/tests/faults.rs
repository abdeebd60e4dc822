//! Lost streams, restarted services, crashed coordinators.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod scripted;

use std::{collections::HashMap, time::Duration};

use scripted::{SOON, World, add, assert_one_outcome_each, crawl, create, soon, until};
use sonde_coordinator::{Config, Coordinator, StartError};
use sonde_proto::coordinator::v1::{CrawlSpec, GetVisitRequest, RetryPolicy};
use tokio_util::sync::CancellationToken;

fn urls(n: usize, host: &str) -> Vec<String> {
    (0..n).map(|i| format!("https://{host}.site{i}.org/")).collect()
}

fn quick() -> CrawlSpec {
    let ms = |n| Some(prost_types::Duration { seconds: 0, nanos: n * 1_000_000 });
    let retry = RetryPolicy { max_retries: Some(0), initial_backoff: ms(10), max_backoff: ms(50) };
    CrawlSpec { retry: Some(retry), ..Default::default() }
}

fn runs_by_visit(world: &World) -> HashMap<i64, usize> {
    let mut runs = HashMap::new();
    for ran in world.browsers.ran() {
        *runs.entry(ran.visit_no).or_default() += 1;
    }
    runs
}

/// A broken stream leaves the attempt alone: it is taken over, not run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_taken_up_again() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, urls(2, "hang"), true).await;
    until("both run", async || world.browsers.running() == 2).await;
    for n in 1..=3 {
        world.browsers.cut();
        until("attached again", async || world.browsers.attaches() >= 2 * n).await;
    }
    // Longer than the lease of 3 s: it is extended on the new streams.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(world.browsers.running(), 2);
    world.browsers.release.send_replace(true);
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 2).await;
    assert_eq!(world.browsers.ran().len(), 2, "nothing was run twice");
}

/// Another instance has no attempts: they are sealed as lost, and run again without counting as retries.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_service_loses_its_attempts_only() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, [urls(2, "hang"), urls(20, "ok")].concat(), true).await;
    // The first two visits hang; others may come in between while they wait to be run again.
    let begun = async |times: usize| {
        until("both run again", async || {
            let runs = runs_by_visit(&world);
            [1, 2].iter().all(|visit| runs.get(visit).is_some_and(|n| *n >= times))
        })
        .await;
    };
    for (times, instance) in [(1, "two"), (2, "three")] {
        begun(times).await;
        world.browsers.restart(instance);
        world.browsers.cut();
    }
    begun(3).await;
    world.browsers.release.send_replace(true);
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 22).await;
    {
        let kept = world.storage.kept.lock().unwrap();
        assert!(kept.seals.len() >= 4, "{} lost attempts were sealed", kept.seals.len());
        assert!(kept.seals.iter().all(|s| s.incomplete_reason == "lost" && s.fence > 0));
    }
    let request = GetVisitRequest { crawl_id: made.crawl_id.clone(), visit_no: 1 };
    let visit = c.client.get_visit(request).await.unwrap().into_inner().visit.unwrap();
    assert!(visit.attempts >= 3, "{}", visit.attempts);
    let counts = crawl(&mut c.client, &made.crawl_id).await.counts.unwrap();
    assert_eq!(counts.outcomes.get("ok"), Some(&22));
}

/// R12, R1: crashes at many points; no finished visit runs again, what ran is taken over, each ends once.
#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_coordinator_continues_where_it_was() {
    let world = World::new(4).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, urls(400, "slow"), true).await;
    for crash in 1..=6 {
        until("it goes on", async || world.storage.outcomes() >= crash * 40).await;
        let finished: Vec<i64> =
            world.storage.kept.lock().unwrap().outcomes.keys().map(|(_, visit_no)| *visit_no).collect();
        let before = runs_by_visit(&world);
        c.crash().await;
        c = world.start().await;
        until("it goes on", async || world.storage.outcomes() > finished.len() + 8).await;
        let after = runs_by_visit(&world);
        for visit_no in finished {
            assert_eq!(before[&visit_no], after[&visit_no], "finished visit {visit_no} ran again");
        }
    }
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 400).await;
    assert!(world.browsers.attaches() > 0);
    let again: usize = runs_by_visit(&world).values().map(|n| n - 1).sum();
    assert!(again <= 6 * 4, "{again} visits ran again: at most those leased at a crash may");
}

/// Running attempts outlive their coordinator and end under the next one.
#[tokio::test(flavor = "multi_thread")]
async fn running_attempts_are_taken_over_by_the_next_coordinator() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, urls(2, "hang"), true).await;
    until("both run", async || world.browsers.running() == 2).await;
    assert!(!c.coordinator.drain(Duration::from_millis(50)).await, "they still run");
    c.crash().await;
    let mut c = world.start().await;
    until("taken over", async || world.browsers.attaches() == 2).await;
    world.browsers.release.send_replace(true);
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 2).await;
    assert_eq!(world.browsers.ran().len(), 2);
    assert!(c.coordinator.drain(Duration::from_secs(5)).await, "nothing runs");
    c.coordinator.close().await;
}

/// A drained coordinator leaves no outcome behind that storage would have taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_until_storage_has_the_outcomes() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, urls(2, "hang"), true).await;
    until("both run", async || world.browsers.running() == 2).await;
    world.storage.confirm.send_replace(false);
    world.browsers.release.send_replace(true);
    until("both ended", async || world.browsers.running() == 0).await;
    let drained = c.coordinator.drain(Duration::from_millis(300)).await;
    assert!(!drained, "storage has not confirmed the outcomes");
    world.storage.confirm.send_replace(true);
    assert!(c.coordinator.drain(SOON).await, "storage confirms");
    assert_eq!(world.storage.outcomes(), 2);
    c.coordinator.close().await;
}

/// An outcome that storage has, but of whose confirmation the crashed coordinator did not hear, stays the one outcome.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_outcome_and_confirmation_keeps_the_outcome() {
    let world = World::new(4).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    until("rows are confirmed", async || !world.storage.kept.lock().unwrap().others.is_empty()).await;
    world.storage.confirm.send_replace(false);
    add(&mut c.client, &made.crawl_id, urls(50, "ok"), true).await;
    until("all ran", async || world.browsers.ran().len() == 50 && world.browsers.running() == 0).await;
    c.crash().await;
    world.storage.confirm.send_replace(true);
    let mut c = world.start().await;
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 50).await;
    assert!(runs_by_visit(&world).values().all(|n| *n <= 2));
}

/// The lease ends while the service cannot be reached: the attempt is sealed and the visit ends elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_comes_back_loses_the_lease() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, urls(1, "hang"), true).await;
    until("it runs", async || world.browsers.running() == 1).await;
    c.crash().await;
    // The same data directory, with no browser-service at its address.
    let dead = scripted::at("nobody");
    let storage = sonde_runtime::endpoint::connect(&scripted::at("storage"), &world.inproc).unwrap();
    let nobody = sonde_runtime::endpoint::connect(&dead, &world.inproc).unwrap();
    let browsers = vec![("inproc:browser".to_owned(), nobody)];
    let config = Config { lease: Duration::from_secs(1), ..world.config() };
    let coordinator = Coordinator::start(config, storage, browsers, CancellationToken::new()).await.unwrap();
    until("sealed", async || !world.storage.kept.lock().unwrap().seals.is_empty()).await;
    assert_eq!(world.storage.kept.lock().unwrap().seals[0].incomplete_reason, "lease_expired");
    soon("closing", coordinator.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_coordinator_at_a_time_and_no_newer_store() {
    let world = World::new(1).await;
    let c = world.start().await;
    let channel = || sonde_runtime::endpoint::connect(&scripted::at("storage"), &world.inproc).unwrap();
    let start = || Coordinator::start(world.config(), channel(), Vec::new(), CancellationToken::new());
    assert!(matches!(start().await, Err(StartError::InUse { .. })));
    c.coordinator.close().await;
    let conn = rusqlite::Connection::open(world.dir.path().join("coordinator.sqlite")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let error = start().await.err().unwrap().to_string();
    assert!(error.contains("schema version 99"), "{error}");
}
