//! The trace of one visit.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sonde_proto::StreamId;
use sonde_proto::js_settings::JsSettings;
use sonde_proto::record::v1::record::Row;
use sonde_runtime::clock::wall_us;
use tokio::time::{Instant, timeout_at};

use super::map::{FeatureUse, checkable, is_recorded};
use crate::engine::chromium::calls::truncation;
use crate::engine::chromium::cdp::{
    CallError, Connection, Filter, Item, Limits, PendingCall, RawCommand, Subscription,
};
use crate::uplink::{AttemptUplink, UplinkError};

/// Its events are those of first uses alone.
const CATEGORY: &str = "disabled-by-default-blink.feature_usage";
const FIRST_USE: &str = "FeatureFirstUsed";
/// Messages of a trace that may wait for us; each holds thousands of uses.
const QUEUED: Limits = Limits { events: 10_000, bytes: 64 << 20 };
/// For every process of the browser to hand over what it has: now and then one is not heard of for five seconds.
const HAND_OVER: Duration = Duration::from_secs(25);

/// What is traced. A buffer that is full says so, where a ring would forget.
pub fn trace_config() -> serde_json::Value {
    json!({
        "recordMode": "recordUntilFull",
        "includedCategories": [CATEGORY],
        "excludedCategories": ["*"],
    })
}

/// `Tracing.dataCollected`.
#[derive(Debug, Default, Deserialize)]
pub struct Collected {
    value: Vec<TraceEvent>,
}

#[derive(Debug, Deserialize)]
struct TraceEvent {
    #[serde(default)]
    name: String,
    /// Microseconds of the machine's monotonic clock.
    #[serde(default)]
    ts: i64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Debug, Default, Deserialize)]
struct Arguments {
    feature: Option<u32>,
}

impl Collected {
    /// When, in microseconds of the machine's monotonic clock, and the feature's number.
    pub fn first_uses(&self) -> impl Iterator<Item = (i64, u32)> {
        let first_uses = self.value.iter().filter(|event| event.name == FIRST_USE);
        first_uses.filter_map(|event| Some((event.ts, event.args.feature?)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Complete {
    data_loss_occurred: bool,
}

/// Why nothing can be said of calls that went unseen.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine::chromium) enum WatchError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, serde_json::Error),
    #[error("the trace lost events")]
    Lost,
    #[error("the trace did not end in time")]
    Late,
    #[error("the browser ended")]
    Ended,
}

/// Follows what the engine sees used, from before the first navigation of a visit on.
pub(in crate::engine::chromium) struct FeatureWatch {
    connection: Connection,
    events: Subscription,
    uses: Vec<&'static FeatureUse>,
    starting: Option<PendingCall>,
}

impl FeatureWatch {
    /// Has the browser begin; [`FeatureWatch::begun`] waits for it. One visit of a browser at a time.
    pub fn begin(
        connection: Connection,
        settings: &JsSettings,
        uplink: &AttemptUplink,
    ) -> Result<Self, CallError> {
        uplink.symbols().gather();
        let wanted = Filter::contexts([]).with_browser_level().methods(["Tracing."]);
        let events = connection.subscribe_within(wanted, QUEUED);
        let params = json!({"transferMode": "ReportEvents", "traceConfig": trace_config()});
        let starting = Some(connection.send_no_wait(None, RawCommand::new("Tracing.start", params))?);
        Ok(Self { connection, events, uses: checkable(settings), starting })
    }

    /// Every process of the browser follows.
    pub async fn begun(&mut self, time: Duration) -> Result<(), CallError> {
        match self.starting.take() {
            Some(starting) => starting.result(time).await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends it: calls made later are not compared. To be called before the recorders hand over what they have.
    pub async fn end(mut self, deadline: Instant) -> Result<Used, WatchError> {
        let deadline = deadline.min(Instant::now() + HAND_OVER);
        let time = deadline.saturating_duration_since(Instant::now());
        self.connection.call_raw(None, "Tracing.end", json!({}), time).await?;
        let features = timeout_at(deadline, self.collected()).await.map_err(|_| WatchError::Late)??;
        let used = self.uses.iter().filter(|used| features.contains(&used.feature));
        Ok(Used(used.map(|used| used.symbol.as_str()).collect()))
    }

    async fn collected(&mut self) -> Result<HashSet<u32>, WatchError> {
        let mut features = HashSet::new();
        while let Some(item) = self.events.recv().await {
            let Item::Event(event) = item else { return Err(WatchError::Lost) };
            let unreadable = |error| WatchError::Unreadable(event.method.to_string(), error);
            match &*event.method {
                "Tracing.dataCollected" => {
                    let collected: Collected = event.params.decode().map_err(unreadable)?;
                    features.extend(collected.first_uses().map(|(_, feature)| feature));
                }
                "Tracing.tracingComplete" => {
                    let complete: Complete = event.params.decode().map_err(unreadable)?;
                    return if complete.data_loss_occurred { Err(WatchError::Lost) } else { Ok(features) };
                }
                _ => {}
            }
        }
        Err(WatchError::Ended)
    }
}

/// Symbols that the engine saw used.
#[derive(Debug, Default)]
pub(in crate::engine::chromium) struct Used(BTreeSet<&'static str>);

impl Used {
    /// Marks those that no row tells of. To be called once all rows have passed through the uplink.
    pub async fn record_unseen(&self, uplink: &AttemptUplink) -> Result<(), UplinkError> {
        let recorded = uplink.symbols().all();
        for symbol in self.0.iter().filter(|symbol| !is_recorded(symbol, &recorded)) {
            let row = truncation("bypass_possible", None, 0, 0, 0, (*symbol).to_owned());
            uplink.record(StreamId::SERVICE, wall_us(), row).await?;
        }
        Ok(())
    }
}

/// Says that nothing was compared, and why.
pub(in crate::engine::chromium) async fn record_unchecked(
    uplink: &AttemptUplink,
    why: String,
) -> Result<(), UplinkError> {
    let row: Row = truncation("feature_use_unchecked", None, 0, 0, 0, why);
    uplink.record(StreamId::SERVICE, wall_us(), row).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I3
    #[test]
    fn first_uses_are_read_and_other_events_are_not() {
        let text = r#"{"value":[
            {"name":"process_name","ph":"M","args":{"name":"Renderer"}},
            {"name":"FeatureFirstUsed","ts":7,"args":{"feature":1503}},
            {"name":"Other","args":{"feature":1}},
            {"name":"FeatureFirstUsed"}
        ]}"#;
        let collected: Collected = serde_json::from_str(text).unwrap();
        assert_eq!(collected.first_uses().collect::<Vec<_>>(), [(7, 1503)]);
    }
}
