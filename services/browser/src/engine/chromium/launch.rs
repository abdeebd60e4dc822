//! Starting Chromium for measurement, and ending it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::browser::{GetVersionParams, GetVersionReturns};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Deserialize;
use serde_json::json;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::cdp::{
    CallError, CloseReason, Connection, ConnectionOptions, ContextId, HookFailure, RawCommand, SessionInfo,
    TargetId,
};
use super::flags;
use super::profile::{self, ProfileDir};
use crate::process::{self, EndReason, Process, ProcessKind, Spawn, SpawnError, Terminated};

/// Whether cookies of third parties are kept. Chromium's own default blocks some (SameSite=None without
/// Partitioned) in headless mode, so a measurement has to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThirdPartyCookies {
    #[default]
    Always,
    Never,
}

/// How to start a Chromium.
#[derive(Debug, Clone)]
pub struct ChromiumOptions {
    /// `None`: the first found of [`EXECUTABLES`].
    pub executable: Option<PathBuf>,
    pub headless: bool,
    /// Needed as root. Never a default: it belongs into the provenance of a crawl.
    pub no_sandbox: bool,
    /// `None`: a new one under `profile_root`, removed at the end. A given one is made if need be, and kept.
    pub profile_dir: Option<PathBuf>,
    /// Where new profiles are made; `None`: the system's directory for temporary files.
    pub profile_root: Option<PathBuf>,
    /// For the whole process, as `--proxy-server` takes it. Contexts can have their own.
    pub proxy: Option<Proxy>,
    /// Width and height in CSS pixels.
    pub window_size: (u32, u32),
    pub third_party_cookies: ThirdPartyCookies,
    /// For `Accept-Language` and `navigator.languages`, as `en-US,en`; the first is the browser's own.
    pub languages: String,
    /// Merged with ours: feature lists are joined, anything else goes last.
    pub extra_args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// From the start of the process to its answer.
    pub deadline: Duration,
    pub connection: ConnectionOptions,
}

impl Default for ChromiumOptions {
    fn default() -> Self {
        Self {
            executable: None,
            headless: true,
            no_sandbox: false,
            profile_dir: None,
            profile_root: None,
            proxy: None,
            window_size: (1366, 768),
            third_party_cookies: ThirdPartyCookies::default(),
            languages: "en-US,en".into(),
            extra_args: Vec::new(),
            env: Vec::new(),
            deadline: Duration::from_secs(30),
            connection: ConnectionOptions::default(),
        }
    }
}

/// A proxy for a process or a context. Chromium sends loopback names around any proxy unless `bypass`
/// says `<-loopback>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `http://host:port`, `socks5://host:port`.
    pub server: String,
    pub bypass: Option<String>,
}

/// Where Chromium is looked for, in this order; names without a slash in `PATH`. The real binary comes
/// before Debian's wrapper script, which adds flags of its own.
pub const EXECUTABLES: &[&str] = &[
    "/usr/lib/chromium/chromium",
    "/usr/lib/chromium-browser/chromium-browser",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// Why no browser came up. Nothing is left behind in any case.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(
        "no Chromium found; searched {}. Install one (Debian: apt install chromium) or name it by the \
         `executable` option", .searched.join(", ")
    )]
    NotFound { searched: Vec<String> },
    #[error("cannot prepare the profile directory {dir:?}: {source}")]
    Profile { dir: PathBuf, source: std::io::Error },
    #[error("the argument {0:?} is ours to give; use the option for it")]
    Argument(String),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("cannot make the DevTools pipe: {0}")]
    Pipe(std::io::Error),
    #[error("Chromium ended during its start ({exit}){hint}; its last words:\n{stderr}")]
    Exited { exit: process::Exit, hint: &'static str, stderr: String },
    #[error("Chromium did not answer within {after:?}; its last words:\n{stderr}")]
    Deadline { after: Duration, stderr: String },
    #[error("Chromium refused its first command: {error}; its last words:\n{stderr}")]
    Refused { error: CallError, stderr: String },
}

/// Which Chromium runs.
#[derive(Debug, Clone)]
pub struct Version {
    /// `Chrome/156.0.8078.79`.
    pub product: String,
    pub revision: String,
    pub protocol: String,
    pub user_agent: String,
    pub js: String,
}

impl From<GetVersionReturns> for Version {
    fn from(v: GetVersionReturns) -> Self {
        let GetVersionReturns { protocol_version, product, revision, user_agent, js_version } = v;
        Self { product, revision, protocol: protocol_version, user_agent, js: js_version }
    }
}

/// A running Chromium. End it with [`Browser::close`]; a dropped one is killed, and its profile removed as
/// far as then possible.
#[derive(Debug)]
pub struct Browser {
    connection: Connection,
    process: Process,
    version: Version,
    launch_time: Duration,
    profile: ProfileDir,
    command_line: Vec<String>,
}

/// A page and its session, set up.
#[derive(Debug, Clone)]
pub struct Page {
    pub target_id: TargetId,
    pub session: Arc<SessionInfo>,
    /// Set-up commands of its session that failed.
    pub hook_failures: Vec<Arc<HookFailure>>,
    /// Why its first document did not load: `net::ERR_NAME_NOT_RESOLVED` and the like.
    pub navigation_error: Option<String>,
}

/// How a browser ended.
#[derive(Debug)]
pub struct Closed {
    pub process: Terminated,
    /// Why the profile could not be removed; `None`: removed, or kept on purpose.
    pub profile_left: Option<(PathBuf, std::io::Error)>,
}

/// Starts Chromium and waits until it answers. Needs a tokio runtime. Call
/// [`Connection::auto_attach`] before making pages.
pub async fn launch(options: ChromiumOptions) -> Result<Browser, LaunchError> {
    let executable = find_executable(options.executable.as_deref())?;
    let profile = ProfileDir::prepare(options.profile_dir.as_deref(), options.profile_root.as_deref())?;
    if options.profile_dir.is_some() {
        profile::forget_extensions(profile.path())?;
    }
    profile::write_preferences(profile.path(), options.third_party_cookies)?;
    let args = flags::arguments(&options, profile.path())?;
    let pair = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| LaunchError::Pipe(e.into()));
    let ((their_in, our_out), (our_in, their_out)) = (pair()?, pair()?);
    for end in [&our_out, &our_in] {
        // Only speed depends on it: fewer wake-ups for large bodies.
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(end, 1024 * 1024) {
            tracing::debug!(%error, "the DevTools pipe stays at its default size");
        }
    }
    let output = pipe::Sender::from_owned_fd(our_out).map_err(LaunchError::Pipe)?;
    let input = pipe::Receiver::from_owned_fd(our_in).map_err(LaunchError::Pipe)?;
    let mut spawn = Spawn::new("chromium", &executable).args(&args).fd(their_in, 3).fd(their_out, 4);
    // Dumps and caches of this browser stay inside its own directory.
    spawn = spawn.kind(ProcessKind::Browser).env("BREAKPAD_DUMP_LOCATION", profile.path().join("crashes"));
    spawn.env.extend(options.env.iter().map(|(k, v)| (k.into(), v.into())));
    let started = Instant::now();
    let process = process::spawn(spawn).await?;
    let connection = Connection::start(input, output, options.connection);
    close_with_process(&connection, &process);
    let version = match connection.call(None, GetVersionParams::default(), options.deadline).await {
        Ok(version) => version.into(),
        Err(error) => return Err(explain(error, &options, &connection, &process).await),
    };
    let mut command_line = vec![executable.to_string_lossy().into_owned()];
    command_line.extend(args);
    let launch_time = started.elapsed();
    tracing::debug!(pid = process.pid(), ?launch_time, "chromium is up");
    Ok(Browser { connection, process, version, launch_time, profile, command_line })
}

/// A child of the browser may hold the pipe open after its death, so the death itself closes, too.
fn close_with_process(connection: &Connection, process: &Process) {
    let closer = connection.downgrade();
    // Only what tells of the end may be held: the handle itself would keep the browser alive.
    let exited = process.exited();
    tokio::spawn(async move {
        let exit = exited.await;
        closer.close(CloseReason::BrowserExited(exit.to_string()));
    });
}

async fn explain(
    error: CallError,
    options: &ChromiumOptions,
    connection: &Connection,
    process: &Process,
) -> LaunchError {
    let died = error.is_fatal();
    process.because(EndReason::Terminated, format!("it did not come up: {error}"));
    connection.close(CloseReason::Requested);
    let ended = process.terminate(if died { Duration::from_secs(1) } else { Duration::ZERO }).await;
    let stderr = process.stderr_tail();
    let root = rustix::process::geteuid().is_root();
    let hint = if root && !options.no_sandbox { " (as root it needs the `no_sandbox` option)" } else { "" };
    match error {
        CallError::Timeout { after, .. } => LaunchError::Deadline { after, stderr },
        _ if died => LaunchError::Exited { exit: ended.exit, hint, stderr },
        error => LaunchError::Refused { error, stderr },
    }
}

fn find_executable(given: Option<&Path>) -> Result<PathBuf, LaunchError> {
    if let Some(path) = given {
        let searched = || vec![path.to_string_lossy().into_owned()];
        let found = path.is_file().then(|| path.to_owned());
        return found.ok_or_else(|| LaunchError::NotFound { searched: searched() });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = EXECUTABLES.iter().flat_map(|name| {
        let in_path = std::env::split_paths(&path).map(|dir| dir.join(name));
        if name.starts_with('/') { vec![PathBuf::from(name)] } else { in_path.collect() }
    });
    let mut candidates = candidates;
    candidates.find(|c| c.is_file()).ok_or_else(|| LaunchError::NotFound {
        searched: EXECUTABLES.iter().map(|name| (*name).to_owned()).collect(),
    })
}

impl Browser {
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn version(&self) -> &Version {
        &self.version
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// From the start of the process to its first answer.
    pub fn launch_time(&self) -> Duration {
        self.launch_time
    }

    pub fn profile_dir(&self) -> &Path {
        self.profile.path()
    }

    /// The program and all its arguments, for provenance.
    pub fn command_line(&self) -> &[String] {
        &self.command_line
    }

    /// Loads an unpacked extension, active in every context; gives its id. An extension worker may start
    /// later than this returns.
    pub async fn load_extension(&self, dir: &Path, deadline: Duration) -> Result<String, CallError> {
        #[derive(Deserialize)]
        struct Loaded {
            id: String,
        }
        // The typed command lacks `enableInIncognito`, without which contexts do not get the extension.
        let params = json!({"path": dir, "enableInIncognito": true});
        let loaded: Loaded = self.ask("Extensions.loadUnpacked", params, deadline).await?;
        Ok(loaded.id)
    }

    /// A new BrowserContext: no cookies, cache or storage shared with another.
    pub async fn create_context(
        &self,
        proxy: Option<&Proxy>,
        deadline: Duration,
    ) -> Result<ContextId, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Created {
            browser_context_id: ContextId,
        }
        let mut params = json!({"disposeOnDetach": true});
        if let Some(proxy) = proxy {
            params["proxyServer"] = json!(proxy.server);
            if let Some(bypass) = &proxy.bypass {
                params["proxyBypassList"] = json!(bypass);
            }
        }
        let created: Created = self.ask("Target.createBrowserContext", params, deadline).await?;
        Ok(created.browser_context_id)
    }

    /// Ends a context with all its pages, workers and data.
    pub async fn dispose_context(&self, context: &ContextId, deadline: Duration) -> Result<(), CallError> {
        let params = json!({"browserContextId": context});
        self.connection.call_raw(None, "Target.disposeBrowserContext", params, deadline).await.map(drop)
    }

    /// Opens a page (`None`: in the default context), waits until its session has been set up, and then
    /// lets it go to `url`; gives it when the document has been committed. Needs
    /// [`Connection::auto_attach`].
    ///
    /// Only `about:` URLs are given to the browser at once: it starts the navigation of a new target
    /// before its session exists, so that the first request would be missed.
    pub async fn create_page(
        &self,
        context: Option<&ContextId>,
        url: &str,
        deadline: Duration,
    ) -> Result<Page, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Created {
            target_id: TargetId,
        }
        let until = Instant::now() + deadline;
        let at_once = url.starts_with("about:");
        let mut params = json!({"url": if at_once { url } else { "about:blank" }});
        if let Some(context) = context {
            params["browserContextId"] = json!(context);
        }
        let Created { target_id } = self.ask("Target.createTarget", params, deadline).await?;
        let opened = self.open(&target_id, (!at_once).then_some(url), until).await;
        if opened.is_err() {
            // The caller never learns of this page, so it must not stay; the first error is the one to tell.
            let close = RawCommand::new("Target.closeTarget", json!({"targetId": target_id}));
            drop(self.connection.send_no_wait(None, close));
        }
        opened
    }

    async fn open(&self, target_id: &TargetId, url: Option<&str>, until: Instant) -> Result<Page, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Navigated {
            error_text: Option<String>,
        }
        let left = || until.saturating_duration_since(Instant::now());
        let (session, hook_failures) = self.connection.wait_ready(target_id, left()).await?;
        let mut navigation_error = None;
        if let Some(url) = url {
            const METHOD: &str = "Page.navigate";
            let params = json!({"url": url});
            let answer = self.connection.call_raw(Some(&session.id), METHOD, params, left()).await?;
            let decoded: Navigated = answer
                .decode()
                .map_err(|e| CallError::Decode { method: METHOD.into(), error: e.to_string() })?;
            navigation_error = decoded.error_text;
        }
        Ok(Page { target_id: target_id.clone(), session, hook_failures, navigation_error })
    }

    /// Closes a page without asking it (no `beforeunload`). Works while the page hangs in a loop.
    pub async fn close_page(&self, target: &TargetId, deadline: Duration) -> Result<(), CallError> {
        let params = json!({"targetId": target});
        self.connection.call_raw(None, "Target.closeTarget", params, deadline).await.map(drop)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        params: serde_json::Value,
        deadline: Duration,
    ) -> Result<T, CallError> {
        let answer = self.connection.call_raw(None, method, params, deadline).await?;
        answer.decode().map_err(|e| CallError::Decode { method: method.to_owned(), error: e.to_string() })
    }

    /// Ends the browser: `Browser.close`, then closing the pipe, then SIGTERM, then SIGKILL for all that
    /// is left; each step only when the one before did not do it. Removes the profile unless it was given.
    pub async fn close(self, grace: Duration) -> Closed {
        let Self { connection, process, profile, .. } = self;
        let step = grace / 3;
        process.because(EndReason::Terminated, "its browser was closed");
        let asked = connection.call_raw(None, "Browser.close", json!({}), step).await;
        if asked.is_err() || tokio::time::timeout(step, process.wait()).await.is_err() {
            connection.close(CloseReason::Requested);
        }
        // It may still be flushing its profile; an exit in time makes the signals below no-ops.
        let polite = tokio::time::timeout(step, process.wait()).await;
        let ended = process.terminate(if polite.is_ok() { Duration::ZERO } else { step }).await;
        connection.close(CloseReason::Requested);
        let dir = profile.path().to_owned();
        let removed = tokio::task::spawn_blocking(move || profile.remove()).await;
        let left = removed.unwrap_or_else(|e| Err(std::io::Error::other(e))).err();
        if let Some(error) = &left {
            tracing::warn!(?dir, %error, "a browser profile could not be removed");
        }
        Closed { process: ended, profile_left: left.map(|error| (dir, error)) }
    }
}
