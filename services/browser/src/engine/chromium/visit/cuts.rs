//! What a visit itself cut or missed, as rows of `truncations` (M18).

use sonde_proto::StreamId;
use sonde_proto::record::v1::record::Row;
use sonde_runtime::clock::wall_us;

use super::ChromiumVisit;
use super::warden::POPUPS;
use crate::engine::chromium::http::truncation;

impl ChromiumVisit {
    /// Table, reason, count and limit of what was cut. What the connection missed may have been another visit's only
    /// where visits share a browser at the same time.
    fn cuts(&self) -> Vec<(&'static str, &'static str, u64, i64)> {
        let popups = self.state.borrow().popups_closed;
        let now = self.browser.connection.stats();
        let missed = |now: u64, before: u64| now.saturating_sub(before);
        let mut cuts = vec![("navigations", "popups_cap", popups, POPUPS as i64)];
        if self.recorder.is_some() {
            cuts.push(("http_requests", "oversized_message", missed(now.oversized, self.stats.oversized), 0));
            let undecodable = missed(now.undecodable, self.stats.undecodable);
            cuts.push(("http_requests", "undecodable_message", undecodable, 0));
        }
        cuts.retain(|(_, _, count, _)| *count > 0);
        cuts
    }

    pub(super) async fn record_cuts(&self) {
        for (table, reason, count, limit) in self.cuts() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let row = Row::Truncation(truncation(table, None, reason, (count, 0), limit, None));
            if let Err(error) = self.uplink.record(StreamId::SERVICE, wall_us(), row).await {
                // The attempt ends by it.
                tracing::warn!(%error, reason, "a truncation could not be recorded");
            }
        }
    }
}
