//! Ordered, bounded streams of events. A full one loses events, but never silently.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{ContextId, HookFailure, RawJson, SessionId, SessionInfo};

/// Accounted for every queued event beside its text.
const EVENT_OVERHEAD: usize = 128;

/// An event as the browser sent it.
#[derive(Debug)]
pub struct Event {
    /// Whose event it is; `None` for the browser itself. `Target.attachedToTarget` and
    /// `Target.detachedFromTarget` are given to the session that comes or goes, not to its parent.
    pub session: Option<Arc<SessionInfo>>,
    /// For example `Network.requestWillBeSent`.
    pub method: Box<str>,
    pub params: RawJson,
    /// When it was read from the pipe.
    pub received_at: Instant,
    /// Counts all events of the connection, from 1.
    pub ordinal: u64,
}

/// What a subscription yields, in the order of the pipe.
#[derive(Debug, Clone)]
pub enum Item {
    Event(Arc<Event>),
    /// Here `events` wanted events with `bytes` of text are missing: the queue was full.
    Lost {
        events: u64,
        bytes: u64,
    },
    /// A set-up command of a new session failed, so what it should have captured is not.
    HookFailed(Arc<HookFailure>),
}

/// Says which contexts' events are not wanted. Called for every event: it must be quick.
#[derive(Clone)]
struct Outside(Arc<dyn Fn(&ContextId) -> bool + Send + Sync>);

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

/// Which events a subscription wants.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// `None`: every context.
    contexts: Option<HashSet<ContextId>>,
    /// Contexts whose events are not wanted.
    outside: Option<Outside>,
    /// `None`: every session (of the contexts).
    sessions: Option<HashSet<SessionId>>,
    browser_level: bool,
    /// `None`: every method.
    methods: Option<Vec<String>>,
}

impl Filter {
    /// Everything, the browser's own events too.
    pub fn all() -> Self {
        Self { browser_level: true, ..Self::default() }
    }

    /// All sessions of these contexts.
    pub fn contexts(contexts: impl IntoIterator<Item = ContextId>) -> Self {
        Self { contexts: Some(contexts.into_iter().collect()), ..Self::default() }
    }

    /// All sessions but those of the contexts that `known` knows.
    pub fn outside(known: impl Fn(&ContextId) -> bool + Send + Sync + 'static) -> Self {
        Self { outside: Some(Outside(Arc::new(known))), ..Self::default() }
    }

    /// These sessions only (not their children).
    pub fn sessions(sessions: impl IntoIterator<Item = SessionId>) -> Self {
        Self { sessions: Some(sessions.into_iter().collect()), ..Self::default() }
    }

    /// Also the browser's own events, such as downloads and created targets.
    pub fn with_browser_level(mut self) -> Self {
        self.browser_level = true;
        self
    }

    /// Only methods that start with one of these: `"Network."`, `"Page.frameNavigated"`.
    pub fn methods<S: Into<String>>(mut self, prefixes: impl IntoIterator<Item = S>) -> Self {
        self.methods = Some(prefixes.into_iter().map(Into::into).collect());
        self
    }

    fn wants_session(&self, session: Option<&SessionInfo>) -> bool {
        let Some(session) = session else { return self.browser_level };
        let in_context = match (&self.contexts, &session.context_id) {
            (None, _) => true,
            (Some(wanted), Some(context)) => wanted.contains(context),
            (Some(_), None) => false,
        };
        let known = |outside: &Outside| session.context_id.as_ref().is_some_and(|c| (outside.0)(c));
        let in_context = in_context && !self.outside.as_ref().is_some_and(known);
        in_context && self.sessions.as_ref().is_none_or(|wanted| wanted.contains(&session.id))
    }

    fn wants(&self, session: Option<&SessionInfo>, method: &str) -> bool {
        let wanted = |prefixes: &Vec<String>| prefixes.iter().any(|p| method.starts_with(p.as_str()));
        self.methods.as_ref().is_none_or(wanted) && self.wants_session(session)
    }
}

/// How much a subscription may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub events: usize,
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 100_000, bytes: 64 * 1024 * 1024 }
    }
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Lost since the last item in the queue.
    gap: (u64, u64),
    lost: u64,
    closed: bool,
    abandoned: bool,
}

#[derive(Debug)]
struct Shared {
    filter: Filter,
    limits: Limits,
    queue: Mutex<Queue>,
    news: Notify,
}

fn weight(item: &Item) -> usize {
    match item {
        Item::Event(event) => event.params.len() + event.method.len() + EVENT_OVERHEAD,
        Item::Lost { .. } | Item::HookFailed(_) => EVENT_OVERHEAD,
    }
}

impl Shared {
    fn push(&self, item: Item) {
        let size = weight(&item);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed || queue.abandoned {
            return;
        }
        if queue.items.len() >= self.limits.events || queue.bytes + size > self.limits.bytes {
            queue.gap.0 += 1;
            queue.gap.1 += size as u64;
            queue.lost += 1;
            return;
        }
        if queue.gap.0 > 0 {
            let (events, bytes) = std::mem::take(&mut queue.gap);
            queue.items.push_back(Item::Lost { events, bytes });
            queue.bytes += EVENT_OVERHEAD;
        }
        queue.bytes += size;
        queue.items.push_back(item);
        drop(queue);
        self.news.notify_one();
    }

    fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.news.notify_one();
    }
}

/// The receiving end. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription(Arc<Shared>);

impl Subscription {
    /// The next item; `None` when the connection has ended and all was delivered. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Item> {
        loop {
            // `notify_one` stores a permit, so news between the look and the wait is not missed.
            if let Some(next) = self.take() {
                return next;
            }
            self.0.news.notified().await;
        }
    }

    /// What is queued now; `None` when there is nothing.
    pub fn try_recv(&mut self) -> Option<Item> {
        self.take().flatten()
    }

    fn take(&mut self) -> Option<Option<Item>> {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = queue.items.pop_front() {
            queue.bytes = queue.bytes.saturating_sub(weight(&item));
            return Some(Some(item));
        }
        if queue.gap.0 > 0 {
            let (events, bytes) = std::mem::take(&mut queue.gap);
            return Some(Some(Item::Lost { events, bytes }));
        }
        queue.closed.then_some(None)
    }

    /// Events lost so far, over the whole life of the subscription.
    pub fn lost(&self) -> u64 {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).lost
    }

    /// Events queued now.
    pub fn len(&self) -> usize {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.abandoned = true;
        queue.items = VecDeque::new();
    }
}

/// All subscriptions of a connection.
#[derive(Debug, Default)]
pub(super) struct Hub {
    subscribers: Mutex<(Vec<Arc<Shared>>, bool)>,
}

impl Hub {
    pub fn subscribe(&self, filter: Filter, limits: Limits) -> Subscription {
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared { filter, limits, queue, news: Notify::new() });
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        if subscribers.1 {
            shared.close();
        } else {
            subscribers.0.push(shared.clone());
        }
        Subscription(shared)
    }

    /// Gives the event to whoever wants it; copies its text only when somebody does.
    pub fn publish(&self, session: Option<&Arc<SessionInfo>>, method: &str, params: &str, ordinal: u64) {
        let mut made: Option<Arc<Event>> = None;
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.0.retain(|s| Arc::strong_count(s) > 1);
        for s in &subscribers.0 {
            if !s.filter.wants(session.map(Arc::as_ref), method) {
                continue;
            }
            let event = made.get_or_insert_with(|| {
                Arc::new(Event {
                    session: session.cloned(),
                    method: method.into(),
                    params: RawJson::copy_of(params),
                    received_at: Instant::now(),
                    ordinal,
                })
            });
            s.push(Item::Event(event.clone()));
        }
    }

    pub fn hook_failed(&self, failure: &Arc<HookFailure>) {
        let subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        for s in subscribers.0.iter().filter(|s| s.filter.wants_session(Some(&failure.session))) {
            s.push(Item::HookFailed(failure.clone()));
        }
    }

    pub fn close(&self) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.1 = true;
        for s in subscribers.0.drain(..) {
            s.close();
        }
    }
}
