//! The storage-service as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sonde_runtime::EXIT_CONFIG;
use sonde_runtime::config::{self, Loaded, Override};
use sonde_runtime::endpoint::{Inproc, Listener};
use sonde_runtime::serve::ServerBuilder;
use sonde_runtime::signals::Shutdown;
use sonde_runtime::telemetry::{self, Telemetry};
use sonde_storage::{Config, SERVICE_NAMES, Storage};

/// Keeps the records and blobs of crawls.
#[derive(Parser)]
#[command(name = "sonde-storage", version)]
struct Arguments {
    /// Configuration file (TOML); its [storage] and [telemetry] sections are read
    #[arg(long, env = "SONDE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the databases and blobs
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where to listen: http://127.0.0.1:PORT or unix:/path/to.sock
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<String>,
    /// Any other setting, as storage.drain=30s; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the effective configuration with the origin of each value, and end
    #[arg(long)]
    print_config: bool,
}

impl Arguments {
    fn overrides(&self) -> Result<Vec<Override>, config::ConfigError> {
        let mut all: Vec<Override> =
            self.set.iter().map(|argument| Override::parse_set(argument)).collect::<Result<_, _>>()?;
        for (flag, key, value) in
            [("--data-dir", "storage.data_dir", &self.data_dir), ("--listen", "storage.listen", &self.listen)]
        {
            all.extend(value.as_ref().map(|value| Override::new(flag, key, value)));
        }
        Ok(all)
    }

    fn load(&self) -> Result<(Loaded<Config>, Loaded<Telemetry>), config::ConfigError> {
        let (overrides, env, file) = (self.overrides()?, config::environment()?, self.config.as_deref());
        let storage: Loaded<Config> = config::load("storage", file, env.clone(), &overrides)?;
        if let Some((key, expected)) = storage.wrong() {
            return Err(storage.problem(key, expected));
        }
        Ok((storage, config::load("telemetry", file, env, &overrides)?))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (storage, telemetry) = match arguments.load() {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error),
    };
    if arguments.print_config {
        return match (config::print_config(&storage), config::print_config(&telemetry)) {
            (Ok(storage), Ok(telemetry)) => {
                print!("{storage}\n{telemetry}");
                ExitCode::SUCCESS
            }
            (Err(error), _) | (_, Err(error)) => refuse(&error),
        };
    }
    if let Err(error) = telemetry::init(&telemetry) {
        return refuse(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    runtime.block_on(run(storage.value))
}

async fn run(config: Config) -> ExitCode {
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => return fail(&error),
    };
    let storage = match Storage::open(config.clone()) {
        Ok(storage) => storage,
        Err(error) => return fail(&error),
    };
    let listener = match Listener::bind(&config.listen, &Inproc::new()).await {
        Ok(listener) => listener,
        Err(error) => return refuse(&error),
    };
    let server = ServerBuilder::new(storage.routes(), SERVICE_NAMES, sonde_proto::DESCRIPTORS)
        .streams(storage.streams())
        .immediate(shutdown.immediate.clone())
        .start(listener, shutdown.drain.clone(), config.drain)
        .await;
    let ended = match server {
        Ok(server) => server.wait().await,
        Err(error) => Err(error),
    };
    tokio::select! {
        () = storage.close() => {}
        () = shutdown.immediate.cancelled() => return ExitCode::from(shutdown.exit_code()),
    }
    match ended {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sonde-storage: {error}");
    ExitCode::from(EXIT_CONFIG)
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sonde-storage: {error}");
    ExitCode::FAILURE
}
