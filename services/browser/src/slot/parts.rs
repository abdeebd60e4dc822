//! What a slot lends to the keeper of its browser.

use std::sync::Arc;

use sonde_runtime::process::Scope;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::Options;
use super::keeper::{News, Wear};
use crate::engine::Engine;

/// What keepers are made of.
#[derive(Clone)]
pub(super) struct Parts {
    pub engine: Arc<dyn Engine>,
    pub wear: Wear,
    /// Whether a second browser is held ready beside the first.
    pub spare: bool,
    /// Gets at most one message per launch and one per death, and some of memory.
    pub news: mpsc::Sender<News>,
    /// One for each browser that may start at the same time.
    pub turns: Arc<Semaphore>,
    /// Where its processes are recorded.
    pub processes: Option<Scope>,
    pub tasks: TaskTracker,
}

impl Parts {
    pub fn of(options: &Options, news: mpsc::Sender<News>) -> Self {
        Self {
            engine: options.engine.clone(),
            wear: options.wear,
            spare: options.spare,
            news,
            turns: options.turns.clone(),
            processes: options.processes.clone(),
            tasks: options.tasks.clone(),
        }
    }
}
