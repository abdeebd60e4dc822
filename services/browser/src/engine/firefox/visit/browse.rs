//! Following links of the same site.

use std::time::Duration;

use serde_json::json;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowseCommand, Command, LoadPolicy};
use tokio::time::Instant;

use super::commands::may_be_plain;
use super::page::NotLoaded;
use super::{FirefoxVisit, left};
use crate::attempt::{links, or};
use crate::engine::CommandReport;
use crate::engine::links::{Draw, VISIBLE_LINKS, candidates, capped, same_site};

impl FirefoxVisit {
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
}
