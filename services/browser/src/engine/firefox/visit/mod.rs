//! One visit on a Firefox: a user context of its own, with one main tab and what that opens.

mod asking;
mod capture;
mod disposal;
mod download;
mod driving;
mod frames;
mod hands;
mod jar;
mod page;
mod picture;
mod print;
mod stop;
mod upload;
mod warden;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use sonde_proto::StreamId;
use sonde_proto::visit::v1::{BrowserKind, Command, Failure, RetryAdvice};
use sonde_runtime::clock::wall_us;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::bidi::{BidiError, Event};
use super::chrome;
use super::cookies::{Cookie, snapshot_rows};
use super::driver::DriverError;
use super::engine::Running;
use super::kept;
use super::launch::CALL;
use crate::attempt::fault;
use crate::engine::commands::{self, upload::Chosen};
use crate::engine::extension::Attendance;
use crate::engine::{CommandReport, Ending, Fate, Progress, Scripts, Visit, VisitSetup, video};
use crate::uplink::AttemptUplink;
use warden::{PageState, Warden};

/// Time for the frames of a page to hand over what they recorded: hundreds of thousands of calls, on a busy machine.
const HAND_OVER: Duration = Duration::from_secs(10);
/// The same, when the page did not answer before.
const HAND_OVER_STUCK: Duration = Duration::from_millis(500);

/// A visit's tab and everything that watches it.
pub(super) struct FirefoxVisit {
    browser: Arc<Running>,
    /// As BiDi names it.
    user_context: String,
    /// Its number, as in `firefox-container-N`.
    container: i64,
    /// The tabs that were there before it, where it runs in the browser's own profile.
    before: Vec<String>,
    /// The main tab's browsing context.
    context: String,
    state: watch::Receiver<PageState>,
    /// The extension records it.
    attendance: Option<Attendance>,
    uplink: AttemptUplink,
    progress: Progress,
    site_url: String,
    cookies: bool,
    ready_at_us: Option<i64>,
    navigated_at_us: Option<i64>,
    /// A document was loaded by a command.
    loaded: bool,
    /// The subscription by which its requests are counted.
    counting: Option<Value>,
    /// The browser adds headers to its requests.
    has_headers: bool,
    /// The page did not answer.
    stuck: bool,
    /// Pictures of the page are taken.
    video: Option<video::Recording>,
    /// What the page was given to upload.
    uploads: Vec<Chosen>,
    ending: Option<Ending>,
    /// Ends with the visit.
    _warden: AbortOnDropHandle<()>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    user_context: String,
}

#[derive(Deserialize)]
struct Opened {
    context: String,
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// A call failed while a visit was prepared.
fn unprepared(error: &BidiError) -> Failure {
    let what = if error.is_fatal() { "gone" } else { "prepare" };
    fault::browser(what, format!("the visit could not be prepared: {error}"))
}

fn undriven(error: &DriverError) -> Failure {
    fault::browser("prepare", format!("the visit could not be prepared: {error}"))
}

/// Makes the user context and its tab, and waits until every instrument is ready.
pub(super) async fn open(browser: Arc<Running>, setup: VisitSetup) -> Result<Box<dyn Visit>, Failure> {
    let VisitSetup { uplink, instruments, site_url, max_body_bytes, deadline, progress } = setup;
    // Its first page is known to the extension by its URL.
    let attended = match Scripts::of_kind(BrowserKind::Firefox, &instruments) {
        None => None,
        Some(scripts) => {
            let extension = browser.extension.as_ref().map_err(|why| without_extension(why.as_deref()))?;
            let (token, url) = extension.first_page();
            let start = scripts.start(uplink.visit_id(), &token, &instruments, max_body_bytes);
            Some((extension.attend(start, uplink.clone()), url))
        }
    };
    let bidi = &browser.bidi;
    let (user_context, container, before) = match &browser.profile {
        Some(_) => {
            let tabs = kept::tabs(bidi, left(deadline)).await.map_err(|e| unprepared(&e))?;
            (kept::USER_CONTEXT.to_owned(), 0, tabs)
        }
        None => {
            let made = bidi.ask("browser.createUserContext", json!({}), left(deadline)).await;
            let Made { user_context } = made.map_err(|e| unprepared(&e))?;
            let ids = json!([user_context]);
            let container = browser.chrome(chrome::PREPARE, ids, left(deadline)).await;
            (user_context, container.map_err(|e| undriven(&e))?, Vec::new())
        }
    };
    let main = Arc::new(OnceLock::new());
    let events = bidi.events(wanted(user_context.clone(), main.clone()));
    let tab = json!({"type": "tab", "userContext": user_context});
    let tab: Opened =
        bidi.ask("browsingContext.create", tab, left(deadline)).await.map_err(|e| unprepared(&e))?;
    let context = main.get_or_init(|| tab.context).clone();
    let state = watch::Sender::new(PageState::default());
    let seen = state.subscribe();
    let warden = Warden { bidi: bidi.clone(), events, main: context.clone(), state };
    let warden = AbortOnDropHandle::new(tokio::spawn(warden.run()));
    let mut visit = FirefoxVisit {
        browser: browser.clone(),
        user_context,
        container,
        before,
        context,
        state: seen,
        attendance: None,
        uplink,
        progress,
        site_url,
        cookies: instruments.cookies,
        ready_at_us: None,
        navigated_at_us: None,
        loaded: false,
        counting: None,
        has_headers: false,
        stuck: false,
        video: None,
        uploads: Vec::new(),
        ending: None,
        _warden: warden,
    };
    if visit.cookies {
        visit.snapshot("visit-start", left(deadline)).await.map_err(|e| fault::instrument("cookies", e))?;
    }
    if let Some((attendance, url)) = attended {
        visit.attend(attendance, &url, deadline).await?;
    }
    if visit.cookies || visit.attendance.is_some() {
        visit.ready_at_us = Some(wall_us());
    }
    Ok(Box::new(visit))
}

/// Events of the tabs of a user context; of documents only those of its main tab.
fn wanted(user_context: String, main: Arc<OnceLock<String>>) -> impl Fn(&Event) -> bool + Send + 'static {
    let known = move |context: &Value| main.get().is_some_and(|main| context.as_str() == Some(main));
    move |event| {
        let params = &event.params;
        match event.method.as_str() {
            "browsingContext.contextCreated" | "browsingContext.contextDestroyed" => {
                params["parent"].is_null() && params["userContext"].as_str() == Some(&user_context)
            }
            // Subscribed to for the main tab only, with its frames.
            method if method.starts_with("network.") => true,
            _ => known(&params["context"]),
        }
    }
}

fn without_extension(why: Option<&str>) -> Failure {
    let why = why.unwrap_or("the browser was started without it");
    let message = format!("the instruments need the extension: {why}");
    Failure { retry: RetryAdvice::Never.into(), ..fault::instrument("no_extension", message) }
}

impl FirefoxVisit {
    /// Shows the extension the visit's tab, and waits until it is ready.
    async fn attend(&mut self, attendance: Attendance, url: &str, deadline: Instant) -> Result<(), Failure> {
        self.progress.detail("waiting for the instruments");
        let params = json!({"context": self.context, "url": url, "wait": "none"});
        let shown = self.browser.bidi.call("browsingContext.navigate", params, left(deadline)).await;
        shown.map_err(|e| unprepared(&e))?;
        let silent = |e| fault::instrument("not_ready", format!("the extension was not ready: {e}"));
        attendance.ready(deadline).await.map_err(silent)?;
        self.attendance = Some(attendance);
        Ok(())
    }

    /// Stores the cookies that there are now.
    async fn snapshot(&self, cause: &str, time: Duration) -> Result<(), String> {
        let jar: Vec<Cookie> = self
            .browser
            .chrome(chrome::COOKIES, json!([self.container]), time)
            .await
            .map_err(|e| e.to_string())?;
        let store = match self.container {
            0 => kept::STORE.to_owned(),
            number => format!("firefox-container-{number}"),
        };
        for row in snapshot_rows(&jar, cause, &store) {
            self.uplink.record(StreamId::DEVTOOLS, wall_us(), row).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    async fn finish_once(&mut self, deadline: Instant) -> Ending {
        let mut ending = Ending::default();
        let alive = self.browser.bidi.close_reason().is_none();
        let bare_documents = match alive && (self.cookies || self.attendance.is_some()) {
            true => self.stop_pages(deadline).await,
            false => Vec::new(),
        };
        if let Some(attendance) = &self.attendance {
            self.progress.detail("waiting for the extension");
            let frames = if self.stuck { HAND_OVER_STUCK } else { HAND_OVER };
            match alive {
                true => match attendance.flush(frames, bare_documents, deadline).await {
                    Ok(flushed) => {
                        ending.failure = flushed.failure();
                        ending.sessions = flushed.claims;
                    }
                    Err(error) => ending.incomplete_reason = format!("extension_not_flushed: {error}"),
                },
                false => ending.incomplete_reason = "crashed".to_owned(),
            }
        }
        if self.cookies {
            let taken = self.snapshot("visit-end", left(deadline).min(CALL)).await;
            let missing = taken.err().map(|error| format!("no cookie snapshot at the end: {error}"));
            ending.devtools = Some(missing.unwrap_or_default());
        }
        ending
    }
}

impl Visit for FirefoxVisit {
    fn instruments_ready_at_us(&self) -> Option<i64> {
        self.ready_at_us
    }

    fn navigation_start_at_us(&self) -> Option<i64> {
        self.navigated_at_us
    }

    fn run<'a>(
        &'a mut self,
        index: u32,
        command: &'a Command,
        deadline: Instant,
    ) -> BoxFuture<'a, CommandReport> {
        Box::pin(commands::run(self, index, command, deadline))
    }

    fn finish(&mut self, deadline: Instant) -> BoxFuture<'_, Ending> {
        Box::pin(async move {
            if self.ending.is_none() {
                // Of a visit that was ended early.
                self.video = None;
                self.ending = Some(self.finish_once(deadline).await);
                // Whatever becomes of the browser after the visit's end.
                if self.browser.profile.is_some()
                    && let Err(error) = self.browser.save_kept(left(deadline).min(CALL)).await
                {
                    tracing::warn!(%error, "the cookies of a kept profile were not noted");
                }
            }
            self.ending.clone().unwrap_or_default()
        })
    }

    fn dispose(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Fate> {
        Box::pin(self.take_down(deadline))
    }
}
