//! Files in input elements.

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::ChromiumVisit;
use super::asking::unread;
use super::page::NotLoaded;
use crate::engine::chromium::cdp::CallError;
use crate::engine::commands::Why;
use crate::engine::commands::script::Refusal;
use crate::engine::commands::upload::Chosen;

#[derive(Deserialize)]
struct Evaluated {
    result: Object,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    object_id: Option<String>,
}

impl ChromiumVisit {
    /// Chooses files in the element that `element` gives.
    pub(super) async fn choose_files(
        &mut self,
        element: &str,
        chosen: Chosen,
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        let found = self.object(element, deadline).await.map_err(|e| Why::NotLoaded(e.into()))?;
        let Some(object) = found else {
            return Err(Refusal::new("navigation", "the page went elsewhere meanwhile").into());
        };
        let params = json!({"files": chosen.files, "objectId": object});
        self.uploads.push(chosen);
        let set = self.page("DOM.setFileInputFiles", params, deadline).await;
        set.map(|_| ()).map_err(|e| Why::NotLoaded(e.into()))
    }

    /// The object that an expression gives in the isolated world of the page's main frame.
    async fn object(&self, expression: &str, deadline: Instant) -> Result<Option<String>, CallError> {
        let world = self.isolated_world(deadline).await?;
        let params = json!({"expression": expression, "contextId": world});
        let answer = self.page("Runtime.evaluate", params, deadline).await?;
        Ok(answer.decode::<Evaluated>().map_err(unread)?.result.object_id)
    }
}
