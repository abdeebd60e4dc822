//! Calls that wait for an answer: bounded, and all ended at once when the connection is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::guest::GuestCall;
use super::{CallError, CloseReason, RawJson, SessionId};

#[derive(Debug)]
pub(super) enum Waiter {
    Caller(oneshot::Sender<Result<RawJson, CallError>>),
    /// A set-up command of this entry's session.
    Hook,
    /// Somebody else who speaks over our pipe.
    Guest(GuestCall),
    /// Nobody wants the answer.
    Nobody,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub method: Cow<'static, str>,
    pub session: Option<SessionId>,
    pub waiter: Waiter,
}

impl Entry {
    pub fn fail(self, error: CallError) {
        match self.waiter {
            Waiter::Caller(caller) => {
                // The caller may have given up: its own business.
                let _ = caller.send(Err(error));
            }
            Waiter::Guest(call) => call.fail(&error),
            Waiter::Hook | Waiter::Nobody => {}
        }
    }
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<u64, Entry>,
    closed: Option<Arc<CloseReason>>,
}

#[derive(Debug)]
pub(super) struct Pending {
    state: Mutex<State>,
    next: AtomicU64,
    limit: usize,
}

impl Pending {
    pub fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), next: AtomicU64::new(1), limit }
    }

    pub fn add(
        &self,
        method: Cow<'static, str>,
        session: Option<&SessionId>,
        waiter: Waiter,
    ) -> Result<u64, CallError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &state.closed {
            return Err(CallError::Closed { method: method.to_string(), why: why.clone() });
        }
        // Set-up commands may exceed the limit: without them a new target would hang.
        if matches!(waiter, Waiter::Caller(_) | Waiter::Guest(_)) && state.calls.len() >= self.limit {
            let busy = CallError::Busy { method: method.to_string(), limit: self.limit };
            if let Waiter::Guest(call) = waiter {
                call.fail(&busy);
            }
            return Err(busy);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        state.calls.insert(id, Entry { method, session: session.cloned(), waiter });
        Ok(id)
    }

    pub fn take(&self, id: u64) -> Option<Entry> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls.remove(&id)
    }

    pub fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls.len()
    }

    /// Ends the calls of a session that is gone: the browser will not answer them.
    pub fn end_session(&self, session: &SessionId) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let over: Vec<Entry> =
            state.calls.extract_if(|_, e| e.session.as_ref() == Some(session)).map(|(_, e)| e).collect();
        drop(state);
        for entry in over {
            let method = entry.method.to_string();
            entry.fail(CallError::Detached { method, session: session.clone() });
        }
    }

    pub fn close(&self, why: &Arc<CloseReason>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed.get_or_insert_with(|| why.clone());
        let over = std::mem::take(&mut state.calls);
        drop(state);
        for entry in over.into_values() {
            let method = entry.method.to_string();
            entry.fail(CallError::Closed { method, why: why.clone() });
        }
    }
}
