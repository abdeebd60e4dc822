//! The scripts instrument: what the engine compiled becomes rows of `scripts` (I5).
//!
//! It listens to the debugger of every session, which never pauses anything. [`ScriptTracker`] is pure, as the HTTP
//! tracker is: it takes events and returns [`ScriptAction`]s; [`read_source`] performs those that need the browser.
//! The engine tells the SHA-256 of a text as it compiles it, so that sources are read only where they are to be saved
//! or where they alone tell how a script came. Which frame a script belongs to and which request brought it is the HTTP tracker's knowledge.

mod events;
mod how;
mod source;
mod tracker;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;

use super::cdp::RawCommand;

pub use source::{SourceRequest, SourceResult, read_source};
pub use tracker::{ScriptAction, ScriptConfig, ScriptTracker};

/// Lower-case hex.
pub(super) fn sha256(source: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(source.as_ref()))
}

/// Sources of ours, by SHA-256, that hold a word which no page knows: none can have them compiled. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Arc<Mutex<HashSet<String>>>);

impl Secrets {
    pub fn add(&self, source: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256(source));
    }

    fn contain(&self, hash: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(hash)
    }
}

/// Asynchronous parents that the engine keeps of a stack.
const ASYNC_DEPTH: u32 = 32;
/// Bytes of sources that the engine keeps for us after their scripts were collected.
const COLLECTED_SOURCES: u64 = 64 * 1024 * 1024;

/// Has a session's debugger tell of scripts. Whoever needs it says the same: the last word counts.
pub fn enable() -> RawCommand {
    RawCommand::new("Debugger.enable", json!({"maxScriptsCacheSize": COLLECTED_SOURCES}))
}

/// The commands by which a session of this kind tells of its scripts, and by which stacks have asynchronous parents.
pub fn setup_commands(kind: &str) -> Vec<RawCommand> {
    if !matches!(kind, "page" | "iframe" | "worker" | "shared_worker" | "service_worker" | "worklet") {
        return Vec::new();
    }
    vec![
        enable(),
        // `debugger;` and breakpoints of a page's own making would stop it for ever.
        RawCommand::new("Debugger.setSkipAllPauses", json!({"skip": true})),
        RawCommand::new("Debugger.setAsyncCallStackDepth", json!({"maxDepth": ASYNC_DEPTH})),
    ]
}
