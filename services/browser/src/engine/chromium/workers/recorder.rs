//! Turns what the hooks in a visit's workers say into rows on the visit's DevTools stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use sonde_proto::StreamId;
use sonde_proto::record::v1::record::Row;
use sonde_runtime::clock::wall_us;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::rows::{WorkerRows, truncation};
use super::{Hook, batch, is_worker};
use crate::engine::chromium::cdp::{
    CallError, Connection, ContextId, Event, Item, SessionId, SessionInfo, Subscription, TargetId,
};
use crate::uplink::{AttemptUplink, UplinkError};

/// Events that the recorder wants.
pub(in crate::engine::chromium) const METHODS: &[&str] =
    &["Runtime.bindingCalled", "Target.attachedToTarget", "Target.detachedFromTarget"];

/// Run in a worker to have its answer.
pub(super) const QUESTION: &str = "0";

/// Workers of one visit that are told apart; beyond that, rows of workers that have ended lose their numbering.
const WORKERS: usize = 4096;

#[derive(Deserialize)]
struct BindingCalled {
    name: String,
    payload: String,
}

enum Order {
    /// The tab of the main page.
    Tab(i64),
    /// Take everything that has arrived; the answer says why records may be missing, "" when none are.
    Finish(oneshot::Sender<String>),
}

/// What a visit's workers are recorded with.
pub(in crate::engine::chromium) struct WorkerRecorder {
    pub connection: Connection,
    pub events: Subscription,
    pub hook: Hook,
    pub uplink: AttemptUplink,
    /// The visit's page.
    pub main: TargetId,
    /// URL of the visit's page now.
    pub page_url: Box<dyn Fn() -> String + Send + Sync>,
}

/// A visit's side of its recorder, which ends with it.
pub(in crate::engine::chromium) struct Workers {
    connection: Connection,
    context: ContextId,
    orders: mpsc::Sender<Order>,
    _task: AbortOnDropHandle<()>,
}

impl Workers {
    pub fn start(recorder: WorkerRecorder, context: ContextId) -> Self {
        let (orders, taken) = mpsc::channel(4);
        let connection = recorder.connection.clone();
        let running = Running { recorder, workers: HashMap::new(), tab_id: -1, suspect: String::new() };
        let task = AbortOnDropHandle::new(tokio::spawn(running.run(taken)));
        Self { connection, context, orders, _task: task }
    }

    /// Rows of dedicated workers of the main page are of this tab.
    pub async fn set_tab(&self, tab_id: i64) {
        // A recorder that has ended says so when it is to finish.
        drop(self.orders.send(Order::Tab(tab_id)).await);
    }

    /// Waits until every worker has handed over what it has, `silent` for each at most, and all of it is recorded.
    /// Says why records may be missing; "" when none are.
    pub async fn finish(&self, silent: Duration, deadline: Instant) -> String {
        let silent = silent.min(deadline.saturating_duration_since(Instant::now()) / 2);
        let own = |s: &Arc<SessionInfo>| s.context_id.as_ref() == Some(&self.context) && is_worker(&s.kind);
        let asked = |session: Arc<SessionInfo>| async move {
            // Its answer comes after the end of the running task, and so after what that task recorded.
            let params = json!({"expression": QUESTION, "silent": true});
            match self.connection.call_raw(Some(&session.id), "Runtime.evaluate", params, silent).await {
                Ok(_) => None,
                Err(error) if error.is_session_gone() => None,
                Err(CallError::Timeout { .. }) => {
                    Some(format!("a {} did not answer within {silent:?}", session.kind))
                }
                Err(error) => Some(format!("a {} could not be asked for its records: {error}", session.kind)),
            }
        };
        let sessions = self.connection.sessions().into_iter().filter(own);
        let mut suspects: Vec<String> = join_all(sessions.map(asked)).await.into_iter().flatten().collect();
        let (done, answer) = oneshot::channel();
        let finished = async {
            self.orders.send(Order::Finish(done)).await.ok()?;
            answer.await.ok()
        };
        let finished = timeout_at(deadline, finished).await.ok().flatten();
        suspects.push(finished.unwrap_or_else(|| "the recorder of the workers did not end".to_owned()));
        suspects.retain(|s| !s.is_empty());
        suspects.dedup();
        suspects.join("; ")
    }
}

struct Worker {
    rows: WorkerRows,
    /// It waited for its hooks, and nothing came of them yet.
    unheard: bool,
}

struct Running {
    recorder: WorkerRecorder,
    workers: HashMap<TargetId, Worker>,
    tab_id: i64,
    suspect: String,
}

impl Running {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut connected = true;
        loop {
            let recorded = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Tab(tab_id)) => {
                        self.tab_id = tab_id;
                        Ok(())
                    }
                    Some(Order::Finish(done)) => {
                        let suspect = self.finish().await;
                        // A visit that was dropped meanwhile does not want to know.
                        let _ = done.send(suspect);
                        return;
                    }
                    None => return,
                },
                item = self.recorder.events.recv(), if connected => match item {
                    Some(item) => self.on_item(item).await,
                    None => {
                        connected = false;
                        self.suspect("the browser ended while it was recorded");
                        Ok(())
                    }
                },
            };
            if let Err(error) = recorded {
                // The attempt ends by it; what follows could not be recorded either.
                self.suspect(&error.to_string());
                connected = false;
            }
        }
    }

    fn suspect(&mut self, why: &str) {
        if self.suspect.is_empty() {
            why.clone_into(&mut self.suspect);
        }
    }

    async fn on_item(&mut self, item: Item) -> Result<(), UplinkError> {
        match item {
            Item::Event(event) => return self.on_event(&event).await,
            Item::Lost { events, .. } => self.suspect(&format!("{events} events of workers were lost")),
            Item::HookFailed(_) => {}
        }
        Ok(())
    }

    async fn on_event(&mut self, event: &Event) -> Result<(), UplinkError> {
        let Some(session) = event.session.clone().filter(|s| is_worker(&s.kind)) else { return Ok(()) };
        match &*event.method {
            "Target.attachedToTarget" => {
                let worker = self.worker(&session);
                worker.unheard = session.was_paused;
                Ok(())
            }
            "Target.detachedFromTarget" => {
                // One that ended before its script came has made no calls.
                self.worker(&session).unheard = false;
                Ok(())
            }
            _ => match event.params.decode::<BindingCalled>() {
                Ok(BindingCalled { name, payload }) if name == self.recorder.hook.0.binding => {
                    self.on_batch(&session, &payload).await
                }
                Ok(_) => Ok(()),
                Err(error) => {
                    self.suspect(&format!("a worker's records cannot be read: {error}"));
                    Ok(())
                }
            },
        }
    }

    async fn on_batch(&mut self, session: &Arc<SessionInfo>, text: &str) -> Result<(), UplinkError> {
        let worker = self.worker(session);
        worker.unheard = false;
        if text.is_empty() {
            return Ok(());
        }
        let calls = match batch::decode(text) {
            Ok(calls) => calls,
            Err(error) => {
                self.suspect(&format!("a batch of a worker is broken: {error}"));
                return Ok(());
            }
        };
        let rows: Vec<(i64, Row)> = calls.into_iter().flat_map(|call| worker.rows.rows(call)).collect();
        for (at_us, row) in rows {
            self.recorder.uplink.record(StreamId::DEVTOOLS, at_us, row).await?;
        }
        Ok(())
    }

    fn worker(&mut self, session: &Arc<SessionInfo>) -> &mut Worker {
        if self.workers.len() >= WORKERS && !self.workers.contains_key(&session.target_id) {
            self.workers.clear();
        }
        let (recorder, tab_id) = (&self.recorder, self.tab_id);
        self.workers.entry(session.target_id.clone()).or_insert_with(|| {
            // Shared and service workers are of no one page.
            let of_main =
                &*session.kind == "worker" && of_page(&recorder.connection, session, &recorder.main);
            let page = of_main.then(|| (recorder.page_url)());
            let tab_id = if of_main { tab_id } else { -1 };
            let rows = WorkerRows::new(session.url.to_string(), page, tab_id, recorder.hook.0.limit);
            Worker { rows, unheard: false }
        })
    }

    async fn finish(&mut self) -> String {
        while let Some(item) = self.recorder.events.try_recv() {
            if let Err(error) = self.on_item(item).await {
                self.suspect(&error.to_string());
                break;
            }
        }
        let unheard = self.workers.values().filter(|w| w.unheard).map(|w| w.rows.url.clone());
        for url in unheard.collect::<Vec<_>>() {
            let row = truncation("worker_not_hooked", None, 0, 0, 0, url);
            if let Err(error) = self.recorder.uplink.record(StreamId::DEVTOOLS, wall_us(), row).await {
                self.suspect(&error.to_string());
                break;
            }
        }
        std::mem::take(&mut self.suspect)
    }
}

/// Whether the session's chain of owners ends in this page.
fn of_page(connection: &Connection, session: &Arc<SessionInfo>, page: &TargetId) -> bool {
    let parent = |id: &SessionId| connection.session(id);
    let mut at = session.parent.as_ref().and_then(parent);
    while let Some(session) = at {
        if session.target_id == *page {
            return true;
        }
        at = session.parent.as_ref().and_then(parent);
    }
    false
}
