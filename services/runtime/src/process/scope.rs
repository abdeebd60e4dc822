//! On whose behalf processes are started: like a tracing span, it holds for all that a future does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::store::ProcessStore;

tokio::task_local! {
    static SCOPE: Scope;
}

/// Of a program that starts processes for one purpose only.
static WHOLE_PROGRAM: Mutex<Option<Scope>> = Mutex::new(None);

/// Where processes are recorded, under which parent, and what they belong to.
#[derive(Debug, Clone)]
pub struct Scope {
    pub(super) store: ProcessStore,
    pub(super) parent: String,
    pub(super) context: BTreeMap<String, String>,
}

impl Scope {
    pub(super) fn new(store: ProcessStore) -> Self {
        let parent = store.own_id().to_owned();
        Self { store, parent, context: BTreeMap::new() }
    }

    /// All that is started belongs to this, too: `browser_id`, `visit_id`, ….
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.context.insert(key.to_owned(), value.to_string());
        self
    }

    /// Where they are recorded.
    pub fn store(&self) -> &ProcessStore {
        &self.store
    }

    /// Runs a future; what it starts is recorded here. Not what tasks start that it spawns.
    pub async fn run<F: Future>(self, future: F) -> F::Output {
        SCOPE.scope(self, future).await
    }

    /// Holds for all that this program starts outside of any other scope, until the guard is dropped; for programs with one
    /// purpose.
    pub fn for_the_whole_program(self) -> WholeProgram {
        *WHOLE_PROGRAM.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
        WholeProgram(())
    }

    /// The scope that the calling future runs in.
    pub fn current() -> Option<Self> {
        let own = SCOPE.try_with(Clone::clone).ok();
        own.or_else(|| WHOLE_PROGRAM.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// See [`Scope::for_the_whole_program`].
#[derive(Debug)]
#[must_use]
pub struct WholeProgram(());

impl Drop for WholeProgram {
    fn drop(&mut self) {
        let scope = WHOLE_PROGRAM.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(scope) = scope {
            scope.store.close();
        }
    }
}

/// As [`Scope::run`]; without a scope the future's own holds.
pub async fn within<F: Future>(scope: Option<Scope>, future: F) -> F::Output {
    match scope {
        Some(scope) => scope.run(future).await,
        None => future.await,
    }
}
