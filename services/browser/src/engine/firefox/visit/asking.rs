//! Scripts of commands, in the main tab's document.

use serde_json::json;
use sonde_proto::visit::v1::EvaluationWorld;
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{FirefoxVisit, left};
use crate::engine::commands::script::{Answer, Script};
use crate::engine::firefox::bidi::BidiError;

/// Documents asked, one after the other, while a page goes from one to the next.
const DOCUMENTS: u32 = 10;

impl FirefoxVisit {
    /// Runs a script; where it may, again in the document that comes when the one that it ran in goes.
    pub(super) async fn ask(&mut self, script: &Script, deadline: Instant) -> Result<Answer, NotLoaded> {
        for document in 1.. {
            let error = match self.ask_once(script, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error {
                error if is_document_gone(&error) && !script.again => return Ok(Answer::Gone),
                error if is_document_gone(&error) && document < DOCUMENTS && Instant::now() < deadline => {
                    tracing::debug!(%error, document, "the page went elsewhere");
                }
                BidiError::Timeout { .. } => {
                    self.stuck = true;
                    return Err(NotLoaded::Timeout("the page's answer"));
                }
                error => return Err(error.into()),
            }
        }
        Ok(Answer::Gone)
    }

    async fn ask_once(&self, script: &Script, deadline: Instant) -> Result<Answer, BidiError> {
        let mut target = json!({"context": self.context});
        if script.world != EvaluationWorld::Main {
            target["sandbox"] = json!("sonde");
        }
        let params = json!({"expression": script.text, "target": target, "awaitPromise": true});
        let answer = self.browser.bidi.call("script.evaluate", params, left(deadline)).await?;
        if answer["type"] == "exception" {
            let text = answer["exceptionDetails"]["text"].as_str().unwrap_or("an exception");
            return Ok(Answer::Threw(text.to_owned()));
        }
        Ok(match answer["result"]["value"].as_str() {
            Some(text) => Answer::Text(text.to_owned()),
            None => Answer::Threw(format!("the script gave {}", answer["result"]["type"])),
        })
    }
}

/// The tab is there, and the document that was asked is not.
fn is_document_gone(error: &BidiError) -> bool {
    match error {
        BidiError::Refused { message, .. } => {
            message.contains("AbortError") || message.contains("DiscardedBrowsingContextError")
        }
        _ => false,
    }
}
