//! What tests of browsers share: a storage in memory that can be away, slow or unwilling; an engine whose visits follow
//! a script; servers; real browsers of either kind with all that they need.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod engine;
pub mod extension;
pub mod firefox;
pub mod http_site;
pub mod http_truth;
pub mod pages;
pub mod rig;
mod rows;
mod storage;

pub use engine::{Script, ScriptedEngine};
pub use rows::Rows;
pub use storage::MemoryStorage;

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

pub const SOON: Duration = Duration::from_secs(20);
/// For what takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits until `done` says so, looking again at every change.
pub async fn until(what: &str, changes: &tokio::sync::watch::Receiver<u64>, mut done: impl FnMut() -> bool) {
    let mut changes = changes.clone();
    let end = Instant::now() + SOON;
    loop {
        changes.borrow_and_update();
        if done() {
            return;
        }
        assert!(timeout_at(end, changes.changed()).await.is_ok(), "in vain: {what}");
    }
}
