//! A visit's side of the recorder of its workers or documents.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::chromium::cdp::{CallError, Connection, ContextId, SessionInfo};
use crate::engine::chromium::recorder::{Handler, Orders, Recorder};

/// Run in a worker or document to have its answer.
pub const QUESTION: &str = "0";

/// The tab of the main page.
pub struct Tab(pub i64);

/// Records the calls of all sessions of some kinds; the recorder ends with it.
pub struct Callers {
    connection: Connection,
    context: ContextId,
    kinds: fn(&str) -> bool,
    orders: Orders<Tab>,
    _task: AbortOnDropHandle<()>,
}

impl Callers {
    pub fn start<H: Handler<Order = Tab> + 'static>(
        (recorder, orders): (Recorder<H>, Orders<Tab>),
        (connection, context): (Connection, ContextId),
        kinds: fn(&str) -> bool,
    ) -> Self {
        let task = AbortOnDropHandle::new(tokio::spawn(async move { drop(recorder.run().await) }));
        Self { connection, context, kinds, orders, _task: task }
    }

    /// Whose calls: "the workers".
    pub fn of(&self) -> &'static str {
        self.orders.of()
    }

    /// Rows of the main page's workers or documents are of this tab.
    pub async fn set_tab(&self, tab_id: i64) {
        // A recorder that has ended says so when it is to finish.
        drop(self.orders.tell(Tab(tab_id)).await);
    }

    /// Waits until everyone has handed over what there is, `silent` for each at most, and all of it is recorded. Says
    /// why records may be missing; "" when none are.
    pub async fn finish(&self, silent: Duration, deadline: Instant) -> String {
        let mut suspects = self.hear(silent, deadline).await;
        suspects.push(self.orders.finish(deadline, deadline).await);
        suspects.retain(|s| !s.is_empty());
        suspects.dedup();
        suspects.join("; ")
    }

    /// Asks every session, so that all they had to say has been said; who did not answer.
    async fn hear(&self, silent: Duration, deadline: Instant) -> Vec<String> {
        let silent = silent.min(deadline.saturating_duration_since(Instant::now()) / 2);
        let own =
            |s: &Arc<SessionInfo>| s.context_id.as_ref() == Some(&self.context) && (self.kinds)(&s.kind);
        let asked = |session: Arc<SessionInfo>| async move {
            // Its answer comes after the end of the running task, and so after what that task recorded.
            let params = json!({"expression": QUESTION, "silent": true});
            match self.connection.call_raw(Some(&session.id), "Runtime.evaluate", params, silent).await {
                Ok(_) => None,
                Err(error) if error.is_session_gone() => None,
                Err(CallError::Timeout { .. }) => {
                    Some(format!("a {} did not answer within {silent:?}", session.kind))
                }
                Err(error) => Some(format!("a {} did not answer: {error}", session.kind)),
            }
        };
        let sessions = self.connection.sessions().into_iter().filter(own);
        join_all(sessions.map(asked)).await.into_iter().flatten().collect()
    }
}
