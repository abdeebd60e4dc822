//! Visits in a profile that is kept or was made from an archive: they run in the browser's own context, not in one of
//! their own, and the next one finds what they leave.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cdp::{CallError, Connection, ContextId};
use crate::engine::profiles::Profile;

/// A profile and its context.
pub(super) struct Kept {
    pub profile: Profile,
    pub context: ContextId,
}

/// Why a profile's state could not be brought back or kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the browser's answer to {0} is not as expected: {1}")]
    Answer(&'static str, String),
    #[error("its saved cookies: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contexts {
    default_browser_context_id: ContextId,
}

#[derive(Deserialize)]
struct Jar {
    cookies: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    target_infos: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    target_id: String,
    #[serde(rename = "type")]
    kind: String,
    browser_context_id: Option<ContextId>,
}

impl Kept {
    /// Gives a browser that has just started the cookies that its profile lacks.
    pub async fn restore(
        profile: Profile,
        connection: &Connection,
        deadline: Duration,
    ) -> Result<Self, KeptError> {
        const CONTEXTS: &str = "Target.getBrowserContexts";
        let answer = connection.call_raw(None, CONTEXTS, json!({}), deadline).await?;
        let contexts: Contexts = answer.decode().map_err(|e| KeptError::Answer(CONTEXTS, e.to_string()))?;
        let is_session = |cookie: &Value| cookie["session"] == true;
        let (cookies, instead) = profile.restore()?.cookies(is_session);
        if instead {
            connection.call_raw(None, "Storage.clearCookies", json!({}), deadline).await?;
        }
        if !cookies.is_empty() {
            tracing::info!(profile = ?profile.dir, cookies = cookies.len(), instead, "cookies are brought back");
            let cookies: Vec<Value> = cookies.iter().map(parameter).collect();
            connection.call_raw(None, "Storage.setCookies", json!({"cookies": cookies}), deadline).await?;
        }
        Ok(Self { profile, context: contexts.default_browser_context_id })
    }

    /// The end of a visit: its pages and workers go, its cookies are noted.
    pub async fn end_visit(&self, connection: &Connection, deadline: Duration) -> Result<(), KeptError> {
        const TARGETS: &str = "Target.getTargets";
        let answer = connection.call_raw(None, TARGETS, json!({}), deadline).await?;
        let targets: Targets = answer.decode().map_err(|e| KeptError::Answer(TARGETS, e.to_string()))?;
        let own = |target: &Target| {
            target.kind == "page" && target.browser_context_id.as_ref() == Some(&self.context)
        };
        let close = |target: Target| async move {
            let params = json!({"targetId": target.target_id});
            match connection.call_raw(None, "Target.closeTarget", params, deadline).await {
                // It closed meanwhile.
                Err(CallError::Protocol { .. }) => Ok(()),
                closed => closed.map(drop),
            }
        };
        for closed in join_all(targets.target_infos.into_iter().filter(own).map(close)).await {
            closed?;
        }
        self.save(connection, deadline).await
    }

    /// Notes the cookies that there are now.
    pub async fn save(&self, connection: &Connection, deadline: Duration) -> Result<(), KeptError> {
        const COOKIES: &str = "Storage.getCookies";
        let answer = connection.call_raw(None, COOKIES, json!({}), deadline).await?;
        let jar: Jar = answer.decode().map_err(|e| KeptError::Answer(COOKIES, e.to_string()))?;
        Ok(self.profile.save(&Value::Array(jar.cookies))?)
    }
}

/// A cookie as `Storage.getCookies` gives it, as `Storage.setCookies` takes it.
fn parameter(cookie: &Value) -> Value {
    const SAME: &[&str] = &[
        "name",
        "value",
        "domain",
        "path",
        "secure",
        "httpOnly",
        "sameSite",
        "priority",
        "sourceScheme",
        "sourcePort",
        "partitionKey",
    ];
    let mut parameter: Map<String, Value> =
        SAME.iter().filter_map(|key| Some(((*key).to_owned(), cookie.get(*key)?.clone()))).collect();
    if cookie["session"] != true {
        parameter.insert("expires".to_owned(), cookie["expires"].clone());
    }
    Value::Object(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_cookie_stays_one() {
        let cookie = json!({"name": "a", "value": "b", "domain": "x.test", "path": "/", "expires": -1, "size": 2,
            "httpOnly": true, "secure": false, "session": true, "sourcePort": 80});
        let set = parameter(&cookie);
        assert_eq!(set["httpOnly"], true);
        assert!(set.get("expires").is_none() && set.get("size").is_none());
        let lasting = json!({"name": "a", "expires": 2e9, "session": false});
        assert_eq!(parameter(&lasting)["expires"], 2e9);
    }
}
