//! Log output to standard error, and panics as log events.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The `[telemetry]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// A filter as of `tracing_subscriber::EnvFilter`: `info`, or `info,sonde_storage=debug`.
    pub level: String,
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One human-readable line per event.
    Plain,
    /// One JSON object per line.
    Json,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Plain }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "telemetry.level `{level}` is not a log filter: {reason}; give e.g. `info` or `info,sonde_storage=debug`"
    )]
    Filter { level: String, reason: String },
}

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Sends log events and panics of this process to standard error. Returns false, and changes nothing, if logging was
/// set up before (as when a service runs embedded in a process that did so).
///
/// # Errors
/// If the level is not a filter.
pub fn init(config: &Telemetry) -> Result<bool, TelemetryError> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|error| TelemetryError::Filter { level: config.level.clone(), reason: error.to_string() })?;
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(false);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match config.format {
        Format::Plain => builder.with_ansi(false).finish().try_init().is_ok(),
        Format::Json => builder.json().finish().try_init().is_ok(),
    };
    if installed {
        log_panics();
    }
    Ok(installed)
}

fn log_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // A filter of `off` must not hide a panic.
        if tracing::enabled!(tracing::Level::ERROR) { log_panic(info) } else { previous(info) }
    }));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a value that is no string");
    let location = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let backtrace = std::backtrace::Backtrace::capture();
    let thread = std::thread::current();
    tracing::error!(
        panic = message,
        location,
        thread = thread.name().unwrap_or("unnamed"),
        backtrace = %backtrace,
        "panicked"
    );
}
