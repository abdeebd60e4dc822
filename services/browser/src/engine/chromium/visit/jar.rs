//! Cookies and headers of the visit's browser context.

use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use sonde_proto::visit::v1::{Cookie, Header, SameSite};
use tokio::time::Instant;

use super::page::NotLoaded;
use super::setups::{has_network, with_headers};
use super::{ChromiumVisit, Jar, left};
use crate::engine::chromium::cdp::CallError;
use crate::engine::commands::Why;
use crate::engine::commands::script::Refusal;

impl ChromiumVisit {
    /// The visit's cookies, of all partitions.
    pub(super) async fn cookies(&mut self, deadline: Instant) -> Result<Vec<Cookie>, Why<NotLoaded>> {
        let params = json!({"browserContextId": self.context});
        let connection = &self.browser.connection;
        let answer = connection.call_raw(None, "Storage.getCookies", params, left(deadline)).await;
        let jar: Result<Jar, _> = answer.map_err(|e| self.not_done(e))?.decode();
        let jar =
            jar.map_err(|e| Refusal::new("browser_refused", format!("the cookies cannot be read: {e}")))?;
        Ok(jar.cookies.iter().map(Cookie::from).collect())
    }

    /// Puts cookies into the visit's jar.
    pub(super) async fn put_cookies(
        &mut self,
        cookies: &[Cookie],
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        // One at a time: of several it would not say which one it does not take.
        for cookie in cookies {
            let params = json!({"browserContextId": self.context, "cookies": [parameters(cookie)]});
            let connection = &self.browser.connection;
            match connection.call_raw(None, "Storage.setCookies", params, left(deadline)).await {
                Ok(_) => {}
                Err(CallError::Protocol { message, .. }) => {
                    let message = format!("{} of {}: {message}", cookie.name, cookie.domain);
                    return Err(Refusal::new("cookie_refused", message).into());
                }
                Err(error) => return Err(self.not_done(error)),
            }
        }
        Ok(())
    }

    /// From now on requests of the visit have these headers.
    pub(super) async fn send_headers(
        &mut self,
        headers: &[Header],
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        let headers: Map<String, Value> = headers.iter().map(|h| (h.name.clone(), json!(h.value))).collect();
        // First those that come, then those that are there: so none is left out.
        self.browser.setups.set_headers(&self.context, headers.clone());
        let (connection, recorded) = (&self.browser.connection, self.recorder.is_some());
        let own = connection.sessions().into_iter();
        let own = own.filter(|s| s.context_id.as_ref() == Some(&self.context) && has_network(&s.kind));
        let (headers, main) = (&headers, &self.target);
        let tell = own.map(|session| {
            async move {
                for command in with_headers(headers, recorded) {
                    let told = connection.call_command(Some(&session.id), command, left(deadline)).await;
                    match told {
                        // What is gone makes no requests any more.
                        Err(error) if error.is_session_gone() && session.target_id != *main => break,
                        other => other.map(drop)?,
                    }
                }
                Ok(())
            }
        });
        let told: Result<(), CallError> = join_all(tell).await.into_iter().collect();
        told.map_err(|e| self.not_done(e))
    }

    /// Why a command did not do what it says, when a call did not work.
    pub(super) fn not_done(&mut self, error: CallError) -> Why<NotLoaded> {
        match error {
            CallError::Timeout { .. } => {
                self.stuck = true;
                Why::NotLoaded(NotLoaded::Timeout("the page's answer"))
            }
            CallError::Protocol { ref message, .. } if !error.is_session_gone() => {
                Refusal::new("browser_refused", message.clone()).into()
            }
            error => Why::NotLoaded(NotLoaded::Call(error)),
        }
    }
}

/// A cookie as `Storage.setCookies` takes it.
fn parameters(cookie: &Cookie) -> Value {
    let mut params = json!({
        "name": cookie.name,
        "value": cookie.value,
        "path": cookie.path,
        "secure": cookie.secure,
        "httpOnly": cookie.http_only,
        // For whatever port; where it is not for https only, for both schemes.
        "sourcePort": -1,
        "sourceScheme": if cookie.secure { "Secure" } else { "Unset" },
    });
    if cookie.domain.starts_with('.') {
        params["domain"] = json!(cookie.domain);
    } else {
        // With a domain it would be for the hosts below it, too.
        let scheme = if cookie.secure { "https" } else { "http" };
        params["url"] = json!(format!("{scheme}://{}{}", cookie.domain, cookie.path));
    }
    let same_site = match cookie.same_site() {
        SameSite::Unspecified => None,
        SameSite::None => Some("None"),
        SameSite::Lax => Some("Lax"),
        SameSite::Strict => Some("Strict"),
    };
    if let Some(same_site) = same_site {
        params["sameSite"] = json!(same_site);
    }
    if let Some(at) = cookie.expires {
        params["expires"] = json!(at.seconds as f64 + f64::from(at.nanos) / 1e9);
    }
    if let Some(partition) = &cookie.partition {
        params["partitionKey"] = json!({
            "topLevelSite": partition.top_level_site,
            "hasCrossSiteAncestor": partition.has_cross_site_ancestor,
        });
    }
    params
}
