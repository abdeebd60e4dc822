//! The least main of a service: `cargo run -p sonde-runtime --example service -- sonde.toml`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sonde_runtime::endpoint::{Endpoint, Inproc, Listener};
use sonde_runtime::serve::ServerBuilder;
use sonde_runtime::telemetry::Telemetry;
use sonde_runtime::{EXIT_CONFIG, config, signals, telemetry};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

type Fatal = Box<dyn std::error::Error>;

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Storage {
    listen: Endpoint,
    #[serde(with = "config::duration")]
    drain: Duration,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            listen: Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 7402 },
            drain: Duration::from_secs(20),
        }
    }
}

fn main() -> Result<ExitCode, Fatal> {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let (storage, log) = match configure(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    telemetry::init(&log)?;
    tokio::runtime::Runtime::new()?.block_on(run(storage))
}

fn configure(
    file: Option<PathBuf>,
) -> Result<(config::Loaded<Storage>, config::Loaded<Telemetry>), config::ConfigError> {
    let env = config::environment()?;
    Ok((
        config::load("storage", file.as_deref(), env.clone(), &[])?,
        config::load("telemetry", file.as_deref(), env, &[])?,
    ))
}

async fn run(storage: config::Loaded<Storage>) -> Result<ExitCode, Fatal> {
    let shutdown = signals::Shutdown::on_signals()?;
    let listener = match Listener::bind(&storage.listen, &Inproc::new()).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("{}", storage.problem("listen", error.to_string()));
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    // A service's handlers get a clone of this token and end their long streams on it.
    let streams = CancellationToken::new();
    let routes = Routes::default(); // Routes::new(IngestServiceServer::new(...)).add_service(...)
    let server = ServerBuilder::new(routes, &["sonde.storage.v1.IngestService"], &[])
        .streams(streams)
        .immediate(shutdown.immediate.clone())
        .start(listener, shutdown.drain.clone(), storage.drain)
        .await?;
    server.wait().await?;
    let hurried = shutdown.immediate.is_cancelled();
    Ok(if hurried { ExitCode::from(shutdown.exit_code()) } else { ExitCode::SUCCESS })
}
