//! The browser-service as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sonde_browser::{Browsers, Config, SERVICE_NAMES};
use sonde_runtime::EXIT_CONFIG;
use sonde_runtime::config::{self, Loaded, Override};
use sonde_runtime::endpoint::{Inproc, Listener, connect};
use sonde_runtime::serve::ServerBuilder;
use sonde_runtime::signals::Shutdown;
use sonde_runtime::telemetry::{self, Telemetry};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Runs visits on browsers.
#[derive(Parser)]
#[command(name = "sonde-browser", version)]
struct Arguments {
    /// Configuration file (TOML); its [browser] and [telemetry] sections are read
    #[arg(long, env = "SONDE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen: http://127.0.0.1:PORT or unix:/path/to.sock
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<String>,
    /// Where storage listens
    #[arg(long, value_name = "ENDPOINT")]
    storage: Option<String>,
    /// Browsers at once
    #[arg(long, value_name = "N")]
    slots: Option<String>,
    /// Any other setting, as browser.drain=30s; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the effective configuration with the origin of each value, and end
    #[arg(long)]
    print_config: bool,
}

impl Arguments {
    fn load(&self) -> Result<(Loaded<Config>, Loaded<Telemetry>), config::ConfigError> {
        let mut overrides: Vec<Override> =
            self.set.iter().map(|argument| Override::parse_set(argument)).collect::<Result<_, _>>()?;
        for (flag, key, value) in [
            ("--listen", "browser.listen", &self.listen),
            ("--storage", "browser.storage", &self.storage),
            ("--slots", "browser.slots", &self.slots),
        ] {
            overrides.extend(value.as_ref().map(|value| Override::new(flag, key, value)));
        }
        let (env, file) = (config::environment()?, self.config.as_deref());
        let browser = config::load("browser", file, env.clone(), &overrides)?;
        Ok((browser, config::load("telemetry", file, env, &overrides)?))
    }
}

fn main() -> ExitCode {
    if let Some(code) = sonde_runtime::process::guard::take_over() {
        return code;
    }
    let arguments = Arguments::parse();
    let (browser, telemetry) = match arguments.load() {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error),
    };
    if arguments.print_config {
        return match (config::print_config(&browser), config::print_config(&telemetry)) {
            (Ok(browser), Ok(telemetry)) => {
                print!("{browser}\n{telemetry}");
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
    runtime.block_on(run(browser.value)).unwrap_or_else(|code| code)
}

async fn run(config: Config) -> Result<ExitCode, ExitCode> {
    let shutdown = Shutdown::on_signals().map_err(|e| fail(&e))?;
    let inproc = Inproc::new();
    let storage = connect(&config.storage, &inproc).map_err(|e| refuse(&e))?;
    let browsers = Browsers::start(config.clone(), storage, CancellationToken::new()).await;
    let browsers = browsers.map_err(|e| refuse(&e))?;
    let listener = Listener::bind(&config.listen, &inproc).await.map_err(|e| refuse(&e))?;
    // The server goes last: sessions hear how their attempts end while the slots drain.
    let stop = CancellationToken::new();
    let server = ServerBuilder::new(browsers.routes(), SERVICE_NAMES, sonde_proto::DESCRIPTORS)
        .immediate(shutdown.immediate.clone())
        .start(listener, stop.clone(), config.drain)
        .await;
    let mut serving = std::pin::pin!(server.map_err(|e| fail(&e))?.wait());
    let early = tokio::select! {
        ended = &mut serving => Some(ended),
        () = shutdown.drain.cancelled() => None,
    };
    let closing = async {
        browsers.drain(Instant::now() + config.drain).await;
        browsers.close().await;
        stop.cancel();
        match early {
            Some(ended) => ended,
            None => serving.await,
        }
    };
    tokio::select! {
        ended = closing => ended.map(|_| ExitCode::SUCCESS).map_err(|e| fail(&e)),
        () = shutdown.immediate.cancelled() => Err(ExitCode::from(shutdown.exit_code())),
    }
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sonde-browser: {error}");
    ExitCode::from(EXIT_CONFIG)
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sonde-browser: {error}");
    ExitCode::FAILURE
}
