//! Guests: others who speak the protocol over our pipe, each with a browser session of its own.
//!
//! A guest sees what a client of a browser's own port would see. Its calls get ids of ours on the pipe and its own back;
//! its sessions are known by the guest alone, so that neither side hears, answers or sets up what is the other's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::connection::Connection;
use super::{CallError, RawCommand, SessionId};

/// Messages that may wait for a guest; one that reads too slowly is sent away.
const MESSAGES: usize = 64 * 1024;
/// Bytes of them.
const BYTES: usize = 512 * 1024 * 1024;
/// For the guest's session.
const OPEN: Duration = Duration::from_secs(10);
/// What DevTools answer for a session that is not there.
const NO_SESSION: i64 = -32001;
/// What they answer for what they refuse.
const REFUSED: i64 = -32000;
/// What would end or change the browser as a whole.
const HOSTS_OWN: [&str; 5] = [
    "Browser.close",
    "Browser.crash",
    "Browser.crashGpuProcess",
    "Extensions.",
    "Target.exposeDevToolsProtocol",
];

/// Where the messages of one guest go.
#[derive(Debug)]
pub(super) struct Outlet {
    root: SessionId,
    sender: Mutex<Option<mpsc::Sender<String>>>,
    bytes: AtomicUsize,
}

impl Outlet {
    fn push(&self, text: String) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = sender.as_ref() else { return };
        let size = text.len();
        if self.bytes.fetch_add(size, Relaxed) + size > BYTES || open.try_send(text).is_err() {
            tracing::warn!("a guest of the browser reads too slowly; its connection is closed");
            *sender = None;
        }
    }

    fn close(&self) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells the guest `fields` of a session, as the guest names that: its own browser session has no name.
    fn tell(&self, fields: &str, session: &str) {
        let of = if session == self.root.as_str() {
            String::new()
        } else {
            format!(",\"sessionId\":{}", json!(session))
        };
        self.push(format!("{{{fields}{of}}}"));
    }
}

/// A guest's call that waits for the browser's answer.
#[derive(Debug)]
pub(super) struct GuestCall {
    outlet: Arc<Outlet>,
    /// The guest's number of it.
    id: u64,
    session: SessionId,
}

impl GuestCall {
    pub fn answer(self, result: Option<&RawValue>, error: Option<&RawValue>) {
        let (key, value) = match error {
            Some(error) => ("error", error.get()),
            None => ("result", result.map_or("{}", RawValue::get)),
        };
        self.outlet.tell(&format!("\"id\":{},\"{key}\":{value}", self.id), self.session.as_str());
    }

    pub fn fail(self, error: &CallError) {
        let code = if error.is_session_gone() { NO_SESSION } else { REFUSED };
        let error = json!({"code": code, "message": error.to_string()});
        self.outlet.tell(&format!("\"id\":{},\"error\":{error}", self.id), self.session.as_str());
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfSession {
    session_id: String,
}

/// The sessions of all guests of a connection.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<HashMap<SessionId, Arc<Outlet>>>);

impl Guests {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<Outlet>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, session: &str) -> Option<Arc<Outlet>> {
        self.lock().get(session).cloned()
    }

    /// Gives an event to the guest whose session it is of; `None`: it is nobody's. Gives the session that it ends.
    pub fn event(&self, session: &str, method: &str, params: &str) -> Option<Option<SessionId>> {
        let outlet = self.of(session)?;
        let child =
            || Some(SessionId::from(super::RawJson::copy_of(params).decode::<OfSession>().ok()?.session_id));
        let mut gone = None;
        match method {
            "Target.attachedToTarget" => {
                if let Some(child) = child() {
                    self.lock().insert(child, outlet.clone());
                }
            }
            "Target.detachedFromTarget" => {
                gone = child();
                if let Some(child) = &gone {
                    self.lock().remove(child);
                }
            }
            _ => {}
        }
        outlet.tell(&format!("\"method\":{},\"params\":{params}", json!(method)), session);
        Some(gone)
    }

    /// A session of the browser itself has ended: if it was a guest's, all of its sessions did.
    pub fn detached(&self, root: &SessionId) {
        self.lock().retain(|_, outlet| outlet.root != *root);
    }

    pub fn close(&self) {
        self.lock().drain().for_each(|(_, outlet)| outlet.close());
    }
}

/// Somebody else who speaks to the browser; dropping it ends its sessions.
pub struct Guest {
    connection: Connection,
    outlet: Arc<Outlet>,
    inbox: mpsc::Receiver<String>,
    guarded: Arc<[String]>,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    id: u64,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow, rename = "sessionId")]
    session: Option<Cow<'a, str>>,
}

/// What a guest sent is no call.
#[derive(Debug, thiserror::Error)]
#[error("a message of a guest is no call of the protocol: {0}")]
pub struct NotACall(#[from] serde_json::Error);

impl Guest {
    /// Makes a browser session for a guest, which may not close the targets and contexts of `guarded`.
    pub async fn open(connection: &Connection, guarded: Arc<[String]>) -> Result<Self, CallError> {
        const METHOD: &str = "Target.attachToBrowserTarget";
        let answer = connection.call_raw(None, METHOD, json!({}), OPEN).await?;
        let attached: OfSession =
            answer.decode().map_err(|e| CallError::Decode { method: METHOD.into(), error: e.to_string() })?;
        let root = SessionId::from(attached.session_id);
        let (sender, inbox) = mpsc::channel(MESSAGES);
        let (sender, bytes) = (Mutex::new(Some(sender)), AtomicUsize::new(0));
        let outlet = Arc::new(Outlet { root: root.clone(), sender, bytes });
        connection.guests().lock().insert(root, outlet.clone());
        Ok(Self { connection: connection.clone(), outlet, inbox, guarded })
    }

    /// The next message for the guest; `None` when the browser is gone or the guest was too slow. Cancel-safe.
    pub async fn next(&mut self) -> Option<String> {
        let message = self.inbox.recv().await?;
        self.outlet.bytes.fetch_sub(message.len(), Relaxed);
        Some(message)
    }

    /// Takes a call of the guest; its answer comes by [`Guest::next`].
    pub async fn say(&self, text: &str) -> Result<(), NotACall> {
        let call: Incoming<'_> = serde_json::from_str(text)?;
        let session =
            call.session.as_deref().map(SessionId::from).unwrap_or_else(|| self.outlet.root.clone());
        let waiting = GuestCall { outlet: self.outlet.clone(), id: call.id, session: session.clone() };
        let own = self.connection.guests().of(session.as_str());
        if !own.is_some_and(|outlet| Arc::ptr_eq(&outlet, &self.outlet)) {
            waiting.fail(&CallError::Detached { method: call.method.into_owned(), session });
            return Ok(());
        }
        let params = call.params.map_or("{}", RawValue::get);
        if let Some(why) = self.refusal(&call.method, params) {
            let error = CallError::Protocol { method: call.method.into_owned(), code: REFUSED, message: why };
            waiting.fail(&error);
            return Ok(());
        }
        let params = RawValue::from_string(params.to_owned())?;
        let command = RawCommand { method: Cow::Owned(call.method.into_owned()), params };
        self.connection.forward(&session, command, waiting).await;
        Ok(())
    }

    fn refusal(&self, method: &str, params: &str) -> Option<String> {
        let own = |name: &&str| method == *name || name.ends_with('.') && method.starts_with(*name);
        if HOSTS_OWN.iter().any(own) {
            return Some("the browser is its host's: guests cannot do this".to_owned());
        }
        let key = match method {
            "Target.closeTarget" => "targetId",
            "Target.disposeBrowserContext" => "browserContextId",
            _ => return None,
        };
        let params: Value = super::RawJson::copy_of(params).decode().unwrap_or_default();
        let id = params[key].as_str().unwrap_or_default();
        self.guarded.iter().any(|g| g == id).then(|| format!("{id} is its host's: guests cannot close it"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.outlet.close();
        // Its sessions stay known until the browser says that they are gone: until then it may tell of them.
        let detach = RawCommand::new("Target.detachFromTarget", json!({"sessionId": self.outlet.root}));
        if let Err(error) = self.connection.send_no_wait(None, detach) {
            tracing::debug!(%error, "a guest's session could not be ended");
        }
    }
}
