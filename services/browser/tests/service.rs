//! Sessions, slots and attempts over gRPC, with a scripted engine and a storage in memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sonde_browser::{Browsers, Config, Prestart};
use sonde_proto::BREAKER_FINGERPRINT;
use sonde_proto::browser::v1::browser_service_client::BrowserServiceClient;
use sonde_proto::browser::v1::{
    Attach, AttemptContext, BrowserEventKind, Cancel, GetInfoRequest, Open, Run, SessionRequest,
    SessionResponse, session_request::Message as Ask, session_response::Message as Told,
};
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, CommandSequence, FailureKind, Isolation, Outcome, RetryAdvice,
};
use support::{MemoryStorage, SOON, Script, ScriptedEngine, until};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use tonic::{Code, Streaming};

struct Rig {
    browsers: Browsers,
    storage: MemoryStorage,
    script: Arc<Script>,
    channel: Channel,
}

impl Rig {
    async fn start() -> Self {
        Self::with(Script::default(), Config::default()).await
    }

    async fn with(script: Script, config: Config) -> Self {
        let storage = MemoryStorage::start().await;
        let script = Arc::new(script);
        let config = Config { prestart: Prestart::Plain, ..config };
        let engine = Arc::new(ScriptedEngine(script.clone()));
        let browsers = Browsers::with_engine(&config, engine, storage.channel(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_routes(browsers.routes());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(address).unwrap().connect_lazy();
        Self { browsers, storage, script, channel }
    }

    async fn session(&self) -> Session {
        let (asks, requests) = mpsc::channel(16);
        let mut client = BrowserServiceClient::new(self.channel.clone());
        let answers = client.session(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let mut session = Session { asks, answers, seen: Vec::new() };
        session.ask(Ask::Open(Open { slot: 0, browser_id: 9 })).await;
        let opened = session.told(|m| matches!(m, Told::Opened(_))).await;
        let Told::Opened(opened) = opened else { unreachable!() };
        assert_eq!(opened.instance_id, self.browsers.instance_id());
        session
    }

    fn sealed(&self, visit_id: i64) -> sonde_proto::storage::v1::SealAttemptRequest {
        self.storage.kept().seals.get(&visit_id).cloned().expect("sealed")
    }
}

struct Session {
    asks: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
    seen: Vec<Told>,
}

fn run(visit_id: i64, site: &str) -> Run {
    Run {
        attempt: Some(AttemptContext {
            visit_id,
            fence: visit_id,
            crawl_id: "01900000-0000-7000-8000-000000000000".into(),
            visit_no: visit_id,
            attempt: 1,
            browser_id: 9,
            site_rank: None,
        }),
        sequence: Some(CommandSequence { url: format!("http://{site}.test/"), commands: Vec::new() }),
        lease: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Run::default()
    }
}

impl Session {
    async fn ask(&self, message: Ask) {
        self.asks.send(SessionRequest { message: Some(message) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<Told>, tonic::Status> {
        let answer = timeout(SOON, self.answers.message()).await.expect("the slot says something in time")?;
        Ok(answer.and_then(|a| a.message))
    }

    async fn told(&mut self, wanted: impl Fn(&Told) -> bool) -> Told {
        loop {
            let message = self.next().await.unwrap().expect("the session is open");
            self.seen.push(message.clone());
            if wanted(&message) {
                return message;
            }
        }
    }

    async fn ended(&mut self) -> AttemptResult {
        let Told::AttemptEnded(ended) = self.told(|m| matches!(m, Told::AttemptEnded(_))).await else {
            unreachable!()
        };
        ended.result.unwrap()
    }

    async fn running(&mut self) {
        self.told(|m| matches!(m, Told::PhaseChanged(p) if p.phase.as_ref().unwrap().name == "get")).await;
    }

    async fn event(&mut self, kind: BrowserEventKind) {
        self.told(|m| matches!(m, Told::BrowserEvent(e) if e.kind() == kind)).await;
    }
}

/// R1, R4
#[tokio::test]
async fn a_visit_ends_once_with_its_streams_declared() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "ok"))).await;
    let result = session.ended().await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:?}");
    assert!(result.seal.unwrap().complete);
    let phases: Vec<String> = session
        .seen
        .iter()
        .filter_map(|m| match m {
            Told::PhaseChanged(p) => Some(p.phase.as_ref().unwrap().name.clone()),
            _ => None,
        })
        .collect();
    let mut names = phases.clone();
    names.dedup();
    assert_eq!(names, ["prepare", "get", "flush", "seal"]);
    let seal = rig.sealed(1);
    let ends: Vec<(u32, i64)> = seal.streams.iter().map(|s| (s.stream, s.last_ordinal)).collect();
    assert_eq!(ends, [(0, 0), (1, -1)], "one row of crawl_history");
    assert!(seal.instruments_ready_at_us < seal.navigation_start_at_us);
    // The browser is kept for the next.
    session.ask(Ask::Run(run(2, "ok"))).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok);
    assert_eq!(rig.script.launches.load(Ordering::SeqCst), 1);
    assert!(rig.browsers.close().await, "closes in time");
    assert_eq!(rig.script.closed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn names_that_do_not_resolve_keep_the_browser_and_are_not_tried_again() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "nowhere"))).await;
    let result = session.ended().await;
    let failure = result.failure.unwrap();
    assert_eq!(Outcome::try_from(result.outcome), Ok(Outcome::Neterror));
    assert_eq!((failure.retry(), failure.kind()), (RetryAdvice::Never, FailureKind::Network));
    assert_eq!(result.commands[0].error, "NAME_NOT_RESOLVED");
    session.ask(Ask::Run(run(2, "ok"))).await;
    session.ended().await;
    assert_eq!(rig.script.launches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_attempt_outlives_its_session_until_its_lease_ends() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    let lease = Some(prost_types::Duration { seconds: 0, nanos: 600_000_000 });
    session.ask(Ask::Run(Run { lease, ..run(1, "hang") })).await;
    session.running().await;
    // Not a half-close: the whole connection goes, as when the caller is killed.
    drop(session);
    let info = BrowserServiceClient::new(rig.channel.clone()).get_info(GetInfoRequest {}).await.unwrap();
    assert_eq!(info.into_inner().running[0].visit_id, 1);
    until("the seal", &rig.storage.changes(), || rig.storage.kept().seals.contains_key(&1)).await;
    let seal = rig.sealed(1);
    assert_eq!(seal.incomplete_reason, "lease_expired");
    assert_eq!(seal.outcome(), Outcome::Error);
}

#[tokio::test]
async fn a_second_session_takes_over_and_the_first_is_aborted() {
    let rig = Rig::start().await;
    let mut first = rig.session().await;
    first.ask(Ask::Run(run(5, "hang"))).await;
    first.running().await;
    let mut second = rig.session().await;
    let Told::Opened(opened) = &second.seen[0] else { panic!("{:?}", second.seen) };
    assert_eq!(opened.running.as_ref().unwrap().visit_id, 5);
    let aborted = loop {
        match first.next().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(aborted.unwrap_err().code(), Code::Aborted);
    second.ask(Ask::Attach(Attach { visit_id: 5, fence: 5, lease: None })).await;
    let attached = second.told(|m| matches!(m, Told::Attached(_))).await;
    let Told::Attached(attached) = attached else { unreachable!() };
    assert_eq!(attached.phase.unwrap().name, "get");
    second.ask(Ask::Cancel(Cancel { visit_id: 5, reason: "enough".into() })).await;
    let result = second.ended().await;
    assert_eq!(result.outcome(), Outcome::Cancelled);
    assert!(result.seal.unwrap().complete, "what was recorded is sealed");
    assert_eq!(result.commands.len(), 1);
    // The result stays for whoever comes next.
    let mut third = rig.session().await;
    third.ask(Ask::Attach(Attach { visit_id: 5, fence: 5, lease: None })).await;
    assert_eq!(third.ended().await.outcome(), Outcome::Cancelled);
}

#[tokio::test]
async fn a_crash_ends_the_attempt_and_another_browser_comes() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "crash"))).await;
    let result = session.ended().await;
    assert_eq!(result.outcome(), Outcome::Crashed, "{result:?}");
    assert_eq!(result.failure.unwrap().retry(), RetryAdvice::FreshBrowser);
    assert_eq!(rig.sealed(1).incomplete_reason, "crashed");
    session.ask(Ask::Run(run(2, "ok"))).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok);
    assert_eq!(rig.script.launches.load(Ordering::SeqCst), 2);
    let crashed = |m: &Told| matches!(m, Told::BrowserEvent(e) if e.kind() == BrowserEventKind::Crashed);
    assert!(session.seen.iter().any(crashed));
}

/// R6
#[tokio::test]
async fn a_second_run_and_a_stale_fence_are_rejected() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "hang"))).await;
    session.running().await;
    session.ask(Ask::Run(run(2, "ok"))).await;
    let rejected = |m: &Told| matches!(m, Told::Rejected(r) if r.visit_id == 2);
    session.told(rejected).await;
    session.ask(Ask::Cancel(Cancel { visit_id: 1, reason: String::new() })).await;
    session.ended().await;
    session.ask(Ask::Run(run(1, "ok"))).await;
    let Told::Rejected(stale) = session.told(|m| matches!(m, Told::Rejected(r) if r.visit_id == 1)).await
    else {
        unreachable!()
    };
    assert!(stale.failure.unwrap().message.contains("fence"));
    assert_eq!(rig.storage.kept().seals.len(), 1);
}

#[tokio::test]
async fn wrong_requests_name_their_fields() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    let mut wrong = run(1, "ok");
    wrong.attempt.as_mut().unwrap().fence = 0;
    wrong.sequence.as_mut().unwrap().url = "ftp://x".into();
    session.ask(Ask::Run(wrong)).await;
    let Told::Rejected(rejected) = session.told(|m| matches!(m, Told::Rejected(_))).await else {
        unreachable!()
    };
    let message = rejected.failure.unwrap().message;
    assert!(message.contains("attempt.fence") && message.contains("sequence.url"), "{message}");
}

/// M33
#[tokio::test]
async fn launch_failures_are_told_and_tried_again() {
    let script = Script::default();
    script.failures.store(2, Ordering::SeqCst);
    let rig = Rig::with(script, Config::default()).await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "ok"))).await;
    session.event(BrowserEventKind::LaunchFailed).await;
    session.event(BrowserEventKind::LaunchFailed).await;
    session.event(BrowserEventKind::Started).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok);
}

/// M33: attempts are given back at once, with a failure that says so; the slot says for how long.
#[tokio::test]
async fn a_crash_loop_of_launches_opens_the_breaker_and_gives_leases_back() {
    let script = Script::default();
    script.failures.store(1000, Ordering::SeqCst);
    let rig = Rig::with(script, Config::default()).await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "ok"))).await;
    let opened = |m: &Told| matches!(m, Told::BrowserEvent(e) if e.kind() == BrowserEventKind::BreakerOpened);
    let Told::BrowserEvent(event) = session.told(opened).await else { unreachable!() };
    assert_eq!(rig.script.launches.load(Ordering::SeqCst), 5, "the fifth failure opens it");
    assert_eq!(event.browser(), BrowserKind::Chromium);
    let rest = event.retry_after.unwrap();
    assert!((14..=30).contains(&rest.seconds), "{rest:?}");
    let refused = |result: AttemptResult| {
        let failure = result.failure.unwrap();
        assert_eq!(
            (failure.kind(), failure.retry()),
            (FailureKind::Browser, RetryAdvice::Same),
            "{failure:?}"
        );
        assert_eq!(failure.fingerprint, BREAKER_FINGERPRINT);
        assert!(failure.message.contains("out of luck"), "{failure:?}");
        assert!(failure.retry_after.is_some());
    };
    refused(session.ended().await);
    // The next does not wait for a browser either, and no launch is tried for it.
    let began = tokio::time::Instant::now();
    session.ask(Ask::Run(run(2, "ok"))).await;
    refused(session.ended().await);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(rig.script.launches.load(Ordering::SeqCst), 5);
}

/// P12: the next visit gets it without a launch.
#[tokio::test]
async fn a_spare_takes_over_when_the_browser_dies() {
    let rig = Rig::with(Script::default(), Config { spare: true, ..Config::default() }).await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "ok"))).await;
    session.ended().await;
    until("the spare", &rig.script.changes(), || rig.script.launches.load(Ordering::SeqCst) == 2).await;
    session.ask(Ask::Run(run(2, "crash"))).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Crashed);
    let taken =
        |m: &Told| matches!(m, Told::BrowserEvent(e) if e.pid == 2 && e.detail.contains("held ready"));
    if !session.seen.iter().any(taken) {
        session.told(taken).await;
    }
    session.ask(Ask::Run(run(3, "ok"))).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok);
    until("the next spare", &rig.script.changes(), || rig.script.launches.load(Ordering::SeqCst) == 3).await;
    assert!(rig.browsers.close().await);
    assert_eq!(rig.script.closed.load(Ordering::SeqCst), 3, "each is closed once, the spare too");
}

/// P12: with a process for each visit the next one starts while the present visit runs.
#[tokio::test]
async fn the_next_process_starts_while_the_visit_runs() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    let alone = Some(BrowserSpec { isolation: Isolation::Process.into(), ..BrowserSpec::default() });
    session.ask(Ask::Run(Run { browser: alone.clone(), ..run(1, "hang") })).await;
    session.running().await;
    until("the next one", &rig.script.changes(), || rig.script.launches.load(Ordering::SeqCst) == 2).await;
    session.ask(Ask::Cancel(Cancel { visit_id: 1, reason: String::new() })).await;
    session.ended().await;
    let second =
        |m: &Told| matches!(m, Told::BrowserEvent(e) if e.kind() == BrowserEventKind::Started && e.pid == 2);
    session.told(second).await;
    session.ask(Ask::Run(Run { browser: alone, ..run(2, "ok") })).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok);
    until("the first to be closed", &rig.script.changes(), || rig.script.closed.load(Ordering::SeqCst) > 0)
        .await;
}

/// M34
#[tokio::test]
async fn an_old_browser_is_replaced_between_visits() {
    let config = Config { max_age: Duration::from_millis(1), ..Config::default() };
    let rig = Rig::with(Script::default(), config).await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "ok"))).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok, "the visit is not cut");
    let why = |m: &Told| matches!(m, Told::BrowserEvent(e) if e.kind() == BrowserEventKind::Closed && e.detail.contains("max_age"));
    session.told(why).await;
    session.ask(Ask::Run(run(2, "ok"))).await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok);
}

/// R2, R3, R15
#[tokio::test]
async fn records_survive_a_storage_that_goes_and_comes() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "many"))).await;
    until("the first batches", &rig.storage.changes(), || rig.storage.count(1, 1) > 500).await;
    rig.storage.go_away();
    rig.storage.come_back().await;
    let result = session.ended().await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:?}");
    assert_eq!(rig.storage.count(1, 1), 10_000, "none is lost");
    assert_eq!(rig.sealed(1).streams[1].last_ordinal, 9_999);
}

/// R9, R15
#[tokio::test]
async fn a_storage_that_does_not_ack_holds_its_producers_back() {
    let rig = Rig::with(Script::default(), Config { buffer: 100 << 10, ..Config::default() }).await;
    rig.storage.kept().mute = true;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "many"))).await;
    until("the bound", &rig.storage.changes(), || rig.storage.count(1, 1) >= 700).await;
    // 100 KiB of records of some 110 bytes, and no more however long one waits.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let recorded = rig.script.recorded.load(Ordering::SeqCst);
    assert!((700..1100).contains(&recorded), "{recorded}");
    rig.storage.kept().mute = false;
    // What was taken without an ack is sent again on a new stream.
    rig.storage.go_away();
    rig.storage.come_back().await;
    assert_eq!(session.ended().await.outcome(), Outcome::Ok);
    assert_eq!(rig.storage.count(1, 1), 10_000);
}

#[tokio::test]
async fn a_refused_batch_ends_the_attempt_as_a_fault_of_storage() {
    let rig = Rig::start().await;
    rig.storage.kept().refuse = Some(1);
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "many"))).await;
    let result = session.ended().await;
    assert_eq!(result.outcome(), Outcome::Error);
    assert_eq!(result.failure.unwrap().kind(), FailureKind::Storage);
}

/// R14
#[tokio::test]
async fn a_drain_lets_the_attempt_end_and_takes_no_other() {
    let rig = Rig::start().await;
    let mut session = rig.session().await;
    session.ask(Ask::Run(run(1, "hang"))).await;
    session.running().await;
    let drained = tokio::time::Instant::now() + Duration::from_millis(300);
    rig.browsers.drain(drained).await;
    let result = session.ended().await;
    assert_eq!(result.outcome(), Outcome::Cancelled, "at the deadline");
    assert!(rig.browsers.close().await);
    assert_eq!(rig.script.closed.load(Ordering::SeqCst), 1);
    assert!(session.next().await.unwrap().is_none_or(|m| matches!(m, Told::BrowserEvent(_))));
}
