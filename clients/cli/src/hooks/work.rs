//! What a crawl of hooks does: the hooks before it, and those of each page.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sonde_browser::engine::chromium::{HookBrowser, HookTab};
use sonde_browser::hooks::chrome::{Navigation, Session};
use sonde_browser::hooks::config::{ConfigError, Given};
use sonde_browser::hooks::crawl::Number;
use sonde_browser::hooks::discovery::Found;
use sonde_browser::hooks::drive::{Job, Shared, Work};
use sonde_browser::hooks::env::{Host, Page, Places};
use sonde_browser::hooks::event::Event;
use sonde_browser::hooks::names::Family;
use sonde_browser::hooks::plan::{Planned, Sources, plan};
use sonde_browser::hooks::record::Status;
use sonde_browser::hooks::runner::{self, Control, Hold, Options};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::exit::CliError;

/// Events of one page that wait.
const EVENTS: usize = 256;

/// What a run is made of.
pub struct Parts {
    pub found: Found,
    pub wanted: Vec<String>,
    pub given: Given,
    pub host: Host,
    pub timeout: Duration,
    pub options: Options,
    pub out: PathBuf,
    /// The directories of plugins are those of the one page.
    pub one_page: bool,
    /// Statuses of an earlier run, of which only failed and skipped hooks run again.
    pub earlier: Option<BTreeMap<(String, String), String>>,
    pub shared: Shared,
    pub events: mpsc::Sender<Event>,
}

/// How a run ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ended {
    pub aborted: bool,
    pub failed: bool,
}

#[derive(Default)]
struct State {
    ended: Ended,
    problem: Option<CliError>,
    /// The crawl's own hooks that run in the background.
    crawl: Option<(Hold, JoinHandle<()>)>,
}

struct Inner {
    parts: Parts,
    crawl_id: String,
    inherited: BTreeMap<String, String>,
    browser: Option<Arc<HookBrowser>>,
    state: Mutex<State>,
}

/// The hooks of a crawl. Cheap to clone.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

impl Parts {
    fn plan(
        &self,
        family: Family,
        page: &Page,
        places: &Places,
        inherited: &BTreeMap<String, String>,
    ) -> Result<Vec<Planned>, ConfigError> {
        let sources = Sources {
            found: &self.found,
            wanted: &self.wanted,
            given: &self.given,
            host: &self.host,
            inherited,
            timeout: self.timeout,
        };
        let mut hooks = plan(&sources, family, page, places)?;
        if let Some(earlier) = &self.earlier {
            let again = |hook: &Planned| {
                let status = earlier.get(&(hook.plugin.clone(), hook.name.file.clone()));
                status.is_none_or(|status| status == "failed" || status == "skipped")
            };
            // The browser is a new one: what brings it to its page runs again.
            hooks.retain(|hook| again(hook) || hook.plugin == "chrome");
        }
        Ok(hooks)
    }

    /// Whether there is anything to run.
    pub fn check(&self, url: &str) -> Result<(), String> {
        let page =
            Page { url: url.to_owned(), snapshot_id: String::new(), crawl_id: String::new(), depth: 0 };
        let places = Places::under(&self.out);
        let mut all = 0;
        for family in [Family::Crawl, Family::Snapshot] {
            all += self.plan(family, &page, &places, &BTreeMap::new()).map_err(|e| e.to_string())?.len();
        }
        let nothing = match self.earlier {
            Some(_) => "nothing failed or was skipped before",
            None => "no hook is enabled; `sonde hooks list` says why",
        };
        if all == 0 { Err(nothing.to_owned()) } else { Ok(()) }
    }

    fn places(&self, snapshot_id: &str) -> Places {
        let places = Places::under(&self.out);
        if self.one_page {
            return places;
        }
        let (crawl_dir, snap_dir) = (self.out.join("crawl"), self.out.join("snapshots").join(snapshot_id));
        Places { crawl_dir, snap_dir, ..places }
    }
}

impl Hooks {
    pub fn new(parts: Parts, browser: Option<Arc<HookBrowser>>) -> Self {
        let inherited = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let crawl_id = uuid::Uuid::now_v7().to_string();
        Self(Arc::new(Inner { parts, crawl_id, inherited, browser, state: Mutex::default() }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the browser; says how it all went, once everything is over.
    pub async fn end(self, grace: Duration) -> Result<Ended, CliError> {
        let inner = Arc::try_unwrap(self.0);
        let Ok(inner) = inner else {
            return Err(CliError::Service("hooks still run after the end of the crawl".to_owned()));
        };
        if let Some(browser) = inner.browser.and_then(Arc::into_inner) {
            browser.close(grace).await;
        }
        let state = inner.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.problem.map_or(Ok(state.ended), Err)
    }

    fn page_of(&self, url: &str, depth: u8) -> Page {
        let snapshot_id = uuid::Uuid::now_v7().to_string();
        Page { url: url.to_owned(), snapshot_id, crawl_id: self.0.crawl_id.clone(), depth: depth.into() }
    }

    /// Notes a problem of ours; it ends the command once what runs has ended.
    fn note(&self, result: Result<(), CliError>) {
        if let Err(problem) = result {
            self.state().problem.get_or_insert(problem);
        }
    }

    async fn crawl_hooks(self, controls: mpsc::Receiver<Control>) -> Result<(), CliError> {
        let first = self.0.parts.shared.lock().snapshots().first().map(|s| s.url.clone()).unwrap_or_default();
        let page = self.page_of(&first, 0);
        let mut places = self.0.parts.places(&page.snapshot_id);
        places.snap_dir.clone_from(&places.crawl_dir);
        let hooks = self.plan(Family::Crawl, &page, &places)?;
        if hooks.is_empty() {
            return Ok(());
        }
        let hold = Hold::default();
        let held = hold.clone();
        let running = self.clone();
        let task = tokio::spawn(async move {
            let done = running.run(hooks, page, places, Some(held.clone()), None, controls).await;
            running.note(done);
            held.reached.cancel();
        });
        hold.reached.cancelled().await;
        self.state().crawl = Some((hold, task));
        Ok(())
    }

    async fn page_hooks(self, job: Job, controls: mpsc::Receiver<Control>) -> Result<(), CliError> {
        let page = self.page_of(&job.url, job.depth);
        let places = self.0.parts.places(&page.snapshot_id);
        let hooks = self.plan(Family::Snapshot, &page, &places)?;
        self.run(hooks, page, places, None, Some(job.number), controls).await
    }

    fn plan(&self, family: Family, page: &Page, places: &Places) -> Result<Vec<Planned>, CliError> {
        let planned = self.0.parts.plan(family, page, places, &self.0.inherited);
        planned.map_err(|e| CliError::Input(e.to_string()))
    }

    async fn run(
        &self,
        hooks: Vec<Planned>,
        page: Page,
        places: Places,
        hold: Option<Hold>,
        number: Option<Number>,
        controls: mpsc::Receiver<Control>,
    ) -> Result<(), CliError> {
        let mut options = Options { hold, ..self.0.parts.options.clone() };
        let lent = match &self.0.browser {
            Some(browser) => Some(Loan::open(browser.clone(), &page, &places, &hooks).await?),
            None => None,
        };
        if let Some(loan) = &lent {
            options.provider = Some(Arc::new(loan.session.clone()));
        }
        let (events_end, events) = mpsc::channel(EVENTS);
        let passing = tokio::spawn(self.clone().pass_on(events, number, places.clone()));
        let ids = (page.url.clone(), page.snapshot_id.clone());
        let report = runner::run(hooks, ids, options, controls, events_end).await;
        passing.await.map_err(|e| CliError::Service(format!("the events of hooks were lost: {e}")))?;
        {
            let mut state = self.state();
            state.ended.aborted |= report.aborted;
            state.ended.failed |= report.results.iter().any(|r| r.status == Status::Failed);
        }
        match lent {
            Some(loan) => loan.close(&places).await,
            None => Ok(()),
        }
    }

    async fn pass_on(self, mut events: mpsc::Receiver<Event>, number: Option<Number>, places: Places) {
        while let Some(mut event) = events.recv().await {
            if let Some(number) = number {
                let shared = &self.0.parts.shared;
                shared.take(number, &mut event, |result| places.snap_dir.join(&result.plugin));
            }
            // The writer has failed: its own error ends the command.
            let _ = self.0.parts.events.send(event).await;
        }
    }
}

impl Work for Hooks {
    fn set_up(&self, controls: mpsc::Receiver<Control>) -> BoxFuture<'static, ()> {
        let hooks = self.clone();
        Box::pin(async move {
            let done = hooks.clone().crawl_hooks(controls).await;
            hooks.note(done);
        })
    }

    fn page(&self, job: Job, controls: mpsc::Receiver<Control>) -> BoxFuture<'static, ()> {
        let hooks = self.clone();
        Box::pin(async move {
            let done = hooks.clone().page_hooks(job, controls).await;
            hooks.note(done);
        })
    }

    fn clean_up(&self) -> BoxFuture<'static, ()> {
        let crawl = self.state().crawl.take();
        Box::pin(async move {
            let Some((hold, task)) = crawl else { return };
            hold.release.cancel();
            if let Err(error) = task.await {
                tracing::error!(%error, "the hooks of the crawl were lost");
            }
        })
    }
}

/// A tab that hooks may use for a while.
struct Loan {
    browser: Arc<HookBrowser>,
    tab: Arc<HookTab>,
    session: Session,
    driving: JoinHandle<()>,
}

impl Loan {
    async fn open(
        browser: Arc<HookBrowser>,
        page: &Page,
        places: &Places,
        hooks: &[Planned],
    ) -> Result<Self, CliError> {
        let failed = |e: &dyn std::fmt::Display| CliError::Service(e.to_string());
        let tab = Arc::new(browser.tab().await.map_err(|e| failed(&e))?);
        let (asking, asked) = mpsc::channel(1);
        let dirs = (places.crawl_dir.as_path(), places.snap_dir.as_path());
        let session = Session::open(dirs, &page.url, tab.lent(), asking);
        let session = session.map_err(|e| failed(&format!("{}: {e}", places.snap_dir.display())))?;
        let driving = tokio::spawn(drive_tab(tab.clone(), asked));
        if hooks.iter().all(|h| h.name.family == Family::Snapshot)
            && !hooks.iter().any(Session::is_navigation)
        {
            // No hook of theirs loads the page.
            let wish = sonde_browser::hooks::chrome::Wish::within(Duration::from_secs(60));
            let deadline = tokio::time::Instant::now() + wish.limit;
            if let Err(error) = session.clone().navigate(wish, deadline).await {
                tracing::warn!(url = page.url, error, "the page of the hooks did not load");
            }
        }
        Ok(Self { browser, tab, session, driving })
    }

    async fn close(self, places: &Places) -> Result<(), CliError> {
        let Self { browser, tab, session, driving } = self;
        let dir = places.crawl_dir.clone();
        let cleared = session.close(&dir);
        driving.abort();
        // Its end is an abort, or the end of all wishes.
        let _ = driving.await;
        if let Some(tab) = Arc::into_inner(tab)
            && let Err(error) = browser.close_tab(tab).await
        {
            // A hook may have closed it, or the browser.
            tracing::warn!(%error, "the tab of a page could not be closed");
        }
        cleared.map_err(|e| CliError::Service(format!("{}: {e}", dir.display())))
    }
}

async fn drive_tab(tab: Arc<HookTab>, mut asked: mpsc::Receiver<Navigation>) {
    while let Some(wish) = asked.recv().await {
        let landed = tab.navigate(&wish.url, wish.until, wish.deadline).await;
        // The hook's time was over meanwhile.
        let _ = wish.answer.send(landed);
    }
}
