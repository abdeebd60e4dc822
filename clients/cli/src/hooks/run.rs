//! `sonde hooks run`: the hooks of plugins on a page, and on pages that they find.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sonde_browser::engine::chromium::HookBrowser;
use sonde_browser::engine::chromium::launch::ChromiumOptions;
use sonde_browser::hooks::config::Given;
use sonde_browser::hooks::crawl::{Bounds, Crawl};
use sonde_browser::hooks::discovery::Found;
use sonde_browser::hooks::drive::{self, Shared};
use sonde_browser::hooks::env::Host;
use sonde_browser::hooks::launch::Launch;
use sonde_browser::hooks::names::Generation;
use sonde_browser::hooks::runner::{Options, Pace};
use sonde_browser::hooks::verdict::Mode;
use tokio::sync::mpsc;

use super::args::{HooksRunArgs, LaunchArg};
use super::work::{Hooks, Parts};
use super::{given, index, input, look, orders, search};
use crate::exit::{CliError, EXIT_FAILED, EXIT_INTERRUPTED};

/// Events that wait for the writer.
const EVENTS: usize = 1024;
/// For the browser's end.
const CLOSE: Duration = Duration::from_secs(15);

/// Runs it.
pub async fn run(args: HooksRunArgs) -> Result<u8, CliError> {
    let (found, given) = (look(&args.setup)?, given(&args.setup)?);
    let url = url::Url::parse(&args.url)
        .map_err(|e| CliError::Input(format!("{}: {e}; give a whole URL", args.url)))?;
    let out = prepare(&args.out)?;
    let place = out.clone();
    crate::processes::recorded(&place, "hooks", run_recorded(args, (found, given), url, out)).await
}

async fn run_recorded(
    args: HooksRunArgs,
    (found, given): (Found, Given),
    url: url::Url,
    out: PathBuf,
) -> Result<u8, CliError> {
    let earlier = if args.retry { Some(index::statuses(&out)?) } else { None };
    let runtime = args.setup.runtime.clone();
    let host = Host { machine_id: machine_id(), runtime, path: search(&args.setup) };
    let options = options(&args)
        .for_generation(Generation::of(found.plugins.iter().flat_map(|p| &p.hooks).map(|h| &h.name)));
    let mut crawl = Crawl::new(Bounds {
        max_depth: args.depth,
        max_urls: usize::try_from(args.max_urls).unwrap_or(usize::MAX),
        max_size: args.max_size,
        max_snapshot_size: args.max_page_size,
        timeout: args.max_time,
    });
    crawl.add(url.as_str(), None).map_err(|why| CliError::Input(format!("{url}: not taken: {why:?}")))?;
    let shared = Shared::new(crawl);
    let (events_end, events) = mpsc::channel(EVENTS);
    let (orders_end, inbox) = mpsc::channel(4);
    let parts = Parts {
        found,
        wanted: args.setup.plugins.clone(),
        given,
        host,
        timeout: args.timeout,
        options,
        out: out.clone(),
        one_page: args.depth == 0,
        earlier,
        shared: shared.clone(),
        events: events_end,
    };
    parts.check(url.as_str()).map_err(input)?;
    let browser = if args.browser { Some(launch(&args).await?) } else { None };
    let hooks = Hooks::new(parts, browser.map(Arc::new));
    orders::listen(orders_end, args.control);
    let writing = tokio::spawn(index::write(events, out, args.json));
    drive::drive(&shared, usize::from(args.workers), &hooks, inbox).await;
    let ended = hooks.end(CLOSE).await;
    let counts =
        writing.await.map_err(|e| CliError::Service(format!("the writer of the index failed: {e}")))??;
    let crawl = shared.lock();
    let pages = crawl.snapshots().len();
    let refused = drive::refusals(&crawl);
    if args.json {
        let summary = serde_json::json!({"event": "RunSummary", "pages": pages, "bytes": crawl.size(), "hooks": counts, "refused": refused});
        println!("{summary}");
    } else {
        let refused = if refused.is_empty() {
            String::new()
        } else {
            format!("; pages not taken: {}", refused.join(", "))
        };
        println!("{counts}; {pages} pages, {} bytes{refused}", crawl.size());
    }
    let ended = ended?;
    Ok(if ended.aborted {
        EXIT_INTERRUPTED
    } else if ended.failed {
        EXIT_FAILED
    } else {
        0
    })
}

fn options(args: &HooksRunArgs) -> Options {
    Options {
        pace: if args.step_parallel { Pace::StepParallel } else { Pace::Sequential },
        mode: if args.seed_mode { Mode::Seed } else { Mode::Current },
        launch: match args.launch {
            LaunchArg::Auto => Launch::Auto,
            LaunchArg::Shebang => Launch::Shebang,
            LaunchArg::Interpreter => Launch::Interpreter,
        },
        max_depth: Some(args.max_depth.max(u64::from(args.depth))),
        ..Options::default()
    }
}

async fn launch(args: &HooksRunArgs) -> Result<HookBrowser, CliError> {
    let options = ChromiumOptions {
        executable: args.executable.clone(),
        no_sandbox: args.no_sandbox,
        ..ChromiumOptions::default()
    };
    HookBrowser::launch(options).await.map_err(|e| CliError::Service(e.to_string()))
}

fn prepare(out: &Path) -> Result<PathBuf, CliError> {
    let problem =
        |e: std::io::Error| CliError::Input(format!("{}: {e}; give --out another directory", out.display()));
    for dir in [".lib/bin", ".personas", ".tmp"] {
        std::fs::create_dir_all(out.join(dir)).map_err(problem)?;
    }
    out.canonicalize().map_err(problem)
}

fn machine_id() -> String {
    let read = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if read.trim().is_empty() { "unknown".to_owned() } else { read.trim().to_owned() }
}
