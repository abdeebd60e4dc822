//! The coordinator as a process of its own.
use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use sonde_coordinator::{Config, Coordinator, SERVICE_NAMES};
use sonde_runtime::{
    EXIT_CONFIG,
    config::{self, ConfigError, Loaded, Override},
    endpoint::{EndpointError, Inproc, Listener, connect},
    serve::ServerBuilder,
    signals::Shutdown,
    telemetry::{self, Telemetry},
};
use tokio_util::sync::CancellationToken;

/// Owns crawls, their queue and outcomes, and the fleet of browsers.
#[derive(Parser)]
#[command(name = "sonde-coordinator", version)]
struct Arguments {
    /// Configuration file (TOML); its [coordinator] and [telemetry] sections are read
    #[arg(long, env = "SONDE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the queue
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where to listen: http://127.0.0.1:PORT or unix:/path/to.sock
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<String>,
    /// The storage-service
    #[arg(long, value_name = "ENDPOINT")]
    storage: Option<String>,
    /// A browser-service; may be repeated
    #[arg(long = "browser", value_name = "ENDPOINT")]
    browsers: Vec<String>,
    /// Any other setting, as coordinator.lease=30s; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the effective configuration with the origin of each value, and end
    #[arg(long)]
    print_config: bool,
}

impl Arguments {
    fn overrides(&self) -> Result<Vec<Override>, ConfigError> {
        let mut all: Vec<Override> =
            self.set.iter().map(|argument| Override::parse_set(argument)).collect::<Result<_, _>>()?;
        for (name, value) in
            [("data_dir", &self.data_dir), ("listen", &self.listen), ("storage", &self.storage)]
        {
            let flag = format!("--{}", name.replace('_', "-"));
            all.extend(value.as_ref().map(|value| Override::new(flag, format!("coordinator.{name}"), value)));
        }
        if !self.browsers.is_empty() {
            let list = serde_json::Value::from(self.browsers.clone()).to_string();
            all.push(Override::new("--browser", "coordinator.browsers", list));
        }
        Ok(all)
    }

    fn load(&self) -> Result<(Loaded<Config>, Loaded<Telemetry>), ConfigError> {
        let (overrides, env, file) = (self.overrides()?, config::environment()?, self.config.as_deref());
        let coordinator = config::load("coordinator", file, env.clone(), &overrides)?;
        Ok((coordinator, config::load("telemetry", file, env, &overrides)?))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let loaded = arguments.load().and_then(|(coordinator, telemetry)| {
        let printed = (config::print_config(&coordinator)?, config::print_config(&telemetry)?);
        Ok((coordinator.value, telemetry.value, printed))
    });
    let (coordinator, telemetry, printed) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return end(&error, EXIT_CONFIG),
    };
    if arguments.print_config {
        print!("{}\n{}", printed.0, printed.1);
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::init(&telemetry) {
        return end(&error, EXIT_CONFIG);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(coordinator)).unwrap_or_else(|(error, code)| end(&error, code)),
        Err(error) => end(&error, 1),
    }
}

async fn run(config: Config) -> Result<ExitCode, (String, u8)> {
    let endpoint = |error: EndpointError| (error.to_string(), EXIT_CONFIG);
    let shutdown = Shutdown::on_signals().map_err(|e| (e.to_string(), 1))?;
    let inproc = Inproc::new();
    let storage = connect(&config.storage, &inproc).map_err(endpoint)?;
    let browsers = config.browsers.iter().map(|at| Ok((at.to_string(), connect(at, &inproc)?)));
    let browsers = browsers.collect::<Result<_, _>>().map_err(endpoint)?;
    let listener = Listener::bind(&config.listen, &inproc).await.map_err(endpoint)?;
    let drain = config.drain;
    let started = Coordinator::start(config, storage, browsers, CancellationToken::new()).await;
    let coordinator = started.map_err(|e| (e.to_string(), if e.is_config() { EXIT_CONFIG } else { 1 }))?;
    let stop = CancellationToken::new();
    let server = ServerBuilder::new(coordinator.routes(), SERVICE_NAMES, sonde_proto::DESCRIPTORS)
        .streams(coordinator.streams())
        .immediate(shutdown.immediate.clone())
        .start(listener, stop.clone(), drain);
    let server = server.await.map_err(|e| (e.to_string(), 1))?;
    let mut served = tokio::spawn(server.wait());
    tokio::select! {
        () = shutdown.drain.cancelled() => {}
        ended = &mut served => return Err((format!("the server ended by itself: {ended:?}"), 1)),
    }
    let orderly = async {
        // Watchers see the ends of running visits: the server goes on while they drain.
        coordinator.drain(drain).await;
        stop.cancel();
        let ended = served.await;
        coordinator.close().await;
        let well = ended.is_ok_and(|served| served.is_ok());
        well.then_some(ExitCode::SUCCESS).ok_or(("the server did not end well".to_owned(), 1))
    };
    tokio::select! {
        ended = orderly => ended,
        () = shutdown.immediate.cancelled() => Ok(ExitCode::from(shutdown.exit_code())),
    }
}

fn end(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("sonde-coordinator: {error}");
    ExitCode::from(code)
}
