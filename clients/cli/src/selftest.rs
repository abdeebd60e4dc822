//! `sonde selftest`: visits every page of the fixture site and compares what
//! was stored with what the site's own log and the pages' reports say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sonde_proto::coordinator::v1::{
    DriveRequest, DriveResponse, DriveStart, crawl_event::Event, crawl_service_client::CrawlServiceClient,
    drive_request, drive_response,
};
use sonde_proto::visit::v1::{
    BrowserSpec, Command, GetCommand, Instruments, LoadPolicy, Outcome, SleepCommand, command::Step,
};
use sonde_runtime::clock::Mono;
use sonde_runtime::signals::Shutdown;
use sonde_site::expect::{Table, sqlite};
use sonde_site::{PAGES, Page, Site, SiteOptions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::args::{BrowserArg, SelftestArgs};
use crate::embed::{Embedded, Settings};
use crate::exit::{CliError, EXIT_FAILED, EXIT_INTERRUPTED};
use crate::flags::{self, proto_duration};
use crate::format::span;
use crate::report::table;

/// For a page to report that it is done.
const PAGE: Duration = Duration::from_secs(30);
/// After that, for answers that are still on their way to the page.
const TRAILING: Duration = Duration::from_millis(300);

/// Runs it.
pub async fn run(args: SelftestArgs) -> Result<u8, CliError> {
    let pages: Vec<&Page> = PAGES
        .iter()
        .filter(|p| args.page.as_ref().is_none_or(|text| p.name.contains(text.as_str())))
        .collect();
    if pages.is_empty() {
        let names: Vec<_> = PAGES.iter().map(|p| p.name).collect();
        return Err(CliError::Input(format!(
            "--page: no page's name contains it; the pages: {}",
            names.join(", ")
        )));
    }
    let temporary = args.out.is_none();
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("sonde-selftest-{}", uuid::Uuid::new_v4())));
    let settings = Settings::load(&out, &args.browser, &args.config)?;
    if args.config.print_config {
        print!("{}", settings.print()?);
        return Ok(0);
    }
    let slots = usize::try_from(settings.browser.value.slots).unwrap_or(1);
    let shutdown =
        Shutdown::on_signals().map_err(|e| CliError::Service(format!("signals cannot be handled: {e}")))?;
    let services = Embedded::start(settings, &args.config.log).await?;
    let result = tokio::select! {
        result = runs(&args, &pages, slots, &services) => result.map(Some),
        () = shutdown.drain.cancelled() => Ok(None),
    };
    services.close().await;
    if temporary && let Err(error) = std::fs::remove_dir_all(&out) {
        eprintln!("sonde: {} could not be removed: {error}", out.display());
    }
    Ok(match result? {
        None => EXIT_INTERRUPTED,
        Some(true) => 0,
        Some(false) => EXIT_FAILED,
    })
}

async fn runs(
    args: &SelftestArgs,
    pages: &[&'static Page],
    slots: usize,
    services: &Embedded,
) -> Result<bool, CliError> {
    let mut failed = 0;
    for run in 1..=args.runs {
        let began = Mono::now();
        let report = one_run(run, args.browser.kind, pages, slots, services).await?;
        let exact = report.is_exact();
        failed += u32::from(!exact);
        if run == args.runs || !exact {
            report.print();
        }
        let word =
            if exact { "recall 1.000 and precision 1.000 on every table" } else { "DIFFERENCES, see above" };
        println!("run {run}/{}: {} pages in {}: {word}", args.runs, pages.len(), span(began.elapsed()));
    }
    if args.runs > 1 {
        println!("{} of {} runs without a difference", args.runs - failed, args.runs);
    }
    Ok(failed == 0)
}

/// Visits all pages once, as many at a time as there are browsers.
async fn one_run(
    run: u32,
    kind: BrowserArg,
    pages: &[&'static Page],
    slots: usize,
    services: &Embedded,
) -> Result<Report, CliError> {
    let site = Site::start(SiteOptions::default()).await.map_err(|e| CliError::Service(e.to_string()))?;
    let site = std::sync::Arc::new(site);
    let mut waiting: Vec<_> = pages.iter().copied().rev().collect();
    let mut running = tokio::task::JoinSet::new();
    let mut report = Report::default();
    loop {
        while running.len() < slots
            && let Some(page) = waiting.pop()
        {
            let (site, channel) = (site.clone(), services.coordinator.clone());
            running.spawn(async move {
                let token = format!("run{run}-{}", page.name);
                let outcome = drive(&channel, kind, &site, page, &token).await;
                (page, token, outcome)
            });
        }
        let Some(done) = running.join_next().await else { break };
        let (page, token, outcome) =
            done.map_err(|e| CliError::Service(format!("a visit's task failed: {e}")))?;
        report.add(page, &token, outcome, &site, &services.data_dir);
    }
    site.stop().await.map_err(|e| CliError::Service(e.to_string()))?;
    Ok(report)
}

/// Loads one page on a driven browser, waits until it reports that it is done, and ends the visit.
async fn drive(
    channel: &Channel,
    kind: BrowserArg,
    site: &Site,
    page: &Page,
    token: &str,
) -> Result<(), String> {
    let url = page.url(site, token, "");
    let (sender, receiver) = mpsc::channel(4);
    let start = DriveStart {
        url: url.clone(),
        browser: Some(BrowserSpec { kind: flags::of_kind(kind).into(), ..BrowserSpec::default() }),
        instruments: Some(Instruments {
            http: true,
            cookies: true,
            javascript: true,
            navigations: true,
            dns: true,
            scripts: true,
            save_content: vec!["all".to_owned()],
            ..Instruments::default()
        }),
        ..DriveStart::default()
    };
    let send = async |message| {
        sender
            .send(DriveRequest { message: Some(message) })
            .await
            .map_err(|_| "the coordinator ended the drive".to_owned())
    };
    send(drive_request::Message::Start(start)).await?;
    let mut client = CrawlServiceClient::new(channel.clone());
    let mut answers =
        client.drive(ReceiverStream::new(receiver)).await.map_err(|e| e.message().to_owned())?.into_inner();
    let load_policy = LoadPolicy::Commit.into();
    let get = Step::Get(GetCommand { url, load_policy, ..GetCommand::default() });
    send(drive_request::Message::Command(Command { step: Some(get), ..Command::default() })).await?;
    if let Some(document) = page.done {
        site.wait_done(token, document, PAGE).await.map_err(|e| e.to_string())?;
    }
    let sleep = Step::Sleep(SleepCommand { duration: Some(proto_duration(TRAILING)) });
    send(drive_request::Message::Command(Command { step: Some(sleep), ..Command::default() })).await?;
    drop(sender);
    let mut outcome = Outcome::Unspecified;
    let mut why = String::new();
    while let Some(DriveResponse { message, .. }) =
        answers.message().await.map_err(|e| e.message().to_owned())?
    {
        match message {
            Some(drive_response::Message::Refused(failure)) => return Err(failure.message),
            Some(drive_response::Message::Event(event)) => {
                if let Some(Event::VisitEnded(ended)) = event.event {
                    outcome = ended.outcome();
                    why = ended.failure.map(|f| f.message).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    if outcome == Outcome::Ok { Ok(()) } else { Err(format!("outcome {}: {why}", outcome.word())) }
}

#[derive(Default)]
struct Sums {
    expected: u64,
    matched: u64,
    observed: u64,
    surplus: u64,
}

/// What one run found.
#[derive(Default)]
struct Report {
    tables: BTreeMap<&'static str, Sums>,
    differences: Vec<String>,
}

impl Report {
    fn is_exact(&self) -> bool {
        self.differences.is_empty()
    }

    fn add(&mut self, page: &Page, token: &str, outcome: Result<(), String>, site: &Site, data_dir: &Path) {
        if let Err(why) = outcome {
            self.differences.push(format!("{}: {why}", page.name));
        }
        let file: PathBuf = data_dir.join("crawl.sqlite");
        let read = match sqlite::read(&file, token) {
            Ok(read) => read,
            Err(error) => {
                self.differences.push(format!("{}: {error}", page.name));
                return;
            }
        };
        let expected = page.expected(token, site);
        for kind in Table::ALL {
            let score = expected.score(kind, &read.rows);
            let sums = self.tables.entry(name(kind)).or_default();
            sums.expected += score.expected;
            sums.matched += score.matched;
            sums.observed += score.observed;
            sums.surplus += score.surplus;
            if !score.is_exact() {
                let missing = score.missing_rows.iter().map(|r| format!("    missing {r}"));
                let surplus = score.surplus_rows.iter().map(|r| format!("    surplus {r}"));
                let rows: Vec<_> = missing.chain(surplus).take(20).collect();
                self.differences.push(format!("{}: {}\n{}", page.name, name(kind), rows.join("\n")));
            }
        }
    }

    fn print(&self) {
        for difference in &self.differences {
            println!("{difference}");
        }
        let mut rows = table(&["table", "expected", "matched", "observed", "surplus", "recall", "precision"]);
        let ratio = |part: u64, whole: u64| {
            format!("{:.3}", if whole == 0 { 1.0 } else { part as f64 / whole as f64 })
        };
        for (name, s) in &self.tables {
            rows.add_row([
                (*name).to_owned(),
                s.expected.to_string(),
                s.matched.to_string(),
                s.observed.to_string(),
                s.surplus.to_string(),
                ratio(s.matched, s.expected),
                ratio(s.observed - s.surplus, s.observed),
            ]);
        }
        println!("{rows}");
    }
}

fn name(table: Table) -> &'static str {
    match table {
        Table::HttpRequests => "http_requests",
        Table::HttpResponses => "http_responses",
        Table::HttpRedirects => "http_redirects",
        Table::HttpFailures => "http_failures",
        Table::Javascript => "javascript",
        Table::Navigations => "navigations",
        Table::JavascriptCookies => "javascript_cookies",
        Table::WebsocketFrames => "websocket_frames",
    }
}
