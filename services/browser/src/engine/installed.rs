//! The browsers of this machine: each launch goes to the engine of its kind.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sonde_proto::visit::v1::BrowserKind;

use super::chromium::Chromium;
use super::firefox::Firefox;
use super::{Browser, Engine, LaunchFailure, LaunchSpec};
use crate::config::{Config, StartError};
use crate::uplink::Uplink;

/// Starts browsers of every kind.
pub struct Installed {
    chromium: Arc<Chromium>,
    firefox: Arc<Firefox>,
}

impl Installed {
    /// # Errors
    /// When a directory for profiles cannot be made. Browsers are looked for when they are needed.
    pub fn new(config: &Config, uplink: &Uplink) -> Result<Self, StartError> {
        Ok(Self {
            chromium: Arc::new(Chromium::new(config, uplink.clone())?),
            firefox: Arc::new(Firefox::new(config, uplink.clone())?),
        })
    }
}

impl Engine for Installed {
    fn kinds(&self) -> Vec<BrowserKind> {
        let mut kinds = self.chromium.kinds();
        kinds.extend(self.firefox.kinds());
        kinds
    }

    fn launch(
        self: Arc<Self>,
        spec: LaunchSpec,
    ) -> BoxFuture<'static, Result<Arc<dyn Browser>, LaunchFailure>> {
        match spec.kind {
            BrowserKind::Firefox => self.firefox.clone().launch(spec),
            BrowserKind::Chromium | BrowserKind::Unspecified => self.chromium.clone().launch(spec),
        }
    }
}
