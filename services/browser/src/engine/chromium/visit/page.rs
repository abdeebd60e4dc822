//! Loading a page and waiting for it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sonde_proto::visit::v1::{CommandStatus, LoadPolicy};
use sonde_runtime::clock::wall_us;
use tokio::time::{Instant, timeout_at};

use super::super::cdp::CallError;
use super::ChromiumVisit;
use super::warden::PageState;
use crate::attempt::fault;
use crate::engine::CommandReport;

/// No request is open for this long: the network is idle.
const IDLE: Duration = Duration::from_millis(500);
/// For the HTTP status of a page whose network is not recorded.
const STATUS: Duration = Duration::from_millis(500);
/// For leaving a page that does not load.
const STOP: Duration = Duration::from_secs(1);

/// Why a page did not load.
#[derive(Debug)]
pub(in crate::engine) enum NotLoaded {
    /// With the browser's code.
    Network(String),
    /// What was waited for.
    Timeout(&'static str),
    /// The page is gone.
    Gone(String),
    Call(CallError),
}

impl From<CallError> for NotLoaded {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Timeout { .. } => Self::Timeout("the navigation"),
            error => Self::Call(error),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Navigated {
    loader_id: Option<String>,
    error_text: Option<String>,
}

impl ChromiumVisit {
    /// Navigates the main page and waits as the policy says.
    pub(super) async fn load(
        &mut self,
        url: &str,
        referrer: &str,
        policy: LoadPolicy,
        deadline: Instant,
    ) -> Result<(), NotLoaded> {
        let mut params = json!({"url": url});
        if !referrer.is_empty() {
            params["referrer"] = json!(referrer);
            // Otherwise the policy of an empty document would cut it to its origin.
            params["referrerPolicy"] = json!("unsafeUrl");
        }
        if policy == LoadPolicy::NetworkIdle && self.traffic.is_none() {
            self.page("Page.setLifecycleEventsEnabled", json!({"enabled": true}), deadline).await?;
        }
        self.progress.detail("waiting for the server");
        if self.navigated_at_us.is_none() {
            // After the instruments were ready, whatever the wall clock did in between.
            let after = self.ready_at_us.map_or(i64::MIN, |ready| ready + 1);
            self.navigated_at_us = Some(wall_us().max(after));
        }
        self.loaded = true;
        let answer = self.page("Page.navigate", params, deadline).await?;
        let navigated: Navigated = answer.decode().unwrap_or_default();
        if let Some(error) = navigated.error_text.filter(|e| !e.is_empty()) {
            return Err(NotLoaded::Network(error));
        }
        match navigated.loader_id {
            Some(loader) => self.wait_loaded(policy, deadline, |s| s.has_committed(&loader)).await,
            // Another place of the same document.
            None => Ok(()),
        }
    }

    /// Waits for a document that `committed` knows, then as the policy says.
    pub(super) async fn wait_loaded(
        &mut self,
        policy: LoadPolicy,
        deadline: Instant,
        committed: impl Fn(&PageState) -> bool,
    ) -> Result<(), NotLoaded> {
        self.progress.detail("waiting for the document");
        self.until("the document", deadline, &committed).await?;
        match policy {
            LoadPolicy::Commit | LoadPolicy::Time => return Ok(()),
            LoadPolicy::DomContentLoaded => {
                self.progress.detail("waiting for DOMContentLoaded");
                return self.until("DOMContentLoaded", deadline, |s| s.dom_content || s.load).await;
            }
            LoadPolicy::Unspecified | LoadPolicy::Load | LoadPolicy::NetworkIdle => {
                self.progress.detail("waiting for load");
                self.until("load", deadline, |s| s.load).await?;
            }
        }
        if policy == LoadPolicy::NetworkIdle {
            self.progress.detail("waiting for the network to be idle");
            self.wait_idle(deadline).await?;
        }
        Ok(())
    }

    pub(super) async fn until(
        &mut self,
        what: &'static str,
        deadline: Instant,
        done: impl Fn(&PageState) -> bool,
    ) -> Result<(), NotLoaded> {
        let reached = timeout_at(deadline, self.state.wait_for(|s| s.gone.is_some() || done(s))).await;
        match reached {
            Err(_) => Err(NotLoaded::Timeout(what)),
            Ok(Err(_)) => Err(NotLoaded::Gone("the visit is over".to_owned())),
            Ok(Ok(state)) if done(&state) => Ok(()),
            Ok(Ok(state)) => Err(NotLoaded::Gone(state.gone.clone().unwrap_or_default())),
        }
    }

    async fn wait_idle(&mut self, deadline: Instant) -> Result<(), NotLoaded> {
        let Some(mut traffic) = self.traffic.clone() else {
            return self.until("the network to be idle", deadline, |s| s.idle).await;
        };
        let progress = self.progress.clone();
        let idle = async {
            loop {
                let seen = *traffic.borrow_and_update();
                if seen.open > 0 {
                    progress.detail(format!("waiting for {} requests", seen.open));
                }
                let quiet = u64::try_from(wall_us() - seen.last_activity_us).unwrap_or(0);
                let left = IDLE.saturating_sub(Duration::from_micros(quiet));
                if seen.open == 0 && left.is_zero() {
                    return;
                }
                // With requests open only news can help; without, time does, too.
                let pause = if seen.open == 0 { left } else { Duration::from_secs(3600) };
                tokio::select! {
                    changed = traffic.changed() => if changed.is_err() {
                        return;
                    },
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        timeout_at(deadline, idle).await.map_err(|_| NotLoaded::Timeout("the network to be idle"))
    }

    /// Stays, unless the page goes.
    pub(super) async fn stay(&mut self, time: Duration, deadline: Instant) -> Result<(), NotLoaded> {
        if time.is_zero() {
            return Ok(());
        }
        self.progress.detail("staying");
        let end = Instant::now() + time;
        match self.until("the stay", end.min(deadline), |_| false).await {
            Err(NotLoaded::Timeout(_)) if end <= deadline => Ok(()),
            other => other,
        }
    }

    /// URL of the page now; "" before the first.
    pub(super) fn url(&self) -> String {
        self.state.borrow().url.clone()
    }

    /// HTTP status of the page's document; 0 when none came.
    pub(super) async fn http_status(&self, deadline: Instant) -> u32 {
        if let Some(traffic) = &self.traffic {
            return traffic.borrow().http_status;
        }
        let expression = "performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0";
        let params = json!({"expression": expression, "returnByValue": true});
        let answer = self.page("Runtime.evaluate", params, deadline.min(Instant::now() + STATUS)).await;
        let value = answer.ok().and_then(|a| a.decode::<serde_json::Value>().ok());
        let status = value.and_then(|v| v["result"]["value"].as_u64());
        status.and_then(|s| u32::try_from(s).ok()).unwrap_or(0)
    }

    /// The report of a load, with the load stopped and what came of it kept.
    pub(super) async fn report(&mut self, loaded: Result<(), NotLoaded>, deadline: Instant) -> CommandReport {
        let mut report = match loaded {
            Ok(()) => CommandReport::ok(),
            Err(NotLoaded::Network(code)) => {
                let short = fault::short_net_error(&code).to_owned();
                CommandReport::failed(CommandStatus::Neterror, short, fault::network(&code))
            }
            Err(NotLoaded::Timeout(what)) => {
                self.stuck = true;
                let params = json!({});
                if let Err(error) = self.page("Page.stopLoading", params, Instant::now() + STOP).await {
                    tracing::debug!(%error, "a page could not be stopped");
                }
                let message = format!("the time ran out while waiting for {what}");
                CommandReport::failed(
                    CommandStatus::Timeout,
                    format!("timeout: {what}"),
                    fault::timeout("load", message),
                )
            }
            Err(NotLoaded::Gone(why)) => {
                let failure = fault::browser("page_gone", format!("{why} while it was loaded"));
                CommandReport::failed(CommandStatus::Critical, why, failure)
            }
            Err(NotLoaded::Call(error)) => call_failed("load", &error),
        };
        report.final_url = self.url();
        let ok = report.status == CommandStatus::Ok;
        if ok || self.traffic.is_some() {
            report.http_status = self.http_status(deadline).await;
        }
        report
    }
}

/// A DevTools call that a command needs did not work.
pub(super) fn call_failed(what: &str, error: &CallError) -> CommandReport {
    let text = error.to_string();
    match error {
        CallError::Timeout { .. } => {
            let message = format!("the page did not answer in time: {text}");
            CommandReport::failed(CommandStatus::Timeout, "timeout: no answer", fault::timeout(what, message))
        }
        error if error.is_session_gone() => {
            CommandReport::failed(CommandStatus::Critical, text.clone(), fault::browser("page_gone", text))
        }
        _ => CommandReport::failed(CommandStatus::Error, text.clone(), fault::command(what, text)),
    }
}
