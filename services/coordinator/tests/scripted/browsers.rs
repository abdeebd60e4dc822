//! A browser-service without browsers: what a visit does is written in its host name.
//!
//! `ok`: ends ok. `flaky-N`: fails N times with the advice to try again. `dead`: a network error without it. `crash`:
//! kills its browser. `broken`: at first no browser can be started for [`ScriptedBrowsers::REST`]. `hang`: runs until it is cancelled, released, or its lease ends. `slow`: takes 20 ms.
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sonde_proto::{
    BREAKER_FINGERPRINT,
    browser::v1::{
        Attached, AttemptEnded, BrowserEvent, BrowserEventKind, CommandEnded, EndCrawlRequest,
        EndCrawlResponse, GetInfoRequest, GetInfoResponse, Opened, PhaseChanged, Rejected, Run,
        RunningAttempt, SessionRequest, SessionResponse,
        browser_service_server::{BrowserService, BrowserServiceServer},
        session_request::Message as Ask,
        session_response::Message as Answer,
    },
    visit::v1::{
        AttemptResult, BrowserKind, CommandResult, CommandStatus, CrawlHookResult, Failure, FailureKind,
        Outcome, Phase, RetryAdvice, SealSummary,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, service::Routes};

#[derive(Clone, Debug)]
pub struct Ran {
    pub crawl_id: String,
    pub visit_no: i64,
    pub fence: i64,
    pub attempt: u32,
    pub browser_id: u32,
    pub url: String,
    pub visit_id: i64,
    pub began: Instant,
    pub ended: Option<Instant>,
    /// Plugins of the crawl's hooks.
    pub hooks: Vec<String>,
}

enum Order {
    Cancel,
    Extend(Duration),
    Step(String),
    Finish,
}

struct Attempt {
    visit_id: i64,
    fence: i64,
    orders: mpsc::UnboundedSender<Order>,
    result: Option<AttemptResult>,
}

#[derive(Default)]
struct SlotState {
    session: Option<mpsc::UnboundedSender<Result<SessionResponse, Status>>>,
    attempt: Option<Attempt>,
}

struct Inner {
    instance: String,
    slots: HashMap<u32, SlotState>,
    ran: Vec<Ran>,
    attaches: usize,
    /// Crawls whose hooks were asked to end, each time.
    ended_crawls: Vec<String>,
    /// How often that is refused first.
    deaf: usize,
}

#[derive(Clone)]
pub struct ScriptedBrowsers {
    inner: Arc<Mutex<Inner>>,
    slots: u32,
    /// Lets visits of `hang` go on.
    pub release: watch::Sender<bool>,
    /// Lets hooks of crawls end.
    pub hooks_end: watch::Sender<bool>,
}

impl ScriptedBrowsers {
    /// Of a slot that cannot start browsers.
    pub const REST: Duration = Duration::from_millis(900);

    pub fn new(slots: u32) -> Self {
        let inner = Inner {
            instance: "one".into(),
            slots: HashMap::new(),
            ran: Vec::new(),
            attaches: 0,
            ended_crawls: Vec::new(),
            deaf: 0,
        };
        let (release, hooks_end) = (watch::Sender::new(false), watch::Sender::new(false));
        Self { inner: Arc::new(Mutex::new(inner)), slots, release, hooks_end }
    }

    pub fn routes(&self) -> Routes {
        Routes::new(BrowserServiceServer::new(self.clone()))
    }

    pub fn ran(&self) -> Vec<Ran> {
        self.inner.lock().unwrap().ran.clone()
    }

    pub fn attaches(&self) -> usize {
        self.inner.lock().unwrap().attaches
    }

    pub fn ended_crawls(&self) -> Vec<String> {
        self.inner.lock().unwrap().ended_crawls.clone()
    }

    /// EndCrawl is answered with UNAVAILABLE so often.
    pub fn deafen(&self, times: usize) {
        self.inner.lock().unwrap().deaf = times;
    }

    /// Attempts that run now.
    pub fn running(&self) -> usize {
        let inner = self.inner.lock().unwrap();
        inner.slots.values().filter(|s| s.attempt.as_ref().is_some_and(|a| a.result.is_none())).count()
    }

    /// As a restart of the process: attempts, results and sessions are gone.
    pub fn restart(&self, instance: &str) {
        let mut inner = self.inner.lock().unwrap();
        inner.instance = instance.to_owned();
        inner.slots.clear();
    }

    /// Breaks every session; attempts run on.
    pub fn cut(&self) {
        for slot in self.inner.lock().unwrap().slots.values_mut() {
            if let Some(session) = slot.session.take() {
                let _ = session.send(Err(Status::unavailable("cut")));
            }
        }
    }

    fn say(&self, slot: u32, answer: Answer) {
        if let Some(session) = self.inner.lock().unwrap().slots.get(&slot).and_then(|s| s.session.as_ref()) {
            let _ = session.send(Ok(SessionResponse { message: Some(answer) }));
        }
    }

    fn reject(&self, slot: u32, visit_id: i64, message: &str) {
        let failure = Failure { message: message.into(), ..Default::default() };
        self.say(slot, Answer::Rejected(Rejected { visit_id, failure: Some(failure) }));
    }

    fn handle(&self, slot: u32, ask: Ask) {
        match ask {
            Ask::Run(run) => self.run(slot, run),
            Ask::Attach(attach) => self.attach(slot, attach.visit_id, attach.fence, attach.lease),
            Ask::Cancel(cancel) => self.order(slot, cancel.visit_id, Order::Cancel),
            Ask::ExtendLease(extend) => {
                let lease = Duration::try_from(extend.lease.unwrap()).unwrap();
                self.order(slot, extend.visit_id, Order::Extend(lease));
            }
            Ask::Step(step) => {
                let name = step.command.unwrap_or_default().name().to_owned();
                self.order(slot, step.visit_id, Order::Step(name));
            }
            Ask::Finish(finish) => self.order(slot, finish.visit_id, Order::Finish),
            Ask::Open(_) | Ask::Close(_) => {}
        }
    }

    fn order(&self, slot: u32, visit_id: i64, order: Order) {
        let inner = self.inner.lock().unwrap();
        let attempt = inner.slots.get(&slot).and_then(|s| s.attempt.as_ref());
        if let Some(attempt) = attempt.filter(|a| a.visit_id == visit_id) {
            let _ = attempt.orders.send(order);
        }
    }

    fn attach(&self, slot: u32, visit_id: i64, fence: i64, lease: Option<prost_types::Duration>) {
        let found = {
            let mut inner = self.inner.lock().unwrap();
            inner.attaches += 1;
            let attempt = inner.slots.get(&slot).and_then(|s| s.attempt.as_ref());
            attempt.filter(|a| a.visit_id == visit_id && a.fence == fence).map(|a| a.result.clone())
        };
        match found {
            None => self.reject(slot, visit_id, "no such attempt"),
            Some(result) => {
                let lease = Duration::try_from(lease.unwrap()).unwrap();
                self.order(slot, visit_id, Order::Extend(lease));
                self.say(slot, Answer::Attached(Attached { visit_id, ..Default::default() }));
                if let Some(result) = result {
                    self.say(slot, Answer::AttemptEnded(AttemptEnded { result: Some(result) }));
                }
            }
        }
    }

    fn run(&self, slot: u32, run: Run) {
        let context = run.attempt.clone().unwrap();
        let url = run.sequence.clone().unwrap().url;
        let (orders, inbox) = mpsc::unbounded_channel();
        let instance = {
            let mut inner = self.inner.lock().unwrap();
            inner.ran.push(Ran {
                crawl_id: context.crawl_id.clone(),
                visit_no: context.visit_no,
                fence: context.fence,
                attempt: context.attempt,
                browser_id: context.browser_id,
                url: url.clone(),
                visit_id: context.visit_id,
                began: Instant::now(),
                ended: None,
                hooks: run.crawl_hooks.clone().unwrap_or_default().plugins,
            });
            let state = inner.slots.entry(slot).or_default();
            let (visit_id, fence) = (context.visit_id, context.fence);
            state.attempt = Some(Attempt { visit_id, fence, orders, result: None });
            inner.instance.clone()
        };
        let service = self.clone();
        tokio::spawn(async move {
            let result = service.perform(slot, &run, &url, inbox).await;
            let current = {
                let mut inner = service.inner.lock().unwrap();
                let ran = inner.ran.iter_mut().rfind(|r| r.visit_id == result.visit_id).unwrap();
                ran.ended = Some(Instant::now());
                let same = inner.instance == instance;
                let attempt = inner.slots.get_mut(&slot).and_then(|s| s.attempt.as_mut());
                match attempt.filter(|a| same && a.visit_id == result.visit_id) {
                    Some(attempt) => {
                        attempt.result = Some(result.clone());
                        true
                    }
                    None => false,
                }
            };
            if current {
                service.say(slot, Answer::AttemptEnded(AttemptEnded { result: Some(result) }));
            }
        });
    }

    async fn perform(
        &self,
        slot: u32,
        run: &Run,
        url: &str,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) -> AttemptResult {
        let context = run.attempt.clone().unwrap();
        let visit_id = context.visit_id;
        let phase = |index, name: &str| {
            let phase = Phase { index, count: 3, name: name.into(), ..Default::default() };
            Answer::PhaseChanged(PhaseChanged { visit_id, phase: Some(phase) })
        };
        let started = BrowserEvent {
            kind: BrowserEventKind::Started.into(),
            provenance: r#"{"product":"Scripted/1.0","sandbox":true}"#.into(),
            capabilities: HashMap::from([("http.bodies".to_owned(), "observed".to_owned())]),
            ..Default::default()
        };
        self.say(slot, Answer::BrowserEvent(started));
        self.say(slot, phase(1, "prepare"));
        self.say(slot, phase(2, "get"));
        let host = url.split("://").nth(1).unwrap_or(url).split(['.', '/']).next().unwrap().to_owned();
        let lease = Duration::try_from(run.lease.unwrap()).unwrap();
        let mut deadline = tokio::time::Instant::now() + lease;
        let mut commands = Vec::new();
        let waits = run.interactive || host == "hang";
        let mut release = self.release.subscribe();
        let pause = if host == "slow" { Duration::from_millis(20) } else { Duration::ZERO };
        let mut finished = Box::pin(async move {
            match waits {
                true if run.interactive => std::future::pending().await,
                true => drop(release.wait_for(|yes| *yes).await),
                false if pause.is_zero() => {}
                false => tokio::time::sleep(pause).await,
            }
        });
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Cancel) => return ended(visit_id, Outcome::Cancelled, FailureKind::Cancelled, RetryAdvice::Never),
                    Some(Order::Extend(lease)) => deadline = tokio::time::Instant::now() + lease,
                    Some(Order::Step(name)) => {
                        let result = CommandResult { index: commands.len() as u32, name, status: CommandStatus::Ok.into(), ..Default::default() };
                        commands.push(result.clone());
                        self.say(slot, Answer::CommandEnded(CommandEnded { visit_id, result: Some(result) }));
                    }
                    Some(Order::Finish) => break,
                    None => break,
                },
                () = &mut finished => break,
                () = tokio::time::sleep_until(deadline) => {
                    return ended(visit_id, Outcome::Error, FailureKind::Lost, RetryAdvice::Same);
                }
            }
        }
        if !run.interactive {
            let result =
                CommandResult { name: "get".into(), status: CommandStatus::Ok.into(), ..Default::default() };
            commands.push(result.clone());
            self.say(slot, Answer::CommandEnded(CommandEnded { visit_id, result: Some(result) }));
        }
        self.say(slot, phase(3, "seal"));
        let fails: u32 = host.strip_prefix("flaky-").map_or(0, |n| n.parse().unwrap());
        if context.attempt <= fails {
            return ended(visit_id, Outcome::Timeout, FailureKind::Timeout, RetryAdvice::Same);
        }
        match host.as_str() {
            "broken" if context.attempt == 1 => {
                let event = BrowserEvent {
                    kind: BrowserEventKind::BreakerOpened.into(),
                    browser: BrowserKind::Chromium.into(),
                    retry_after: prost_types::Duration::try_from(Self::REST).ok(),
                    ..Default::default()
                };
                self.say(slot, Answer::BrowserEvent(event));
                let mut result = ended(visit_id, Outcome::Error, FailureKind::Browser, RetryAdvice::Same);
                result.failure.as_mut().unwrap().fingerprint = BREAKER_FINGERPRINT.to_owned();
                result
            }
            "dead" => ended(visit_id, Outcome::Neterror, FailureKind::Network, RetryAdvice::Never),
            "crash" => ended(visit_id, Outcome::Crashed, FailureKind::Browser, RetryAdvice::FreshBrowser),
            _ => AttemptResult {
                visit_id,
                outcome: Outcome::Ok.into(),
                commands,
                seal: Some(SealSummary { complete: true, ..Default::default() }),
                ..Default::default()
            },
        }
    }
}

fn ended(visit_id: i64, outcome: Outcome, kind: FailureKind, retry: RetryAdvice) -> AttemptResult {
    let failure = Failure {
        kind: kind.into(),
        message: format!("scripted {}", outcome.word()),
        phase: "2/3 get".into(),
        retry: retry.into(),
        ..Default::default()
    };
    AttemptResult { visit_id, outcome: outcome.into(), failure: Some(failure), ..Default::default() }
}

#[tonic::async_trait]
impl BrowserService for ScriptedBrowsers {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let instance_id = self.inner.lock().unwrap().instance.clone();
        Ok(Response::new(GetInfoResponse {
            instance_id,
            slots: self.slots,
            browsers: vec![BrowserKind::Chromium.into()],
            ..Default::default()
        }))
    }

    async fn end_crawl(
        &self,
        request: Request<EndCrawlRequest>,
    ) -> Result<Response<EndCrawlResponse>, Status> {
        let crawl_id = request.into_inner().crawl_id;
        {
            let mut inner = self.inner.lock().unwrap();
            inner.ended_crawls.push(crawl_id);
            if inner.deaf > 0 {
                inner.deaf -= 1;
                return Err(Status::unavailable("scripted"));
            }
        }
        drop(self.hooks_end.subscribe().wait_for(|yes| *yes).await);
        let hook = CrawlHookResult {
            plugin: "setup".into(),
            hook: "on_CrawlSetup__10_setup.sh".into(),
            status: "succeeded".into(),
            ..Default::default()
        };
        Ok(Response::new(EndCrawlResponse { hooks: vec![hook] }))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|r| r.message);
        let Some(Ask::Open(open)) = first else { return Err(Status::invalid_argument("Open first")) };
        let (session, responses) = mpsc::unbounded_channel();
        let mine = session.clone();
        let slot = open.slot;
        {
            let mut inner = self.inner.lock().unwrap();
            let instance_id = inner.instance.clone();
            let state = inner.slots.entry(slot).or_default();
            if let Some(old) = state.session.replace(session.clone()) {
                let _ = old.send(Err(Status::aborted("another session took the slot")));
            }
            let running = state.attempt.as_ref().map(|a| RunningAttempt {
                slot,
                visit_id: a.visit_id,
                fence: a.fence,
                ..Default::default()
            });
            let opened = Answer::Opened(Opened { instance_id, running });
            let _ = session.send(Ok(SessionResponse { message: Some(opened) }));
        }
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = inbound.message().await {
                let current = {
                    let inner = service.inner.lock().unwrap();
                    inner
                        .slots
                        .get(&slot)
                        .and_then(|s| s.session.as_ref())
                        .is_some_and(|s| s.same_channel(&mine))
                };
                if !current {
                    return;
                }
                match request.message {
                    Some(Ask::Close(_)) | None => break,
                    Some(ask) => service.handle(slot, ask),
                }
            }
            let mut inner = service.inner.lock().unwrap();
            if let Some(state) = inner.slots.get_mut(&slot)
                && state.session.as_ref().is_some_and(|s| s.same_channel(&mine))
            {
                state.session = None;
            }
        });
        let mut over = false;
        let responses = UnboundedReceiverStream::new(responses).take_while(move |item| {
            let go = !over;
            over |= item.is_err();
            go
        });
        Ok(Response::new(Box::pin(responses)))
    }
}
