use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::time::Instant;

use super::super::names::HookName;
use super::*;
use crate::process::{self, Spawn};

struct World {
    dir: tempfile::TempDir,
    plan: Vec<Planned>,
    options: Options,
}

impl World {
    fn new() -> Self {
        let options = Options { grace: Duration::ZERO, ..Options::default() };
        Self { dir: tempfile::tempdir().unwrap(), plan: Vec::new(), options }
    }

    /// A shell script as a hook of a plugin of its own.
    fn hook(&mut self, file: &str, script: &str, seconds: f64) {
        let name = HookName::parse(file).unwrap().unwrap();
        let plugin = name.name.clone();
        let home = self.dir.path().join("plugins").join(&plugin);
        std::fs::create_dir_all(&home).unwrap();
        let path = home.join(file);
        std::fs::write(&path, script).unwrap();
        self.plan.push(Planned {
            dir: self.dir.path().join("out").join(&plugin),
            plugin,
            name,
            path,
            args: vec!["--url=http://a/".into()],
            env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            timeout: Duration::from_secs_f64(seconds),
            extra: json!({"snapshot_id": "s1"}),
        });
    }

    fn start(&self) -> (mpsc::Sender<Control>, mpsc::Receiver<Event>, JoinHandle<Report>) {
        let (events_end, events) = mpsc::channel(100_000);
        let (controls, inbox) = mpsc::channel(8);
        let page = ("http://a/".to_owned(), "s1".to_owned());
        let task = tokio::spawn(run(self.plan.clone(), page, self.options.clone(), inbox, events_end));
        (controls, events, task)
    }

    async fn run(&self) -> (Report, Vec<Event>) {
        let (_controls, mut events, task) = self.start();
        let report = task.await.unwrap();
        let mut all = Vec::new();
        while let Ok(event) = events.try_recv() {
            all.push(event);
        }
        (report, all)
    }

    /// Processes that still work in the directory of this test.
    fn left(&self) -> Vec<PathBuf> {
        let here = self.dir.path().canonicalize().unwrap();
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|e| e.path());
        all.filter(|p| std::fs::read_link(p.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&here))).collect()
    }
}

fn of<'a>(report: &'a Report, plugin: &str) -> &'a HookResult {
    report.results.iter().find(|r| r.plugin == plugin).unwrap()
}

const WAITING: &str = "echo ready; while :; do sleep 60 & wait $!; done";

/// A11: beside its logs a hook has a file with its pid, as old as the process, and a script of what was started; neither
/// counts as its result, but its own files with such names do.
#[tokio::test]
async fn what_was_started_is_told_beside_the_logs() {
    let mut world = World::new();
    world.hook("on_Snapshot__10_a.sh", "echo $$ > own.pid; echo \"$1\" >> said", 10.0);
    let before = std::time::SystemTime::now();
    let (report, _) = world.run().await;
    let result = of(&report, "a");
    let beside = |suffix: &str| {
        let log = result.stdout.display().to_string();
        PathBuf::from(log.replace(".stdout.log", suffix))
    };
    let (pid, script) = (beside(".pid"), beside(".sh"));
    assert_eq!(std::fs::read_to_string(&pid).unwrap().trim(), result.pid.unwrap().to_string());
    let modified = std::fs::metadata(&pid).unwrap().modified().unwrap();
    let slack = Duration::from_millis(50);
    assert!(modified + slack >= before && modified <= before + slack + Duration::from_secs(5));
    let outputs: Vec<_> = result.outputs.iter().map(|o| o.path.to_str().unwrap()).collect();
    assert_eq!(outputs, ["own.pid", "said"]);
    let again = process::spawn(Spawn::new("sh", "/bin/sh").arg(&script)).await.unwrap();
    assert_eq!(again.wait_gone().await.0.code, Some(0), "{}", again.stderr_tail());
    let said = world.dir.path().join("out/a/said");
    assert_eq!(std::fs::read_to_string(said).unwrap(), "--url=http://a/\n--url=http://a/\n");
}

/// A35, A36, A40: ten background hooks that need 3 s each to end are over in less than 4 s, and their last words count.
#[tokio::test(flavor = "multi_thread")]
async fn background_hooks_end_beside_each_other() {
    let mut world = World::new();
    for n in 0..10 {
        let record = r#"{"type":"ArchiveResult","status":"succeeded","output_str":"last"}"#;
        let script = format!("end() {{ sleep 3; printf %s '{record}'; exit 0; }}; trap end TERM; {WAITING}");
        world.hook(&format!("on_Snapshot__{n}0_b{n}.daemon.bg.sh"), &script, 20.0 + f64::from(n));
    }
    let (_controls, mut events, task) = world.start();
    let (mut began, mut asked) = (None, Vec::new());
    while let Some(event) = events.recv().await {
        match event {
            Event::SnapshotCleanup { background } => {
                assert_eq!(background, 10);
                began = Some(Instant::now());
            }
            Event::ProcessKill { signal: 15, .. } => asked.push(Instant::now()),
            Event::ProcessKill { .. } => panic!("none is killed"),
            _ => {}
        }
    }
    let (report, took) = (task.await.unwrap(), began.unwrap().elapsed());
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(asked.len(), 10);
    let spread = asked[9].duration_since(began.unwrap());
    assert!(spread < Duration::from_millis(50), "{spread:?}");
    for result in &report.results {
        assert_eq!(
            (result.status, result.output_str.as_str(), result.exit_code),
            (Status::Succeeded, "last", 0)
        );
    }
    assert!(world.left().is_empty());
}

/// A37-A39: one that ignores SIGTERM is killed at its own deadline, with its group; the others take their time.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_late_one_is_killed() {
    let mut world = World::new();
    world.hook(
        "on_Snapshot__10_deaf.daemon.bg.sh",
        "trap '' TERM; echo ready; while :; do sleep 0.2; done",
        2.0,
    );
    world.hook("on_Snapshot__11_slow.daemon.bg.sh", &format!("trap 'sleep 3; exit 0' TERM; {WAITING}"), 20.0);
    world.hook("on_Snapshot__12_quick.bg.sh", &format!("exec 2>/dev/null; {WAITING}"), 20.0);
    let (report, _) = world.run().await;
    let (deaf, slow, quick) = (of(&report, "deaf"), of(&report, "slow"), of(&report, "quick"));
    assert_eq!((deaf.status, deaf.exit_code, deaf.ended), (Status::Failed, 137, Some(Ended::Timeout)));
    assert!((1900..2900).contains(&deaf.duration_ms), "{}", deaf.duration_ms);
    assert_eq!((slow.status, slow.exit_code, slow.ended), (Status::NoResults, 0, Some(Ended::CleanUp)));
    assert_eq!((quick.status, quick.exit_code), (Status::NoResults, 0));
    let order: Vec<_> = report.results.iter().map(|r| r.plugin.as_str()).collect();
    assert_eq!(order, ["quick", "deaf", "slow"]);
    assert!(world.left().is_empty());
}

/// A25-A27: a hang, a failure and a missing script each have their result, and the next hook runs.
#[tokio::test(flavor = "multi_thread")]
async fn failures_do_not_stop_the_others() {
    let mut world = World::new();
    world.hook("on_Snapshot__10_hang.sh", "sleep 300 & sleep 300", 0.5);
    world.hook("on_Snapshot__20_fails.sh", "echo broken >&2; exit 3", 5.0);
    world.hook("on_Snapshot__30_gone.sh", "", 5.0);
    std::fs::remove_file(&world.plan[2].path).unwrap();
    world.hook("on_Snapshot__40_fine.sh", r#"echo hello > page.txt; echo '{"type":"ArchiveResult","status":"succeeded","output_str":"page.txt"}'"#, 5.0);
    let (report, events) = world.run().await;
    let hang = of(&report, "hang");
    assert_eq!((hang.status, hang.exit_code, hang.ended), (Status::Failed, 137, Some(Ended::Timeout)));
    assert_eq!(of(&report, "fails").output_str, "exit code 3: broken");
    let gone = of(&report, "gone");
    assert_eq!((gone.status, gone.exit_code), (Status::Failed, 1));
    assert!(std::fs::read_to_string(&gone.stderr).unwrap().contains("is not there"));
    let fine = of(&report, "fine");
    assert_eq!((fine.status, fine.outputs.len()), (Status::Succeeded, 1));
    assert_eq!((fine.outputs[0].path.as_path(), fine.outputs[0].size), (Path::new("page.txt"), 6));
    assert_eq!(fine.records[0].text("snapshot_id"), Some("s1"));
    assert!(matches!(events.last(), Some(Event::SnapshotCompleted { succeeded: 1, failed: 3 })));
    // A44
    let again: Vec<_> = super::super::plan::again(world.plan.clone(), &report.results)
        .into_iter()
        .map(|p| p.plugin)
        .collect();
    assert_eq!(again, ["hang", "fails", "gone"]);
    assert!(world.left().is_empty());
}

/// S8: ten gigabytes of output, and processes without end, are held to their limits.
#[tokio::test(flavor = "multi_thread")]
async fn floods_are_bounded() {
    let mut world = World::new();
    world.options.max_output = 1 << 20;
    world.hook("on_Snapshot__10_flood.sh", "head -c 10G /dev/zero", 60.0);
    // Bounded by itself to 255 processes, for the sake of the machine that runs the test.
    world.hook(
        "on_Snapshot__20_bomb.sh",
        "f() { [ $1 = 0 ] && exec sleep 300; f $(($1 - 1)) & f $(($1 - 1)) & wait; }; f 7",
        2.0,
    );
    let (report, _) = world.run().await;
    let flood = of(&report, "flood");
    assert_eq!((flood.status, flood.ended), (Status::Failed, Some(Ended::Output)));
    assert_eq!(std::fs::metadata(&flood.stdout).unwrap().len(), 1 << 20);
    assert!(flood.duration_ms < 20_000, "{}", flood.duration_ms);
    let bomb = of(&report, "bomb");
    assert_eq!((bomb.status, bomb.ended), (Status::Failed, Some(Ended::Timeout)));
    assert!(bomb.notes.is_empty(), "{:?}", bomb.notes);
    assert!(world.left().is_empty());
}

/// A24: in steps, hooks of one step run beside each other; else a background hook blocks until it is ready only.
#[tokio::test(flavor = "multi_thread")]
async fn pace_and_readiness_order_hooks() {
    let mut world = World::new();
    world.options.pace = Pace::StepParallel;
    for file in ["on_Snapshot__10_a.sh", "on_Snapshot__11_b.sh", "on_Snapshot__12_c.sh"] {
        world.hook(file, "sleep 1", 10.0);
    }
    world.hook("on_Snapshot__20_d.sh", "[ -e ../a/done ] || exit 4", 10.0);
    std::fs::write(&world.plan[0].path, "sleep 1; touch done").unwrap();
    let began = Instant::now();
    let (report, _) = world.run().await;
    assert!(began.elapsed() < Duration::from_millis(2900), "{:?}", began.elapsed());
    assert!(report.results.iter().all(|r| r.status == Status::NoResults), "{:?}", report.results);

    let mut world = World::new();
    world.hook("on_Snapshot__10_server.daemon.bg.sh", &format!("sleep 0.5; touch up; {WAITING}"), 20.0);
    world.hook("on_Snapshot__20_client.sh", "[ -e ../server/up ] || exit 4", 10.0);
    let (report, _) = world.run().await;
    assert!(report.results.iter().all(|r| r.status == Status::NoResults), "{:?}", report.results);
}

/// A46
#[tokio::test(flavor = "multi_thread")]
async fn a_run_obeys_its_operator() {
    let mut world = World::new();
    world.hook(
        "on_Snapshot__10_first.sh",
        "if [ -e ran ]; then exit 0; fi; touch ran; echo up; sleep 300",
        30.0,
    );
    world.hook("on_Snapshot__20_second.sh", "echo up; sleep 300", 30.0);
    world.hook("on_Snapshot__30_third.sh", "echo up; sleep 300", 30.0);
    world.hook("on_Snapshot__40_never.sh", "", 30.0);
    world.hook("on_Snapshot__05_back.daemon.bg.sh", WAITING, 30.0);
    world.plan.rotate_right(1);
    let (controls, mut events, task) = world.start();
    let mut paused = false;
    while let Some(event) = events.recv().await {
        match event {
            Event::ProcessStdout { plugin, .. } if plugin == "first" => {
                controls.send(Control::Retry).await.unwrap()
            }
            Event::ProcessStdout { plugin, .. } if plugin == "second" => {
                controls.send(Control::Pause).await.unwrap();
                controls.send(Control::Skip).await.unwrap();
            }
            Event::Paused => paused = true,
            Event::ProcessCompleted(result) if result.plugin == "second" => {
                assert!(paused);
                controls.send(Control::Resume).await.unwrap();
            }
            Event::ProcessStdout { plugin, .. } if plugin == "third" => {
                controls.send(Control::Abort).await.unwrap()
            }
            _ => {}
        }
    }
    let report = task.await.unwrap();
    let ends: Vec<_> = report.results.iter().map(|r| (r.plugin.as_str(), r.status, r.ended)).collect();
    assert_eq!(
        ends,
        [
            ("first", Status::Skipped, Some(Ended::Aborted)),
            ("first", Status::NoResults, None),
            ("second", Status::Skipped, Some(Ended::Skipped)),
            ("third", Status::Skipped, Some(Ended::Aborted)),
            ("back", Status::NoResults, Some(Ended::CleanUp)),
        ]
    );
    assert!(report.aborted && world.left().is_empty());
}

/// A36, A38: background hooks that end by themselves have their own time, and end before those that read their files.
#[tokio::test(flavor = "multi_thread")]
async fn finite_hooks_are_waited_for_and_not_asked_to_end() {
    let mut world = World::new();
    world.hook("on_Snapshot__10_download.finite.bg.sh", "echo begun; sleep 1; echo done > file", 20.0);
    world.hook("on_Snapshot__11_hang.finite.bg.sh", "echo begun; sleep 300", 2.0);
    world.hook("on_Snapshot__55_early.sh", "[ -e ../download/file ] && exit 3; exit 0", 10.0);
    world.hook("on_Snapshot__58_text.sh", "[ -e ../download/file ] || exit 4", 10.0);
    let (report, events) = world.run().await;
    let [download, hang] = ["download", "hang"].map(|name| of(&report, name));
    assert_eq!((download.status, download.ended, download.outputs.len()), (Status::NoResults, None, 1));
    assert_eq!((hang.exit_code, hang.ended), (137, Some(Ended::Timeout)));
    assert!((1900..2900).contains(&hang.duration_ms), "{}", hang.duration_ms);
    for reader in ["early", "text"] {
        assert_eq!(of(&report, reader).exit_code, 0, "{reader}");
    }
    assert!(!events.iter().any(|e| matches!(e, Event::ProcessKill { signal: 15, .. })), "{events:?}");
    assert!(world.left().is_empty());
}

/// A48: the order of events of hooks in the foreground and the background.
#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_their_order() {
    let mut world = World::new();
    world.hook("on_Snapshot__10_daemon.daemon.bg.sh", &format!("exec 2>/dev/null; {WAITING}"), 20.0);
    world.hook(
        "on_Snapshot__20_finite.finite.bg.sh",
        "echo up; while ! [ -e ../last/file ]; do sleep 0.05; done",
        20.0,
    );
    world.hook("on_Snapshot__30_first.sh", r#"echo '{"type":"Tag","name":"t"}'"#, 20.0);
    world.hook("on_Snapshot__40_last.sh", "touch file; exit 3", 20.0);
    let (_, events) = world.run().await;
    let told = events.iter().map(|event| match event {
        Event::Snapshot { hooks, .. } => format!("begin {hooks}"),
        Event::ProcessStarted { plugin, background, .. } => format!("start {plugin} {background}"),
        Event::ProcessStdout { plugin, line, .. } => format!("out {plugin} {line}"),
        Event::Record { plugin, record, .. } => format!("record {plugin} {}", record.kind),
        Event::ProcessKill { plugin, signal, .. } => format!("kill {plugin} {signal}"),
        Event::ProcessCompleted(result) => format!("end {} {:?}", result.plugin, result.status),
        Event::SnapshotCleanup { background } => format!("clean {background}"),
        Event::SnapshotCompleted { succeeded, failed } => format!("over {succeeded} {failed}"),
        other => format!("{other:?}"),
    });
    let golden = [
        "begin 4",
        "start daemon true",
        "out daemon ready",
        "start finite true",
        "out finite up",
        "start first false",
        "record first Tag",
        "end first NoResults",
        "start last false",
        "end last Failed",
        "end finite NoResults",
        "clean 1",
        "kill daemon 15",
        "end daemon NoResults",
        "over 0 1",
    ];
    assert_eq!(told.collect::<Vec<_>>(), golden);
}

/// 2.5: a provider runs hooks of its plugin; its time and the operator end it as they end others.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_stands_in_for_files() {
    #[derive(Debug)]
    struct Mine;
    impl Provider for Mine {
        fn claims(&self, hook: &Planned) -> bool {
            hook.plugin.starts_with("mine")
        }

        fn loads(&self, hook: &Planned) -> bool {
            hook.plugin == "mine_well"
        }

        fn run(
            &self,
            hook: &Planned,
            _: Instant,
        ) -> futures_util::future::BoxFuture<'static, Result<String, String>> {
            match hook.plugin.as_str() {
                // Only when the listener has said that it is there.
                "mine_well" => {
                    let listened = hook.dir.with_file_name("listener").join("up").exists();
                    Box::pin(
                        async move { Ok(format!("said: {}", if listened { "listened" } else { "alone" })) },
                    )
                }
                "mine_badly" => Box::pin(async { Err("no page".to_owned()) }),
                _ => Box::pin(std::future::pending()),
            }
        }
    }
    let mut world = World::new();
    world.options.readiness = false;
    world.options.provider = Some(Arc::new(Mine));
    world.hook("on_Snapshot__00_listener.finite.bg.sh", "sleep 1; touch up; echo up", 9.0);
    for (n, name) in ["mine_well", "mine_badly", "mine_late", "other"].iter().enumerate() {
        world.hook(
            &format!("on_Snapshot__{n}0_{name}.sh"),
            "exit 7",
            if *name == "mine_late" { 0.2 } else { 9.0 },
        );
    }
    let (report, _) = world.run().await;
    let ends: Vec<_> = report
        .results
        .iter()
        .map(|r| (r.plugin.as_str(), r.status, r.output_str.as_str(), r.exit_code))
        .collect();
    assert_eq!(
        ends,
        [
            ("mine_well", Status::Succeeded, "said: listened", 0),
            ("mine_badly", Status::Failed, "no page", 1),
            ("mine_late", Status::Failed, "its time was over", 1),
            ("other", Status::Failed, "exit code 7", 7),
            ("listener", Status::NoResults, "", 0),
        ]
    );
}
