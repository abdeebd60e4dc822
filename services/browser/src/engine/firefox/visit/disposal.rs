//! The end of a visit's tabs.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{FirefoxVisit, Opened, left};
use crate::engine::Fate;
use crate::engine::firefox::chrome;
use crate::engine::firefox::jar::HEADERS;

/// For a tab to be opened, and to be closed.
const PROOF: Duration = Duration::from_secs(5);

impl FirefoxVisit {
    /// The ladder: tabs, user context; after that only the process is left.
    pub(super) async fn take_down(self, deadline: Instant) -> Fate {
        let bidi = &self.browser.bidi;
        if let Some(subscription) = &self.counting {
            let params = json!({"subscriptions": [subscription]});
            if let Err(error) = bidi.call("session.unsubscribe", params, left(deadline) / 2).await {
                tracing::debug!(%error, "the browser goes on telling of requests");
            }
        }
        if self.has_headers {
            let none = json!([self.container, []]);
            let told = self.browser.chrome::<Value>(HEADERS, none, left(deadline) / 2).await;
            if let Err(error) = told {
                // They are of a container that no other visit gets.
                tracing::debug!(%error, "the browser goes on looking for requests that get headers");
            }
        }
        let ended = if self.browser.profile.is_some() {
            let ended = self.browser.end_kept(&self.before, left(deadline)).await;
            ended.map_err(|error| format!("a visit's tabs could not be taken down: {error}"))
        } else {
            let params = json!({"userContext": self.user_context});
            let removed = bidi.call("browser.removeUserContext", params, left(deadline)).await;
            removed.map(drop).map_err(|error| format!("a visit's user context could not be removed: {error}"))
        };
        match ended {
            Ok(()) if self.stuck => self.prove(deadline).await,
            Ok(()) => Fate::Keep,
            Err(why) => {
                tracing::warn!("{why}");
                Fate::Replace(why)
            }
        }
    }

    /// Content processes outlive their tabs: one that hangs takes the next visit's tab with it.
    async fn prove(&self, deadline: Instant) -> Fate {
        let bidi = &self.browser.bidi;
        let proof = async {
            let time = left(deadline).min(PROOF);
            let tab = json!({"type": "tab"});
            let tab: Opened =
                bidi.ask("browsingContext.create", tab, time).await.map_err(|e| e.to_string())?;
            let tab = json!({"context": tab.context});
            bidi.call("browsingContext.close", tab, time).await.map_err(|e| e.to_string())?;
            // The other way to the browser, by geckodriver: nothing loads any more.
            let loads = self.browser.chrome::<i64>(chrome::STOP_ALL, json!([self.container]), time).await;
            loads.map_err(|e| e.to_string())
        };
        match proof.await {
            Ok(_) => Fate::Keep,
            Err(error) => {
                tracing::warn!(%error, "the browser does not answer after a page that did not");
                Fate::Replace(format!("it does not answer after a page that did not: {error}"))
            }
        }
    }
}
