//! Turns what the hooks in a visit's workers say into rows on the visit's DevTools stream.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use serde::Deserialize;
use sonde_proto::StreamId;
use sonde_proto::record::v1::record::Row;
use sonde_runtime::clock::wall_us;

use super::{Hook, is_worker};
use crate::engine::chromium::calls::{CallRows, Callers, Tab, batch, truncation};
use crate::engine::chromium::cdp::{
    Connection, ContextId, Event, Item, SessionId, SessionInfo, Subscription, TargetId,
};
use crate::engine::chromium::recorder::{Handler, Recorder, Suspect};
use crate::uplink::{AttemptUplink, UplinkError};

/// Events that the recorder wants.
pub(in crate::engine::chromium) const METHODS: &[&str] =
    &["Runtime.bindingCalled", "Target.attachedToTarget", "Target.detachedFromTarget"];

/// Workers of one visit that are told apart; beyond that, rows of workers that have ended lose their numbering.
const WORKERS: usize = 4096;

#[derive(Deserialize)]
struct BindingCalled {
    name: String,
    payload: String,
}

/// What a visit's workers are recorded with.
pub(in crate::engine::chromium) struct WorkerRecorder {
    pub connection: Connection,
    pub hook: Hook,
    pub uplink: AttemptUplink,
    /// The visit's page.
    pub main: TargetId,
    /// URL of the visit's page now.
    pub page_url: Box<dyn Fn() -> String + Send + Sync>,
}

impl WorkerRecorder {
    pub fn start(self, events: Subscription, context: ContextId) -> Callers {
        let connection = self.connection.clone();
        let calls =
            Calls { recorder: self, workers: HashMap::new(), tab_id: -1, suspect: Suspect::default() };
        Callers::start(Recorder::new("the workers", events, calls), (connection, context), is_worker)
    }
}

struct Worker {
    rows: CallRows,
    /// It waited for its hooks, and nothing came of them yet.
    unheard: bool,
}

struct Calls {
    recorder: WorkerRecorder,
    workers: HashMap<TargetId, Worker>,
    tab_id: i64,
    suspect: Suspect,
}

impl Handler for Calls {
    type Order = Tab;
    type Done = Infallible;

    fn suspect(&mut self) -> &mut Suspect {
        &mut self.suspect
    }

    fn on_order(&mut self, Tab(tab_id): Tab) {
        self.tab_id = tab_id;
    }

    async fn on_item(&mut self, item: Item) -> Result<(), UplinkError> {
        match item {
            Item::Event(event) => return self.on_event(&event).await,
            Item::Lost { events, .. } => {
                self.suspect.because(&format!("{events} events of workers were lost"));
            }
            Item::HookFailed(_) => {}
        }
        Ok(())
    }

    async fn done(&mut self) -> Option<Infallible> {
        None
    }

    async fn on_done(&mut self, done: Infallible) -> Result<(), UplinkError> {
        match done {}
    }

    async fn finish(&mut self) -> Result<(), UplinkError> {
        let unheard = self.workers.values().filter(|w| w.unheard).map(|w| w.rows.url.clone());
        for url in unheard.collect::<Vec<_>>() {
            let row = truncation("worker_not_hooked", None, 0, 0, 0, url);
            self.recorder.uplink.record(StreamId::DEVTOOLS, wall_us(), row).await?;
        }
        Ok(())
    }
}

impl Calls {
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
                    self.suspect.because(&format!("a worker's records cannot be read: {error}"));
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
                self.suspect.because(&format!("a batch of a worker is broken: {error}"));
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
            let rows = CallRows::new(session.url.to_string(), page, tab_id, recorder.hook.0.limit);
            Worker { rows, unheard: false }
        })
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
