//! The built extension and its relay without an engine: what is set, and what came of a visit.

pub mod chromium;
pub mod firefox;
mod hop;

pub use hop::hop;

use std::path::Path;
use std::time::Duration;

use prost::Message as _;
use sonde_browser::relay::{
    Capture, ExtensionBatch, ExtensionConfig, Relay, RelayLimits, RelayOptions, SessionEnd, locate_extension,
    prepare_extension,
};
use sonde_proto::js_settings::JsSettings;
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{Record, RecordList};
use tokio::sync::mpsc;

use super::{Rows, soon};

pub const TOKEN: &str = "relaytokenrelaytoken0123456789";
/// For a page's frames to hand over what they have.
pub const FRAMES: Duration = Duration::from_secs(10);

pub fn relay_options() -> RelayOptions {
    RelayOptions { token: TOKEN.into(), limits: RelayLimits::default() }
}

/// An extension that records nothing yet.
pub fn config(port: u16) -> ExtensionConfig {
    ExtensionConfig {
        port,
        capture: Capture::Wrapped,
        token: TOKEN.into(),
        secret: "5ecret5ecret5ecret5ecret5ecret00".into(),
        javascript: false,
        cookies: false,
        navigations: false,
        network: false,
        javascript_settings: JsSettings::default(),
        javascript_limit: 0,
        requests: false,
        testing: false,
    }
}

/// A copy of the built extension with this configuration; Chromium's id of it.
pub fn prepare(copy: &Path, config: &ExtensionConfig) -> String {
    prepare_extension(&locate_extension(None).unwrap(), copy, config).unwrap().chromium_id.unwrap()
}

pub fn rows_of(batch: &ExtensionBatch) -> Vec<Row> {
    let list = RecordList::decode(batch.payload.clone()).unwrap();
    assert_eq!(list.count(), batch.count as usize);
    list.entries().unwrap().map(|entry| Record::from(entry).row.unwrap()).collect()
}

/// Flushes a visit, and takes every batch that comes until that is done.
pub async fn flush(
    relay: &Relay,
    batches: &mut mpsc::Receiver<ExtensionBatch>,
    visit_id: i64,
    mut take: impl FnMut(ExtensionBatch),
) -> Vec<SessionEnd> {
    let mut flushed = std::pin::pin!(relay.flush(visit_id, FRAMES, Vec::new(), soon()));
    let ends = loop {
        tokio::select! {
            biased;
            Some(batch) = batches.recv() => take(batch),
            ends = &mut flushed => break ends.unwrap(),
        }
    };
    while let Ok(batch) = batches.try_recv() {
        take(batch);
    }
    ends
}

/// One session, which ended after so many rows, with nothing suspect.
pub fn assert_whole(ends: &[SessionEnd], rows: i64) {
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!((ends[0].last_ordinal, ends[0].suspect.as_str()), (rows - 1, ""));
}
