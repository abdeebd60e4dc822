//! Real children: they crash, hang, leave children of their own, and are ended.
#![allow(clippy::unwrap_used)] // the lint's exception for tests does not reach their helper functions

use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sonde_runtime::backoff::Backoff;
use sonde_runtime::endpoint::{Inproc, Listener};
use sonde_runtime::serve::serve;
use sonde_runtime::supervise::{
    Exit, Failure, LineSink, Program, Readiness, RestartPolicy, ServiceSpec, State, Status, SuperviseError,
    Supervisor,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

const DEADLINE: Duration = Duration::from_secs(15);

type Lines = Arc<Mutex<Vec<String>>>;

fn sink() -> (Lines, LineSink) {
    let lines = Lines::default();
    let seen = lines.clone();
    (lines, Arc::new(move |name, line| seen.lock().unwrap().push(format!("{name} | {line}"))))
}

fn shell(name: &str, script: &str) -> ServiceSpec {
    let args = ["-c", script].map(OsString::from).to_vec();
    let program = Program { path: "/bin/sh".into(), args, ..Program::default() };
    ServiceSpec { name: name.to_owned(), program, ready: None, grace: Duration::from_secs(5) }
}

fn quick() -> RestartPolicy {
    let backoff = Backoff::new(Duration::from_millis(40), Duration::from_millis(400));
    RestartPolicy { backoff, healthy_after: Duration::from_secs(60) }
}

fn supervise(specs: Vec<ServiceSpec>) -> (Supervisor, Lines, CancellationToken) {
    let (lines, sink) = sink();
    let immediate = CancellationToken::new();
    let stop = CancellationToken::new();
    let supervisor = Supervisor::start(specs, quick(), sink, &stop, &immediate).unwrap();
    (supervisor, lines, immediate)
}

async fn reach(status: &mut watch::Receiver<Status>, wanted: impl Fn(&Status) -> bool) -> Status {
    timeout(DEADLINE, status.wait_for(|status| wanted(status))).await.unwrap().unwrap().clone()
}

/// A zombie that nobody reaps yet counts as gone.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

async fn gone(pid: u32) {
    let wait = async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{pid} is still there"));
}

#[tokio::test]
async fn a_crashing_child_is_started_again_with_growing_delays() {
    let started = Instant::now();
    let (supervisor, lines, _) = supervise(vec![shell("crash", "echo hello; echo oops >&2; exit 3")]);
    let mut status = supervisor.status("crash").unwrap();
    let fifth = reach(&mut status, |status| status.failures == 5).await;
    let State::BackingOff { failure, delay } = &fifth.state else { panic!("{fifth:?}") };
    assert_eq!(*failure, Failure::Ended(Exit::Code(3)));
    assert!(*delay >= Duration::from_millis(200), "{delay:?}");
    // At least half of 40 + 80 + 160 + 320 ms.
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(fifth.starts, 5);
    assert_eq!(timeout(DEADLINE, supervisor.stop()).await.unwrap()["crash"], None);
    let lines = lines.lock().unwrap();
    assert!(lines.contains(&"crash | hello".to_owned()) && lines.contains(&"crash | oops".to_owned()));
}

/// R14
#[tokio::test]
async fn stopping_is_polite_first() {
    let (supervisor, lines, _) = supervise(vec![shell(
        "polite",
        "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done",
    )]);
    let wait = async {
        while !lines.lock().unwrap().contains(&"polite | up".to_owned()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap();
    let pid = supervisor.statuses()["polite"].pid.unwrap();
    assert_eq!(timeout(DEADLINE, supervisor.stop()).await.unwrap()["polite"], Some(Exit::Code(7)));
    assert!(lines.lock().unwrap().contains(&"polite | bye".to_owned()));
    assert!(!alive(pid));
}

/// R14: a child that ignores SIGTERM, and its own child, are gone after the grace.
#[tokio::test]
async fn a_deaf_child_is_killed_with_its_group_after_the_grace() {
    let dir = TempDir::new().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("trap '' TERM; sleep 600 & echo $! > {}; wait", pid_file.display());
    let mut spec = shell("deaf", &script);
    spec.grace = Duration::from_millis(300);
    let (supervisor, _, _) = supervise(vec![spec]);
    let pid = read_pid(&pid_file).await;
    let asked = Instant::now();
    let exits = timeout(DEADLINE, supervisor.stop()).await.unwrap();
    assert_eq!(exits["deaf"], Some(Exit::Signal(libc::SIGKILL)));
    assert!(asked.elapsed() >= Duration::from_millis(300) && asked.elapsed() < Duration::from_secs(3));
    gone(pid).await;
}

async fn read_pid(file: &std::path::Path) -> u32 {
    let wait = async {
        loop {
            if let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap()
}

/// R14
#[tokio::test]
async fn the_second_signal_cuts_the_grace_short() {
    let mut spec = shell("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done");
    spec.grace = Duration::from_secs(600);
    let (supervisor, _, immediate) = supervise(vec![spec]);
    timeout(DEADLINE, supervisor.ready(DEADLINE)).await.unwrap().unwrap();
    immediate.cancel();
    assert!(timeout(DEADLINE, supervisor.stop()).await.unwrap()["deaf"].is_some());
}

#[tokio::test]
async fn what_a_crashed_child_leaves_is_ended_before_the_next_start() {
    let dir = TempDir::new().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; exit 1", pid_file.display());
    let (supervisor, _, _) = supervise(vec![shell("leaver", &script)]);
    let pid = read_pid(&pid_file).await;
    gone(pid).await;
    timeout(DEADLINE, supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn ready_means_that_health_says_serving() {
    let dir = TempDir::new().unwrap();
    let endpoint = format!("unix:{}", dir.path().join("s.sock").display()).parse().unwrap();
    let mut served = shell("served", "sleep 600");
    served.ready = Some(Readiness { endpoint, within: DEADLINE });
    let endpoint = served.ready.clone().unwrap().endpoint;
    let (supervisor, _, _) = supervise(vec![served]);
    let mut status = supervisor.status("served").unwrap();
    reach(&mut status, |status| status.starts == 1).await;
    let early = supervisor.ready(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(early, SuperviseError::NotReady { state: State::Starting, .. }), "{early}");

    let listener = Listener::bind(&endpoint, &Inproc::new()).await.unwrap();
    let server =
        serve(listener, Routes::default(), &[], &[], CancellationToken::new(), DEADLINE).await.unwrap();
    supervisor.ready(DEADLINE).await.unwrap();
    timeout(DEADLINE, supervisor.stop()).await.unwrap();
    assert!(!timeout(DEADLINE, server.stop()).await.unwrap().unwrap().forced);
}

#[tokio::test]
async fn a_child_that_never_gets_ready_or_cannot_start_says_so() {
    let mut mute = shell("mute", "sleep 600");
    let endpoint = "unix:/nonexistent/s.sock".parse().unwrap();
    mute.ready = Some(Readiness { endpoint, within: Duration::from_millis(200) });
    let mut none = shell("none", "");
    none.program.path = "/nonexistent/program".into();
    let (supervisor, _, _) = supervise(vec![mute, none]);
    let failed = |status: &Status| status.failures >= 2;
    let mute = reach(&mut supervisor.status("mute").unwrap(), failed).await;
    assert!(matches!(mute.state, State::BackingOff { failure: Failure::NotReady(_), .. }), "{mute:?}");
    let none = reach(&mut supervisor.status("none").unwrap(), failed).await;
    let State::BackingOff { failure: Failure::NotStarted(reason), .. } = none.state else {
        panic!("{none:?}")
    };
    assert!(reason.contains("/nonexistent/program"), "{reason}");
    timeout(DEADLINE, supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn names_are_unique() {
    let (_, sink) = sink();
    let token = CancellationToken::new();
    let specs = vec![shell("a", "true"), shell("a", "true")];
    let error = Supervisor::start(specs, quick(), sink, &token, &token).unwrap_err();
    assert!(matches!(error, SuperviseError::Duplicate(_)));
}

/// R14: the kernel ends the children of a supervisor that is killed. This test plays both parts: started again with
/// the variable set, it is the supervisor.
#[tokio::test]
async fn children_do_not_outlive_a_killed_supervisor() {
    const PLAY_SUPERVISOR: &str = "SONDE_TEST_SUPERVISOR_PID_FILE";
    if let Some(pid_file) = std::env::var_os(PLAY_SUPERVISOR) {
        let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 0.05; done", pid_file.display());
        let (_supervisor, _, _) = supervise(vec![shell("deaf", &script)]);
        return std::future::pending().await;
    }
    let dir = TempDir::new().unwrap();
    let pid_file = dir.path().join("pid");
    let mut supervisor = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "children_do_not_outlive_a_killed_supervisor"])
        .env(PLAY_SUPERVISOR, &pid_file)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = read_pid(&pid_file).await;
    assert!(alive(pid));
    supervisor.kill().await.unwrap();
    timeout(Duration::from_secs(5), gone(pid)).await.unwrap();
}
