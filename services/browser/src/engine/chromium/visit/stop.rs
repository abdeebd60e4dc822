//! The end of what the pages of a visit load.
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;

use super::ChromiumVisit;
use crate::engine::chromium::cdp::SessionInfo;

/// The answer of `DOM.getDocument`.
#[derive(Deserialize)]
struct Answer {
    root: Root,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Root {
    #[serde(rename = "documentURL")]
    document_url: String,
    #[serde(default)]
    children: Vec<Child>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Child {
    node_type: u32,
}

/// `Node.ELEMENT_NODE`
const ELEMENT: u32 = 1;

impl ChromiumVisit {
    /// Stops the pages, and says which documents were stopped before their first element, by their URLs: content
    /// scripts run from that element on, so that no recorder comes of these.
    ///
    /// From here on the pages' requests do not leave the browser: what they still would ask for (an icon, a last
    /// beacon) would reach the site and no recorder. A session that has taken this has told of all it asked for before.
    pub(super) async fn stop_pages(&self, time: Duration) -> Vec<String> {
        if self.recorder.is_none() && self.attendance.is_none() {
            return Vec::new();
        }
        self.tell_page("Page.stopLoading");
        self.progress.detail("cutting the network off");
        let own = |session: &Arc<SessionInfo>| session.context_id.as_ref() == Some(&self.context);
        let stop = |session: Arc<SessionInfo>| async move {
            let cut = async {
                if self.recorder.is_some() {
                    self.cut_off(&session, time).await;
                }
            };
            let look = async {
                match self.attendance.is_some() && &*session.kind == "page" {
                    true => self.bare_document(&session, time).await,
                    false => None,
                }
            };
            // Sent one after the other: a session takes them in order.
            let ((), bare) = tokio::join!(biased; cut, look);
            bare
        };
        let sessions = self.browser.connection.sessions().into_iter().filter(own);
        join_all(sessions.map(stop)).await.into_iter().flatten().collect()
    }

    async fn cut_off(&self, session: &SessionInfo, time: Duration) {
        let params = json!({"urlPatterns": [{"urlPattern": "*://*:*/*", "block": true}]});
        let connection = &self.browser.connection;
        let cut = connection.call_raw(Some(&session.id), "Network.setBlockedURLs", params, time).await;
        if let Err(error) = cut {
            tracing::debug!(%error, kind = %session.kind, "a session's network could not be cut off");
        }
    }

    async fn bare_document(&self, session: &SessionInfo, time: Duration) -> Option<String> {
        let connection = &self.browser.connection;
        let answer =
            connection.call_raw(Some(&session.id), "DOM.getDocument", json!({"depth": 1}), time).await;
        let root = match answer
            .map_err(|e| e.to_string())
            .and_then(|a| a.decode::<Answer>().map_err(|e| e.to_string()))
        {
            Ok(answer) => answer.root,
            Err(error) => {
                // Its recorder is waited for.
                tracing::debug!(%error, "a page did not show its document");
                return None;
            }
        };
        let bare = !root.children.iter().any(|child| child.node_type == ELEMENT);
        bare.then_some(root.document_url)
    }
}
