//! The three services inside this process, meeting over in-process gRPC only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use sonde_browser::engine::firefox;
use sonde_browser::{Browsers, PrestartKind};
use sonde_coordinator::Coordinator;
use sonde_runtime::config::{self, ConfigError, Loaded, Override};
use sonde_runtime::endpoint::{Endpoint, Inproc, Listener, connect};
use sonde_runtime::serve::{ServerBuilder, ServerHandle};
use sonde_runtime::telemetry::{self, Telemetry};
use sonde_storage::Storage;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::args::{BrowserArg, BrowserArgs, ConfigArgs};
use crate::exit::CliError;

/// The effective configuration of all three.
pub struct Settings {
    pub storage: Loaded<sonde_storage::Config>,
    pub browser: Loaded<sonde_browser::Config>,
    pub coordinator: Loaded<sonde_coordinator::Config>,
}

impl Settings {
    /// File < environment < arguments; all wrong values of all sections at once.
    pub fn load(out: &Path, browser: &BrowserArgs, args: &ConfigArgs) -> Result<Self, CliError> {
        let overrides = overrides(browser, args)?;
        let env = config::environment()?;
        let file = args.config.as_deref();
        let mut problems = Vec::new();
        let storage = section::<sonde_storage::Config>("storage", file, &env, &overrides, &mut problems);
        let browsers = section::<sonde_browser::Config>("browser", file, &env, &overrides, &mut problems);
        let coordinator =
            section::<sonde_coordinator::Config>("coordinator", file, &env, &overrides, &mut problems);
        let (Some(mut storage), Some(mut browsers), Some(mut coordinator), true) =
            (storage, browsers, coordinator, problems.is_empty())
        else {
            return Err(ConfigError { problems }.into());
        };
        if is_default(&storage, "data_dir") {
            storage.value.data_dir = out.to_owned();
        }
        if is_default(&coordinator, "data_dir") {
            coordinator.value.data_dir = out.to_owned();
        }
        if is_default(&browsers, "profiles_dir") {
            browsers.value.profiles_dir = Some(out.join("profiles"));
        }
        if is_default(&browsers, "slots") {
            browsers.value.slots = default_slots();
        }
        // Like the coordinator's data it goes with the crawl's.
        browsers.value.state_dir.get_or_insert_with(|| processes_of(&storage.value.data_dir));
        Ok(Self { storage, browser: browsers, coordinator })
    }

    /// As TOML, each value with its origin.
    pub fn print(&self) -> Result<String, CliError> {
        Ok([
            config::print_config(&self.coordinator)?,
            config::print_config(&self.browser)?,
            config::print_config(&self.storage)?,
        ]
        .join("\n"))
    }
}

/// Where the records of processes are, beside the data.
pub fn processes_of(data_dir: &Path) -> PathBuf {
    data_dir.join("processes")
}

/// Whether the user left a value alone.
pub fn is_default<T>(loaded: &Loaded<T>, key: &str) -> bool {
    *loaded.origin(key) == config::Origin::Default
}

/// 1.25 browsers a core, rounded: more only helps where visits wait for the network.
pub fn default_slots() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from((cores * 5 + 2) / 4).unwrap_or(u32::MAX).max(1)
}

/// The arguments as values of the configuration, named by their flags.
pub fn overrides(browser: &BrowserArgs, args: &ConfigArgs) -> Result<Vec<Override>, CliError> {
    let mut all = args.set.iter().map(|s| Override::parse_set(s)).collect::<Result<Vec<_>, _>>()?;
    if let Some(n) = browser.browsers {
        if n == 0 {
            return Err(CliError::Input("--browsers 0: at least 1 is needed".to_owned()));
        }
        all.push(Override::new("--browsers", "browser.slots", n.to_string()));
    }
    if browser.no_sandbox {
        all.push(Override::new("--no-sandbox", "browser.no_sandbox", "true"));
    }
    let program = match browser.kind {
        BrowserArg::Chromium => "browser.executable",
        BrowserArg::Firefox => {
            all.push(Override::new("--browser", "browser.prestart_kind", "firefox".to_owned()));
            "browser.firefox_executable"
        }
    };
    if let Some(path) = &browser.executable {
        all.push(Override::new("--executable", program, path.display().to_string()));
    }
    Ok(all)
}

fn section<T: DeserializeOwned + Serialize + Default>(
    name: &str,
    file: Option<&Path>,
    env: &[(String, String)],
    overrides: &[Override],
    problems: &mut Vec<config::Problem>,
) -> Option<Loaded<T>> {
    match config::load::<T>(name, file, env.iter().cloned(), overrides) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            // What is wrong with the file as a whole is found once per section.
            for problem in error.problems {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
            None
        }
    }
}

/// Storage alone.
pub struct StorageOnly {
    channel: Channel,
    store: Storage,
    server: ServerHandle,
}

impl StorageOnly {
    /// On a data directory, which is made if need be.
    pub async fn start(data: &Path) -> Result<Self, CliError> {
        let unmade =
            |e| CliError::Input(format!("the data directory {} cannot be made: {e}", data.display()));
        std::fs::create_dir_all(data).map_err(unmade)?;
        let config = sonde_storage::Config { data_dir: data.to_owned(), ..sonde_storage::Config::default() };
        let store = Storage::open(config).map_err(|e| CliError::Service(e.to_string()))?;
        let (inproc, at) = (Inproc::new(), Endpoint::Inproc(NAMES[0].to_owned()));
        let server = serve(&at, &inproc, store.routes(), sonde_storage::SERVICE_NAMES).await?;
        Ok(Self { channel: connect(&at, &inproc)?, store, server })
    }

    /// The way to it.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Ends it.
    pub async fn close(self) {
        if let Err(error) = self.server.stop().await {
            tracing::warn!(%error, "storage did not stop cleanly");
        }
        self.store.close().await;
    }
}

/// Running services and the ways to them.
pub struct Embedded {
    /// To the coordinator.
    pub coordinator: Channel,
    /// To storage.
    pub storage: Channel,
    /// Where the data are.
    pub data_dir: PathBuf,
    services: Coordinator,
    browsers: Browsers,
    store: Storage,
    servers: Vec<ServerHandle>,
}

const NAMES: [&str; 3] = ["storage", "browser", "coordinator"];
/// After the drain, for connections to close.
const CLOSE: Duration = Duration::from_secs(5);

impl Embedded {
    /// Starts storage, then browsers, then the coordinator.
    pub async fn start(settings: Settings, log: &str) -> Result<Self, CliError> {
        telemetry::init(&Telemetry { level: log.to_owned(), ..Telemetry::default() })
            .map_err(|e| CliError::Input(e.to_string()))?;
        let browsers = &settings.browser.value;
        if browsers.prestart_kind == PrestartKind::Firefox {
            // Otherwise the visits would wait for a browser that no service has.
            firefox::locate(browsers.firefox_executable.as_deref(), browsers.geckodriver.as_deref())
                .map_err(|e| CliError::Input(e.to_string()))?;
        }
        let inproc = Inproc::new();
        let [storage_at, browser_at, coordinator_at] = NAMES.map(|n| Endpoint::Inproc(n.to_owned()));
        let failed = |e: &dyn std::fmt::Display| CliError::Service(e.to_string());
        let mut servers = Vec::new();

        let data_dir = settings.storage.value.data_dir.clone();
        std::fs::create_dir_all(&data_dir).map_err(|e| {
            CliError::Input(format!("the data directory {} cannot be made: {e}", data_dir.display()))
        })?;
        let store = Storage::open(settings.storage.value).map_err(|e| failed(&e))?;
        servers.push(serve(&storage_at, &inproc, store.routes(), sonde_storage::SERVICE_NAMES).await?);
        let storage = connect(&storage_at, &inproc)?;

        let cancel = CancellationToken::new();
        let browsers = Browsers::start(settings.browser.value, storage.clone(), cancel.clone())
            .await
            .map_err(|e| CliError::Input(e.to_string()))?;
        servers.push(serve(&browser_at, &inproc, browsers.routes(), sonde_browser::SERVICE_NAMES).await?);
        let fleet = vec![(browser_at.to_string(), connect(&browser_at, &inproc)?)];

        let services = Coordinator::start(settings.coordinator.value, storage.clone(), fleet, cancel)
            .await
            .map_err(|e| failed(&e))?;
        servers.push(
            serve(&coordinator_at, &inproc, services.routes(), sonde_coordinator::SERVICE_NAMES).await?,
        );
        Ok(Self {
            coordinator: connect(&coordinator_at, &inproc)?,
            storage,
            data_dir,
            services,
            browsers,
            store,
            servers,
        })
    }

    /// No new visits; running ones may end within `grace`.
    pub async fn drain(&self, grace: Duration) {
        self.services.drain(grace).await;
    }

    /// Ends everything: coordinator, browsers, storage, in this order, so that
    /// nothing that is on its way is lost.
    pub async fn close(self) {
        self.services.close().await;
        self.browsers.close().await;
        for server in self.servers.into_iter().rev() {
            let endpoint = server.endpoint().clone();
            if let Err(error) = server.stop().await {
                tracing::warn!(%endpoint, %error, "did not stop cleanly");
            }
        }
        self.store.close().await;
    }
}

async fn serve(
    at: &Endpoint,
    inproc: &Inproc,
    routes: tonic::service::Routes,
    names: &[&str],
) -> Result<ServerHandle, CliError> {
    let listener = Listener::bind(at, inproc).await?;
    ServerBuilder::new(routes, names, sonde_proto::DESCRIPTORS)
        .start(listener, CancellationToken::new(), CLOSE)
        .await
        .map_err(|e| CliError::Service(e.to_string()))
}
