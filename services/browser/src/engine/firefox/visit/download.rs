//! A file that the browser saves for a command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sonde_proto::visit::v1::LoadPolicy;
use tokio::time::{Instant, interval, timeout_at};

use super::page::{ABORTED, NotLoaded};
use super::{FirefoxVisit, left};
use crate::engine::commands::Why;
use crate::engine::commands::download::{Saved, Trigger, cancelled, none_came, shown, too_long};
use crate::engine::firefox::bidi::{Events, Item};
use crate::engine::firefox::chrome;

/// Between looks at how long the file is, and whether it has failed: Firefox tells of its begin and its good end only.
const LOOK: Duration = Duration::from_millis(250);
/// For taking the permission back.
const REFUSE: Duration = Duration::from_secs(5);

impl FirefoxVisit {
    pub(super) async fn save(
        &mut self,
        trigger: Trigger,
        dir: &Path,
        max_bytes: u64,
        deadline: Instant,
    ) -> Result<Saved, Why<NotLoaded>> {
        let mut events =
            self.browser.bidi.events(|event| event.method.starts_with("browsingContext.download"));
        self.on_downloads(json!({"type": "allowed", "destinationFolder": dir}), left(deadline)).await?;
        let saved = self.saved(trigger, &mut events, dir, max_bytes, deadline).await;
        let refused = self.on_downloads(json!({"type": "denied"}), REFUSE).await;
        if saved.is_err() {
            // What still comes would be written to a directory that goes.
            let cancelled: Result<Value, _> =
                self.browser.chrome(chrome::CANCEL_DOWNLOADS, json!([dir]), REFUSE).await;
            cancelled.map_err(|e| Why::NotLoaded(NotLoaded::Driver(e)))?;
        }
        let saved = saved?;
        refused.map(|()| saved)
    }

    async fn has_failed(&self, dir: &Path, deadline: Instant) -> Result<bool, Why<NotLoaded>> {
        let asked = self.browser.chrome(chrome::DOWNLOAD_FAILED, json!([dir]), left(deadline)).await;
        asked.map_err(|e| Why::NotLoaded(NotLoaded::Driver(e)))
    }

    async fn on_downloads(&self, behavior: Value, time: Duration) -> Result<(), Why<NotLoaded>> {
        let params = json!({"downloadBehavior": behavior, "userContexts": [self.user_context]});
        let call = self.browser.bidi.call("browser.setDownloadBehavior", params, time).await;
        call.map(drop).map_err(|e| Why::NotLoaded(e.into()))
    }

    async fn saved(
        &mut self,
        trigger: Trigger,
        events: &mut Events,
        dir: &Path,
        max_bytes: u64,
        deadline: Instant,
    ) -> Result<Saved, Why<NotLoaded>> {
        match trigger {
            Trigger::Acts(acts) => self.act(&acts, deadline).await.map_err(Why::NotLoaded)?,
            Trigger::Url(url) => match self.load(&url, "", LoadPolicy::Commit, deadline).await {
                Ok(()) => return Err(shown()),
                // That is how a navigation ends that becomes a download.
                Err(NotLoaded::Network(code)) if code == ABORTED => {}
                Err(why) => return Err(Why::NotLoaded(why)),
            },
        }
        let (mut begun, mut look) = (None, interval(LOOK));
        loop {
            let next = async {
                tokio::select! {
                    item = events.recv() => Some(item),
                    _ = look.tick() => None,
                }
            };
            let event = match timeout_at(deadline, next).await.map_err(|_| none_came())? {
                Some(Some(Item::Event(event))) => event,
                Some(Some(Item::Lost(_))) => continue,
                Some(None) => return Err(Why::NotLoaded(NotLoaded::Gone("the browser is gone".to_owned()))),
                None if longest(dir) > max_bytes => return Err(too_long(max_bytes)),
                None if begun.is_some() && self.has_failed(dir, deadline).await? => return Err(cancelled()),
                None => continue,
            };
            if event.method == "browsingContext.downloadWillBegin" {
                let name = event.text("suggestedFilename").to_owned();
                begun.get_or_insert((
                    event.text("navigation").to_owned(),
                    event.text("url").to_owned(),
                    name,
                ));
                continue;
            }
            let Some((_, url, name)) =
                begun.take_if(|(navigation, ..)| navigation == event.text("navigation"))
            else {
                continue;
            };
            return match event.text("status") {
                "complete" => Ok(Saved { url, name, path: PathBuf::from(event.text("filepath")) }),
                _ => Err(cancelled()),
            };
        }
    }
}

/// Bytes of the longest file in a directory.
fn longest(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).max().unwrap_or(0)
}
