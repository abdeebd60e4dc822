//! The frames of the main tab.

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{FirefoxVisit, left};
use crate::engine::commands::Why;
use crate::engine::commands::frames::Frame;

#[derive(Deserialize)]
struct Tree {
    contexts: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    context: String,
    url: String,
    children: Option<Vec<Node>>,
}

impl FirefoxVisit {
    /// The page's frames as they are now, itself first, each after the one that holds it.
    pub(super) async fn frames(&mut self, deadline: Instant) -> Result<Vec<Frame>, Why<NotLoaded>> {
        let params = json!({"root": self.context});
        let tree: Result<Tree, _> =
            self.browser.bidi.ask("browsingContext.getTree", params, left(deadline)).await;
        let mut waiting: Vec<(Node, Option<String>)> =
            tree.map_err(|e| self.not_done(e))?.contexts.into_iter().map(|page| (page, None)).collect();
        let mut frames = Vec::new();
        while let Some((Node { context, url, children }, parent)) = waiting.pop() {
            let held = children.into_iter().flatten().rev().map(|child| (child, Some(context.clone())));
            waiting.extend(held);
            frames.push(Frame { id: context, parent, host: String::new(), url });
        }
        Ok(frames)
    }

    /// The text that an expression gives in a frame, in the isolated world; or why there is none.
    pub(super) async fn read_frame(
        &mut self,
        frame: &Frame,
        expression: &str,
        deadline: Instant,
    ) -> Result<String, String> {
        let text = self.browser.bidi.isolated(&frame.id, expression, left(deadline)).await;
        text.map_err(|e| e.to_string())?.ok_or_else(|| "it gave no text".to_owned())
    }
}
