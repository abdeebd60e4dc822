//! The process model on real browsers: what the ProcessService and `sonde ps|logs|kill` tell, and that nothing is left.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rustix::process::Signal;
use sonde_proto::browser::v1::process_service_client::ProcessServiceClient;
use sonde_proto::browser::v1::{
    GetMachineRequest, GetProcessCountsRequest, GetProcessRequest, ListProcessesRequest, Process as Told,
    ProcessEndReason, ProcessFilter, ProcessStatus, ProcessType, TailOutputRequest, TerminateProcessRequest,
    WatchProcessTreeRequest, WatchProcessTreeResponse, process_filter::Relation,
    watch_process_tree_response::Event,
};
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, Instruments, Outcome};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot};
use sonde_tests::trap::{Answer, Trap};
use sonde_tests::world::{World, until};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

const SOON: Duration = Duration::from_secs(60);

type Client = ProcessServiceClient<Channel>;

struct Rig {
    world: World,
    browsers: Browsers,
    client: Client,
}

impl Rig {
    async fn start(slots: u32) -> Self {
        let world = World::new();
        let state = world.data().join("processes").display().to_string();
        let settings = [("PRESTART", "off"), ("STATE_DIR", state.as_str())];
        let browsers = Browsers::start_with(&world, slots, &settings).await;
        let client = ProcessServiceClient::new(browsers.channel());
        Self { world, browsers, client }
    }

    async fn slot(&self, slot: u32, kind: BrowserKind) -> Slot {
        let mut slot = self.browsers.slot(slot).await;
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
        slot
    }

    async fn stop(self, slots: Vec<Slot>) {
        drop(slots);
        self.browsers.stop(&self.world).await;
    }
}

async fn list(client: &mut Client, filter: ProcessFilter) -> Vec<Told> {
    let request = ListProcessesRequest { filter: Some(filter), ..ListProcessesRequest::default() };
    client.list_processes(request).await.unwrap().into_inner().processes
}

async fn get(client: &mut Client, id: &str) -> Told {
    let request = GetProcessRequest { id: id.to_owned() };
    client.get_process(request).await.unwrap().into_inner().process.unwrap()
}

fn of(types: &[ProcessType]) -> ProcessFilter {
    ProcessFilter { types: types.iter().map(|t| (*t).into()).collect(), ..ProcessFilter::default() }
}

async fn next(changes: &mut Streaming<WatchProcessTreeResponse>) -> Event {
    let message = timeout(SOON, changes.message()).await.expect("a change comes in time");
    message.unwrap().expect("the stream goes on").event.unwrap()
}

fn page(_: &str) -> Answer {
    Answer::html("<!doctype html><title>plain</title><p>nothing")
}

/// A01, A12, A13, A14, A19, A20, A49: browser and driver are records with identity, belongings and usage, found by every
/// filter; a kill is told to watchers with its reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_listed_measured_and_watched() {
    let site = Trap::start(page).await;
    let mut rig = Rig::start(2).await;
    let mut slots = vec![rig.slot(0, BrowserKind::Chromium).await, rig.slot(1, BrowserKind::Firefox).await];
    for slot in &mut slots {
        let result = slot.visit(&site.url("/"), Instruments::default(), Vec::new()).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{result:?}");
    }
    let (pids, client) = ([slots[0].pid, slots[1].pid], &mut rig.client);
    let running = list(client, ProcessFilter { running: true, ..ProcessFilter::default() }).await;
    let types: Vec<_> = running.iter().map(|p| p.r#type()).collect();
    assert_eq!(
        types,
        [
            ProcessType::Service,
            // The guard of all the others.
            ProcessType::Supervisor,
            ProcessType::Browser,
            ProcessType::Browser,
            ProcessType::Driver
        ]
    );
    let (service, chromium) = (running[0].clone(), running[2].clone());
    assert_eq!(service.pid, rig.browsers.service.pid());
    assert_eq!(
        (chromium.pid, chromium.parent_id.as_str(), chromium.depth),
        (pids[0], service.id.as_str(), 1)
    );
    assert_eq!((chromium.context["browser_id"].as_str(), chromium.visit_ids.len()), ("1", 1));
    assert_eq!(chromium.start_ticks, Process::read(pids[0]).unwrap().started);
    assert!(
        running[4].url.starts_with("127.0.0.1:") || running[4].url.starts_with("http"),
        "{}",
        running[4].url
    );
    let ids = |found: Vec<Told>| found.into_iter().map(|p| p.id).collect::<Vec<_>>();
    let second = list(client, ProcessFilter { browser_id: Some(2), ..ProcessFilter::default() }).await;
    assert_eq!(ids(second), [running[3].id.clone(), running[4].id.clone()]);
    let visit = ProcessFilter { visit_id: chromium.visit_ids[0], ..ProcessFilter::default() };
    assert_eq!(ids(list(client, visit).await), [chromium.id.as_str()]);
    let below = ProcessFilter {
        relation: Some(Relation::DescendantsOf(service.id.clone())),
        ..of(&[ProcessType::Browser])
    };
    assert_eq!(list(client, below).await.len(), 2);
    let above = ProcessFilter {
        relation: Some(Relation::AncestorsOf(chromium.id.clone())),
        ..ProcessFilter::default()
    };
    assert_eq!(ids(list(client, above).await), [service.id.as_str()]);
    let request = ListProcessesRequest { page_size: 3, ..ListProcessesRequest::default() };
    let first = client.list_processes(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.matched, first.running, first.processes.len()), (5, 5, 3));
    let rest = ListProcessesRequest { page_token: first.next_page_token, ..request };
    let rest = client.list_processes(rest).await.unwrap().into_inner();
    assert_eq!((ids(rest.processes), rest.next_page_token.as_str()), (ids(running[3..].to_vec()), ""));

    let whole = get(client, &chromium.id).await;
    let usage = whole.usage.unwrap();
    assert!(
        usage.processes > 3 && usage.pss_bytes > 50 << 20 && usage.pss_bytes <= usage.rss_bytes,
        "{usage:?}"
    );
    assert!(whole.env.contains_key("PATH") && usage.cpu_ms > 0);
    let told = client.get_machine(GetMachineRequest {}).await.unwrap().into_inner();
    assert_eq!(chromium.machine_id, told.machine.unwrap().guid);
    let stats = told.stats.unwrap();
    assert!(stats.memory_available_bytes > 0 && stats.disk_free_bytes <= stats.disk_total_bytes, "{stats:?}");
    assert!(stats.uptime.unwrap().seconds > 0 && stats.disk_total_bytes > 0, "{stats:?}");
    let network = told.network.unwrap();
    let again = client.get_machine(GetMachineRequest {}).await.unwrap().into_inner();
    assert!(again.stats.unwrap().observed_at.unwrap().nanos != stats.observed_at.unwrap().nanos);
    assert_eq!(again.network.unwrap(), network, "looked at once an hour");

    let watching = client.watch_process_tree(WatchProcessTreeRequest::default()).await.unwrap();
    let mut changes = watching.into_inner();
    let Event::Snapshot(tree) = next(&mut changes).await else { panic!("no snapshot comes first") };
    assert_eq!(tree.processes[0].id, service.id, "a process comes before its children");
    assert_eq!(tree.processes.len(), 5);
    Process::read(pids[0]).unwrap().signal(Signal::KILL);
    let ended = loop {
        if let Event::Changed(process) = next(&mut changes).await
            && process.id == chromium.id
            && process.status() == ProcessStatus::Exited
        {
            break process;
        }
    };
    assert_eq!((ended.end_reason(), ended.signal, ended.exit_code), (ProcessEndReason::Signalled, 9, None));
    assert!(ended.peak_rss_bytes > 10 << 20 && ended.total_cpu_ms > 0);
    let counted = client.get_process_counts(GetProcessCountsRequest {}).await.unwrap().into_inner();
    assert!(counted.since.is_some());
    let of_type = |wanted| counted.counts.iter().find(|counts| counts.r#type() == wanted).unwrap();
    let (browsers, drivers) = (of_type(ProcessType::Browser), of_type(ProcessType::Driver));
    // Whether a new Chromium was started meanwhile is the slot's to decide.
    assert_eq!((browsers.started, browsers.ended, browsers.failed), (browsers.running + 1, 1, 1));
    assert!(browsers.running >= 1 && browsers.killed == 0, "its killer was not the service: {browsers:?}");
    assert_eq!((drivers.started, drivers.running, drivers.ended), (1, 1, 0));
    assert_eq!(browsers.durations.iter().map(|d| d.count).sum::<u64>(), 1);
    assert!(browsers.durations.last().unwrap().up_to.is_none() && browsers.total.is_some());
    rig.stop(slots).await;
}

/// A08, A17: outputs are read and followed, processes ended with their trees; what is not ours is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_are_followed_and_processes_ended() {
    let site = Trap::start(page).await;
    let mut rig = Rig::start(1).await;
    let mut slot = rig.slot(0, BrowserKind::Firefox).await;
    let result = slot.visit(&site.url("/"), Instruments::default(), Vec::new()).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:?}");
    let client = &mut rig.client;
    let driver = list(client, of(&[ProcessType::Driver])).await.remove(0);
    let tail = TailOutputRequest { id: driver.id.clone(), follow: true, ..TailOutputRequest::default() };
    let mut output = client.tail_output(tail.clone()).await.unwrap().into_inner();
    let mut text = String::new();
    while !text.contains("Listening on") {
        let piece = timeout(SOON, output.message()).await.unwrap().unwrap().expect("it goes on");
        text.push_str(std::str::from_utf8(&piece.data).unwrap());
    }
    let last = TailOutputRequest { lines: 1, follow: false, ..tail };
    let mut line = client.tail_output(last).await.unwrap().into_inner();
    let line = line.message().await.unwrap().unwrap().data;
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "{line:?}");

    let refused = |status: tonic::Status| status.code();
    let request = |id: &str, seconds| TerminateProcessRequest {
        id: id.to_owned(),
        grace: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let code = client.terminate_process(request("x", 601)).await.map_err(refused).unwrap_err();
    assert_eq!(code, Code::InvalidArgument);
    let unknown = "01900000-0000-7000-8000-000000000000";
    let code = client.terminate_process(request(unknown, 1)).await.map_err(refused).unwrap_err();
    assert_eq!(code, Code::NotFound);
    let own = list(client, of(&[ProcessType::Service])).await.remove(0);
    let code = client.terminate_process(request(&own.id, 1)).await.map_err(refused).unwrap_err();
    assert_eq!(code, Code::FailedPrecondition);

    let firefox = slot.pid;
    let ended = client.terminate_process(request(&driver.id, 5)).await.unwrap().into_inner();
    let process = ended.process.unwrap();
    assert_eq!((process.end_reason(), ended.survivors.len()), (ProcessEndReason::Terminated, 0));
    assert!(process.end_detail.contains("TerminateProcess"), "{}", process.end_detail);
    let rest = async {
        while let Some(piece) = output.message().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&piece.data));
        }
    };
    timeout(SOON, rest).await.expect("the output ends with its process");
    let code = client.terminate_process(request(&driver.id, 1)).await.map_err(refused).unwrap_err();
    assert_eq!(code, Code::FailedPrecondition, "it has exited already");
    until("Firefox to go with its driver", SOON, || Process::read(firefox).is_none().then_some(())).await;
    let browser = ProcessFilter { browser_id: Some(1), ..of(&[ProcessType::Browser]) };
    let exited = async {
        loop {
            let first = list(client, browser.clone()).await.remove(0);
            if first.status() == ProcessStatus::Exited {
                return first;
            }
        }
    };
    let gone = timeout(SOON, exited).await.expect("its end is recorded");
    assert_eq!(gone.end_reason(), ProcessEndReason::Terminated);
    // Whichever of the two that end it comes first.
    let why = &gone.end_detail;
    assert!(why.contains("driver") || why.contains("its browser was closed"), "{why}");
    rig.stop(vec![slot]).await;
}

/// A14, A17: the same from the shell, of a running service and of its records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_lists_reads_and_ends_processes() {
    let site = Trap::start(page).await;
    let rig = Rig::start(1).await;
    let mut slot = rig.slot(0, BrowserKind::Firefox).await;
    let result = slot.visit(&site.url("/"), Instruments::default(), Vec::new()).await;
    assert_eq!(result.outcome(), Outcome::Ok, "{result:?}");
    let world = &rig.world;
    let sonde = async |arguments: &[&str]| {
        let mut sonde = world.sonde(arguments);
        let code = sonde.code(SOON).await;
        (code, sonde.stdout(), sonde.stderr())
    };
    let (data, socket) =
        (world.data().display().to_string(), format!("unix:{}", world.path().join("browser.sock").display()));
    for place in [["--server", &socket], ["--data", &data]] {
        let (code, text, problem) = sonde(&["ps", "--tree", "--usage", place[0], place[1]]).await;
        assert_eq!(code, 0, "{problem}");
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("browser") || line.contains("driver")).collect();
        assert!(
            text.contains("└ firefox") && text.contains("└ geckodriver") && text.contains("MiB"),
            "{lines:#?}"
        );
        let (code, json, _) = sonde(&["ps", "--json", place[0], place[1]]).await;
        let all: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((code, all.len()), (0, 4), "{json}");
        let driver = all.iter().find(|p| p["type"] == "PROCESS_TYPE_DRIVER").unwrap();
        let id = driver["id"].as_str().unwrap();
        let (code, words, problem) = sonde(&["logs", &id[id.len() - 12..], place[0], place[1]]).await;
        assert_eq!(code, 0, "{problem}");
        assert!(words.contains("Listening on"), "{words}");
    }
    let (code, _, problem) = sonde(&["logs", "nothing", "--data", &data]).await;
    assert_eq!((code, problem.contains("sonde ps --all")), (4, true), "{problem}");
    let (code, _, problem) = sonde(&["ps", "--data", "/nowhere"]).await;
    assert_eq!((code, problem.contains("--server")), (4, true), "{problem}");
    let firefox = slot.pid;
    let (code, said, problem) = sonde(&["kill", &firefox.to_string(), "--server", &socket]).await;
    assert_eq!((code, said.contains("terminated")), (0, true), "{said} {problem}");
    assert!(Process::read(firefox).is_none());
    let (code, said, _) = sonde(&["ps", "--all", "--data", &data]).await;
    assert_eq!((code, said.contains("TerminateProcess")), (0, true), "{said}");
    rig.stop(vec![slot]).await;
}
