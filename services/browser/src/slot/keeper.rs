//! Keeps one browser: starts it, watches it, replaces it. Launch failures back off; crashes do not at first.

use std::sync::Arc;
use std::time::Duration;

use sonde_proto::browser::v1::{BrowserEvent, BrowserEventKind};
use sonde_runtime::backoff::Backoff;
use sonde_runtime::clock::wall_us;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::attempt::timestamp;
use crate::engine::{Browser, Engine, LaunchFailure, LaunchSpec};

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
/// A browser that dies sooner counts as one that failed to start.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// How long a starting browser keeps others from starting: one that hangs must not hold them up.
const TURN: Duration = Duration::from_secs(2);
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// What happened to a browser that was started.
pub(super) enum News {
    Launched { life: u64, result: Result<Arc<dyn Browser>, LaunchFailure> },
    Died { life: u64, why: String },
}

enum State {
    None,
    Launching,
    Up {
        browser: Arc<dyn Browser>,
        visits: u32,
        since: Instant,
    },
    /// The last try failed; the next comes then.
    Waiting {
        until: Instant,
    },
}

/// What a visit needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Want {
    pub spec: LaunchSpec,
    /// No visit may have been on it before.
    pub fresh: bool,
}

/// One browser at a time, each with a number of its own (`life`).
pub(super) struct Keeper {
    engine: Arc<dyn Engine>,
    max_visits: u32,
    spec: LaunchSpec,
    state: State,
    life: u64,
    failures: u32,
    last_error: Option<String>,
    started: Option<BrowserEvent>,
    news: mpsc::Sender<News>,
    /// One for each browser that may start at the same time.
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
    /// To be told to the session.
    pub events: Vec<BrowserEvent>,
}

impl Keeper {
    /// `news` gets at most one message per launch and one per death.
    pub fn new(
        engine: Arc<dyn Engine>,
        spec: LaunchSpec,
        max_visits: u32,
        news: mpsc::Sender<News>,
        turns: Arc<Semaphore>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            engine,
            max_visits,
            spec,
            state: State::None,
            life: 0,
            failures: 0,
            last_error: None,
            started: None,
            news,
            turns,
            tasks,
            events: Vec::new(),
        }
    }

    /// The number of the present browser or of the one that is coming.
    pub fn life(&self) -> u64 {
        self.life
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.clone()
    }

    /// The present browser's start, for a session that was not there to hear of it.
    pub fn started_event(&self) -> Option<BrowserEvent> {
        self.started.clone().filter(|_| matches!(self.state, State::Up { .. }) && self.events.is_empty())
    }

    /// When [`Keeper::tick`] is due.
    pub fn due_at(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Starts the next try when its time has come.
    pub fn tick(&mut self, now: Instant) {
        if self.due_at().is_some_and(|at| at <= now) {
            self.launch();
        }
    }

    /// Has a browser come up unless one is there or on its way.
    pub fn prestart(&mut self) {
        if matches!(self.state, State::None) {
            self.launch();
        }
    }

    /// A browser that fits, counted as used by one visit more; otherwise sees to it that one comes.
    pub fn take(&mut self, want: &Want) -> Option<Arc<dyn Browser>> {
        let same = self.spec == want.spec;
        match &mut self.state {
            State::Up { browser, visits, .. }
                if same && *visits < self.max_visits && (!want.fresh || *visits == 0) =>
            {
                *visits += 1;
                return Some(browser.clone());
            }
            State::Launching if same => {}
            // What keeps one kind of browser from starting says nothing of another.
            State::Waiting { .. } if self.spec.kind == want.spec.kind => self.spec = want.spec.clone(),
            State::Up { .. } | State::Launching | State::Waiting { .. } | State::None => {
                if self.spec.kind != want.spec.kind {
                    (self.failures, self.last_error) = (0, None);
                }
                self.close("another kind of browser is needed");
                self.spec = want.spec.clone();
                self.launch();
            }
        }
        None
    }

    /// After a visit: another browser takes over when this one is used up. `worn` says why it cannot stay.
    pub fn give_back(&mut self, life: u64, worn: Option<&str>) {
        if life != self.life {
            return;
        }
        let State::Up { visits, .. } = &self.state else { return };
        let why = match worn {
            Some(why) => why,
            None if *visits >= self.max_visits => "it had its number of visits",
            None => {
                self.failures = 0;
                return;
            }
        };
        self.close(why);
        self.launch();
    }

    /// Closes the browser in the background; a later `take` starts another.
    pub fn close(&mut self, why: &str) {
        // A launch under way is closed when it arrives: its number is not ours any more.
        let old = std::mem::replace(&mut self.state, State::None);
        self.life += 1;
        if let State::Up { browser, .. } = old {
            self.event(BrowserEventKind::Closed, browser.facts().pid, why);
            self.tasks.spawn(browser.close(CLOSE_GRACE));
        }
    }

    pub fn on_news(&mut self, news: News) {
        match news {
            News::Launched { life, result } if life == self.life => self.launched(result),
            News::Launched { result: Ok(browser), .. } => {
                self.tasks.spawn(browser.close(CLOSE_GRACE));
            }
            News::Launched { .. } => {}
            News::Died { life, why } if life == self.life => self.died(why),
            News::Died { .. } => {}
        }
    }

    fn launch(&mut self) {
        self.life += 1;
        self.state = State::Launching;
        let (life, news) = (self.life, self.news.clone());
        let (turns, engine, spec) = (self.turns.clone(), self.engine.clone(), self.spec.clone());
        self.tasks.spawn(async move {
            let turn = turns.acquire_owned().await;
            let mut launching = engine.launch(spec);
            let soon = timeout(TURN, &mut launching).await;
            drop(turn);
            let result = match soon {
                Ok(result) => result,
                Err(_) => launching.await,
            };
            let died = result.as_ref().ok().map(|browser| browser.died());
            // A slot that is gone has dropped its end; the browser is killed with its last handle.
            if news.send(News::Launched { life, result }).await.is_ok()
                && let Some(died) = died
            {
                let why = died.await;
                let _ = news.send(News::Died { life, why }).await;
            }
        });
    }

    fn launched(&mut self, result: Result<Arc<dyn Browser>, LaunchFailure>) {
        match result {
            Ok(browser) => {
                self.last_error = None;
                let facts = browser.facts().clone();
                self.state = State::Up { browser, visits: 0, since: Instant::now() };
                self.event(BrowserEventKind::Started, facts.pid, "");
                if let Some(event) = self.events.last_mut() {
                    event.provenance = facts.provenance;
                    event.capabilities = facts.capabilities.into_iter().collect();
                    self.started = Some(event.clone());
                }
            }
            Err(failure) => {
                tracing::error!(%failure, failures = self.failures + 1, "no browser came up");
                self.event(BrowserEventKind::LaunchFailed, 0, &failure.message);
                self.wait(failure.message);
            }
        }
    }

    fn died(&mut self, why: String) {
        let State::Up { browser, since, .. } = std::mem::replace(&mut self.state, State::None) else {
            return;
        };
        tracing::warn!(pid = browser.facts().pid, why, "a browser ended by itself");
        self.event(BrowserEventKind::Crashed, browser.facts().pid, &why);
        // What is left of its tree and its profile.
        self.tasks.spawn(browser.close(CLOSE_GRACE));
        if since.elapsed() < SHORT_LIFE && self.failures > 0 {
            self.wait(why);
        } else {
            self.failures += u32::from(since.elapsed() < SHORT_LIFE);
            self.launch();
        }
    }

    fn wait(&mut self, error: String) {
        let pause = BACKOFF.next(self.failures, rand::random());
        self.failures += 1;
        self.last_error = Some(error);
        self.life += 1;
        self.state = State::Waiting { until: Instant::now() + pause };
    }

    fn event(&mut self, kind: BrowserEventKind, pid: u32, detail: &str) {
        self.events.push(BrowserEvent {
            kind: kind.into(),
            pid,
            detail: detail.to_owned(),
            at: Some(timestamp(wall_us())),
            ..BrowserEvent::default()
        });
    }
}
