//! The browser that is held ready beside the one in use.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Browser;

/// After one that failed: whoever needs a browser now has its own tries.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// At most one; its number (`life`) becomes the slot's when it is taken.
pub(super) enum Spare {
    None {
        /// Not tried before; `None`: at the next occasion.
        not_before: Option<Instant>,
    },
    Launching {
        life: u64,
    },
    Up {
        life: u64,
        browser: Arc<dyn Browser>,
        since: Instant,
    },
}

impl Default for Spare {
    fn default() -> Self {
        Self::None { not_before: None }
    }
}

impl Spare {
    /// Whether this number is its own.
    pub fn is(&self, number: u64) -> bool {
        matches!(self, Self::Launching { life } | Self::Up { life, .. } if *life == number)
    }

    /// Whether one may be started now.
    pub fn is_vacant(&self) -> bool {
        matches!(self, Self::None { not_before: None })
    }

    /// When one may be started again.
    pub fn due_at(&self) -> Option<Instant> {
        match self {
            Self::None { not_before } => *not_before,
            Self::Launching { .. } | Self::Up { .. } => None,
        }
    }

    pub fn into_browser(self) -> Option<Arc<dyn Browser>> {
        match self {
            Self::Up { browser, .. } => Some(browser),
            Self::None { .. } | Self::Launching { .. } => None,
        }
    }
}
