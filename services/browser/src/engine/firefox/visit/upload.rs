//! Files in input elements.

use serde_json::json;
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{FirefoxVisit, left};
use crate::engine::commands::Why;
use crate::engine::commands::script::Refusal;
use crate::engine::commands::upload::Chosen;
use crate::engine::firefox::bidi::BidiError;

impl FirefoxVisit {
    /// Chooses files in the element that `element` gives.
    pub(super) async fn choose_files(
        &mut self,
        element: &str,
        chosen: Chosen,
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        let bidi = &self.browser.bidi;
        let failed = |e| Why::NotLoaded(NotLoaded::from(e));
        let target = json!({"context": self.context, "sandbox": "sonde"});
        let params = json!({"expression": element, "target": target, "awaitPromise": false});
        let answer = bidi.call("script.evaluate", params, left(deadline)).await.map_err(failed)?;
        let Some(shared) = answer["result"]["sharedId"].as_str() else {
            return Err(Refusal::new("navigation", "the page went elsewhere meanwhile").into());
        };
        let element = json!({"sharedId": shared});
        let params = json!({"context": self.context, "element": element, "files": chosen.files});
        self.uploads.push(chosen);
        match bidi.call("input.setFiles", params, left(deadline)).await {
            Ok(_) => Ok(()),
            // Its words name our directories.
            Err(BidiError::Refused { code, .. }) if code == "no such element" => {
                let why = "Firefox takes files for elements of the page itself, not of its frames";
                Err(Refusal::new("unsupported", why).into())
            }
            Err(BidiError::Refused { code, message, .. }) => {
                tracing::warn!(code, message, "files were not chosen");
                Err(Refusal::new("not_chosen", format!("the browser refused the files ({code})")).into())
            }
            Err(error) => Err(failed(error)),
        }
    }
}
