//! Which request brought a script, and which frame it is in.

use std::collections::HashMap;

use super::exchange::Hop;
use super::stack;
use super::{HttpConfig, HttpTracker};
use crate::engine::chromium::cdp::{SessionId, SessionInfo};

/// URLs remembered; scripts of others are not linked.
pub(super) const MAX_URLS: usize = 50_000;
/// Requests remembered of one URL, the newest.
const PER_URL: usize = 4;

/// The request that brought a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptRequest {
    pub request_id: i64,
    /// Script asked for it, not the parser of a document.
    pub by_script: bool,
    /// Document or script that asked for it.
    pub initiator_url: Option<String>,
}

/// Where a script runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptPlace {
    pub tab_id: i64,
    pub frame_id: i64,
    pub devtools_frame: Option<String>,
    pub document_url: Option<String>,
    pub top_level_url: Option<String>,
}

/// The newest requests by URL.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<String, Vec<(SessionId, ScriptRequest)>>);

impl Links {
    /// False: there are too many URLs.
    pub fn note(&mut self, session: &SessionId, request_id: i64, hop: &Hop) -> bool {
        if self.0.len() >= MAX_URLS && !self.0.contains_key(&hop.url) {
            return false;
        }
        let initiator = &hop.initiator;
        let by_stack = || stack::innermost_url(initiator.stack.as_ref()?);
        let request = ScriptRequest {
            request_id,
            by_script: initiator.kind == "script",
            initiator_url: initiator.url.as_deref().or_else(by_stack).map(str::to_owned),
        };
        let known = self.0.entry(hop.url.clone()).or_default();
        if known.len() >= PER_URL {
            known.remove(0);
        }
        known.push((session.clone(), request));
        true
    }
}

impl HttpTracker {
    /// What it was told to record.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// The newest request of this URL, rather of this session than of another.
    pub fn script_request(&self, session: &SessionId, url: &str) -> Option<ScriptRequest> {
        let known = self.links.0.get(url)?;
        let own = known.iter().rev().find(|(of, _)| of == session);
        own.or(known.last()).map(|(_, request)| request.clone())
    }

    /// The frame of a script of this session; `frame` as DevTools names it.
    pub fn script_place(&mut self, session: &SessionInfo, frame: Option<&str>) -> ScriptPlace {
        self.frames.note_session(session);
        let place = self.frames.place(&session.id, frame);
        let tab = self.frames.tab(place.page.as_ref());
        ScriptPlace {
            tab_id: tab.tab_id,
            frame_id: place.frame_id,
            devtools_frame: place.devtools_frame,
            document_url: place.frame_url,
            top_level_url: place.top_url,
        }
    }
}
