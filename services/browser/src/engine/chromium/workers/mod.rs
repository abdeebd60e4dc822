//! The JavaScript instrument in workers of every kind, where no extension reaches.
//!
//! A new worker waits for its debugger: before it runs its first statement it gets a function that takes text out
//! (`Runtime.addBinding`) and the page-world hooks of the extension (`worker.js`), which take that function away from
//! the global object and wrap what the settings name. Batches come as events on the worker's session, in the order of
//! its calls, and become rows of `javascript` on the DevTools stream. Worklets are not covered.

mod recorder;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use sonde_proto::FieldErrors;
use sonde_proto::js_settings::JsSettings;

use super::cdp::{RawCommand, SessionInfo, TargetId};
use super::inlined::{Inlined, InlinedError, word};
use crate::engine::Scripts;
pub(super) use recorder::{METHODS, WorkerRecorder};

const FILE: &str = "worker.js";
/// Workers of a visit whose hooks are remembered.
const REMEMBERED: usize = 4096;

/// Why there are no hooks for workers.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error(transparent)]
    Script(#[from] InlinedError),
    #[error("the JavaScript settings are wrong: {0}")]
    Settings(#[from] FieldErrors),
}

/// The hooks of one browser process.
pub(super) struct HookSource {
    script: Inlined,
    settings: JsSettings,
    limit: u32,
}

impl HookSource {
    /// `extension`: the directory of the built extension.
    pub async fn load(extension: &Path, scripts: &Scripts) -> Result<Self, HookError> {
        let script = Inlined::load(extension, FILE).await?;
        let settings = JsSettings::parse(&scripts.javascript_settings)?;
        Ok(Self { script, settings, limit: scripts.javascript_limit })
    }

    pub fn settings(&self) -> &JsSettings {
        &self.settings
    }

    /// The hooks of one visit.
    pub fn hook(&self) -> Hook {
        let binding = word();
        let config = json!({
            "targets": self.settings.for_extension(),
            "limit": self.limit,
            "binding": binding,
        });
        let script = self.script.with(&config);
        let expression = format!("{script}\n//# sourceURL={}", word());
        Hook(Arc::new(Shared { binding, expression, limit: self.limit, hooked: Mutex::default() }))
    }
}

/// The hooks of one visit. Clones share them.
#[derive(Clone)]
pub(super) struct Hook(Arc<Shared>);

struct Shared {
    binding: String,
    expression: String,
    limit: u32,
    /// Workers that have them, whichever session they came by.
    hooked: Mutex<HashSet<TargetId>>,
}

/// Whether a session is that of a worker with a global scope of its own.
fn is_worker(kind: &str) -> bool {
    matches!(kind, "worker" | "shared_worker" | "service_worker")
}

impl Hook {
    /// Sources that are run in workers for the recording's sake.
    pub fn sources(&self) -> [String; 2] {
        [self.0.expression.clone(), self.again()]
    }

    /// For a second session on a worker, which only has to hear what the hooks say: their function is theirs already.
    fn again(&self) -> String {
        format!("delete globalThis.{}", self.0.binding)
    }

    /// What a new session is told before its target runs.
    pub fn commands(&self, info: &SessionInfo) -> Vec<RawCommand> {
        if !is_worker(&info.kind) {
            return Vec::new();
        }
        let mut hooked = self.0.hooked.lock().unwrap_or_else(PoisonError::into_inner);
        if hooked.len() >= REMEMBERED {
            hooked.clear();
        }
        let again = self.again();
        let expression = if hooked.insert(info.target_id.clone()) { &self.0.expression } else { &again };
        vec![
            RawCommand::new("Runtime.addBinding", json!({"name": self.0.binding})),
            RawCommand::new("Runtime.evaluate", json!({"expression": expression, "silent": true})),
        ]
    }
}
