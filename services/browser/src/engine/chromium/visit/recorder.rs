//! Feeds the HTTP tracker with the events of one visit, and its rows to the uplink.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sonde_proto::StreamId;
use sonde_proto::visit::v1::Instruments;
use sonde_runtime::clock::wall_us;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::engine::chromium::cdp::{Connection, Event, Item, Subscription, TargetId};
use crate::engine::chromium::http::{
    Action, BlobSink, BodyFetcher, BodyResult, Caller, HttpConfig, HttpTracker, PostDataRequest, SaveContent,
};
use crate::uplink::{AttemptUplink, UplinkError};

/// Bodies fetched at once.
const FETCHES: usize = 8;
const FETCH: Duration = Duration::from_secs(30);

/// What the tracker is to record; `None`: nothing that needs the network events.
pub(super) fn config(i: &Instruments, max_body_bytes: u64, context_id: &str) -> Option<HttpConfig> {
    if !i.http && !i.cookies && i.save_content.is_empty() {
        return None;
    }
    let save_content = match i.save_content.as_slice() {
        [] => SaveContent::None,
        types if types.iter().any(|t| t == "all") => SaveContent::All,
        types => SaveContent::Types(types.iter().cloned().collect::<BTreeSet<_>>()),
    };
    Some(HttpConfig {
        http: i.http,
        cookies: i.cookies,
        websocket: i.http,
        callstacks: i.http,
        save_content,
        max_body_bytes,
        incognito: true,
        context_id: Some(context_id.to_owned()),
        ..HttpConfig::default()
    })
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

/// What the visit asks of its recorder.
pub(super) enum Order {
    SetTab {
        page: TargetId,
        tab_id: i64,
        window_id: i64,
    },
    /// Take everything that has arrived, wait for bodies until the deadline, record what is open. The answer
    /// says why records may be missing; "" when none are.
    Finish {
        deadline: Instant,
        done: oneshot::Sender<String>,
    },
}

#[derive(Clone)]
struct Sink(AttemptUplink);

impl BlobSink for Sink {
    async fn put(&self, sha256: &str, bytes: Bytes) -> Result<(), String> {
        let deadline = Instant::now() + FETCH;
        self.0.put_blob_named(sha256, bytes, deadline).await.map_err(|e| e.to_string())
    }
}

enum Fetched {
    Body(i64, BodyResult),
    PostData(PostDataRequest, Option<Vec<u8>>),
    Empty(Result<(), String>),
}

pub(super) struct Recorder {
    pub events: Subscription,
    pub tracker: HttpTracker,
    pub uplink: AttemptUplink,
    pub traffic: watch::Sender<Traffic>,
    pub orders: mpsc::Receiver<Order>,
    fetcher: BodyFetcher<Caller, Sink>,
    fetches: JoinSet<Fetched>,
    room: std::sync::Arc<Semaphore>,
    suspect: String,
}

impl Recorder {
    pub fn new(
        connection: Connection,
        events: Subscription,
        tracker: HttpTracker,
        uplink: AttemptUplink,
        traffic: watch::Sender<Traffic>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let caller = Caller { connection, deadline: FETCH };
        Self {
            events,
            tracker,
            fetcher: BodyFetcher { caller, sink: Sink(uplink.clone()) },
            uplink,
            traffic,
            orders,
            fetches: JoinSet::new(),
            room: std::sync::Arc::new(Semaphore::new(FETCHES)),
            suspect: String::new(),
        }
    }

    /// Runs until it is told to finish, or its visit is dropped.
    pub async fn run(mut self) {
        let mut connected = true;
        loop {
            let recorded = tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::SetTab { page, tab_id, window_id }) => {
                        self.tracker.set_tab(&page, tab_id, Some(window_id));
                        Ok(())
                    }
                    Some(Order::Finish { deadline, done }) => {
                        let suspect = self.finish(deadline).await;
                        // A visit that was dropped meanwhile does not want to know.
                        let _ = done.send(suspect);
                        return;
                    }
                    None => return,
                },
                Some(fetched) = self.fetches.join_next() => match fetched {
                    Ok(fetched) => self.on_fetched(fetched).await,
                    Err(error) => {
                        self.suspect(&format!("a body's task failed: {error}"));
                        Ok(())
                    }
                },
                item = self.events.recv(), if connected => match item {
                    Some(item) => self.on_item(item).await,
                    None => {
                        connected = false;
                        self.suspect("the browser ended while it was recorded");
                        Ok(())
                    }
                },
            };
            if let Err(error) = recorded {
                // The attempt ends by it; what follows could not be recorded either.
                self.suspect(&error.to_string());
                connected = false;
            }
        }
    }

    fn suspect(&mut self, why: &str) {
        if self.suspect.is_empty() {
            why.clone_into(&mut self.suspect);
        }
    }

    async fn on_item(&mut self, item: Item) -> Result<(), UplinkError> {
        match item {
            Item::Event(event) => return self.on_event(&event).await,
            Item::Lost { events, .. } => self.suspect(&format!("{events} events of the browser were lost")),
            Item::HookFailed(failure) => {
                // A target that ended at once never made a request.
                const GONE: i64 = -32001;
                if failure.method.starts_with("Network.") && failure.code != GONE {
                    let kind = &failure.session.kind;
                    self.suspect(&format!("{} failed in a {kind}: {}", failure.method, failure.message));
                }
            }
        }
        Ok(())
    }

    async fn on_event(&mut self, event: &Event) -> Result<(), UplinkError> {
        let Some(session) = &event.session else { return Ok(()) };
        let age = i64::try_from(event.received_at.elapsed().as_micros()).unwrap_or(0);
        let actions = self.tracker.on_event(session, &event.method, &event.params, wall_us() - age);
        self.act(actions).await
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
            Fetched::Empty(Ok(())) => Vec::new(),
            Fetched::Empty(Err(error)) => {
                self.suspect(&format!("the empty body could not be stored: {error}"));
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
                    self.fetches.spawn(async move {
                        let _permit = room.acquire().await;
                        Fetched::Body(request.request_id, fetcher.fetch(&request).await)
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

    async fn finish(&mut self, deadline: Instant) -> String {
        let draining = async {
            while let Some(item) = self.events.try_recv() {
                self.on_item(item).await?;
            }
            while let Some(fetched) = self.fetches.join_next().await {
                match fetched {
                    Ok(fetched) => self.on_fetched(fetched).await?,
                    Err(error) => self.suspect(&format!("a body's task failed: {error}")),
                }
            }
            Ok::<(), UplinkError>(())
        };
        match timeout_at(deadline, draining).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.suspect(&error.to_string()),
            Err(_) => self.suspect("not all bodies were there at the deadline"),
        }
        self.fetches.abort_all();
        let last = self.tracker.finish(wall_us());
        // Bodies asked for now could not come any more; what is recorded is what counts.
        for action in last {
            if let Action::Record { captured_at_us, row } = action
                && let Err(error) = self.uplink.record(StreamId::DEVTOOLS, captured_at_us, row).await
            {
                self.suspect(&error.to_string());
                break;
            }
        }
        std::mem::take(&mut self.suspect)
    }
}
