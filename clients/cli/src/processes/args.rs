//! The arguments of `sonde ps|logs|kill`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Whose processes.
#[derive(Clone, Debug, Parser)]
pub struct Place {
    /// A browser-service to ask, as unix:sonde-out/run/browser.sock
    #[arg(long, value_name = "ENDPOINT")]
    pub server: Option<String>,
    /// Directory of the data: read from its records, whether or not a service runs
    #[arg(long, value_name = "DIR", default_value = "sonde-out", conflicts_with = "server")]
    pub data: PathBuf,
}

#[derive(Clone, Debug, Parser)]
pub struct PsArgs {
    /// Show who started whom
    #[arg(long)]
    pub tree: bool,
    /// Those that have exited, too
    #[arg(long, short = 'a')]
    pub all: bool,
    /// What those that run take of the machine
    #[arg(long)]
    pub usage: bool,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Parser)]
pub struct LogsArgs {
    /// Id of the process, the end of it, or the pid of one that runs
    pub id: String,
    /// Go on with what it writes, until it is gone
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Standard error instead of standard output
    #[arg(long)]
    pub stderr: bool,
    /// Only the last N lines [default: the last 64 KiB]
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Clone, Debug, Parser)]
pub struct KillArgs {
    /// Id of the process, the end of it, or the pid of one that runs
    pub id: String,
    /// From SIGTERM to SIGKILL
    #[arg(long, value_parser = crate::args::duration, default_value = "5s", value_name = "TIME")]
    pub grace: Duration,
    #[command(flatten)]
    pub place: Place,
}
