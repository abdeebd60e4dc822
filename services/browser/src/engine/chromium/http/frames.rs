//! The frames and sessions of a visit: who is top, who holds whom, which tab.

use std::collections::HashMap;

use serde_json::json;

use super::events::{Decode, FrameAttached, FrameNavigated, NavigatedWithin};
use super::site::stored_url;
use crate::engine::chromium::cdp::{SessionId, SessionInfo, TargetId};

/// More frames than this are not told apart; their requests count as the tab's own.
pub(super) const MAX_FRAMES: usize = 50_000;
/// Ancestors listed of a request's frame; and sessions within sessions, which no page nests so deep.
const MAX_DEPTH: usize = 64;
const MAX_NESTED_SESSIONS: usize = 4096;
/// Bytes of the ancestors' list of one request: their URLs can be as long as 2 MiB.
pub(super) const MAX_ANCESTORS: usize = 256 * 1024;

#[derive(Debug)]
struct Frame {
    parent: Option<String>,
    url: Option<String>,
    /// Within its tab; 0 is the top frame.
    number: i64,
}

#[derive(Debug)]
struct Session {
    target: TargetId,
    kind: Box<str>,
    parent: Option<SessionId>,
    parent_frame: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::chromium) struct Tab {
    pub tab_id: i64,
    pub window_id: Option<i64>,
}

/// Where a request belongs, as it was when it was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::engine::chromium) struct Place {
    /// The page whose tab it is; `None` for shared and service workers.
    pub page: Option<TargetId>,
    pub devtools_frame: Option<String>,
    pub frame_id: i64,
    pub parent_frame_id: Option<i64>,
    pub ancestors: Option<String>,
    /// Ancestors that the list does not hold.
    pub ancestors_left_out: usize,
    pub is_top: bool,
    pub frame_url: Option<String>,
    pub parent_url: Option<String>,
    pub top_url: Option<String>,
    pub context_type: String,
}

#[derive(Debug, Default)]
pub(in crate::engine::chromium) struct Frames {
    frames: HashMap<String, Frame>,
    /// Frames numbered so far, by page.
    numbered: HashMap<TargetId, i64>,
    sessions: HashMap<SessionId, Session>,
    tabs: HashMap<TargetId, Tab>,
    /// The first page seen: the visit's own.
    main: Option<TargetId>,
    /// Requests of frames that are too many to be told apart.
    unplaced: i64,
}

impl Frames {
    pub fn note_session(&mut self, info: &SessionInfo) {
        if self.sessions.contains_key(&info.id) {
            return;
        }
        let session = Session {
            target: info.target_id.clone(),
            kind: info.kind.clone(),
            parent: info.parent.clone(),
            parent_frame: info.parent_frame_id.clone(),
        };
        self.sessions.insert(info.id.clone(), session);
        if &*info.kind == "page" {
            self.main.get_or_insert_with(|| info.target_id.clone());
        }
        if matches!(&*info.kind, "page" | "iframe") {
            let parent = info.parent_frame_id.as_deref().filter(|_| &*info.kind == "iframe");
            self.see(&info.id, info.target_id.as_str(), parent);
            let frame = self.frames.get_mut(info.target_id.as_str());
            if let Some(frame) = frame.filter(|f| f.url.is_none() && !info.url.is_empty()) {
                frame.url = Some(info.url.to_string());
            }
        }
    }

    pub fn forget_session(&mut self, id: &SessionId) {
        self.sessions.remove(id);
    }

    pub fn set_tab(&mut self, page: TargetId, tab: Tab) {
        self.tabs.insert(page, tab);
    }

    pub fn tab(&self, page: Option<&TargetId>) -> Tab {
        let known = page.and_then(|p| self.tabs.get(p)).copied();
        known.unwrap_or(Tab { tab_id: -1, window_id: None })
    }

    pub fn main_page(&self) -> Option<&TargetId> {
        self.main.as_ref()
    }

    fn page_of(&self, session: &SessionId) -> Option<TargetId> {
        let mut at = self.sessions.get(session)?;
        for _ in 0..MAX_NESTED_SESSIONS {
            match &*at.kind {
                "page" => return Some(at.target.clone()),
                "shared_worker" | "service_worker" => return None,
                _ => at = self.sessions.get(at.parent.as_ref()?)?,
            }
        }
        None
    }

    /// What the Page domain tells of frames; `name` without its domain.
    pub fn on_page<P: Decode + ?Sized>(
        &mut self,
        session: &SessionId,
        name: &str,
        params: &P,
    ) -> serde_json::Result<()> {
        match name {
            "frameAttached" => {
                let event: FrameAttached = params.decode()?;
                self.see(session, &event.frame_id, Some(&event.parent_frame_id));
            }
            "frameNavigated" => {
                let FrameNavigated { frame } = params.decode()?;
                let url = frame.url + frame.url_fragment.as_deref().unwrap_or_default();
                self.navigated(session, &frame.id, frame.parent_id.as_deref(), url);
            }
            "navigatedWithinDocument" => {
                let event: NavigatedWithin = params.decode()?;
                self.navigated(session, &event.frame_id, None, event.url);
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes the frame known; a known one may move to another parent.
    pub fn see(&mut self, session: &SessionId, frame: &str, parent: Option<&str>) {
        let page = self.page_of(session);
        let is_top = page.as_ref().is_some_and(|p| p.as_str() == frame);
        if let Some(known) = self.frames.get_mut(frame) {
            if let Some(parent) = parent.filter(|_| !is_top) {
                known.parent = Some(parent.to_owned());
            }
            return;
        }
        if self.frames.len() >= MAX_FRAMES {
            return;
        }
        let top = page.as_ref().map(|p| p.as_str().to_owned());
        let parent = parent.map(str::to_owned).or(top).filter(|_| !is_top);
        let number = match (is_top, page) {
            (true, _) | (_, None) => 0,
            (false, Some(page)) => {
                let last = self.numbered.entry(page).or_default();
                *last += 1;
                *last
            }
        };
        self.frames.insert(frame.to_owned(), Frame { parent, url: None, number });
    }

    pub fn navigated(&mut self, session: &SessionId, frame: &str, parent: Option<&str>, url: String) {
        self.see(session, frame, parent);
        if let Some(frame) = self.frames.get_mut(frame) {
            frame.url = Some(url);
        }
    }

    /// Ancestors, nearest first.
    fn ancestors(&self, frame: &Frame) -> Vec<&Frame> {
        let mut found = Vec::new();
        let mut at = frame;
        while let Some(parent) = at.parent.as_ref().and_then(|p| self.frames.get(p)) {
            // A ring cannot be, but would never end.
            if found.len() >= MAX_FRAMES {
                break;
            }
            found.push(parent);
            at = parent;
        }
        found
    }

    /// Requests whose frame was beyond the bound.
    pub fn beyond(&self) -> i64 {
        self.unplaced
    }

    /// Where a request of this session and frame belongs.
    pub fn place(&mut self, session: &SessionId, frame: Option<&str>) -> Place {
        let context_type = self.sessions.get(session).map(|s| s.kind.to_string()).unwrap_or_default();
        let page = self.page_of(session);
        let own_frame = matches!(&*context_type, "page" | "iframe")
            .then(|| self.sessions.get(session).map(|s| s.target.as_str().to_owned()))
            .flatten();
        let frame = match frame.filter(|f| !f.is_empty()) {
            Some(frame) => {
                self.see(session, frame, None);
                Some(frame.to_owned())
            }
            None => own_frame.or_else(|| self.worker_frame(session)),
        };
        let mut place =
            Place { page, context_type, devtools_frame: frame.clone(), frame_id: -1, ..Place::default() };
        if place.page.is_none() {
            return place;
        }
        let Some(known) = frame.as_ref().and_then(|f| self.frames.get(f)) else {
            self.unplaced += i64::from(frame.is_some());
            return place;
        };
        let ancestors = self.ancestors(known);
        let top = ancestors.last().copied().unwrap_or(known);
        let mut room = MAX_ANCESTORS;
        let listed: Vec<_> = ancestors
            .iter()
            .take(MAX_DEPTH)
            .map(|a| json!({"frameId": a.number, "url": stored_url(a.url.as_deref().unwrap_or_default())}))
            .take_while(|entry| {
                let needs = entry["url"].as_str().map_or(0, str::len);
                let fits = needs <= room;
                room = room.saturating_sub(needs);
                fits
            })
            .collect();
        place.ancestors_left_out = ancestors.len() - listed.len();
        place.frame_id = known.number;
        place.parent_frame_id = Some(ancestors.first().map_or(-1, |a| a.number));
        place.ancestors = Some(serde_json::Value::Array(listed).to_string());
        place.is_top = known.parent.is_none();
        place.frame_url = known.url.clone();
        place.parent_url = ancestors.first().and_then(|a| a.url.clone());
        place.top_url = top.url.clone();
        place
    }

    /// The frame that owns a dedicated worker.
    fn worker_frame(&self, session: &SessionId) -> Option<String> {
        let mut at = self.sessions.get(session)?;
        for _ in 0..MAX_NESTED_SESSIONS {
            if let Some(frame) = &at.parent_frame {
                return Some(frame.to_string());
            }
            if matches!(&*at.kind, "page" | "iframe") {
                return Some(at.target.as_str().to_owned());
            }
            at = self.sessions.get(at.parent.as_ref()?)?;
        }
        None
    }
}
