//! Does what the [`Machine`] says: the one loop of an attempt.

use std::sync::Arc;
use std::time::Duration;

use sonde_proto::StreamId;
use sonde_proto::browser::v1::AttemptContext;
use sonde_proto::record::v1::{Artifact, CommandHistory, SiteVisit, record};
use sonde_proto::visit::v1::{AttemptResult, Command, CommandResult, Failure, Instruments, Phase};
use sonde_runtime::clock::{rfc3339_ms, wall_us};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::fault;
use super::machine::{Action, Event, Interrupt, Machine, Now, Plan};
use crate::engine::{Browser, CommandReport, Ending, Fate, Progress, Visit, VisitSetup};
use crate::uplink::{AttemptUplink, SealParts, Uplink};

/// How long after its own deadline an engine may still come back by itself.
const OVERTIME: Duration = Duration::from_secs(5);
/// For taking the isolation down, over all steps of the ladder.
const DISPOSE: Duration = Duration::from_secs(10);

/// What an attempt needs.
pub struct Job {
    pub context: AttemptContext,
    pub plan: Plan,
    /// URL or bare host name of the visit.
    pub site_url: String,
    pub instruments: Instruments,
    pub max_body_bytes: u64,
    pub browser: watch::Receiver<Supply>,
    pub uplink: Uplink,
    pub control: Control,
    pub reports: mpsc::Sender<Report>,
}

/// The browser an attempt waits for.
#[derive(Clone)]
pub enum Supply {
    /// It is being started; with why the last try failed.
    Coming(Option<String>),
    Ready(Arc<dyn Browser>),
}

/// How the slot steers an attempt.
pub struct Control {
    /// The first one set counts.
    pub interrupt: watch::Receiver<Option<Interrupt>>,
    /// Of interactive attempts.
    pub input: mpsc::Receiver<Input>,
}

/// From a live driver.
#[derive(Debug)]
pub enum Input {
    Step(Command),
    Finish,
}

/// What an attempt tells its slot.
#[derive(Debug)]
pub enum Report {
    Phase(Phase),
    Command(CommandResult),
    /// The attempt is sealed, or cannot be.
    Ended(AttemptResult),
    /// Its browser is free again; `None`: it never had one. The last report.
    Freed(Option<Fate>),
}

fn now() -> Now {
    Now { at: Instant::now(), wall_us: wall_us() }
}

/// Runs an attempt to its end.
pub async fn run(job: Job) {
    let Job { context, plan, site_url, instruments, max_body_bytes, browser, uplink, control, reports } = job;
    let instrumented = is_instrumented(&instruments);
    let uplink = uplink.attempt(context.visit_id, context.fence);
    let (progress, details) = Progress::new();
    let setup = |deadline| VisitSetup {
        uplink: uplink.clone(),
        instruments: instruments.clone(),
        site_url: site_url.clone(),
        max_body_bytes,
        deadline,
        progress: progress.clone(),
    };
    let (machine, mut action) = Machine::start(plan, now());
    let mut teller = Teller {
        machine,
        details,
        reports,
        uplink: uplink.clone(),
        context: &context,
        began_us: wall_us(),
        ready_at: None,
        navigated_at: None,
    };
    let mut control = control;
    let mut visit: Option<Box<dyn Visit>> = None;
    let mut fate: Option<Fate> = None;
    let mut disposal = None;
    teller.tell_phase().await;
    loop {
        let event = match action {
            Action::Prepare { deadline } => {
                let preparing = prepare(&context, &site_url, browser.clone(), setup(deadline), &mut fate);
                match teller.unless_interrupted(&mut control, &uplink, deadline + OVERTIME, preparing).await {
                    Ok(Ok(ready)) => {
                        visit = Some(ready);
                        Event::Prepared
                    }
                    // Whatever was opened on the browser by then was dropped, not taken down.
                    Ok(Err(failure)) => {
                        fate = fate.map(|_| Fate::Replace(failure.message.clone()));
                        Event::NotPrepared(failure)
                    }
                    Err(why) => {
                        fate = fate
                            .map(|_| Fate::Replace("its visit was ended while it was prepared".to_owned()));
                        Event::Interrupted(why)
                    }
                }
            }
            Action::Run { index, command, deadline } => {
                let page = visit.as_mut().expect("commands come after the preparation");
                let running = page.run(index, &command, deadline);
                match teller.unless_interrupted(&mut control, &uplink, deadline + OVERTIME, running).await {
                    Ok(report) => Event::CommandEnded(report),
                    Err(why) => {
                        if matches!(why, Interrupt::Hung | Interrupt::BrowserGone(_)) {
                            fate = Some(Fate::Replace(format!("{why:?}")));
                        }
                        Event::Interrupted(why)
                    }
                }
            }
            Action::AwaitStep { deadline } => await_step(&mut control, &uplink, deadline).await,
            Action::Flush { deadline } => {
                let (ending, failure) = teller.flush(visit.as_deref_mut(), deadline).await;
                if !instrumented && let Some(visit) = visit.take() {
                    // Nothing of it can be lost any more: the seal need not be waited for.
                    disposal = Some(tokio::spawn(visit.dispose(Instant::now() + DISPOSE)));
                }
                Event::Flushed(ending, failure)
            }
            Action::Seal { outcome, incomplete_reason, ending, deadline } => {
                let parts = SealParts {
                    outcome,
                    incomplete_reason,
                    instruments_ready_at_us: teller.ready_at,
                    navigation_start_at_us: teller.navigated_at,
                    devtools: ending.devtools,
                    sessions: ending.sessions,
                };
                match uplink.seal(parts, deadline).await {
                    Ok(seal) => Event::Sealed(seal),
                    Err(error) => {
                        tracing::error!(visit_id = context.visit_id, %error, "an attempt could not be sealed");
                        Event::NotSealed(error.failure())
                    }
                }
            }
            Action::End => break,
        };
        action = teller.apply(event).await;
    }
    let result = teller.machine.result(now());
    teller.tell(Report::Ended(result)).await;
    if let Some(visit) = visit {
        disposal = Some(tokio::spawn(visit.dispose(Instant::now() + DISPOSE)));
    }
    let fate = settled(fate, disposal).await;
    teller.tell(Report::Freed(fate)).await;
}

/// What is to become of the browser, once its visit is taken down.
async fn settled(fate: Option<Fate>, disposal: Option<JoinHandle<Fate>>) -> Option<Fate> {
    let disposed = match disposal {
        Some(task) => Some(timeout_at(Instant::now() + DISPOSE + OVERTIME, task).await),
        None => None,
    };
    match (fate, disposed) {
        (Some(Fate::Replace(why)), _) => Some(Fate::Replace(why)),
        (_, Some(Ok(Ok(fate)))) => Some(fate),
        (_, Some(_)) => Some(Fate::Replace("its last visit could not be taken down".to_owned())),
        (fate, None) => fate,
    }
}

fn is_instrumented(i: &Instruments) -> bool {
    i.http || i.cookies || i.javascript || i.navigations || i.dns || !i.save_content.is_empty()
}

/// Registers the attempt with storage and opens the visit on the browser, both at once. `fate` says what is to
/// become of the browser if this fails or is dropped.
async fn prepare(
    context: &AttemptContext,
    site_url: &str,
    browser: watch::Receiver<Supply>,
    setup: VisitSetup,
    fate: &mut Option<Fate>,
) -> Result<Box<dyn Visit>, Failure> {
    let deadline = setup.deadline;
    let row = SiteVisit {
        visit_id: context.visit_id,
        browser_id: context.browser_id,
        site_url: site_url.to_owned(),
        site_rank: context.site_rank,
        crawl_id: context.crawl_id.clone(),
        visit_no: context.visit_no,
        attempt: context.attempt,
        fence: context.fence,
        start_time: rfc3339_ms(wall_us()),
    };
    let uplink = setup.uplink.clone();
    let registering = async { uplink.open(row, deadline).await.map_err(|e| e.failure()) };
    let opening = async {
        let browser = supplied(browser, &setup.progress, deadline).await?;
        *fate = Some(Fate::Replace("a visit could not be prepared on it".to_owned()));
        setup.progress.detail("opening a visit");
        let opened = timeout_at(deadline, browser.open_visit(setup)).await;
        let late = || fault::browser("prepare", "the visit was not prepared in time");
        let visit = opened.unwrap_or_else(|_| Err(late()))?;
        *fate = Some(Fate::Keep);
        Ok(visit)
    };
    let ((), visit) = tokio::try_join!(registering, opening)?;
    Ok(visit)
}

async fn supplied(
    mut browser: watch::Receiver<Supply>,
    progress: &Progress,
    deadline: Instant,
) -> Result<Arc<dyn Browser>, Failure> {
    let waiting = async {
        loop {
            let supply = browser.borrow_and_update().clone();
            match supply {
                Supply::Ready(browser) => return Some(browser),
                Supply::Coming(None) => progress.detail("waiting for a browser"),
                Supply::Coming(Some(error)) => progress.detail(format!("waiting for a browser: {error}")),
            }
            if browser.changed().await.is_err() {
                return None;
            }
        }
    };
    let ready = timeout_at(deadline, waiting).await.ok().flatten();
    ready.ok_or_else(|| match &*browser.borrow() {
        Supply::Coming(Some(error)) => fault::launch(format!("no browser could be started: {error}")),
        _ => fault::launch("no browser was ready in time"),
    })
}

async fn await_step(control: &mut Control, uplink: &AttemptUplink, deadline: Option<Instant>) -> Event {
    let last = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(365 * 24 * 3600));
    tokio::select! {
        input = control.input.recv() => match input {
            Some(Input::Step(command)) => Event::Step(command),
            Some(Input::Finish) => Event::Finish,
            None => Event::Interrupted(Interrupt::Cancelled("the slot is gone".to_owned())),
        },
        why = interruption(&mut control.interrupt) => Event::Interrupted(why),
        error = uplink.refused() => Event::Interrupted(Interrupt::Refused(error.failure())),
        () = tokio::time::sleep_until(last) => Event::Finish,
    }
}

async fn interruption(interrupt: &mut watch::Receiver<Option<Interrupt>>) -> Interrupt {
    match interrupt.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or(Interrupt::LeaseExpired),
        Err(_) => Interrupt::Cancelled("the slot is gone".to_owned()),
    }
}

/// The machine, and everybody who is told of its moves.
struct Teller<'a> {
    machine: Machine,
    details: watch::Receiver<String>,
    reports: mpsc::Sender<Report>,
    uplink: AttemptUplink,
    context: &'a AttemptContext,
    began_us: i64,
    ready_at: Option<i64>,
    navigated_at: Option<i64>,
}

impl Teller<'_> {
    async fn tell(&self, report: Report) {
        if self.reports.send(report).await.is_err() {
            tracing::debug!("the slot ended before its attempt");
        }
    }

    async fn tell_phase(&self) {
        self.tell(Report::Phase(self.machine.phase().clone())).await;
    }

    /// Waits for `doing`, passing on what it says, unless something ends it early.
    async fn unless_interrupted<T>(
        &mut self,
        control: &mut Control,
        uplink: &AttemptUplink,
        last: Instant,
        doing: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        let mut doing = std::pin::pin!(doing);
        let mut refused = std::pin::pin!(uplink.refused());
        loop {
            tokio::select! {
                done = &mut doing => return Ok(done),
                why = interruption(&mut control.interrupt) => return Err(why),
                error = &mut refused => return Err(Interrupt::Refused(error.failure())),
                () = tokio::time::sleep_until(last) => return Err(Interrupt::Hung),
                Ok(()) = self.details.changed() => self.tell_detail().await,
            }
        }
    }

    async fn tell_detail(&mut self) {
        let detail = self.details.borrow_and_update().clone();
        self.machine.detail(detail);
        self.tell_phase().await;
    }

    /// Tells the machine, and what comes of it to the slot and to storage.
    async fn apply(&mut self, event: Event) -> Action {
        let (line, known) = (self.machine.phase().line(), self.machine.results().len());
        let report = match &event {
            Event::CommandEnded(report) => Some(report.clone()),
            _ => None,
        };
        let was = self.machine.phase().index;
        let action = self.machine.apply(event, now());
        if let Some(result) = self.machine.results().get(known).cloned() {
            self.record(&result, report, line).await;
            self.tell(Report::Command(result)).await;
        }
        let phase = self.machine.phase();
        if phase.index != was || matches!(action, Action::AwaitStep { .. }) {
            self.details.mark_unchanged();
            self.began_us = wall_us();
            self.tell_phase().await;
        }
        action
    }

    /// The crawl_history row of a command, and the rows of what it made.
    async fn record(&self, result: &CommandResult, report: Option<CommandReport>, phase: String) {
        let planned = self.machine.command(result.index);
        let (effective, failure) = report.map_or((None, None), |r| (r.effective, r.failure));
        let command = effective.as_ref().unwrap_or(planned);
        let causes = failure
            .map(|f| serde_json::Value::from_iter(std::iter::once(f.message).chain(f.causes)).to_string());
        let row = CommandHistory {
            command: command.class_name().to_owned(),
            arguments: sonde_proto::to_json("sonde.visit.v1.Command", command).to_string(),
            retry_number: i64::from(self.context.attempt) - 1,
            command_status: result.status().word().to_owned(),
            error: (!result.error.is_empty()).then(|| result.error.clone()),
            traceback: causes,
            duration: result.duration_ms,
            dtg: rfc3339_ms(self.began_us),
            command_index: result.index,
            phase,
        };
        let mut rows = vec![record::Row::CommandHistory(row)];
        rows.extend(result.artifacts.iter().map(|a| {
            record::Row::Artifact(Artifact {
                command_index: result.index,
                kind: a.kind.clone(),
                name: a.name.clone(),
                media_type: a.media_type.clone(),
                content_hash: a.sha256.clone(),
                bytes: a.bytes,
                url: (!result.final_url.is_empty()).then(|| result.final_url.clone()),
            })
        }));
        for row in rows {
            let deadline = Instant::now() + OVERTIME;
            let recorded =
                timeout_at(deadline, self.uplink.record(StreamId::SERVICE, self.began_us, row)).await;
            if !matches!(recorded, Ok(Ok(()))) {
                // The seal finds out: what is refused or stuck here is refused or stuck there.
                tracing::warn!(
                    visit_id = self.context.visit_id,
                    "a row of the command history was not taken"
                );
            }
        }
    }

    /// Every record into storage, as far as possible by the deadline.
    async fn flush(
        &mut self,
        visit: Option<&mut (dyn Visit + 'static)>,
        deadline: Instant,
    ) -> (Ending, Option<Failure>) {
        let mut ending = Ending::default();
        if let Some(visit) = visit {
            ending = match timeout_at(deadline + OVERTIME, visit.finish(deadline)).await {
                Ok(ending) => ending,
                Err(_) => Ending {
                    devtools: Some("the instruments did not end in time".to_owned()),
                    incomplete_reason: "flush_timeout".to_owned(),
                    ..Ending::default()
                },
            };
            self.ready_at = visit.instruments_ready_at_us();
            self.navigated_at = visit.navigation_start_at_us();
        }
        let Err(error) = self.uplink.flushed(deadline).await else { return (ending, None) };
        if ending.incomplete_reason.is_empty() {
            ending.incomplete_reason = format!("not_flushed: {error}");
        }
        (ending, Some(error.failure()))
    }
}
