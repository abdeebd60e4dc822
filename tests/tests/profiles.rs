//! Profiles that are kept from visit to visit, over crashes, and in archives. On both browsers.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, EvaluateCommand, GetCommand, Instruments, Isolation, Outcome,
};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot, all_instruments};
use sonde_tests::trap::{Answer, Trap};
use sonde_tests::world::{World, until};

const SOON: Duration = Duration::from_secs(60);
const KINDS: [BrowserKind; 2] = [BrowserKind::Chromium, BrowserKind::Firefox];

/// Leaves state of every kind under a name.
fn leave(name: &str) -> String {
    format!(
        "(async () => {{
          document.cookie = 'lasting_{name}=1; max-age=86400; path=/';
          document.cookie = 'session_{name}=1; path=/';
          localStorage.setItem('{name}', '1');
          const cache = await caches.open('{name}');
          await cache.put('/kept', new Response('1'));
          return true;
        }})()"
    )
}

/// What there is of it.
const FOUND: &str = "(async () => ({
  cookies: document.cookie.split('; ').filter(Boolean).sort(),
  storage: Object.keys(localStorage).sort(),
  caches: (await caches.keys()).sort(),
}))()";

fn evaluate(expression: &str) -> Step {
    Step::Evaluate(EvaluateCommand { expression: expression.to_owned(), ..EvaluateCommand::default() })
}

async fn visit(slot: &mut Slot, url: &str, expressions: &[&str], instruments: Instruments) -> AttemptResult {
    let get = Step::Get(GetCommand { url: url.to_owned(), ..GetCommand::default() });
    let steps = std::iter::once(get).chain(expressions.iter().map(|e| evaluate(e))).collect();
    slot.visit(url, instruments, steps).await
}

fn value(result: &AttemptResult, index: usize) -> Value {
    assert_eq!(result.outcome(), Outcome::Ok, "{result:?}");
    serde_json::from_str(&result.commands[index].value_json).unwrap()
}

fn found(names: &[&str]) -> Value {
    let of = |prefix: &str| names.iter().map(|name| format!("{prefix}_{name}=1")).collect::<Vec<_>>();
    let mut cookies = [of("lasting"), of("session")].concat();
    cookies.sort();
    json!({"cookies": cookies, "storage": names, "caches": names})
}

/// The site, by a name under which pages have a secure context and cookies.
async fn site() -> (Trap, String) {
    let site = Trap::start(|_| Answer::html("<!doctype html><title>plain</title><p>nothing")).await;
    let url = site.url("/").replace("127.0.0.1", "kept.localhost");
    (site, url)
}

async fn stop(world: World, browsers: Browsers, slot: Slot) {
    drop(slot);
    browsers.stop(&world).await;
}

fn profiles(world: &World) -> String {
    world.path().join("profiles").display().to_string()
}

/// M31, M32, T86: a stateful crawl finds what its visits left: in the same browser, after `kill -9` of it, and after a
/// restart of the whole service; another isolation finds nothing of it.
async fn state_is_kept(kind: BrowserKind) {
    let (world, (_site, url)) = (World::new(), site().await);
    let dir = profiles(&world);
    let settings = [("PRESTART", "off"), ("PROFILES_DIR", dir.as_str())];
    let browsers = Browsers::start_with(&world, 1, &settings).await;
    let mut slot = browsers.slot(0).await;
    let spec = |isolation: Isolation| BrowserSpec {
        kind: kind.into(),
        isolation: isolation.into(),
        ..BrowserSpec::default()
    };
    slot.browser = spec(Isolation::Profile);
    let first = visit(&mut slot, &url, &[FOUND, &leave("a")], all_instruments()).await;
    assert_eq!(value(&first, 1), found(&[]), "{kind:?}: a new profile is empty");
    let pid = slot.pid;
    let second = visit(&mut slot, &url, &[FOUND, &leave("b")], all_instruments()).await;
    assert_eq!(value(&second, 1), found(&["a"]), "{kind:?}");
    assert_eq!(slot.pid, pid, "{kind:?}: the same browser served both");
    assert!(second.seal.as_ref().unwrap().complete, "{kind:?}: {second:?}");

    // What browsers write late was written by nobody yet.
    let browser = Process::read(pid).unwrap();
    browser.signal(Signal::KILL);
    until("the browser to be gone", SOON, || Process::read(pid).is_none().then_some(())).await;
    let third = visit(&mut slot, &url, &[FOUND, &leave("c")], Instruments::default()).await;
    let seen = value(&third, 1);
    assert_ne!(slot.pid, pid, "{kind:?}");
    assert_eq!(seen["cookies"], found(&["a", "b"])["cookies"], "{kind:?}: cookies survive a crash");

    // In a context of its own a visit finds nothing, and leaves nothing.
    slot.browser = spec(Isolation::Context);
    let apart = visit(&mut slot, &url, &[FOUND, &leave("x")], Instruments::default()).await;
    assert_eq!(value(&apart, 1), found(&[]), "{kind:?}");
    drop(slot);
    let Browsers { storage, service, .. } = browsers;
    // Storage, too, has to be gone: its data directory is the next one's.
    for mut service in [service, storage] {
        service.signal_group(Signal::TERM);
        assert_eq!(service.code(SOON).await, 0, "{}", service.stderr());
    }

    let browsers = Browsers::start_with(&world, 1, &settings).await;
    let mut slot = browsers.slot(0).await;
    slot.browser = spec(Isolation::Profile);
    slot.after(10);
    let fourth = visit(&mut slot, &url, &[FOUND], Instruments::default()).await;
    let seen = value(&fourth, 1);
    assert_eq!(seen["cookies"], found(&["a", "b", "c"])["cookies"], "{kind:?}: over a restart");
    assert!(seen["storage"].as_array().unwrap().contains(&json!("c")), "{kind:?}: {seen}");
    stop(world, browsers, slot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_keeps_its_state_over_crashes_and_restarts() {
    state_is_kept(BrowserKind::Chromium).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firefox_keeps_its_state_over_crashes_and_restarts() {
    state_is_kept(BrowserKind::Firefox).await;
}

async fn sonde(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let mut run = world.sonde(arguments);
    let code = run.code(SOON).await;
    (code, run.stdout(), run.stderr())
}

/// The one crawl whose profile is kept there.
fn crawl_of(data: &Path) -> String {
    let mut crawls = std::fs::read_dir(data.join("profiles")).unwrap();
    crawls.next().unwrap().unwrap().file_name().into_string().unwrap()
}

/// M20, M32: a profile goes to an archive and comes back in another crawl; visits with a process each start from it anew;
/// what is no archive of a profile is refused before anything runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_dumped_and_seeds_another_crawl() {
    for kind in KINDS {
        let (world, (_site, url)) = (World::new(), site().await);
        let browser = if kind == BrowserKind::Firefox { "firefox" } else { "chromium" };
        let commands = |name: &str, expressions: &[&str]| {
            let steps: Vec<Value> = std::iter::once(json!({"get": {}}))
                .chain(expressions.iter().map(|e| json!({"evaluate": {"expression": e}})))
                .collect();
            world.write(name, &json!({"commands": steps}).to_string()).display().to_string()
        };
        let visit = async |out: &str, file: &str, more: &[&str]| {
            let all = ["visit", &url, "--commands", file, "--json", "--browser", browser, "--out", out];
            sonde(&world, &[&all[..], more].concat()).await
        };
        let left = commands("leave.json", &[&leave("a")]);
        let (code, out, err) = visit("first", &left, &["--isolation", "profile"]).await;
        assert_eq!(code, 0, "{out}{err}");
        let first = world.path().join("first");
        let crawl = crawl_of(&first);
        let archive = world.path().join("p.tar.gz").display().to_string();
        let data = first.display().to_string();
        let (code, _, err) =
            sonde(&world, &["profile", "dump", &crawl, "--to", &archive, "--data", &data]).await;
        assert_eq!(code, 0, "{err}");
        let (_, listed, _) = sonde(&world, &["profile", "list", "--data", &data]).await;
        assert!(listed.contains(&crawl) && listed.contains("at rest"), "{listed}");

        let look = commands("look.json", &[FOUND, &leave("b")]);
        for isolation in ["profile", "process"] {
            let seeded = ["--isolation", isolation, "--seed-profile", &archive];
            let (code, out, err) = visit(&format!("of-{isolation}"), &look, &seeded).await;
            assert_eq!(code, 0, "{kind:?}: {out}{err}");
            let seen = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let texts: Vec<String> = seen.map(|event| event.to_string()).collect();
            let expected = found(&["a"])["cookies"].as_array().unwrap().clone();
            for cookie in expected {
                let name = cookie.as_str().unwrap().to_owned();
                assert!(texts.iter().any(|text| text.contains(&name)), "{kind:?} {isolation}: {name}: {out}");
            }
        }
        let bad = world.write("bad.tar.gz", "no archive").display().to_string();
        let (code, _, err) = visit("bad", &look, &["--isolation", "profile", "--seed-profile", &bad]).await;
        assert_ne!(code, 0);
        assert!(err.contains("bad.tar.gz") && err.contains("no tar archive"), "{err}");
        let other = if browser == "firefox" { "chromium" } else { "firefox" };
        let (code, _, err) =
            sonde(&world, &["profile", "seed", &archive, "--browser", other, "--data", "s"]).await;
        assert_ne!(code, 0);
        assert!(err.contains("no profile of"), "{err}");
        let (code, _, err) = visit("bad", &look, &["--seed-profile", &archive]).await;
        assert_ne!(code, 0, "{err}");
        assert!(err.contains("browser.seed_profile"), "{err}");
        world.assert_nothing_left(Duration::from_secs(5)).await;
    }
}
