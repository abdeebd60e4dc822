//! Chromium as an [`Engine`]: launching, what it is, and its end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use sonde_proto::js_settings::JsSettings;
use sonde_proto::visit::v1::{CaptureMode, Failure, ThirdPartyCookies};

use super::capabilities::{self, Launched};
use super::cdp::{AutoAttach, Connection, Filter, RawCommand, SessionInfo};
use super::http::{PUBLIC_SUFFIX_LIST, RequestIds};
use super::kept::Kept;
use super::launch::{self, ChromiumOptions};
use super::stealth::StealthSource;
use super::strangers::{self, keep_strangers};
use super::visit::{self, Setups};
use super::workers::HookSource;
use crate::config::{ChromiumCapture, Config};
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

/// For one DevTools call that the browser process itself answers.
pub(super) const CALL: Duration = Duration::from_secs(10);

/// Starts Chromium browsers.
pub struct Chromium {
    executable: Option<PathBuf>,
    no_sandbox: bool,
    capture: Capture,
    shared: Arc<Shared>,
}

impl Chromium {
    pub(in crate::engine) fn new(config: &Config, shared: Arc<Shared>) -> Self {
        Self {
            executable: config.executable.clone(),
            no_sandbox: config.no_sandbox,
            capture: match config.chromium_capture {
                ChromiumCapture::Wrapped => Capture::Wrapped,
                ChromiumCapture::Stealth => Capture::Stealth,
            },
            shared,
        }
    }

    fn capture(&self, spec: &LaunchSpec) -> Capture {
        match spec.extension.as_ref().map(|scripts| scripts.capture) {
            Some(CaptureMode::Wrapped) => Capture::Wrapped,
            Some(CaptureMode::Stealth) => Capture::Stealth,
            _ => self.capture,
        }
    }

    async fn start(&self, spec: LaunchSpec) -> Result<Arc<dyn Browser>, LaunchFailure> {
        let profile = self.shared.profile(&spec).await?;
        let screen = self.shared.screen(&spec).await?;
        // What a killed browser leaves among the temporary files goes with our directory.
        let temporary = self.shared.run_dir.for_sockets().map(|dir| ("TMPDIR".to_owned(), dir));
        let options = ChromiumOptions {
            executable: self.executable.clone(),
            headless: spec.display == Display::Headless,
            no_sandbox: self.no_sandbox,
            profile_dir: profile.as_ref().map(|profile| profile.dir.clone()),
            profile_root: Some(self.shared.run_dir.path().to_owned()),
            window_size: spec.window,
            third_party_cookies: match spec.third_party_cookies {
                ThirdPartyCookies::Never => launch::ThirdPartyCookies::Never,
                _ => launch::ThirdPartyCookies::Always,
            },
            languages: spec.languages.clone(),
            extra_args: spec.extra_flags.iter().cloned().chain(self.shared.trusted.chromium_flag()).collect(),
            env: screen.env.iter().cloned().chain(temporary).collect(),
            deadline: self.shared.launch_timeout,
            ..ChromiumOptions::default()
        };
        let capture = self.capture(&spec);
        let prepared = match (&spec.extension, &self.shared.extension) {
            (Some(scripts), Ok(source)) => Some(Prepared::new(
                source,
                self.shared.run_dir.path(),
                scripts,
                capture,
                false,
                self.shared.testing,
            )),
            _ => None,
        };
        let prepared = async {
            match prepared {
                Some(preparing) => preparing.await.map(Some),
                None => Ok(None),
            }
        };
        let (browser, prepared) = tokio::join!(launch::launch(options), prepared);
        let browser = browser.map_err(|e| LaunchFailure { message: e.to_string() })?;
        let failed =
            |what: &str, e: &dyn std::fmt::Display| LaunchFailure { message: format!("{what}: {e}") };
        let connection = browser.connection().clone();
        let setups = Setups::default();
        let hook = setups.clone();
        let attach =
            AutoAttach::new(move |info| hook.commands(info).unwrap_or_else(|| stranger_commands(info)));
        let known = setups.clone();
        let outside = Filter::outside(move |context| known.knows(context));
        let events = connection.subscribe(outside.methods(strangers::METHODS.iter().copied()));
        tokio::spawn(keep_strangers(events, self.shared.uplink.clone()));
        connection
            .auto_attach(attach, CALL)
            .await
            .map_err(|e| failed("attaching to the browser's targets", &e))?;
        let kept = match profile {
            Some(profile) => match Kept::restore(profile, &connection, CALL).await {
                Ok(kept) => Some(kept),
                Err(error) => {
                    browser.close(CALL).await;
                    return Err(failed("bringing the profile's cookies back", &error));
                }
            },
            None => None,
        };
        let extension = match prepared.map_err(|e| failed("preparing the extension", &e))? {
            Some(prepared) => match load(prepared, &browser, self.shared.uplink.clone()).await {
                Ok(extension) => Some(extension),
                Err(error) => {
                    browser.close(CALL).await;
                    return Err(failed("loading the extension", &error));
                }
            },
            None => None,
        };
        let (mut worker_hooks, mut stealth) = (None, None);
        if let (Some(scripts), Ok(source)) = (&spec.extension, &self.shared.extension)
            && scripts.javascript
        {
            if capture == Capture::Stealth {
                let loaded = StealthSource::load(source, scripts).await;
                stealth = Some(loaded.map_err(|e| failed("preparing the instrument of documents", &e))?);
            } else {
                let loaded = HookSource::load(source, scripts).await;
                worker_hooks = Some(loaded.map_err(|e| failed("preparing the instrument of workers", &e))?);
            }
        }
        let profile = kept.as_ref().map(|kept| &kept.profile);
        let facts = self.facts(&browser, &spec, extension.as_ref(), profile);
        let proxied = is_proxied(&spec.extra_flags);
        let missing = self.shared.extension.as_ref().err().filter(|_| spec.extension.is_some()).cloned();
        Ok(Arc::new(Running {
            extension: extension.ok_or(missing),
            shared: self.shared.clone(),
            connection,
            exited: browser.process().clone(),
            browser: Mutex::new(Some((browser, screen))),
            facts,
            setups,
            worker_hooks,
            stealth,
            proxied,
            ids: RequestIds::default(),
            kept,
        }))
    }

    fn facts(
        &self,
        browser: &launch::Browser,
        spec: &LaunchSpec,
        extension: Option<&Extension>,
        profile: Option<&Profile>,
    ) -> BrowserFacts {
        let version = browser.version();
        let capture = self.capture(spec);
        let provenance = json!({
            "product": version.product,
            "revision": version.revision,
            "protocol": version.protocol,
            "user_agent": version.user_agent,
            "js_version": version.js,
            "executable": browser.command_line().first(),
            "flags": browser.command_line().get(1..),
            "sandbox": !self.no_sandbox,
            "trusted_certificates": self.shared.trusted.fingerprints(),
            "headless": spec.display == Display::Headless,
            "display": spec.display.name(),
            "cgroup": cgroup::described(),
            "profile": Profile::provenance(profile),
            "window": [spec.window.0, spec.window.1],
            "languages": spec.languages,
            "third_party_cookies": match spec.third_party_cookies {
                ThirdPartyCookies::Never => "never",
                _ => "always",
            },
            "public_suffix_list": PUBLIC_SUFFIX_LIST,
            "presentation": PRESENTATION,
            "http_authentication": "challenges are not answered: the page gets their 401 responses",
            "debugger": match capture {
                Capture::Stealth => "on; it pauses at the start of each document and at `debugger` statements",
                _ => "on where scripts or HTTP are recorded; it skips all pauses",
            },
            "launch_ms": u64::try_from(browser.launch_time().as_millis()).unwrap_or(u64::MAX),
            "extension": extension.map(|e| json!({
                "id": e.id,
                "version": e.facts.version,
                "hash": e.facts.hash,
                "javascript_capture": capture.name(),
                "javascript_testing": self.shared.testing,
            })),
        });
        BrowserFacts {
            pid: browser.pid(),
            provenance: provenance.to_string(),
            capabilities: capabilities::of(&Launched {
                scripts: spec.extension.as_ref(),
                extension: extension.is_some(),
                proxied: is_proxied(&spec.extra_flags),
                stealth: capture == Capture::Stealth,
            }),
        }
    }
}

async fn load(
    prepared: Prepared,
    browser: &launch::Browser,
    uplink: Uplink,
) -> Result<Extension, ExtensionError> {
    let loading = |dir: PathBuf, within| async move {
        browser.load_extension(&dir, within).await.map_err(|error| error.to_string())
    };
    prepared.load(uplink, None, loading).await
}

/// Of targets of no visit: their requests are kept, as belonging to none.
fn stranger_commands(info: &SessionInfo) -> Vec<RawCommand> {
    match &*info.kind {
        "page" | "iframe" | "worker" | "shared_worker" | "service_worker" => {
            vec![RawCommand::new("Network.enable", json!({}))]
        }
        _ => Vec::new(),
    }
}

/// Whether flags send the browser's requests to a proxy.
fn is_proxied(flags: &[String]) -> bool {
    const PROXY: &[&str] = &["--proxy-server=", "--proxy-pac-url=", "--proxy-auto-detect"];
    flags.iter().any(|flag| PROXY.iter().any(|proxy| flag.starts_with(proxy)))
}

impl Engine for Chromium {
    fn launch(
        self: Arc<Self>,
        spec: LaunchSpec,
    ) -> BoxFuture<'static, Result<Arc<dyn Browser>, LaunchFailure>> {
        Box::pin(async move { self.start(spec).await })
    }
}

/// A Chromium that runs.
pub(super) struct Running {
    pub connection: Connection,
    exited: crate::process::Process,
    browser: Mutex<Option<(launch::Browser, Screen)>>,
    facts: BrowserFacts,
    /// Or why there is none though it is needed.
    pub extension: Result<Extension, Option<String>>,
    pub setups: Setups,
    /// For workers; `None` where no JavaScript is recorded.
    pub worker_hooks: Option<HookSource>,
    /// For documents; `None` where the extension records their calls, or nobody.
    pub stealth: Option<StealthSource>,
    /// Its requests go to a proxy.
    pub proxied: bool,
    pub ids: RequestIds,
    /// Visits run in the browser's own profile, not in contexts of their own.
    pub kept: Option<Kept>,
    /// Its directories go after the browser.
    pub(super) shared: Arc<Shared>,
}

impl Running {
    /// Which calls are recorded; `None`: none are.
    pub fn js_settings(&self) -> Option<&JsSettings> {
        let of_documents = self.stealth.as_ref().map(StealthSource::settings);
        of_documents.or_else(|| self.worker_hooks.as_ref().map(HookSource::settings))
    }
}

impl Browser for Running {
    fn facts(&self) -> &BrowserFacts {
        &self.facts
    }

    fn processes(&self) -> Vec<ProcessInfo> {
        vec![self.exited.info().clone()]
    }

    fn died(&self) -> BoxFuture<'static, String> {
        let exited = self.exited.exited();
        // The pipe can end first, and the browser is of no use without it. A subscription ends with the
        // connection, and does not hold it open.
        let mut events = self.connection.subscribe(Filter::contexts([]));
        Box::pin(async move {
            tokio::select! {
                exit = exited => format!("the browser process ended ({exit})"),
                () = async { while events.recv().await.is_some() {} } => {
                    "the connection to the browser ended".to_owned()
                }
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
            let Some((browser, screen)) = browser else { return };
            let closed = browser.close(grace).await;
            if let Some(kept) = &this.kept
                && closed.process.exit.code == Some(0)
            {
                kept.profile.ended_well();
            }
            screen.close(grace).await;
            if !closed.process.sweep.survivors.is_empty() {
                tracing::error!(survivors = ?closed.process.sweep.survivors, "a browser left processes behind");
            }
        })
    }
}
