//! Processes of a browser that stop answering without ending: each costs its visit, and no more of the browser than must
//! be. The ladder of M34, rung by rung, on both browsers.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, Command, GetCommand, Instruments, Isolation, Outcome,
};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot};
use sonde_tests::trap::{Answer, Trap};
use sonde_tests::world::{World, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(60);
/// Of the command that is under way.
const SECONDS: i64 = 6;
/// What it may take beyond that, and its visit after it until all processes and rows of it are settled.
const OVER: Duration = Duration::from_secs(2);
const DISPOSAL: Duration = Duration::from_secs(25);

struct Rig {
    world: World,
    trap: Trap,
    browsers: Browsers,
    slot: Slot,
}

fn answer(target: &str) -> Answer {
    match target {
        "/image" => Answer::AfterReport("go"),
        "/held" => Answer::html("<!doctype html><title>held</title><img src=/image>"),
        _ => Answer::html("<!doctype html><title>plain</title><p>nothing"),
    }
}

impl Rig {
    async fn start(kind: BrowserKind) -> Self {
        let (world, trap) = (World::new(), Trap::start(answer).await);
        let browsers = Browsers::start_with(&world, 1, &[("PRESTART", "off")]).await;
        let mut slot = browsers.slot(0).await;
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
        Self { world, trap, browsers, slot }
    }

    async fn begin(&mut self, path: &str, seconds: i64) {
        let url = self.trap.url(path);
        let command = Command {
            timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
            step: Some(Step::Get(GetCommand { url: url.clone(), ..GetCommand::default() })),
            ..Command::default()
        };
        self.slot.begin_commands(&url, Instruments::default(), vec![command]).await;
    }

    /// The main process of the browser, after a visit that nothing is wrong with.
    async fn well(&mut self, when: &str) -> u32 {
        self.begin("/plain", 30).await;
        let result = self.slot.ended().await;
        assert_eq!(result.outcome(), Outcome::Ok, "{when}: {result:#?}");
        self.slot.pid
    }

    /// Begins a visit of the page that is not done, has `strike` hit once its image is asked for, and waits for the end.
    async fn struck(&mut self, strike: impl AsyncFnOnce(&World)) -> AttemptResult {
        let before = self.trap.asked("/image").len();
        self.begin("/held", SECONDS).await;
        let began = Instant::now();
        until("the image", SOON, || (self.trap.asked("/image").len() > before).then_some(())).await;
        strike(&self.world).await;
        let result = self.slot.ended().await;
        let command = Duration::from_millis(result.commands[0].duration_ms.unsigned_abs());
        let limit = Duration::from_secs(SECONDS.unsigned_abs()) + OVER;
        println!("the command took {command:?}, its visit {:?}: {:?}", began.elapsed(), result.outcome());
        assert!(command <= limit, "the command took {command:?}");
        assert!(began.elapsed() <= limit + DISPOSAL, "the visit took {:?}", began.elapsed());
        result
    }

    fn matching(world: &World, which: impl Fn(&Process) -> bool) -> Vec<Process> {
        let found: Vec<_> = world.processes().into_iter().filter(which).collect();
        assert!(!found.is_empty(), "nothing to strike at");
        found
    }
}

fn renders(process: &Process) -> bool {
    process.command.contains("--type=renderer")
        || (process.command.contains("-contentproc") && process.command.ends_with(" tab"))
}

/// M34, R9: what shows pages stops. The browser ends it and stays.
async fn frozen_pages(kind: BrowserKind, isolation: Isolation) {
    let mut rig = Rig::start(kind).await;
    rig.slot.browser.isolation = isolation.into();
    let before = rig.well("before").await;
    let result = rig
        .struck(async |world| {
            for process in Rig::matching(world, renders) {
                process.signal(Signal::STOP);
            }
        })
        .await;
    assert_eq!(result.outcome(), Outcome::Timeout, "{result:#?}");
    let after = rig.well("after").await;
    println!("{kind:?}: {:?}", rig.slot.events);
    if kind == BrowserKind::Chromium {
        assert_eq!(before, after, "the context was enough: {:?}", rig.slot.events);
    }
    let Rig { world, browsers, slot, .. } = rig;
    drop(slot);
    browsers.stop(&world).await;
}

/// M34, R9, R14: a process that the whole browser needs stops. It is replaced, and nothing of it is left.
async fn frozen_browser(kind: BrowserKind, which: impl Fn(&Process) -> bool) {
    let mut rig = Rig::start(kind).await;
    let before = rig.well("before").await;
    let old = Process::read(before).unwrap();
    let result = rig
        .struck(async |world| {
            for process in Rig::matching(world, &which) {
                process.signal(Signal::STOP);
            }
        })
        .await;
    assert!(matches!(result.outcome(), Outcome::Timeout | Outcome::Crashed), "{result:#?}");
    let after = rig.well("after").await;
    println!("{kind:?}: {:?}", rig.slot.events);
    assert_ne!(before, after, "{:?}", rig.slot.events);
    until("the old browser to be gone", Duration::from_secs(15), || (!old.alive()).then_some(())).await;
    let Rig { world, browsers, slot, .. } = rig;
    drop(slot);
    browsers.stop(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_pages_cost_chromium_their_context() {
    frozen_pages(BrowserKind::Chromium, Isolation::Context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_pages_cost_firefox_no_more_than_itself() {
    frozen_pages(BrowserKind::Firefox, Isolation::Context).await;
}

/// M32: the same where the profile is kept: the next visit has it on a browser that answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_pages_of_a_kept_profile_cost_firefox_no_more_than_itself() {
    frozen_pages(BrowserKind::Firefox, Isolation::Profile).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_chromium_is_replaced() {
    frozen_browser(BrowserKind::Chromium, Process::is_browser).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_firefox_is_replaced() {
    frozen_browser(BrowserKind::Firefox, Process::is_browser).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_geckodriver_is_replaced_with_its_firefox() {
    frozen_browser(BrowserKind::Firefox, |process| process.name() == "geckodriver").await;
}

/// R9: the process that draws ends; the browser starts another, and the page goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_gpu_process_costs_chromium_nothing() {
    let mut rig = Rig::start(BrowserKind::Chromium).await;
    let before = rig.well("before").await;
    let go = rig.trap.url("/report?go=now");
    let result = rig
        .struck(async move |world| {
            let gpu = |process: &Process| process.command.contains("--type=gpu-process");
            let killed = Rig::matching(world, gpu);
            for process in &killed {
                process.signal(Signal::KILL);
            }
            let another = || {
                let now = world.processes();
                now.into_iter().any(|p| gpu(&p) && !killed.contains(&p)).then_some(())
            };
            until("another process that draws", SOON, another).await;
            let authority = go.trim_start_matches("http://").split('/').next().unwrap();
            let mut stream = TcpStream::connect(authority).await.unwrap();
            stream.write_all(b"GET /report?go=now HTTP/1.1\r\n\r\n").await.unwrap();
        })
        .await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    assert_eq!(before, rig.well("after").await, "{:?}", rig.slot.events);
    let Rig { world, browsers, slot, .. } = rig;
    drop(slot);
    browsers.stop(&world).await;
}
