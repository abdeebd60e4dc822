//! The hooks of crawls, against scripted browser-services: a crawl ends when they have.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod scripted;

use scripted::{World, add, assert_one_outcome_each, crawl, create, until, watch_to_end};
use sonde_proto::{
    coordinator::v1::{
        CancelCrawlRequest, CrawlEvent, CrawlHooksEnded, CrawlSpec, CrawlState, CreateCrawlRequest,
        crawl_event::Event,
    },
    visit::v1::CrawlHooks,
};
use tonic::Code;

fn hooked() -> CrawlSpec {
    let hooks = CrawlHooks { plugins: vec!["setup".into()], ..Default::default() };
    CrawlSpec { name: "hooked".into(), hooks: Some(hooks), ..Default::default() }
}

fn urls(n: usize, host: &str) -> Vec<String> {
    (0..n).map(|i| format!("https://{host}.site{i}.org/")).collect()
}

fn reports(events: &[CrawlEvent]) -> Vec<&CrawlHooksEnded> {
    let of = |event: &'_ CrawlEvent| matches!(event.event, Some(Event::CrawlHooksEnded(_)));
    let all = events.iter().filter(|event| of(event));
    all.filter_map(|e| if let Some(Event::CrawlHooksEnded(ended)) = &e.event { Some(ended) } else { None })
        .collect()
}

/// A42, A43, R1: every attempt is told of the hooks; the crawl waits for their end, over a crash of the coordinator, and
/// tells once what became of them, before its own end.
#[tokio::test(flavor = "multi_thread")]
async fn a_crawl_ends_after_its_hooks() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", hooked()).await;
    add(&mut c.client, &made.crawl_id, urls(3, "ok"), true).await;
    let asked = |n| {
        let browsers = world.browsers.clone();
        async move { until("the service is asked", async || browsers.ended_crawls().len() == n).await }
    };
    asked(1).await;
    let now = crawl(&mut c.client, &made.crawl_id).await;
    assert_eq!((now.state(), now.counts.unwrap().outcomes["ok"]), (CrawlState::Running, 3));
    assert!(now.waiting_for.contains("hooks"), "{}", now.waiting_for);
    c.crash().await;
    let mut c = world.start().await;
    asked(2).await;
    world.browsers.hooks_end.send_replace(true);
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 3).await;
    let events = watch_to_end(&mut c.client, &made.crawl_id, 0).await;
    let [ended] = reports(&events)[..] else { panic!("{events:#?}") };
    let [report] = &ended.reports[..] else { panic!("{ended:#?}") };
    assert_eq!((report.browser_service.as_str(), report.error.as_str()), ("inproc:browser", ""));
    assert_eq!((report.hooks[0].plugin.as_str(), report.hooks[0].status.as_str()), ("setup", "succeeded"));
    let last = &events[events.len() - 2..];
    assert!(matches!(last[0].event, Some(Event::CrawlHooksEnded(_))), "{last:#?}");
    assert!(world.browsers.ran().iter().all(|run| run.hooks == ["setup"]));
    c.coordinator.close().await;
}

/// A43: a cancelled crawl ends its hooks, too; one that no service served has none to end.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_of_a_cancelled_crawl_end() {
    let world = World::new(1).await;
    world.browsers.hooks_end.send_replace(true);
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", hooked()).await;
    add(&mut c.client, &made.crawl_id, urls(3, "hang"), true).await;
    until("one runs", async || world.browsers.running() == 1).await;
    let request = CancelCrawlRequest { crawl_id: made.crawl_id.clone() };
    c.client.cancel_crawl(request).await.unwrap();
    let events = watch_to_end(&mut c.client, &made.crawl_id, 0).await;
    assert_eq!(reports(&events).len(), 1);
    let empty = create(&mut c.client, "b", hooked()).await;
    add(&mut c.client, &empty.crawl_id, Vec::new(), true).await;
    let events = watch_to_end(&mut c.client, &empty.crawl_id, 0).await;
    assert_eq!(reports(&events).len(), 0);
    assert_eq!(world.browsers.ended_crawls(), [made.crawl_id]);
    c.coordinator.close().await;
}

/// R3, A43: a service that does not answer is asked again; one that never answers holds up no crawl for ever, and the
/// report says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_service_does_not_hold_up_the_end() {
    let world = World::new(1).await;
    world.browsers.hooks_end.send_replace(true);
    let mut c = world.start().await;
    world.browsers.deafen(3);
    let made = create(&mut c.client, "a", hooked()).await;
    add(&mut c.client, &made.crawl_id, urls(1, "ok"), true).await;
    let events = watch_to_end(&mut c.client, &made.crawl_id, 0).await;
    assert_eq!(reports(&events)[0].reports[0].error, "");
    assert_eq!(world.browsers.ended_crawls().len(), 4);
    world.browsers.deafen(usize::MAX);
    let made = create(&mut c.client, "b", hooked()).await;
    add(&mut c.client, &made.crawl_id, urls(1, "ok"), true).await;
    let events = watch_to_end(&mut c.client, &made.crawl_id, 0).await;
    let error = &reports(&events)[0].reports[0].error;
    assert!(error.contains("not answered for 3 s") && error.contains("scripted"), "{error}");
    c.coordinator.close().await;
}

/// M21, A42: wrong hooks are refused when the crawl is made, with the path of the field.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_hooks_are_refused() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let hooks = CrawlHooks { plugins: vec!["/bin/sh".into()], ..Default::default() };
    let spec = CrawlSpec { hooks: Some(hooks), ..Default::default() };
    let request = CreateCrawlRequest { request_id: "a".into(), spec: Some(spec) };
    let status = c.client.create_crawl(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("spec.hooks.plugins[0]"), "{status}");
    c.coordinator.close().await;
}
