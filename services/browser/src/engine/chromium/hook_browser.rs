//! A Chromium for hooks that run outside of a visit: tabs without instruments, each with a DevTools port.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::bridge::Bridge;
use super::cdp::{AutoAttach, CallError, Connection, Filter, Item, RawJson, Subscription};
use super::launch::{self, Browser, ChromiumOptions, LaunchError, Page};
use crate::hooks::chrome::{Landed, Lent, WaitUntil};

/// For one call that a browser answers by itself.
const CALL: Duration = Duration::from_secs(10);
/// What a document says of itself.
const WHERE: &str = "({url: location.href, \
    status: performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0})";

/// Why hooks have no browser.
#[derive(Debug, thiserror::Error)]
pub enum HookBrowserError {
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("the browser does not do what it is told: {0}")]
    Call(#[from] CallError),
    #[error("no port for hooks can be opened on 127.0.0.1: {0}")]
    Port(#[from] std::io::Error),
}

/// A Chromium of ours that hooks may use. End it with [`HookBrowser::close`]; a dropped one is killed.
#[derive(Debug)]
pub struct HookBrowser {
    browser: Browser,
}

impl HookBrowser {
    /// Starts it.
    pub async fn launch(options: ChromiumOptions) -> Result<Self, HookBrowserError> {
        let browser = launch::launch(options).await?;
        // Hooks look by sessions of their own; ours sets nothing up.
        browser.connection().auto_attach(AutoAttach::new(|_| Vec::new()), CALL).await?;
        Ok(Self { browser })
    }

    /// Opens a tab with a port of its own.
    pub async fn tab(&self) -> Result<HookTab, HookBrowserError> {
        let connection = self.browser.connection().clone();
        let page = self.browser.create_page(None, "about:blank", CALL).await?;
        let session = &page.session.id;
        connection.call_raw(Some(session), "Page.enable", json!({}), CALL).await?;
        let lifecycle = json!({"enabled": true});
        connection.call_raw(Some(session), "Page.setLifecycleEventsEnabled", lifecycle, CALL).await?;
        let bridge = Bridge::open(connection.clone(), vec![page.target_id.as_str().to_owned()]).await?;
        Ok(HookTab { connection, page: Arc::new(page), bridge, pid: self.browser.pid() })
    }

    /// Closes a tab and its port.
    pub async fn close_tab(&self, tab: HookTab) -> Result<(), HookBrowserError> {
        let HookTab { page, bridge, .. } = tab;
        drop(bridge);
        Ok(self.browser.close_page(&page.target_id, CALL).await?)
    }

    /// Ends the browser; returns when nothing of it is left.
    pub async fn close(self, grace: Duration) {
        let survivors = self.browser.close(grace).await.process.sweep.survivors;
        if !survivors.is_empty() {
            tracing::error!(?survivors, "a browser left processes behind");
        }
    }
}

/// A tab that hooks may use; dropping it closes its port.
#[derive(Debug)]
pub struct HookTab {
    connection: Connection,
    page: Arc<Page>,
    bridge: Bridge,
    pid: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Navigated {
    loader_id: Option<String>,
    error_text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    frame_id: String,
    loader_id: String,
    name: String,
}

#[derive(Deserialize)]
struct Evaluated {
    result: Remote,
}

#[derive(Deserialize)]
struct Remote {
    value: Where,
}

#[derive(Deserialize)]
struct Where {
    url: String,
    status: u16,
}

impl HookTab {
    /// What hooks are told of it.
    pub fn lent(&self) -> Lent {
        let target_id = self.page.target_id.as_str().to_owned();
        Lent { cdp_url: self.bridge.url().to_owned(), target_id, pid: self.pid }
    }

    /// Loads a page; the error is a sentence.
    pub async fn navigate(&self, url: &str, until: WaitUntil, deadline: Instant) -> Result<Landed, String> {
        let filter = Filter::sessions([self.page.session.id.clone()]).methods(["Page.lifecycleEvent"]);
        let events = self.connection.subscribe(filter);
        let answer = self.call("Page.navigate", json!({"url": url}), deadline).await?;
        let navigated: Navigated = answer.decode().map_err(|e| format!("Page.navigate: {e}"))?;
        if let Some(error) = navigated.error_text.filter(|e| !e.is_empty()) {
            return Err(error);
        }
        // None: another place of the same document.
        if let Some(loader) = navigated.loader_id {
            let reached = self.reach(events, loader, until);
            timeout_at(deadline, reached).await.map_err(|_| format!("no {until} in time"))??;
        }
        let params = json!({"expression": WHERE, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params, deadline).await?;
        let Remote { value } = answer
            .decode::<Evaluated>()
            .map_err(|e| format!("the page does not say where it is: {e}"))?
            .result;
        Ok(Landed { final_url: value.url, status: value.status })
    }

    /// Waits for a stage of the document of `loader`, or of one that comes in its place.
    async fn reach(&self, mut events: Subscription, loader: String, until: WaitUntil) -> Result<(), String> {
        let stage = match until {
            WaitUntil::DomContentLoaded => "DOMContentLoaded",
            WaitUntil::Load => "load",
            WaitUntil::NetworkIdle0 => "networkIdle",
            WaitUntil::NetworkIdle2 => "networkAlmostIdle",
        };
        let (mut current, mut begun) = (loader.clone(), false);
        while let Some(item) = events.recv().await {
            let Item::Event(event) = item else { continue };
            let Ok(seen) = event.params.decode::<Lifecycle>() else { continue };
            if seen.frame_id != self.page.target_id.as_str() {
                continue;
            }
            begun |= seen.loader_id == loader;
            if begun && seen.name == "init" {
                current = seen.loader_id;
            } else if seen.loader_id == current && seen.name == stage {
                return Ok(());
            }
        }
        Err("the browser is gone".to_owned())
    }

    async fn call(
        &self,
        method: &str,
        params: serde_json::Value,
        deadline: Instant,
    ) -> Result<RawJson, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let session = Some(&self.page.session.id);
        self.connection.call_raw(session, method, params, left).await.map_err(|e| e.to_string())
    }
}
