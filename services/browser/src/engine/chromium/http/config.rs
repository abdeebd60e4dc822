//! What the tracker is told, and what it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sonde_proto::record::v1::record::Row;

use crate::engine::chromium::cdp::SessionId;

/// Of which responses the bodies are saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SaveContent {
    #[default]
    None,
    All,
    /// Resource types in webRequest's words: `main_frame`, `script`, ...
    Types(BTreeSet<String>),
}

impl SaveContent {
    pub fn covers(&self, resource_type: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Types(types) => types.contains(resource_type),
        }
    }
}

/// What is recorded of a visit, and the limits. Lengths are in bytes.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Requests, responses, redirects, failures, EventSource messages.
    pub http: bool,
    /// Set-Cookie headers.
    pub cookies: bool,
    /// WebSocket frames and EventSource messages (handshakes belong to `http`).
    pub websocket: bool,
    pub callstacks: bool,
    /// Addresses and errors of names, as the network stack tells them.
    pub dns: bool,
    /// Addresses are a proxy's, not those of the names: none are recorded.
    pub proxied: bool,
    /// Whether it is remembered which request brought which URL.
    pub link_scripts: bool,
    pub save_content: SaveContent,
    pub post_body_cap: usize,
    /// Of one WebSocket or EventSource message.
    pub payload_cap: usize,
    pub max_body_bytes: u64,
    /// Whether the visit's browser context is off the record.
    pub incognito: bool,
    /// For `javascript_cookies.store_id`.
    pub context_id: Option<String>,
    /// Requests followed at once; those beyond are counted in a truncation record.
    pub max_open: usize,
    /// How long an ended request waits for its late ExtraInfo events, in microseconds.
    pub extra_info_grace_us: i64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            http: true,
            cookies: true,
            websocket: true,
            callstacks: true,
            dns: true,
            proxied: false,
            link_scripts: false,
            save_content: SaveContent::None,
            post_body_cap: 1024 * 1024,
            payload_cap: 1024 * 1024,
            max_body_bytes: 64 * 1024 * 1024,
            incognito: true,
            context_id: None,
            max_open: 20_000,
            extra_info_grace_us: 2_000_000,
        }
    }
}

/// Numbers the requests of one browser process, from 1. Clones share the counter.
#[derive(Debug, Clone, Default)]
pub struct RequestIds(Arc<AtomicI64>);

impl RequestIds {
    pub(super) fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What is to be done about an event.
// Nearly all are records: boxing them would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Record {
        captured_at_us: i64,
        row: Row,
    },
    /// Answer with [`super::HttpTracker::on_body`].
    FetchBody(BodyRequest),
    /// Answer with [`super::HttpTracker::on_post_data`].
    FetchPostData(PostDataRequest),
    /// A row refers to the empty body: its blob is to exist. Asked once per tracker.
    StoreEmptyBody,
}

/// A body to be fetched from the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyRequest {
    pub request_id: i64,
    pub session: SessionId,
    pub cdp_request_id: String,
    /// Decoded bytes that arrived, where the browser told.
    pub expected_bytes: Option<u64>,
    pub max_bytes: u64,
}

/// What became of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyResult {
    /// `sha256` in lower-case hex, of the whole decoded body.
    Stored {
        sha256: String,
        bytes: u64,
    },
    Capped {
        bytes: u64,
    },
    Failed {
        why: String,
    },
}

/// The body of a request, which the event did not carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostDataRequest {
    pub request_id: i64,
    pub hop_index: u32,
    pub session: SessionId,
    pub cdp_request_id: String,
}

/// The newest top-level navigation of the visit's own page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MainDocument {
    pub request_id: i64,
    /// URL of its last hop so far.
    pub url: String,
    pub status: Option<i64>,
    /// As `net::ERR_NAME_NOT_RESOLVED`.
    pub net_error: Option<String>,
    /// Whether it has come wholly, or failed.
    pub finished: bool,
}
