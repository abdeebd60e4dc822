//! `sonde crawl`.

use std::collections::HashMap;
use std::time::Duration;

use sonde_proto::coordinator::v1::{
    CrawlSpec, CrawlState, Politeness, RetryPolicy, crawl_service_client::CrawlServiceClient,
};
use sonde_proto::visit::v1::{Command, CrawlHooks, RunHooksCommand, command::Step};
use sonde_runtime::endpoint::{Inproc, connect};
use sonde_runtime::signals::Shutdown;
use sonde_site::{Site, SiteOptions, tour};
use tonic::transport::Channel;

use crate::args::CrawlArgs;
use crate::embed::{Embedded, Settings};
use crate::exit::{CliError, EXIT_FAILED, EXIT_INTERRUPTED};
use crate::flags::{self, proto_duration};
use crate::format::count;
use crate::lists::Lists;
use crate::profile;
use crate::progress::{Progress, Tally};
use crate::report;
use crate::submit::{Submitted, submit};
use crate::watch::{Seen, Watch};

/// From the first Ctrl-C: running visits end by themselves within this.
const DRAIN: Duration = Duration::from_secs(90);

/// Runs it.
pub async fn run(args: CrawlArgs) -> Result<u8, CliError> {
    if args.server.is_none() {
        let settings = Settings::load(&args.out, &args.browser, &args.config)?;
        if args.config.print_config {
            print!("{}", settings.print()?);
            return Ok(0);
        }
        let spec = spec(&args)?;
        let site = if args.fixture { Some(fixture().await?) } else { None };
        let urls = site.as_ref().map_or_else(|| args.urls.clone(), fixture_urls);
        let lists = Lists::open(&urls, &args.list, args.limit)?;
        let result = embedded(&args, settings, spec, lists).await;
        if let Some(site) = site {
            site.stop().await.map_err(|e| CliError::Service(e.to_string()))?;
        }
        return result;
    }
    let spec = spec(&args)?;
    profile::must_be_stored(args.setup.seed_profile.as_deref())?;
    let mut lists = Lists::open(&args.urls, &args.list, args.limit)?;
    let endpoint = args.server.as_deref().unwrap_or_default().parse()?;
    let channel = connect(&endpoint, &Inproc::new())?;
    let shutdown = on_signals()?;
    let (crawl, ended) = follow(&args, &channel, spec, &mut lists, &shutdown).await?;
    if !ended {
        eprintln!(
            "the crawl goes on at {endpoint}; watch it: sonde crawls watch {} --server {endpoint}",
            crawl.id
        );
        return Ok(EXIT_INTERRUPTED);
    }
    println!("Crawl: {} at {endpoint}", crawl.id);
    Ok(crawl.code())
}

async fn fixture() -> Result<Site, CliError> {
    let site = Site::start(SiteOptions::default()).await.map_err(|e| CliError::Service(e.to_string()))?;
    eprintln!("the fixture site is served at {}", site.url("site-0.localhost", "/"));
    Ok(site)
}

/// Pages that never load, or are no pages, on purpose.
const NOT_TO_LIST: &[&str] = &["hang", "download", "infinite-loop"];

fn fixture_urls(site: &Site) -> Vec<String> {
    let listed = tour().iter().filter(|p| !NOT_TO_LIST.contains(&p.name));
    listed.map(|page| page.url(site, &format!("crawl-{}", page.name), "")).collect()
}

fn spec(args: &CrawlArgs) -> Result<CrawlSpec, CliError> {
    let mut commands = flags::commands(&args.setup)?;
    let hooks = (!args.hooks.is_empty()).then(|| {
        let settings: HashMap<String, String> = args.hook_settings.iter().cloned().collect();
        let (plugins, of_pages) = (args.hooks.clone(), settings.clone());
        let run = RunHooksCommand { plugins: plugins.clone(), settings: of_pages, url: String::new() };
        commands.push(Command { step: Some(Step::RunHooks(run)), ..Command::default() });
        CrawlHooks { plugins, settings, timeout: None }
    });
    Ok(CrawlSpec {
        hooks,
        name: args.name.clone(),
        browser: Some(flags::browser(&args.setup, args.browser.kind)),
        instruments: Some(flags::instruments(&args.setup)?),
        commands,
        retry: Some(RetryPolicy { max_retries: Some(args.retries), ..RetryPolicy::default() }),
        politeness: Some(Politeness {
            max_per_site: args.max_per_site,
            min_delay: Some(proto_duration(args.min_delay)),
        }),
        ..CrawlSpec::default()
    })
}

async fn embedded(
    args: &CrawlArgs,
    settings: Settings,
    mut spec: CrawlSpec,
    mut lists: Lists,
) -> Result<u8, CliError> {
    let shutdown = on_signals()?;
    let services = tokio::select! {
        started = Embedded::start(settings, &args.config.log) => started?,
        () = shutdown.drain.cancelled() => return Ok(EXIT_INTERRUPTED),
    };
    let coordinator = services.coordinator.clone();
    let browser = spec.browser.get_or_insert_default();
    if let Err(error) = profile::plant(args.setup.seed_profile.as_deref(), browser, &services.storage).await {
        services.close().await;
        return Err(error);
    }
    let result = tokio::select! {
        result = follow(args, &coordinator, spec, &mut lists, &shutdown) => result,
        () = shutdown.immediate.cancelled() => return Ok(killed(args)),
    };
    let (crawl, ended) = match result {
        Ok(followed) => followed,
        Err(error) => {
            services.close().await;
            return Err(error);
        }
    };
    if !ended {
        eprintln!("draining: running visits end first; press Ctrl-C again to end at once");
        tokio::select! {
            () = services.drain(DRAIN) => {}
            () = shutdown.immediate.cancelled() => return Ok(killed(args)),
        }
    }
    if let Err(error) = report::rows(&services.storage, &crawl.id, &services.data_dir).await {
        eprintln!("sonde: the rows could not be counted: {error}");
    }
    tokio::select! {
        () = services.close() => {}
        () = shutdown.immediate.cancelled() => return Ok(killed(args)),
    }
    if !ended {
        eprintln!("interrupted: run the same command again to go on in {}", args.out.display());
        return Ok(EXIT_INTERRUPTED);
    }
    Ok(crawl.code())
}

fn killed(args: &CrawlArgs) -> u8 {
    eprintln!("ended at once: run the same command again to go on in {}", args.out.display());
    EXIT_INTERRUPTED
}

fn on_signals() -> Result<Shutdown, CliError> {
    Shutdown::on_signals().map_err(|e| CliError::Service(format!("signals cannot be handled: {e}")))
}

/// A crawl that was followed.
struct Followed {
    id: String,
    failed: u64,
}

impl Followed {
    fn code(&self) -> u8 {
        if self.failed > 0 { EXIT_FAILED } else { 0 }
    }
}

/// Submits and shows the crawl until it ends (true) or the user stops it (false).
async fn follow(
    args: &CrawlArgs,
    channel: &Channel,
    spec: CrawlSpec,
    lists: &mut Lists,
    shutdown: &Shutdown,
) -> Result<(Followed, bool), CliError> {
    let mut client = CrawlServiceClient::new(channel.clone());
    let Submitted { crawl, resumed, bad, bad_count } = submit(&mut client, spec, lists, args.new).await?;
    for line in &bad {
        eprintln!("sonde: {} is left out: {}", line.place, line.message);
    }
    if bad_count > bad.len() as u64 {
        eprintln!("sonde: {} more are left out", count(bad_count - bad.len() as u64, "line"));
    }
    let tally = Tally::new(&crawl.counts.clone().unwrap_or_default());
    if crawl.state() == CrawlState::Ended {
        eprintln!(
            "this list was crawled into this directory before: nothing is left to do (--new begins anew)"
        );
        report::outcomes(&tally, Duration::ZERO);
        return Ok((Followed { id: crawl.crawl_id, failed: tally.failed() }, true));
    }
    let begun = if resumed { format!("resumed, {} done before", tally.ended()) } else { "begun".to_owned() };
    eprintln!("crawl {}: {} {begun}", crawl.crawl_id, count(tally.total, "visit"));
    let mut progress = Progress::new(args.progress, tally);
    let mut watch = Watch::new(client, &crawl.crawl_id, crawl.last_sequence, true);
    let ended = loop {
        let seen = tokio::select! {
            seen = watch.next() => seen?,
            () = shutdown.drain.cancelled() => break false,
        };
        match seen {
            Seen::Event(event) => progress.event(&event),
            Seen::Lost(why) => {
                progress.note(&format!("the coordinator does not answer ({why}); trying again"))
            }
            Seen::End => break true,
        }
    };
    progress.finish();
    report::outcomes(progress.tally(), progress.elapsed());
    let failed = progress.tally().failed();
    Ok((Followed { id: crawl.crawl_id, failed }, ended))
}
