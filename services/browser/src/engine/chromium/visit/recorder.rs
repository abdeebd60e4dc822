//! Feeds the HTTP tracker with the events of one visit, and its rows to the uplink.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sonde_proto::StreamId;
use sonde_proto::record::v1::record::Row;
use sonde_proto::visit::v1::Instruments;
use sonde_runtime::clock::wall_us;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::companions::Companions;
use crate::engine::chromium::cdp::{Connection, Event, Item, SessionInfo, TargetId};
use crate::engine::chromium::http::{
    Action, BlobSink, BodyFetcher, BodyRequest, BodyResult, Caller, HttpConfig, HttpTracker, PostDataRequest,
    SaveContent, truncation,
};
use crate::engine::chromium::recorder::{Handler, Suspect};
use crate::engine::chromium::scripts::{
    ScriptAction, ScriptConfig, ScriptTracker, SourceResult, read_source,
};
use crate::uplink::{AttemptUplink, UplinkError};

/// Bodies fetched at once.
const FETCHES: usize = 8;
const FETCH: Duration = Duration::from_secs(30);

/// What is recorded of a visit by DevTools.
#[derive(Debug, Clone)]
pub(in crate::engine::chromium) struct Recording {
    pub http: HttpConfig,
    pub scripts: Option<ScriptConfig>,
}

impl Recording {
    /// Scripts are told by the debugger, and only with it do stacks have asynchronous parents.
    pub fn needs_debugger(&self) -> bool {
        self.scripts.is_some() || self.http.callstacks
    }
}

/// What is to be recorded; `None`: nothing that needs DevTools. `proxied`: the browser asks a proxy.
pub(super) fn recording(
    i: &Instruments,
    max_body_bytes: u64,
    context_id: &str,
    proxied: bool,
) -> Option<Recording> {
    if !(i.http || i.cookies || i.dns || i.scripts) && i.save_content.is_empty() {
        return None;
    }
    let save_content = match i.save_content.as_slice() {
        [] => SaveContent::None,
        types if types.iter().any(|t| t == "all") => SaveContent::All,
        types => SaveContent::Types(types.iter().cloned().collect::<BTreeSet<_>>()),
    };
    let scripts = i.scripts.then(|| ScriptConfig {
        save_sources: save_content.covers("script"),
        max_source_bytes: max_body_bytes,
        ..ScriptConfig::default()
    });
    let http = HttpConfig {
        http: i.http,
        cookies: i.cookies,
        websocket: i.http,
        callstacks: i.http,
        dns: i.dns,
        proxied,
        link_scripts: i.scripts,
        save_content,
        max_body_bytes,
        incognito: true,
        context_id: Some(context_id.to_owned()),
        ..HttpConfig::default()
    };
    Some(Recording { http, scripts })
}

/// The network as the tracker sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Traffic {
    pub open: usize,
    /// Microseconds since the epoch.
    pub last_activity_us: i64,
    /// Of the newest top-level document.
    pub http_status: u32,
}

/// The visit's page has this tab.
pub(super) struct Tab {
    pub page: TargetId,
    pub tab_id: i64,
    pub window_id: i64,
}

#[derive(Clone)]
struct Sink(AttemptUplink);

impl BlobSink for Sink {
    async fn put(&self, sha256: &str, bytes: Bytes) -> Result<(), String> {
        let deadline = Instant::now() + FETCH;
        self.0.put_blob_named(sha256, bytes, deadline).await.map_err(|e| e.to_string())
    }
}

pub(super) enum Fetched {
    Body(i64, BodyResult),
    PostData(PostDataRequest, Option<Vec<u8>>),
    Empty(Result<(), String>),
    Source(u64, SourceResult),
    /// A page has a second session, or needs none any more.
    Companion,
}

/// A body, from the companion of its session where that itself does not have it.
async fn body(
    fetcher: &BodyFetcher<Caller, Sink>,
    request: &BodyRequest,
    companions: Option<&Companions>,
) -> BodyResult {
    let first = fetcher.fetch(request).await;
    let companion = companions.and_then(|c| c.of(&request.session));
    let Some(session) = companion.filter(|_| matches!(first, BodyResult::Failed { .. })) else {
        return first;
    };
    match fetcher.fetch(&BodyRequest { session, ..request.clone() }).await {
        // Why there is no body says the session that was told of it.
        BodyResult::Failed { .. } => first,
        found => found,
    }
}

/// What the network and the scripts of a visit are recorded with.
pub(super) struct Network {
    tracker: HttpTracker,
    scripts: Option<ScriptTracker>,
    /// `None`: no bodies are saved.
    companions: Option<Companions>,
    uplink: AttemptUplink,
    traffic: watch::Sender<Traffic>,
    fetcher: BodyFetcher<Caller, Sink>,
    fetches: JoinSet<Fetched>,
    room: std::sync::Arc<Semaphore>,
    suspect: Suspect,
}

impl Handler for Network {
    type Order = Tab;
    type Done = Result<Fetched, JoinError>;

    fn suspect(&mut self) -> &mut Suspect {
        &mut self.suspect
    }

    fn on_order(&mut self, Tab { page, tab_id, window_id }: Tab) {
        self.tracker.set_tab(&page, tab_id, Some(window_id));
    }

    async fn on_item(&mut self, item: Item) -> Result<(), UplinkError> {
        match item {
            Item::Event(event) => return self.on_event(&event).await,
            Item::Lost { events, bytes } => {
                self.suspect.because(&format!("{events} events of the browser were lost"));
                return self.record_lost(events, bytes).await;
            }
            Item::HookFailed(failure) => {
                // A target that ended at once never made a request.
                const GONE: i64 = -32001;
                let recording = ["Network.", "Debugger."].iter().any(|d| failure.method.starts_with(d));
                if recording && failure.code != GONE {
                    let kind = &failure.session.kind;
                    let why = format!("{} failed in a {kind}: {}", failure.method, failure.message);
                    self.suspect.because(&why);
                }
            }
        }
        Ok(())
    }

    async fn done(&mut self) -> Option<Self::Done> {
        self.fetches.join_next().await
    }

    async fn on_done(&mut self, done: Self::Done) -> Result<(), UplinkError> {
        match done {
            Ok(fetched) => self.on_fetched(fetched).await,
            Err(error) => {
                self.suspect.because(&format!("a body's task failed: {error}"));
                Ok(())
            }
        }
    }

    async fn finish(&mut self) -> Result<(), UplinkError> {
        self.fetches.abort_all();
        // Bodies and sources asked for now could not come any more; what is recorded is what counts.
        let scripts = self.scripts.as_mut().map(|s| s.finish(wall_us())).unwrap_or_default();
        let scripts = scripts.into_iter().filter_map(|action| match action {
            ScriptAction::Record { captured_at_us, row } => Some((captured_at_us, row)),
            ScriptAction::ReadSource(_) => None,
        });
        let requests = self.tracker.finish(wall_us()).into_iter().filter_map(|action| match action {
            Action::Record { captured_at_us, row } => Some((captured_at_us, row)),
            _ => None,
        });
        for (captured_at_us, row) in scripts.chain(requests).collect::<Vec<_>>() {
            self.uplink.record(StreamId::DEVTOOLS, captured_at_us, row).await?;
        }
        Ok(())
    }
}

impl Network {
    pub fn new(
        connection: Connection,
        (tracker, scripts): (HttpTracker, Option<ScriptTracker>),
        uplink: AttemptUplink,
        traffic: watch::Sender<Traffic>,
    ) -> Self {
        let config = tracker.config();
        let bodies = config.http && config.save_content != SaveContent::None;
        let companions = bodies.then(|| Companions::new(connection.clone(), config));
        let caller = Caller { connection, deadline: FETCH };
        Self {
            tracker,
            scripts,
            companions,
            fetcher: BodyFetcher { caller, sink: Sink(uplink.clone()) },
            uplink,
            traffic,
            fetches: JoinSet::new(),
            room: std::sync::Arc::new(Semaphore::new(FETCHES)),
            suspect: Suspect::default(),
        }
    }

    /// Whether the visit has the answer to a request that it did not see the end of.
    pub fn has_answer(&self, cdp_request_id: &str) -> bool {
        self.tracker.has_answer(cdp_request_id)
    }

    async fn on_event(&mut self, event: &Event) -> Result<(), UplinkError> {
        let Some(session) = &event.session else { return Ok(()) };
        let age = i64::try_from(event.received_at.elapsed().as_micros()).unwrap_or(0);
        let at_us = wall_us() - age;
        if &*event.method == "Target.attachedToTarget" {
            self.attach_companions(session);
        }
        let actions = self.tracker.on_event(session, &event.method, &event.params, at_us);
        self.act(actions).await?;
        let Some(scripts) = &mut self.scripts else { return Ok(()) };
        let actions = scripts.on_event(session, &event.method, &event.params, at_us, &mut self.tracker);
        self.act_on_scripts(actions).await
    }

    fn attach_companions(&mut self, come: &std::sync::Arc<SessionInfo>) {
        let Some(companions) = &self.companions else { return };
        for session in companions.needed(come) {
            let companions = companions.clone();
            self.fetches.spawn(async move {
                companions.attach(session).await;
                Fetched::Companion
            });
        }
    }

    async fn record_lost(&mut self, events: u64, bytes: u64) -> Result<(), UplinkError> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let dropped = (signed(events), signed(bytes));
        let limit = super::QUEUED.events as i64;
        let row = truncation("http_requests", None, "queue_overflow", dropped, limit, None);
        self.uplink.record(StreamId::DEVTOOLS, wall_us(), Row::Truncation(row)).await
    }

    fn traffic(&self) -> Traffic {
        let status = self.tracker.main_document().and_then(|d| d.status);
        Traffic {
            open: self.tracker.open_requests(),
            last_activity_us: self.tracker.last_activity_us(),
            http_status: status.and_then(|s| u32::try_from(s).ok()).unwrap_or(0),
        }
    }

    async fn on_fetched(&mut self, fetched: Fetched) -> Result<(), UplinkError> {
        let actions = match fetched {
            Fetched::Body(id, result) => self.tracker.on_body(id, result),
            Fetched::PostData(request, bytes) => self.tracker.on_post_data(&request, bytes),
            Fetched::Source(id, result) => {
                let actions = self.scripts.as_mut().map(|s| s.on_source(id, result)).unwrap_or_default();
                return self.act_on_scripts(actions).await;
            }
            Fetched::Empty(Ok(())) | Fetched::Companion => Vec::new(),
            Fetched::Empty(Err(error)) => {
                self.suspect.because(&format!("the empty body could not be stored: {error}"));
                Vec::new()
            }
        };
        self.act(actions).await
    }

    async fn act(&mut self, actions: Vec<Action>) -> Result<(), UplinkError> {
        let traffic = self.traffic();
        self.traffic.send_if_modified(|seen| std::mem::replace(seen, traffic) != traffic);
        for action in actions {
            let (fetcher, room) = (self.fetcher.clone(), self.room.clone());
            match action {
                Action::Record { captured_at_us, row } => {
                    self.uplink.record(StreamId::DEVTOOLS, captured_at_us, row).await?;
                }
                Action::FetchBody(request) => {
                    let companions = self.companions.clone();
                    self.fetches.spawn(async move {
                        let _permit = room.acquire().await;
                        Fetched::Body(request.request_id, body(&fetcher, &request, companions.as_ref()).await)
                    });
                }
                Action::FetchPostData(request) => {
                    self.fetches.spawn(async move {
                        let bytes = fetcher.fetch_post_data(&request).await;
                        Fetched::PostData(request, bytes)
                    });
                }
                Action::StoreEmptyBody => {
                    self.fetches.spawn(async move { Fetched::Empty(fetcher.store_empty().await) });
                }
            }
        }
        Ok(())
    }

    async fn act_on_scripts(&mut self, actions: Vec<ScriptAction>) -> Result<(), UplinkError> {
        for action in actions {
            match action {
                ScriptAction::Record { captured_at_us, row } => {
                    self.uplink.record(StreamId::DEVTOOLS, captured_at_us, row).await?;
                }
                ScriptAction::ReadSource(request) => {
                    let (fetcher, room) = (self.fetcher.clone(), self.room.clone());
                    self.fetches.spawn(async move {
                        let _permit = room.acquire().await;
                        let source = read_source(&fetcher.caller, &fetcher.sink, &request).await;
                        Fetched::Source(request.id, source)
                    });
                }
            }
        }
        Ok(())
    }
}
