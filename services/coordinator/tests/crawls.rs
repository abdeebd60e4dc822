//! Crawls from their making to their end, against scripted neighbours.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod scripted;

use std::{collections::HashSet, time::Duration};

use scripted::{
    ScriptedBrowsers, World, add, assert_one_outcome_each, crawl, create, soon, until, watch_to_end,
};
use sonde_proto::{
    coordinator::v1::{
        AddVisitsRequest, CancelCrawlRequest, CrawlSpec, CrawlState, CreateCrawlRequest, GetVisitRequest,
        ListBrowsersRequest, ListCrawlsRequest, ListVisitsRequest, PauseCrawlRequest, Politeness,
        ResumeCrawlRequest, RetryPolicy, SlotState, VisitSpec, VisitState, WatchCrawlRequest,
        fleet_service_client::FleetServiceClient,
    },
    storage::v1::ledger_row::Row,
    visit::v1::Outcome,
};
use tonic::Code;
use tonic_types::StatusExt;

fn urls(n: usize, host: &str) -> Vec<String> {
    (0..n).map(|i| format!("https://{host}.site{i}.org/")).collect()
}

fn quick() -> CrawlSpec {
    let ms = |n| Some(prost_types::Duration { seconds: 0, nanos: n * 1_000_000 });
    let retry = RetryPolicy { max_retries: Some(2), initial_backoff: ms(10), max_backoff: ms(50) };
    CrawlSpec { name: "test".into(), retry: Some(retry), ..Default::default() }
}

/// R1, M42
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_visits_end_once_each() {
    let world = World::new(4).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    let answer = add(&mut c.client, &made.crawl_id, urls(200, "ok"), true).await;
    assert_eq!((answer.added, answer.existing, answer.error_count), (200, 0, 0));
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 200).await;
    let fences: Vec<i64> = world.browsers.ran().iter().map(|r| r.fence).collect();
    assert_eq!(fences.iter().collect::<HashSet<_>>().len(), 200, "fences are unique");
    c.coordinator.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_follow_advice_and_crashes_are_quarantined() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    let hosts = ["flaky-2.a.org", "flaky-3.b.org", "dead.c.org", "crash.d.org", "ok.e.org"];
    let list = hosts.iter().map(|h| format!("https://{h}/")).collect();
    add(&mut c.client, &made.crawl_id, list, true).await;
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 5).await;
    let mut outcomes = Vec::new();
    for visit_no in 1..=5 {
        let request = GetVisitRequest { crawl_id: made.crawl_id.clone(), visit_no };
        let answer = c.client.get_visit(request).await.unwrap().into_inner();
        let visit = answer.visit.unwrap();
        assert_eq!(answer.attempts.len(), visit.attempts as usize);
        assert!(answer.attempts.windows(2).all(|w| w[0].fence < w[1].fence));
        outcomes.push((visit.outcome(), visit.attempts));
    }
    let crashed = outcomes.remove(3);
    assert_eq!(outcomes, [(Outcome::Ok, 3), (Outcome::Timeout, 3), (Outcome::Neterror, 1), (Outcome::Ok, 1)]);
    assert_eq!(crashed.0, Outcome::Poisoned);
    // Alone, with both slots free, the second try goes to the other browser, which settles it.
    let alone = create(&mut c.client, "b", quick()).await;
    add(&mut c.client, &alone.crawl_id, vec!["https://crash.d.org/".into()], true).await;
    watch_to_end(&mut c.client, &alone.crawl_id, 0).await;
    let ran = world.browsers.ran();
    let tries: Vec<u32> = ran.iter().filter(|r| r.crawl_id == alone.crawl_id).map(|r| r.browser_id).collect();
    assert_eq!(tries.len(), 2);
    assert_ne!(tries[0], tries[1]);
}

/// M41: our own faults in a row pause the crawl and say so; resumed, it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn own_faults_in_a_row_pause_the_crawl() {
    let world = World::new(2).await;
    let mut c = world.start_with(sonde_coordinator::Config { failure_limit: 4, ..world.config() }).await;
    let mut spec = quick();
    spec.retry.as_mut().unwrap().max_retries = Some(0);
    let made = create(&mut c.client, "a", spec).await;
    add(&mut c.client, &made.crawl_id, urls(20, "crash"), true).await;
    let mut client = c.client.clone();
    until("paused", async || crawl(&mut client, &made.crawl_id).await.state() == CrawlState::Paused).await;
    let waiting = crawl(&mut c.client, &made.crawl_id).await.waiting_for;
    assert!(waiting.contains("4 attempts in a row") && waiting.contains("ResumeCrawl"), "{waiting}");
    loop {
        let now = crawl(&mut c.client, &made.crawl_id).await;
        match now.state() {
            CrawlState::Ended => break,
            CrawlState::Paused => {
                let request = ResumeCrawlRequest { crawl_id: made.crawl_id.clone() };
                if let Err(status) = c.client.resume_crawl(request).await {
                    assert_eq!(status.code(), Code::FailedPrecondition);
                }
            }
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 20).await;
}

/// M33, M41: a slot that cannot start browsers is leased to nobody until it tries again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_breaker_is_open_rests() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let mut spec = quick();
    spec.retry.as_mut().unwrap().max_retries = Some(1);
    let made = create(&mut c.client, "a", spec).await;
    let list = ["broken.a.org", "ok.b.org", "ok.c.org"].iter().map(|h| format!("https://{h}/")).collect();
    add(&mut c.client, &made.crawl_id, list, true).await;
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 3).await;
    let ran = world.browsers.ran();
    let broken = ran.iter().find(|r| r.url.contains("broken")).unwrap();
    let told = broken.ended.unwrap();
    let later: Vec<_> = ran.iter().filter(|r| r.began > broken.began).collect();
    assert!(later.iter().any(|r| r.url.contains("broken") && r.attempt == 2), "{ran:?}");
    for run in later {
        assert!(
            run.began - told >= ScriptedBrowsers::REST.mul_f64(0.9),
            "{run:?} began {:?} after",
            run.began - told
        );
    }
    let ended = crawl(&mut c.client, &made.crawl_id).await;
    assert_eq!(ended.counts.unwrap().outcomes["ok"], 3);
}

/// M46
#[tokio::test(flavor = "multi_thread")]
async fn wrong_lines_are_reported_and_repeated_ones_left_alone() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    let line = |line_no, url: &str| VisitSpec { line_no, url: url.into(), ..Default::default() };
    let message = AddVisitsRequest {
        crawl_id: made.crawl_id.clone(),
        visits: vec![
            line(1, "ok.example.org"),
            line(2, "ftp://x.org"),
            line(3, "https://a:99999/"),
            line(4, "https://ok.b.org"),
        ],
        seal: false,
    };
    for existing in [0, 2] {
        let answer = c.client.add_visits(tokio_stream::iter([message.clone()])).await.unwrap().into_inner();
        assert_eq!((answer.added, answer.existing, answer.error_count), (2 - existing, existing, 2));
        assert_eq!(answer.errors.iter().map(|e| e.line_no).collect::<Vec<_>>(), [2, 3]);
    }
    let seal = AddVisitsRequest { crawl_id: made.crawl_id.clone(), seal: true, ..Default::default() };
    c.client.add_visits(tokio_stream::iter([seal])).await.unwrap();
    watch_to_end(&mut c.client, &made.crawl_id, 0).await;
    // The same again is fine; something new is not.
    c.client.add_visits(tokio_stream::iter([message])).await.unwrap();
    let new = AddVisitsRequest {
        crawl_id: made.crawl_id.clone(),
        visits: vec![line(9, "https://ok.c.org")],
        seal: false,
    };
    let status = c.client.add_visits(tokio_stream::iter([new])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let bare = world.browsers.ran().iter().any(|r| r.url == "ok.example.org");
    assert!(bare, "a bare host name is passed on as it was submitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_is_idempotent_and_wrong_fields_are_named() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let mut spec = quick();
    spec.labels = (0..20).map(|i| (format!("k{i}"), "v".to_owned())).collect();
    let first = create(&mut c.client, "same", spec.clone()).await;
    let second = create(&mut c.client, "same", spec.clone()).await;
    assert_eq!(first.crawl_id, second.crawl_id);
    spec.priority = 7;
    let other = CreateCrawlRequest { request_id: "same".into(), spec: Some(spec.clone()) };
    assert_eq!(c.client.create_crawl(other).await.unwrap_err().code(), Code::AlreadyExists);
    spec.priority = 700;
    let wrong = CreateCrawlRequest { request_id: String::new(), spec: Some(spec) };
    let status = c.client.create_crawl(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_details_bad_request().unwrap();
    let fields: Vec<_> = details.field_violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["request_id", "spec.priority"]);
    let spec = first.spec.unwrap();
    assert_eq!(spec.browser.unwrap().window_width, 1366, "defaults are filled in");
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_holds_back_and_cancel_ends() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    let id = || made.crawl_id.clone();
    c.client.pause_crawl(PauseCrawlRequest { crawl_id: id() }).await.unwrap();
    add(&mut c.client, &made.crawl_id, [urls(2, "hang"), urls(4998, "ok")].concat(), true).await;
    let paused = crawl(&mut c.client, &made.crawl_id).await;
    assert_eq!((paused.state(), paused.counts.unwrap().running), (CrawlState::Paused, 0));
    for _ in 0..2 {
        c.client.resume_crawl(ResumeCrawlRequest { crawl_id: id() }).await.unwrap();
    }
    until("both hang", async || world.browsers.running() == 2).await;
    // Storage stalls: the outcomes wait for it, in bounds.
    world.storage.confirm.send_replace(false);
    for _ in 0..2 {
        c.client.cancel_crawl(CancelCrawlRequest { crawl_id: id() }).await.unwrap();
    }
    until("both stopped", async || world.browsers.running() == 0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stalled = crawl(&mut c.client, &made.crawl_id).await;
    assert_eq!((stalled.state(), stalled.counts.unwrap().outcomes.len()), (CrawlState::Cancelling, 0));
    world.storage.confirm.send_replace(true);
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 5000).await;
    let counts = crawl(&mut c.client, &made.crawl_id).await.counts.unwrap();
    assert_eq!(counts.outcomes.get("cancelled"), Some(&5000));
    assert_eq!(world.browsers.ran().len(), 2);
    let status = c.client.pause_crawl(PauseCrawlRequest { crawl_id: id() }).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

/// R16, M42: watchers that come late, leave and come back, or are slow miss nothing and see nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn watching_resumes_without_gap_or_repetition() {
    let world = World::new(4).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    let crawl_id = made.crawl_id.clone();
    let mut client = c.client.clone();
    let broken = tokio::spawn(async move {
        let (mut after_sequence, mut seen) = (0, Vec::new());
        loop {
            let request = WatchCrawlRequest { crawl_id: crawl_id.clone(), after_sequence, phases: true };
            let mut stream = client.watch_crawl(request).await.unwrap().into_inner();
            for _ in 0..40 {
                let Some(response) = stream.message().await.unwrap() else { return seen };
                let event = response.event.unwrap();
                if event.sequence > 0 {
                    after_sequence = event.sequence;
                    seen.push(event);
                }
            }
        }
    });
    add(&mut c.client, &made.crawl_id, urls(300, "ok"), true).await;
    let seen = soon("the watcher", broken).await.unwrap();
    assert_eq!(seen, watch_to_end(&mut c.client, &made.crawl_id, 0).await);
    assert!(watch_to_end(&mut c.client, &made.crawl_id, seen.len() as i64).await.is_empty(), "it is over");
    let middle = seen.len() as i64 / 2;
    assert_eq!(seen[middle as usize..], watch_to_end(&mut c.client, &made.crawl_id, middle).await);
}

/// M42: an outcome is visible only once storage has confirmed it.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_show_only_after_storage_confirmed() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    let crawl_rows = || world.storage.kept.lock().unwrap().others.len();
    until("the crawl's own rows are confirmed", async || crawl_rows() >= 2).await;
    world.storage.confirm.send_replace(false);
    add(&mut c.client, &made.crawl_id, urls(1, "ok"), true).await;
    until("it ran", async || world.browsers.ran().len() == 1 && world.browsers.running() == 0).await;
    let request = GetVisitRequest { crawl_id: made.crawl_id.clone(), visit_no: 1 };
    for _ in 0..20 {
        let visit = c.client.get_visit(request.clone()).await.unwrap().into_inner().visit.unwrap();
        assert_eq!((visit.state(), visit.outcome()), (VisitState::Running, Outcome::Unspecified));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.storage.confirm.send_replace(true);
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 1).await;
}

/// R15: storage away means waiting, with a reason, and going on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn storage_away_is_a_wait_and_no_loss() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, urls(150, "slow"), true).await;
    until("some ended", async || world.storage.outcomes() > 20).await;
    world.storage.up.send_replace(false);
    let mut client = c.client.clone();
    until("it says so", async || {
        crawl(&mut client, &made.crawl_id).await.waiting_for.contains("disk is full")
    })
    .await;
    until("nothing runs", async || world.browsers.running() == 0).await;
    let ran = world.browsers.ran().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.browsers.ran().len(), ran, "nothing was leased");
    world.storage.up.send_replace(true);
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 150).await;
    assert_eq!(world.browsers.ran().len(), 150, "and nothing was run twice");
}

/// M47
#[tokio::test(flavor = "multi_thread")]
async fn politeness_holds_while_other_sites_go_on() {
    let world = World::new(4).await;
    let mut c = world.start().await;
    let mut spec = quick();
    let min_delay = Some(prost_types::Duration { seconds: 0, nanos: 30_000_000 });
    spec.politeness = Some(Politeness { max_per_site: 1, min_delay });
    let made = create(&mut c.client, "a", spec).await;
    let same = (0..400).map(|i| format!("https://ok.www{i}.example.org/")).take(10);
    add(&mut c.client, &made.crawl_id, same.chain(urls(10, "ok")).collect(), true).await;
    watch_to_end(&mut c.client, &made.crawl_id, 0).await;
    let ran = world.browsers.ran();
    let mut site: Vec<_> = ran.iter().filter(|r| r.visit_no <= 10).collect();
    site.sort_by_key(|r| r.began);
    for pair in site.windows(2) {
        let pause = pair[1].began.checked_duration_since(pair[0].ended.unwrap());
        assert!(pause.is_some_and(|p| p >= Duration::from_millis(30)), "{pause:?}");
    }
    let others = ran.iter().filter(|r| r.visit_no > 10 && r.began < site[9].began).count();
    assert_eq!(others, 10, "the other sites did not wait for this one");
    assert_one_outcome_each(&world, &mut c.client, &made.crawl_id, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    for i in 0..5 {
        create(&mut c.client, &format!("r{i}"), quick()).await;
    }
    let (mut token, mut found) = (String::new(), Vec::new());
    loop {
        let request = ListCrawlsRequest { page_size: 2, page_token: token };
        let page = c.client.list_crawls(request).await.unwrap().into_inner();
        found.extend(page.crawls.into_iter().map(|c| c.crawl_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found.len(), 5);
    assert!(found.windows(2).all(|w| w[0] > w[1]), "newest first");
    let crawl_id = found[0].clone();
    let list = [urls(30, "ok"), urls(5, "dead")].concat();
    add(&mut c.client, &crawl_id, list, true).await;
    watch_to_end(&mut c.client, &crawl_id, 0).await;
    let mut request = ListVisitsRequest {
        crawl_id,
        outcomes: vec![Outcome::Neterror.into()],
        page_size: 3,
        ..Default::default()
    };
    let first = c.client.list_visits(request.clone()).await.unwrap().into_inner();
    request.page_token = first.next_page_token;
    let second = c.client.list_visits(request).await.unwrap().into_inner();
    let numbers: Vec<i64> = first.visits.iter().chain(&second.visits).map(|v| v.visit_no).collect();
    assert_eq!(numbers, [31, 32, 33, 34, 35]);
    assert_eq!(second.next_page_token, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn provenance_and_slots_are_recorded() {
    let world = World::new(2).await;
    let mut c = world.start().await;
    let made = create(&mut c.client, "a", quick()).await;
    add(&mut c.client, &made.crawl_id, urls(20, "ok"), true).await;
    watch_to_end(&mut c.client, &made.crawl_id, 0).await;
    let slots = FleetServiceClient::new(c.channel.clone())
        .list_browsers(ListBrowsersRequest {})
        .await
        .unwrap()
        .into_inner()
        .slots;
    assert_eq!(slots.len(), 2);
    assert!(slots.iter().all(|s| s.state() == SlotState::Free && s.browser_id > 0));
    let used: HashSet<u32> = world.browsers.ran().iter().map(|r| r.browser_id).collect();
    let kept = world.storage.kept.lock().unwrap();
    let rows = || kept.others.iter().filter_map(|row| row.row.as_ref());
    let tasks: Vec<_> = rows().filter_map(|r| if let Row::Task(t) = r { Some(t) } else { None }).collect();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].browser_version, "Scripted/1.0");
    assert_eq!(rows().filter(|r| matches!(r, Row::Crawl(_))).count(), 2);
    let mut subjects: Vec<String> = rows()
        .filter_map(|r| if let Row::Provenance(p) = r { Some(p.subject.clone()) } else { None })
        .collect();
    subjects.sort();
    assert_eq!(subjects.len(), 1 + used.len());
    assert_eq!(subjects.last().map(String::as_str), Some("crawl"));
    let facts = rows().find_map(|r| match r {
        Row::Provenance(p) if p.subject == "crawl" => Some(p.facts.clone()),
        _ => None,
    });
    let facts: serde_json::Value = serde_json::from_str(&facts.unwrap()).unwrap();
    for key in ["spec", "coordinator_version", "host", "clocks", "config"] {
        assert!(!facts[key].is_null(), "{key}");
    }
    assert_eq!(rows().filter(|r| matches!(r, Row::Capability(_))).count(), used.len());
}
