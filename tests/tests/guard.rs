//! What a killed service leaves (R14, T10): its guard ends it, without a next start.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sonde_proto::visit::v1::{Command, Instruments, Outcome};
use sonde_runtime::process::{ProcessRecord, cgroup, read_journal};
use sonde_site::{Site, SiteOptions};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot};
use sonde_tests::world::{World, until};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);
/// R14: from a kill until nothing is left.
const GONE: Duration = Duration::from_secs(5);

/// A hook whose child has a child, each in a session of its own, and which does not end.
const HOOK: &str = "#!/bin/sh
setsid sh -c 'echo $$ >> \"$0\"; setsid sh -c \"echo \\$\\$ >> \\\"$0\\\"; exec sleep 1000\" & exec sleep 1000' PIDS &
echo $$ >> PIDS
exec sleep 1000
";

/// A hook that leaves a process of which nothing tells whose it is: no session, no parent, no environment.
const HIDING: &str = "#!/bin/sh
setsid env -i sh -c 'sleep 1000 & echo $! >> PIDS; exec true'
echo $$ >> PIDS
echo $$ >> PIDS
exec sleep SECONDS
";

struct Rig {
    world: World,
    browsers: Browsers,
    slot: Slot,
    site: Site,
}

impl Rig {
    async fn start() -> Self {
        Self::with(HOOK).await
    }

    async fn with(hook: &str) -> Self {
        let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
        let plugin = world.path().join("plugins/long");
        std::fs::create_dir_all(&plugin).unwrap();
        let pids = world.path().join("pids").display().to_string();
        std::fs::write(plugin.join("on_Snapshot__10_long.sh"), hook.replace("PIDS", &pids)).unwrap();
        let dirs = world.path().join("plugins").display().to_string();
        let state = world.path().join("state").display().to_string();
        let settings = [("HOOKS__DIRS", dirs.as_str()), ("STATE_DIR", state.as_str())];
        let browsers = Browsers::start_with(&world, 1, &settings).await;
        let slot = browsers.slot(0).await;
        Self { world, browsers, slot, site }
    }

    fn guard(&self) -> Option<Process> {
        let service = self.browsers.service.pid();
        Process::all().into_iter().find(|p| p.parent == service && p.command.contains("guard-of-processes"))
    }

    fn records(&self) -> Vec<ProcessRecord> {
        let found = read_journal(&self.world.path().join("state/browser")).unwrap();
        found.records.into_values().collect()
    }

    /// Begins a visit with the hook; gives what runs for it.
    async fn hooked(&mut self) -> Vec<u32> {
        let url = self.site.url("127.0.0.1", "/p/static-small?v=guard");
        let run = json!({"run_hooks": {"plugins": ["long"]}, "timeout": "90s"});
        let commands = [json!({"get": {}}), run];
        let commands =
            commands.map(|c| sonde_proto::from_json::<Command>("sonde.visit.v1.Command", &c).unwrap());
        self.slot.begin_commands(&url, Instruments::default(), commands.into()).await;
        let path = self.world.path().join("pids");
        until("the hook and its children", SOON, || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (pids.len() == 3).then_some(pids)
        })
        .await
    }
}

/// Waits until none of these is there, not as a zombie either.
async fn assert_gone(doomed: &[u32]) {
    let end = Instant::now() + GONE;
    loop {
        let stat = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let left: Vec<String> = doomed.iter().filter_map(stat).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{GONE:?} after the end these are left: {left:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// R14, T10: five seconds after a SIGKILL of a service that nobody supervises nothing of its browser and its hook is left,
/// nor of what the hook had started in sessions of its own; the guard has gone, too, and the directories with it.
#[tokio::test]
async fn a_killed_service_leaves_no_grandchildren() {
    let mut rig = Rig::start().await;
    let mut doomed = rig.hooked().await;
    let guard = until("the guard", SOON, || rig.guard()).await;
    doomed.extend([guard.pid, rig.slot.pid]);
    let own: Vec<_> = rig.records().into_iter().filter_map(|r| r.context.get("run_dir").cloned()).collect();
    assert!(!own.is_empty() && own.iter().all(|dir| Path::new(dir).exists()), "{own:?}");
    let Rig { world, browsers, slot, .. } = rig;
    let Browsers { storage, mut service, .. } = browsers;
    service.signal_group(Signal::KILL);
    service.end(GONE).await;
    assert_gone(&doomed).await;
    assert!(own.iter().all(|dir| !Path::new(dir).exists()), "{own:?}");
    assert!(service.stderr().contains("a service was killed"), "{}", service.stderr());
    drop((slot, storage));
    world.assert_no_process_left(GONE).await;
}

/// A08, R14: a guard that dies is replaced; one that is not needed goes with its service, and says nothing.
#[tokio::test]
async fn a_guard_is_replaced_and_goes_in_order() {
    let rig = Rig::start().await;
    let first = until("the guard", SOON, || rig.guard()).await;
    kill_process(Pid::from_raw(first.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let second = until("another guard", SOON, || rig.guard().filter(|g| g.pid != first.pid)).await;
    let Rig { world, browsers, slot, .. } = rig;
    drop(slot);
    browsers.stop(&world).await;
    assert!(!exists(second.pid));
    let found = read_journal(&world.path().join("state/browser")).unwrap().records;
    let ends: Vec<_> =
        found.values().filter(|r| r.label == "guard").map(|r| (r.signal, r.exit_code)).collect();
    assert_eq!(ends, [(Some(9), None), (None, Some(0))]);
}

/// T10, M34: what a hook has left without session, parent and environment goes with it, whether the hook ends or the service
/// is killed: only a control group knows it.
#[tokio::test]
async fn what_hides_is_found_by_its_control_group() {
    let lane = match cgroup::lane() {
        Ok(lane) => lane,
        Err(why) => return println!("NOT TESTED, for want of control groups here: {why}"),
    };
    let groups = || {
        let names = std::fs::read_dir(lane).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("sonde-")).collect::<BTreeSet<_>>()
    };
    let before = groups();
    let mut rig = Rig::with(&HIDING.replace("SECONDS", "0.2")).await;
    let left = rig.hooked().await;
    let result = rig.slot.ended().await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:#?}");
    assert_gone(&left).await;
    let provenance: serde_json::Value = serde_json::from_str(&rig.slot.provenance).unwrap();
    assert_eq!(provenance["cgroup"], json!(lane.display().to_string()));
    let Rig { world, browsers, slot, .. } = rig;
    drop(slot);
    browsers.stop(&world).await;
    let mut rig = Rig::with(&HIDING.replace("SECONDS", "1000")).await;
    let doomed = rig.hooked().await;
    let Rig { world, browsers, slot, .. } = rig;
    let Browsers { storage, mut service, .. } = browsers;
    service.signal_group(Signal::KILL);
    service.end(GONE).await;
    assert_gone(&doomed).await;
    until("the groups to be gone", GONE, || groups().is_subset(&before).then_some(())).await;
    drop((slot, storage));
    world.assert_no_process_left(GONE).await;
}
