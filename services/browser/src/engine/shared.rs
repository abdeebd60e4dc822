//! What the engines of one service share: its directories, its profiles and hooks, and the extension.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::profiles::{Profile, Profiles};
use super::run_dir::RunDir;
use super::screen::Screen;
use super::trust::Trusted;
use super::video::Encoder;
use super::{LaunchFailure, LaunchSpec};
use crate::config::{Config, StartError};
use crate::hooks::host::HookHost;
use crate::relay::locate_extension;
use crate::uplink::Uplink;

/// Goes, with its directory, after the last browser.
pub(super) struct Shared {
    /// For the start of one browser.
    pub launch_timeout: Duration,
    /// Pages get `window.instrumentJS`.
    pub testing: bool,
    pub trusted: Trusted,
    profiles: Profiles,
    pub hooks: Arc<HookHost>,
    /// The built extension, or why there is none.
    pub extension: Result<PathBuf, String>,
    pub uplink: Uplink,
    pub encoder: Encoder,
    pub run_dir: RunDir,
}

impl Shared {
    /// # Errors
    /// When the directory for profiles cannot be made, or a trusted certificate not be read.
    pub fn new(config: &Config, uplink: Uplink) -> Result<Self, StartError> {
        let run_dir = RunDir::prepare(config.run_dir.clone())?;
        let extension = locate_extension(config.extension_dir.as_deref()).map_err(|e| e.to_string());
        if let Err(error) = &extension {
            tracing::warn!(%error, "only what the browsers tell themselves can be recorded");
        }
        Ok(Self {
            launch_timeout: config.launch_timeout,
            testing: config.testing,
            trusted: Trusted::read(&config.trusted_certificates)?,
            profiles: Profiles::new(config, run_dir.path(), uplink.clone()),
            hooks: Arc::new(HookHost::new(config.hooks.clone(), run_dir.path())),
            extension,
            uplink,
            encoder: Encoder { ffmpeg: config.ffmpeg.clone().unwrap_or_else(|| PathBuf::from("ffmpeg")) },
            run_dir,
        })
    }

    /// The profile that a launch asks for, if it asks for one.
    pub async fn profile(&self, spec: &LaunchSpec) -> Result<Option<Profile>, LaunchFailure> {
        let Some(wanted) = &spec.profile else { return Ok(None) };
        let deadline = Instant::now() + self.launch_timeout;
        match self.profiles.prepare(wanted, spec.kind, self.run_dir.path(), deadline).await {
            Ok(profile) => Ok(Some(profile)),
            Err(error) => Err(LaunchFailure { message: error.to_string() }),
        }
    }

    pub async fn screen(&self, spec: &LaunchSpec) -> Result<Screen, LaunchFailure> {
        let opened = Screen::open(&spec.display, self.run_dir.path(), spec.window, self.launch_timeout).await;
        opened.map_err(|error| LaunchFailure { message: error.to_string() })
    }
}
