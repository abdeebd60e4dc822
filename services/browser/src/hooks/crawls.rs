//! The hooks of crawls that have visits here: those of the start run once, before the first visit, and live until the crawl
//! has ended; then those of its end run. What became of each is a row of `crawl_hooks`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use sonde_proto::record::v1::CrawlHook;
use sonde_proto::storage::v1::{LedgerRow, ledger_row};
use sonde_proto::visit::v1::{CrawlHookResult, CrawlHooks, Failure};
use sonde_runtime::clock::{rfc3339_ms, wall_us};
use sonde_runtime::process::{Scope, within};
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::event::{Event, HookResult};
use super::host::{HookHost, Joined, PreparedCrawl, Ran};
use super::keep::keep;
use super::record::bounded;
use super::runner::{self, Hold};
use crate::attempt::fault;
use crate::uplink::{Uplink, UplinkError};

/// Events of hooks that wait to be read.
const EVENTS: usize = 1024;
/// For storage to take the rows and files, at one try.
const STORE: Duration = Duration::from_secs(60);
/// Crawls remembered; beyond that those are forgotten whose hooks have ended, or never began.
const MAX_CRAWLS: usize = 1024;
/// Bytes of a hook's word in an answer.
const MAX_WORD: usize = 1024;

/// All crawls that this service knows. Cheap to clone.
#[derive(Clone)]
pub struct Crawls(Arc<Inner>);

struct Inner {
    host: Arc<HookHost>,
    uplink: Uplink,
    instance_id: String,
    tasks: TaskTracker,
    crawls: Mutex<HashMap<String, Arc<Crawl>>>,
}

#[derive(Default)]
struct Crawl {
    begun: OnceCell<Begun>,
    /// No visit may begin any more.
    over: AtomicBool,
    ended: OnceCell<Vec<CrawlHookResult>>,
}

struct Begun {
    hold: Hold,
    ran: Arc<Ran>,
    /// Cancelled when no hook runs any more.
    done: CancellationToken,
    results: Arc<Mutex<Vec<HookResult>>>,
}

impl Crawls {
    /// Those of the hooks of `host`, whose rows go to `uplink`. What they run is waited for by `tasks`.
    pub fn new(host: Arc<HookHost>, uplink: Uplink, instance_id: String, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner { host, uplink, instance_id, tasks, crawls: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Crawl>>> {
        self.0.crawls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the hooks of the crawl's start have run, and runs them where nobody did. `url` is that of the visit.
    ///
    /// # Errors
    /// When they are not allowed, are not done in time, or the crawl has ended here.
    pub async fn join(
        &self,
        (crawl_id, visit_id, url): (&str, i64, &str),
        asked: &CrawlHooks,
        scope: Option<Scope>,
    ) -> Result<Joined, Failure> {
        let deadline = Instant::now() + asked.time();
        let crawl = self.known(crawl_id);
        if crawl.over.load(Ordering::Acquire) {
            return Err(fault::invalid("crawl", format!("crawl {crawl_id} has ended here")));
        }
        let scope = scope.map(|scope| scope.with("crawl_id", crawl_id));
        let begun = crawl.begun.get_or_try_init(|| self.begin((crawl_id, url), asked, scope)).await?;
        if timeout_at(deadline, begun.hold.reached.cancelled()).await.is_err() {
            let message = format!(
                "the hooks of the crawl's start were not done in {} s; `sonde ps` shows what they do, and \
                 CrawlHooks.timeout gives them more time",
                asked.time().as_secs()
            );
            return Err(fault::timeout("hooks", message));
        }
        Ok(self.0.host.join(visit_id, begun.ran.clone()))
    }

    fn known(&self, crawl_id: &str) -> Arc<Crawl> {
        let mut crawls = self.lock();
        if crawls.len() >= MAX_CRAWLS {
            let needed = |crawl: &Arc<Crawl>| {
                let holds = crawl.begun.initialized() && !crawl.ended.initialized();
                holds || Arc::strong_count(crawl) > 1
            };
            crawls.retain(|_, crawl| needed(crawl));
        }
        crawls.entry(crawl_id.to_owned()).or_default().clone()
    }

    async fn begin(
        &self,
        (crawl_id, url): (&str, &str),
        asked: &CrawlHooks,
        scope: Option<Scope>,
    ) -> Result<Begun, Failure> {
        let (host, asked) = (self.0.host.clone(), asked.clone());
        let names = (crawl_id.to_owned(), url.to_owned());
        let planning =
            tokio::task::spawn_blocking(move || host.prepare_crawl(&asked, (&names.1, &names.0))).await;
        let prepared = planning
            .map_err(|error| fault::command("hooks", format!("the hooks could not be looked for: {error}")))?
            .map_err(|error| fault::invalid("hooks", error.to_string()))?;
        tracing::info!(crawl_id, hooks = prepared.start.len(), "the hooks of a crawl start");
        let plugins = prepared.start.iter().map(|hook| hook.plugin.clone()).collect();
        let dir = prepared.places.crawl_dir.clone();
        let ran = Ran { crawl_id: crawl_id.to_owned(), dir, plugins };
        let begun = Begun {
            hold: Hold::default(),
            ran: Arc::new(ran),
            done: CancellationToken::new(),
            results: Arc::default(),
        };
        let (hold, results, done) = (begun.hold.clone(), begun.results.clone(), begun.done.clone());
        let done = done.drop_guard();
        self.0.tasks.spawn(within(scope, async move {
            run(prepared, hold, results).await;
            drop(done);
        }));
        Ok(begun)
    }

    /// Ends the hooks of a crawl, and tells what became of all of them once storage has it. The same again when it is
    /// asked again.
    ///
    /// # Errors
    /// When storage does not take it; it is told then when it is asked again.
    pub async fn end(&self, crawl_id: &str) -> Result<Vec<CrawlHookResult>, UplinkError> {
        let Some(crawl) = self.lock().get(crawl_id).cloned() else { return Ok(Vec::new()) };
        crawl.over.store(true, Ordering::Release);
        let ended = crawl.ended.get_or_try_init(|| self.finish(&crawl)).await;
        ended.cloned()
    }

    async fn finish(&self, crawl: &Crawl) -> Result<Vec<CrawlHookResult>, UplinkError> {
        let Some(begun) = crawl.begun.get() else { return Ok(Vec::new()) };
        begun.hold.release.cancel();
        begun.done.cancelled().await;
        let results = begun.results.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.store(&begun.ran, &results).await?;
        let scratch = begun.ran.dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&scratch) {
                tracing::warn!(?scratch, %error, "the directory of a crawl's hooks could not be removed");
            }
        });
        tracing::info!(
            crawl_id = begun.ran.crawl_id,
            hooks = results.len(),
            "the hooks of a crawl have ended"
        );
        Ok(results.iter().map(told).collect())
    }

    async fn store(&self, ran: &Ran, results: &[HookResult]) -> Result<(), UplinkError> {
        let deadline = Instant::now() + STORE;
        for result in results {
            let row = self.row(ran, result, deadline).await?;
            let row = LedgerRow { row: Some(ledger_row::Row::CrawlHook(row)) };
            self.0.uplink.write_ledger(vec![row], deadline).await?;
        }
        Ok(())
    }

    async fn row(&self, ran: &Ran, result: &HookResult, deadline: Instant) -> Result<CrawlHook, UplinkError> {
        let kept = keep(&self.0.uplink, &ran.dir, std::slice::from_ref(result), deadline).await?;
        let outputs = kept.iter().map(|kept| {
            let (path, size, mimetype) = (&kept.output.path, kept.output.size, &kept.output.mimetype);
            let sha256 = kept.blob.as_ref().map_or(&kept.output.sha256, |(sha256, _)| sha256);
            json!({"path": path, "size": size, "mimetype": mimetype, "sha256": sha256, "stored": kept.blob.is_some()})
        });
        let (records, dropped) = bounded(result.records.iter());
        let mut notes = result.notes.clone();
        if dropped > 0 {
            notes.push(format!("{dropped} more records were dropped"));
        }
        Ok(CrawlHook {
            crawl_id: ran.crawl_id.clone(),
            instance_id: self.0.instance_id.clone(),
            plugin: result.plugin.clone(),
            hook: result.hook.clone(),
            status: status(result),
            output_str: result.output_str.clone(),
            exit_code: result.exit_code,
            end_reason: result.ended.and_then(|why| json!(why).as_str().map(str::to_owned)),
            background: result.background,
            duration_ms: i64::try_from(result.duration_ms).unwrap_or(i64::MAX),
            records: json!(records).to_string(),
            outputs: json!(outputs.collect::<Vec<_>>()).to_string(),
            notes: json!(notes).to_string(),
            pid: result.pid,
            ended_at: rfc3339_ms(wall_us()),
        })
    }

    /// Ends the hooks of all crawls; those that are not ended by the deadline are killed.
    pub async fn close(&self, deadline: Instant) {
        let all: Vec<String> = self.lock().keys().cloned().collect();
        let ending = all.iter().map(|crawl_id| async move {
            if let Err(error) = self.end(crawl_id).await {
                tracing::error!(crawl_id, %error, "the rows of a crawl's hooks were not stored");
            }
        });
        if timeout_at(deadline, futures_util::future::join_all(ending)).await.is_err() {
            tracing::warn!("hooks of crawls did not end in time");
        }
    }
}

/// Runs the hooks of the start, waits for the end of the crawl, and runs those of its end.
async fn run(prepared: PreparedCrawl, hold: Hold, results: Arc<Mutex<Vec<HookResult>>>) {
    let PreparedCrawl { start, end, options, places: _, page } = prepared;
    let (events_end, events) = mpsc::channel(EVENTS);
    let collecting: JoinHandle<()> = tokio::spawn(collect(events, results));
    // Nobody gives orders.
    let (_orders, inbox) = mpsc::channel(1);
    let ids = (page.url, page.snapshot_id);
    let held = runner::Options { hold: Some(hold.clone()), ..options.clone() };
    runner::run(start, ids.clone(), held, inbox, events_end.clone()).await;
    hold.reached.cancel();
    if !end.is_empty() {
        let (_orders, inbox) = mpsc::channel(1);
        runner::run(end, ids, options, inbox, events_end.clone()).await;
    }
    drop(events_end);
    if let Err(error) = collecting.await {
        tracing::error!(%error, "results of hooks were lost");
    }
}

async fn collect(mut events: mpsc::Receiver<Event>, results: Arc<Mutex<Vec<HookResult>>>) {
    while let Some(event) = events.recv().await {
        if let Event::ProcessCompleted(result) = event {
            results.lock().unwrap_or_else(PoisonError::into_inner).push(*result);
        }
    }
}

fn status(result: &HookResult) -> String {
    json!(result.status).as_str().unwrap_or_default().to_owned()
}

fn told(result: &HookResult) -> CrawlHookResult {
    let mut output_str = result.output_str.clone();
    output_str.truncate(output_str.floor_char_boundary(MAX_WORD));
    CrawlHookResult {
        plugin: result.plugin.clone(),
        hook: result.hook.clone(),
        status: status(result),
        output_str,
        exit_code: result.exit_code,
    }
}
