//! Scripts of commands, in the page's main frame.

use serde::Deserialize;
use serde_json::{Value, json};
use sonde_proto::visit::v1::EvaluationWorld;
use tokio::time::Instant;

use super::ChromiumVisit;
use super::driving::{DOCUMENTS, WORLD_GONE};
use super::page::NotLoaded;
use crate::engine::chromium::cdp::CallError;
use crate::engine::commands::script::{Answer, Script};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct World {
    execution_context_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Evaluated {
    result: Promised,
    exception_details: Option<Exception>,
}

#[derive(Deserialize)]
struct Promised {
    #[serde(default)]
    value: Value,
}

#[derive(Deserialize)]
struct Exception {
    text: String,
    exception: Option<Thrown>,
}

#[derive(Deserialize)]
struct Thrown {
    description: Option<String>,
    #[serde(default)]
    value: Value,
}

impl Exception {
    /// Its first line: what follows is the stack.
    fn message(self) -> String {
        let thrown = self.exception.and_then(|e| {
            let shown = (!e.value.is_null()).then(|| e.value.to_string());
            e.description.or(shown)
        });
        let text = thrown.unwrap_or(self.text);
        text.lines().next().unwrap_or_default().to_owned()
    }
}

impl ChromiumVisit {
    /// Runs a script; where it may, again in the document that comes when the one that it ran in goes.
    pub(super) async fn ask(&mut self, script: &Script, deadline: Instant) -> Result<Answer, NotLoaded> {
        for document in 1.. {
            let error = match self.ask_once(script, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error {
                CallError::Protocol { code: WORLD_GONE, .. } if !script.again => return Ok(Answer::Gone),
                CallError::Protocol { code: WORLD_GONE, message, .. }
                    if document < DOCUMENTS && Instant::now() < deadline =>
                {
                    tracing::debug!(message, document, "the page went elsewhere");
                }
                CallError::Timeout { .. } => {
                    self.stuck = true;
                    return Err(NotLoaded::Timeout("the page's answer"));
                }
                error => return Err(error.into()),
            }
        }
        Ok(Answer::Gone)
    }

    /// The world of the page's main frame that the page cannot see, by its execution context.
    pub(super) async fn isolated_world(&self, deadline: Instant) -> Result<i64, CallError> {
        let world = json!({"frameId": self.target, "worldName": "sonde"});
        let made: World =
            self.page("Page.createIsolatedWorld", world, deadline).await?.decode().map_err(unread)?;
        Ok(made.execution_context_id)
    }

    async fn ask_once(&self, script: &Script, deadline: Instant) -> Result<Answer, CallError> {
        let mut params = json!({"expression": script.text, "returnByValue": true, "awaitPromise": true});
        if script.world != EvaluationWorld::Main {
            params["contextId"] = json!(self.isolated_world(deadline).await?);
        }
        let answer = self.page("Runtime.evaluate", params, deadline).await?;
        let evaluated: Evaluated = answer.decode().map_err(unread)?;
        if let Some(exception) = evaluated.exception_details {
            return Ok(Answer::Threw(exception.message()));
        }
        Ok(match evaluated.result.value {
            Value::String(text) => Answer::Text(text),
            other => Answer::Threw(format!("the script gave {other}")),
        })
    }
}

pub(super) fn unread(error: serde_json::Error) -> CallError {
    CallError::Decode { method: "Runtime.evaluate".to_owned(), error: error.to_string() }
}
