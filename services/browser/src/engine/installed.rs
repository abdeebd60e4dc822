//! The browsers of this machine: each launch goes to the engine of its kind.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sonde_proto::visit::v1::BrowserKind;

use super::chromium::Chromium;
use super::firefox::Firefox;
use super::shared::Shared;
use super::{Browser, Engine, LaunchFailure, LaunchSpec};
use crate::config::{Config, StartError};
use crate::hooks::host::HookHost;
use crate::uplink::Uplink;

/// Starts browsers of every kind.
pub struct Installed {
    shared: Arc<Shared>,
    chromium: Arc<Chromium>,
    firefox: Arc<Firefox>,
}

impl Installed {
    /// # Errors
    /// When the directory for profiles cannot be made, or a trusted certificate not be read. Browsers are looked for
    /// when they are needed.
    pub fn new(config: &Config, uplink: &Uplink) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::new(config, uplink.clone())?);
        Ok(Self {
            chromium: Arc::new(Chromium::new(config, shared.clone())),
            firefox: Arc::new(Firefox::new(config, shared.clone())),
            shared,
        })
    }

    /// Where profiles are made, unless that was said: it goes with the last browser.
    pub(crate) fn own_run_dir(&self) -> Option<&Path> {
        self.shared.run_dir.of_ours()
    }
}

impl Engine for Installed {
    fn hooks(&self) -> Arc<HookHost> {
        self.shared.hooks.clone()
    }

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
