//! Loading a page and waiting for it.

use std::time::Duration;

use serde_json::{Value, json};
use sonde_proto::visit::v1::{CommandStatus, LoadPolicy};
use sonde_runtime::clock::wall_us;
use tokio::time::{Instant, timeout_at};

use super::warden::PageState;
use super::{FirefoxVisit, left};
use crate::attempt::fault;
use crate::engine::CommandReport;
use crate::engine::firefox::bidi::BidiError;
use crate::engine::firefox::driver::DriverError;
use crate::engine::firefox::{chrome, net_error};

/// No request is open for this long: the network is idle.
const IDLE: Duration = Duration::from_millis(500);
/// For the HTTP status of a page.
const STATUS: Duration = Duration::from_millis(500);
/// For the page that a browser shows instead of one that failed.
const ERROR_PAGE: Duration = Duration::from_secs(2);
/// For leaving a page that does not load.
const STOP: Duration = Duration::from_secs(1);

/// What Firefox says of a navigation that ends without a document, as by a download or a 204.
pub(super) const ABORTED: &str = "NS_BINDING_ABORTED";

/// Why a page did not load.
#[derive(Debug)]
pub(in crate::engine) enum NotLoaded {
    /// With the browser's code.
    Network(String),
    /// What was waited for.
    Timeout(&'static str),
    /// The page is gone.
    Gone(String),
    Call(BidiError),
    Driver(DriverError),
}

impl From<BidiError> for NotLoaded {
    fn from(error: BidiError) -> Self {
        match error {
            BidiError::Timeout { .. } => Self::Timeout("the navigation"),
            error => Self::Call(error),
        }
    }
}

impl FirefoxVisit {
    /// Navigates the main page and waits as the policy says.
    pub(super) async fn load(
        &mut self,
        url: &str,
        referrer: &str,
        policy: LoadPolicy,
        deadline: Instant,
    ) -> Result<(), NotLoaded> {
        if policy == LoadPolicy::NetworkIdle {
            self.count_requests(deadline).await?;
        }
        self.progress.detail("waiting for the server");
        if self.navigated_at_us.is_none() {
            // After the instruments were ready, whatever the wall clock did in between.
            let after = self.ready_at_us.map_or(i64::MIN, |ready| ready + 1);
            self.navigated_at_us = Some(wall_us().max(after));
        }
        self.loaded = true;
        if !referrer.is_empty() {
            let arguments = json!([self.context, referrer]);
            let told: Result<Value, _> = self.browser.chrome(chrome::REFER, arguments, left(deadline)).await;
            told.map_err(NotLoaded::Driver)?;
        }
        let (pages, downloaded) = {
            let state = self.state.borrow();
            (state.pages, state.downloaded)
        };
        // It answers when the document is committed.
        let params = json!({"context": self.context, "url": url, "wait": "none"});
        match self.browser.bidi.call("browsingContext.navigate", params, left(deadline)).await {
            Ok(answer) => {
                let navigation = answer["navigation"].as_str().unwrap_or_default();
                let target = answer["url"].as_str().unwrap_or(url);
                let over = |s: &PageState| {
                    s.has_committed(navigation)
                        || s.has_failed(navigation)
                        || s.has_downloaded(target, downloaded)
                };
                self.until("the document", deadline, over).await?;
                match self.state.borrow().has_committed(navigation) {
                    true => {}
                    false => return Err(NotLoaded::Network(ABORTED.to_owned())),
                }
                self.wait_loaded(policy, deadline).await
            }
            Err(BidiError::Refused { code, message, .. }) if code == "unknown error" => {
                Err(NotLoaded::Network(self.why(net_error::code(&message), pages).await))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The code of a failed navigation. An answer whose status is an error and that has no body has the same one as no
    /// answer at all; the error page, the next after the first `pages`, tells them apart.
    async fn why(&mut self, code: &str, pages: u64) -> String {
        if code == "NS_ERROR_NET_EMPTY_RESPONSE"
            && self.until("the error page", Instant::now() + ERROR_PAGE, |s| s.pages > pages).await.is_ok()
            && let Some(shown) = self.state.borrow().error_page.clone()
        {
            return shown;
        }
        code.to_owned()
    }

    /// Waits as the policy says, once there is a document.
    pub(super) async fn wait_loaded(
        &mut self,
        policy: LoadPolicy,
        deadline: Instant,
    ) -> Result<(), NotLoaded> {
        let (what, event): (_, fn(&PageState) -> bool) = match policy {
            LoadPolicy::Commit | LoadPolicy::Time => return Ok(()),
            LoadPolicy::DomContentLoaded => ("DOMContentLoaded", |s| s.dom_content || s.load),
            LoadPolicy::Unspecified | LoadPolicy::Load | LoadPolicy::NetworkIdle => ("load", |s| s.load),
        };
        self.progress.detail(format!("waiting for {what}"));
        // An answer without a body whose status is an error becomes an error page after it was a document.
        self.until(what, deadline, |s| event(s) || s.error_page.is_some()).await?;
        if let Some(shown) = self.state.borrow().error_page.clone() {
            return Err(NotLoaded::Network(shown));
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

    /// From the first page that is to be idle, the browser tells of the requests of the main tab: not before, because
    /// it costs.
    pub(super) async fn count_requests(&mut self, deadline: Instant) -> Result<(), NotLoaded> {
        if self.counting.is_some() {
            return Ok(());
        }
        let events = ["network.beforeRequestSent", "network.responseCompleted", "network.fetchError"];
        let params = json!({"events": events, "contexts": [self.context]});
        let answer = self.browser.bidi.call("session.subscribe", params, left(deadline)).await?;
        self.counting = Some(answer["subscription"].clone());
        Ok(())
    }

    async fn wait_idle(&mut self, deadline: Instant) -> Result<(), NotLoaded> {
        let (progress, mut state) = (self.progress.clone(), self.state.clone());
        let loaded_at = Instant::now();
        let idle = async {
            loop {
                let (open, last, gone) = {
                    let s = state.borrow_and_update();
                    (s.open, s.last_activity.unwrap_or(loaded_at), s.gone.clone())
                };
                if let Some(why) = gone {
                    return Err(NotLoaded::Gone(why));
                }
                if open > 0 {
                    progress.detail(format!("waiting for {open} requests"));
                }
                let quiet_at = last + IDLE;
                if open == 0 && quiet_at <= Instant::now() {
                    return Ok(());
                }
                tokio::select! {
                    changed = state.changed() => if changed.is_err() {
                        return Err(NotLoaded::Gone("the visit is over".to_owned()));
                    },
                    // With requests open only news can help; without, time does, too.
                    () = tokio::time::sleep_until(quiet_at), if open == 0 => {}
                }
            }
        };
        timeout_at(deadline, idle).await.unwrap_or(Err(NotLoaded::Timeout("the network to be idle")))
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

    /// Evaluates in a world of its own, which the page cannot see or reach; gives the text that comes out.
    pub(super) async fn isolated(
        &self,
        expression: &str,
        deadline: Instant,
    ) -> Result<Option<String>, NotLoaded> {
        Ok(self.browser.bidi.isolated(&self.context, expression, left(deadline)).await?)
    }

    /// HTTP status of the page's document; 0 when none came.
    async fn http_status(&self, deadline: Instant) -> u32 {
        let expression = "String(performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0)";
        let answer = self.isolated(expression, deadline.min(Instant::now() + STATUS)).await;
        answer.ok().flatten().and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The report of a load, with the load stopped and what came of it kept.
    pub(super) async fn report(&mut self, loaded: Result<(), NotLoaded>, deadline: Instant) -> CommandReport {
        let mut report = match loaded {
            Ok(()) => CommandReport::ok(),
            Err(NotLoaded::Network(code)) => {
                let short = net_error::word(&code).to_owned();
                CommandReport::failed(CommandStatus::Neterror, short, net_error::failure(&code))
            }
            Err(NotLoaded::Timeout(what)) => self.timed_out(what).await,
            Err(NotLoaded::Gone(why)) => gone(&why),
            Err(NotLoaded::Call(error)) => call_failed("load", &error),
            Err(NotLoaded::Driver(error)) => driver_failed("load", &error),
        };
        report.final_url = self.url();
        if report.status == CommandStatus::Ok {
            report.http_status = self.http_status(deadline).await;
        }
        report
    }

    pub(super) async fn timed_out(&mut self, what: &str) -> CommandReport {
        self.stuck = true;
        let context = json!([self.context]);
        if let Err(error) = self.browser.chrome::<Value>(chrome::STOP, context, STOP).await {
            tracing::debug!(%error, "a page could not be stopped");
        }
        let message = format!("the time ran out while waiting for {what}");
        let failure = fault::timeout("load", message);
        CommandReport::failed(CommandStatus::Timeout, format!("timeout: {what}"), failure)
    }
}

fn gone(why: &str) -> CommandReport {
    let failure = fault::browser("page_gone", format!("{why} while it was loaded"));
    CommandReport::failed(CommandStatus::Critical, why, failure)
}

/// A BiDi call that a command needs did not work.
pub(super) fn call_failed(what: &str, error: &BidiError) -> CommandReport {
    let text = error.to_string();
    match error {
        BidiError::Timeout { .. } => {
            let message = format!("the page did not answer in time: {text}");
            CommandReport::failed(CommandStatus::Timeout, "timeout: no answer", fault::timeout(what, message))
        }
        error if error.is_gone() => {
            CommandReport::failed(CommandStatus::Critical, text.clone(), fault::browser("page_gone", text))
        }
        _ => CommandReport::failed(CommandStatus::Error, text.clone(), fault::command(what, text)),
    }
}

/// The browser itself did not do what a command needs.
fn driver_failed(what: &str, error: &DriverError) -> CommandReport {
    let text = error.to_string();
    CommandReport::failed(CommandStatus::Critical, text.clone(), fault::browser(what, text))
}
