//! One slot: a session that is opened again whenever it breaks, and the attempt that runs there.
//!
//! A broken session leaves the attempt alone until its lease ends (monotonic time). It is lost when the service does
//! not know it any more, is another instance, or the lease ends first.
use std::time::Duration;

use sonde_proto::{
    browser::v1::{
        Attach, AttemptEnded, BrowserEvent, BrowserEventKind, Cancel, ExtendLease, Finish, Opened, Rejected,
        Step, session_request::Message as Request, session_response::Message as Response,
    },
    coordinator::v1::{CrawlEvent, FleetNotice, VisitCommand, VisitPhase, crawl_event::Event},
    visit::v1::{AttemptResult, Failure, FailureKind, Outcome},
};
use sonde_runtime::clock::{Mono, wall_us};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    Deps, Place, SlotCommand,
    attempt::{Current, Progress},
    service::RETRY,
    session::Session,
};
use crate::{
    engine::{Msg, Running, lost_failure},
    live::DriveAnswer,
    store::SlotRow,
    time::{timestamp, wire},
};

const CLOSE: Duration = Duration::from_secs(5);

/// Why a session is over.
enum Exit {
    Stop,
    Close,
    Broken(String),
}

pub(super) struct SlotTask {
    deps: Deps,
    place: Place,
    slot: u32,
    browser_id: u32,
    commands: mpsc::Receiver<SlotCommand>,
    current: Option<Current>,
    instance: String,
    /// A start of the browser that the engine was too busy to hear of.
    unheard: Option<BrowserEvent>,
    down: Option<String>,
}

impl SlotTask {
    pub fn new(
        deps: Deps,
        place: Place,
        row: &SlotRow,
        commands: mpsc::Receiver<SlotCommand>,
        resume: Option<(Running, Option<String>)>,
    ) -> Self {
        let current = resume.map(|(running, cancel)| Current::recovered(running, cancel, deps.lease));
        let (slot, browser_id) = (row.slot, row.browser_id);
        Self {
            deps,
            place,
            slot,
            browser_id,
            commands,
            current,
            instance: String::new(),
            unheard: None,
            down: None,
        }
    }

    pub async fn run(mut self) {
        let mut failures = 0;
        loop {
            let opening = Session::open(self.place.channel.clone(), self.slot, self.browser_id);
            let error = match self.meanwhile(opening).await {
                None => return,
                Some(Err(error)) => error,
                Some(Ok((session, opened))) => {
                    failures = 0;
                    match self.serve(session, opened).await {
                        Exit::Stop | Exit::Close => return,
                        Exit::Broken(error) => error,
                    }
                }
            };
            self.note_down(error).await;
            let pause = tokio::time::sleep(RETRY.next(failures, rand::random()));
            failures = failures.saturating_add(1);
            if self.meanwhile(pause).await.is_none() {
                return;
            }
        }
    }

    /// Waits for `work` without a session; None when the slot is to stop.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let (stop, close) = (self.deps.stop.clone(), self.deps.close.clone());
        loop {
            let left = self.current.as_ref().map(|c| c.deadline.remaining(Mono::now()));
            tokio::select! {
                done = &mut work => return Some(done),
                () = stop.cancelled() => return None,
                () = close.cancelled(), if self.current.is_none() => return None,
                command = self.commands.recv() => match command {
                    Some(SlotCommand::Run { assigned, drive }) => {
                        self.current = Some(Current::new(*assigned, drive, self.deps.lease));
                    }
                    Some(SlotCommand::Cancel { visit_id, reason }) => self.note_cancel(visit_id, reason),
                    None => return None,
                },
                () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {
                    let message = format!("browser-service {} was not reached before the lease ended", self.place.endpoint);
                    self.lose("lease_expired", message, "lease-expired").await;
                }
            }
        }
    }

    async fn note_down(&mut self, error: String) {
        if self.down.as_ref() != Some(&error) {
            tracing::warn!(endpoint = self.place.endpoint, slot = self.slot, error, "no session");
            self.notice("service_lost", &error);
            self.down = Some(error.clone());
            self.deps.engine.send(Msg::SlotDown { browser_id: self.browser_id, error }).await;
        }
    }

    fn note_cancel(&mut self, visit_id: i64, reason: String) {
        if let Some(current) = self.current.as_mut().filter(|c| c.running.visit_id == visit_id) {
            current.cancel = Some(reason);
        }
    }

    async fn lose(&mut self, reason: &'static str, message: String, fingerprint: &str) {
        let Some(current) = self.current.take() else { return };
        let lost = Msg::Lost {
            browser_id: self.browser_id,
            visit_id: current.running.visit_id,
            reason,
            failure: lost_failure(message, fingerprint),
        };
        self.deps.engine.send(lost).await;
    }

    async fn serve(&mut self, mut session: Session, opened: Opened) -> Exit {
        if let Err(error) = self.enter(&session, opened).await {
            return Exit::Broken(error);
        }
        let mut extend = tokio::time::interval(self.deps.lease / 3);
        extend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stop, close) = (self.deps.stop.clone(), self.deps.close.clone());
        loop {
            let left = self.current.as_ref().map(|c| c.deadline.remaining(Mono::now()));
            let steps = self.current.as_mut().and_then(Current::steps);
            // In this order: leases before all, and a cancellation before a driver's goodbye.
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => return Exit::Stop,
                () = close.cancelled(), if left.is_none() => {
                    session.close(CLOSE).await;
                    return Exit::Close;
                }
                _ = extend.tick() => self.extend(&session),
                command = self.commands.recv() => match command {
                    Some(command) => self.command(&session, command),
                    None => return Exit::Stop,
                },
                () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {
                    let message = "the attempt went on past all of its deadlines".to_owned();
                    self.lose("lease_expired", message, "attempt-overdue").await;
                    Err("its attempt was overdue: the session is opened anew".into())
                }
                step = next_step(steps) => self.step(&session, step),
                response = session.next() => match response {
                    Ok(response) => self.take(&session, response).await,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = done {
                return Exit::Broken(error);
            }
        }
    }

    /// The slot is ours: takes over what runs, or starts what waited for the session.
    async fn enter(&mut self, session: &Session, opened: Opened) -> Result<(), String> {
        if self.instance != opened.instance_id {
            self.place.changed.notify_one();
            self.instance.clone_from(&opened.instance_id);
        }
        if self.down.take().is_some() {
            self.notice("service_found", "the browser-service answers again");
        }
        match &self.current {
            Some(current) if current.progress == Progress::Unsent => self.send_run(session)?,
            Some(current) if current.instance != opened.instance_id => {
                let message = format!("browser-service {} restarted", self.place.endpoint);
                self.lose("lost", message, "service-restarted").await;
            }
            Some(_) => self.attach(session)?,
            None => {}
        }
        let up = Msg::SlotUp { browser_id: self.browser_id, instance_id: opened.instance_id };
        self.deps.engine.send(up).await;
        Ok(())
    }

    fn send_run(&mut self, session: &Session) -> Result<(), String> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let Some(run) = current.begin(&self.instance, self.deps.lease) else { return Ok(()) };
        session.send(Request::Run(run))?;
        self.send_cancel(session)
    }

    fn attach(&mut self, session: &Session) -> Result<(), String> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.progress = Progress::Attaching;
        let (visit_id, fence) = (current.running.visit_id, current.running.fence);
        session.send(Request::Attach(Attach { visit_id, fence, lease: Some(wire(self.deps.lease)) }))?;
        current.deadline = Mono::now() + self.deps.lease;
        Ok(())
    }

    fn send_cancel(&self, session: &Session) -> Result<(), String> {
        let Some(current) = &self.current else { return Ok(()) };
        let Some(reason) = current.cancel.clone() else { return Ok(()) };
        session.send(Request::Cancel(Cancel { visit_id: current.running.visit_id, reason }))
    }

    fn extend(&mut self, session: &Session) -> Result<(), String> {
        if let Some(event) = self.unheard.take() {
            self.tell_started(event);
        }
        let lease = self.deps.lease;
        let Some(current) = self.current.as_mut().filter(|c| c.progress != Progress::Unsent) else {
            return Ok(());
        };
        let now = Mono::now();
        // Past its time it gets no more: its lease ends, and with it the attempt.
        if current.overdue.is_some_and(|at| at <= now) {
            return Ok(());
        }
        let visit_id = current.running.visit_id;
        session.send(Request::ExtendLease(ExtendLease { visit_id, lease: Some(wire(lease)) }))?;
        current.deadline = now + lease;
        Ok(())
    }

    fn command(&mut self, session: &Session, command: SlotCommand) -> Result<(), String> {
        match command {
            SlotCommand::Run { assigned, drive } => {
                self.current = Some(Current::new(*assigned, drive, self.deps.lease));
                self.send_run(session)
            }
            SlotCommand::Cancel { visit_id, reason } => {
                self.note_cancel(visit_id, reason);
                match &self.current {
                    Some(current) if current.running.visit_id == visit_id => self.send_cancel(session),
                    _ => Ok(()),
                }
            }
        }
    }

    /// The driver's next command, or its goodbye.
    fn step(
        &mut self,
        session: &Session,
        step: Option<sonde_proto::visit::v1::Command>,
    ) -> Result<(), String> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let visit_id = current.running.visit_id;
        match step {
            Some(command) => {
                current.step_pending = true;
                session.send(Request::Step(Step { visit_id, command: Some(command) }))
            }
            None => {
                current.finishing = true;
                session.send(Request::Finish(Finish { visit_id }))
            }
        }
    }

    async fn take(&mut self, session: &Session, response: Response) -> Result<(), String> {
        let ours = |visit_id: i64, current: &Option<Current>| {
            current.as_ref().is_some_and(|c| c.running.visit_id == visit_id)
        };
        match response {
            Response::Attached(attached) if ours(attached.visit_id, &self.current) => {
                self.accepted();
                if let Some(phase) = attached.phase {
                    self.deps.live.set_phase(attached.visit_id, phase);
                }
                self.send_cancel(session)?;
            }
            Response::PhaseChanged(changed) if ours(changed.visit_id, &self.current) => {
                self.accepted();
                let Some(phase) = changed.phase else { return Ok(()) };
                self.deps.live.set_phase(changed.visit_id, phase.clone());
                self.publish(|r| {
                    Event::VisitPhase(VisitPhase {
                        visit_no: r.visit_no,
                        url: r.url.clone(),
                        visit_id: r.visit_id,
                        phase: Some(phase),
                    })
                });
            }
            Response::CommandEnded(ended) if ours(ended.visit_id, &self.current) => {
                self.accepted();
                if let Some(result) = &ended.result {
                    self.answer(DriveAnswer::Result(result.clone())).await;
                }
                self.publish(|r| {
                    Event::VisitCommand(VisitCommand {
                        visit_no: r.visit_no,
                        visit_id: r.visit_id,
                        result: ended.result,
                    })
                });
            }
            Response::AttemptEnded(AttemptEnded { result: Some(result) })
                if ours(result.visit_id, &self.current) =>
            {
                self.current = None;
                self.deps.engine.send(Msg::Ended { browser_id: self.browser_id, result }).await;
            }
            Response::BrowserEvent(event) => self.browser_event(event),
            Response::Rejected(rejected) => return self.rejected(session, rejected).await,
            // Of an attempt that is not ours any more.
            _ => {}
        }
        Ok(())
    }

    fn accepted(&mut self) {
        if let Some(current) = &mut self.current {
            current.progress = Progress::Accepted;
        }
    }

    async fn answer(&mut self, answer: DriveAnswer) {
        let Some(current) = self.current.as_mut().filter(|c| c.step_pending) else { return };
        current.step_pending = false;
        if let Some(drive) = &current.drive {
            // The driver takes one answer for each command it sent; one that left needs none.
            let _ = drive.answers.try_send(answer);
        }
    }

    async fn rejected(&mut self, session: &Session, rejected: Rejected) -> Result<(), String> {
        let failure = rejected.failure.unwrap_or_default();
        let Some(current) = self.current.as_ref().filter(|c| c.running.visit_id == rejected.visit_id) else {
            tracing::debug!(slot = self.slot, "rejected: {}", failure.message);
            return Ok(());
        };
        match current.progress {
            Progress::Accepted if current.step_pending => self.answer(DriveAnswer::Refused(failure)).await,
            // It says that it does not run what it ran: it is asked once more, for the result.
            Progress::Accepted => return self.attach(session),
            Progress::Sent if failure.kind() == FailureKind::Invalid => {
                let result = refused(rejected.visit_id, failure);
                self.current = None;
                self.deps.engine.send(Msg::Ended { browser_id: self.browser_id, result }).await;
            }
            _ => {
                let message =
                    format!("browser-service {} does not run it: {}", self.place.endpoint, failure.message);
                self.lose("lost", message, "attempt-unknown").await;
            }
        }
        Ok(())
    }

    fn browser_event(&mut self, event: BrowserEvent) {
        self.notice(event.kind().word(), &event.detail);
        match event.kind() {
            BrowserEventKind::Started => self.tell_started(event),
            _ => {
                // Shown as the slot's last error only: one that the engine is too busy for may be missed.
                let _ = self.deps.engine.try_send(Msg::BrowserEvent { browser_id: self.browser_id, event });
            }
        }
    }

    /// Without waiting: a busy engine must not keep leases from being extended.
    fn tell_started(&mut self, event: BrowserEvent) {
        let told = self.deps.engine.try_send(Msg::BrowserEvent { browser_id: self.browser_id, event });
        if let Err(Msg::BrowserEvent { event, .. }) = told.map_err(|msg| *msg) {
            self.unheard = Some(event);
        }
    }

    fn notice(&self, kind: &str, detail: &str) {
        self.publish(|_| {
            Event::FleetNotice(FleetNotice {
                browser_id: self.browser_id,
                kind: kind.into(),
                detail: detail.into(),
            })
        });
    }

    /// A live event of the crawl that the slot serves, if anybody watches it.
    fn publish(&self, event: impl FnOnce(&Running) -> Event) {
        let Some(running) = self.current.as_ref().map(|c| &c.running) else { return };
        if self.deps.live.hub.is_watched(running.crawl) {
            let event = CrawlEvent {
                sequence: 0,
                crawl_id: running.crawl_id.clone(),
                at: Some(timestamp(wall_us())),
                event: Some(event(running)),
            };
            self.deps.live.hub.publish(running.crawl, &event);
        }
    }
}

async fn next_step(
    steps: Option<&mut mpsc::Receiver<sonde_proto::visit::v1::Command>>,
) -> Option<sonde_proto::visit::v1::Command> {
    match steps {
        Some(steps) => steps.recv().await,
        None => std::future::pending().await,
    }
}

/// A run that the service will never take.
fn refused(visit_id: i64, failure: Failure) -> AttemptResult {
    let now = Some(timestamp(wall_us()));
    AttemptResult {
        visit_id,
        outcome: Outcome::Error.into(),
        failure: Some(failure),
        started_at: now,
        ended_at: now,
        ..Default::default()
    }
}
