//! What new sessions are told before they run: by browser context, that is by visit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::recorder::Recording;
use crate::engine::chromium::cdp::{ContextId, RawCommand, SessionInfo};
use crate::engine::chromium::stealth::StealthHook;
use crate::engine::chromium::workers::Hook;
use crate::engine::chromium::{http, scripts};

/// What the targets of one visit are told.
#[derive(Clone, Default)]
pub(in crate::engine::chromium) struct Setup {
    /// `None`: without the DevTools instruments.
    pub recording: Option<Recording>,
    /// `None`: without the JavaScript instrument.
    pub workers: Option<Hook>,
    /// Documents are recorded by the debugger.
    pub stealth: Option<StealthHook>,
    /// What its requests are sent with beside the browser's own headers: name -> value.
    pub headers: Map<String, Value>,
}

/// The set-ups of the visits that run on a browser. Clones share them.
#[derive(Clone, Default)]
pub(in crate::engine::chromium) struct Setups(Arc<Mutex<HashMap<ContextId, Setup>>>);

impl Setups {
    /// From now on targets of this context are set up so.
    pub fn insert(&self, context: ContextId, setup: Setup) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(context, setup);
    }

    pub fn remove(&self, context: &ContextId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(context);
    }

    /// From now on requests of new targets of this context have these headers, instead of those of an earlier call.
    pub fn set_headers(&self, context: &ContextId, headers: Map<String, Value>) {
        if let Some(setup) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(context) {
            setup.headers = headers;
        }
    }

    /// Whether a visit runs in this context.
    pub fn knows(&self, context: &ContextId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(context)
    }

    /// Called on the connection's reading task for every new session. `None`: it is of no visit.
    pub fn commands(&self, info: &SessionInfo) -> Option<Vec<RawCommand>> {
        let setups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let setup = setups.get(info.context_id.as_ref()?)?;
        let mut commands = match (&setup.recording, &*info.kind) {
            (Some(recording), kind) => {
                let mut commands = http::setup_commands(kind, &recording.http);
                if recording.needs_debugger() {
                    commands.extend(scripts::setup_commands(kind));
                }
                commands
            }
            (None, "page") => vec![RawCommand::new("Page.enable", json!({}))],
            (None, _) => Vec::new(),
        };
        if &*info.kind == "page" {
            // Crashes of its renderer, and no chooser that waits for a user.
            commands.push(RawCommand::new("Inspector.enable", json!({})));
            commands.push(RawCommand::new("Page.setInterceptFileChooserDialog", json!({"enabled": true})));
        }
        if !setup.headers.is_empty() && has_network(&info.kind) {
            commands.extend(with_headers(&setup.headers, setup.recording.is_some()));
        }
        if let Some(hook) = &setup.workers {
            commands.extend(hook.commands(info));
        }
        if let Some(hook) = &setup.stealth {
            commands.extend(hook.commands(info));
        }
        Some(commands)
    }
}

/// Whether targets of this kind make requests of their own.
pub(super) fn has_network(kind: &str) -> bool {
    matches!(kind, "page" | "iframe" | "worker" | "shared_worker" | "service_worker")
}

/// What a session is told so that its requests have these headers.
pub(super) fn with_headers(headers: &Map<String, Value>, recorded: bool) -> Vec<RawCommand> {
    // The headers are of a session whose network is watched; nobody reads the bodies.
    let watch = json!({"maxTotalBufferSize": 0, "maxResourceBufferSize": 0});
    let enable = (!recorded).then(|| RawCommand::new("Network.enable", watch));
    let headers = RawCommand::new("Network.setExtraHTTPHeaders", json!({"headers": headers}));
    enable.into_iter().chain([headers]).collect()
}
