//! Second sessions on pages that have a service worker. What a worker answers by itself never was on the network, and
//! is kept in the renderer's own buffer only; a session whose bodies are kept outside of the renderer does not read
//! that, a plain one does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::engine::chromium::cdp::{Connection, SessionId, SessionInfo};
use crate::engine::chromium::http::HttpConfig;

/// Attaching is two calls.
const ATTACH: Duration = Duration::from_secs(10);
/// Bytes of bodies that a renderer keeps for us.
const BUFFER: u64 = 64 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    session_id: SessionId,
}

/// The companions of a visit's sessions. Clones share them.
#[derive(Clone)]
pub(super) struct Companions {
    connection: Connection,
    max_body_bytes: u64,
    wanted: Arc<AtomicBool>,
    by_session: Arc<Mutex<HashMap<SessionId, SessionId>>>,
}

fn holds_pages(session: &SessionInfo) -> bool {
    matches!(&*session.kind, "page" | "iframe")
}

impl Companions {
    pub fn new(connection: Connection, config: &HttpConfig) -> Self {
        Self {
            connection,
            max_body_bytes: config.max_body_bytes,
            wanted: Arc::default(),
            by_session: Arc::default(),
        }
    }

    /// The sessions that need a companion now that this one has come.
    pub fn needed(&self, come: &Arc<SessionInfo>) -> Vec<Arc<SessionInfo>> {
        if &*come.kind == "service_worker" && !self.wanted.swap(true, Ordering::Relaxed) {
            let all = self.connection.sessions().into_iter();
            return all.filter(|s| s.context_id == come.context_id && holds_pages(s)).collect();
        }
        let later = self.wanted.load(Ordering::Relaxed) && holds_pages(come);
        later.then(|| come.clone()).into_iter().collect()
    }

    /// Attaches a companion; a target that went needs none.
    pub async fn attach(&self, session: Arc<SessionInfo>) {
        if let Err(error) = self.try_attach(&session).await {
            tracing::debug!(error, kind = %session.kind, "no second session for a page");
        }
    }

    async fn try_attach(&self, session: &SessionInfo) -> Result<(), String> {
        let params = json!({"targetId": session.target_id, "flatten": true});
        let answer = self.connection.call_raw(None, "Target.attachToTarget", params, ATTACH).await;
        let attached: Attached = answer.map_err(|e| e.to_string())?.decode().map_err(|e| e.to_string())?;
        let params = json!({
            "maxTotalBufferSize": BUFFER,
            "maxResourceBufferSize": self.max_body_bytes.min(BUFFER),
        });
        let enabled = self.connection.call_raw(Some(&attached.session_id), "Network.enable", params, ATTACH);
        enabled.await.map_err(|e| e.to_string())?;
        let mut by_session = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        by_session.insert(session.id.clone(), attached.session_id);
        Ok(())
    }

    pub fn of(&self, session: &SessionId) -> Option<SessionId> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned()
    }
}
