//! Watches the pages of a visit: how far the main page is, and that nothing makes it wait for a user (M25).

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::chromium::cdp::{
    Connection, Event, Item, RawCommand, SessionInfo, Subscription, TargetId,
};

/// Popups that may stay open at once; more are closed when they come.
pub(super) const POPUPS: usize = 16;
/// Documents remembered.
const COMMITS: usize = 64;

/// How far the main page is.
#[derive(Debug, Clone, Default)]
pub(super) struct PageState {
    /// Loaders of its newest documents, oldest first.
    commits: VecDeque<String>,
    documents: u64,
    /// Begins of navigations, documents, and changes of the URL so far.
    pub moves: u64,
    pub committed_at: Option<Instant>,
    pub url: String,
    /// A document is fetched or loads: from the begin of a navigation on.
    pub loading: bool,
    pub dom_content: bool,
    pub load: bool,
    /// The document had no request open for 500 ms.
    pub idle: bool,
    /// Why nothing will come of it any more.
    pub gone: Option<String>,
    /// Popups that were closed because there were too many.
    pub popups_closed: u64,
}

impl PageState {
    pub fn has_committed(&self, loader: &str) -> bool {
        self.commits.iter().any(|l| l == loader)
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    fn commit(&mut self, frame: Frame, restored: bool) {
        self.documents += 1;
        self.moves += 1;
        self.committed_at = Some(Instant::now());
        self.commits.push_back(frame.loader_id);
        if self.commits.len() > COMMITS {
            self.commits.pop_front();
        }
        self.url = frame.url + frame.url_fragment.as_deref().unwrap_or_default();
        // A page that comes back from the cache has loaded before and says nothing more.
        (self.dom_content, self.load, self.idle) = (restored, restored, restored);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    loader_id: String,
    parent_id: Option<String>,
    url: String,
    url_fragment: Option<String>,
}

#[derive(Deserialize)]
struct FrameNavigated {
    frame: Frame,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WithinDocument {
    frame_id: String,
    url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    frame_id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loading {
    frame_id: String,
}

#[derive(Deserialize)]
struct Dialog {
    #[serde(rename = "type")]
    kind: String,
}

/// Methods that the warden wants.
pub(super) const METHODS: &[&str] = &[
    "Page.javascriptDialogOpening",
    "Page.frameNavigated",
    "Page.navigatedWithinDocument",
    "Page.frameStartedLoading",
    "Page.frameStoppedLoading",
    "Page.domContentEventFired",
    "Page.loadEventFired",
    "Page.lifecycleEvent",
    "Target.attachedToTarget",
    "Target.detachedFromTarget",
    "Inspector.targetCrashed",
    "Debugger.paused",
];

pub(super) struct Warden {
    pub connection: Connection,
    pub events: Subscription,
    pub main: TargetId,
    pub state: watch::Sender<PageState>,
    /// Another sees to it that what was paused goes on.
    pub served: bool,
}

impl Warden {
    /// Runs until the connection ends, or it is dropped with its visit.
    pub async fn run(mut self) {
        let mut popups = 0usize;
        while let Some(item) = self.events.recv().await {
            let Item::Event(event) = item else { continue };
            let Some(session) = event.session.clone() else { continue };
            match &*event.method {
                "Page.javascriptDialogOpening" => self.dismiss(&session, &event),
                // A script that runs out of memory pauses whatever is skipped; nobody is there to look.
                "Debugger.paused" if !self.served => {
                    self.send(Some(&session), RawCommand::new("Debugger.resume", json!({})));
                }
                "Target.attachedToTarget" if is_popup(&session, &self.main) => {
                    popups += 1;
                    if popups > POPUPS {
                        self.state.send_modify(|s| s.popups_closed += 1);
                        let params = json!({"targetId": session.target_id});
                        self.send(None, RawCommand::new("Target.closeTarget", params));
                    }
                }
                "Target.detachedFromTarget" if is_popup(&session, &self.main) => {
                    popups = popups.saturating_sub(1)
                }
                _ if session.target_id == self.main && &*session.kind == "page" => self.on_main(&event),
                _ => {}
            }
        }
        self.state.send_modify(|s| {
            s.gone.get_or_insert_with(|| "the connection to the browser ended".to_owned());
        });
    }

    fn on_main(&self, event: &Event) {
        match &*event.method {
            "Page.frameNavigated" => {
                if let Ok(FrameNavigated { frame, kind }) = event.params.decode()
                    && frame.parent_id.is_none()
                {
                    self.state.send_modify(|s| s.commit(frame, kind == "BackForwardCacheRestore"));
                }
            }
            "Page.navigatedWithinDocument" => {
                if let Ok(WithinDocument { frame_id, url }) = event.params.decode()
                    && frame_id == self.main.as_str()
                {
                    self.state.send_modify(|s| {
                        s.moves += 1;
                        s.url = url;
                    });
                }
            }
            loading @ ("Page.frameStartedLoading" | "Page.frameStoppedLoading")
                if event.params.decode::<Loading>().is_ok_and(|of| of.frame_id == self.main.as_str()) =>
            {
                let begins = loading == "Page.frameStartedLoading";
                self.state.send_modify(|s| {
                    s.moves += u64::from(begins);
                    s.loading = begins;
                });
            }
            "Page.domContentEventFired" => self.state.send_modify(|s| s.dom_content = true),
            "Page.loadEventFired" => self.state.send_modify(|s| s.load = true),
            "Page.lifecycleEvent" => {
                if let Ok(Lifecycle { frame_id, name }) = event.params.decode()
                    && frame_id == self.main.as_str()
                    && name == "networkIdle"
                {
                    self.state.send_modify(|s| s.idle = true);
                }
            }
            "Inspector.targetCrashed" => self.gone("the page's renderer crashed"),
            "Target.detachedFromTarget" => self.gone("the page was closed"),
            _ => {}
        }
    }

    fn gone(&self, why: &str) {
        self.state.send_modify(|s| {
            s.gone.get_or_insert_with(|| why.to_owned());
        });
    }

    fn dismiss(&self, session: &SessionInfo, event: &Event) {
        // To leave is what a navigation wants; everything else is answered by no.
        let leaving = event.params.decode::<Dialog>().is_ok_and(|d| d.kind == "beforeunload");
        let command = RawCommand::new("Page.handleJavaScriptDialog", json!({"accept": leaving}));
        self.send(Some(session), command);
    }

    fn send(&self, session: Option<&SessionInfo>, command: RawCommand) {
        // Its answer says nothing that the events do not.
        if let Err(error) = self.connection.send_no_wait(session.map(|s| &s.id), command) {
            tracing::debug!(%error, "a page could not be looked after");
        }
    }
}

fn is_popup(session: &SessionInfo, main: &TargetId) -> bool {
    &*session.kind == "page" && session.target_id != *main
}
