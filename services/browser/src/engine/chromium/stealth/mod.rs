//! The JavaScript instrument in capture mode `stealth`: nothing in a page is replaced. The engine itself stops at the
//! functions that the settings name, and the condition of each breakpoint records the call (`stealth.js` of the
//! extension) and has the engine go on.
//!
//! A document begins with our script and a `debugger` statement. While it waits, the script is given a function that
//! takes text out, and breakpoints are put on the functions that it names. Breakpoints stay with the engine's process
//! until the next main document; realms made since are seen through them once any breakpoint is set again, for which
//! their documents wait likewise. What the browser runs after a navigation was committed (`pagehide`, `unload`) runs
//! without a debugger and is not seen; neither are workers.

mod pause;
mod recorder;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use sonde_proto::FieldErrors;
use sonde_proto::js_settings::JsSettings;

use super::cdp::{RawCommand, SessionInfo, TargetId};
use super::inlined::{Inlined, InlinedError, word};
use super::scripts::{self, Secrets, sha256};
use crate::engine::Scripts;
pub(super) use recorder::{METHODS, StealthRecorder};

const FILE: &str = "stealth.js";
/// Functions of one document that are stopped at: each slows every document's start.
const MOST: u32 = 64;
/// What is recorded where the settings are the default, whose hundreds of functions are too many.
const DEFAULT_SETTINGS: &str = r#"["collection_stealth"]"#;
/// Targets of a visit that are remembered.
const REMEMBERED: usize = 4096;

/// Why documents cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum StealthError {
    #[error(transparent)]
    Script(#[from] InlinedError),
    #[error("the JavaScript settings are wrong: {0}")]
    Settings(#[from] FieldErrors),
}

/// What one browser process is recorded with.
pub(super) struct StealthSource {
    script: Inlined,
    settings: JsSettings,
    limit: u32,
}

impl StealthSource {
    /// `extension`: the directory of the built extension.
    pub async fn load(extension: &Path, scripts: &Scripts) -> Result<Self, StealthError> {
        let script = Inlined::load(extension, FILE).await?;
        let settings = match scripts.javascript_settings.trim() {
            "" => JsSettings::parse(DEFAULT_SETTINGS)?,
            given => JsSettings::parse(given)?,
        };
        Ok(Self { script, settings, limit: scripts.javascript_limit })
    }

    pub fn settings(&self) -> &JsSettings {
        &self.settings
    }

    /// What one visit is recorded with.
    pub fn hook(&self) -> StealthHook {
        let config = json!({
            "targets": self.settings.for_extension(),
            "limit": self.limit,
            "most": MOST,
        });
        let (name, script) = (word(), self.script.with(&config));
        let source = format!(
            "const {name} = (() => {{ let made; ((SONDE_GIVE) => {{ {script}\n}})((it) => {{ made = it; }}); \
             return made; }})();\n{name}.wait();"
        );
        let hash = sha256(&source);
        let secrets = Secrets::default();
        secrets.add(&source);
        StealthHook(Arc::new(Shared {
            name,
            binding: word(),
            source,
            hash,
            limit: self.limit,
            secrets,
            told: Mutex::default(),
            numbered: AtomicU32::new(1),
        }))
    }
}

/// What one visit is recorded with. Clones share it.
#[derive(Clone)]
pub(super) struct StealthHook(Arc<Shared>);

struct Shared {
    /// Of the recorder in each realm: a lexical name, which no object holds.
    name: String,
    binding: String,
    source: String,
    hash: String,
    limit: u32,
    secrets: Secrets,
    /// A second session on a target would see each call twice.
    told: Mutex<HashSet<TargetId>>,
    numbered: AtomicU32,
}

/// Whether a session is that of documents.
fn is_document(kind: &str) -> bool {
    matches!(kind, "page" | "iframe")
}

impl StealthHook {
    /// What is run in pages for the recording's sake, and holds our word.
    pub fn secrets(&self) -> Secrets {
        self.0.secrets.clone()
    }

    /// Tells the sessions of a visit apart, within documents.
    fn number(&self) -> u32 {
        self.0.numbered.fetch_add(1, Ordering::Relaxed)
    }

    /// What a new session is told before its target runs.
    pub fn commands(&self, info: &SessionInfo) -> Vec<RawCommand> {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        if !is_document(&info.kind) || !told.insert(info.target_id.clone()) {
            return Vec::new();
        }
        vec![
            RawCommand::new("Page.enable", json!({})),
            scripts::enable(),
            RawCommand::new("Debugger.setSkipAllPauses", json!({"skip": false})),
            RawCommand::new("Page.addScriptToEvaluateOnNewDocument", json!({"source": self.0.source})),
        ]
    }
}
