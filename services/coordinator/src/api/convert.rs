//! Rows as messages.
use sonde_proto::{
    coordinator::v1::{Attempt, Crawl, CrawlCounts, CrawlState, Visit, VisitState},
    visit::v1::Outcome,
};

use super::Api;
use crate::{
    store::{AttemptRow, CrawlRow, VisitRow},
    time::timestamp,
    visit::Stage,
};

impl Api {
    pub(super) fn crawl(&self, row: CrawlRow) -> Crawl {
        let named = row.outcomes.iter().zip(1..).filter(|(count, _)| **count > 0);
        let outcomes =
            named.map(|(count, o)| (Outcome::try_from(o).unwrap_or_default().word().to_owned(), *count));
        Crawl {
            waiting_for: self.waiting_for(&row),
            counts: Some(CrawlCounts {
                total: row.total,
                queued: row.queued,
                running: row.running,
                outcomes: outcomes.collect(),
                attempts: row.attempts,
            }),
            crawl_id: row.crawl_id,
            spec: Some((*row.spec).clone()),
            state: row.state.into(),
            created_at: Some(timestamp(row.created_at)),
            ended_at: row.ended_at.map(timestamp),
            sealed: row.sealed,
            last_sequence: row.last_sequence,
        }
    }

    /// Why a crawl with visits to make does not go on.
    fn waiting_for(&self, row: &CrawlRow) -> String {
        match row.state {
            CrawlState::Paused => return row.reason.clone(),
            CrawlState::Running | CrawlState::Cancelling if row.queued + row.running > 0 => {}
            CrawlState::Running | CrawlState::Cancelling if row.visits_are_over() && row.has_hooks() => {
                return "its hooks, which are ending on the browser-services that served it".into();
            }
            CrawlState::Running if !row.sealed => {
                return "more visits, or the end of the list (AddVisits)".into();
            }
            _ => return String::new(),
        }
        let status = self.live.status();
        let wanted = row.spec.browser.as_ref().map(|b| b.kind()).unwrap_or_default();
        if !status.store.is_empty() {
            status.store
        } else if !status.storage.is_empty() {
            status.storage
        } else if status.draining {
            "the coordinator is stopping".into()
        } else if row.running > 0 || row.state == CrawlState::Cancelling {
            String::new()
        } else if !status.fleet.is_empty() {
            status.fleet
        } else if !status.kinds.contains(&wanted) {
            format!("no browser-service has {}", wanted.word())
        } else {
            String::new()
        }
    }

    pub(super) fn visit(&self, crawl_id: &str, row: VisitRow) -> Visit {
        let waits = match row.machine.stage {
            Stage::Queued { not_before } if not_before > 0 => Some(timestamp(not_before)),
            _ => None,
        };
        let running = row.shown == VisitState::Running;
        Visit {
            crawl_id: crawl_id.into(),
            visit_no: row.visit_no,
            url: row.url,
            site_rank: row.site_rank,
            state: row.shown.into(),
            outcome: row.outcome.unwrap_or_default().into(),
            attempts: row.machine.attempts,
            phase: row.visit_id.filter(|_| running).and_then(|id| self.live.phase(id)),
            failure: row.failure,
            visit_id: row.visit_id.unwrap_or_default(),
            not_before: waits,
        }
    }
}

pub(super) fn attempt(row: AttemptRow) -> Attempt {
    Attempt {
        visit_id: row.visit_id,
        attempt: row.attempt,
        fence: row.fence,
        browser_id: row.browser_id,
        browser_service: row.endpoint,
        result: row.result,
        leased_at: Some(timestamp(row.leased_at)),
    }
}
