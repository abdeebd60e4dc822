//! Following links of the same site.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowseCommand, Command, LoadPolicy};
use tokio::time::Instant;

use super::commands::may_be_plain;
use super::page::NotLoaded;
use super::{ChromiumVisit, left};
use crate::attempt::{links, or};
use crate::engine::CommandReport;
use crate::engine::chromium::cdp::CallError;
use crate::engine::links::{Draw, VISIBLE_LINKS, candidates, capped, same_site};

/// Documents asked, one after the other, while a page goes from one to the next.
const DOCUMENTS: u32 = 10;
/// What DevTools answer when a context is no longer there ("Cannot find context with specified id").
const WORLD_GONE: i64 = -32000;

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

impl ChromiumVisit {
    pub(super) async fn browse(
        &mut self,
        command: &Command,
        browse: &BrowseCommand,
        deadline: Instant,
    ) -> CommandReport {
        let seed = browse.seed.unwrap_or_else(rand::random);
        let browsed = self.browse_from(browse, seed, deadline).await;
        let mut report = self.report(browsed, deadline).await;
        let drawn = BrowseCommand { seed: Some(seed), ..browse.clone() };
        report.effective = Some(Command { step: Some(Step::Browse(drawn)), ..command.clone() });
        report
    }

    async fn browse_from(
        &mut self,
        browse: &BrowseCommand,
        seed: u64,
        deadline: Instant,
    ) -> Result<(), NotLoaded> {
        let (policy, dwell) = (browse.load_policy(), or(browse.dwell, Duration::ZERO));
        let url = if browse.url.is_empty() { self.site_url.clone() } else { browse.url.clone() };
        let mut loaded = Ok(());
        for url in candidates(&url) {
            loaded = self.load(&url, "", policy, deadline).await;
            if !may_be_plain(&loaded) {
                break;
            }
        }
        loaded?;
        self.stay(dwell, deadline).await?;
        let start = self.url();
        let mut draw = Draw(seed);
        let all = links(browse.num_links);
        for n in 1..=all {
            self.progress.detail(format!("looking for link {n} of {all}"));
            let found = self.visible_links(deadline).await?;
            let choice = same_site(&start, &found);
            let Some(link) = draw.of(&choice).cloned() else { break };
            match self.load(&link, &start, policy, deadline).await {
                Ok(()) => self.stay(dwell, deadline).await?,
                // A link that leads nowhere is what a user would meet, too.
                Err(NotLoaded::Network(code)) => tracing::debug!(code, "a link could not be followed"),
                Err(other) => return Err(other),
            }
            if n < all {
                self.back(policy, &start, deadline).await?;
            }
        }
        Ok(())
    }

    async fn visible_links(&self, deadline: Instant) -> Result<Vec<String>, NotLoaded> {
        let value = self.isolated(VISIBLE_LINKS, deadline).await?;
        let found = serde_json::from_value(value).unwrap_or_default();
        Ok(capped(found, self.url(), &self.uplink).await)
    }

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
        let world = json!({"frameId": self.target, "worldName": "sonde"});
        let world = self.page("Page.createIsolatedWorld", world, deadline).await?;
        let world: serde_json::Value = world.decode().unwrap_or_default();
        let params = json!({
            "expression": expression,
            "contextId": world["executionContextId"],
            "returnByValue": true,
        });
        let answer = self.page("Runtime.evaluate", params, deadline).await?;
        let mut answer: serde_json::Value = answer.decode().unwrap_or_default();
        Ok(answer["result"]["value"].take())
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
}
