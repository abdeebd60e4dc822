//! What new sessions are told before they run: by browser context, that is by visit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

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
        if let Some(hook) = &setup.workers {
            commands.extend(hook.commands(info));
        }
        if let Some(hook) = &setup.stealth {
            commands.extend(hook.commands(info));
        }
        Some(commands)
    }
}
