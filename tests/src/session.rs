//! A browser-service and its storage as processes, driven slot by slot without a coordinator.

use std::path::PathBuf;
use std::time::Duration;

use sonde_proto::browser::v1::browser_service_client::BrowserServiceClient;
use sonde_proto::browser::v1::{
    AttemptContext, GetInfoRequest, Open, Run, SessionRequest, SessionResponse,
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

/// The two services, on Unix sockets.
pub struct Browsers {
    pub storage: Running,
    pub service: Running,
    channel: Channel,
}

impl Browsers {
    /// Starts them with so many slots and waits until they answer.
    pub async fn start(world: &World, slots: u32) -> Self {
        let socket = |name: &str| Endpoint::Unix(world.path().join(name));
        let (storage_at, browser_at) = (socket("storage.sock"), socket("browser.sock"));
        let own = |section: &str, values: &[(&str, String)]| -> Vec<(String, String)> {
            values.iter().map(|(key, value)| (format!("SONDE_{section}__{key}"), value.clone())).collect()
        };
        let start = |name: &str, env: Vec<(String, String)>| {
            let program: PathBuf = workspace::program(name);
            world.start_with(&program, [""; 0], env)
        };
        let storage = start(
            "sonde-storage",
            own(
                "STORAGE",
                &[("LISTEN", storage_at.to_string()), ("DATA_DIR", world.data().display().to_string())],
            ),
        );
        let service = start(
            "sonde-browser",
            own(
                "BROWSER",
                &[
                    ("LISTEN", browser_at.to_string()),
                    ("STORAGE", storage_at.to_string()),
                    ("SLOTS", slots.to_string()),
                ],
            ),
        );
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
        Slot { slot, requests, answers, visits: 0, browser: BrowserSpec::default() }
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

    /// Asks for a visit.
    pub async fn begin(&mut self, url: &str, instruments: Instruments, commands: Vec<Step>) {
        let command = |step| Command { step: Some(step), ..Command::default() };
        self.begin_commands(url, instruments, commands.into_iter().map(command).collect()).await;
    }

    /// Asks for a visit of commands with timeouts of their own.
    pub async fn begin_commands(&mut self, url: &str, instruments: Instruments, commands: Vec<Command>) {
        self.visits += 1;
        let attempt = AttemptContext {
            visit_id: (i64::from(self.slot) + 1) << 40 | self.visits,
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
            interactive: false,
            fresh_browser: false,
        };
        self.requests
            .send(SessionRequest { message: Some(Ask::Run(run)) })
            .await
            .expect("the session is open");
    }

    /// The next thing the service tells.
    pub async fn told(&mut self) -> Told {
        let answer =
            timeout(VISIT, self.answers.message()).await.expect("the service tells something in time");
        let answer = answer.expect("the session holds").expect("the service keeps the session");
        answer.message.expect("an answer has a message")
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
