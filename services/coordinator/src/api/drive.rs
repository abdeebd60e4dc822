//! Drive: a browser taken and commanded live.
use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use sonde_proto::{
    FieldErrors,
    coordinator::v1::{
        CrawlEvent, CrawlSpec, DriveRequest, DriveResponse, DriveStart, RetryPolicy, VisitSpec,
        crawl_event::Event, drive_request, drive_response::Message,
    },
    validate_commands, validate_setup,
    visit::v1::{Command, Failure, FailureKind, Outcome, RetryAdvice},
};
use sonde_runtime::clock::wall_us;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Api, add_visits, errors,
    single::{CallerGuard, PRIORITY},
    watch::Watch,
};
use crate::{
    engine::Verb,
    live::{DriveAnswer, DriveLink},
    store::{CrawlKey, CrawlKind},
    time::{span, timestamp},
};

const IDLE: Duration = Duration::from_secs(300);
const MAX_IDLE: Duration = Duration::from_secs(3600);
const RESPONSES: usize = 64;
/// How long after the end of the requests a broken call may show on the responses.
const BROKEN: Duration = Duration::from_millis(100);

type Responses = Pin<Box<dyn Stream<Item = Result<DriveResponse, Status>> + Send>>;

impl Api {
    pub(super) async fn start_drive(
        &self,
        mut inbound: Streaming<DriveRequest>,
    ) -> Result<Responses, Status> {
        let first = inbound.message().await?.and_then(|request| request.message);
        let Some(drive_request::Message::Start(start)) = first else {
            return Err(errors::invalid_field("start", "the first message must be a start, with the URL"));
        };
        let idle = start.idle_timeout.as_ref().map_or(IDLE, span);
        let (spec, only) = checked(start, idle)?;
        // One step at a time, so one place each is enough.
        let (steps, queue) = mpsc::channel(1);
        let (answers, answered) = mpsc::channel(1);
        let row = self.create(None, spec, CrawlKind::Driven, Some(only)).await?;
        self.live.offer_drive(row.key, DriveLink { steps: queue, answers });
        self.engine.send(crate::engine::Msg::Crawl(row.key)).await;
        let (out, responses) = mpsc::channel(RESPONSES);
        let drive = Drive {
            guard: CallerGuard::new(self.engine.clone(), row.key),
            watch: Watch::new(self, row.key, 0, true),
            api: self.clone(),
            crawl: row.key,
            steps: Some(steps),
            answered,
            out,
            idle,
            started: false,
            pending: false,
        };
        tokio::spawn(drive.run(inbound));
        Ok(Box::pin(ReceiverStream::new(responses)))
    }
}

fn checked(start: DriveStart, idle: Duration) -> Result<(CrawlSpec, crate::store::NewVisit), Status> {
    let mut found = FieldErrors::default();
    let line = VisitSpec { line_no: 1, url: start.url.clone(), ..Default::default() };
    let only = add_visits::check(line);
    if let Err(message) = &only {
        found.push("start.url", message.clone());
    }
    validate_setup(start.browser.as_ref(), start.instruments.as_ref(), None, &mut found);
    if idle < Duration::from_millis(1) || idle > MAX_IDLE {
        found.push("start.idle_timeout", format!("1 ms to {MAX_IDLE:?}"));
    }
    let (Ok(only), Ok(())) = (only, found.clone().into_result()) else { return Err(errors::invalid(&found)) };
    let spec = CrawlSpec {
        name: start.url,
        browser: start.browser,
        instruments: start.instruments,
        retry: Some(RetryPolicy { max_retries: Some(0), ..Default::default() }),
        priority: PRIORITY,
        ..Default::default()
    };
    Ok((spec, only))
}

/// How a conversation ended.
#[derive(PartialEq)]
enum Parted {
    /// The outcome was told, or why it cannot be.
    Over,
    CallerGone,
}

struct Drive {
    api: Api,
    crawl: CrawlKey,
    guard: CallerGuard,
    watch: Watch,
    /// Dropped when the driver is done: the slot finishes the attempt.
    steps: Option<mpsc::Sender<Command>>,
    answered: mpsc::Receiver<DriveAnswer>,
    out: mpsc::Sender<Result<DriveResponse, Status>>,
    idle: Duration,
    /// Whether a browser was taken.
    started: bool,
    /// Whether a command waits for its answer.
    pending: bool,
}

impl Drive {
    async fn run(mut self, mut inbound: Streaming<DriveRequest>) {
        if self.converse(&mut inbound).await == Parted::CallerGone {
            self.guard.disarm();
            // Before `steps` is dropped, which would finish the attempt in order.
            if let Err(status) = self.api.tell(self.crawl, Verb::cancel("its caller went away")).await {
                tracing::warn!("a driven visit could not be cancelled: {}", status.message());
            }
        }
    }

    async fn converse(&mut self, inbound: &mut Streaming<DriveRequest>) -> Parted {
        let mut idle = Box::pin(tokio::time::sleep(self.idle));
        let mut answers_open = true;
        loop {
            let listens = self.steps.is_some() && !self.pending;
            tokio::select! {
                event = self.watch.next() => if let Some(parted) = self.event(event, idle.as_mut()).await {
                    return parted;
                },
                answer = self.answered.recv(), if answers_open => match answer {
                    Some(answer) => {
                        self.pending = false;
                        idle.as_mut().reset(tokio::time::Instant::now() + self.idle);
                        self.say(answered(answer)).await;
                    }
                    // The attempt is over; its outcome follows.
                    None => (answers_open, self.steps) = (false, None),
                },
                request = inbound.message(), if listens => match request {
                    Ok(Some(request)) => self.request(request).await,
                    Ok(None) => {
                        // A stream that the caller reset looks like one that it ended; but then nobody listens.
                        if tokio::time::timeout(BROKEN, self.out.closed()).await.is_ok() {
                            return Parted::CallerGone;
                        }
                        self.steps = None;
                    }
                    Err(_) => return Parted::CallerGone,
                },
                () = &mut idle, if listens && self.started => {
                    let reason = format!("no command came for {:?}", self.idle);
                    let verb = Verb::Cancel { outcome: Outcome::Timeout, reason };
                    // Not closing `steps`, which would finish the attempt in order.
                    self.pending = true;
                    if let Err(status) = self.api.tell(self.crawl, verb).await {
                        self.guard.disarm();
                        self.fail(status).await;
                        return Parted::Over;
                    }
                }
                () = self.out.closed() => return Parted::CallerGone,
            }
        }
    }

    /// Some when it was the last one.
    async fn event(
        &mut self,
        event: Option<Result<CrawlEvent, Status>>,
        idle: Pin<&mut tokio::time::Sleep>,
    ) -> Option<Parted> {
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(status)) => {
                self.guard.disarm();
                self.fail(status).await;
                return Some(Parted::Over);
            }
            None => return Some(Parted::Over),
        };
        let last = matches!(event.event, Some(Event::VisitEnded(_)));
        match event.event {
            Some(Event::AttemptStarted(_)) => {
                self.started = true;
                idle.reset(tokio::time::Instant::now() + self.idle);
            }
            // Comes as the answer to its command.
            Some(Event::VisitCommand(_)) => return None,
            _ => {}
        }
        if last {
            self.guard.disarm();
        }
        self.say(Message::Event(event)).await;
        last.then_some(Parted::Over)
    }

    async fn request(&mut self, request: DriveRequest) {
        let mut errors = FieldErrors::default();
        let command = match request.message {
            Some(drive_request::Message::Command(command)) => {
                validate_commands(std::slice::from_ref(&command), "command", false, &mut errors);
                command
            }
            Some(drive_request::Message::Finish(_)) => {
                self.steps = None;
                return;
            }
            Some(drive_request::Message::Start(_)) => {
                errors.push("start", "the browser is taken already: send commands");
                Command::default()
            }
            None => {
                errors.push("message", "is not set: send a command");
                Command::default()
            }
        };
        if let Err(errors) = errors.into_result() {
            return self.say(Message::Refused(invalid(errors.to_string()))).await;
        }
        let Some(steps) = &self.steps else { return };
        // Fails when the attempt is over; then its outcome follows.
        self.pending = steps.send(command).await.is_ok();
    }

    /// A caller that is gone is noticed where the channel closes.
    async fn say(&self, message: Message) {
        let response = DriveResponse { message: Some(message), at: Some(timestamp(wall_us())) };
        let _ = self.out.send(Ok(response)).await;
    }

    async fn fail(&self, status: Status) {
        let _ = self.out.send(Err(status)).await;
    }
}

fn answered(answer: DriveAnswer) -> Message {
    match answer {
        DriveAnswer::Result(result) => Message::Result(result),
        DriveAnswer::Refused(failure) => Message::Refused(failure),
    }
}

fn invalid(message: String) -> Failure {
    Failure {
        kind: FailureKind::Invalid.into(),
        message,
        retry: RetryAdvice::Never.into(),
        fingerprint: "invalid-command".into(),
        ..Default::default()
    }
}
