//! A browser-service and its storage as processes, driven slot by slot without a coordinator.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use sonde_proto::browser::v1::browser_service_client::BrowserServiceClient;
use sonde_proto::browser::v1::{
    AttemptContext, Finish, GetInfoRequest, Open, Run, SessionRequest, SessionResponse, Step as OneMore,
    session_request::Message as Ask, session_response::Message as Told,
};
use sonde_proto::visit::v1::{
    AttemptResult, BrowserSpec, Command, CommandSequence, Instruments, VisitLimits, command::Step,
};
use sonde_runtime::endpoint::{Endpoint, Inproc, connect};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

use crate::workspace;
use crate::world::{Running, World};

const SOON: Duration = Duration::from_secs(60);
const VISIT: Duration = Duration::from_secs(300);
/// For what services leave to be gone once they ended.
const GONE: Duration = Duration::from_secs(5);

fn start(world: &World, name: &str, section: &str, values: &[(&str, String)]) -> Running {
    let program: PathBuf = workspace::program(name);
    let env = values.iter().map(|(key, value)| (format!("SONDE_{section}__{key}"), value.clone()));
    world.start_with(&program, [""; 0], env.collect::<Vec<_>>())
}

/// The two services, on Unix sockets.
pub struct Browsers {
    pub storage: Running,
    pub service: Running,
    channel: Channel,
}

impl Browsers {
    /// Starts them with so many slots and waits until they answer.
    pub async fn start(world: &World, slots: u32) -> Self {
        Self::start_with(world, slots, &[]).await
    }

    /// The same with more settings of the browser-service, as `("FIREFOX_CAPTURE", "exported")`.
    pub async fn start_with(world: &World, slots: u32, settings: &[(&str, &str)]) -> Self {
        let socket = |name: &str| Endpoint::Unix(world.path().join(name));
        let (storage_at, browser_at) = (socket("storage.sock"), socket("browser.sock"));
        let storage = Self::start_storage(world);
        let mut values = vec![
            ("LISTEN", browser_at.to_string()),
            ("STORAGE", storage_at.to_string()),
            ("SLOTS", slots.to_string()),
        ];
        values.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let service = start(world, "sonde-browser", "BROWSER", &values);
        let channel = connect(&browser_at, &Inproc::new()).expect("the path fits a socket");
        let end = Instant::now() + SOON;
        loop {
            let answer = BrowserServiceClient::new(channel.clone()).get_info(GetInfoRequest {}).await;
            match answer {
                Ok(_) => break,
                Err(status) => assert!(
                    Instant::now() < end,
                    "the browser-service does not answer: {status}\n{}",
                    service.stderr()
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { storage, service, channel }
    }

    /// SIGTERM, once no slot is open: both end well and leave nothing.
    ///
    /// # Panics
    /// When one does not.
    pub async fn stop(self, world: &World) {
        for mut service in [self.service, self.storage] {
            service.signal_group(Signal::TERM);
            assert_eq!(service.code(SOON).await, 0, "{}", service.stderr());
        }
        world.assert_nothing_left(GONE).await;
    }

    /// A storage-service where a browser-service of this world looks for it, such as one that was ended.
    pub fn start_storage(world: &World) -> Running {
        let listen = Endpoint::Unix(world.path().join("storage.sock")).to_string();
        let values = [("LISTEN", listen), ("DATA_DIR", world.data().display().to_string())];
        start(world, "sonde-storage", "STORAGE", &values)
    }

    /// To the browser-service, for its other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Takes a slot.
    pub async fn slot(&self, slot: u32) -> Slot {
        let (requests, waiting) = mpsc::channel(8);
        let open = Open { slot, browser_id: slot + 1 };
        requests
            .send(SessionRequest { message: Some(Ask::Open(open)) })
            .await
            .expect("the receiver is there");
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(waiting);
        let answers = BrowserServiceClient::new(self.channel.clone()).session(outgoing).await;
        let answers = answers.expect("the service takes sessions").into_inner();
        Slot {
            slot,
            requests,
            answers,
            visits: 0,
            browser: BrowserSpec::default(),
            provenance: String::new(),
            pid: 0,
            events: Vec::new(),
        }
    }
}

/// One slot, for one visit at a time.
pub struct Slot {
    slot: u32,
    requests: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
    visits: i64,
    /// What the next visits run on.
    pub browser: BrowserSpec,
    /// Facts of the browser that started last: a JSON object.
    pub provenance: String,
    /// Its main process.
    pub pid: u32,
    /// What became of browsers: kind's word and detail.
    pub events: Vec<(&'static str, String)>,
}

impl Slot {
    /// Runs a visit to its end.
    ///
    /// # Panics
    /// When the service refuses it, or says nothing for minutes.
    pub async fn visit(&mut self, url: &str, instruments: Instruments, commands: Vec<Step>) -> AttemptResult {
        self.begin(url, instruments, commands).await;
        self.ended().await
    }

    /// Counts visits from here on: of a service that was started anew on the same data.
    pub fn after(&mut self, visits: i64) {
        self.visits = visits;
    }

    /// Asks for a visit.
    pub async fn begin(&mut self, url: &str, instruments: Instruments, commands: Vec<Step>) {
        let command = |step| Command { step: Some(step), ..Command::default() };
        self.begin_commands(url, instruments, commands.into_iter().map(command).collect()).await;
    }

    /// Asks for a visit of commands with timeouts of their own.
    pub async fn begin_commands(&mut self, url: &str, instruments: Instruments, commands: Vec<Command>) {
        self.run(url, instruments, commands, false).await;
    }

    /// Asks for a visit that stays open after its commands, until [`Self::finish`]; returns its id.
    pub async fn begin_interactive(
        &mut self,
        url: &str,
        instruments: Instruments,
        commands: Vec<Step>,
    ) -> i64 {
        let command = |step| Command { step: Some(step), ..Command::default() };
        self.run(url, instruments, commands.into_iter().map(command).collect(), true).await
    }

    /// Runs one more command of an interactive visit, which had one so far; its result when the visit ended instead.
    pub async fn step(&mut self, visit_id: i64, step: Step) -> Option<AttemptResult> {
        let command = Some(Command { step: Some(step), ..Command::default() });
        let more = SessionRequest { message: Some(Ask::Step(OneMore { visit_id, command })) };
        self.requests.send(more).await.expect("the session is open");
        loop {
            match self.told().await {
                Told::CommandEnded(ended) if ended.result.as_ref().is_some_and(|r| r.index > 0) => {
                    return None;
                }
                Told::AttemptEnded(ended) => return ended.result,
                Told::Rejected(rejected) => panic!("the service refused the visit: {rejected:?}"),
                _ => {}
            }
        }
    }

    /// Ends an interactive visit and waits for its result.
    pub async fn finish(&mut self, visit_id: i64) -> AttemptResult {
        let finish = SessionRequest { message: Some(Ask::Finish(Finish { visit_id })) };
        self.requests.send(finish).await.expect("the session is open");
        self.ended().await
    }

    async fn run(
        &mut self,
        url: &str,
        instruments: Instruments,
        commands: Vec<Command>,
        interactive: bool,
    ) -> i64 {
        self.visits += 1;
        let visit_id = (i64::from(self.slot) + 1) << 40 | self.visits;
        let attempt = AttemptContext {
            visit_id,
            fence: self.visits,
            crawl_id: "01900000-0000-7000-8000-000000000000".to_owned(),
            visit_no: i64::from(self.slot) * 1_000_000 + self.visits,
            attempt: 1,
            browser_id: self.slot + 1,
            site_rank: None,
        };
        let run = Run {
            attempt: Some(attempt),
            sequence: Some(CommandSequence { url: url.to_owned(), commands }),
            browser: Some(self.browser.clone()),
            instruments: Some(instruments),
            limits: Some(VisitLimits::default()),
            lease: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            interactive,
            fresh_browser: false,
            crawl_hooks: None,
        };
        self.requests
            .send(SessionRequest { message: Some(Ask::Run(run)) })
            .await
            .expect("the session is open");
        visit_id
    }

    /// The next thing the service tells.
    pub async fn told(&mut self) -> Told {
        let answer =
            timeout(VISIT, self.answers.message()).await.expect("the service tells something in time");
        let answer = answer.expect("the session holds").expect("the service keeps the session");
        let told = answer.message.expect("an answer has a message");
        if let Told::BrowserEvent(event) = &told {
            self.events.push((event.kind().word(), event.detail.clone()));
            if !event.provenance.is_empty() {
                self.provenance.clone_from(&event.provenance);
                self.pid = event.pid;
            }
        }
        told
    }

    /// Waits for the end of the visit.
    pub async fn ended(&mut self) -> AttemptResult {
        loop {
            match self.told().await {
                Told::AttemptEnded(ended) => return ended.result.expect("an ended attempt has its result"),
                Told::Rejected(rejected) => panic!("the service refused the visit: {rejected:?}"),
                _ => {}
            }
        }
    }
}

/// Every instrument.
pub fn all_instruments() -> Instruments {
    Instruments {
        http: true,
        cookies: true,
        javascript: true,
        navigations: true,
        dns: true,
        scripts: true,
        ..Instruments::default()
    }
}
