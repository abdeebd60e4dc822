//! What new sessions are told before they run: by browser context, that is by visit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use crate::engine::chromium::cdp::{ContextId, RawCommand, SessionInfo};
use crate::engine::chromium::http::{self, HttpConfig};
use crate::engine::chromium::workers::Hook;

/// What the targets of one visit are told.
#[derive(Clone, Default)]
pub(in crate::engine::chromium) struct Setup {
    /// `None`: without the network instruments.
    pub http: Option<HttpConfig>,
    /// `None`: without the JavaScript instrument.
    pub workers: Option<Hook>,
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

    /// Called on the connection's reading task for every new session.
    pub fn commands(&self, info: &SessionInfo) -> Vec<RawCommand> {
        let setups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(setup) = info.context_id.as_ref().and_then(|c| setups.get(c)) else { return Vec::new() };
        let mut commands = match (&setup.http, &*info.kind) {
            (Some(config), kind) => http::setup_commands(kind, config),
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
        commands
    }
}
