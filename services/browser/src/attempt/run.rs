//! Does what the [`Machine`] says: the one loop of an attempt.

use std::sync::Arc;
use std::time::Duration;

use sonde_proto::browser::v1::AttemptContext;
use sonde_proto::record::v1::SiteVisit;
use sonde_proto::visit::v1::{
    AttemptResult, Command, CommandResult, CrawlHooks, Failure, Instruments, Phase, command,
};
use sonde_runtime::clock::{rfc3339_ms, wall_us};
use sonde_runtime::process::Scope;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::fault;
use super::machine::{Action, Event, Interrupt, Machine, Now, Plan};
use super::teller::Teller;
use crate::engine::{Browser, Fate, Progress, Visit, VisitSetup};
use crate::hooks::crawls::Crawls;
use crate::hooks::host::Joined;
use crate::uplink::{AttemptUplink, SealParts, Uplink};

/// How long after its own deadline an engine may still come back by itself.
pub(super) const OVERTIME: Duration = Duration::from_secs(5);
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
    /// Its crawl has hooks.
    pub crawl: Option<CrawlJob>,
}

/// The hooks that an attempt waits for.
pub struct CrawlJob {
    pub crawls: Crawls,
    pub asked: CrawlHooks,
    /// Where their processes are recorded.
    pub scope: Option<Scope>,
}

/// The browser an attempt waits for.
#[derive(Clone)]
pub enum Supply {
    /// It is being started; with why the last try failed.
    Coming(Option<String>),
    Ready(Arc<dyn Browser>),
    /// None is started any more for a while.
    Refused(Failure),
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
    /// Its browser was gone before anything was done on it: it waits for the next one.
    Again,
    /// Its browser is free again; `None`: it never had one. The last report.
    Freed(Option<Fate>),
}

pub(super) fn now() -> Now {
    Now { at: Instant::now(), wall_us: wall_us() }
}

/// Runs an attempt to its end.
pub async fn run(job: Job) {
    let Job {
        context,
        plan,
        site_url,
        instruments,
        max_body_bytes,
        browser,
        uplink,
        control,
        reports,
        crawl,
    } = job;
    let uplink = uplink.attempt(context.visit_id, context.fence);
    if instruments.http && (plan.interactive || plan.commands.iter().any(is_har)) {
        uplink.traffic().gather();
    }
    let (progress, details) = Progress::new();
    let (machine, mut action) = Machine::start(plan, now());
    let teller = Teller::new(machine, details, reports, uplink.clone(), context.clone());
    let mut running = Running {
        setup: VisitSetup {
            uplink,
            instruments,
            site_url,
            max_body_bytes,
            deadline: Instant::now(),
            progress,
        },
        context,
        control,
        browser,
        teller,
        visit: None,
        crawl,
        joined: None,
        fate: None,
        disposal: None,
    };
    running.teller.tell_phase().await;
    while let Some(event) = running.act(action).await {
        action = running.teller.apply(event).await;
    }
    running.end().await;
}

/// Browsers that a visit may meet that are gone before anything was done on them, and the one that serves it.
const BROWSERS: u32 = 3;
/// For the slot to know that a browser is gone.
const KNOWN: Duration = Duration::from_secs(2);

/// Why a visit was not opened.
enum Unready {
    Failed(Failure),
    Interrupted(Interrupt),
}

impl Unready {
    fn is_without_browser(&self) -> bool {
        match self {
            Self::Failed(failure) => failure.fingerprint == "browser:gone",
            Self::Interrupted(why) => matches!(why, Interrupt::BrowserGone(_)),
        }
    }
}

fn is_har(command: &Command) -> bool {
    matches!(command.step, Some(command::Step::Har(_)))
}

/// An attempt on its way.
struct Running {
    context: AttemptContext,
    /// Its deadline is that of the preparation.
    setup: VisitSetup,
    control: Control,
    browser: watch::Receiver<Supply>,
    teller: Teller,
    visit: Option<Box<dyn Visit>>,
    crawl: Option<CrawlJob>,
    /// Its commands see what the hooks of its crawl left.
    joined: Option<Joined>,
    /// What is to become of the browser; `None`: it never had one.
    fate: Option<Fate>,
    disposal: Option<JoinHandle<Fate>>,
}

impl Running {
    /// Does what the machine says and tells what came of it; `None` at the end.
    async fn act(&mut self, action: Action) -> Option<Event> {
        Some(match action {
            Action::Prepare { deadline } => self.prepare(deadline).await,
            Action::Run { index, command, deadline } => self.command(index, &command, deadline).await,
            Action::AwaitStep { deadline } => {
                await_step(&mut self.control, &self.setup.uplink, deadline).await
            }
            Action::Flush { deadline } => self.flush(deadline).await,
            Action::Seal { outcome, incomplete_reason, ending, deadline } => {
                let parts = SealParts {
                    outcome,
                    incomplete_reason,
                    instruments_ready_at_us: self.teller.ready_at,
                    navigation_start_at_us: self.teller.navigated_at,
                    devtools: ending.devtools,
                    sessions: ending.sessions,
                };
                self.seal(parts, deadline).await
            }
            Action::End => return None,
        })
    }

    async fn prepare(&mut self, deadline: Instant) -> Event {
        let last = deadline + OVERTIME;
        let joining = join(&self.context, self.crawl.as_ref(), &self.setup, deadline);
        let joined =
            self.teller.unless_interrupted(&mut self.control, &self.setup.uplink, last, joining).await;
        let deadline = match joined {
            Ok(Ok((joined, deadline))) => {
                self.joined = joined;
                deadline
            }
            Ok(Err(failure)) => return Event::NotPrepared(failure),
            Err(why) => return Event::Interrupted(why),
        };
        let setup = VisitSetup { deadline, ..self.setup.clone() };
        let mut browsers = 0;
        loop {
            browsers += 1;
            let unready = match self.open(setup.clone()).await {
                Ok(ready) => {
                    self.visit = Some(ready);
                    return Event::Prepared;
                }
                Err(unready) => unready,
            };
            if browsers < BROWSERS && unready.is_without_browser() && self.has_another().await {
                continue;
            }
            // Whatever was opened on the browser by then was dropped, not taken down.
            let told = match &unready {
                Unready::Failed(failure) => failure.message.clone(),
                Unready::Interrupted(_) => "its visit was ended while it was prepared".to_owned(),
            };
            self.fate = self.fate.take().map(|_| Fate::Replace(told));
            return match unready {
                Unready::Failed(failure) => Event::NotPrepared(failure),
                Unready::Interrupted(why) => Event::Interrupted(why),
            };
        }
    }

    /// Opens the visit on the browser that the slot supplies.
    async fn open(&mut self, setup: VisitSetup) -> Result<Box<dyn Visit>, Unready> {
        let last = setup.deadline + OVERTIME;
        let unregistered = self.crawl.is_none().then_some(&self.context);
        let preparing = prepare(unregistered, self.browser.clone(), setup, &mut self.fate);
        let prepared =
            self.teller.unless_interrupted(&mut self.control, &self.setup.uplink, last, preparing).await;
        prepared.map_err(Unready::Interrupted)?.map_err(Unready::Failed)
    }

    /// Whether the slot gives the attempt the next browser: nothing was done on the one that is gone.
    async fn has_another(&mut self) -> bool {
        if !self.setup.uplink.is_untouched() {
            return false;
        }
        let known = timeout(KNOWN, interruption(&mut self.control.interrupt)).await;
        if !matches!(known, Ok(Interrupt::BrowserGone(_))) {
            return false;
        }
        self.fate = None;
        self.teller.tell(Report::Again).await;
        let yielded = |why: &Option<Interrupt>| !matches!(why, Some(Interrupt::BrowserGone(_)));
        matches!(timeout(KNOWN, self.control.interrupt.wait_for(yielded)).await, Ok(Ok(_)))
    }

    async fn command(&mut self, index: u32, command: &Command, deadline: Instant) -> Event {
        let page = self.visit.as_mut().expect("commands come after the preparation");
        let running = page.run(index, command, deadline);
        let last = deadline + OVERTIME;
        match self.teller.unless_interrupted(&mut self.control, &self.setup.uplink, last, running).await {
            Ok(report) => Event::CommandEnded(report),
            Err(why) => {
                if let Some(why) = why.unfit() {
                    self.fate = Some(Fate::Replace(why));
                }
                Event::Interrupted(why)
            }
        }
    }

    async fn flush(&mut self, deadline: Instant) -> Event {
        let (ending, failure) = self.teller.flush(self.visit.as_deref_mut(), deadline).await;
        // Nothing of it can be lost any more: the seal need not be waited for.
        self.dispose();
        Event::Flushed(ending, failure)
    }

    async fn seal(&mut self, parts: SealParts, deadline: Instant) -> Event {
        match self.setup.uplink.seal(parts, deadline).await {
            Ok(seal) => Event::Sealed(seal),
            Err(error) => {
                tracing::error!(visit_id = self.context.visit_id, %error, "an attempt could not be sealed");
                Event::NotSealed(error.failure())
            }
        }
    }

    fn dispose(&mut self) {
        if let Some(visit) = self.visit.take() {
            self.disposal = Some(tokio::spawn(visit.dispose(Instant::now() + DISPOSE)));
        }
    }

    async fn end(mut self) {
        self.teller.tell_result().await;
        self.dispose();
        let fate = settled(self.fate, self.disposal).await;
        self.teller.tell(Report::Freed(fate)).await;
    }
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

/// Waits for the hooks of the attempt's crawl, once storage knows the attempt; gives the deadline of the rest of the
/// preparation, which has the same time however long that took.
async fn join(
    context: &AttemptContext,
    crawl: Option<&CrawlJob>,
    setup: &VisitSetup,
    deadline: Instant,
) -> Result<(Option<Joined>, Instant), Failure> {
    let Some(CrawlJob { crawls, asked, scope }) = crawl else { return Ok((None, deadline)) };
    let own = deadline.saturating_duration_since(Instant::now()).saturating_sub(asked.time());
    register(context, &setup.site_url, &setup.uplink, Instant::now() + own).await?;
    setup.progress.detail("waiting for the hooks of its crawl");
    let names = (context.crawl_id.as_str(), context.visit_id, setup.site_url.as_str());
    let joined = crawls.join(names, asked, scope.clone()).await?;
    Ok((Some(joined), Instant::now() + own))
}

/// Makes an attempt known to storage.
async fn register(
    context: &AttemptContext,
    site_url: &str,
    uplink: &AttemptUplink,
    deadline: Instant,
) -> Result<(), Failure> {
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
    uplink.open(row, deadline).await.map_err(|e| e.failure())
}

/// Registers the attempt with storage, where that is to be done, and opens the visit on the browser, both at once. `fate`
/// says what is to become of the browser if this fails or is dropped.
async fn prepare(
    unregistered: Option<&AttemptContext>,
    browser: watch::Receiver<Supply>,
    setup: VisitSetup,
    fate: &mut Option<Fate>,
) -> Result<Box<dyn Visit>, Failure> {
    let (deadline, uplink, site_url) = (setup.deadline, setup.uplink.clone(), setup.site_url.clone());
    let registering = async {
        match unregistered {
            Some(context) => register(context, &site_url, &uplink, deadline).await,
            None => Ok(()),
        }
    };
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
                Supply::Ready(browser) => return Some(Ok(browser)),
                Supply::Refused(failure) => return Some(Err(failure)),
                Supply::Coming(None) => progress.detail("waiting for a browser"),
                Supply::Coming(Some(error)) => progress.detail(format!("waiting for a browser: {error}")),
            }
            if browser.changed().await.is_err() {
                return None;
            }
        }
    };
    let ready = timeout_at(deadline, waiting).await.ok().flatten();
    ready.unwrap_or_else(|| {
        Err(match &*browser.borrow() {
            Supply::Coming(Some(error)) => fault::launch(format!("no browser could be started: {error}")),
            _ => fault::launch("no browser was ready in time"),
        })
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

pub(super) async fn interruption(interrupt: &mut watch::Receiver<Option<Interrupt>>) -> Interrupt {
    match interrupt.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or(Interrupt::LeaseExpired),
        Err(_) => Interrupt::Cancelled("the slot is gone".to_owned()),
    }
}
