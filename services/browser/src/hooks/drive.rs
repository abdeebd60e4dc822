//! Drives a crawl: asks its machine what may start, runs that, and tells it what became of it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::crawl::{Action, Crawl, Number, Refused, State};
use super::event::{Event, HookResult};
use super::record::Status;
use super::runner::Control;

/// Controls that may wait for one page.
const CONTROLS: usize = 16;

/// A crawl that workers share: its limits are looked at and used up under one lock.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Crawl>>);

impl Shared {
    pub fn new(crawl: Crawl) -> Self {
        Self(Arc::new(Mutex::new(crawl)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Crawl> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a hook of a page tells: pages that it found are added, files that no longer fit are removed and noted.
    /// `dir` is where the hook ran.
    pub fn take(
        &self,
        number: Number,
        event: &mut Event,
        dir: impl FnOnce(&HookResult) -> std::path::PathBuf,
    ) {
        match event {
            Event::Record { record, .. } if record.kind == "Snapshot" => {
                let found = record.text("url").and_then(|url| url::Url::parse(url).ok());
                let page = found.filter(|url| matches!(url.scheme(), "http" | "https" | "file"));
                if let Some(page) = page {
                    // What is refused is counted by the machine.
                    let _ = self.lock().add(page.as_str(), Some(number));
                }
            }
            Event::ProcessCompleted(result) => {
                let dir = dir(result);
                self.weigh(number, result, &dir);
            }
            _ => {}
        }
    }

    fn weigh(&self, number: Number, result: &mut HookResult, dir: &Path) {
        let mut crawl = self.lock();
        let (mut dropped, mut bytes) = (0u64, 0u64);
        let notes = &mut result.notes;
        result.outputs.retain(|output| {
            if crawl.grow(number, output.size) {
                return true;
            }
            (dropped, bytes) = (dropped + 1, bytes + output.size);
            if let Err(error) = std::fs::remove_file(dir.join(&output.path)) {
                notes.push(format!("{} does not fit and cannot be removed: {error}", output.path.display()));
            }
            false
        });
        if dropped > 0 {
            notes.push(format!(
                "{dropped} files with {bytes} bytes do not fit the size limit and were removed"
            ));
        }
    }
}

/// One page to run the hooks of.
#[derive(Debug, Clone)]
pub struct Job {
    pub number: Number,
    pub url: String,
    pub depth: u8,
}

/// What is run: given by the caller, once for the crawl and once for each page.
pub trait Work {
    /// Hooks before the first page.
    fn set_up(&self, controls: mpsc::Receiver<Control>) -> BoxFuture<'static, ()>;
    /// Hooks of a page.
    fn page(&self, job: Job, controls: mpsc::Receiver<Control>) -> BoxFuture<'static, ()>;
    /// After the last page.
    fn clean_up(&self) -> BoxFuture<'static, ()>;
}

/// Runs a crawl until it is sealed, at most `workers` pages at once. Orders go to whatever runs; an abort seals it.
pub async fn drive(shared: &Shared, workers: usize, work: &dyn Work, mut orders: mpsc::Receiver<Control>) {
    let began = Instant::now();
    let end = began + shared.lock().bounds().timeout;
    let mut running = FuturesUnordered::new();
    let mut controls: HashMap<Option<Number>, mpsc::Sender<Control>> = HashMap::new();
    let mut listening = true;
    loop {
        let free = workers.max(1).saturating_sub(running.len());
        let actions = shared.lock().tick(began.elapsed(), free);
        for action in actions {
            perform(shared, work, action, &mut running, &mut controls).await;
        }
        if running.is_empty() && (shared.lock().state() == State::Sealed || !listening) {
            break;
        }
        tokio::select! {
            Some(done) = running.next(), if !running.is_empty() => {
                controls.remove(&done);
                let actions = match done {
                    None => {
                        shared.lock().set_up();
                        Vec::new()
                    }
                    Some(number) => shared.lock().done(number),
                };
                for action in actions {
                    perform(shared, work, action, &mut running, &mut controls).await;
                }
            }
            order = orders.recv(), if listening => match order {
                Some(order) => obey(shared, order, work, &mut running, &mut controls).await,
                None => listening = false,
            },
            () = sleep_until(end), if Instant::now() < end => {}
        }
        if shared.lock().state() == State::Sealed && running.is_empty() {
            break;
        }
    }
}

type Running = FuturesUnordered<BoxFuture<'static, Option<Number>>>;
type Controls = HashMap<Option<Number>, mpsc::Sender<Control>>;

async fn perform(
    shared: &Shared,
    work: &dyn Work,
    action: Action,
    running: &mut Running,
    controls: &mut Controls,
) {
    match action {
        Action::RunCrawlHooks => {
            let (order, inbox) = mpsc::channel(CONTROLS);
            controls.insert(None, order);
            running.push(finished(work.set_up(inbox), None));
        }
        Action::RunSnapshot(number) => {
            let (order, inbox) = mpsc::channel(CONTROLS);
            controls.insert(Some(number), order);
            let job = {
                let crawl = shared.lock();
                let page = &crawl.snapshots()[number];
                Job { number, url: page.url.clone(), depth: page.depth }
            };
            running.push(finished(work.page(job, inbox), Some(number)));
        }
        // A page that ran to its end has cleaned up; one that was sealed before has to.
        Action::CleanSnapshot(number) => {
            if let Some(order) = controls.get(&Some(number)) {
                // Full: it has orders enough, an abort among them.
                let _ = order.try_send(Control::Abort);
            }
        }
        Action::CleanCrawl => work.clean_up().await,
    }
}

fn finished(
    work: impl Future<Output = ()> + Send + 'static,
    which: Option<Number>,
) -> BoxFuture<'static, Option<Number>> {
    Box::pin(async move {
        work.await;
        which
    })
}

async fn obey(
    shared: &Shared,
    order: Control,
    work: &dyn Work,
    running: &mut Running,
    controls: &mut Controls,
) {
    for inbox in controls.values() {
        if inbox.try_send(order).is_err() {
            tracing::warn!(?order, "a page has too many orders and does not get this one");
        }
    }
    match order {
        Control::Pause => shared.lock().pause(true),
        Control::Resume => shared.lock().pause(false),
        Control::Abort => {
            let actions = shared.lock().abort();
            for action in actions.into_iter().filter(|a| !matches!(a, Action::CleanSnapshot(_))) {
                perform(shared, work, action, running, controls).await;
            }
        }
        Control::Skip | Control::Retry => {}
    }
}

/// Counts of a run, for people and for metrics.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub started: u64,
    /// Started and not ended.
    pub running: u64,
    pub ended: BTreeMap<&'static str, u64>,
    /// Of those ended, by SIGKILL.
    pub killed: u64,
    /// Ends by duration: up to 0.1, 1, 10, 60 s, and longer.
    pub durations: [u64; 5],
}

impl Counts {
    /// Counts an event.
    pub fn count(&mut self, event: &Event) {
        match event {
            Event::ProcessStarted { .. } => {
                self.started += 1;
                self.running += 1;
            }
            Event::ProcessKill { signal: 9, .. } => self.killed += 1,
            Event::ProcessCompleted(result) => {
                self.running = self.running.saturating_sub(u64::from(result.pid.is_some()));
                *self.ended.entry(word(result.status)).or_default() += 1;
                let bounds = [100, 1_000, 10_000, 60_000];
                let place = bounds.iter().position(|b| result.duration_ms <= *b).unwrap_or(bounds.len());
                self.durations[place] += 1;
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ended: Vec<_> = self.ended.iter().map(|(word, count)| format!("{count} {word}")).collect();
        write!(f, "{} hooks started, {} killed; {}", self.started, self.killed, ended.join(", "))
    }
}

/// As records have it.
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Started => "started",
        Status::Backoff => "backoff",
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Skipped => "skipped",
        Status::NoResults => "noresults",
    }
}

/// Why pages were not added, in words.
pub fn refusals(crawl: &Crawl) -> Vec<String> {
    let words = |why: &Refused| match why {
        Refused::Deep => "too deep",
        Refused::Known => "known already",
        Refused::Urls => "beyond the number of pages",
        Refused::Size => "beyond the size",
        Refused::Sealed => "after the end",
    };
    crawl.refused().iter().map(|(why, count)| format!("{count} {}", words(why))).collect()
}
