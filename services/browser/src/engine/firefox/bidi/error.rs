//! Why a call did not work.

use std::time::Duration;

/// Why a BiDi call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BidiError {
    #[error("{method} was not answered within {after:?}")]
    Timeout { method: &'static str, after: Duration },
    /// By the browser, with its error code.
    #[error("{method} was refused: {code}: {message}")]
    Refused { method: &'static str, code: String, message: String },
    #[error("the connection to the browser ended: {0}")]
    Closed(String),
    #[error("{method}: the answer is not as expected: {error}")]
    Answer { method: &'static str, error: String },
    #[error("{0} calls wait for an answer already")]
    Full(usize),
}

impl BidiError {
    /// Whether no call will work any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// Whether what was called upon is not there any more.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Closed(_) => true,
            Self::Refused { code, message, .. } => {
                matches!(code.as_str(), "no such frame" | "no such user context")
                    // The document went while it was asked.
                    || message.contains("AbortError") || message.contains("DiscardedBrowsingContextError")
            }
            _ => false,
        }
    }
}
