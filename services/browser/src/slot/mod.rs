//! One slot: a browser kept warm, at most one running attempt with its lease, and the session that drives it.
//!
//! The session may break: the attempt goes on until its lease ends, and another session takes it over.

mod actor;
mod breaker;
mod fences;
mod keeper;
mod memory;
mod parts;
mod requests;
mod spare;

use std::sync::Arc;
use std::time::Duration;

use sonde_proto::browser::v1::{AttemptContext, RunningAttempt, SessionResponse, session_request};
use sonde_proto::visit::v1::CrawlHooks;
use sonde_runtime::process::Scope;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tonic::Status;

pub use fences::Fences;
pub use keeper::Wear;
pub use memory::Memory;

use crate::attempt::CrawlJob;
use crate::engine::{Browser, Engine, LaunchSpec};
use crate::hooks::crawls::Crawls;
use crate::uplink::Uplink;

/// What a slot is made of.
#[derive(Clone)]
pub struct Options {
    pub slot: u32,
    pub instance_id: String,
    pub engine: Arc<dyn Engine>,
    pub uplink: Uplink,
    pub fences: Fences,
    /// What a browser is started with before anybody says what is needed.
    pub spec: LaunchSpec,
    /// Whether that happens as soon as the slot is opened.
    pub prestart: bool,
    /// When a browser that works is replaced.
    pub wear: Wear,
    /// Whether a second browser is held ready beside the one in use.
    pub spare: bool,
    /// One for each browser that may start at the same time, over all slots.
    pub turns: Arc<Semaphore>,
    /// The crawls that have hooks here.
    pub crawls: Crawls,
    /// Where processes are recorded.
    pub processes: Option<Scope>,
    /// For what is to be awaited when the service closes.
    pub tasks: TaskTracker,
}

impl Options {
    /// For what an attempt starts itself, such as hooks.
    fn of_attempt(&self, attempt: &AttemptContext) -> Option<Scope> {
        let scope = self.processes.clone()?.with("browser_id", attempt.browser_id);
        Some(scope.with("visit_id", attempt.visit_id).with("crawl_id", &attempt.crawl_id))
    }

    fn crawl(&self, asked: Option<CrawlHooks>) -> Option<CrawlJob> {
        let scope = self.processes.clone();
        asked.map(|asked| CrawlJob { crawls: self.crawls.clone(), asked, scope })
    }

    /// Notes that a browser's processes serve a visit.
    fn serves(&self, browser: &dyn Browser, visit_id: i64) {
        let Some(scope) = &self.processes else { return };
        let processes = browser.processes();
        scope.store().serve(processes.iter().filter_map(|process| process.record.as_deref()), visit_id);
    }
}

/// To the session's caller.
pub type Outbox = mpsc::Sender<Result<SessionResponse, Status>>;

enum Message {
    Open {
        browser_id: u32,
        out: Outbox,
        number: oneshot::Sender<u64>,
    },
    Request {
        session: u64,
        message: Box<session_request::Message>,
    },
    /// The caller's stream ended: cleanly, or not.
    Gone {
        session: u64,
        clean: bool,
    },
    Drain,
    /// Ends the running attempt, too.
    Abort,
}

/// A running slot. Cheap to clone; it ends after [`Slot::drain`] or [`Slot::abort`].
#[derive(Clone)]
pub struct Slot {
    mailbox: mpsc::Sender<Message>,
    running: watch::Receiver<Option<RunningAttempt>>,
}

impl Slot {
    /// Starts the slot's task.
    pub fn start(options: Options) -> Self {
        let (mailbox, messages) = mpsc::channel(64);
        let (running, seen) = watch::channel(None);
        let tasks = options.tasks.clone();
        tasks.spawn(actor::Actor::new(options, running).run(messages));
        Self { mailbox, running: seen }
    }

    /// What runs now.
    pub fn running(&self) -> Option<RunningAttempt> {
        self.running.borrow().clone()
    }

    /// Takes the slot for a session; gives the session's number, or `None` when the service is stopping.
    pub async fn open(&self, browser_id: u32, out: Outbox) -> Option<u64> {
        let (number, answer) = oneshot::channel();
        self.mailbox.send(Message::Open { browser_id, out, number }).await.ok()?;
        answer.await.ok()
    }

    /// A request of a session; `false` when the slot has ended.
    pub async fn request(&self, session: u64, message: session_request::Message) -> bool {
        self.mailbox.send(Message::Request { session, message: Box::new(message) }).await.is_ok()
    }

    /// The caller's stream has ended.
    pub async fn gone(&self, session: u64, clean: bool) {
        // A slot that has ended needs no telling.
        let _ = self.mailbox.send(Message::Gone { session, clean }).await;
    }

    /// Lets the running attempt end, closes the browser, ends the slot.
    pub async fn drain(&self) {
        let _ = self.mailbox.send(Message::Drain).await;
    }

    /// As drain, but ends the running attempt first.
    pub async fn abort(&self) {
        let _ = self.mailbox.send(Message::Abort).await;
    }

    /// Waits for the end of the slot.
    pub async fn ended(&self) {
        self.mailbox.closed().await;
    }
}

/// A lease's length, at least a second and at most a day.
fn lease(given: Option<prost_types::Duration>) -> Duration {
    let given = given.and_then(|d| Duration::try_from(d).ok()).unwrap_or(Duration::from_secs(60));
    given.clamp(Duration::from_millis(100), Duration::from_secs(24 * 3600))
}
