//! The page as the commands have it: its links, its history, and what it tells of a load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sonde_proto::visit::v1::{
    Cookie, DumpPageSourceCommand, Header, LoadPolicy, PdfCommand, ScreenshotCommand,
};
use tokio::time::Instant;

use super::page::NotLoaded;
use super::warden::PageState;
use super::{FirefoxVisit, left};
use crate::engine::commands::download::{Saved, Trigger};
use crate::engine::commands::frames::Frame;
use crate::engine::commands::hooks::Loan;
use crate::engine::commands::input::Act;
use crate::engine::commands::picture::Area;
use crate::engine::commands::script::{Answer, Refusal, Script};
use crate::engine::commands::upload::Chosen;
use crate::engine::commands::{self, Page, Why};
use crate::engine::firefox::net_error;
use crate::engine::links::{VISIBLE_LINKS, capped};
use crate::engine::shared::Shared;
use crate::engine::video::{Recorded, Recording, Spool};
use crate::engine::{CommandReport, Progress};
use crate::uplink::AttemptUplink;

impl commands::NotLoaded for NotLoaded {
    fn network_error(&self) -> Option<&str> {
        match self {
            Self::Network(code) => Some(net_error::word(code)),
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

impl Page for FirefoxVisit {
    type NotLoaded = NotLoaded;
    const BROWSER: &str = "firefox";
    const LENDS: bool = false;

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
        Ok(None)
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
        let text = self.isolated(&format!("JSON.stringify({VISIBLE_LINKS})"), deadline).await?;
        let found = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(capped(found, self.url(), &self.uplink).await)
    }

    async fn back(&mut self, policy: LoadPolicy, start: &str, deadline: Instant) -> Result<(), NotLoaded> {
        self.progress.detail("going back");
        let before = self.state.borrow().documents();
        let params = json!({"context": self.context, "delta": -1});
        let went = self.browser.bidi.call("browsingContext.traverseHistory", params, left(deadline)).await;
        let patience = deadline.min(Instant::now() + left(deadline) / 2);
        if self.url() == start || went.is_err() {
            return self.load(start, "", policy, deadline).await;
        }
        self.until("the page before", patience, |s| s.documents() > before).await?;
        self.wait_loaded(policy, patience).await
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
        let over = |s: &PageState| !s.is_navigating() || s.committed_at != committed;
        self.until("the navigation", deadline, over).await
    }

    async fn reach_load(&mut self, policy: LoadPolicy, deadline: Instant) -> Result<(), NotLoaded> {
        if policy == LoadPolicy::NetworkIdle {
            self.count_requests(deadline).await?;
        }
        self.wait_loaded(policy, deadline).await
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
        let Some(profile) = &self.browser.profile else { return Ok(None) };
        let noted = self.browser.save_kept(left(deadline)).await;
        noted.map_err(|error| Refusal::new("not_noted", format!("the cookies of the profile: {error}")))?;
        Ok(Some(profile.home().to_owned()))
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

    async fn mhtml(&mut self, _deadline: Instant) -> Result<String, Why<NotLoaded>> {
        Err(Refusal::new("unsupported", "Firefox cannot store a page as MHTML: use Chromium").into())
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
