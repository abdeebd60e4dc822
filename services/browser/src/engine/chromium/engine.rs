//! Chromium as an [`Engine`]: launching, what it is, and its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use sonde_proto::visit::v1::{Failure, ThirdPartyCookies};

use super::cdp::{AutoAttach, Connection, Filter};
use super::http::RequestIds;
use super::launch::{self, ChromiumOptions};
use super::visit::{self, Setups};
use crate::config::{Config, StartError};
use crate::engine::{Browser, BrowserFacts, Engine, LaunchFailure, LaunchSpec, Visit, VisitSetup};

/// For one DevTools call that the browser process itself answers.
pub(super) const CALL: Duration = Duration::from_secs(10);

/// Starts Chromium browsers.
pub struct Chromium {
    executable: Option<PathBuf>,
    no_sandbox: bool,
    launch_timeout: Duration,
    run_dir: PathBuf,
}

impl Chromium {
    /// # Errors
    /// When the directory for profiles cannot be made.
    pub fn new(config: &Config) -> Result<Self, StartError> {
        let run_dir = config.run_dir.clone();
        let run_dir =
            run_dir.unwrap_or_else(|| std::env::temp_dir().join(format!("sonde-{}", std::process::id())));
        std::fs::create_dir_all(&run_dir)
            .map_err(|source| StartError::RunDir { dir: run_dir.clone(), source })?;
        Ok(Self {
            executable: config.executable.clone(),
            no_sandbox: config.no_sandbox,
            launch_timeout: config.launch_timeout,
            run_dir,
        })
    }

    async fn start(&self, spec: LaunchSpec) -> Result<Arc<dyn Browser>, LaunchFailure> {
        let options = ChromiumOptions {
            executable: self.executable.clone(),
            headless: !spec.headed,
            no_sandbox: self.no_sandbox,
            profile_root: Some(self.run_dir.clone()),
            window_size: spec.window,
            third_party_cookies: match spec.third_party_cookies {
                ThirdPartyCookies::Never => launch::ThirdPartyCookies::Never,
                _ => launch::ThirdPartyCookies::Always,
            },
            languages: spec.languages.clone(),
            // Prompts would wait for ever.
            extra_args: [vec!["--deny-permission-prompts".to_owned()], spec.extra_flags.clone()].concat(),
            deadline: self.launch_timeout,
            ..ChromiumOptions::default()
        };
        let browser = launch::launch(options).await.map_err(|e| LaunchFailure { message: e.to_string() })?;
        let failed =
            |what: &str, e: &dyn std::fmt::Display| LaunchFailure { message: format!("{what}: {e}") };
        let connection = browser.connection().clone();
        let setups = Setups::default();
        let hook = setups.clone();
        let attach = AutoAttach::new(move |info| hook.commands(info));
        connection
            .auto_attach(attach, CALL)
            .await
            .map_err(|e| failed("attaching to the browser's targets", &e))?;
        let facts = self.facts(&browser, &spec);
        Ok(Arc::new(Running {
            connection,
            exited: browser.process().clone(),
            browser: Mutex::new(Some(browser)),
            facts,
            setups,
            ids: RequestIds::default(),
        }))
    }

    fn facts(&self, browser: &launch::Browser, spec: &LaunchSpec) -> BrowserFacts {
        let version = browser.version();
        let provenance = json!({
            "product": version.product,
            "revision": version.revision,
            "protocol": version.protocol,
            "user_agent": version.user_agent,
            "js_version": version.js,
            "executable": browser.command_line().first(),
            "flags": browser.command_line().get(1..),
            "sandbox": !self.no_sandbox,
            "headless": !spec.headed,
            "window": [spec.window.0, spec.window.1],
            "languages": spec.languages,
            "third_party_cookies": match spec.third_party_cookies {
                ThirdPartyCookies::Never => "never",
                _ => "always",
            },
            "launch_ms": u64::try_from(browser.launch_time().as_millis()).unwrap_or(u64::MAX),
            "extension": serde_json::Value::Null,
        });
        BrowserFacts {
            pid: browser.pid(),
            provenance: provenance.to_string(),
            capabilities: capabilities(spec.extension),
        }
    }
}

/// Field groups that this engine can observe.
fn capabilities(extension: bool) -> BTreeMap<String, String> {
    const DEVTOOLS: &[&str] = &[
        "http.requests",
        "http.responses",
        "http.redirects",
        "http.failures",
        "http.bodies",
        "http.post_bodies",
        "http.tls",
        "http.timings",
        "http.initiators",
        "http.callstacks",
        "http.websocket_frames",
        "cookies.http",
        "cookies.snapshots",
        "cookies.partitioned",
    ];
    const EXTENSION: &[&str] =
        &["cookies.script", "javascript.calls", "javascript.callstacks", "navigations"];
    const UNSUPPORTED: &[&str] = &[
        "cookies.changes",
        "dns.addresses",
        "dns.canonical_names",
        "javascript.workers",
        "navigations.window_sizes",
    ];
    let state = |names: &[&str], state: &str| -> Vec<(String, String)> {
        names.iter().map(|n| ((*n).to_owned(), state.to_owned())).collect()
    };
    let by_extension = if extension { "observed" } else { "off" };
    let all =
        [state(DEVTOOLS, "observed"), state(EXTENSION, by_extension), state(UNSUPPORTED, "unsupported")];
    all.into_iter().flatten().collect()
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
    browser: Mutex<Option<launch::Browser>>,
    facts: BrowserFacts,
    pub setups: Setups,
    pub ids: RequestIds,
}

impl Browser for Running {
    fn facts(&self) -> &BrowserFacts {
        &self.facts
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
            let Some(browser) = browser else { return };
            let closed = browser.close(grace).await;
            if !closed.process.sweep.survivors.is_empty() {
                tracing::error!(survivors = ?closed.process.sweep.survivors, "a browser left processes behind");
            }
        })
    }
}
