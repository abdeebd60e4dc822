//! The arguments of `sonde hooks`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::args::duration;

/// Hooks of plugins.
#[derive(Clone, Debug, Parser)]
pub struct HooksArgs {
    #[command(subcommand)]
    pub command: HooksCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum HooksCommand {
    /// Plugins, their hooks in order, whether they are enabled, and the programs they miss
    List(HooksSetup),
    /// Run the hooks of plugins on one page
    Run(Box<HooksRunArgs>),
}

/// Which plugins, with which settings.
#[derive(Clone, Debug, Parser)]
pub struct HooksSetup {
    /// Directory of plugins (repeatable)
    #[arg(long, value_name = "DIR", env = "SONDE_HOOKS_DIRS", value_delimiter = ':')]
    pub dir: Vec<PathBuf>,
    /// Only these plugins, and what they require
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub plugins: Vec<String>,
    /// A setting of plugins, such as WGET_TIMEOUT=30 (repeatable)
    #[arg(long = "with", value_name = "NAME=VALUE")]
    pub with: Vec<String>,
    /// Searched for programs before PATH (repeatable)
    #[arg(long, value_name = "DIR", env = "SONDE_HOOKS_PATH", value_delimiter = ':')]
    pub path: Vec<PathBuf>,
    /// Directory of node modules for hooks, with puppeteer-core for those of the browser [default: where ./x puts it]
    #[arg(long, value_name = "DIR", env = "SONDE_HOOKS_NODE_MODULES")]
    pub node_modules: Option<PathBuf>,
    /// The runtime that plugins are told they run in: abx-dl or archivebox
    #[arg(long, value_name = "NAME", default_value = "abx-dl")]
    pub runtime: String,
}

/// A run of hooks.
#[derive(Clone, Debug, Parser)]
pub struct HooksRunArgs {
    /// The page
    pub url: String,
    #[command(flatten)]
    pub setup: HooksSetup,
    /// Where index.jsonl and a directory for each plugin go
    #[arg(long, value_name = "DIR", default_value = "sonde-hooks")]
    pub out: PathBuf,
    /// Time of a hook whose plugin says none
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
    /// Run hooks of one step (first digit of their number) beside each other
    #[arg(long)]
    pub step_parallel: bool,
    /// A hook that ends well and says nothing has succeeded, as in ArchiveBox of January 2026
    #[arg(long)]
    pub seed_mode: bool,
    /// How hooks are started
    #[arg(long, value_enum, default_value_t = LaunchArg::Auto)]
    pub launch: LaunchArg,
    /// Give hooks a Chromium: each page gets a tab, and the plugin `chrome` is done by Sonde
    #[arg(long)]
    pub browser: bool,
    /// Run Chromium without its sandbox (needed as root)
    #[arg(long, env = "SONDE_BROWSER__NO_SANDBOX")]
    pub no_sandbox: bool,
    /// The program of the browser [default: searched in the usual places]
    #[arg(long, value_name = "FILE", env = "SONDE_BROWSER__EXECUTABLE")]
    pub executable: Option<PathBuf>,
    /// Also run the hooks on pages that they find, so many links deep
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    pub depth: u8,
    /// Pages at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub max_urls: u64,
    /// Bytes that hooks may keep of all pages
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = size)]
    pub max_size: u64,
    /// Bytes that hooks may keep of one page
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    pub max_page_size: u64,
    /// Pages at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: u8,
    /// Time for all pages; then what runs is ended
    #[arg(long, value_parser = duration, default_value = "24h", value_name = "TIME")]
    pub max_time: Duration,
    /// Run again what failed or was skipped in an earlier run with the same --out
    #[arg(long, conflicts_with = "depth")]
    pub retry: bool,
    /// Take orders from standard input, a word a line: pause, resume, skip, retry, abort
    #[arg(long)]
    pub control: bool,
    /// Pages that hooks find beyond this depth are dropped
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(0..=4))]
    pub max_depth: u64,
    /// Print every event as a line of JSON
    #[arg(long)]
    pub json: bool,
}

/// How hooks are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LaunchArg {
    /// By their first line where they are executable, else by their suffix
    Auto,
    /// By their first line only
    Shebang,
    /// By their suffix: python3, node, bash
    Interpreter,
}

fn size(text: &str) -> Result<u64, String> {
    text.parse::<sonde_runtime::config::units::ByteSize>().map(|s| s.0).map_err(|e| e.to_string())
}
