//! Cookies and headers of the visit's container.

use serde_json::{Value, json};
use sonde_proto::visit::v1::{Cookie, Header};
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{FirefoxVisit, left};
use crate::engine::commands::Why;
use crate::engine::commands::script::Refusal;
use crate::engine::firefox::bidi::BidiError;
use crate::engine::firefox::cookies::{self, stored};
use crate::engine::firefox::driver::DriverError;
use crate::engine::firefox::{chrome, jar};

impl FirefoxVisit {
    /// The visit's cookies, of all partitions.
    pub(super) async fn cookies(&mut self, deadline: Instant) -> Result<Vec<Cookie>, Why<NotLoaded>> {
        let arguments = json!([self.container]);
        let jar: Result<Vec<cookies::Cookie>, _> =
            self.browser.chrome(chrome::COOKIES, arguments, left(deadline)).await;
        Ok(jar.map_err(undriven)?.iter().map(Cookie::from).collect())
    }

    /// Puts cookies into the visit's jar.
    pub(super) async fn put_cookies(
        &mut self,
        cookies: &[Cookie],
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        let cookies: Vec<Value> = cookies.iter().map(stored).collect();
        let arguments = json!([self.container, cookies]);
        let refused: Result<Option<String>, _> =
            self.browser.chrome(jar::SET_COOKIES, arguments, left(deadline)).await;
        match refused.map_err(undriven)? {
            None => Ok(()),
            Some(message) => Err(Refusal::new("cookie_refused", message).into()),
        }
    }

    /// From now on requests of the visit have these headers.
    pub(super) async fn send_headers(
        &mut self,
        headers: &[Header],
        deadline: Instant,
    ) -> Result<(), Why<NotLoaded>> {
        let pairs: Vec<Value> = headers.iter().map(|h| json!([h.name, h.value])).collect();
        let arguments = json!([self.container, pairs]);
        let told: Result<Value, _> = self.browser.chrome(jar::HEADERS, arguments, left(deadline)).await;
        told.map_err(undriven)?;
        self.has_headers = !headers.is_empty();
        Ok(())
    }

    /// Why a command did not do what it says, when a call did not work.
    pub(super) fn not_done(&mut self, error: BidiError) -> Why<NotLoaded> {
        match error {
            BidiError::Timeout { .. } => {
                self.stuck = true;
                Why::NotLoaded(NotLoaded::Timeout("the page's answer"))
            }
            BidiError::Refused { ref message, .. } if !error.is_gone() => {
                Refusal::new("browser_refused", message.clone()).into()
            }
            error => Why::NotLoaded(NotLoaded::Call(error)),
        }
    }
}

fn undriven(error: DriverError) -> Why<NotLoaded> {
    match error {
        DriverError::Timeout { .. } => Why::NotLoaded(NotLoaded::Timeout("the browser's answer")),
        error => Why::NotLoaded(NotLoaded::Driver(error)),
    }
}
