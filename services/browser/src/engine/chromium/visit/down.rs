//! The end of a visit's isolation.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{ChromiumVisit, left};
use crate::engine::Fate;
use crate::engine::chromium::cdp::CallError;

impl ChromiumVisit {
    /// The ladder: page, context; after that only the process is left.
    pub(super) async fn take_down(mut self, deadline: Instant) -> Fate {
        let fate = self.dispose_context(deadline).await;
        // It says what came too late, and ends.
        drop(self.recorder.take());
        if let Some(recording) = self.recording.take()
            && timeout_at(deadline, recording).await.is_err()
        {
            tracing::warn!("the recorder of late records did not end in time");
        }
        fate
    }

    async fn dispose_context(&self, deadline: Instant) -> Fate {
        let connection = &self.browser.connection;
        let step = (left(deadline) / 3).max(Duration::from_millis(100));
        let close =
            || connection.call_raw(None, "Target.closeTarget", json!({"targetId": self.target}), step);
        if let Some(kept) = &self.browser.kept {
            let ended = kept.end_visit(connection, step).await;
            self.browser.setups.remove(&self.context);
            return match ended {
                Ok(()) => Fate::Keep,
                Err(error) => Fate::Replace(format!("a visit's pages could not be taken down: {error}")),
            };
        }
        let dispose = || {
            let params = json!({"browserContextId": self.context});
            connection.call_raw(None, "Target.disposeBrowserContext", params, step)
        };
        let mut failed = None;
        if self.stuck {
            failed = close().await.err();
        }
        let mut disposed = dispose().await;
        if matches!(disposed, Err(CallError::Timeout { .. })) && !self.stuck {
            failed = close().await.err();
            disposed = dispose().await;
        }
        self.browser.setups.remove(&self.context);
        match disposed {
            Ok(_) => Fate::Keep,
            Err(error) => {
                tracing::warn!(%error, ?failed, "a visit's context could not be disposed of");
                Fate::Replace(format!("a visit's context could not be disposed of: {error}"))
            }
        }
    }
}
