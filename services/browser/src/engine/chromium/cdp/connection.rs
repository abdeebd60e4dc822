//! The connection: one reading task, one writing task, and a handle that is cheap to clone.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use chromiumoxide::Command;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::guest::{GuestCall, Guests};
use super::pending::{Pending, Waiter};
use super::router::{AutoAttach, Router};
use super::sessions::{Setup, Tree};
use super::subscription::Hub;
use super::{
    CallError, CloseReason, Filter, HookFailure, Limits, RawCommand, RawJson, SessionId, SessionInfo,
    Subscription, TargetId, wire,
};

/// Bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionOptions {
    /// A longer message is skipped and counted; the call it answers fails.
    pub max_message_bytes: usize,
    /// Calls that may wait for an answer at once.
    pub max_pending: usize,
    /// Callers' commands that may wait to be written.
    pub outgoing: usize,
    /// Set-up commands that may wait to be written; more close the connection.
    pub outgoing_setup: usize,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            max_message_bytes: 256 * 1024 * 1024,
            max_pending: 16 * 1024,
            outgoing: 1024,
            outgoing_setup: 64 * 1024,
        }
    }
}

/// What went over a connection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub bytes: u64,
    pub messages: u64,
    pub events: u64,
    /// Messages that were no protocol at all.
    pub undecodable: u64,
    /// Messages beyond the size limit.
    pub oversized: u64,
    /// Answers that nobody waited for any more.
    pub unclaimed: u64,
    /// Events of sessions that are unknown or doubled.
    pub strays: u64,
    /// Calls waiting now.
    pub pending: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub bytes: AtomicU64,
    pub messages: AtomicU64,
    pub events: AtomicU64,
    pub undecodable: AtomicU64,
    pub oversized: AtomicU64,
    pub unclaimed: AtomicU64,
    pub strays: AtomicU64,
}

pub(super) struct Shared {
    pub options: ConnectionOptions,
    pub pending: Pending,
    pub hub: Hub,
    pub tree: Tree,
    pub guests: Guests,
    pub counters: Counters,
    pub urgent: mpsc::Sender<Bytes>,
    normal: mpsc::Sender<Bytes>,
    pub closed: watch::Sender<Option<Arc<CloseReason>>>,
    auto_attach: Mutex<Option<AutoAttach>>,
}

impl Shared {
    pub fn auto_attach(&self) -> Option<AutoAttach> {
        self.auto_attach.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends every pending call and every subscription. The first reason stays.
    pub fn close(&self, why: CloseReason) {
        let why = Arc::new(why);
        let first = self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| why.clone());
            first
        });
        if first {
            tracing::debug!(%why, "browser connection closed");
            self.pending.close(&why);
            self.hub.close();
            self.guests.close();
            self.tree.changed();
        }
    }
}

/// A DevTools connection to one browser. Clones share it; when the last one is dropped the pipe is
/// closed, which makes Chromium exit.
#[derive(Clone)]
pub struct Connection(Arc<Guard>);

struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(CloseReason::Requested);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stats", &self.stats()).finish()
    }
}

impl Connection {
    /// Speaks the protocol over `input` and `output`; needs a tokio runtime.
    pub fn start(
        input: impl AsyncRead + Unpin + Send + 'static,
        output: impl AsyncWrite + Unpin + Send + 'static,
        options: ConnectionOptions,
    ) -> Self {
        let (urgent, urgent_queue) = mpsc::channel(options.outgoing_setup);
        let (normal, normal_queue) = mpsc::channel(options.outgoing);
        let shared = Arc::new(Shared {
            options,
            pending: Pending::new(options.max_pending),
            hub: Hub::default(),
            tree: Tree::new(),
            guests: Guests::default(),
            counters: Counters::default(),
            urgent,
            normal,
            closed: watch::Sender::new(None),
            auto_attach: Mutex::default(),
        });
        tokio::spawn(Router::new(shared.clone()).run(input));
        tokio::spawn(write(shared.clone(), output, urgent_queue, normal_queue));
        Self(Arc::new(Guard(shared)))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// Calls a typed command; `session` `None` is the browser itself. `deadline` covers waiting for room
    /// to send as well as the answer.
    pub async fn call<C: Command>(
        &self,
        session: Option<&SessionId>,
        command: C,
        deadline: Duration,
    ) -> Result<C::Response, CallError> {
        let method = command.identifier();
        let decode =
            |e: serde_json::Error| CallError::Decode { method: method.to_string(), error: e.to_string() };
        let command = RawCommand::typed(&command).map_err(decode)?;
        self.call_command(session, command, deadline).await?.decode().map_err(decode)
    }

    /// Calls by name, for commands and fields that the typed bindings lack. `params` is a JSON object.
    pub async fn call_raw(
        &self,
        session: Option<&SessionId>,
        method: &str,
        params: serde_json::Value,
        deadline: Duration,
    ) -> Result<RawJson, CallError> {
        self.call_command(session, RawCommand::new(method.to_owned(), params), deadline).await
    }

    /// As [`Connection::call_raw`], with a command made earlier.
    pub async fn call_command(
        &self,
        session: Option<&SessionId>,
        command: RawCommand,
        deadline: Duration,
    ) -> Result<RawJson, CallError> {
        let until = Instant::now() + deadline;
        let late = |_| CallError::Timeout { method: command.method.clone().into_owned(), after: deadline };
        let room = timeout_at(until, self.shared().normal.reserve()).await.map_err(late)?;
        let room = room.map_err(|_| self.closed_error(&command.method))?;
        let (call, bytes) = self.register(session, &command)?;
        room.send(bytes);
        call.until(until, deadline).await
    }

    /// Queues a command and returns; commands go out in the order of these calls. Dropping the result
    /// discards the answer.
    pub fn send_no_wait(
        &self,
        session: Option<&SessionId>,
        command: RawCommand,
    ) -> Result<PendingCall, CallError> {
        let room = self.shared().normal.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => {
                CallError::Busy { method: command.method.to_string(), limit: self.shared().options.outgoing }
            }
            mpsc::error::TrySendError::Closed(()) => self.closed_error(&command.method),
        })?;
        let (call, bytes) = self.register(session, &command)?;
        room.send(bytes);
        Ok(call)
    }

    pub(super) fn guests(&self) -> &Guests {
        &self.shared().guests
    }

    /// Sends a guest's command when there is room; its answer, or why there is none, goes to the guest.
    pub(super) async fn forward(&self, session: &SessionId, command: RawCommand, call: GuestCall) {
        let Ok(room) = self.shared().normal.reserve().await else {
            return call.fail(&self.closed_error(&command.method));
        };
        // Refused: too much waits, and the guest hears of it, or the connection has ended, and with it the guest's.
        match self.shared().pending.add(command.method.clone(), Some(session), Waiter::Guest(call)) {
            Ok(id) => room.send(wire::encode(id, Some(session), &command)),
            Err(error) => tracing::warn!(%error, "a guest's call was dropped"),
        }
    }

    fn register(
        &self,
        session: Option<&SessionId>,
        command: &RawCommand,
    ) -> Result<(PendingCall, Bytes), CallError> {
        let (sender, answer) = oneshot::channel();
        let id = self.shared().pending.add(command.method.clone(), session, Waiter::Caller(sender))?;
        let bytes = wire::encode(id, session, command);
        let method = command.method.clone().into_owned();
        Ok((PendingCall { id, method, answer, shared: self.shared().clone() }, bytes))
    }

    fn closed_error(&self, method: &str) -> CallError {
        let why = self.close_reason().unwrap_or_else(|| Arc::new(CloseReason::Requested));
        CallError::Closed { method: method.to_owned(), why }
    }

    /// From now on attaches to every target of the browser, present and future, before it runs.
    pub async fn auto_attach(&self, how: AutoAttach, deadline: Duration) -> Result<(), CallError> {
        *self.shared().auto_attach.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
        self.call_command(None, AutoAttach::command(), deadline).await.map(drop)
    }

    /// Replaces what new sessions get; sessions that are attached keep what they have.
    pub fn set_auto_attach(&self, how: AutoAttach) {
        *self.shared().auto_attach.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
    }

    /// Waits until the target is attached and has answered its whole set-up; gives its session and the
    /// set-up commands that failed.
    pub async fn wait_ready(
        &self,
        target: &TargetId,
        deadline: Duration,
    ) -> Result<(Arc<SessionInfo>, Vec<Arc<HookFailure>>), CallError> {
        const METHOD: &str = "Target.attachedToTarget";
        let mut changes = self.shared().tree.changes();
        let ready = async {
            loop {
                changes.borrow_and_update();
                if let Setup::Done(info, failures) = self.shared().tree.setup(target) {
                    return Ok((info, failures));
                }
                if self.close_reason().is_some() || changes.changed().await.is_err() {
                    return Err(self.closed_error(METHOD));
                }
            }
        };
        let late = CallError::Timeout { method: METHOD.to_owned(), after: deadline };
        timeout(deadline, ready).await.unwrap_or(Err(late))
    }

    /// An ordered stream of the events that `filter` wants, from now on.
    pub fn subscribe(&self, filter: Filter) -> Subscription {
        self.subscribe_within(filter, Limits::default())
    }

    /// As [`Connection::subscribe`], with bounds other than 100,000 events and 64 MiB.
    pub fn subscribe_within(&self, filter: Filter, limits: Limits) -> Subscription {
        self.shared().hub.subscribe(filter, limits)
    }

    pub fn session(&self, id: &SessionId) -> Option<Arc<SessionInfo>> {
        self.shared().tree.get(id.as_str())
    }

    /// The session that is heard for a target.
    pub fn session_of(&self, target: &TargetId) -> Option<Arc<SessionInfo>> {
        self.shared().tree.of_target(target)
    }

    /// All attached targets, one session each.
    pub fn sessions(&self) -> Vec<Arc<SessionInfo>> {
        self.shared().tree.all()
    }

    /// Closes the pipe: pending calls and subscriptions end, and Chromium exits.
    pub fn close(&self, why: CloseReason) {
        self.shared().close(why);
    }

    /// A handle that can close the connection but does not keep it open.
    pub fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(self.shared()))
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> Arc<CloseReason> {
        let mut closed = self.shared().closed.subscribe();
        let seen = closed.wait_for(Option::is_some).await;
        seen.ok().and_then(|c| c.clone()).unwrap_or_else(|| Arc::new(CloseReason::Requested))
    }

    pub fn close_reason(&self) -> Option<Arc<CloseReason>> {
        self.shared().closed.borrow().clone()
    }

    pub fn stats(&self) -> Stats {
        let c = &self.shared().counters;
        Stats {
            bytes: c.bytes.load(Relaxed),
            messages: c.messages.load(Relaxed),
            events: c.events.load(Relaxed),
            undecodable: c.undecodable.load(Relaxed),
            oversized: c.oversized.load(Relaxed),
            unclaimed: c.unclaimed.load(Relaxed),
            strays: c.strays.load(Relaxed),
            pending: self.shared().pending.len(),
        }
    }
}

/// See [`Connection::downgrade`].
#[derive(Clone)]
pub struct WeakConnection(Weak<Shared>);

impl WeakConnection {
    pub fn close(&self, why: CloseReason) {
        if let Some(shared) = self.0.upgrade() {
            shared.close(why);
        }
    }
}

/// A command on its way; see [`Connection::send_no_wait`].
pub struct PendingCall {
    id: u64,
    method: String,
    answer: oneshot::Receiver<Result<RawJson, CallError>>,
    shared: Arc<Shared>,
}

impl PendingCall {
    /// Waits for the answer.
    pub async fn result(self, deadline: Duration) -> Result<RawJson, CallError> {
        self.until(Instant::now() + deadline, deadline).await
    }

    async fn until(mut self, until: Instant, deadline: Duration) -> Result<RawJson, CallError> {
        match timeout_at(until, &mut self.answer).await {
            Ok(Ok(result)) => result,
            // The entry went without a word: only a closing connection does that.
            Ok(Err(_)) => {
                let why = self.shared.closed.borrow().clone();
                let why = why.unwrap_or_else(|| Arc::new(CloseReason::Requested));
                Err(CallError::Closed { method: self.method.clone(), why })
            }
            Err(_) => Err(CallError::Timeout { method: self.method.clone(), after: deadline }),
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.shared.pending.take(self.id);
    }
}

async fn write(
    shared: Arc<Shared>,
    mut output: impl AsyncWrite + Unpin,
    mut urgent: mpsc::Receiver<Bytes>,
    mut normal: mpsc::Receiver<Bytes>,
) {
    let mut closed = shared.closed.subscribe();
    let writing = async {
        loop {
            // Set-up first: a paused target holds up its page.
            let next = tokio::select! {
                biased;
                next = urgent.recv() => next,
                next = normal.recv() => next,
            };
            let Some(message) = next else { return };
            let written = async {
                output.write_all(&message).await?;
                output.flush().await
            };
            if let Err(error) = written.await {
                return shared.close(CloseReason::Write(error.to_string()));
            }
        }
    };
    tokio::select! {
        () = writing => {}
        _ = closed.wait_for(Option::is_some) => {}
    }
}
