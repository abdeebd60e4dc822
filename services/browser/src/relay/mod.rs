//! The loopback WebSocket that the extension's records come by: one [`Relay`] per browser process.
//!
//! It checks who connects, forwards batches undecoded and in order, tells a batch sent twice from a new one, passes
//! acknowledgements on, and runs the ready and flush barriers. It knows nothing of storage or of pages.

mod accept;
mod bodies;
mod connection;
mod prepare;
mod state;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sonde_proto::browser::v1::{RelayMissingTarget, RelayReady, RelayStart};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use accept::{one_header, same_secret};
pub use bodies::ExtensionBody;
pub use prepare::{
    Capture, ExtensionConfig, ExtensionFacts, PrepareError, locate_extension, prepare_extension,
};
use state::State;

/// How to start a [`Relay`].
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Secret that the extension proves it knows; at least 16 characters.
    pub token: String,
    pub limits: RelayLimits,
}

/// Bounds of a [`Relay`].
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// Longest WebSocket message, in bytes.
    pub message_bytes: usize,
    /// Connections that have not said hello.
    pub strangers: usize,
    /// Time to connect and say hello.
    pub hello: Duration,
    /// Messages to the extension that wait to be written.
    pub down_queue: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self { message_bytes: 16 << 20, strangers: 16, hello: Duration::from_secs(5), down_queue: 1024 }
    }
}

/// Records of one attempt, as the extension encoded them.
#[derive(Clone, Debug)]
pub struct ExtensionBatch {
    /// Attempt; -1 for records of no visit.
    pub visit_id: i64,
    /// Number of the background's life in this browser process, from 0.
    pub session_no: u32,
    pub session_uuid: String,
    pub first_ordinal: i64,
    pub count: u32,
    /// An encoded `sonde.record.v1.RecordList`.
    pub payload: Bytes,
}

/// One life of the extension's background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionSession {
    pub uuid: String,
    /// Version in the extension's manifest.
    pub version: String,
    /// The public suffix list by which it tells sites apart: library and version.
    pub public_suffix_list: String,
    /// From 0 in each browser process.
    pub session_no: u32,
}

/// Where the stream of one session ended for a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    pub session_no: u32,
    pub session_uuid: String,
    /// -1 when it sent nothing.
    pub last_ordinal: i64,
    /// Why records may be missing; empty when none are.
    pub suspect: String,
    /// Objects of the JavaScript settings that a top-level document of the visit has not.
    pub missing_targets: Vec<RelayMissingTarget>,
}

/// Why a barrier did not hold.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("visit {0} is not running at this relay; start it first")]
    UnknownVisit(i64),
    #[error("{what} of visit {visit_id} did not come in time; the extension is {connected}")]
    Deadline { what: &'static str, visit_id: i64, connected: &'static str },
    #[error("the relay is closed")]
    Closed,
}

/// What came to a relay's door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Connections refused: wrong host, origin, path or token, or too slow.
    pub refused: u64,
    /// Connections that said hello.
    pub accepted: u64,
    /// Batches that had come before, after a reconnect.
    pub duplicates: u64,
}

/// The relay of one browser process. Clones share it; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    cancel: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What the tasks of a relay share.
struct Shared {
    port: u16,
    options: RelayOptions,
    state: State,
    batches: mpsc::Sender<ExtensionBatch>,
    bodies: mpsc::Sender<ExtensionBody>,
    connected: watch::Sender<Option<ExtensionSession>>,
    /// Raised by everything a barrier may wait for.
    changes: watch::Sender<u64>,
}

impl Shared {
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Relay {
    /// Listens on a free port of 127.0.0.1. Batches go to `batches`; when it is full, the extension waits.
    /// Bodies are refused.
    pub async fn bind(options: RelayOptions, batches: mpsc::Sender<ExtensionBatch>) -> io::Result<Self> {
        Self::bind_with_bodies(options, batches, mpsc::channel(1).0).await
    }

    /// As [`Self::bind`]; whole bodies go to `bodies`, and each is answered with [`Self::body_stored`].
    pub async fn bind_with_bodies(
        options: RelayOptions,
        batches: mpsc::Sender<ExtensionBatch>,
        bodies: mpsc::Sender<ExtensionBody>,
    ) -> io::Result<Self> {
        if options.token.len() < 16 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a relay token has at least 16 characters",
            ));
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Arc::new(Shared {
            port: listener.local_addr()?.port(),
            options,
            state: State::default(),
            batches,
            bodies,
            connected: watch::Sender::new(None),
            changes: watch::Sender::new(0),
        });
        let cancel = CancellationToken::new();
        tokio::spawn(accept::listen(listener, Arc::clone(&shared), cancel.clone()));
        Ok(Self { inner: Arc::new(Inner { shared, cancel }) })
    }

    pub fn port(&self) -> u16 {
        self.inner.shared.port
    }

    pub fn token(&self) -> &str {
        &self.inner.shared.options.token
    }

    /// The extension that may connect, by its id as Chromium gives it, or `moz-extension://UUID` whole.
    /// Before this is called every connection is refused (the extension tries again).
    pub fn set_extension_id(&self, id: &str) {
        let origin = if id.contains("://") { id.to_owned() } else { format!("chrome-extension://{id}") };
        self.inner.shared.state.lock().origin = Some(origin);
    }

    /// The session connected now.
    pub fn connected(&self) -> watch::Receiver<Option<ExtensionSession>> {
        self.inner.shared.connected.subscribe()
    }

    pub fn stats(&self) -> RelayStats {
        self.inner.shared.state.lock().stats
    }

    /// Tells the extension of a visit. Call it when the extension is connected and before the visit's first tab is made
    /// (`about:blank#visit=TOKEN`): an extension that is not up yet does not see that tab. It survives reconnects.
    pub fn start_visit(&self, start: RelayStart) {
        self.inner.shared.state.lock().start(start);
    }

    /// Waits until the instruments of a visit have said they are ready.
    pub async fn wait_ready(&self, visit_id: i64, deadline: Instant) -> Result<RelayReady, RelayError> {
        self.wait("readiness", visit_id, deadline, |state| {
            state.visits.get(&visit_id).map(|visit| visit.ready).ok_or(RelayError::UnknownVisit(visit_id))
        })
        .await
    }

    /// Has the extension send all that a visit has, through every frame of its tabs, and waits until it came.
    /// Frames that need longer than `frame_timeout` make the session's end suspect, but for main documents at the URLs
    /// `bare_documents`, which have no element, and so no recorder.
    pub async fn flush(
        &self,
        visit_id: i64,
        frame_timeout: Duration,
        bare_documents: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<SessionEnd>, RelayError> {
        let millis = u32::try_from(frame_timeout.as_millis()).unwrap_or(u32::MAX);
        let serial = self.inner.shared.state.lock().begin_flush(visit_id, millis, bare_documents)?;
        self.wait("the flush", visit_id, deadline, |state| state.flushed(visit_id, serial)).await
    }

    /// Tells the extension that records are durable.
    pub fn ack(&self, visit_id: i64, session_no: u32, through_ordinal: i64) {
        self.inner.shared.state.lock().ack(visit_id, session_no, through_ordinal);
    }

    /// Tells the extension what became of a body: durable, or why not.
    pub fn body_stored(&self, body: &ExtensionBody, stored: Result<(), String>) {
        self.inner.shared.state.lock().body_stored(body, stored);
    }

    /// Ends a visit: later records of its tabs belong to none.
    pub fn end_visit(&self, visit_id: i64) {
        self.inner.shared.state.lock().end(visit_id);
        self.inner.shared.changed();
    }

    async fn wait<T>(
        &self,
        what: &'static str,
        visit_id: i64,
        deadline: Instant,
        ready: impl Fn(&mut state::Inner) -> Result<Option<T>, RelayError>,
    ) -> Result<T, RelayError> {
        let shared = &self.inner.shared;
        let mut changes = shared.changes.subscribe();
        loop {
            if let Some(value) = ready(&mut shared.state.lock())? {
                return Ok(value);
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(RelayError::Closed),
                Err(_) => {
                    let connected =
                        if shared.connected.borrow().is_some() { "connected" } else { "not connected" };
                    return Err(RelayError::Deadline { what, visit_id, connected });
                }
            }
        }
    }
}
