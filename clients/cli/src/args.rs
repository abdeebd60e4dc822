//! The arguments of every command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use sonde_proto::visit::v1::Display;

use crate::hooks::HooksArgs;
use crate::processes::{KillArgs, LogsArgs, PsArgs};

/// Measures and drives the web with real browsers.
#[derive(Debug, Parser)]
#[command(name = "sonde", version, max_term_width = 110)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Visit a list of sites and store what the instruments record
    Crawl(Box<CrawlArgs>),
    /// Visit one page and show its events as they happen
    Visit(Box<VisitArgs>),
    /// Crawl the built-in fixture site and compare the rows with the truth
    Selftest(Box<SelftestArgs>),
    /// Run coordinator, browser-service and storage-service as three supervised processes
    Up(Box<UpArgs>),
    /// Crawls of a running coordinator
    Crawls(CrawlsArgs),
    /// Visits of a crawl of a running coordinator
    Visits(VisitsArgs),
    /// Browser slots of a running coordinator
    Browsers(ServerArgs),
    /// Print the tables and their columns
    Schema(SchemaArgs),
    /// Kept profiles of stateful crawls, and archives of profiles to start from
    Profile(ProfileArgs),
    /// Processes: what was started, on whose behalf, and why it ended
    Ps(PsArgs),
    /// What a process wrote
    Logs(LogsArgs),
    /// End a process, with all that descends from it
    Kill(KillArgs),
    /// Hooks of ArchiveBox's plugins: what is there, and a run of them on one page
    Hooks(HooksArgs),
}

/// Profiles.
#[derive(Clone, Debug, Parser)]
pub struct ProfileArgs {
    #[command(subcommand)]
    pub action: ProfileAction,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ProfileAction {
    /// The profiles that are kept
    List {
        /// Data directory of the crawls (crawl's --out)
        #[arg(long, value_name = "DIR", default_value = "sonde-out")]
        data: PathBuf,
    },
    /// Write a kept profile to an archive (.tar.gz), for --seed-profile
    Dump {
        crawl_id: String,
        /// The archive to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Of several browsers this one's
        #[arg(long, value_name = "ID")]
        browser_id: Option<u32>,
        /// Data directory of the crawls (crawl's --out)
        #[arg(long, value_name = "DIR", default_value = "sonde-out")]
        data: PathBuf,
    },
    /// Check an archive of a profile, store it, and print the SHA-256 that --seed-profile and BrowserSpec.seed_profile take
    Seed {
        /// .tar or .tar.gz of a profile's contents
        file: PathBuf,
        /// The browser whose profile it is
        #[arg(long = "browser", value_enum, default_value_t)]
        kind: BrowserArg,
        /// Data directory to store it in
        #[arg(long, value_name = "DIR", default_value = "sonde-out")]
        data: PathBuf,
        /// Address of a running storage-service to store it in
        #[arg(long, value_name = "ADDRESS")]
        storage: Option<String>,
    },
}

/// How the tables are printed.
#[derive(Clone, Debug, Parser)]
pub struct SchemaArgs {
    /// Markdown for readers, SQL as SQLite takes it, or Arrow schemas as JSON
    #[arg(long, value_enum, default_value_t = SchemaFormat::Markdown)]
    pub format: SchemaFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaFormat {
    Markdown,
    Sql,
    Arrow,
}

/// Where configuration comes from.
#[derive(Clone, Debug, Default, Parser)]
pub struct ConfigArgs {
    /// TOML file with sections [coordinator], [browser], [storage]
    #[arg(long, value_name = "FILE", env = "SONDE_CONFIG")]
    pub config: Option<PathBuf>,
    /// One value of the configuration, such as storage.data_dir=/data (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the effective configuration with the origin of each value, and end
    #[arg(long)]
    pub print_config: bool,
    /// Log filter of the embedded services, as `info` or `sonde_browser=debug`
    #[arg(long, value_name = "FILTER", default_value = "warn", env = "SONDE_LOG")]
    pub log: String,
}

/// The browsers of visits and of embedded services.
#[derive(Clone, Debug, Default, Parser)]
pub struct BrowserArgs {
    /// The browser to visit with
    #[arg(long = "browser", value_enum, default_value_t = BrowserArg::Chromium, value_name = "KIND")]
    pub kind: BrowserArg,
    /// Browsers that run at once [default: 1.25 per core]
    #[arg(long, short = 'n', value_name = "N")]
    pub browsers: Option<u32>,
    /// Run Chromium without its sandbox (needed as root); recorded in provenance
    #[arg(long)]
    pub no_sandbox: bool,
    /// The program of the browser to run [default: searched in the usual places]
    #[arg(long, value_name = "FILE")]
    pub executable: Option<PathBuf>,
}

/// What every visit does.
#[derive(Clone, Debug, Parser)]
pub struct VisitSetup {
    /// Commands to run: a JSON list of sonde.visit.v1.Command, or TOML with [[commands]]. They are get, browse,
    /// screenshot, dump_page_source, pdf, mhtml, upload, download, bot_mitigation, dump_profile, har, record_video,
    /// explore, sleep, click, hover, type, press, select, scroll, wait_for, evaluate, extract, assert, get_cookies,
    /// set_cookies and set_headers; the URL is loaded first unless the first of them that needs a page loads one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["browse", "screenshot", "full_page_screenshot", "page_source"])]
    pub commands: Option<PathBuf>,
    /// Where the browser's windows are shown: headless, headed (on the display of the environment), :N (on that X
    /// display), or xvfb (on one that is made for the browser)
    #[arg(long, value_name = "DISPLAY", default_value = "headless", value_parser = crate::flags::display)]
    pub display: (Display, String),
    /// What to record: all, none, or a list of http, cookies, javascript, navigations, dns, scripts
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub instruments: String,
    /// Resource types whose bodies are saved: all, or a list such as script,main_frame
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub save_content: Vec<String>,
    /// JavaScript APIs to record: a file of JSON, the JSON itself, or the name of a collection
    /// (collection_fingerprinting, collection_extended, collection_stealth); see docs/js-settings.md
    #[arg(long, value_name = "FILE|JSON|NAME")]
    pub js_settings: Option<String>,
    /// Calls recorded of each JavaScript symbol in each document, the rest being counted; 0: all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub js_limit: u32,
    /// How JavaScript calls are caught; the browser-service's default unless given
    #[arg(long, value_enum, value_name = "MODE")]
    pub js_capture: Option<CaptureArg>,
    /// Name the JavaScript APIs that the engine saw used and no record tells of (Chromium, with --isolation process)
    #[arg(long)]
    pub feature_use_check: bool,
    /// When a page counts as loaded
    #[arg(long, value_enum, default_value_t = Load::Load)]
    pub load: Load,
    /// Time to stay on a page after it has loaded, as 500ms or 5s
    #[arg(long, value_parser = duration, default_value = "0s", value_name = "TIME")]
    pub dwell: Duration,
    /// Time for loading a page
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
    /// Follow this many random links of the same site
    #[arg(long, value_name = "N")]
    pub browse: Option<u32>,
    /// Take a screenshot of the viewport
    #[arg(long)]
    pub screenshot: bool,
    /// Take a screenshot of the whole page
    #[arg(long)]
    pub full_page_screenshot: bool,
    /// Store the page's source as the DOM serialises
    #[arg(long)]
    pub page_source: bool,
    /// Isolation between visits
    #[arg(long, value_enum, default_value_t = IsolationArg::Context)]
    pub isolation: IsolationArg,
    /// Make profiles from this archive, as `sonde profile dump` writes it: a file (.tar or .tar.gz of a profile's
    /// contents), or the SHA-256 of one that storage has (with --isolation profile or process)
    #[arg(long, value_name = "FILE|SHA256")]
    pub seed_profile: Option<String>,
    /// Whether third-party cookies are taken
    #[arg(long, value_enum, default_value_t = ThirdParty::Always)]
    pub third_party_cookies: ThirdParty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// The load event
    Load,
    /// DOMContentLoaded
    Domcontentloaded,
    /// The load event, then no open request for 500 ms
    Networkidle,
    /// The commit of the document
    Commit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IsolationArg {
    /// A fresh browser context per visit
    Context,
    /// A fresh process and profile per visit
    Process,
    /// One profile per browser for the whole crawl: what a visit leaves, the next one finds
    Profile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CaptureArg {
    /// Proxies around the functions
    Wrapped,
    /// Breakpoints of the engine, nothing replaced (Chromium)
    Stealth,
    /// Functions lent to the page (Firefox)
    Exported,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ThirdParty {
    Always,
    Never,
    /// Of sites that have cookies as first parties (Firefox)
    FromVisited,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BrowserArg {
    #[default]
    Chromium,
    Firefox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A live bar on a terminal, lines elsewhere
    Auto,
    /// A live bar
    Bar,
    /// One line a visit
    Plain,
    /// Nothing
    None,
}

#[derive(Clone, Debug, Parser)]
pub struct CrawlArgs {
    /// URLs or host names; `-` reads a list from standard input
    #[arg(value_name = "URL")]
    pub urls: Vec<String>,
    /// Site list: lines of URL or host, Tranco CSV (rank,domain), or JSONL ({"url":…,"rank":…}); `-` is standard input
    #[arg(long, short = 'l', value_name = "FILE")]
    pub list: Vec<PathBuf>,
    /// Only the first N sites of the lists
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Serve the built-in fixture site on loopback and crawl its pages
    #[arg(long, conflicts_with_all = ["urls", "list", "server"])]
    pub fixture: bool,
    /// Directory of the data; running the same crawl on it again resumes
    #[arg(long, short = 'o', value_name = "DIR", default_value = "sonde-out")]
    pub out: PathBuf,
    /// Submit to this coordinator instead of embedding the services
    #[arg(long, value_name = "ENDPOINT", env = "SONDE_SERVER", conflicts_with_all = ["browsers", "no_sandbox", "executable"])]
    pub server: Option<String>,
    /// Begin anew even if this list was crawled into the directory before
    #[arg(long)]
    pub new: bool,
    /// Name of the crawl, for people
    #[arg(long, default_value = "")]
    pub name: String,
    /// Attempts after the first for visits that fail
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub retries: u32,
    /// Most visits of one site at once; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_per_site: u32,
    /// Least time between two visits of one site
    #[arg(long, value_parser = duration, default_value = "0s", value_name = "TIME")]
    pub min_delay: Duration,
    /// Plugins of the operator whose hooks run: those of a crawl at its start and end, those of a page after the commands of
    /// each visit (comma-separated; their directories are browser.hooks.dirs of the configuration)
    #[arg(long, value_name = "PLUGINS", value_delimiter = ',')]
    pub hooks: Vec<String>,
    /// A setting of these plugins (repeatable)
    #[arg(long = "hook-setting", value_name = "KEY=VALUE", requires = "hooks", value_parser = key_value)]
    pub hook_settings: Vec<(String, String)>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub progress: ProgressMode,
    #[command(flatten)]
    pub setup: VisitSetup,
    #[command(flatten)]
    pub browser: BrowserArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Clone, Debug, Parser)]
pub struct VisitArgs {
    /// URL or host name
    #[arg(value_name = "URL")]
    pub url: String,
    /// Directory of the data
    #[arg(long, short = 'o', value_name = "DIR", default_value = "sonde-out")]
    pub out: PathBuf,
    /// Ask this coordinator instead of embedding the services
    #[arg(long, value_name = "ENDPOINT", env = "SONDE_SERVER", conflicts_with_all = ["no_sandbox", "executable"])]
    pub server: Option<String>,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub setup: VisitSetup,
    #[command(flatten)]
    pub browser: BrowserArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Clone, Debug, Parser)]
pub struct SelftestArgs {
    /// Times to run the whole of it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub runs: u32,
    /// Only pages whose names contain this
    #[arg(long, value_name = "TEXT")]
    pub page: Option<String>,
    /// On Chromium, then on Firefox, instead of the one browser of --browser
    #[arg(long, conflicts_with = "executable")]
    pub both: bool,
    /// Keep the data here instead of in a directory that is removed
    #[arg(long, short = 'o', value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub browser: BrowserArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Clone, Debug, Parser)]
pub struct UpArgs {
    /// Directory of the data
    #[arg(long, short = 'o', value_name = "DIR", default_value = "sonde-out")]
    pub out: PathBuf,
    /// Where the coordinator listens
    #[arg(long, value_name = "ENDPOINT", default_value = "http://127.0.0.1:7400")]
    pub listen: String,
    #[command(flatten)]
    pub browser: BrowserArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Which coordinator to ask.
#[derive(Clone, Debug, Parser)]
pub struct ServerArgs {
    /// Address of the coordinator
    #[arg(
        long,
        value_name = "ENDPOINT",
        env = "SONDE_SERVER",
        default_value = "http://127.0.0.1:7400",
        global = true
    )]
    pub server: String,
    /// Print JSON lines
    #[arg(long, global = true, action = ArgAction::SetTrue)]
    pub json: bool,
}

#[derive(Clone, Debug, Parser)]
pub struct CrawlsArgs {
    #[command(subcommand)]
    pub action: CrawlsAction,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum CrawlsAction {
    /// All crawls, newest first
    List,
    /// One crawl with its counts
    Get { crawl_id: String },
    /// The events of a crawl, from the first (or --after) to its end
    Watch {
        crawl_id: String,
        /// Events after this sequence number
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// Phases, too
        #[arg(long)]
        phases: bool,
    },
    /// Stop leasing visits
    Pause { crawl_id: String },
    /// Lease again
    Resume { crawl_id: String },
    /// End it: running and queued visits are cancelled
    Cancel { crawl_id: String },
}

#[derive(Clone, Debug, Parser)]
pub struct VisitsArgs {
    #[command(subcommand)]
    pub action: VisitsAction,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum VisitsAction {
    /// Visits of a crawl
    List {
        crawl_id: String,
        /// Only this outcome: ok, neterror, timeout, …
        #[arg(long)]
        outcome: Option<String>,
    },
    /// One visit with its attempts
    Get { crawl_id: String, visit_no: i64 },
    /// The events of one visit until it ends
    Watch { crawl_id: String, visit_no: i64 },
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<sonde_runtime::config::units::HumanDuration>().map(|d| d.0).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("soon").is_err());
    }
}
