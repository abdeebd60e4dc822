//! The end of a visit's cross-check with the engine's use counters.

use tokio::time::Instant;

use super::ChromiumVisit;
use crate::engine::Ending;
use crate::engine::chromium::features::{Used, WatchError, record_unchecked};

impl ChromiumVisit {
    /// What the engine saw used up to now; `None`: nobody asked. What pages call later is not compared: their recorders
    /// have not handed it over yet.
    pub(super) async fn features_used(&mut self, deadline: Instant) -> Option<Result<Used, WatchError>> {
        let features = self.features.take()?;
        self.progress.detail("asking the engine what was used");
        Some(features.end(deadline).await)
    }

    /// Marks what went unseen, once every row is in the uplink.
    pub(super) async fn compare_features(&self, used: Option<Result<Used, WatchError>>, ending: &Ending) {
        let suspect = ending.devtools.as_deref().unwrap_or_default();
        let lost = ending.sessions.iter().map(|session| session.suspect.as_str());
        // Rows that are known to be missing say nothing of calls that went unseen.
        let missing = lost.chain([suspect, &ending.incomplete_reason]).find(|why| !why.is_empty());
        let recorded = match (used, missing) {
            (None, _) => return,
            (Some(Ok(used)), None) => used.record_unseen(&self.uplink).await,
            (Some(Ok(_)), Some(why)) => record_unchecked(&self.uplink, why.to_owned()).await,
            (Some(Err(error)), _) => record_unchecked(&self.uplink, error.to_string()).await,
        };
        if let Err(error) = recorded {
            // The attempt ends by it.
            tracing::warn!(%error, "what went unseen could not be recorded");
        }
    }
}
