//! Keeps one browser: starts it, watches it, replaces it; where that is asked for with a spare beside it. Launch failures
//! back off and open a [`Breaker`]; crashes do not at first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sonde_proto::browser::v1::{BrowserEvent, BrowserEventKind};
use sonde_proto::visit::v1::BrowserKind;
use sonde_runtime::clock::wall_us;
use sonde_runtime::process::within;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::breaker::{Breaker, Verdict};
use super::memory::{self, Memory};
use super::parts::Parts;
use super::requests::Want;
use super::spare::Spare;
use crate::attempt::{Supply, fault, timestamp};
use crate::engine::{Browser, LaunchFailure, LaunchSpec};

/// A browser that dies sooner counts as one that failed to start.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// How long a starting browser keeps others from starting: one that hangs must not hold them up.
const TURN: Duration = Duration::from_secs(2);
pub(super) const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// What happened to a browser that was started.
pub(super) enum News {
    Launched {
        life: u64,
        result: Result<Arc<dyn Browser>, LaunchFailure>,
    },
    Died {
        life: u64,
        why: String,
    },
    /// Its processes take more than one of the limits: bytes.
    Heavy {
        life: u64,
        bytes: u64,
    },
}

/// When a browser is replaced though it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wear {
    /// Visits after which it is replaced.
    pub max_visits: u32,
    /// Age at which it is replaced; zero: none.
    pub max_age: Duration,
    pub memory: Memory,
}

enum State {
    None,
    Launching,
    Up(Up),
    /// The last try failed; the next comes then.
    Waiting {
        until: Instant,
    },
}

struct Up {
    browser: Arc<dyn Browser>,
    visits: u32,
    since: Instant,
    /// Why it goes after its present visit.
    worn: Option<String>,
    /// Ends the sampling of its memory.
    _sampled: DropGuard,
}

/// One browser at a time, each with a number of its own (`life`).
pub(super) struct Keeper {
    parts: Parts,
    spec: LaunchSpec,
    state: State,
    spare: Spare,
    /// The last visit wanted its browser for itself alone: the next will, too.
    alone: bool,
    life: u64,
    lives: u64,
    breakers: BTreeMap<BrowserKind, Breaker>,
    last_error: Option<String>,
    started: Option<BrowserEvent>,
    /// To be told to the session.
    pub events: Vec<BrowserEvent>,
}

impl Keeper {
    pub fn new(parts: Parts, spec: LaunchSpec) -> Self {
        Self {
            parts,
            spec,
            state: State::None,
            spare: Spare::default(),
            alone: false,
            life: 0,
            lives: 0,
            breakers: BTreeMap::new(),
            last_error: None,
            started: None,
            events: Vec::new(),
        }
    }

    /// What is started from now on is a browser of this name.
    pub fn named(&mut self, browser_id: u32) {
        self.parts.processes = self.parts.processes.take().map(|scope| scope.with("browser_id", browser_id));
    }

    /// The number of the present browser or of the one that is coming.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// What is told to an attempt that waits.
    pub fn absence(&self) -> Supply {
        match self.refusal() {
            Some((rest, why)) => Supply::Refused(fault::breaker(rest, &why)),
            None => Supply::Coming(self.last_error.clone()),
        }
    }

    /// While no browser is started because too many starts failed: how long, and why the last one did.
    fn refusal(&self) -> Option<(Duration, String)> {
        let until = self.breakers.get(&self.spec.kind).and_then(Breaker::open_until)?;
        let State::Waiting { .. } = self.state else { return None };
        let left = until.saturating_duration_since(Instant::now());
        Some((left, self.last_error.clone().unwrap_or_default()))
    }

    /// The present browser's start, for a session that was not there to hear of it.
    pub fn started_event(&self) -> Option<BrowserEvent> {
        self.started.clone().filter(|_| matches!(self.state, State::Up(_)) && self.events.is_empty())
    }

    /// When [`Keeper::tick`] is due.
    pub fn due_at(&self) -> Option<Instant> {
        let own = match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        };
        [own, self.spare.due_at()].into_iter().flatten().min()
    }

    /// Starts the next try when its time has come.
    pub fn tick(&mut self, now: Instant) {
        if matches!(self.state, State::Waiting { until } if until <= now) {
            self.launch();
        }
        if self.spare.due_at().is_some_and(|at| at <= now) {
            self.spare = Spare::default();
            self.refill();
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
        self.alone = want.alone;
        let max_visits = self.parts.wear.max_visits;
        let fits = |up: &Up| up.visits < max_visits && (!want.fresh || up.visits == 0);
        match &mut self.state {
            State::Up(up) if same && fits(up) => {
                up.visits += 1;
                let browser = up.browser.clone();
                self.refill();
                return Some(browser);
            }
            State::Up(_) if same => {
                self.retire("a browser without earlier visits is needed");
                self.replace();
                if matches!(self.state, State::Up(_)) {
                    return self.take(want);
                }
            }
            State::Launching if same => {}
            // What keeps one kind of browser from starting says nothing of another.
            State::Waiting { .. } if self.spec.kind == want.spec.kind => self.spec = want.spec.clone(),
            State::Up(_) | State::Launching | State::Waiting { .. } | State::None => {
                if self.spec.kind != want.spec.kind {
                    self.last_error = None;
                }
                self.close("another kind of browser is needed");
                self.spec = want.spec.clone();
                self.launch();
            }
        }
        None
    }

    /// After a visit: another browser takes over when this one is used up. `worn` says why it cannot stay; `proved`
    /// that the visit left the browser whole.
    pub fn give_back(&mut self, life: u64, worn: Option<&str>, proved: bool) {
        if life != self.life {
            return;
        }
        let State::Up(up) = &self.state else { return };
        let why = worn.map(str::to_owned).or_else(|| up.worn.clone()).or_else(|| self.parts.wear.of(up));
        if proved && let Some(breaker) = self.breakers.get_mut(&self.spec.kind) {
            breaker.proved();
        }
        let Some(why) = why else { return };
        // What could not be disposed of may be so because the browser died; that news may be still on its way.
        if let Some(died) = up.browser.died().now_or_never() {
            return self.died(died);
        }
        self.retire(&why);
        self.replace();
    }

    /// Closes the browsers in the background; a later `take` starts another.
    pub fn close(&mut self, why: &str) {
        if let Some(browser) = std::mem::take(&mut self.spare).into_browser() {
            self.parts.tasks.spawn(browser.close(CLOSE_GRACE));
        }
        self.retire(why);
    }

    /// Closes the present browser in the background.
    fn retire(&mut self, why: &str) {
        // A launch under way is closed when it arrives: its number is not ours any more.
        let old = std::mem::replace(&mut self.state, State::None);
        self.life = self.next_life();
        if let State::Up(up) = old {
            self.event(BrowserEventKind::Closed, up.browser.facts().pid, why);
            self.parts.tasks.spawn(up.browser.close(CLOSE_GRACE));
        }
    }

    pub fn on_news(&mut self, news: News) {
        match news {
            News::Launched { life, result } if life == self.life => self.launched(result),
            News::Launched { life, result } if self.spare.is(life) => self.spare_launched(life, result),
            News::Launched { result: Ok(browser), .. } => {
                self.parts.tasks.spawn(browser.close(CLOSE_GRACE));
            }
            News::Launched { .. } => {}
            News::Died { life, why } if life == self.life => self.died(why),
            News::Died { life, why } if self.spare.is(life) => self.spare_failed(&why),
            News::Died { .. } => {}
            News::Heavy { life, bytes } if life == self.life => self.heavy(bytes),
            News::Heavy { .. } => {}
        }
    }

    /// Why the present browser must not go on even with its visit, when it takes so much memory.
    pub fn too_heavy(&self, life: u64, bytes: u64) -> Option<String> {
        let limit = self.parts.wear.memory.hard;
        (life == self.life && limit > 0 && bytes > limit).then(|| {
            format!(
                "its processes took {} MiB, more than memory_hard_limit ({} MiB)",
                bytes >> 20,
                limit >> 20
            )
        })
    }

    fn heavy(&mut self, bytes: u64) {
        if let State::Up(up) = &mut self.state {
            let why = || format!("its processes took {} MiB, more than its limit", bytes >> 20);
            up.worn.get_or_insert_with(why);
        }
    }

    /// Replaces a browser that is worn and not in use.
    pub fn idle(&mut self) {
        if let State::Up(Up { worn: Some(why), .. }) = &self.state {
            let why = why.clone();
            self.retire(&why);
            self.replace();
        }
    }

    /// The spare takes the place of the browser that went, or another is started.
    fn replace(&mut self) {
        match std::mem::take(&mut self.spare) {
            Spare::Up { life, browser, since } => {
                self.life = life;
                self.up(browser, since, "it was held ready");
            }
            Spare::Launching { life } => (self.life, self.state) = (life, State::Launching),
            Spare::None { .. } => self.launch(),
        }
    }

    fn launch(&mut self) {
        let now = Instant::now();
        let breaker = self.breakers.entry(self.spec.kind).or_default();
        breaker.try_again(now);
        if let Some(until) = breaker.open_until() {
            self.state = State::Waiting { until };
            return;
        }
        self.life = self.next_life();
        self.state = State::Launching;
        self.start(self.life);
    }

    fn next_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    /// Has a spare come up where one is wanted.
    fn refill(&mut self) {
        // Two browsers cannot share a profile.
        let wanted = (self.parts.spare || self.alone)
            && !self.spec.keeps_profile()
            && matches!(self.state, State::Up(_));
        if wanted && self.spare.is_vacant() {
            let life = self.next_life();
            self.spare = Spare::Launching { life };
            self.start(life);
        }
    }

    fn start(&self, life: u64) {
        let Parts { engine, news, turns, processes, tasks, .. } = self.parts.clone();
        let spec = self.spec.clone();
        tasks.spawn(async move {
            let turn = turns.acquire_owned().await;
            let mut launching = Box::pin(within(processes, engine.launch(spec)));
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
            Ok(browser) => self.up(browser, Instant::now(), ""),
            Err(failure) => {
                tracing::error!(%failure, "no browser came up");
                self.event(BrowserEventKind::LaunchFailed, 0, &failure.message);
                self.failed(failure.message);
            }
        }
    }

    fn up(&mut self, browser: Arc<dyn Browser>, since: Instant, detail: &str) {
        self.last_error = None;
        let facts = browser.facts().clone();
        let over = CancellationToken::new();
        let Parts { wear, news, tasks, .. } = &self.parts;
        if let Some(sampling) = memory::sample(self.life, browser.processes(), wear.memory, news.clone()) {
            let over = over.clone();
            tasks.spawn(async move { over.run_until_cancelled(sampling).await });
        }
        let _sampled = over.drop_guard();
        self.state = State::Up(Up { browser, visits: 0, since, worn: None, _sampled });
        self.event(BrowserEventKind::Started, facts.pid, detail);
        if let Some(event) = self.events.last_mut() {
            event.provenance = facts.provenance;
            event.capabilities = facts.capabilities.into_iter().collect();
            self.started = Some(event.clone());
        }
    }

    fn spare_launched(&mut self, life: u64, result: Result<Arc<dyn Browser>, LaunchFailure>) {
        match result {
            Ok(browser) => {
                self.spare = Spare::Up { life, browser, since: Instant::now() };
                if matches!(self.state, State::Waiting { .. }) && self.refusal().is_none() {
                    self.replace();
                }
            }
            Err(failure) => self.spare_failed(&failure.message),
        }
    }

    /// The browser in use is not concerned: the spare is tried again later.
    fn spare_failed(&mut self, why: &str) {
        tracing::warn!(why, "no spare browser is ready");
        let old = std::mem::take(&mut self.spare);
        if let Some(browser) = old.into_browser() {
            self.parts.tasks.spawn(browser.close(CLOSE_GRACE));
        }
        self.spare = Spare::None { not_before: Some(Instant::now() + super::spare::PAUSE) };
    }

    fn died(&mut self, why: String) {
        let State::Up(Up { browser, visits, since, .. }) = std::mem::replace(&mut self.state, State::None)
        else {
            return;
        };
        tracing::warn!(pid = browser.facts().pid, why, "a browser ended by itself");
        self.event(BrowserEventKind::Crashed, browser.facts().pid, &why);
        // What is left of its tree and its profile.
        self.parts.tasks.spawn(browser.close(CLOSE_GRACE));
        self.life = self.next_life();
        if since.elapsed() >= SHORT_LIFE || matches!(self.spare, Spare::Up { .. }) {
            return self.replace();
        }
        if visits == 0 {
            return self.failed(why);
        }
        let breaker = self.breakers.entry(self.spec.kind).or_default();
        match breaker.died_young(Instant::now(), rand::random()) {
            None => self.replace(),
            Some(until) => {
                self.last_error = Some(why);
                self.state = State::Waiting { until };
            }
        }
    }

    /// No browser came up, or one that was of no use.
    fn failed(&mut self, error: String) {
        let breaker = self.breakers.entry(self.spec.kind).or_default();
        let verdict = breaker.failed(Instant::now(), rand::random());
        self.life = self.next_life();
        let until = match verdict {
            Verdict::Retry { at } => at,
            Verdict::Opened { until } => {
                let rest = until.saturating_duration_since(Instant::now());
                tracing::error!(?rest, error, "too many browsers failed to start: none is tried for a while");
                self.event(BrowserEventKind::BreakerOpened, 0, &error);
                if let Some(event) = self.events.last_mut() {
                    event.retry_after = prost_types::Duration::try_from(rest).ok();
                }
                until
            }
        };
        self.last_error = Some(error);
        self.state = State::Waiting { until };
    }

    fn event(&mut self, kind: BrowserEventKind, pid: u32, detail: &str) {
        self.events.push(BrowserEvent {
            kind: kind.into(),
            pid,
            detail: detail.to_owned(),
            at: Some(timestamp(wall_us())),
            browser: self.spec.kind.into(),
            ..BrowserEvent::default()
        });
    }
}

impl Wear {
    /// Why a browser is used up by itself.
    fn of(&self, up: &Up) -> Option<String> {
        if up.visits >= self.max_visits {
            return Some("it had its number of visits".to_owned());
        }
        let old = !self.max_age.is_zero() && up.since.elapsed() >= self.max_age;
        old.then(|| format!("it ran longer than max_age ({} s)", self.max_age.as_secs()))
    }
}
