//! The end of what the tabs of a visit load.
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;

use super::{CALL, FirefoxVisit, left};
use crate::engine::firefox::{bidi::BidiError, chrome};
use tokio::time::Instant;

/// Time for a page to show whether it has an element.
const LOOK: Duration = Duration::from_secs(2);
/// The same, when the page did not answer before.
const LOOK_STUCK: Duration = Duration::from_millis(500);

/// The answer of `browsingContext.getTree`.
#[derive(Deserialize)]
struct Tree {
    contexts: Vec<Tab>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tab {
    context: String,
    user_context: String,
}

impl FirefoxVisit {
    /// Stops the tabs, and says which documents were stopped before their first element, by their URLs: content
    /// scripts run from that element on, so that no recorder comes of these.
    pub(super) async fn stop_pages(&self, deadline: Instant) -> Vec<String> {
        // What they would ask for from now on the extension keeps from leaving the browser.
        self.progress.detail("stopping the pages");
        let time = left(deadline).min(CALL);
        if let Err(error) = self.browser.chrome::<i64>(chrome::STOP_ALL, json!([self.container]), time).await
        {
            tracing::debug!(%error, "a visit's pages could not be stopped");
        }
        if self.attendance.is_none() {
            return Vec::new();
        }
        let time = left(deadline).min(if self.stuck { LOOK_STUCK } else { LOOK });
        let tabs =
            self.browser.bidi.ask::<Tree>("browsingContext.getTree", json!({"maxDepth": 0}), time).await;
        let tabs = tabs.map(|tree| tree.contexts).unwrap_or_else(|error| {
            // Their recorders are waited for.
            tracing::debug!(%error, "a visit's tabs could not be listed");
            Vec::new()
        });
        let own = tabs.iter().filter(|tab| tab.user_context == self.user_context);
        let looks = join_all(own.map(|tab| self.bare_document(&tab.context, time))).await;
        let shown = looks.into_iter().map(|look| {
            look.unwrap_or_else(|error| {
                tracing::debug!(%error, "a tab did not show its document");
                None
            })
        });
        shown.flatten().collect()
    }

    async fn bare_document(&self, context: &str, time: Duration) -> Result<Option<String>, BidiError> {
        let expression = "document.documentElement === null ? location.href : null";
        self.browser.bidi.isolated(context, expression, time).await
    }
}
