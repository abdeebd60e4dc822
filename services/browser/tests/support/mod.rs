//! A storage in memory that can be away, slow or unwilling; and an engine whose visits follow a script.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod engine;
pub mod pages;
pub mod rig;
mod storage;

pub use engine::{Script, ScriptedEngine};
pub use storage::MemoryStorage;

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

pub const SOON: Duration = Duration::from_secs(20);

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
