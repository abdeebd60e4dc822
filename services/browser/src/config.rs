//! The `[browser]` section.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sonde_proto::visit::v1::BrowserKind;
use sonde_runtime::endpoint::Endpoint;

use sonde_runtime::process::cgroup;

use crate::hooks::host::HooksConfig;
use crate::slot::{Memory, Wear};

/// How a browser-service is set up. In the environment: `SONDE_BROWSER__SLOTS=4`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the service listens.
    pub listen: Endpoint,
    /// Where storage listens.
    pub storage: Endpoint,
    /// Browsers at once, 1 to 256.
    pub slots: u32,
    /// Chromium; unset: the first one found.
    pub executable: Option<PathBuf>,
    /// Firefox; unset: firefox-esr or firefox, where Debian has them or in `PATH`.
    pub firefox_executable: Option<PathBuf>,
    /// geckodriver, which Firefox is driven through; unset: looked for in `PATH`, where cargo installs, and in the cache
    /// of `./x`.
    pub geckodriver: Option<PathBuf>,
    /// ffmpeg, which makes videos; unset: the one in `PATH`. Needed by `record_video` only.
    pub ffmpeg: Option<PathBuf>,
    /// Runs Chromium without its sandbox: needed as root, and recorded in every crawl's provenance.
    pub no_sandbox: bool,
    /// PEM files of certificates that are trusted beside the browser's own authorities, as those of an intercepting proxy:
    /// Firefox trusts what they sign, Chromium every chain in which the server sends one of them. Recorded in provenance.
    pub trusted_certificates: Vec<PathBuf>,
    /// The built extension; unset: looked for beside the program and in the checkout. Visits that need it
    /// fail where there is none.
    pub extension_dir: Option<PathBuf>,
    /// For profiles and the extension's copies; unset: a new directory under the system's one for temporary files.
    pub run_dir: Option<PathBuf>,
    /// For the profiles of stateful crawls, which are kept; unset: under run_dir, only as long as the service runs.
    pub profiles_dir: Option<PathBuf>,
    /// Time after which a kept profile that no browser used is removed, at the start of the service; 0s: never.
    #[serde(with = "sonde_runtime::config::duration")]
    pub profiles_max_age: Duration,
    /// Where records of processes and their outputs are kept, so that the next start finds what a killed service left;
    /// unset: in a directory under the system's one for temporary files that goes with the service.
    pub state_dir: Option<PathBuf>,
    /// Which browser is started when a slot is opened, before its first visit.
    pub prestart: Prestart,
    /// Its kind.
    pub prestart_kind: PrestartKind,
    /// Visits after which a browser is replaced, 1 or more.
    pub max_visits: u32,
    /// Age after which a browser is replaced, between visits; 0s: none.
    #[serde(with = "sonde_runtime::config::duration")]
    pub max_age: Duration,
    /// Memory of a browser's processes (PSS) above which it is replaced, between visits; 0B: none.
    #[serde(with = "sonde_runtime::config::size")]
    pub memory_limit: u64,
    /// Memory above which the running visit is ended with the browser; 0B: none.
    #[serde(with = "sonde_runtime::config::size")]
    pub memory_hard_limit: u64,
    /// How often the memory is looked at, 100ms or more.
    #[serde(with = "sonde_runtime::config::duration")]
    pub memory_every: Duration,
    /// Whether each slot holds a second browser ready: one that dies or is recycled is replaced at once. It costs some
    /// 200 MB of memory a slot for Chromium, 500 MB for Firefox. Visits that need a process each have the next one
    /// started meanwhile without it, too.
    pub spare: bool,
    /// Time for the start of a browser.
    #[serde(with = "sonde_runtime::config::duration")]
    pub launch_timeout: Duration,
    /// Time for running attempts to end when the service is asked to stop.
    #[serde(with = "sonde_runtime::config::duration")]
    pub drain: Duration,
    /// How calls of scripts are captured in Chromium; recorded in provenance.
    pub chromium_capture: ChromiumCapture,
    /// How calls of scripts are captured in Firefox; recorded in provenance.
    pub firefox_capture: FirefoxCapture,
    /// Gives pages `window.instrumentJS`, as OpenWPM's testing mode does. Any page can see and call it: for tests of
    /// the instruments only; recorded in provenance.
    pub testing: bool,
    /// Bytes of records of one attempt that may wait for storage.
    #[serde(with = "sonde_runtime::config::size")]
    pub buffer: u64,
    /// Hooks that visits may run.
    pub hooks: HooksConfig,
    /// Control groups (v2) for browsers and hooks: `auto`, `off`, or `require`.
    pub cgroup: cgroup::Mode,
}

/// Which browser is started before its first visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prestart {
    /// None.
    Off,
    /// One without the extension: for crawls that record at most HTTP.
    Plain,
    /// One with the extension, and all it can record.
    Instrumented,
}

/// The kind of the browser that is started before its first visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrestartKind {
    Chromium,
    Firefox,
}

/// How calls of scripts are captured in Chromium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChromiumCapture {
    /// By Proxies in the page's world: every function, in documents and workers.
    Wrapped,
    /// By breakpoints of the engine on some fifty functions: nothing in a page is replaced.
    Stealth,
}

/// How calls of scripts are captured in Firefox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirefoxCapture {
    /// By functions that the extension's own world lends to pages: hard to tell from natives.
    Exported,
    /// By Proxies in the page's world, as on Chromium.
    Wrapped,
}

impl From<PrestartKind> for BrowserKind {
    fn from(kind: PrestartKind) -> Self {
        match kind {
            PrestartKind::Chromium => Self::Chromium,
            PrestartKind::Firefox => Self::Firefox,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 7402 },
            storage: Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 7401 },
            slots: 1,
            executable: None,
            firefox_executable: None,
            ffmpeg: None,
            geckodriver: None,
            no_sandbox: false,
            trusted_certificates: Vec::new(),
            extension_dir: None,
            run_dir: None,
            profiles_dir: None,
            profiles_max_age: Duration::from_secs(30 * 24 * 3600),
            state_dir: None,
            prestart: Prestart::Instrumented,
            prestart_kind: PrestartKind::Chromium,
            max_visits: 500,
            max_age: Duration::from_secs(6 * 3600),
            memory_limit: 3 << 30,
            memory_hard_limit: 6 << 30,
            memory_every: Duration::from_secs(5),
            spare: false,
            launch_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            chromium_capture: ChromiumCapture::Wrapped,
            firefox_capture: FirefoxCapture::Wrapped,
            testing: false,
            buffer: 32 << 20,
            hooks: HooksConfig::default(),
            cgroup: cgroup::Mode::Auto,
        }
    }
}

/// Why a browser-service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("browser.{key}: {message}")]
    Config { key: &'static str, message: String },
    #[error("browser.state_dir: {0}")]
    StateDir(#[from] sonde_runtime::process::StoreError),
    #[error("browser.run_dir: cannot prepare {dir:?}: {source}; give a directory that can be written to")]
    RunDir { dir: PathBuf, source: std::io::Error },
}

impl Config {
    /// When browsers that work are replaced.
    pub(crate) fn wear(&self) -> Wear {
        Wear {
            max_visits: self.max_visits,
            max_age: self.max_age,
            memory: Memory {
                soft: self.memory_limit,
                hard: self.memory_hard_limit,
                every: self.memory_every,
            },
        }
    }

    /// What serde cannot see.
    ///
    /// # Errors
    /// The first value that is wrong, with what to do about it.
    pub fn check(&self) -> Result<(), StartError> {
        let wrong = |key, message: &str| Err(StartError::Config { key, message: message.to_owned() });
        if !(1..=256).contains(&self.slots) {
            return wrong("slots", "must be 1 to 256");
        }
        if self.max_visits == 0 {
            return wrong("max_visits", "must be 1 or more");
        }
        if self.memory_every < Duration::from_millis(100) {
            return wrong("memory_every", "must be 100ms or more: looking costs time of the kernel");
        }
        if self.memory_hard_limit > 0 && self.memory_hard_limit < self.memory_limit {
            return wrong("memory_hard_limit", "must not be less than memory_limit (0B: none)");
        }
        if rustix::process::geteuid().is_root() && !self.no_sandbox {
            return wrong(
                "no_sandbox",
                "Chromium cannot use its sandbox as root: run the service as another user, or set \
                 SONDE_BROWSER__NO_SANDBOX=true (pages are then less confined, and every crawl's provenance says so)",
            );
        }
        for (key, name, path) in [
            ("executable", "Chromium", &self.executable),
            ("firefox_executable", "Firefox", &self.firefox_executable),
            ("geckodriver", "geckodriver", &self.geckodriver),
            ("ffmpeg", "ffmpeg", &self.ffmpeg),
        ] {
            if let Some(path) = path
                && !path.is_file()
            {
                let message = format!(
                    "there is no {name} at {}: correct the path, or leave it out to have the installed one found",
                    path.display()
                );
                return Err(StartError::Config { key, message });
            }
        }
        if let Some(dir) = &self.extension_dir
            && !dir.join("manifest.json").is_file()
        {
            return wrong("extension_dir", "has no manifest.json: give the directory of the built extension");
        }
        Ok(())
    }
}
