//! Requests of no visit's browser context: kept as belonging to none (I14).

use sonde_proto::VisitId;
use sonde_runtime::clock::wall_us;

use super::cdp::{Item, Subscription};
use super::visit::unattributed;
use crate::uplink::Uplink;

/// The events by which strangers are recorded.
pub(super) const METHODS: &[&str] = &["Network.requestWillBeSent", "Network.responseReceived"];

/// Records requests and responses of contexts that no visit knows, until the connection ends. `events` are those of
/// unknown contexts only.
pub async fn keep_strangers(mut events: Subscription, uplink: Uplink) {
    while let Some(item) = events.recv().await {
        let Item::Event(event) = item else { continue };
        let table = match &*event.method {
            "Network.requestWillBeSent" => "http_requests",
            "Network.responseReceived" => "http_responses",
            _ => continue,
        };
        let row = unattributed(table, "context_unknown", VisitId::NONE, &event.method, event.params.get());
        if let Err(error) = uplink.record_unattributed(wall_us(), row).await {
            tracing::warn!(%error, "a record of no visit was not taken");
            return;
        }
    }
}
