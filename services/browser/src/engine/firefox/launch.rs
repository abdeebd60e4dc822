//! Starting Firefox and its geckodriver, and ending them.
//!
//! Both are children of ours: geckodriver connects to a Firefox that runs, instead of starting it, because a Firefox
//! that it had started would outlive us when we are killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use sonde_proto::visit::v1::ThirdPartyCookies;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::bidi::{self, Bidi, BidiError};
use super::chrome;
use super::driver::{Driver, DriverError};
use super::locate::Programs;
use super::prefs::{self, Choices};
use super::profile::ProfileDir;
use crate::process::{self, EndReason, Exit, Process, ProcessKind, Spawn, SpawnError};

/// For one call that the browser process itself answers.
pub(super) const CALL: Duration = Duration::from_secs(10);
/// For the end of the WebDriver session.
const SESSION_END: Duration = Duration::from_secs(2);

/// How to start a Firefox.
#[derive(Debug, Clone)]
pub(super) struct FirefoxOptions {
    pub programs: Programs,
    pub headless: bool,
    /// Where its windows are shown.
    pub env: Vec<(String, String)>,
    /// Width and height in CSS pixels.
    pub window_size: (u32, u32),
    pub third_party_cookies: ThirdPartyCookies,
    /// As `en-US,en`.
    pub languages: String,
    pub extra_args: Vec<String>,
    /// Certificates to trust, in base64.
    pub trusted: Vec<String>,
    /// A profile that stays; `None`: a new one.
    pub profile: Option<PathBuf>,
    /// Where new profiles are made; also the browser's directory for temporary files.
    pub root: PathBuf,
    /// From the start of the process to its readiness.
    pub deadline: Duration,
}

/// Why no browser came up. Nothing is left behind in any case.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    #[error("the argument {0:?} is ours to give; use the option for it")]
    Argument(String),
    #[error("cannot prepare a profile under {dir:?}: {source}")]
    Profile { dir: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("{program} ended during the start ({exit}); its last words:\n{words}")]
    Exited { program: &'static str, exit: Exit, words: String },
    #[error("{what} did not come within {after:?}; the last words of {program}:\n{words}")]
    Deadline { what: &'static str, after: Duration, program: &'static str, words: String },
    #[error("Firefox told no port of Marionette: {0}")]
    Port(std::io::Error),
    #[error("{error}; the last words of geckodriver:\n{words}")]
    Session { error: DriverError, words: String },
    #[error("geckodriver gave no webSocketUrl: this Firefox has no WebDriver BiDi; use a newer one")]
    NoBidi,
    #[error(transparent)]
    Bidi(#[from] BidiError),
}

/// A running Firefox. End it with [`Running::close`]; a dropped one is killed, and its profile removed as far as then
/// possible.
pub(super) struct Running {
    pub firefox: Process,
    pub geckodriver: Process,
    pub driver: Driver,
    pub bidi: Bidi,
    pub profile: ProfileDir,
    /// The program and all its arguments, for provenance.
    pub command_line: Vec<String>,
    pub prefs: Map<String, Value>,
    /// The origin of our extension in it.
    pub addon_origin: String,
    pub launch_time: Duration,
    /// What the browser said of itself at its set-up.
    pub said: Value,
    _together: AbortOnDropHandle<()>,
}

/// The two processes on their way.
struct Starting {
    firefox: Process,
    geckodriver: Option<Process>,
    profile: ProfileDir,
}

/// A flag of ours: `--set-pref=NAME=JSON`. Firefox has none for preferences.
const SET_PREF: &str = "--set-pref=";

/// Starts Firefox and geckodriver and waits until both answer. Needs a tokio runtime.
pub(super) async fn launch(options: FirefoxOptions) -> Result<Running, LaunchError> {
    const OURS: [&str; 6] =
        ["--profile", "--marionette", "--remote-", "--headless", "--new-instance", "--no-remote"];
    if let Some(ours) = options.extra_args.iter().find(|arg| OURS.iter().any(|o| arg.starts_with(o))) {
        return Err(LaunchError::Argument(ours.clone()));
    }
    let started = Instant::now();
    let addon = uuid::Uuid::new_v4().to_string();
    let mut prefs = prefs::all(&Choices {
        third_party_cookies: options.third_party_cookies,
        languages: &options.languages,
        addon_uuid: &addon,
    });
    for arg in &options.extra_args {
        let Some(pair) = arg.strip_prefix(SET_PREF) else { continue };
        let (name, value) = pair.split_once('=').ok_or_else(|| LaunchError::Argument(arg.clone()))?;
        let value = serde_json::from_str(value).map_err(|_| LaunchError::Argument(arg.clone()))?;
        prefs.insert(name.to_owned(), value);
    }
    let profile = ProfileDir::prepare(&options.root, options.profile.as_deref(), &prefs::user_js(&prefs))
        .map_err(|source| LaunchError::Profile { dir: options.root.clone(), source })?;
    let args = arguments(&options, profile.path());
    let firefox = process::spawn(firefox(&options, &args)).await?;
    let mut starting = Starting { firefox, geckodriver: None, profile };
    match connect(&mut starting, &options, started + options.deadline).await {
        Ok((driver, bidi, said)) => {
            let Starting { firefox, geckodriver, profile } = starting;
            let geckodriver = geckodriver.ok_or(LaunchError::NoBidi)?;
            let launch_time = started.elapsed();
            tracing::debug!(pid = firefox.pid(), ?launch_time, "firefox is up");
            let mut command_line = vec![options.programs.firefox.display().to_string()];
            command_line.extend(args);
            let addon_origin = format!("moz-extension://{addon}");
            // Without geckodriver the browser is of no use, and what waits for it is to end at once.
            let (orphan, driven) = (firefox.clone(), geckodriver.exited());
            let together = tokio::spawn(async move {
                let exit = driven.await;
                orphan.because(EndReason::Terminated, format!("its driver ended ({exit})"));
                orphan.kill();
            });
            Ok(Running {
                firefox,
                geckodriver,
                driver,
                bidi,
                profile,
                command_line,
                prefs,
                addon_origin,
                launch_time,
                said,
                _together: AbortOnDropHandle::new(together),
            })
        }
        Err(error) => {
            starting.end().await;
            Err(error)
        }
    }
}

fn arguments(options: &FirefoxOptions, profile: &Path) -> Vec<String> {
    let (width, height) = options.window_size;
    let mut args = vec![
        "--profile".to_owned(),
        profile.display().to_string(),
        "--no-remote".to_owned(),
        "--marionette".to_owned(),
        "--remote-debugging-port=0".to_owned(),
        "--remote-allow-system-access".to_owned(),
        format!("--width={width}"),
        format!("--height={height}"),
    ];
    if options.headless {
        args.push("--headless".to_owned());
    }
    args.extend(options.extra_args.iter().filter(|arg| !arg.starts_with(SET_PREF)).cloned());
    args
}

fn firefox(options: &FirefoxOptions, args: &[String]) -> Spawn {
    let (width, height) = options.window_size;
    let spec = Spawn::new("firefox", &options.programs.firefox).args(args);
    let shown = options.env.iter().fold(spec, |spec, (name, value)| spec.env(name, value));
    shown
        // Otherwise the dummy address of the remote settings is ignored.
        .env("MOZ_REMOTE_SETTINGS_DEVTOOLS", "1")
        .env("MOZ_CRASHREPORTER_DISABLE", "1")
        .env("MOZ_DISABLE_AUTO_SAFE_MODE", "1")
        // The screen of a browser without one.
        .env("MOZ_HEADLESS_WIDTH", width.to_string())
        .env("MOZ_HEADLESS_HEIGHT", height.to_string())
        .env("TMPDIR", &options.root)
        .kind(ProcessKind::Browser)
}

async fn connect(
    starting: &mut Starting,
    options: &FirefoxOptions,
    deadline: Instant,
) -> Result<(Driver, Bidi, Value), LaunchError> {
    let port = marionette_port(starting, options, deadline).await?;
    let geckodriver = Spawn::new("geckodriver", &options.programs.geckodriver)
        .args(["--port=0", "--connect-existing", "--allow-system-access"])
        .arg(format!("--marionette-port={port}"))
        .arg("--binary")
        .arg(&options.programs.firefox)
        .env("TMPDIR", &options.root)
        .kind(ProcessKind::Driver);
    let geckodriver = process::spawn(geckodriver).await?;
    starting.geckodriver = Some(geckodriver.clone());
    let address = listening(&geckodriver, options, deadline).await?;
    geckodriver.reached_at(&address);
    let left = || deadline.saturating_duration_since(Instant::now());
    let failed = |error| LaunchError::Session { error, words: geckodriver.stdout_tail() };
    let driver = Driver::connect(&address, left()).await.map_err(failed)?;
    let connected = async {
        let url = driver.capability("webSocketUrl").and_then(Value::as_str).ok_or(LaunchError::NoBidi)?;
        let bidi = bidi::connect(url, left()).await?;
        let said = driver.chrome(chrome::START, json!([options.trusted]), left()).await.map_err(failed)?;
        set_up(&bidi, left()).await?;
        Ok((bidi, said))
    };
    match connected.await {
        Ok((bidi, said)) => Ok((driver, bidi, said)),
        Err(error) => {
            driver.close(SESSION_END).await;
            Err(error)
        }
    }
}

async fn marionette_port(
    starting: &Starting,
    options: &FirefoxOptions,
    deadline: Instant,
) -> Result<u16, LaunchError> {
    let program = "Firefox";
    tokio::select! {
        port = timeout_at(deadline, starting.profile.marionette_port()) => match port {
            Ok(port) => port.map_err(LaunchError::Port),
            Err(_) => {
                let (after, words) = (options.deadline, starting.firefox.stderr_tail());
                Err(LaunchError::Deadline { what: "Marionette's port", after, program, words })
            }
        },
        (exit, _) = starting.firefox.wait_gone() => {
            Err(LaunchError::Exited { program, exit, words: starting.firefox.stderr_tail() })
        }
    }
}

/// The address that geckodriver listens at, as it says itself.
async fn listening(
    geckodriver: &Process,
    options: &FirefoxOptions,
    deadline: Instant,
) -> Result<String, LaunchError> {
    let address = |text: &str| {
        let rest = text.split_once("Listening on ")?.1;
        // Without the end of the line there may be more to come.
        Some(rest.split_once('\n')?.0.trim().to_owned())
    };
    let program = "geckodriver";
    let words = || geckodriver.stdout_tail() + &geckodriver.stderr_tail();
    match timeout_at(deadline, geckodriver.stdout_shows(address)).await {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(LaunchError::Exited { program, exit: geckodriver.wait().await, words: words() }),
        Err(_) => {
            let (what, after) = ("its address", options.deadline);
            Err(LaunchError::Deadline { what, after, program, words: words() })
        }
    }
}

/// What holds for all visits.
async fn set_up(bidi: &Bidi, deadline: Duration) -> Result<(), BidiError> {
    const EVENTS: &[&str] = &[
        "browsingContext.contextCreated",
        "browsingContext.contextDestroyed",
        "browsingContext.domContentLoaded",
        "browsingContext.downloadEnd",
        "browsingContext.downloadWillBegin",
        "browsingContext.fragmentNavigated",
        "browsingContext.historyUpdated",
        "browsingContext.load",
        "browsingContext.navigationCommitted",
        "browsingContext.navigationFailed",
        "browsingContext.navigationStarted",
    ];
    let denied = json!({"downloadBehavior": {"type": "denied"}});
    let (events, downloads) = tokio::join!(
        bidi.call("session.subscribe", json!({"events": EVENTS}), deadline),
        bidi.call("browser.setDownloadBehavior", denied, deadline),
    );
    events.and(downloads).map(drop)
}

impl Starting {
    async fn end(self) {
        let Self { firefox, geckodriver, profile } = self;
        for process in std::iter::once(&firefox).chain(&geckodriver) {
            process.because(EndReason::Terminated, "the browser did not come up");
        }
        end(&firefox, geckodriver.as_ref(), Duration::ZERO).await;
        remove(&profile);
    }
}

impl Running {
    /// Ends both processes with all that belongs to them, and removes the profile unless it was given.
    pub async fn close(&self, grace: Duration) {
        for process in [&self.firefox, &self.geckodriver] {
            process.because(EndReason::Terminated, "its browser was closed");
        }
        self.driver.close(SESSION_END.min(grace)).await;
        end(&self.firefox, Some(&self.geckodriver), grace).await;
        remove(&self.profile);
    }

    /// Has Firefox end by itself, as a user does: it writes what it has. Says whether it did.
    pub async fn quit(&self, grace: Duration) -> bool {
        let told: Result<Value, _> = self.driver.chrome(chrome::QUIT, json!([]), grace).await;
        if let Err(error) = told {
            tracing::debug!(%error, "firefox was not told to quit");
        }
        let exit = tokio::time::timeout(grace, self.firefox.wait()).await;
        matches!(exit, Ok(Exit { code: Some(0), .. }))
    }
}

async fn end(firefox: &Process, geckodriver: Option<&Process>, grace: Duration) {
    let other = async {
        match geckodriver {
            Some(geckodriver) => Some(geckodriver.terminate(grace).await),
            None => None,
        }
    };
    let (ended, other) = tokio::join!(firefox.terminate(grace), other);
    for ended in std::iter::once(ended).chain(other) {
        if !ended.sweep.survivors.is_empty() {
            tracing::error!(survivors = ?ended.sweep.survivors, "a browser left processes behind");
        }
    }
}

fn remove(profile: &ProfileDir) {
    if let Err(error) = profile.remove() {
        tracing::warn!(dir = ?profile.path(), %error, "a browser profile could not be removed");
    }
}
