//! `sonde up`: the three services as supervised processes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sonde_browser::ProcessRows;
use sonde_runtime::config::Override;
use sonde_runtime::endpoint::{Endpoint, Inproc, connect};
use sonde_runtime::process::{Limits, ProcessKind, ProcessStore, Redactor, StoreOptions};
use sonde_runtime::signals::Shutdown;
use sonde_runtime::supervise::{Program, Readiness, RestartPolicy, ServiceSpec, Supervisor, to_stderr};
use sonde_runtime::telemetry::{self, Telemetry};

use crate::args::UpArgs;
use crate::embed::{Settings, is_default, processes_of};
use crate::exit::CliError;

/// From SIGTERM to SIGKILL: the browser-service lets its visits end.
const GRACE: Duration = Duration::from_secs(60);
/// What an earlier run left is given this long to end by itself.
const LEFT_OVER: Duration = Duration::from_secs(2);
/// From start to ready; the browser-service has its first browsers to start.
const READY: Duration = Duration::from_secs(60);

/// Runs it.
pub async fn run(args: UpArgs) -> Result<u8, CliError> {
    let listen: Endpoint = args.listen.parse()?;
    let settings = Settings::load(&args.out, &args.browser, &args.config)?;
    if args.config.print_config {
        print!("{}", settings.print()?);
        return Ok(0);
    }
    telemetry::init(&Telemetry { level: args.config.log.clone(), ..Telemetry::default() })
        .map_err(|e| CliError::Input(e.to_string()))?;
    let data_dir = settings.storage.value.data_dir.clone();
    std::fs::create_dir_all(&data_dir).map_err(|e| {
        CliError::Input(format!("the data directory {} cannot be made: {e}", data_dir.display()))
    })?;
    let data_dir = std::fs::canonicalize(&data_dir).map_err(|e| {
        CliError::Input(format!("the data directory {} cannot be read: {e}", data_dir.display()))
    })?;
    let sockets = Sockets::new(&data_dir, &settings, listen)?;
    let shutdown =
        Shutdown::on_signals().map_err(|e| CliError::Service(format!("signals cannot be handled: {e}")))?;
    let specs = specs(&args, &settings, &sockets, &data_dir)?;
    let processes = ProcessStore::open(StoreOptions {
        directory: state_dir(&settings, &data_dir)?,
        owner: "up",
        kind: ProcessKind::Supervisor,
        limits: Limits::default(),
        redactor: Redactor::default(),
        context: Default::default(),
    })
    .map_err(|e| CliError::Input(e.to_string()))?;
    processes.repair(LEFT_OVER).await;
    let start = async {
        Supervisor::start(specs, RestartPolicy::default(), to_stderr(), &shutdown.drain, &shutdown.immediate)
    };
    let supervisor = processes.scope().run(start).await.map_err(|e| CliError::Service(e.to_string()))?;
    tokio::select! {
        ready = supervisor.ready(READY) => match ready {
            Ok(()) => announce(&sockets, &data_dir),
            Err(error) => eprintln!("sonde: {error}; it is started again and again, see its lines above"),
        },
        () = shutdown.drain.cancelled() => {}
    }
    if !shutdown.drain.is_cancelled() {
        let rows = ProcessRows::start(processes.clone(), connect(&sockets.storage, &Inproc::new())?);
        shutdown.drain.cancelled().await;
        // Storage ends with the others: the ends of this run are sent by the next.
        rows.stop().await;
    }
    let exits = supervisor.stop().await;
    processes.close();
    sockets.remove();
    for (name, exit) in exits {
        eprintln!("{name} ended: {exit:?}");
    }
    Ok(0)
}

/// Where the records of processes are, as all of the services see it.
fn state_dir(settings: &Settings, data_dir: &Path) -> Result<PathBuf, CliError> {
    let given = settings.browser.value.state_dir.clone().unwrap_or_else(|| processes_of(data_dir));
    std::path::absolute(&given)
        .map_err(|e| CliError::Input(format!("browser.state_dir {} cannot be found: {e}", given.display())))
}

fn announce(sockets: &Sockets, data_dir: &Path) {
    println!("coordinator  {}", sockets.coordinator);
    println!("storage      {}", sockets.storage);
    println!("browser      {}", sockets.browser);
    println!("data         {}", data_dir.display());
    println!("try          sonde crawl https://example.org --server {}", sockets.coordinator);
    if let Endpoint::Tcp { host, port } = &sockets.coordinator {
        println!("             grpcurl -plaintext {host}:{port} list");
    }
}

/// Where the services listen.
struct Sockets {
    storage: Endpoint,
    browser: Endpoint,
    coordinator: Endpoint,
    made: Option<PathBuf>,
}

/// Unix socket paths end at 108 bytes, so a deep data directory cannot hold them.
const SHORT: usize = 80;

impl Sockets {
    fn new(data_dir: &Path, settings: &Settings, listen: Endpoint) -> Result<Self, CliError> {
        let mut dir = data_dir.join("run");
        if dir.as_os_str().len() > SHORT {
            dir = std::env::temp_dir().join(format!("sonde-{}", std::process::id()));
        }
        let made = make_private(&dir).map(|()| dir.clone())?;
        let own = |loaded_default: bool, configured: &str, name: &str| -> Result<Endpoint, CliError> {
            if loaded_default { Ok(Endpoint::Unix(dir.join(name))) } else { Ok(configured.parse()?) }
        };
        Ok(Self {
            storage: own(
                is_default(&settings.storage, "listen"),
                &settings.storage.value.listen.to_string(),
                "storage.sock",
            )?,
            browser: own(
                is_default(&settings.browser, "listen"),
                &settings.browser.value.listen.to_string(),
                "browser.sock",
            )?,
            coordinator: if is_default(&settings.coordinator, "listen") {
                listen
            } else {
                settings.coordinator.value.listen.to_string().parse()?
            },
            made: Some(made),
        })
    }

    fn remove(&self) {
        if let Some(dir) = &self.made {
            // Sockets of a killed service may be left; the next start replaces them.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

fn make_private(dir: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| {
        CliError::Input(format!("the directory of the sockets {} cannot be made: {e}", dir.display()))
    })
}

fn specs(
    args: &UpArgs,
    settings: &Settings,
    sockets: &Sockets,
    data_dir: &Path,
) -> Result<Vec<ServiceSpec>, CliError> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned))
        .ok_or_else(|| CliError::Service("the place of this program cannot be found".to_owned()))?;
    let data = data_dir.display().to_string();
    let own = |section: &str, values: &[(&str, String)]| -> Vec<(OsString, OsString)> {
        values
            .iter()
            .map(|(key, value)| {
                (format!("SONDE_{}__{}", section.to_uppercase(), key.to_uppercase()).into(), value.into())
            })
            .collect()
    };
    let given = crate::embed::overrides(&args.browser, &args.config)?;
    let spec =
        |name: &str, endpoint: &Endpoint, values: &[(&str, String)]| -> Result<ServiceSpec, CliError> {
            let path = beside.join(format!("sonde-{name}"));
            if !path.is_file() {
                return Err(CliError::Service(format!(
                    "{} is not there: build or install the services beside this program (cargo build --bins)",
                    path.display()
                )));
            }
            let mut env = own(name, values);
            env.extend(arguments_as_env(name, &given));
            let mut program = Program { path, env, ..Program::default() };
            if let Some(file) = &args.config.config {
                program.args = vec!["--config".into(), file.into()];
            }
            Ok(ServiceSpec {
                name: name.to_owned(),
                program,
                ready: Some(Readiness { endpoint: endpoint.clone(), within: READY }),
                grace: GRACE,
            })
        };
    Ok(vec![
        spec(
            "storage",
            &sockets.storage,
            &[("listen", sockets.storage.to_string()), ("data_dir", data.clone())],
        )?,
        spec(
            "browser",
            &sockets.browser,
            &[
                ("listen", sockets.browser.to_string()),
                ("storage", sockets.storage.to_string()),
                ("slots", settings.browser.value.slots.to_string()),
                ("state_dir", state_dir(settings, data_dir)?.display().to_string()),
            ],
        )?,
        spec(
            "coordinator",
            &sockets.coordinator,
            &[
                ("listen", sockets.coordinator.to_string()),
                ("data_dir", data),
                ("storage", sockets.storage.to_string()),
                ("browsers", format!("[\"{}\"]", sockets.browser)),
            ],
        )?,
    ])
}

/// `--set` and the like for one service, as its environment.
fn arguments_as_env(service: &str, given: &[Override]) -> Vec<(OsString, OsString)> {
    given
        .iter()
        .filter_map(|o| {
            let (section, key) = o.key.split_once('.')?;
            (section == service).then(|| {
                let name =
                    format!("SONDE_{}__{}", section.to_uppercase(), key.replace('.', "__").to_uppercase());
                (name.into(), o.value.clone().into())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_only_their_service() {
        let given = [Override::new("--no-sandbox", "browser.no_sandbox", "true")];
        assert!(arguments_as_env("storage", &given).is_empty());
        assert_eq!(
            arguments_as_env("browser", &given),
            [(OsString::from("SONDE_BROWSER__NO_SANDBOX"), OsString::from("true"))]
        );
    }

    #[test]
    fn the_sections_are_known_to_the_configuration() {
        for service in ["storage", "browser", "coordinator"] {
            assert!(sonde_runtime::config::SECTIONS.contains(&service));
        }
    }
}
