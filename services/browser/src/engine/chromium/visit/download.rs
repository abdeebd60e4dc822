//! A file that the browser saves for a command.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::page::NotLoaded;
use super::{ChromiumVisit, left};
use crate::engine::chromium::cdp::{Filter, Item, Subscription};
use crate::engine::commands::Why;
use crate::engine::commands::download::{Saved, Trigger, cancelled, none_came, shown, too_long};
use sonde_proto::visit::v1::LoadPolicy;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WillBegin {
    guid: String,
    url: String,
    suggested_filename: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    guid: String,
    received_bytes: f64,
    state: String,
}

impl ChromiumVisit {
    pub(super) async fn save(
        &mut self,
        trigger: Trigger,
        dir: &Path,
        max_bytes: u64,
        deadline: Instant,
    ) -> Result<Saved, Why<NotLoaded>> {
        // Of the browser itself: visits have it one after the other.
        let wanted = Filter::sessions([]).with_browser_level().methods(["Browser.download"]);
        let mut events = self.browser.connection.subscribe(wanted);
        self.on_downloads(
            json!({"behavior": "allowAndName", "downloadPath": dir, "eventsEnabled": true}),
            deadline,
        )
        .await?;
        let saved = self.saved(trigger, &mut events, dir, max_bytes, deadline).await;
        let refused =
            self.on_downloads(json!({"behavior": "deny"}), deadline + super::super::engine::CALL).await;
        let saved = saved?;
        refused.map(|()| saved)
    }

    async fn on_downloads(
        &self,
        mut params: serde_json::Value,
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        params["browserContextId"] = json!(self.context);
        let call =
            self.browser.connection.call_raw(None, "Browser.setDownloadBehavior", params, left(deadline));
        call.await.map(drop).map_err(|e| Why::NotLoaded(e.into()))
    }

    async fn saved(
        &mut self,
        trigger: Trigger,
        events: &mut Subscription,
        dir: &Path,
        max_bytes: u64,
        deadline: Instant,
    ) -> Result<Saved, Why<NotLoaded>> {
        match trigger {
            Trigger::Acts(acts) => self.act(&acts, deadline).await.map_err(Why::NotLoaded)?,
            Trigger::Url(url) => match self.load(&url, "", LoadPolicy::Commit, deadline).await {
                Ok(()) => return Err(shown()),
                // That is how a navigation ends that becomes a download.
                Err(NotLoaded::Network(code)) if code.ends_with("ABORTED") => {}
                Err(why) => return Err(Why::NotLoaded(why)),
            },
        }
        let (mut begun, mut stopped): (Option<WillBegin>, bool) = (None, false);
        loop {
            let next = timeout_at(deadline, events.recv()).await.map_err(|_| none_came())?;
            let event = match next {
                Some(Item::Event(event)) => event,
                Some(_) => continue,
                None => return Err(Why::NotLoaded(NotLoaded::Gone("the browser is gone".to_owned()))),
            };
            if &*event.method == "Browser.downloadWillBegin" {
                if begun.is_none() {
                    begun = event.params.decode().ok();
                }
                continue;
            }
            let Ok(progress) = event.params.decode::<Progress>() else { continue };
            let Some(file) = begun.take_if(|b| b.guid == progress.guid) else { continue };
            let long = progress.received_bytes > max_bytes as f64;
            if long && progress.state == "inProgress" && !stopped {
                let params = json!({"guid": file.guid, "browserContextId": self.context});
                let cancel =
                    self.browser.connection.call_raw(None, "Browser.cancelDownload", params, left(deadline));
                cancel.await.map_err(|e| Why::NotLoaded(e.into()))?;
                stopped = true;
            }
            match progress.state.as_str() {
                "completed" => {
                    let path = dir.join(&file.guid);
                    return Ok(Saved { url: file.url, name: file.suggested_filename, path });
                }
                "canceled" if stopped => return Err(too_long(max_bytes)),
                "canceled" => return Err(cancelled()),
                _ => begun = Some(file),
            }
        }
    }
}
