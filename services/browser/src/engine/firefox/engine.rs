//! Firefox as an [`Engine`]: launching, what it is, and its end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, CaptureMode, Failure, ThirdPartyCookies};

use super::bidi::Bidi;
use super::capabilities;
use super::driver::{Driver, DriverError};
use super::kept;
use super::launch::{self, FirefoxOptions};
use super::locate::{self, Programs};
use super::visit;
use crate::config::{Config, FirefoxCapture};
use crate::engine::extension::{Extension, ExtensionError, Prepared};
use crate::engine::profiles::Profile;
use crate::engine::screen::{Display, Screen};
use crate::engine::shared::Shared;
use crate::engine::{
    Browser, BrowserFacts, Engine, LaunchFailure, LaunchSpec, PRESENTATION, Visit, VisitSetup,
};
use crate::process::{ProcessInfo, cgroup};
use crate::relay::Capture;
use crate::uplink::Uplink;

/// Starts Firefox browsers.
pub struct Firefox {
    firefox: Option<PathBuf>,
    geckodriver: Option<PathBuf>,
    capture: Capture,
    shared: Arc<Shared>,
}

impl Firefox {
    /// The programs are looked for when a browser is started.
    pub(in crate::engine) fn new(config: &Config, shared: Arc<Shared>) -> Self {
        Self {
            firefox: config.firefox_executable.clone(),
            geckodriver: config.geckodriver.clone(),
            capture: match config.firefox_capture {
                FirefoxCapture::Exported => Capture::Exported,
                FirefoxCapture::Wrapped => Capture::Wrapped,
            },
            shared,
        }
    }

    fn capture(&self, spec: &LaunchSpec) -> Capture {
        match spec.extension.as_ref().map(|scripts| scripts.capture) {
            Some(CaptureMode::Wrapped) => Capture::Wrapped,
            Some(CaptureMode::Exported) => Capture::Exported,
            _ => self.capture,
        }
    }

    fn programs(&self) -> Result<Programs, locate::LocateError> {
        locate::locate(self.firefox.as_deref(), self.geckodriver.as_deref())
    }

    async fn start(&self, spec: LaunchSpec) -> Result<Arc<dyn Browser>, LaunchFailure> {
        let failed =
            |what: &str, e: &dyn std::fmt::Display| LaunchFailure { message: format!("{what}: {e}") };
        let profile = self.shared.profile(&spec).await?;
        let screen = self.shared.screen(&spec).await?;
        let options = FirefoxOptions {
            programs: self.programs().map_err(|e| LaunchFailure { message: e.to_string() })?,
            headless: spec.display == Display::Headless,
            env: screen.env.clone(),
            window_size: spec.window,
            third_party_cookies: spec.third_party_cookies,
            languages: spec.languages.clone(),
            extra_args: spec.extra_flags.clone(),
            trusted: self.shared.trusted.base64(),
            profile: profile.as_ref().map(|profile| profile.dir.clone()),
            root: self.shared.run_dir.path().to_owned(),
            deadline: self.shared.launch_timeout,
        };
        let programs = options.programs.clone();
        let preparing = async {
            match (&spec.extension, &self.shared.extension) {
                (Some(scripts), Ok(source)) => {
                    let (dir, testing) = (self.shared.run_dir.path(), self.shared.testing);
                    Prepared::new(source, dir, scripts, self.capture(&spec), true, testing).await.map(Some)
                }
                _ => Ok(None),
            }
        };
        let (browser, prepared) = tokio::join!(launch::launch(options), preparing);
        let browser = browser.map_err(|e| LaunchFailure { message: e.to_string() })?;
        if let Some(profile) = &profile
            && let Err(error) = kept::restore(profile, &browser.driver, launch::CALL).await
        {
            browser.close(launch::CALL).await;
            return Err(failed("bringing the profile's cookies back", &error));
        }
        let loaded = match prepared {
            Ok(Some(prepared)) => load(prepared, &browser, self.shared.uplink.clone()).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let extension = match loaded {
            Ok(extension) => extension,
            Err(error) => {
                browser.close(launch::CALL).await;
                return Err(failed("the extension", &error));
            }
        };
        let facts = self.facts(&browser, &programs, &spec, extension.as_ref(), profile.as_ref());
        let missing = self.shared.extension.as_ref().err().filter(|_| spec.extension.is_some()).cloned();
        Ok(Arc::new(Running {
            bidi: browser.bidi.clone(),
            exits: [browser.firefox.clone(), browser.geckodriver.clone()],
            extension: extension.ok_or(missing),
            facts,
            browser: Mutex::new(Some(Arc::new(browser))),
            screen,
            profile,
            shared: self.shared.clone(),
        }))
    }

    fn facts(
        &self,
        browser: &launch::Running,
        programs: &Programs,
        spec: &LaunchSpec,
        extension: Option<&Extension>,
        profile: Option<&Profile>,
    ) -> BrowserFacts {
        let capability = |name: &str| browser.driver.capability(name).cloned().unwrap_or(Value::Null);
        let version = capability("browserVersion");
        let provenance = json!({
            "product": format!("Firefox/{}", version.as_str().unwrap_or("unknown")),
            "user_agent": capability("userAgent"),
            "geckodriver": capability("moz:geckodriverVersion"),
            "geckodriver_executable": programs.geckodriver,
            "platform": capability("platformName"),
            "executable": browser.command_line.first(),
            "flags": browser.command_line.get(1..),
            "prefs": browser.prefs,
            "said": browser.said,
            "sandbox": browser.said["sandbox_level"].as_i64().is_some_and(|level| level > 0),
            "trusted_certificates": self.shared.trusted.fingerprints(),
            "headless": spec.display == Display::Headless,
            "display": spec.display.name(),
            "cgroup": cgroup::described(),
            "profile": Profile::provenance(profile),
            "window": [spec.window.0, spec.window.1],
            "languages": spec.languages,
            "third_party_cookies": match spec.third_party_cookies {
                ThirdPartyCookies::Never => "never",
                ThirdPartyCookies::FromVisited => "from_visited",
                ThirdPartyCookies::Always | ThirdPartyCookies::Unspecified => "always",
            },
            "presentation": PRESENTATION,
            "isolation": "user context; HSTS is forgotten before each visit",
            "launch_ms": u64::try_from(browser.launch_time.as_millis()).unwrap_or(u64::MAX),
            "extension": extension.map(|e| json!({
                "id": e.id,
                "version": e.facts.version,
                "hash": e.facts.hash,
                "javascript_testing": self.shared.testing,
                "public_suffix_list": e.public_suffix_list,
                "javascript_capture": self.capture(spec).name(),
            })),
        });
        BrowserFacts {
            pid: browser.firefox.pid(),
            provenance: provenance.to_string(),
            capabilities: capabilities::of(spec.extension.as_ref(), extension.is_some()),
        }
    }
}

async fn load(
    prepared: Prepared,
    browser: &launch::Running,
    uplink: Uplink,
) -> Result<Extension, ExtensionError> {
    let origin = browser.addon_origin.as_str();
    let loading = |dir: PathBuf, within| async move {
        let installed = browser.driver.install_addon(&dir, within).await;
        installed.map(|_| origin.to_owned()).map_err(|error| error.to_string())
    };
    prepared.load(uplink, Some(origin), loading).await
}

impl Engine for Firefox {
    fn kinds(&self) -> Vec<BrowserKind> {
        match self.programs() {
            Ok(_) => vec![BrowserKind::Firefox],
            Err(error) => {
                tracing::debug!(%error, "there is no firefox here");
                Vec::new()
            }
        }
    }

    fn launch(
        self: Arc<Self>,
        spec: LaunchSpec,
    ) -> BoxFuture<'static, Result<Arc<dyn Browser>, LaunchFailure>> {
        Box::pin(async move { self.start(spec).await })
    }
}

/// A Firefox that runs.
pub(super) struct Running {
    pub bidi: Bidi,
    /// Firefox and geckodriver.
    exits: [crate::process::Process; 2],
    browser: Mutex<Option<Arc<launch::Running>>>,
    screen: Screen,
    facts: BrowserFacts,
    /// Or why there is none though it is needed.
    pub extension: Result<Extension, Option<String>>,
    /// Visits run in the browser's own profile, not in user contexts of their own.
    pub profile: Option<Profile>,
    /// Its directories go after the browser.
    pub(super) shared: Arc<Shared>,
}

impl Running {
    /// Notes the cookies of the browser's own profile.
    pub async fn save_kept(&self, deadline: Duration) -> Result<(), String> {
        let browser = self.browser.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(profile), Some(browser)) = (&self.profile, browser) else {
            return Err("the browser is closed".to_owned());
        };
        kept::save(profile, &browser.driver, deadline).await.map_err(|error| error.to_string())
    }

    /// After a visit in the browser's own profile: what was opened beside the tabs of before goes.
    pub async fn end_kept(&self, before: &[String], deadline: Duration) -> Result<(), String> {
        let browser = self.browser.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(profile), Some(browser)) = (&self.profile, browser) else {
            return Err("the browser is closed".to_owned());
        };
        let ended = kept::end_visit(profile, &self.bidi, &browser.driver, before, deadline).await;
        ended.map_err(|error| error.to_string())
    }

    /// Runs a script in the browser's own context; see [`super::chrome`].
    pub async fn chrome<T: serde::de::DeserializeOwned>(
        &self,
        script: (&'static str, &'static str),
        arguments: Value,
        deadline: Duration,
    ) -> Result<T, DriverError> {
        let browser = self.browser.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match browser {
            Some(browser) => {
                let driver: &Driver = &browser.driver;
                driver.chrome(script, arguments, deadline).await
            }
            None => Err(DriverError::Failed { what: script.0, message: "the browser is closed".to_owned() }),
        }
    }
}

impl Browser for Running {
    fn facts(&self) -> &BrowserFacts {
        &self.facts
    }

    fn processes(&self) -> Vec<ProcessInfo> {
        self.exits.iter().map(|process| process.info().clone()).collect()
    }

    fn died(&self) -> BoxFuture<'static, String> {
        let [firefox, geckodriver] = &self.exits;
        let (firefox, geckodriver, bidi) = (firefox.exited(), geckodriver.exited(), self.bidi.closed());
        Box::pin(async move {
            tokio::select! {
                biased;
                exit = firefox => format!("the browser process ended ({exit})"),
                exit = geckodriver => format!("geckodriver ended ({exit})"),
                why = bidi => format!("the connection to the browser ended ({why})"),
            }
        })
    }

    fn open_visit(self: Arc<Self>, setup: VisitSetup) -> BoxFuture<'static, Result<Box<dyn Visit>, Failure>> {
        Box::pin(visit::open(self, setup))
    }

    fn close(self: Arc<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        let browser = self.browser.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            // Its directories go after its processes.
            let this = self;
            if let Some(browser) = browser {
                if let Some(profile) = &this.profile
                    && browser.quit(grace).await
                {
                    profile.ended_well();
                }
                browser.close(grace).await;
                this.screen.close(grace).await;
            }
        })
    }
}
