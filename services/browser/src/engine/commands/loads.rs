//! What a page is loaded until.

use std::time::Duration;

use sonde_proto::visit::v1::LoadPolicy;
use tokio::time::Instant;

use super::Page;
use crate::attempt::or;

/// A load policy with its time, which engines know nothing of: to them it is a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loads {
    policy: LoadPolicy,
    since_commit: Duration,
}

impl Loads {
    pub fn new(policy: LoadPolicy, time: Option<prost_types::Duration>) -> Self {
        match policy {
            LoadPolicy::Time => Self { policy: LoadPolicy::Commit, since_commit: or(time, Duration::ZERO) },
            policy => Self { policy, since_commit: Duration::ZERO },
        }
    }

    pub async fn load<P: Page>(
        self,
        page: &mut P,
        url: &str,
        referrer: &str,
        deadline: Instant,
    ) -> Result<(), P::NotLoaded> {
        page.load(url, referrer, self.policy, deadline).await?;
        self.pass(page, deadline).await
    }

    /// Goes back to `start`.
    pub async fn back<P: Page>(
        self,
        page: &mut P,
        start: &str,
        deadline: Instant,
    ) -> Result<(), P::NotLoaded> {
        page.back(self.policy, start, deadline).await?;
        self.pass(page, deadline).await
    }

    /// Waits for the document that is there.
    pub async fn reach<P: Page>(self, page: &mut P, deadline: Instant) -> Result<(), P::NotLoaded> {
        page.reach_load(self.policy, deadline).await?;
        self.pass(page, deadline).await
    }

    async fn pass<P: Page>(self, page: &mut P, deadline: Instant) -> Result<(), P::NotLoaded> {
        if self.since_commit.is_zero() {
            return Ok(());
        }
        let passed = page.committed_at().map_or(Duration::ZERO, |at| at.elapsed());
        page.stay(self.since_commit.saturating_sub(passed), deadline).await
    }
}
