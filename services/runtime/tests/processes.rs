//! Processes as they are recorded: real children, a real journal, and a predecessor that is killed.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sonde_runtime::process::{
    self, Change, EndReason, Limits, Process, ProcessKind, ProcessRecord, ProcessStatus, ProcessStore,
    Redactor, Scope, Spawn, StoreError, StoreOptions,
};
use tempfile::TempDir;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

fn options(directory: &Path) -> StoreOptions {
    StoreOptions {
        directory: directory.to_owned(),
        owner: "test",
        kind: ProcessKind::Service,
        limits: Limits::default(),
        redactor: Redactor::new(["a secret of ours".to_owned()]),
        context: BTreeMap::new(),
    }
}

fn open(directory: &Path) -> ProcessStore {
    ProcessStore::open(options(directory)).unwrap()
}

fn sh(script: &str) -> Spawn {
    Spawn::new("sh", "/bin/sh").args(["-c", script])
}

async fn start(scope: Scope, spawn: Spawn) -> Process {
    scope.run(process::spawn(spawn)).await.unwrap()
}

async fn gone(process: &Process) {
    timeout(DEADLINE, process.wait_gone()).await.expect("it is gone in time");
}

fn record(store: &ProcessStore, process: &Process) -> Arc<ProcessRecord> {
    store.get(process.info().record.as_deref().unwrap()).unwrap()
}

fn journal(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("test/journal.jsonl")).unwrap()
}

/// A01, A03, A05, A12, A18: from its start to its end a process is one record, written three times.
#[tokio::test]
async fn a_process_is_one_record_with_three_writes() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let lines = journal(dir.path()).lines().count();
    let scope = store.scope().with("browser_id", 7).with("visit_id", 9);
    let spawn = sh("echo out; echo err >&2; exit 3")
        .arg("a secret of ours")
        .env("API_TOKEN", "hidden")
        .env("PLAIN", "shown")
        .cwd(dir.path())
        .kind(ProcessKind::Binary)
        .timeout(Duration::from_secs(5))
        .belongs_to("visit_id", "10");
    let child = start(scope, spawn).await;
    let running = record(&store, &child);
    assert_eq!((running.status, running.pid), (ProcessStatus::Running, Some(child.pid())));
    assert_eq!(running.start_ticks, Some(child.info().start_ticks));
    gone(&child).await;
    let ended = record(&store, &child);
    assert_eq!((ended.status, ended.exit_code, ended.signal), (ProcessStatus::Exited, Some(3), None));
    assert_eq!(ended.end_reason, Some(EndReason::Exited));
    assert_eq!(ended.parent_id.as_deref(), Some(store.own_id()));
    assert_eq!(ended.machine_id, store.machine().guid);
    assert_eq!(ended.pwd, dir.path().to_str().unwrap());
    assert_eq!(ended.timeout_ms, Some(5000));
    assert_eq!(
        ended.context.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["browser_id=7", "visit_id=10"]
    );
    assert_eq!(ended.cmd[3], "[redacted]");
    assert_eq!((ended.env["API_TOKEN"].as_str(), ended.env["PLAIN"].as_str()), ("[redacted]", "shown"));
    assert!(ended.env.contains_key("PATH"), "what it inherits is told, too");
    assert!(ended.started_at_us >= Some(ended.created_at_us) && ended.ended_at_us >= ended.started_at_us);
    assert!(ended.peak.unwrap().rss_bytes > 100_000);
    let text = |path: &Option<std::path::PathBuf>| std::fs::read_to_string(path.as_ref().unwrap()).unwrap();
    assert_eq!((text(&ended.stdout).as_str(), text(&ended.stderr).as_str()), ("out\n", "err\n"));
    assert!(!journal(dir.path()).contains("hidden") && !journal(dir.path()).contains("a secret of ours"));
    assert_eq!(journal(dir.path()).lines().count() - lines, 3, "A18: at most three writes");
}

/// A08, A09: who ended a process, and why, as it was.
#[tokio::test]
async fn the_reason_of_an_end_is_true() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let sleep = || start(store.scope(), sh("echo up; exec sleep 600"));
    let reason = |process: &Process| {
        let record = record(&store, process);
        (record.end_reason.unwrap(), record.exit_code, record.signal, record.end_detail.clone())
    };
    let killed = sleep().await;
    let pid = rustix::process::Pid::from_raw(killed.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    gone(&killed).await;
    assert_eq!(reason(&killed), (EndReason::Signalled, None, Some(9), "signal 9".to_owned()));

    let ended = sleep().await;
    ended.because(EndReason::Terminated, "its browser was closed");
    ended.terminate(DEADLINE).await;
    assert_eq!(reason(&ended).0, EndReason::Terminated);
    assert_eq!((reason(&ended).2, reason(&ended).3.as_str()), (Some(15), "its browser was closed"));

    let late = start(store.scope(), sh("trap '' TERM; echo up; while :; do sleep 0.05; done")).await;
    timeout(DEADLINE, late.stdout_shows(|text| text.contains("up").then_some(()))).await.unwrap();
    late.because(EndReason::Timeout, "its time was over");
    late.terminate(Duration::from_millis(100)).await;
    assert_eq!((reason(&late).0, reason(&late).2), (EndReason::Timeout, Some(9)));

    let dropped = sleep().await;
    let id = dropped.info().record.clone().unwrap();
    let over = dropped.gone();
    drop(dropped);
    timeout(DEADLINE, over).await.unwrap();
    assert_eq!(store.get(&id).unwrap().end_reason, Some(EndReason::Terminated));

    // It has ended by itself before anybody asks it to.
    let own = start(store.scope(), sh("exit 0")).await;
    own.wait().await;
    own.terminate(Duration::ZERO).await;
    assert_eq!((reason(&own).0, reason(&own).1), (EndReason::Exited, Some(0)));
}

/// A27: what never ran has a record that says so.
#[tokio::test]
async fn a_failed_start_has_a_record() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let spawn = Spawn::new("missing", "/nowhere/program");
    let error = store.scope().run(process::spawn(spawn)).await.unwrap_err();
    let record = store.all().into_iter().find(|r| r.label == "missing").unwrap();
    assert_eq!((record.status, record.end_reason), (ProcessStatus::Exited, Some(EndReason::SpawnFailed)));
    assert_eq!((record.pid, record.exit_code), (None, None));
    assert_eq!(record.end_detail, error.to_string());
}

/// R9, A04: a child that writes without end fills neither memory nor disk, and whoever inherited its output holds nothing up.
#[tokio::test]
async fn output_is_bounded_on_disk_and_open_pipes_hold_nothing_up() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { file_bytes: 100_000, ..Limits::default() };
    let store = ProcessStore::open(StoreOptions { limits, ..options(dir.path()) }).unwrap();
    let child =
        start(store.scope(), sh("head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last words")).await;
    gone(&child).await;
    let used: u64 = std::fs::read_dir(dir.path().join("test/out"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!((10_000..=200_000).contains(&used), "{used}");
    assert!(child.stdout_tail().ends_with("last words\n"));
    let reader = store.output(child.info().record.as_deref().unwrap(), false).unwrap();
    let end = reader.end().await.unwrap();
    let last = reader.read(end - 11, 100).await.unwrap();
    assert_eq!(last.bytes, b"last words\n");
}

/// R9, A18: records and outputs of processes that have ended are kept within limits; those that run stay.
#[tokio::test]
async fn the_oldest_records_go_with_their_outputs() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { records: 3, ..Limits::default() };
    let store = ProcessStore::open(StoreOptions { limits, ..options(dir.path()) }).unwrap();
    let stays = start(store.scope(), sh("exec sleep 600")).await;
    for n in 0..6 {
        gone(&start(store.scope(), sh(&format!("echo {n}"))).await).await;
    }
    assert_eq!(store.all().len(), 3 + 2, "three that ended, one that runs, and our own");
    assert_eq!(record(&store, &stays).status, ProcessStatus::Running);
    let files = std::fs::read_dir(dir.path().join("test/out")).unwrap().count();
    assert_eq!(files, 4 * 2, "two files of each that is kept");
    stays.terminate(DEADLINE).await;
}

/// A22, R9: two owners cannot write one journal.
#[tokio::test]
async fn a_directory_has_one_owner_at_a_time() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    assert!(matches!(ProcessStore::open(options(dir.path())), Err(StoreError::InUse { .. })));
    let id = store.machine().guid.clone();
    drop(store);
    assert_eq!(open(dir.path()).machine().guid, id);
}

const PLAY_SERVICE: &str = "SONDE_TEST_SERVICE_STATE";

/// Plays the service of the next test: starts a child that leaves a grandchild in a session of its own, and waits.
async fn play_service(state: &Path) {
    let store = open(state);
    let script = "setsid sh -c 'trap \"\" TERM; echo $$ > deaf; while :; do sleep 0.05; done' & \
                  setsid sleep 600 & echo $! > polite; sleep 600";
    let _child = start(store.scope(), sh(script).cwd(state)).await;
    std::future::pending::<()>().await;
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn pid_in(file: &Path) -> u32 {
    let wait = async {
        loop {
            if let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, wait).await.expect("it is written in time")
}

/// A07, A10, A16, R14: what a killed service left is found by its mark and ended, politely first; the record of what died
/// with it is LOST and has no exit code; a process that only has the recorded pid is left alone. This test plays both
/// parts: started again with the variable set, it is the service.
#[tokio::test]
async fn what_a_killed_service_left_is_ended_at_the_next_start() {
    if let Some(state) = std::env::var_os(PLAY_SERVICE) {
        return play_service(Path::new(&state)).await;
    }
    let dir = TempDir::new().unwrap();
    let mut service = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_a_killed_service_left_is_ended_at_the_next_start"])
        .env(PLAY_SERVICE, dir.path())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (deaf, polite) = (pid_in(&dir.path().join("deaf")).await, pid_in(&dir.path().join("polite")).await);
    service.kill().await.unwrap();
    assert!(alive(deaf) && alive(polite), "they are in sessions of their own, and nobody has ended them");

    let store = open(dir.path());
    let left: Vec<_> = store.all().into_iter().filter(|r| r.id != store.own_id()).collect();
    assert_eq!(left.len(), 2, "the service and its child");
    assert!(left.iter().all(|r| r.status == ProcessStatus::Running));
    // The child dies with the service, by a signal that the kernel has sent by now and it may not have got yet.
    let dying = async {
        while left.iter().filter_map(|r| r.pid).any(alive) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, dying).await.expect("the service and its child die");
    let began = std::time::Duration::from_micros(sonde_runtime::clock::wall_us().cast_unsigned());
    let repaired = timeout(DEADLINE, store.repair(Duration::from_millis(500))).await.unwrap();
    let took = Duration::from_micros(sonde_runtime::clock::wall_us().cast_unsigned()) - began;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(!alive(deaf) && !alive(polite));
    assert_eq!((repaired.lost, repaired.survivors.len()), (2, 0), "{repaired:?}");
    assert!(repaired.others >= 2, "{repaired:?}");
    for record in store.all().into_iter().filter(|r| r.id != store.own_id()) {
        assert_eq!((record.status, record.end_reason), (ProcessStatus::Exited, Some(EndReason::Lost)));
        assert_eq!((record.exit_code, record.signal), (None, None));
    }
    let again = store.repair(Duration::ZERO).await;
    assert_eq!(again, process::Repaired::default(), "there is nothing left to repair");
}

/// A16: what was beyond its time when its service died has 30 s to end in order, whatever the grace of others is.
#[tokio::test]
async fn what_was_timed_out_has_its_own_grace() {
    let dir = TempDir::new().unwrap();
    let script = "trap 'sleep 0.5; echo done > done; exit' TERM; echo $$ > pid; while :; do sleep 0.05; done";
    let late = process::spawn(sh(script).cwd(dir.path())).await.unwrap();
    pid_in(&dir.path().join("pid")).await;
    let store = open(dir.path());
    let mut left = ProcessRecord {
        id: "late".to_owned(),
        timeout_ms: Some(1000),
        mark: "of nobody".to_owned(),
        pid: None,
        start_ticks: None,
        status: ProcessStatus::Queued,
        ..ProcessRecord::clone(&store.get(store.own_id()).unwrap())
    };
    drop(store);
    left.apply(Change::Started { pid: late.pid(), start_ticks: late.info().start_ticks }, 1).unwrap();
    let text = serde_json::to_string(&left).unwrap() + "\n";
    std::fs::write(dir.path().join("test/journal.jsonl"), text).unwrap();
    let store = open(dir.path());
    let repaired = timeout(DEADLINE, store.repair(Duration::ZERO)).await.unwrap();
    assert_eq!((repaired.ended, repaired.lost), (1, 0), "{repaired:?}");
    assert!(dir.path().join("done").exists(), "it was not killed at once");
    let record = store.get("late").unwrap();
    assert_eq!(record.end_reason, Some(EndReason::Timeout));
    assert!(record.end_detail.contains("1000 ms"), "{}", record.end_detail);
    assert!(store.counts().kinds.values().all(|counts| counts.ended == 0), "it was not started here");
    gone(&late).await;
}

/// A49: starts, ends and failures of real processes are counted, and those that run.
#[tokio::test]
async fn processes_are_counted_as_they_come_and_go() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let hook = |script: &str| sh(script).kind(ProcessKind::Hook);
    for script in ["exit 0", "exit 3"] {
        gone(&start(store.scope(), hook(script)).await).await;
    }
    let missing = Spawn::new("none", "/nowhere/at/all").kind(ProcessKind::Hook);
    assert!(store.scope().run(process::spawn(missing)).await.is_err());
    let deaf = start(store.scope(), hook("trap '' TERM; echo up; while :; do sleep 0.05; done")).await;
    timeout(DEADLINE, deaf.stdout_shows(|text| text.contains("up").then_some(()))).await.unwrap();
    let hooks = || store.counts().kinds[&ProcessKind::Hook].clone();
    assert_eq!((hooks().started, hooks().running, hooks().ended, hooks().failed), (3, 1, 2, 2));
    assert!(deaf.terminate(Duration::from_millis(50)).await.forced);
    let after = hooks();
    assert_eq!((after.started, after.running, after.ended, after.failed, after.killed), (3, 0, 3, 2, 1));
    assert_eq!(after.durations.iter().sum::<u64>(), 3);
    assert!(after.total > Duration::from_millis(50));
    assert_eq!(store.counts().kinds[&ProcessKind::Service].running, 1, "this very process");
}

/// A10, A22: pids that name other processes by now, and those of another boot, are never touched.
#[tokio::test]
async fn a_recycled_pid_is_never_touched() {
    let dir = TempDir::new().unwrap();
    let bystander = process::spawn(sh("exec sleep 600")).await.unwrap();
    let store = open(dir.path());
    let own = ProcessRecord::clone(&store.get(store.own_id()).unwrap());
    drop(store);
    let left = |id: &str, ticks: u64, boot: &str| {
        let mut record = ProcessRecord {
            id: id.to_owned(),
            mark: "of nobody".to_owned(),
            boot_id: boot.to_owned(),
            pid: None,
            start_ticks: None,
            status: ProcessStatus::Queued,
            ..own.clone()
        };
        record.apply(Change::Started { pid: bystander.pid(), start_ticks: ticks }, 1).unwrap();
        serde_json::to_string(&record).unwrap() + "\n"
    };
    let ticks = bystander.info().start_ticks;
    let text = left("later", ticks - 1, &own.boot_id) + &left("other boot", ticks, "another");
    std::fs::write(dir.path().join("test/journal.jsonl"), text).unwrap();
    let store = open(dir.path());
    let repaired = store.repair(Duration::ZERO).await;
    assert_eq!((repaired.lost, repaired.ended, repaired.others), (2, 0, 0));
    assert!(alive(bystander.pid()));
    // The same with the very process: now it is ours to end.
    let text = left("the one", ticks, &own.boot_id);
    drop(store);
    std::fs::write(dir.path().join("test/journal.jsonl"), text).unwrap();
    let store = open(dir.path());
    let repaired = store.repair(DEADLINE).await;
    assert_eq!((repaired.lost, repaired.ended), (0, 1));
    assert_eq!(store.get("the one").unwrap().end_reason, Some(EndReason::Terminated));
    gone(&bystander).await;
}

/// A09, A36: ends go side by side: the time is that of the slowest, not of all.
#[tokio::test]
async fn ends_go_side_by_side_each_within_its_own_grace() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut children = Vec::new();
    for _ in 0..4 {
        let child = start(store.scope(), sh("trap '' TERM; echo up; while :; do sleep 0.05; done")).await;
        timeout(DEADLINE, child.stdout_shows(|text| text.contains("up").then_some(()))).await.unwrap();
        children.push((child, Duration::from_secs(1)));
    }
    let began = tokio::time::Instant::now();
    let ends = process::terminate_all(children).await;
    assert!(ends.iter().all(|end| end.forced && end.exit.signal == Some(9)));
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(3));
}

/// R14: orphans that come to us after the sweep of their tree are reaped, too.
#[tokio::test]
async fn orphans_are_reaped_whenever_they_end() {
    let dir = TempDir::new().unwrap();
    // The grandchild takes the mark out of its environment and leaves the session: nothing finds it but the kernel.
    let script = format!(
        "env -i setsid sh -c 'echo $$ > {}/orphan; exec sleep 0.6' & sleep 0.2",
        dir.path().display()
    );
    let child = process::spawn(sh(&script)).await.unwrap();
    let orphan = pid_in(&dir.path().join("orphan")).await;
    timeout(DEADLINE, async {
        while Path::new(&format!("/proc/{orphan}")).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("no zombie is left of it");
    gone(&child).await;
}
