//! The slot's one task: everything that happens to it comes through here, in order.

mod again;

use std::collections::VecDeque;
use std::time::Duration;

use sonde_proto::browser::v1::{
    Attach, Attached, AttemptEnded, CommandEnded, Opened, PhaseChanged, Rejected, RunningAttempt,
    SessionResponse, session_request, session_response,
};
use sonde_proto::visit::v1::{AttemptResult, CommandResult, Failure, Phase};
use sonde_runtime::process::within;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Status;

use super::keeper::{Keeper, News};
use super::parts::Parts;
use super::requests::{self, Checked, Want, not_now};
use super::{Message, Options, Outbox};
use crate::attempt::{self, Control, Input, Interrupt, Job, Report, Supply};
use crate::engine::Fate;

/// Steps of a live driver that may wait.
const INPUTS: usize = 64;

struct Session {
    number: u64,
    out: Outbox,
}

struct Running {
    visit_id: i64,
    fence: i64,
    phase: Phase,
    results: Vec<CommandResult>,
    lease_ends: Instant,
    interactive: bool,
    /// The present session started it or took it over.
    attached: bool,
    want: Want,
    supply: watch::Sender<Supply>,
    /// The life of the browser it got.
    life: Option<u64>,
    interrupt: watch::Sender<Option<Interrupt>>,
    input: mpsc::Sender<Input>,
}

struct Finished {
    fence: i64,
    phase: Phase,
    result: AttemptResult,
}

pub(super) struct Actor {
    options: Options,
    keeper: Keeper,
    news: mpsc::Receiver<News>,
    reports: mpsc::Receiver<(i64, Report)>,
    report_to: mpsc::Sender<(i64, Report)>,
    sessions: u64,
    session: Option<Session>,
    running: Option<Running>,
    /// The attempt whose result is there but which is still letting go of its browser.
    freeing: Option<(i64, Option<u64>, Want)>,
    finished: Option<Finished>,
    /// Waits for the end of an attempt that nobody took over.
    next: VecDeque<Checked>,
    /// The session asked for the end.
    closing: bool,
    /// The service asked for the end.
    draining: bool,
    shown: watch::Sender<Option<RunningAttempt>>,
}

impl Actor {
    pub fn new(options: Options, shown: watch::Sender<Option<RunningAttempt>>) -> Self {
        let (news_to, news) = mpsc::channel(16);
        let (report_to, reports) = mpsc::channel(64);
        let keeper = Keeper::new(Parts::of(&options, news_to), options.spec.clone());
        Self {
            options,
            keeper,
            news,
            reports,
            report_to,
            sessions: 0,
            session: None,
            running: None,
            freeing: None,
            finished: None,
            next: VecDeque::new(),
            closing: false,
            draining: false,
            shown,
        }
    }

    pub async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        loop {
            let far = Instant::now() + Duration::from_secs(3600);
            let lease = self.running.as_ref().map(|r| r.lease_ends);
            let due = [lease, self.keeper.due_at()].into_iter().flatten().min().unwrap_or(far);
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => self.drain(),
                },
                Some(news) = self.news.recv() => self.on_news(news),
                Some((visit_id, report)) = self.reports.recv() => self.on_report(visit_id, report),
                () = tokio::time::sleep_until(due) => self.on_time(),
            }
            self.tell_browser_events();
            if self.settle() {
                return;
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Open { browser_id, out, number } => {
                self.open(browser_id, out);
                // The stream may have gone meanwhile; its end will be told.
                let _ = number.send(self.sessions);
            }
            Message::Request { session, message } => {
                if self.session.as_ref().is_some_and(|s| s.number == session) {
                    self.on_request(*message);
                }
            }
            Message::Gone { session, clean } => {
                if self.session.as_ref().is_some_and(|s| s.number == session) {
                    if clean {
                        self.closing = true;
                    } else {
                        self.session = None;
                    }
                }
            }
            Message::Drain => self.drain(),
            Message::Abort => {
                self.drain();
                self.interrupt(Interrupt::Cancelled("the browser-service is stopping".to_owned()));
            }
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.next.clear();
    }

    fn open(&mut self, browser_id: u32, out: Outbox) {
        if let Some(old) = self.session.take() {
            // A caller that does not read cannot be told.
            let _ = old.out.try_send(Err(Status::aborted("another session has opened this slot")));
        }
        self.sessions += 1;
        tracing::debug!(slot = self.options.slot, browser_id, "a session opened the slot");
        self.session = Some(Session { number: self.sessions, out });
        self.closing = false;
        self.keeper.named(browser_id);
        if let Some(running) = &mut self.running {
            running.attached = false;
        }
        let finished = self.finished.as_ref().map(|f| RunningAttempt {
            slot: self.options.slot,
            visit_id: f.result.visit_id,
            fence: f.fence,
            phase: Some(f.phase.clone()),
        });
        let running = self.shown.borrow().clone().or(finished);
        let instance_id = self.options.instance_id.clone();
        self.tell(session_response::Message::Opened(Opened { instance_id, running }));
        if self.options.prestart && !self.draining {
            self.keeper.prestart();
        }
        if let Some(event) = self.keeper.started_event() {
            self.tell(session_response::Message::BrowserEvent(event));
        }
    }

    fn on_request(&mut self, message: session_request::Message) {
        use session_request::Message as M;
        match message {
            M::Open(_) => self.reject(0, not_now("open", "the session has its slot already")),
            M::Run(run) => {
                let visit_id = run.attempt.as_ref().map_or(0, |a| a.visit_id);
                if let Err(failure) = self.on_run(run) {
                    self.reject(visit_id, failure);
                }
            }
            M::Attach(attach) => self.on_attach(&attach),
            M::Cancel(cancel) => match self.mine(cancel.visit_id) {
                Ok(_) => self.interrupt(Interrupt::Cancelled(cancel.reason)),
                Err(failure) => self.reject(cancel.visit_id, failure),
            },
            M::ExtendLease(extend) => match self.mine(extend.visit_id) {
                Ok(running) => running.lease_ends = Instant::now() + super::lease(extend.lease),
                Err(failure) => self.reject(extend.visit_id, failure),
            },
            M::Step(step) => {
                let visit_id = step.visit_id;
                let input = requests::check_step(step.command).map(Input::Step);
                self.on_input(visit_id, input);
            }
            M::Finish(finish) => self.on_input(finish.visit_id, Ok(Input::Finish)),
            M::Close(_) => self.closing = true,
        }
    }

    fn on_run(&mut self, run: sonde_proto::browser::v1::Run) -> Result<(), Failure> {
        if self.draining || self.closing {
            return Err(not_now("draining", "the slot is draining; run it on another"));
        }
        let checked = requests::check(run)?;
        let unattached = self.running.as_ref().is_some_and(|r| !r.attached);
        if (self.running.is_some() && !unattached) || !self.next.is_empty() {
            return Err(not_now("busy", "an attempt runs in this slot already"));
        }
        let c = &checked.context;
        self.options.fences.admit(&c.crawl_id, c.visit_no, c.fence).map_err(|highest| {
            let message = format!("fence {} is stale: {highest} was seen for this visit", c.fence);
            requests::stale(message)
        })?;
        self.finished = None;
        if unattached {
            self.interrupt(Interrupt::Cancelled("another attempt was started in its slot".to_owned()));
            self.next.push_back(checked);
        } else {
            self.start(checked);
        }
        Ok(())
    }

    fn start(&mut self, checked: Checked) {
        let Checked { context, plan, site_url, browser, instruments, max_body_bytes, .. } = checked;
        let Checked { fresh_browser, lease, crawl_hooks, .. } = checked;
        let want = Want::of(&context, &browser, &instruments, fresh_browser);
        let (supply, supplied) = watch::channel(Supply::Coming(None));
        let (interrupt, interrupted) = watch::channel(None);
        let (input, inputs) = mpsc::channel(INPUTS);
        let (reports, mut from_attempt) = mpsc::channel(64);
        self.running = Some(Running {
            visit_id: context.visit_id,
            fence: context.fence,
            phase: Phase::default(),
            results: Vec::new(),
            lease_ends: Instant::now() + lease,
            interactive: plan.interactive,
            attached: true,
            want,
            supply,
            life: None,
            interrupt,
            input,
        });
        let (visit_id, to_slot) = (context.visit_id, self.report_to.clone());
        let job = Job {
            context,
            plan,
            site_url,
            instruments,
            max_body_bytes,
            browser: supplied,
            uplink: self.options.uplink.clone(),
            control: Control { interrupt: interrupted, input: inputs },
            reports,
            crawl: self.options.crawl(crawl_hooks),
        };
        let scope = self.options.of_attempt(&job.context);
        let attempt = self.options.tasks.spawn(within(scope, attempt::run(job)));
        self.options.tasks.spawn(async move {
            let mut freed = false;
            while let Some(report) = from_attempt.recv().await {
                freed |= matches!(report, Report::Freed(_));
                if to_slot.send((visit_id, report)).await.is_err() {
                    return;
                }
            }
            // Only a panic ends an attempt without its last report.
            if let Err(error) = attempt.await {
                tracing::error!(visit_id, %error, "an attempt's task failed");
            }
            if !freed {
                let lost = Report::Freed(Some(Fate::Replace("its attempt's task failed".to_owned())));
                let _ = to_slot.send((visit_id, lost)).await;
            }
        });
        self.show();
        self.provide();
    }

    /// Gives the waiting attempt its browser, as soon as one fits.
    fn provide(&mut self) {
        let Some(running) = self.running.as_mut().filter(|r| r.life.is_none()) else { return };
        if self.freeing.as_ref().is_some_and(|(_, life, _)| *life == Some(self.keeper.life())) {
            return;
        }
        match self.keeper.take(&running.want) {
            Some(browser) => {
                running.life = Some(self.keeper.life());
                self.options.serves(browser.as_ref(), running.visit_id);
                running.supply.send_replace(Supply::Ready(browser));
            }
            None => {
                running.supply.send_replace(self.keeper.absence());
            }
        }
    }

    fn on_attach(&mut self, attach: &Attach) {
        let Attach { visit_id, fence, lease } = attach;
        if let Some(running) = self.running.as_mut().filter(|r| r.visit_id == *visit_id && r.fence == *fence)
        {
            running.attached = true;
            running.lease_ends = Instant::now() + super::lease(*lease);
            let attached = Attached {
                visit_id: *visit_id,
                phase: Some(running.phase.clone()),
                commands: running.results.clone(),
            };
            return self.tell(session_response::Message::Attached(attached));
        }
        let finished = self.finished.as_ref();
        if let Some(f) = finished.filter(|f| f.result.visit_id == *visit_id && f.fence == *fence) {
            let (phase, result) = (f.phase.clone(), f.result.clone());
            let commands = result.commands.clone();
            let attached = Attached { visit_id: *visit_id, phase: Some(phase), commands };
            self.tell(session_response::Message::Attached(attached));
            return self.tell(session_response::Message::AttemptEnded(AttemptEnded { result: Some(result) }));
        }
        self.reject(*visit_id, not_now("unknown", "no attempt with this id and fence is in this slot"));
    }

    fn on_input(&mut self, visit_id: i64, input: Result<Input, Failure>) {
        let given = input.and_then(|input| {
            let running = self.mine(visit_id)?;
            if !running.interactive {
                return Err(crate::attempt::fault::invalid("step", "the attempt is not interactive"));
            }
            let full = |_| not_now("steps", format!("{INPUTS} steps are waiting already"));
            running.input.try_send(input).map_err(full)
        });
        if let Err(failure) = given {
            self.reject(visit_id, failure);
        }
    }

    fn mine(&mut self, visit_id: i64) -> Result<&mut Running, Failure> {
        let running = self.running.as_mut().filter(|r| r.visit_id == visit_id);
        running.ok_or_else(|| not_now("unknown", "no attempt with this id runs in this slot"))
    }

    fn on_news(&mut self, news: News) {
        if let News::Died { life, why } = &news
            && self.running.as_ref().is_some_and(|r| r.life == Some(*life))
        {
            self.interrupt(Interrupt::BrowserGone(why.clone()));
        }
        if let News::Heavy { life, bytes } = &news
            && self.running.as_ref().is_some_and(|r| r.life == Some(*life))
            && let Some(why) = self.keeper.too_heavy(*life, *bytes)
        {
            self.interrupt(Interrupt::TooHeavy(why));
        }
        self.keeper.on_news(news);
        if self.running.is_none() && self.freeing.is_none() {
            self.keeper.idle();
        }
        self.provide();
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if let Some(running) = self.running.as_mut().filter(|r| r.lease_ends <= now) {
            tracing::warn!(visit_id = running.visit_id, "the lease of an attempt ended");
            // Its end may take a while; the lease is told once.
            running.lease_ends = now + Duration::from_secs(24 * 3600);
            self.interrupt(Interrupt::LeaseExpired);
        }
        self.keeper.tick(now);
        self.provide();
    }

    fn on_report(&mut self, visit_id: i64, report: Report) {
        match report {
            Report::Phase(phase) => {
                if let Ok(running) = self.mine(visit_id) {
                    running.phase = phase.clone();
                    self.show();
                }
                self.tell(session_response::Message::PhaseChanged(PhaseChanged {
                    visit_id,
                    phase: Some(phase),
                }));
            }
            Report::Command(result) => {
                if let Ok(running) = self.mine(visit_id) {
                    running.results.push(result.clone());
                }
                self.tell(session_response::Message::CommandEnded(CommandEnded {
                    visit_id,
                    result: Some(result),
                }));
            }
            Report::Ended(result) => {
                let Some(ended) = self.running.take_if(|r| r.visit_id == visit_id) else { return };
                self.freeing = Some((visit_id, ended.life, ended.want));
                self.finished =
                    Some(Finished { fence: ended.fence, phase: ended.phase, result: result.clone() });
                self.show();
                self.tell(session_response::Message::AttemptEnded(AttemptEnded { result: Some(result) }));
            }
            Report::Freed(fate) => self.freed(visit_id, fate),
            Report::Again => self.another(visit_id),
        }
    }

    fn freed(&mut self, visit_id: i64, fate: Option<Fate>) {
        // Without a result there was a panic: the caller learns it by the lease, or by what GetInfo shows.
        let panicked = self.running.take_if(|r| r.visit_id == visit_id);
        let freeing = self.freeing.take_if(|(id, ..)| *id == visit_id).map(|(_, life, want)| (life, want));
        let Some((Some(life), want)) = freeing.or_else(|| panicked.map(|r| (r.life, r.want))) else {
            return self.show();
        };
        let proved = fate == Some(Fate::Keep);
        let worn = match fate {
            Some(Fate::Replace(why)) => Some(why),
            Some(Fate::Keep) | None if want.fresh => Some("it was for one visit only".to_owned()),
            Some(Fate::Keep) | None => None,
        };
        self.keeper.give_back(life, worn.as_deref(), proved);
        self.show();
        self.provide();
    }

    /// What is due when nothing else is; says whether the slot has ended.
    fn settle(&mut self) -> bool {
        if self.running.is_none()
            && let Some(next) = self.next.pop_front()
        {
            self.start(next);
        }
        if self.running.is_some() || self.freeing.is_some() {
            return false;
        }
        if self.draining || self.closing {
            self.keeper.close("the slot was drained");
            self.tell_browser_events();
            self.session = None;
            self.closing = false;
        }
        self.draining
    }

    fn show(&self) {
        let slot = self.options.slot;
        self.shown.send_replace(self.running.as_ref().map(|r| RunningAttempt {
            slot,
            visit_id: r.visit_id,
            fence: r.fence,
            phase: Some(r.phase.clone()),
        }));
    }

    fn tell_browser_events(&mut self) {
        for event in std::mem::take(&mut self.keeper.events) {
            self.tell(session_response::Message::BrowserEvent(event));
        }
    }

    fn reject(&mut self, visit_id: i64, failure: Failure) {
        self.tell(session_response::Message::Rejected(Rejected { visit_id, failure: Some(failure) }));
    }

    fn tell(&mut self, message: session_response::Message) {
        let Some(session) = &self.session else { return };
        if let Err(error) = session.out.try_send(Ok(SessionResponse { message: Some(message) })) {
            // Attach tells all of it again.
            if matches!(error, TrySendError::Full(_)) {
                tracing::warn!(slot = self.options.slot, "a session does not read; it is dropped");
            }
            self.session = None;
        }
    }
}
