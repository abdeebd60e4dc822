//! The life of browsers in a slot: what ends them early, and what the next visit finds of the last. On both browsers.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rustix::process::Signal;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, Command, CommandStatus, FailureKind, GetCommand, Instruments,
    Isolation, Outcome, RetryAdvice,
};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot, all_instruments};
use sonde_tests::trap::{Answer, Trap};
use sonde_tests::world::{World, until};

const SOON: Duration = Duration::from_secs(60);
const KINDS: [BrowserKind; 2] = [BrowserKind::Chromium, BrowserKind::Firefox];

struct Rig {
    world: World,
    browsers: Browsers,
    slot: Slot,
}

impl Rig {
    async fn start(kind: BrowserKind, isolation: Isolation, settings: &[(&str, &str)]) -> Self {
        let world = World::new();
        let mut all = vec![("PRESTART", "off")];
        all.extend(settings);
        let browsers = Browsers::start_with(&world, 1, &all).await;
        let mut slot = browsers.slot(0).await;
        slot.browser =
            BrowserSpec { kind: kind.into(), isolation: isolation.into(), ..BrowserSpec::default() };
        Self { world, browsers, slot }
    }

    /// Pages one after the other in one visit, each with so many seconds.
    async fn visit(&mut self, urls: &[String], seconds: i64) -> AttemptResult {
        let command = |url: &String| Command {
            timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
            step: Some(Step::Get(GetCommand { url: url.clone(), ..GetCommand::default() })),
            ..Command::default()
        };
        let commands = urls.iter().map(command).collect();
        self.slot.begin_commands(&urls[0], Instruments::default(), commands).await;
        self.slot.ended().await
    }

    async fn event(&mut self, kind: &str, detail: &str) {
        while !self.slot.events.iter().any(|(k, d)| *k == kind && d.contains(detail)) {
            self.slot.told().await;
        }
    }

    /// SIGTERM; nothing is left.
    async fn stop(self) {
        let Self { world, browsers, slot } = self;
        drop(slot);
        browsers.stop(&world).await;
    }
}

fn plain(_: &str) -> Answer {
    Answer::html("<!doctype html><title>plain</title><p>nothing")
}

/// M34: memory above the soft limit never cuts a visit; the browser is replaced after it, and the event says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heavy_browser_is_replaced_after_its_visit() {
    for kind in KINDS {
        let site = Trap::start(plain).await;
        let settings = [("MEMORY_LIMIT", "10MiB"), ("MEMORY_HARD_LIMIT", "0B"), ("MEMORY_EVERY", "100ms")];
        let mut rig = Rig::start(kind, Isolation::Context, &settings).await;
        let urls: Vec<String> = (0..6).map(|n| site.url(&format!("/{n}"))).collect();
        let result = rig.visit(&urls, 30).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{kind:?}: {result:?}");
        let first = rig.slot.pid;
        rig.event("closed", "more than its limit").await;
        let result = rig.visit(&urls[..1], 30).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{kind:?}: {result:?}");
        assert_ne!(rig.slot.pid, first, "{kind:?}: another browser served it");
        rig.stop().await;
    }
}

/// M34: above the hard limit the visit is ended with the browser, by a failure of a kind of its own; the next is clean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_takes_too_much_memory_ends_with_its_browser() {
    const GREEDY: &str = "<!doctype html><title>greedy</title><script>
        const kept = [];
        setInterval(() => { if (kept.length < 160) kept.push(new Uint8Array(16 << 20).fill(1)); }, 10);
        </script><img src=/never>";
    let pages = |target: &str| match target {
        "/greedy" => Answer::html(GREEDY),
        "/never" => Answer::AfterReport("never"),
        _ => plain(target),
    };
    for kind in KINDS {
        let site = Trap::start(pages).await;
        let settings =
            [("MEMORY_LIMIT", "1500MiB"), ("MEMORY_HARD_LIMIT", "1500MiB"), ("MEMORY_EVERY", "200ms")];
        let mut rig = Rig::start(kind, Isolation::Context, &settings).await;
        let result = rig.visit(&[site.url("/greedy")], 60).await;
        let failure = result.failure.clone().unwrap_or_default();
        assert_eq!(failure.kind(), FailureKind::Resources, "{kind:?}: {result:?}");
        assert_eq!(
            (result.outcome(), failure.retry()),
            (Outcome::Error, RetryAdvice::FreshBrowser),
            "{kind:?}"
        );
        assert!(failure.message.contains("memory_hard_limit"), "{failure:?}");
        assert_eq!(result.seal.unwrap().reason, "memory_limit");
        let first = rig.slot.pid;
        rig.event("closed", "memory_hard_limit").await;
        let result = rig.visit(&[site.url("/plain")], 30).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{kind:?}: {result:?}");
        assert_ne!(rig.slot.pid, first, "{kind:?}: another browser served it");
        rig.stop().await;
    }
}

/// M33: failures of the network are none of the browser's, which stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_the_network_replace_no_browser() {
    for kind in KINDS {
        let mut rig = Rig::start(kind, Isolation::Context, &[]).await;
        // A port where nobody listens: it was free a moment ago.
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let urls = [format!("http://{closed}/"), "http://no-such-name.invalid/".to_owned()];
        for url in urls.iter().cycle().take(6).cloned() {
            let result = rig.visit(&[url], 30).await;
            assert_eq!(result.outcome(), Outcome::Neterror, "{kind:?}: {result:?}");
        }
        let kinds: Vec<&str> = rig.slot.events.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, ["started"], "{kind:?}");
        rig.stop().await;
    }
}

/// P12, R9: a visit that finds its browser dead has nothing lost yet: it gets the next one, and is whole.
#[tokio::test]
async fn a_visit_that_finds_its_browser_dead_takes_the_next() {
    for kind in KINDS {
        let page = Trap::start(|_| Answer::html("<!doctype html><p>x</p>")).await;
        let mut rig = Rig::start(kind, Isolation::Context, &[]).await;
        for (round, instruments) in [Instruments::default(), all_instruments()].into_iter().enumerate() {
            let get = || vec![Step::Get(GetCommand { url: page.url("/"), ..GetCommand::default() })];
            let first = rig.slot.visit(&page.url("/"), instruments.clone(), get()).await;
            assert_eq!(first.outcome(), Outcome::Ok, "{kind:?}: {first:?}");
            let pid = rig.slot.pid;
            Process::read(pid).unwrap().signal(Signal::KILL);
            let next = rig.slot.visit(&page.url("/"), instruments, get()).await;
            assert_eq!(next.outcome(), Outcome::Ok, "{kind:?} {round}: {next:?}");
            assert!(next.seal.as_ref().unwrap().complete, "{kind:?} {round}: {next:?}");
            assert_ne!(rig.slot.pid, pid, "{kind:?}");
            rig.event("crashed", "").await;
            rig.slot.events.clear();
        }
        rig.stop().await;
    }
}

/// P12, R14: after kill -9 the spare serves the next visit, and both it and its own successor go with the service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_browser_is_replaced_by_the_spare() {
    for kind in KINDS {
        let site = Trap::start(plain).await;
        let mut rig = Rig::start(kind, Isolation::Context, &[("SPARE", "true")]).await;
        let url = [site.url("/")];
        assert_eq!(rig.visit(&url, 30).await.outcome(), Outcome::Ok);
        let (world, first) = (&rig.world, rig.slot.pid);
        let both = || Some(world.browsers()).filter(|all| all.len() == 2);
        let both = until("the spare", SOON, both).await;
        let spare = both.iter().find(|browser| browser.pid != first).unwrap().pid;
        // Its process is there before it is ready; what the slot needs of it is that it is not the killed one.
        Process::read(first).unwrap().signal(Signal::KILL);
        rig.event("crashed", "").await;
        let result = rig.visit(&url, 30).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{kind:?}: {result:?}");
        assert_eq!(rig.slot.pid, spare, "{kind:?}: the spare served it");
        rig.stop().await;
    }
}

/// M34: page, context, process: a page in a loop is given up in time, and the slot's browser serves the next visit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_page_costs_its_visit_and_no_more() {
    let pages = |target: &str| match target {
        "/loop" => Answer::html("<!doctype html><script>for (;;) {}</script>"),
        _ => plain(target),
    };
    for kind in KINDS {
        let site = Trap::start(pages).await;
        let mut rig = Rig::start(kind, Isolation::Context, &[]).await;
        let result = rig.visit(&[site.url("/loop")], 3).await;
        assert_eq!(result.outcome(), Outcome::Timeout, "{kind:?}: {result:?}");
        assert_eq!(result.commands[0].status(), CommandStatus::Timeout);
        assert!(result.commands[0].duration_ms <= 5000, "{kind:?}: {result:?}");
        let result = rig.visit(&[site.url("/")], 30).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{kind:?}: {result:?}");
        for (kind, detail) in rig.slot.events.iter().filter(|(kind, _)| *kind == "closed") {
            assert!(!detail.is_empty(), "{kind} without a reason");
        }
        rig.stop().await;
    }
}

/// What one visit plants; `look` tells what of it is there, one letter for each.
const PLANT: &str = r#"<!doctype html><title>plant</title><script>
(async () => {
  const said = [];
  const step = async (name, work) => { try { await work(); } catch (e) { said.push(name + ":" + e.name); } };
  document.cookie = "plain=1; max-age=3600";
  document.cookie = "part=1; max-age=3600; Secure; SameSite=None; Partitioned";
  await step("storage", () => { localStorage.setItem("l", "1"); sessionStorage.setItem("s", "1"); });
  await step("idb", () => new Promise((done, fail) => {
    const open = indexedDB.open("planted", 1);
    open.onupgradeneeded = () => open.result.createObjectStore("o");
    open.onsuccess = () => { open.result.close(); done(); };
    open.onerror = () => fail(open.error);
  }));
  await step("cache", async () => (await caches.open("planted")).put("/kept", new Response("kept")));
  await step("http", () => fetch("/etag").then(r => r.text()));
  await step("worker", async () => { await navigator.serviceWorker.register("/sw.js"); await navigator.serviceWorker.ready; });
  window.name = "planted";
  await fetch("/report?planted=" + said.join(","));
})();
</script><img src="/held-planted">"#;

const LOOK: &str = r#"<!doctype html><title>look</title><script>
(async () => {
  const found = [];
  const step = async (name, work) => { try { if (await work()) found.push(name); } catch (e) { found.push("?" + name + e.name); } };
  await step("cookie", () => document.cookie.includes("plain="));
  await step("partitioned", () => document.cookie.includes("part="));
  await step("localStorage", () => localStorage.getItem("l") !== null);
  await step("sessionStorage", () => sessionStorage.getItem("s") !== null);
  await step("indexedDB", async () => (await indexedDB.databases()).some(d => d.name === "planted"));
  await step("caches", () => caches.has("planted"));
  await step("serviceWorker", async () => (await navigator.serviceWorker.getRegistrations()).length > 0);
  await step("controlled", async () => (await fetch("/by-worker").then(r => r.text())) === "worker");
  await step("name", () => window.name === "planted");
  await step("permission", async () => (await navigator.permissions.query({ name: "geolocation" })).state !== "prompt"
    && !navigator.webdriver);
  await fetch("/etag").then(r => r.text());
  await fetch("/report?found=" + found.join(","));
})();
</script><img src="/held-found">"#;

const WORKER: &str = "self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', e => e.waitUntil(self.clients.claim()));
self.addEventListener('fetch', e => { if (e.request.url.endsWith('/by-worker')) e.respondWith(new Response('worker')); });";

fn leaky(target: &str) -> Answer {
    let of = |kind: &str, more: &str, body: &str| Answer::Whole {
        status: "200 OK",
        headers: format!("Content-Type: {kind}\r\n{more}"),
        body: body.to_owned(),
    };
    match target {
        "/plant" => Answer::html(PLANT),
        "/look" => Answer::html(LOOK),
        "/sw.js" => of("text/javascript", "Cache-Control: no-store\r\n", WORKER),
        "/etag" => of("text/plain", "ETag: \"planted\"\r\nCache-Control: max-age=3600\r\n", "cached"),
        "/held-planted" => Answer::AfterReport("planted"),
        "/held-found" => Answer::AfterReport("found"),
        _ => of("text/plain", "", "server"),
    }
}

/// M31: what a visit leaves in its browser another stateless one does not find. The first visit looks itself, so that
/// it is known that there is something to be found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_visits_find_nothing_of_each_other() {
    for (kind, isolation) in
        KINDS.into_iter().flat_map(|k| [(k, Isolation::Context), (k, Isolation::Process)])
    {
        let site = Trap::start(leaky).await;
        let mut rig = Rig::start(kind, isolation, &[]).await;
        let what = format!("{kind:?}, {isolation:?}");
        let result = rig.visit(&[site.url("/plant"), site.url("/look")], 60).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{what}: {result:?}");
        assert_eq!(site.take_report("planted").as_deref(), Some(""), "{what}: all was planted");
        let found = site.take_report("found").unwrap();
        for wanted in [
            "cookie",
            "partitioned",
            "localStorage",
            "sessionStorage",
            "indexedDB",
            "caches",
            "serviceWorker",
            "controlled",
            "name",
        ] {
            assert!(
                found.split(',').any(|name| name == wanted),
                "{what}: {wanted} was planted in vain: {found}"
            );
        }
        assert_eq!(site.asked("/etag").len(), 1, "{what}: the second answer came from the cache");

        let result = rig.visit(&[site.url("/look")], 60).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{what}: {result:?}");
        assert_eq!(site.take_report("found").as_deref(), Some(""), "{what}: the next visit found this");
        let asked = site.asked("/etag");
        assert_eq!(asked.len(), 2, "{what}: the next visit asks anew");
        let head = asked[1].head.to_ascii_lowercase();
        assert!(!head.contains("if-none-match") && !head.contains("cookie:"), "{what}: {head}");
        rig.stop().await;
    }
}
