//! The page as the commands have it: its links, its history, and what it tells of a load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sonde_proto::visit::v1::{
    Cookie, DumpPageSourceCommand, Header, LoadPolicy, PdfCommand, ScreenshotCommand,
};
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{ChromiumVisit, left};
use crate::attempt::fault;
use crate::engine::Browser as _;
use crate::engine::chromium::bridge::Bridge;
use crate::engine::chromium::cdp::CallError;
use crate::engine::commands::download::{Saved, Trigger};
use crate::engine::commands::frames::Frame;
use crate::engine::commands::hooks::Loan;
use crate::engine::commands::input::Act;
use crate::engine::commands::picture::Area;
use crate::engine::commands::script::{Answer, Refusal, Script};
use crate::engine::commands::upload::Chosen;
use crate::engine::commands::{self, Page, Why};
use crate::engine::links::{VISIBLE_LINKS, capped};
use crate::engine::shared::Shared;
use crate::engine::video::{Recorded, Recording, Spool};
use crate::engine::{CommandReport, Progress};
use crate::hooks::chrome::Lent;
use crate::uplink::AttemptUplink;

/// Documents asked, one after the other, while a page goes from one to the next.
pub(super) const DOCUMENTS: u32 = 10;
/// What DevTools answer when a context is no longer there ("Cannot find context with specified id").
pub(super) const WORLD_GONE: i64 = -32000;

#[derive(Deserialize)]
struct History {
    #[serde(rename = "currentIndex")]
    current: usize,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: i64,
}

impl commands::NotLoaded for NotLoaded {
    fn network_error(&self) -> Option<&str> {
        match self {
            Self::Network(code) => Some(fault::short_net_error(code)),
            _ => None,
        }
    }

    fn timeout(&self) -> Option<&str> {
        match self {
            Self::Timeout(what) => Some(what),
            _ => None,
        }
    }
}

impl Page for ChromiumVisit {
    type NotLoaded = NotLoaded;
    const BROWSER: &str = "chromium";
    const LENDS: bool = true;

    fn shared(&self) -> &Shared {
        &self.browser.shared
    }

    fn recording(&mut self) -> &mut Option<Recording> {
        &mut self.video
    }

    async fn capture(
        &mut self,
        recorded: Recorded,
        spool: Spool,
        deadline: Instant,
    ) -> Result<Recording, NotLoaded> {
        Self::capture(self, recorded, spool, deadline).await
    }

    async fn lend(&self) -> std::io::Result<Option<Loan>> {
        let guarded = vec![self.target.as_str().to_owned(), self.context.as_str().to_owned()];
        let bridge = Bridge::open(self.browser.connection.clone(), guarded).await?;
        let target_id = self.target.as_str().to_owned();
        let lent = Lent { cdp_url: bridge.url().to_owned(), target_id, pid: self.browser.facts().pid };
        Ok(Some(Loan { lent, _port: Box::new(bridge) }))
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn uplink(&self) -> &AttemptUplink {
        &self.uplink
    }

    fn site_url(&self) -> &str {
        &self.site_url
    }

    fn url(&self) -> String {
        Self::url(self)
    }

    async fn load(
        &mut self,
        url: &str,
        referrer: &str,
        policy: LoadPolicy,
        deadline: Instant,
    ) -> Result<(), NotLoaded> {
        Self::load(self, url, referrer, policy, deadline).await
    }

    async fn stay(&mut self, time: Duration, deadline: Instant) -> Result<(), NotLoaded> {
        Self::stay(self, time, deadline).await
    }

    async fn visible_links(&mut self, deadline: Instant) -> Result<Vec<String>, NotLoaded> {
        let value = self.isolated(VISIBLE_LINKS, deadline).await?;
        let found = serde_json::from_value(value).unwrap_or_default();
        Ok(capped(found, self.url(), &self.uplink).await)
    }

    async fn back(&mut self, policy: LoadPolicy, start: &str, deadline: Instant) -> Result<(), NotLoaded> {
        self.progress.detail("going back");
        let answer = self.page("Page.getNavigationHistory", json!({}), deadline).await?;
        let history: Option<History> = answer.decode().ok();
        let earlier = history.and_then(|h| h.current.checked_sub(1).and_then(|i| Some(h.entries.get(i)?.id)));
        let Some(entry) = earlier.filter(|_| self.url() != start) else {
            return self.load(start, "", policy, deadline).await;
        };
        let before = self.state.borrow().documents();
        self.page("Page.navigateToHistoryEntry", json!({"entryId": entry}), deadline).await?;
        // A place of the same document commits nothing; then its URL is there at once.
        let wanted = start.to_owned();
        let patience = deadline.min(Instant::now() + left(deadline) / 2);
        self.wait_loaded(policy, patience, move |s| s.documents() > before || s.url == wanted).await
    }

    async fn screenshot(
        &mut self,
        index: u32,
        shot: &ScreenshotCommand,
        area: Area,
        deadline: Instant,
    ) -> CommandReport {
        Self::screenshot(self, index, shot, area, deadline).await
    }

    async fn dump_source(&mut self, dump: &DumpPageSourceCommand, deadline: Instant) -> CommandReport {
        Self::dump_source(self, dump, deadline).await
    }

    fn loaded(&self) -> bool {
        self.loaded
    }

    async fn ask(&mut self, script: &Script, deadline: Instant) -> Result<Answer, NotLoaded> {
        Self::ask(self, script, deadline).await
    }

    async fn act(&mut self, acts: &[Act], deadline: Instant) -> Result<(), NotLoaded> {
        Self::act(self, acts, deadline).await
    }

    async fn reach_url(
        &mut self,
        fits: impl Fn(&str) -> bool + Send + Sync,
        deadline: Instant,
    ) -> Result<(), NotLoaded> {
        self.progress.detail("waiting for the URL");
        self.until("the URL", deadline, |s| fits(&s.url)).await
    }

    fn committed_at(&self) -> Option<Instant> {
        self.state.borrow().committed_at
    }

    fn moves(&self) -> u64 {
        self.state.borrow().moves
    }

    async fn moved(&mut self, before: u64, deadline: Instant) -> Result<(), NotLoaded> {
        self.until("a navigation", deadline, |s| s.moves > before).await
    }

    async fn arrive(&mut self, committed: Option<Instant>, deadline: Instant) -> Result<(), NotLoaded> {
        self.until("the navigation", deadline, |s| !s.loading || s.committed_at != committed).await
    }

    async fn reach_load(&mut self, policy: LoadPolicy, deadline: Instant) -> Result<(), NotLoaded> {
        if policy == LoadPolicy::NetworkIdle && self.traffic.is_none() {
            self.page("Page.setLifecycleEventsEnabled", json!({"enabled": true}), deadline).await?;
        }
        self.wait_loaded(policy, deadline, |_| true).await
    }

    async fn choose_files(
        &mut self,
        element: &str,
        files: Chosen,
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        Self::choose_files(self, element, files, deadline).await
    }

    async fn save(
        &mut self,
        trigger: Trigger,
        dir: &Path,
        max_bytes: u64,
        deadline: Instant,
    ) -> Result<Saved, Why<NotLoaded>> {
        Self::save(self, trigger, dir, max_bytes, deadline).await
    }

    async fn noted_profile(&mut self, deadline: Instant) -> Result<Option<PathBuf>, Why<NotLoaded>> {
        let Some(kept) = &self.browser.kept else { return Ok(None) };
        let noted = kept.save(&self.browser.connection, left(deadline)).await;
        noted.map_err(|error| Refusal::new("not_noted", format!("the cookies of the profile: {error}")))?;
        Ok(Some(kept.profile.home().to_owned()))
    }

    async fn cookies(&mut self, deadline: Instant) -> Result<Vec<Cookie>, Why<NotLoaded>> {
        Self::cookies(self, deadline).await
    }

    async fn put_cookies(&mut self, cookies: &[Cookie], deadline: Instant) -> Result<(), Why<NotLoaded>> {
        Self::put_cookies(self, cookies, deadline).await
    }

    async fn send_headers(&mut self, headers: &[Header], deadline: Instant) -> Result<(), Why<NotLoaded>> {
        Self::send_headers(self, headers, deadline).await
    }

    async fn print(
        &mut self,
        pdf: &PdfCommand,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, Why<NotLoaded>> {
        Self::print(self, pdf, max_bytes, deadline).await
    }

    async fn mhtml(&mut self, deadline: Instant) -> Result<String, Why<NotLoaded>> {
        Self::mhtml(self, deadline).await
    }

    async fn frames(&mut self, deadline: Instant) -> Result<Vec<Frame>, Why<NotLoaded>> {
        Self::frames(self, deadline).await
    }

    async fn read_frame(
        &mut self,
        frame: &Frame,
        expression: &str,
        deadline: Instant,
    ) -> Result<String, String> {
        Self::read_frame(self, frame, expression, deadline).await
    }

    async fn report(&mut self, loaded: Result<(), NotLoaded>, deadline: Instant) -> CommandReport {
        Self::report(self, loaded, deadline).await
    }
}

impl ChromiumVisit {
    /// Evaluates in a world of its own, which the page cannot see or reach. A page that goes elsewhere meanwhile
    /// takes the world with it: then the document that came instead is asked.
    pub(super) async fn isolated(
        &self,
        expression: &str,
        deadline: Instant,
    ) -> Result<serde_json::Value, NotLoaded> {
        let mut documents = 1;
        loop {
            match self.isolated_once(expression, deadline).await {
                Err(CallError::Protocol { code: WORLD_GONE, message, .. })
                    if documents < DOCUMENTS && Instant::now() < deadline =>
                {
                    tracing::debug!(message, documents, "the page went elsewhere");
                    documents += 1;
                }
                result => return Ok(result?),
            }
        }
    }

    async fn isolated_once(
        &self,
        expression: &str,
        deadline: Instant,
    ) -> Result<serde_json::Value, CallError> {
        let world = self.isolated_world(deadline).await?;
        let params = json!({"expression": expression, "contextId": world, "returnByValue": true});
        let answer = self.page("Runtime.evaluate", params, deadline).await?;
        let mut answer: serde_json::Value = answer.decode().unwrap_or_default();
        Ok(answer["result"]["value"].take())
    }
}
