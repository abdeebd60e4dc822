//! The WebDriver session of one Firefox, through its geckodriver: our add-on, and scripts in the browser's own context.
//!
//! Pages are not touched by it: WebDriver handles one thing at a time, and a page can keep it waiting.

use std::path::Path;
use std::time::Duration;

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use url::Url;

/// Why WebDriver did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum DriverError {
    #[error("{what} was not answered within {after:?}")]
    Timeout { what: &'static str, after: Duration },
    #[error("{what}: {message}")]
    Failed { what: &'static str, message: String },
}

/// A command that fantoccini has no method for: POST to a path below the session.
#[derive(Debug)]
struct Post {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Post {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// An open session whose scripts run in the browser's own context. End it with [`Driver::close`].
pub(super) struct Driver {
    client: Client,
}

impl Driver {
    /// Opens the one session of the geckodriver at this address.
    pub async fn connect(address: &str, deadline: Duration) -> Result<Self, DriverError> {
        let wanted = json!({
            "webSocketUrl": true,
            "pageLoadStrategy": "none",
            // To leave is what a navigation wants; everything else is answered by no.
            "unhandledPromptBehavior": {"default": "dismiss", "beforeUnload": "accept", "file": "dismiss"},
        });
        let capabilities: Capabilities = match wanted {
            Value::Object(wanted) => wanted,
            _ => Capabilities::new(),
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let what = "the WebDriver session";
        let connected = timeout(deadline, builder.connect(&format!("http://{address}"))).await;
        let client = connected
            .map_err(|_| DriverError::Timeout { what, after: deadline })?
            .map_err(|e| DriverError::Failed { what, message: e.to_string() })?;
        let driver = Self { client };
        let context = Post { path: "moz/context", body: json!({"context": "chrome"}) };
        match driver.issue("the browser's own context", context, deadline).await {
            Ok(_) => Ok(driver),
            Err(error) => {
                driver.close(deadline).await;
                Err(error)
            }
        }
    }

    /// What the browser says of itself.
    pub fn capability(&self, name: &str) -> Option<&Value> {
        self.client.capabilities()?.get(name)
    }

    /// Installs an unpacked add-on until the browser ends; gives its id.
    pub async fn install_addon(&self, dir: &Path, deadline: Duration) -> Result<String, DriverError> {
        let body = json!({"path": dir, "temporary": true});
        let id = self.issue("the add-on", Post { path: "moz/addon/install", body }, deadline).await?;
        Ok(id.as_str().unwrap_or_default().to_owned())
    }

    /// Runs the body of a function in the browser's own context and gives what it returns.
    pub async fn chrome<T: DeserializeOwned>(
        &self,
        (what, script): (&'static str, &'static str),
        arguments: Value,
        deadline: Duration,
    ) -> Result<T, DriverError> {
        let body = json!({"script": script, "args": arguments});
        let answer = self.issue(what, Post { path: "execute/sync", body }, deadline).await?;
        serde_json::from_value(answer).map_err(|e| DriverError::Failed { what, message: e.to_string() })
    }

    async fn issue(&self, what: &'static str, command: Post, after: Duration) -> Result<Value, DriverError> {
        let answer = timeout(after, self.client.issue_cmd(command)).await;
        answer
            .map_err(|_| DriverError::Timeout { what, after })?
            .map_err(|e| DriverError::Failed { what, message: e.to_string() })
    }

    /// Ends the session. It is gone with its processes in any case.
    pub async fn close(&self, deadline: Duration) {
        match timeout(deadline, self.client.clone().close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a WebDriver session was not closed"),
            Err(_) => tracing::debug!("a WebDriver session was not closed in time"),
        }
    }
}
