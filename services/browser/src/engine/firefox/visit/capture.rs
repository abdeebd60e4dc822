//! What the page shows, by pictures that Firefox is asked for: it tells of none by itself.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use sonde_runtime::clock::wall_us;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::FirefoxVisit;
use super::page::NotLoaded;
use crate::engine::video::{Picture, Recorded, Recording, Spool};

/// Pictures a second: each costs the page some 50 ms of its main thread.
pub(super) const MOST: u32 = 5;
/// For one picture.
const ANSWER: Duration = Duration::from_secs(10);

impl FirefoxVisit {
    pub(super) async fn capture(
        &mut self,
        recorded: Recorded,
        spool: Spool,
        _deadline: Instant,
    ) -> Result<Recording, NotLoaded> {
        let bidi = self.browser.bidi.clone();
        let quality = f64::from(recorded.quality) / 100.0;
        let params = json!({
            "context": self.context, "origin": "viewport", "format": {"type": "image/jpeg", "quality": quality},
        });
        let mut ticks = interval(Duration::from_secs(1) / recorded.fps.min(MOST));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Recording::start(spool, |mut spool, stop| async move {
            let mut before = Vec::new();
            loop {
                let asked = async {
                    ticks.tick().await;
                    let asked_us = wall_us();
                    let answer = bidi.call("browsingContext.captureScreenshot", params.clone(), ANSWER).await;
                    (answer, asked_us.midpoint(wall_us()))
                };
                let Some((answer, at_us)) = stop.run_until_cancelled(asked).await else { return spool };
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(error) if error.is_fatal() => return spool,
                    // Between two documents there is nothing to be pictured.
                    Err(error) => {
                        tracing::debug!(%error, "no picture of the page");
                        spool.lost(1);
                        continue;
                    }
                };
                match answer["data"].as_str().map(|data| BASE64.decode(data)) {
                    Some(Ok(jpeg)) if jpeg == before => {}
                    Some(Ok(jpeg)) => {
                        before.clone_from(&jpeg);
                        spool.take(Picture { jpeg, at_us }).await;
                    }
                    _ => spool.lost(1),
                }
            }
        }))
    }
}
