//! Whatever is killed, nothing of it is left five seconds later, not even a zombie, and every record tells why its process
//! ended. Rounds of random kills: `SONDE_ROUNDS=200 SONDE_SEED=7` for more of them, and for the same ones again.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sonde_runtime::process::{EndReason, ProcessKind, ProcessRecord, ProcessStatus, read_journal};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot};
use sonde_tests::world::{Running, World, until};
use tokio::time::Instant;

/// Until browsers and hooks are there.
const SOON: Duration = Duration::from_secs(60);
/// R14: from a kill until nothing is left.
const GONE: Duration = Duration::from_secs(5);
/// Unless SONDE_ROUNDS says so.
const ROUNDS: u32 = 12;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Service(&'static str),
    Browser(&'static str),
    Driver,
    Hook(&'static str),
}

const VICTIMS: [Victim; 7] = [
    Victim::Service("chromium"),
    Victim::Service("firefox"),
    Victim::Browser("chromium"),
    Victim::Browser("firefox"),
    Victim::Driver,
    Victim::Hook("listen"),
    Victim::Hook("record"),
];

/// A browser-service with one browser of a kind; its records outlive it.
struct Rig {
    world: World,
    browsers: Browsers,
    slot: Slot,
}

impl Rig {
    async fn start(kind: &str, state: &Path) -> Self {
        let world = World::new();
        let state = state.display().to_string();
        let settings = [("PRESTART", "plain"), ("PRESTART_KIND", kind), ("STATE_DIR", state.as_str())];
        let browsers = Browsers::start_with(&world, 1, &settings).await;
        let mut slot = browsers.slot(0).await;
        while slot.pid == 0 {
            slot.told().await;
        }
        Self { world, browsers, slot }
    }

    async fn stop(self, killed: bool) {
        let Self { world, browsers, slot } = self;
        drop(slot);
        let Browsers { storage, mut service, .. } = browsers;
        if killed {
            service.end(GONE).await;
        } else {
            service.signal_group(Signal::TERM);
            assert_eq!(service.code(SOON).await, 0, "{}", service.stderr());
        }
        drop(storage);
        world.assert_no_process_left(GONE).await;
    }
}

/// Two hooks, one in the background and one with a child in a session of its own, as an encoder may be.
struct Hooks {
    world: World,
    run: Running,
}

const LISTEN: &str = "#!/bin/sh\necho ready\nexec sleep 1000\n";
const RECORD: &str = "#!/bin/sh\nsetsid sh -c 'exec -a encoder sleep 1000' &\nsleep 1000\n";

impl Hooks {
    async fn start(state: &Path) -> Self {
        let world = World::new();
        let plugin = world.path().join("plugins/long");
        std::fs::create_dir_all(&plugin).unwrap();
        std::fs::write(plugin.join("on_Snapshot__10_listen.bg.sh"), LISTEN).unwrap();
        std::fs::write(plugin.join("on_Snapshot__20_record.sh"), RECORD.replace("sh -c", "bash -c")).unwrap();
        let (dir, out) = (world.path().join("plugins").display().to_string(), state.display().to_string());
        let run = world.sonde(["hooks", "run", "http://a.test/", "--dir", &dir, "--out", &out]);
        let pid = run.pid();
        let all = || {
            let sleeping = |p: &&Process| p.name() == "sleep" || p.name() == "encoder";
            (below(pid).iter().filter(sleeping).count() >= 3).then_some(())
        };
        until("the hooks and the encoder", SOON, all).await;
        Self { world, run }
    }

    async fn stop(mut self) {
        let all = below(self.run.pid());
        self.run.signal_group(Signal::INT);
        self.run.end(SOON).await;
        assert_gone(&all, "the run of hooks").await;
        self.world.assert_no_process_left(GONE).await;
    }
}

/// What descends from a process. Hooks have an environment of their own, by which their world does not know them.
fn below(pid: u32) -> Vec<Process> {
    let all = Process::all();
    let mut inside = vec![pid];
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|p| inside.contains(&p.parent) && !inside.contains(&p.pid))
            .map(|p| p.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        inside.extend(more);
    }
    all.into_iter().filter(|p| p.pid != pid && inside.contains(&p.pid)).collect()
}

/// SplitMix64: a seed is all of its state.
struct Dice(u64);

impl Dice {
    fn next(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

/// Every record that owners under a state directory have; `sonde hooks` keeps its own below its results.
fn records(state: &Path) -> BTreeMap<String, ProcessRecord> {
    let mut all = BTreeMap::new();
    let below = state.join("processes");
    for owner in std::fs::read_dir(if below.is_dir() { &below } else { state }).unwrap() {
        let owner = owner.unwrap().path();
        if owner.is_dir() {
            all.extend(read_journal(&owner).unwrap().records);
        }
    }
    all
}

/// The record of a running process.
fn record_of(state: &Path, pid: u32) -> ProcessRecord {
    let found =
        records(state).into_values().rfind(|r| r.pid == Some(pid) && r.status == ProcessStatus::Running);
    found.unwrap_or_else(|| panic!("no record has the pid {pid}"))
}

/// State, start time and mark of a process, a zombie included.
fn stat(pid: u32) -> Option<(String, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some((text, started))
}

/// Waits until none of these is there, not as a zombie either; says what is left.
async fn assert_gone(doomed: &[Process], what: &str) {
    let end = Instant::now() + GONE;
    loop {
        let left: Vec<String> = doomed
            .iter()
            .filter_map(|p| {
                let (text, _) = stat(p.pid).filter(|(_, started)| *started == p.started)?;
                let environ = std::fs::read(format!("/proc/{}/environ", p.pid)).unwrap_or_default();
                let mark = environ.split(|b| *b == 0).find(|e| e.starts_with(b"SONDE_MARK"));
                let mark = String::from_utf8_lossy(mark.unwrap_or_default()).into_owned();
                Some(format!("{} [{mark}] {}", text.trim(), p.command.chars().take(100).collect::<String>()))
            })
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{what}: {GONE:?} after the kill these are left:\n{}", left.join("\n"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Rounds {
    states: [tempfile::TempDir; 3],
    chromium: Option<Rig>,
    firefox: Option<Rig>,
    hooks: Option<Hooks>,
    killed: BTreeMap<String, &'static str>,
}

impl Rounds {
    fn rig(&mut self, kind: &str) -> (&mut Option<Rig>, &Path) {
        match kind {
            "chromium" => (&mut self.chromium, self.states[0].path()),
            _ => (&mut self.firefox, self.states[1].path()),
        }
    }

    /// Everything that is not there is started.
    async fn fill(&mut self) {
        for kind in ["chromium", "firefox"] {
            let (rig, state) = self.rig(kind);
            if rig.is_none() {
                *rig = Some(Rig::start(kind, state).await);
            }
        }
        if self.hooks.is_none() {
            self.hooks = Some(Hooks::start(self.states[2].path()).await);
        }
    }

    async fn play(&mut self, victim: Victim) {
        self.fill().await;
        let what = format!("{victim:?}");
        match victim {
            Victim::Hook(name) => {
                let hooks = self.hooks.take().unwrap();
                let state = self.states[2].path();
                let record = records(state).into_values().rfind(|r| {
                    r.kind == ProcessKind::Hook
                        && r.status == ProcessStatus::Running
                        && r.label.contains(name)
                });
                let record = record.unwrap_or_else(|| panic!("no hook is named {name}"));
                let hook = Process::read(record.pid.unwrap()).unwrap();
                let mut doomed = below(hook.pid);
                doomed.push(hook.clone());
                assert!(doomed.len() >= if name == "record" { 3 } else { 1 }, "{doomed:#?}");
                hook.signal(Signal::KILL);
                assert_gone(&doomed, &what).await;
                self.killed.insert(record.id, "hook");
                hooks.stop().await;
            }
            Victim::Service(kind) => {
                let (rig, _) = self.rig(kind);
                let rig = rig.take().unwrap();
                let service = Process::read(rig.browsers.service.pid()).unwrap();
                let storage = rig.browsers.storage.pid();
                let doomed: Vec<Process> = rig
                    .world
                    .processes()
                    .into_iter()
                    .filter(|p| p.pid != storage && p.pid != service.pid)
                    .collect();
                assert!(doomed.len() >= 3, "{doomed:#?}");
                service.signal(Signal::KILL);
                assert_gone(&doomed, &what).await;
                rig.stop(true).await;
            }
            Victim::Browser(_) | Victim::Driver => {
                let kind = if victim == Victim::Browser("chromium") { "chromium" } else { "firefox" };
                let (rig, state) = self.rig(kind);
                let (rig, state) = (rig.take().unwrap(), state.to_owned());
                let browser = Process::read(rig.slot.pid).unwrap();
                let pid = if victim == Victim::Driver {
                    let driver = records(&state)
                        .into_values()
                        .rfind(|r| r.kind == ProcessKind::Driver && r.status == ProcessStatus::Running);
                    driver.and_then(|r| r.pid).unwrap()
                } else {
                    browser.pid
                };
                let record = record_of(&state, pid);
                let target = Process::read(pid).unwrap();
                let doomed: Vec<Process> = rig
                    .world
                    .processes()
                    .into_iter()
                    .filter(|p| [browser.session, target.session].contains(&p.session))
                    .collect();
                target.signal(Signal::KILL);
                assert_gone(&doomed, &what).await;
                self.killed.insert(record.id, kind);
                rig.stop(false).await;
            }
        }
    }

    async fn end(mut self) {
        for rig in [self.chromium.take(), self.firefox.take()].into_iter().flatten() {
            rig.stop(false).await;
        }
        if let Some(hooks) = self.hooks.take() {
            hooks.stop().await;
        }
        // Whoever comes next mends the records of what was killed.
        for (kind, state) in [("chromium", 0), ("firefox", 1)] {
            Rig::start(kind, self.states[state].path()).await.stop(false).await;
        }
        let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for record in self.states.iter().flat_map(|state| records(state.path()).into_values()) {
            let reason = record.end_reason;
            let told = || format!("{} ({}): {reason:?} {}", record.label, record.id, record.end_detail);
            assert_eq!(record.status, ProcessStatus::Exited, "{}", told());
            *counts.entry((record.kind.word(), reason.unwrap().word())).or_default() += 1;
            if self.killed.contains_key(&record.id) {
                assert_eq!((reason, record.signal), (Some(EndReason::Signalled), Some(9)), "{}", told());
            } else {
                assert_ne!(reason, Some(EndReason::Signalled), "nobody has killed it: {}", told());
            }
            if reason == Some(EndReason::Lost) {
                assert_eq!((record.exit_code, record.signal), (None, None), "{}", told());
            }
        }
        println!("{counts:#?}");
    }
}

/// A07, A08, R14, R9: see above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_nothing_is_left_and_every_record_tells_why() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("SONDE_ROUNDS").map_or(ROUNDS, |n| u32::try_from(n).unwrap());
    let seed = number("SONDE_SEED")
        .unwrap_or_else(|| u64::from(std::process::id()) ^ sonde_runtime::clock::wall_us().cast_unsigned());
    println!("SONDE_ROUNDS={rounds} SONDE_SEED={seed}");
    let mut dice = Dice(seed);
    let states = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut all = Rounds { states, chromium: None, firefox: None, hooks: None, killed: BTreeMap::new() };
    let began = Instant::now();
    for round in 1..=rounds {
        // Each once before any comes twice, so that a short run has them all.
        let victim = match VICTIMS.get(round as usize - 1) {
            Some(victim) => *victim,
            None => VICTIMS[dice.next(VICTIMS.len())],
        };
        println!("round {round} at {:?}: {victim:?}", began.elapsed());
        all.play(victim).await;
    }
    all.end().await;
}
