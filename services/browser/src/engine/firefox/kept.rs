//! Visits in a profile that is kept or was made from an archive: they run in the default user context, and the next one
//! finds what they leave.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::bidi::{Bidi, BidiError};
use super::chrome;
use super::driver::{Driver, DriverError};
use crate::engine::profiles::Profile;

/// The user context that every profile has, as BiDi names it; its number is 0.
pub(super) const USER_CONTEXT: &str = "default";
/// The cookie store of the default user context, as extensions name it.
pub(super) const STORE: &str = "firefox-default";

/// Why a profile's state could not be brought back or kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error(transparent)]
    Bidi(#[from] BidiError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("its saved cookies: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Deserialize)]
struct Tree {
    contexts: Vec<Tab>,
}

#[derive(Deserialize)]
struct Tab {
    context: String,
}

/// Gives a browser that has just started the cookies that its profile lacks.
pub(super) async fn restore(profile: &Profile, driver: &Driver, deadline: Duration) -> Result<(), KeptError> {
    let (cookies, instead) = profile.restore()?.cookies(|cookie| cookie["session"] == true);
    if cookies.is_empty() && !instead {
        return Ok(());
    }
    tracing::info!(profile = ?profile.dir, cookies = cookies.len(), instead, "cookies are brought back");
    let _: u64 = driver.chrome(chrome::RESTORE, json!([cookies, instead]), deadline).await?;
    Ok(())
}

/// The tabs that are open, by their ids.
pub(super) async fn tabs(bidi: &Bidi, deadline: Duration) -> Result<Vec<String>, BidiError> {
    let tree: Tree = bidi.ask("browsingContext.getTree", json!({"maxDepth": 0}), deadline).await?;
    Ok(tree.contexts.into_iter().map(|tab| tab.context).collect())
}

/// The end of a visit: the tabs that it opened go, the cookies are noted.
pub(super) async fn end_visit(
    profile: &Profile,
    bidi: &Bidi,
    driver: &Driver,
    before: &[String],
    deadline: Duration,
) -> Result<(), KeptError> {
    for tab in tabs(bidi, deadline).await?.into_iter().filter(|tab| !before.contains(tab)) {
        let params = json!({"context": tab, "promptUnload": false});
        match bidi.call("browsingContext.close", params, deadline).await {
            Ok(_) => {}
            // It closed meanwhile.
            Err(BidiError::Refused { code, .. }) if code == "no such frame" => {}
            Err(error) => return Err(error.into()),
        }
    }
    let cookies: Value = driver.chrome(chrome::SAVE, json!([]), deadline).await?;
    Ok(profile.save(&cookies)?)
}
