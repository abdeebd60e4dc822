//! What a slot needs of a browser, whichever it is. One module per engine below; tests have a scripted one.

mod artifact;
mod capabilities;
pub mod chromium;
mod commands;
mod extension;
pub mod firefox;
mod installed;
mod links;
pub mod profiles;
pub(crate) mod run_dir;
mod scratch;
mod screen;
mod shared;
mod trust;
mod video;
mod webrequest;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sonde_proto::browser::v1::{RelayNetwork, RelayStart};
use sonde_proto::js_settings::DEFAULT_JS_SETTINGS;
use sonde_proto::visit::v1::{
    ArtifactRef, BrowserKind, BrowserSpec, CaptureMode, Command, CommandStatus, Display as Shown, Failure,
    Instruments, Isolation, ThirdPartyCookies,
};
use tokio::sync::watch;
use tokio::time::Instant;

pub use installed::Installed;

use self::profiles::ProfileSpec;
pub(crate) use self::run_dir::RunDir;
pub use self::screen::Display;
use crate::hooks::host::{HookHost, HooksConfig};
use crate::process::ProcessInfo;
use crate::uplink::{AttemptUplink, StreamClaim};

/// What browsers tell pages of themselves, for provenance: what they are, and nothing made up (I8).
const PRESENTATION: &str = "honest";

/// Starts browsers.
pub trait Engine: Send + Sync + 'static {
    /// The kinds that it can start, as far as can be seen without starting one.
    fn kinds(&self) -> Vec<BrowserKind> {
        vec![BrowserKind::Chromium]
    }

    /// What the operator allows of hooks; by itself an engine has none.
    fn hooks(&self) -> Arc<HookHost> {
        Arc::new(HookHost::new(HooksConfig::default(), Path::new("")))
    }

    /// Starts a browser and waits until it can take visits. Nothing is left behind when it fails or is dropped.
    fn launch(
        self: Arc<Self>,
        spec: LaunchSpec,
    ) -> BoxFuture<'static, Result<Arc<dyn Browser>, LaunchFailure>>;
}

/// What a browser process is started with. Two equal ones can stand for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSpec {
    pub kind: BrowserKind,
    pub display: Display,
    /// Width and height in CSS pixels.
    pub window: (u32, u32),
    pub third_party_cookies: ThirdPartyCookies,
    pub extra_flags: Vec<String>,
    /// As `en-US,en`.
    pub languages: String,
    /// What our extension does in it; `None`: it is not there, and slows nothing down.
    pub extension: Option<Scripts>,
    /// `None`: a new, empty profile.
    pub profile: Option<ProfileSpec>,
}

/// What the extension records in pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    pub javascript: bool,
    pub cookies: bool,
    pub navigations: bool,
    /// Requests, look-ups, bodies, the cookie jar: where the browser tells extensions of them, and no one else.
    pub network: bool,
    /// Which APIs, and how: JSON in the language of [`sonde_proto::js_settings`]; "" means its default.
    pub javascript_settings: String,
    /// Calls recorded of each symbol in each document; 0: all.
    pub javascript_limit: u32,
    /// How they are caught.
    pub capture: CaptureMode,
}

impl Scripts {
    /// Beside an engine that records the network itself. `None` when the instruments need no extension.
    pub fn of(instruments: &Instruments) -> Option<Self> {
        let Instruments { javascript, cookies, navigations, .. } = *instruments;
        let any = javascript || cookies || navigations;
        any.then(|| Self { javascript, cookies, navigations, ..Self::calls(instruments) })
    }

    /// In a browser of this kind.
    pub fn of_kind(kind: BrowserKind, instruments: &Instruments) -> Option<Self> {
        if kind != BrowserKind::Firefox {
            return Self::of(instruments);
        }
        let Instruments { javascript, cookies, navigations, http, dns, .. } = *instruments;
        let network = http || dns || cookies || !instruments.save_content.is_empty();
        (javascript || navigations || network).then(|| Self {
            javascript,
            cookies,
            navigations,
            network,
            ..Self::calls(instruments)
        })
    }

    /// How calls are recorded: the same for all who do not record any, so that one browser serves them.
    fn calls(instruments: &Instruments) -> Self {
        let given = instruments.javascript_settings.trim();
        if !instruments.javascript {
            return Self::default();
        }
        Self {
            javascript_settings: if given == DEFAULT_JS_SETTINGS { String::new() } else { given.to_owned() },
            javascript_limit: instruments.javascript_limit,
            capture: instruments.javascript_capture(),
            ..Self::default()
        }
    }

    /// What the extension is told of a visit.
    pub fn start(
        &self,
        visit_id: i64,
        token: &str,
        instruments: &Instruments,
        max_body_bytes: u64,
    ) -> RelayStart {
        RelayStart {
            visit_id,
            token: token.to_owned(),
            javascript: self.javascript && instruments.javascript,
            navigations: self.navigations && instruments.navigations,
            cookies: self.cookies && instruments.cookies,
            network: self.network.then(|| RelayNetwork {
                http: instruments.http,
                dns: instruments.dns,
                cookies: instruments.cookies,
                save_content: instruments.save_content.clone(),
                max_body_bytes,
            }),
        }
    }
}

impl LaunchSpec {
    /// With the contract's defaults for what is not set.
    pub fn new(spec: &BrowserSpec, extension: Option<Scripts>) -> Self {
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let kind = match spec.kind() {
            BrowserKind::Unspecified => BrowserKind::Chromium,
            kind => kind,
        };
        let third_party_cookies = match spec.third_party_cookies() {
            ThirdPartyCookies::Unspecified => ThirdPartyCookies::Always,
            policy => policy,
        };
        let languages = if spec.languages.is_empty() { "en-US,en" } else { &spec.languages };
        Self {
            kind,
            display: match spec.display() {
                Shown::Unspecified | Shown::Headless => Display::Headless,
                Shown::Headed => Display::Headed(spec.x_display.clone()),
                Shown::Xvfb => Display::Xvfb,
            },
            window: (or(spec.window_width, 1366), or(spec.window_height, 768)),
            third_party_cookies,
            extra_flags: spec.extra_flags.clone(),
            languages: languages.to_owned(),
            extension,
            profile: None,
        }
    }

    /// Whether visits share their state.
    pub fn keeps_profile(&self) -> bool {
        self.profile.as_ref().is_some_and(|profile| profile.keep.is_some())
    }
}

/// Whether each visit gets a process of its own.
pub fn own_process(spec: &BrowserSpec) -> bool {
    spec.isolation() == Isolation::Process
}

/// Why no browser came up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LaunchFailure {
    pub message: String,
}

/// What a running browser is.
#[derive(Debug, Clone, Default)]
pub struct BrowserFacts {
    /// Main process.
    pub pid: u32,
    /// JSON object for provenance.
    pub provenance: String,
    /// Field group -> observed, unsupported, off or lost.
    pub capabilities: BTreeMap<String, String>,
}

/// A running browser. Dropping the last handle kills its processes.
pub trait Browser: Send + Sync {
    fn facts(&self) -> &BrowserFacts;
    /// Its main processes: all that it takes of the machine is in their trees.
    fn processes(&self) -> Vec<ProcessInfo> {
        Vec::new()
    }
    /// Resolves when the browser is gone, with one sentence of why.
    fn died(&self) -> BoxFuture<'static, String>;
    /// Prepares isolation and instruments: when it returns, all of them are ready and nothing was navigated.
    /// When it fails or is dropped, the browser is to be replaced.
    fn open_visit(self: Arc<Self>, setup: VisitSetup) -> BoxFuture<'static, Result<Box<dyn Visit>, Failure>>;
    /// Ends the browser; returns when nothing of its process tree is left.
    fn close(self: Arc<Self>, grace: Duration) -> BoxFuture<'static, ()>;
}

/// What a visit is prepared with.
#[derive(Clone)]
pub struct VisitSetup {
    pub uplink: AttemptUplink,
    pub instruments: Instruments,
    /// URL or bare host name.
    pub site_url: String,
    /// Longest body saved whole, in bytes.
    pub max_body_bytes: u64,
    pub deadline: Instant,
    pub progress: Progress,
}

/// One visit on a browser, isolated from every other.
pub trait Visit: Send {
    /// Microseconds since the epoch; `None` when no instrument was asked for.
    fn instruments_ready_at_us(&self) -> Option<i64>;
    /// Microseconds since the epoch; `None` before the first navigation.
    fn navigation_start_at_us(&self) -> Option<i64>;
    /// Runs a command; at its deadline it stops the page and reports a timeout by itself.
    fn run<'a>(
        &'a mut self,
        index: u32,
        command: &'a Command,
        deadline: Instant,
    ) -> BoxFuture<'a, CommandReport>;
    /// Stops the page and brings every record of the instruments into the uplink. Works on a dead browser, too.
    fn finish(&mut self, deadline: Instant) -> BoxFuture<'_, Ending>;
    /// Takes the isolation down. Call it after the seal.
    fn dispose(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Fate>;
}

/// What became of a command.
#[derive(Debug, Clone, Default)]
pub struct CommandReport {
    pub status: CommandStatus,
    /// Short; "" when ok; for network errors the browser's code without its prefix.
    pub error: String,
    /// Set unless ok.
    pub failure: Option<Failure>,
    /// Final URL of the page, where one is loaded.
    pub final_url: String,
    /// 0 when none came.
    pub http_status: u32,
    pub artifacts: Vec<ArtifactRef>,
    /// What it gave, as JSON; "" for nothing.
    pub value_json: String,
    /// What the command drew itself, such as a seed: the command with those fields set.
    pub effective: Option<Command>,
}

impl CommandReport {
    pub fn ok() -> Self {
        Self { status: CommandStatus::Ok, ..Self::default() }
    }

    /// A failure with its short error.
    pub fn failed(status: CommandStatus, error: impl Into<String>, failure: Failure) -> Self {
        Self { status, error: error.into(), failure: Some(failure), ..Self::default() }
    }
}

/// What the instruments say at the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ending {
    /// Why the DevTools stream may have lost records ("": it has not); `None` when nothing was recorded by it.
    pub devtools: Option<String>,
    /// The extension's sessions.
    pub sessions: Vec<StreamClaim>,
    /// Why the data are incomplete though no stream may show it; "" when they are not.
    pub incomplete_reason: String,
    /// Why the visit fails though its data are whole.
    pub failure: Option<Failure>,
}

impl Ending {
    /// Something of what DevTools told was recorded; `why` records may be missing, "" when none are.
    pub fn also_suspect(&mut self, why: String) {
        match &mut self.devtools {
            Some(known) if known.is_empty() => *known = why,
            Some(known) if !why.is_empty() => *known = format!("{known}; {why}"),
            Some(_) => {}
            none => *none = Some(why),
        }
    }
}

/// Whether a browser can take another visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Keep,
    /// With one sentence of why.
    Replace(String),
}

/// Where a visit says what it does now; the newest word counts.
#[derive(Debug, Clone)]
pub struct Progress(Arc<watch::Sender<String>>);

impl Progress {
    pub fn new() -> (Self, watch::Receiver<String>) {
        let (sender, receiver) = watch::channel(String::new());
        (Self(Arc::new(sender)), receiver)
    }

    /// "waiting for load".
    pub fn detail(&self, detail: impl Into<String>) {
        self.0.send_replace(detail.into());
    }
}
