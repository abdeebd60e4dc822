//! One visit on a Chromium: a browser context of its own, with one main page and what that opens.
//!
//! Without instruments none of their work is done: a context, a page, the commands, and the end of the context.

mod asking;
mod capture;
mod companions;
mod cuts;
mod disposal;
mod download;
mod driving;
mod features;
mod frames;
mod hands;
mod jar;
mod late;
mod page;
mod picture;
mod print;
mod recorder;
mod setups;
mod stop;
mod upload;
mod warden;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use sonde_proto::StreamId;
use sonde_proto::visit::v1::{Command, Failure, RetryAdvice};
use sonde_runtime::clock::wall_us;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::calls::{Callers, QUESTION};
use super::cdp::{
    CallError, ContextId, Filter, Limits, PendingCall, RawCommand, RawJson, SessionInfo, Stats, TargetId,
};
use super::engine::{CALL, Running};
use super::features::FeatureWatch;
use super::http::{HttpTracker, JarCookie, snapshot_rows};
use super::recorder::{Orders, Recorder};
use super::scripts::{self, ScriptTracker};
use super::stealth::{self, StealthHook, StealthRecorder};
use super::workers::{self, WorkerRecorder};
use crate::attempt::fault;
use crate::engine::commands::{self, upload::Chosen};
use crate::engine::extension::Attendance;
use crate::engine::{CommandReport, Ending, Fate, Progress, Scripts, Visit, VisitSetup, video};
use crate::uplink::AttemptUplink;
pub(super) use late::unattributed;
use recorder::{Network, Recording, Tab, Traffic};
use setups::Setup;
pub(super) use setups::Setups;
use warden::{PageState, Warden};

/// Events of one visit that may wait for their recorder.
const QUEUED: Limits = Limits { events: 200_000, bytes: 128 << 20 };

/// Time for the sessions of a page to answer.
const SILENT: Duration = Duration::from_secs(2);
/// Time for the frames of a page to hand over what they recorded: hundreds of thousands of calls, on a busy machine.
const HAND_OVER: Duration = Duration::from_secs(10);
/// The same, when the page did not answer before.
const SILENT_STUCK: Duration = Duration::from_millis(500);

/// A visit's page and everything that watches it.
pub(super) struct ChromiumVisit {
    browser: Arc<Running>,
    context: ContextId,
    target: TargetId,
    session: Arc<SessionInfo>,
    state: watch::Receiver<PageState>,
    traffic: Option<watch::Receiver<Traffic>>,
    recorder: Option<Orders<Tab>>,
    /// Of workers, or in capture mode `stealth` of documents.
    callers: Option<Callers>,
    /// The recorder's task: it keeps what comes late until the channel of its orders closes.
    recording: Option<JoinHandle>,
    /// What the connection had missed when the visit began.
    stats: Stats,
    /// The extension records it.
    attendance: Option<Attendance>,
    /// Compares what it recorded with what the engine saw; until the end of the visit.
    features: Option<FeatureWatch>,
    uplink: AttemptUplink,
    progress: Progress,
    site_url: String,
    cookies: bool,
    ready_at_us: Option<i64>,
    navigated_at_us: Option<i64>,
    /// A document was loaded by a command.
    loaded: bool,
    /// It has the focus, as the page of a user who types has.
    focused: bool,
    /// The page did not answer: it is closed before its context.
    stuck: bool,
    /// Pictures of the page are taken.
    video: Option<video::Recording>,
    /// What the page was given to upload.
    uploads: Vec<Chosen>,
    ending: Option<Ending>,
    /// Ends with the visit.
    _warden: Option<JoinHandle>,
}

type JoinHandle = AbortOnDropHandle<()>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContextCreated {
    browser_context_id: ContextId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetCreated {
    target_id: TargetId,
}

#[derive(Deserialize)]
struct Jar {
    cookies: Vec<JarCookie>,
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// A call failed while a visit was prepared.
fn unprepared(error: &CallError) -> Failure {
    let what = if error.is_fatal() { "gone" } else { "prepare" };
    fault::browser(what, format!("the visit could not be prepared: {error}"))
}

fn decoded<T: serde::de::DeserializeOwned>(answer: &RawJson, method: &str) -> Result<T, Failure> {
    let wrong = |e| fault::browser("protocol", format!("{method}: the answer is not as expected: {e}"));
    answer.decode().map_err(wrong)
}

/// Makes the context and its page, and waits until every instrument is ready.
pub(super) async fn open(browser: Arc<Running>, setup: VisitSetup) -> Result<Box<dyn Visit>, Failure> {
    let VisitSetup { uplink, instruments, site_url, max_body_bytes, deadline, progress } = setup;
    let connection = &browser.connection;
    let call = async |method: &str, params| {
        connection.call_raw(None, method, params, left(deadline)).await.map_err(|e| unprepared(&e))
    };
    let send = |method: &'static str, params| -> Result<PendingCall, Failure> {
        connection.send_no_wait(None, RawCommand::new(method, params)).map_err(|e| unprepared(&e))
    };
    // Its first page is known to the extension by its URL.
    let (attendance, url) = match Scripts::of(&instruments) {
        None => (None, "about:blank".to_owned()),
        Some(scripts) => {
            let extension = browser.extension.as_ref().map_err(|why| without_extension(why.as_deref()))?;
            let (token, url) = extension.first_page();
            let start = scripts.start(uplink.visit_id(), &token, &instruments, max_body_bytes);
            (Some(extension.attend(start, uplink.clone())), url)
        }
    };
    let watched = browser.js_settings().filter(|_| instruments.javascript && instruments.feature_use_check);
    let features = watched.map(|settings| FeatureWatch::begin(connection.clone(), settings, &uplink));
    let mut features = features.transpose().map_err(|e| unprepared(&e))?;
    let context = match &browser.kept {
        Some(kept) => kept.context.clone(),
        None => {
            let answer = call("Target.createBrowserContext", json!({"disposeOnDetach": true})).await?;
            decoded::<ContextCreated>(&answer, "Target.createBrowserContext")?.browser_context_id
        }
    };
    let hook = browser.worker_hooks.as_ref().filter(|_| instruments.javascript).map(|hooks| hooks.hook());
    let stealth = browser.stealth.as_ref().filter(|_| instruments.javascript).map(|source| source.hook());
    let mut recording = recorder::recording(&instruments, max_body_bytes, context.as_str(), browser.proxied);
    if let Some(scripts) = recording.as_mut().and_then(|r| r.scripts.as_mut()) {
        let ours = hook.iter().flat_map(workers::Hook::sources).chain([QUESTION.to_owned()]);
        scripts.ours = ours.map(|source| scripts::sha256(&source)).collect();
        scripts.secrets = stealth.as_ref().map(StealthHook::secrets).unwrap_or_default();
    }
    let (workers, of_stealth) = (hook.clone(), stealth.clone());
    let headers = serde_json::Map::new();
    let set_up = Setup { recording: recording.clone(), workers, stealth: of_stealth, headers };
    browser.setups.insert(context.clone(), set_up);
    let of_visit = || Filter::contexts([context.clone()]);
    let page_events = connection.subscribe(of_visit().methods(warden::METHODS.iter().copied()));
    let recorded_events = recording.is_some().then(|| connection.subscribe_within(of_visit(), QUEUED));
    let workers = hook.map(|hook| {
        let wanted = of_visit().methods(workers::METHODS.iter().copied());
        (hook, connection.subscribe_within(wanted, QUEUED))
    });
    let stealth = stealth.map(|hook| {
        let wanted = of_visit().methods(stealth::METHODS.iter().copied());
        (hook, connection.subscribe_within(wanted, QUEUED))
    });
    // All at once; their order is that of these lines.
    let no_downloads = json!({"behavior": "deny", "browserContextId": context});
    let denied = send("Browser.setDownloadBehavior", no_downloads)?;
    let target = json!({"url": url, "browserContextId": context});
    let created = send("Target.createTarget", target)?;
    let in_context = json!({"browserContextId": context});
    let jar = if instruments.cookies { Some(send("Storage.getCookies", in_context)?) } else { None };
    let created = created.result(left(deadline)).await.map_err(|e| unprepared(&e))?;
    let target = decoded::<TargetCreated>(&created, "Target.createTarget")?.target_id;
    let ready = connection.wait_ready(&target, left(deadline)).await;
    let (session, failures) = ready.map_err(|e| unprepared(&e))?;
    denied.result(left(deadline)).await.map_err(|e| unprepared(&e))?;
    if let Some(failed) = failures.first() {
        let message = format!("the page's set-up failed: {}: {}", failed.method, failed.message);
        return Err(fault::instrument("setup", message));
    }
    let means = Means { uplink, progress, site_url };
    let mut visit = ChromiumVisit::new(browser.clone(), context, target, session, means);
    visit.watch(page_events, stealth.is_some());
    if let Some((recording, events)) = recording.zip(recorded_events) {
        visit.record(recording, events);
    }
    if let Some((hook, events)) = workers {
        visit.record_workers(hook, events);
    }
    if let Some((hook, events)) = stealth {
        visit.record_documents(hook, events);
    }
    visit.cookies = instruments.cookies;
    if let Some(jar) = jar {
        let answer = jar.result(left(deadline)).await.map_err(|e| unprepared(&e))?;
        let jar: Jar = decoded(&answer, "Storage.getCookies")?;
        visit.snapshot(&jar.cookies, "visit-start").await.map_err(|e| e.failure())?;
    }
    if let Some(attendance) = attendance {
        visit.attend(attendance, deadline).await?;
    }
    if let Some(features) = &mut features {
        features.begun(left(deadline)).await.map_err(|e| unprepared(&e))?;
    }
    visit.features = features;
    if visit.recorder.is_some() || visit.attendance.is_some() {
        visit.ready_at_us = Some(wall_us());
    }
    Ok(Box::new(visit))
}

fn without_extension(why: Option<&str>) -> Failure {
    let why = why.unwrap_or("the browser was started without it");
    let message = format!("the instruments need the extension: {why}");
    Failure { retry: RetryAdvice::Never.into(), ..fault::instrument("no_extension", message) }
}

struct Means {
    uplink: AttemptUplink,
    progress: Progress,
    site_url: String,
}

impl ChromiumVisit {
    fn new(
        browser: Arc<Running>,
        context: ContextId,
        target: TargetId,
        session: Arc<SessionInfo>,
        means: Means,
    ) -> Self {
        let stats = browser.connection.stats();
        Self {
            browser,
            context,
            target,
            session,
            state: watch::channel(PageState::default()).1,
            traffic: None,
            recorder: None,
            callers: None,
            recording: None,
            stats,
            attendance: None,
            features: None,
            uplink: means.uplink,
            progress: means.progress,
            site_url: means.site_url,
            cookies: false,
            ready_at_us: None,
            navigated_at_us: None,
            loaded: false,
            focused: false,
            stuck: false,
            video: None,
            uploads: Vec::new(),
            ending: None,
            _warden: None,
        }
    }

    fn watch(&mut self, events: super::cdp::Subscription, served: bool) {
        let state = watch::Sender::new(PageState::default());
        self.state = state.subscribe();
        let connection = self.browser.connection.clone();
        let warden = Warden { connection, events, main: self.target.clone(), state, served };
        self._warden = Some(AbortOnDropHandle::new(tokio::spawn(warden.run())));
    }

    fn record(&mut self, recording: Recording, events: super::cdp::Subscription) {
        let (traffic, seen) = watch::channel(Traffic::default());
        let connection = self.browser.connection.clone();
        let tracker = HttpTracker::new(recording.http, self.browser.ids.clone());
        let trackers = (tracker, recording.scripts.map(ScriptTracker::new));
        let network = Network::new(connection, trackers, self.uplink.clone(), traffic);
        let (recorder, orders) = Recorder::new("the network", events, network);
        self.recorder = Some(orders);
        self.traffic = Some(seen);
        let uplink = self.uplink.clone();
        let recording = async move {
            if let Some(finished) = recorder.run().await {
                late::keep(finished, uplink).await;
            }
        };
        self.recording = Some(AbortOnDropHandle::new(tokio::spawn(recording)));
    }

    /// Waits until the extension is ready for the visit.
    async fn attend(&mut self, attendance: Attendance, deadline: Instant) -> Result<(), Failure> {
        self.progress.detail("waiting for the instruments");
        let silent = |e| fault::instrument("not_ready", format!("the extension was not ready: {e}"));
        let (tab_id, window_id) = attendance.ready(deadline).await.map_err(silent)?;
        if let Some(callers) = &self.callers {
            callers.set_tab(tab_id).await;
        }
        if let Some(orders) = &self.recorder {
            let tab = Tab { page: self.target.clone(), tab_id, window_id };
            orders.tell(tab).await.map_err(|e| fault::instrument("not_ready", e.to_string()))?;
        }
        self.attendance = Some(attendance);
        Ok(())
    }

    fn record_workers(&mut self, hook: workers::Hook, events: super::cdp::Subscription) {
        let state = self.state.clone();
        let recorder = WorkerRecorder {
            connection: self.browser.connection.clone(),
            hook,
            uplink: self.uplink.clone(),
            main: self.target.clone(),
            page_url: Box::new(move || state.borrow().url.clone()),
        };
        self.callers = Some(recorder.start(events, self.context.clone()));
    }

    fn record_documents(&mut self, hook: StealthHook, events: super::cdp::Subscription) {
        let recorder = StealthRecorder {
            connection: self.browser.connection.clone(),
            hook,
            uplink: self.uplink.clone(),
            main: self.target.clone(),
        };
        self.callers = Some(recorder.start(events, self.context.clone()));
    }

    async fn snapshot(&self, jar: &[JarCookie], cause: &str) -> Result<(), crate::uplink::UplinkError> {
        for row in snapshot_rows(jar, cause, Some(self.context.as_str())) {
            self.uplink.record(StreamId::DEVTOOLS, wall_us(), row).await?;
        }
        Ok(())
    }

    /// Calls the page.
    async fn page(
        &self,
        method: &str,
        params: serde_json::Value,
        deadline: Instant,
    ) -> Result<RawJson, CallError> {
        self.browser.connection.call_raw(Some(&self.session.id), method, params, left(deadline)).await
    }

    /// Tells the page something whose answer does not matter.
    fn tell_page(&self, method: &'static str) {
        let command = RawCommand::new(method, json!({}));
        if let Err(error) = self.browser.connection.send_no_wait(Some(&self.session.id), command) {
            tracing::debug!(%error, method, "a page could not be told");
        }
    }

    async fn finish_once(&mut self, deadline: Instant) -> Ending {
        let mut ending = Ending::default();
        let bare_documents = self.stop_pages(if self.stuck { SILENT_STUCK } else { SILENT }).await;
        // Its answer comes after every event of what was before it.
        let in_context = json!({"browserContextId": self.context});
        let jar = self
            .browser
            .connection
            .send_no_wait(None, RawCommand::new("Storage.getCookies", in_context))
            .map_err(|e| e.to_string());
        let used = self.features_used(deadline).await;
        if let Some(attendance) = &self.attendance {
            let alive = self.browser.connection.close_reason().is_none();
            self.progress.detail("waiting for the extension");
            let frames = if self.stuck { SILENT_STUCK } else { HAND_OVER };
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
        if let Some(callers) = self.callers.take() {
            self.progress.detail(format!("waiting for {}", callers.of()));
            let silent = if self.stuck { SILENT_STUCK } else { HAND_OVER };
            ending.also_suspect(callers.finish(silent, deadline).await);
        }
        self.compare_features(used, &ending).await;
        self.record_cuts().await;
        let Some(orders) = &self.recorder else { return ending };
        self.progress.detail("waiting for the network's recorder");
        let jar = match jar {
            Ok(jar) => jar.result(left(deadline).min(CALL)).await.map_err(|e| e.to_string()),
            Err(error) => Err(error),
        };
        ending.also_suspect(self.finish_recorder(orders, jar, deadline).await);
        ending
    }

    /// Says why records of the network may be missing; "" when none are.
    async fn finish_recorder(
        &self,
        orders: &Orders<Tab>,
        jar: Result<RawJson, String>,
        deadline: Instant,
    ) -> String {
        let patience = deadline.checked_sub(Duration::from_millis(500)).unwrap_or(deadline);
        let suspect = orders.finish(patience, deadline).await;
        if !self.cookies || !suspect.is_empty() {
            return suspect;
        }
        let taken = match jar.and_then(|answer| answer.decode::<Jar>().map_err(|e| e.to_string())) {
            Ok(jar) => self.snapshot(&jar.cookies, "visit-end").await.map_err(|e| e.to_string()),
            Err(error) => Err(error),
        };
        taken.err().map_or_else(String::new, |error| format!("no cookie snapshot at the end: {error}"))
    }
}

impl Visit for ChromiumVisit {
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
                if let Some(kept) = &self.browser.kept
                    && let Err(error) = kept.save(&self.browser.connection, left(deadline).min(CALL)).await
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
