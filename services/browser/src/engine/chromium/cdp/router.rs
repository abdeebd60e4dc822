//! The reading side: every message goes through here, in order, and nothing here waits.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::connection::Shared;
use super::pending::Waiter;
use super::sessions::Attached;
use super::wire::{Envelope, Frame, Framer, ProtocolError};
use super::{AttachHook, CallError, CloseReason, RawCommand, RawJson, SessionId, SessionInfo, wire};

/// How new targets are attached to.
#[derive(Clone)]
pub struct AutoAttach {
    /// The set-up of each new session.
    pub hook: AttachHook,
    /// Targets whose URL starts with one of these are let run and left alone.
    pub leave_alone: Vec<String>,
}

impl AutoAttach {
    /// Leaves extensions (an attached one never sleeps) and DevTools alone.
    pub fn new(hook: impl Fn(&SessionInfo) -> Vec<RawCommand> + Send + Sync + 'static) -> Self {
        let leave_alone = ["chrome-extension://", "devtools://"].map(str::to_owned).into();
        Self { hook: Arc::new(hook), leave_alone }
    }

    /// Turns auto-attach on, for the browser or for a session. `tab` and `page` together are refused by
    /// Chromium (-32602); `browser_ui` are its own WebUI pages.
    pub(super) fn command() -> RawCommand {
        let exclude = |kind| json!({"type": kind, "exclude": true});
        let filter = json!([exclude("browser"), exclude("tab"), exclude("browser_ui"), {}]);
        RawCommand::new(
            "Target.setAutoAttach",
            json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true, "filter": filter}),
        )
    }
}

fn resume() -> RawCommand {
    RawCommand::new("Runtime.runIfWaitingForDebugger", json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detached {
    session_id: String,
}

pub(super) struct Router {
    shared: Arc<Shared>,
}

impl Router {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Reads until the pipe or the connection ends.
    pub async fn run(mut self, mut input: impl AsyncRead + Unpin) {
        let mut framer = Framer::new(self.shared.options.max_message_bytes);
        let mut closed = self.shared.closed.subscribe();
        let why = loop {
            let read = tokio::select! {
                _ = closed.wait_for(Option::is_some) => return,
                read = input.read_buf(framer.buffer()) => read,
            };
            match read {
                Ok(0) => break CloseReason::Eof,
                Ok(count) => drop(self.shared.counters.bytes.fetch_add(count as u64, Relaxed)),
                Err(error) => break CloseReason::Read(error.to_string()),
            }
            while let Some(frame) = framer.next() {
                self.frame(frame);
            }
        };
        self.shared.close(why);
    }

    fn frame(&mut self, frame: Frame) {
        let counters = &self.shared.counters;
        match frame {
            Frame::Message(bytes) => {
                counters.messages.fetch_add(1, Relaxed);
                self.message(&bytes);
            }
            Frame::Oversized { bytes, id } => {
                counters.oversized.fetch_add(1, Relaxed);
                let limit = self.shared.options.max_message_bytes;
                tracing::warn!(bytes, limit, ?id, "skipped a message beyond the size limit");
                if let Some(entry) = id.and_then(|id| self.shared.pending.take(id)) {
                    let method = entry.method.to_string();
                    let error = format!("the answer of {bytes} bytes exceeds the limit of {limit}");
                    entry.fail(CallError::Decode { method, error });
                }
            }
        }
    }

    fn message(&mut self, bytes: &[u8]) {
        let envelope: Envelope = match serde_json::from_slice(bytes) {
            Ok(envelope) => envelope,
            Err(error) => return self.undecodable(bytes, &error.to_string()),
        };
        match (envelope.id, &envelope.method) {
            (Some(id), _) => self.answer(id, &envelope),
            (None, Some(method)) => {
                let params = envelope.params.map_or("{}", |p| p.get());
                self.event(envelope.session.as_deref(), method, params);
            }
            (None, None) => self.undecodable(bytes, "neither an id nor a method"),
        }
    }

    fn undecodable(&self, bytes: &[u8], error: &str) {
        self.shared.counters.undecodable.fetch_add(1, Relaxed);
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
        tracing::warn!(%error, %head, "a message from the browser cannot be decoded");
    }

    fn answer(&self, id: u64, envelope: &Envelope) {
        let Some(entry) = self.shared.pending.take(id) else {
            self.shared.counters.unclaimed.fetch_add(1, Relaxed);
            return;
        };
        let refused = envelope.error.map(|e| {
            let raw = RawJson::copy_of(e.get());
            let fallback = |_| ProtocolError { code: 0, message: e.get().to_owned() };
            raw.decode::<ProtocolError>().unwrap_or_else(fallback)
        });
        match entry.waiter {
            Waiter::Nobody => {}
            Waiter::Guest(call) => call.answer(envelope.result, envelope.error),
            Waiter::Caller(caller) => {
                let result = match refused {
                    Some(ProtocolError { code, message }) => {
                        Err(CallError::Protocol { method: entry.method.into_owned(), code, message })
                    }
                    None => Ok(RawJson::copy_of(envelope.result.map_or("{}", |r| r.get()))),
                };
                if caller.send(result).is_err() {
                    self.shared.counters.unclaimed.fetch_add(1, Relaxed);
                }
            }
            Waiter::Hook => {
                let Some(session) = entry.session else { return };
                let failure = refused
                    .filter(|e| !self.excused(&session, &entry.method, e.code))
                    .map(|e| (entry.method.into_owned(), e.code, e.message));
                if let Some(failure) = self.shared.tree.answered(&session, failure) {
                    tracing::warn!(
                        session = %session, kind = %failure.session.kind, method = failure.method,
                        code = failure.code, message = failure.message,
                        "a set-up command of a new session failed"
                    );
                    self.shared.hub.hook_failed(&failure);
                }
            }
        }
    }

    /// Some kinds of workers have no children to attach to, and say that there is no such method.
    fn excused(&self, session: &SessionId, method: &str, code: i64) -> bool {
        const NO_SUCH_METHOD: i64 = -32601;
        let page_like = |info: Arc<SessionInfo>| matches!(&*info.kind, "page" | "iframe");
        code == NO_SUCH_METHOD
            && matches!(method, "Target.setAutoAttach" | "Runtime.runIfWaitingForDebugger")
            && !self.shared.tree.get(session.as_str()).is_some_and(page_like)
    }

    fn event(&mut self, session: Option<&str>, method: &str, params: &str) {
        if let Some(gone) = session.and_then(|id| self.shared.guests.event(id, method, params)) {
            return gone.iter().for_each(|session| self.shared.pending.end_session(session));
        }
        match method {
            "Target.attachedToTarget" => self.attached(session, params),
            "Target.detachedFromTarget" => self.detached(params),
            _ => match session {
                None => self.publish(None, method, params),
                Some(id) => match self.shared.tree.heard(id) {
                    Some(info) => self.publish(Some(&info), method, params),
                    None => drop(self.shared.counters.strays.fetch_add(1, Relaxed)),
                },
            },
        }
    }

    fn publish(&self, session: Option<&Arc<SessionInfo>>, method: &str, params: &str) {
        let ordinal = self.shared.counters.events.fetch_add(1, Relaxed) + 1;
        self.shared.hub.publish(session, method, params, ordinal);
    }

    fn attached(&mut self, parent: Option<&str>, params: &str) {
        let attached: Attached = match RawJson::copy_of(params).decode() {
            Ok(attached) => attached,
            Err(error) => {
                // At least let it run, or the page that made it hangs.
                if let Ok(Detached { session_id }) = RawJson::copy_of(params).decode() {
                    self.send(Some(&session_id.into()), resume(), Waiter::Nobody);
                }
                return self.undecodable(params.as_bytes(), &error.to_string());
            }
        };
        if attached.kind() == "browser" {
            // A guest's own session, which the answer to its call names.
            return;
        }
        let parent = parent.map(SessionId::from);
        let auto = self.shared.auto_attach();
        let alone = |auto: &AutoAttach| auto.leave_alone.iter().any(|p| attached.url().starts_with(p));
        if auto.as_ref().is_some_and(alone) {
            let session = SessionId::from(attached.session_id.as_str());
            // Not detached: a service worker that loses its session while it starts never runs its script.
            return self.send(Some(&session), resume(), Waiter::Nobody);
        }
        let (info, first) = self.shared.tree.add(attached, parent.as_ref());
        if !first {
            // A worker seen from several sides: this side only has to let it go.
            return self.send(Some(&info.id), resume(), Waiter::Nobody);
        }
        self.set_up(&info, auto.as_ref());
        self.publish(Some(&info), "Target.attachedToTarget", params);
    }

    /// Writes the whole set-up of a session without waiting for any answer: some commands are answered
    /// only after the last one, which lets the target run.
    fn set_up(&self, info: &Arc<SessionInfo>, auto: Option<&AutoAttach>) {
        let mut commands = auto.map(|auto| (auto.hook)(info)).unwrap_or_default();
        if auto.is_some() {
            commands.push(AutoAttach::command());
        }
        commands.push(resume());
        self.shared.tree.expect_answers(&info.id, commands.len());
        for command in commands {
            self.send(Some(&info.id), command, Waiter::Hook);
        }
    }

    fn detached(&mut self, params: &str) {
        let Detached { session_id } = match RawJson::copy_of(params).decode() {
            Ok(detached) => detached,
            Err(error) => return self.undecodable(params.as_bytes(), &error.to_string()),
        };
        let session = SessionId::from(session_id);
        self.shared.guests.detached(&session);
        let was_heard = self.shared.tree.heard(session.as_str());
        let (removed, heirs) = self.shared.tree.remove(&session);
        for info in &removed {
            self.shared.pending.end_session(&info.id);
        }
        if let Some(info) = was_heard {
            self.publish(Some(&info), "Target.detachedFromTarget", params);
        }
        let auto = self.shared.auto_attach();
        for heir in heirs {
            self.set_up(&heir, auto.as_ref());
        }
    }

    fn send(&self, session: Option<&SessionId>, command: RawCommand, waiter: Waiter) {
        // An error means closed: everything was told already.
        let Ok(id) = self.shared.pending.add(command.method.clone(), session, waiter) else { return };
        if self.shared.urgent.try_send(wire::encode(id, session, &command)).is_err() {
            self.shared.close(CloseReason::Backlog(self.shared.urgent.max_capacity()));
        }
    }
}
