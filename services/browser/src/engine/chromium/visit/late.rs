//! What the network tells between the end of a visit and the end of its context: it belongs to no visit any more, and
//! is kept as that (I14).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;
use sonde_proto::record::v1::{Truncation, Unattributed, record::Row};
use sonde_runtime::clock::wall_us;

use super::recorder::Network;
use crate::engine::chromium::cdp::{Event, Item};
use crate::engine::chromium::recorder::Finished;
use crate::uplink::AttemptUplink;

/// Late rows kept of a visit; more are counted in a row of truncations.
const KEPT: i64 = 1000;
/// Requests that nobody knows to have left the browser.
const UNSENT: usize = 1000;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Late {
    request_id: String,
    canceled: Option<bool>,
    blocked_reason: Option<String>,
}

/// Which rows a late event would have become.
#[derive(Default)]
struct Sorter {
    /// Announced after the end: they are of interest once they leave the browser, which we keep them from.
    unsent: HashMap<String, String>,
}

impl Sorter {
    /// Tables and payloads (JSON text) of rows to be kept. `answered`: whether the visit has the answer to a request.
    fn sort(&mut self, event: &Event, answered: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        let payload = event.params.get().to_owned();
        let late = || event.params.decode::<Late>().unwrap_or_default();
        match &*event.method {
            "Network.requestWillBeSent" => {
                if self.unsent.len() < UNSENT {
                    self.unsent.insert(late().request_id, payload);
                }
                Vec::new()
            }
            "Network.requestWillBeSentExtraInfo" => self.sent(&late().request_id),
            "Network.responseReceived" => {
                let late = late();
                let mut rows = self.sent(&late.request_id);
                if !answered(&late.request_id) {
                    rows.push(("http_responses", payload));
                }
                rows
            }
            "Network.loadingFailed" => {
                let late = late();
                self.unsent.remove(&late.request_id);
                // What the end of the visit itself gave up is no news.
                let ours = late.canceled == Some(true) || late.blocked_reason.as_deref() == Some("inspector");
                if ours { Vec::new() } else { vec![("http_failures", payload)] }
            }
            "Network.webSocketFrameSent"
            | "Network.webSocketFrameReceived"
            | "Network.eventSourceMessageReceived" => vec![("websocket_frames", payload)],
            _ => Vec::new(),
        }
    }

    fn sent(&mut self, request_id: &str) -> Vec<(&'static str, String)> {
        self.unsent.remove(request_id).map(|payload| ("http_requests", payload)).into_iter().collect()
    }
}

/// Keeps late events until the browser or the visit is over.
pub(super) async fn keep(mut recording: Finished<Network>, uplink: AttemptUplink) {
    let mut sorter = Sorter::default();
    let (mut kept, mut beyond) = (0, 0);
    while let Some(item) = recording.late().await {
        let Item::Event(event) = item else { continue };
        let answered = |request_id: &str| recording.handler.has_answer(request_id);
        for (table_name, payload) in sorter.sort(&event, answered) {
            if kept >= KEPT {
                beyond += 1;
                continue;
            }
            kept += 1;
            let row = unattributed(table_name, "visit_ended", uplink.visit_id(), &event.method, &payload);
            if let Err(error) = uplink.record_unattributed(wall_us(), row).await {
                tracing::warn!(%error, "a late record of the network was not taken");
                return;
            }
        }
    }
    if beyond > 0 {
        let row = Truncation {
            table_name: "unattributed".to_owned(),
            reason: "late_records_cap".to_owned(),
            dropped_rows: beyond,
            limit_value: KEPT,
            subject: Some(uplink.visit_id().to_string()),
            ..Truncation::default()
        };
        if let Err(error) = uplink.record_unattributed(wall_us(), Row::Truncation(row)).await {
            tracing::warn!(%error, beyond, "dropped late records could not be counted");
        }
    }
}

/// A row for an event that became no row of its own table. `params`: JSON text.
pub(in crate::engine::chromium) fn unattributed(
    table_name: &str,
    reason: &str,
    visit_id: i64,
    method: &str,
    params: &str,
) -> Row {
    let params: serde_json::Value = serde_json::from_str(params).unwrap_or_else(|_| params.into());
    let payload = json!({"visit_id": visit_id, "method": method, "params": params});
    Row::Unattributed(Unattributed {
        table_name: table_name.to_owned(),
        reason: reason.to_owned(),
        payload: payload.to_string(),
    })
}
