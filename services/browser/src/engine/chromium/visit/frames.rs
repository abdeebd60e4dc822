//! The frames of the main page: those of its own process, and those of others, each with a session of its own.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{ChromiumVisit, left};
use crate::engine::chromium::cdp::{CallError, RawJson, SessionId, SessionInfo};
use crate::engine::commands::Why;
use crate::engine::commands::frames::Frame;
use crate::engine::commands::script::Refusal;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    frame_tree: Node,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    frame: Told,
    #[serde(default)]
    child_frames: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    id: String,
    url: String,
    #[serde(default)]
    url_fragment: String,
}

impl ChromiumVisit {
    /// The page's frames as they are now, itself first, each after the one that holds it.
    pub(super) async fn frames(&mut self, deadline: Instant) -> Result<Vec<Frame>, Why<NotLoaded>> {
        let mut frames = Vec::new();
        let main = self.frame_tree(&self.session.id, deadline).await.map_err(|e| self.not_done(e))?;
        flatten(tree(&main)?, None, &self.session.id, &mut frames);
        let sessions = self.browser.connection.sessions().into_iter();
        let mut others: Vec<Arc<SessionInfo>> = sessions
            .filter(|s| &*s.kind == "iframe" && s.context_id.as_ref() == Some(&self.context))
            .collect();
        // Each time those whose holder is known by now: frames of popups have none here.
        loop {
            let known = |s: &Arc<SessionInfo>| {
                let holder = s.parent_frame_id.as_deref();
                holder.is_some_and(|id| frames.iter().any(|frame| frame.id == id))
            };
            let Some(at) = others.iter().position(known) else { return Ok(frames) };
            let session = others.swap_remove(at);
            let holder = session.parent_frame_id.as_deref().map(str::to_owned);
            match self.frame_tree(&session.id, deadline).await {
                Ok(answer) => flatten(tree(&answer)?, holder, &session.id, &mut frames),
                // It went, or says nothing: that it was there is told.
                Err(error) => {
                    tracing::debug!(%error, "a frame did not tell of its own frames");
                    let (id, host) = (session.target_id.to_string(), session.id.to_string());
                    frames.push(Frame { id, parent: holder, host, url: session.url.to_string() });
                }
            }
        }
    }

    async fn frame_tree(&self, session: &SessionId, deadline: Instant) -> Result<RawJson, CallError> {
        let connection = &self.browser.connection;
        connection.call_raw(Some(session), "Page.getFrameTree", json!({}), left(deadline)).await
    }

    /// The text that an expression gives in a frame, in the isolated world; or why there is none.
    pub(super) async fn read_frame(
        &mut self,
        frame: &Frame,
        expression: &str,
        deadline: Instant,
    ) -> Result<String, String> {
        let (connection, session) = (&self.browser.connection, SessionId::from(frame.host.as_str()));
        let call = async |method: &str, params| {
            let answer = connection.call_raw(Some(&session), method, params, left(deadline)).await;
            answer.map_err(|e| e.to_string())?.decode::<Value>().map_err(|e| e.to_string())
        };
        let world = json!({"frameId": frame.id, "worldName": "sonde"});
        let world = call("Page.createIsolatedWorld", world).await?;
        let params = json!({
            "expression": expression,
            "contextId": world["executionContextId"],
            "returnByValue": true,
        });
        let answer = call("Runtime.evaluate", params).await?;
        let text = answer["result"]["value"].as_str();
        text.map(str::to_owned).ok_or_else(|| "it gave no text".to_owned())
    }
}

fn tree(answer: &RawJson) -> Result<Node, Refusal> {
    let read: Result<Answer, _> = answer.decode();
    let unreadable = |e| Refusal::new("browser_refused", format!("the frames cannot be read: {e}"));
    Ok(read.map_err(unreadable)?.frame_tree)
}

fn flatten(node: Node, parent: Option<String>, session: &SessionId, frames: &mut Vec<Frame>) {
    let mut waiting = vec![(node, parent)];
    while let Some((Node { frame, child_frames }, parent)) = waiting.pop() {
        waiting.extend(child_frames.into_iter().rev().map(|child| (child, Some(frame.id.clone()))));
        let url = frame.url + &frame.url_fragment;
        // A frame that has gone to another process is told of by both.
        if !frames.iter().any(|known| known.id == frame.id) {
            frames.push(Frame { id: frame.id, parent, host: session.to_string(), url });
        }
    }
}
