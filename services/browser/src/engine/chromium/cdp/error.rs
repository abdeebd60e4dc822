//! Why a call did not give a result, and why a connection ended.

use std::sync::Arc;
use std::time::Duration;

use super::SessionId;

/// Why a connection is closed. It never opens again: launch another browser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("the browser closed its end of the pipe")]
    Eof,
    #[error("reading from the browser failed: {0}")]
    Read(String),
    #[error("writing to the browser failed: {0}")]
    Write(String),
    #[error("the browser process ended ({0})")]
    BrowserExited(String),
    #[error("more than {0} set-up commands were waiting: the browser does not read its pipe")]
    Backlog(usize),
    #[error("closed by us")]
    Requested,
}

/// Why a call did not give a result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// No answer in time. The command may still take effect.
    #[error("{method}: no answer from the browser within {after:?}")]
    Timeout { method: String, after: Duration },
    /// The browser or its pipe is gone.
    #[error("{method}: {why}")]
    Closed { method: String, why: Arc<CloseReason> },
    /// The target of the session is gone (closed, crashed, navigated to another process).
    #[error("{method}: session {session} is gone")]
    Detached { method: String, session: SessionId },
    /// The browser refused.
    #[error("{method}: the browser answered error {code}: {message}")]
    Protocol { method: String, code: i64, message: String },
    /// The browser's answer, or our parameters, are not of the expected shape.
    #[error("{method}: cannot decode: {error}")]
    Decode { method: String, error: String },
    /// Too many commands are waiting to be written or answered; nothing was sent.
    #[error("{method}: {limit} commands are already waiting for this browser; it may hang")]
    Busy { method: String, limit: usize },
}

impl CallError {
    /// No later call on this connection can succeed.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// The session is unusable, though the browser may be fine.
    pub fn is_session_gone(&self) -> bool {
        match self {
            Self::Detached { .. } | Self::Closed { .. } => true,
            // "Session with given id not found." comes with this code.
            Self::Protocol { code, .. } => *code == -32001,
            _ => false,
        }
    }

    pub fn method(&self) -> &str {
        match self {
            Self::Timeout { method, .. }
            | Self::Closed { method, .. }
            | Self::Detached { method, .. }
            | Self::Protocol { method, .. }
            | Self::Decode { method, .. }
            | Self::Busy { method, .. } => method,
        }
    }
}
