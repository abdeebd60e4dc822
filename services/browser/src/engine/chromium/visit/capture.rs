//! What the page shows, by the screencast of DevTools.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use sonde_runtime::clock::wall_us;
use tokio::time::Instant;

use super::ChromiumVisit;
use super::page::NotLoaded;
use crate::engine::chromium::cdp::{Filter, Item, Limits, RawCommand};
use crate::engine::video::{Picture, Recorded, Recording, Spool};

const FRAME: &str = "Page.screencastFrame";
/// Pictures that may wait for the disk.
const QUEUED: Limits = Limits { events: 120, bytes: 128 << 20 };

/// For a picture that is asked for.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    data: String,
    metadata: Metadata,
    /// Of the screencast.
    session_id: i64,
}

#[derive(Deserialize)]
struct Taken {
    data: String,
}

#[derive(Deserialize)]
struct Metadata {
    /// When it was shown, in seconds since the epoch.
    timestamp: Option<f64>,
}

impl ChromiumVisit {
    pub(super) async fn capture(
        &mut self,
        recorded: Recorded,
        spool: Spool,
        deadline: Instant,
    ) -> Result<Recording, NotLoaded> {
        let (connection, session) = (self.browser.connection.clone(), self.session.id.clone());
        let wanted = Filter::sessions([session.clone()]).methods([FRAME]);
        let mut events = connection.subscribe_within(wanted, QUEUED);
        // Every one that is drawn: of those left out by a number one could be the last.
        let params = json!({
            "format": "jpeg", "quality": recorded.quality, "everyNthFrame": 1,
            "maxWidth": recorded.width, "maxHeight": recorded.height,
        });
        self.page("Page.startScreencast", params, deadline).await?;
        Ok(Recording::start(spool, |mut spool, stop| async move {
            let tell = |method, params| {
                if let Err(error) = connection.send_no_wait(Some(&session), RawCommand::new(method, params)) {
                    tracing::debug!(%error, method, "the screencast could not be told");
                }
            };
            let mut screencast = None;
            while let Some(item) = stop.run_until_cancelled(events.recv()).await.flatten() {
                let frame = match item {
                    Item::Event(event) => event.params.decode::<Frame>().ok(),
                    Item::Lost { events, .. } => {
                        spool.lost(events);
                        None
                    }
                    Item::HookFailed(_) => continue,
                };
                if let Some(frame) = &frame {
                    screencast = Some(frame.session_id);
                }
                // At once, or no more come; of those that were lost, too.
                if let Some(id) = screencast {
                    tell("Page.screencastFrameAck", json!({"sessionId": id}));
                }
                let Some(Frame { data, metadata, .. }) = frame else { continue };
                match (BASE64.decode(data), metadata.timestamp) {
                    (Ok(jpeg), Some(at)) => spool.take(Picture { jpeg, at_us: (at * 1e6) as i64 }).await,
                    _ => spool.lost(1),
                }
            }
            tell("Page.stopScreencast", json!({}));
            // Nothing was drawn meanwhile: what there is to be seen was drawn before.
            if spool.is_empty() {
                let params = json!({"format": "jpeg", "quality": recorded.quality});
                let answer =
                    connection.call_raw(Some(&session), "Page.captureScreenshot", params, ANSWER).await;
                let taken = answer.ok().and_then(|answer| answer.decode::<Taken>().ok());
                if let Some(Ok(jpeg)) = taken.map(|taken| BASE64.decode(taken.data)) {
                    spool.take(Picture { jpeg, at_us: wall_us() }).await;
                }
            }
            spool
        }))
    }
}
