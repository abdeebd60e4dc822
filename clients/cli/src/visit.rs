//! `sonde visit`: one page, its events as they happen.

use sonde_proto::coordinator::v1::{
    CrawlEvent, CrawlHooksEnded, RunVisitRequest, VisitEnded, crawl_event::Event,
    crawl_service_client::CrawlServiceClient,
};
use sonde_proto::to_json;
use sonde_proto::visit::v1::{CommandSequence, Outcome};
use sonde_runtime::endpoint::{Inproc, connect};
use sonde_runtime::signals::Shutdown;
use tonic::transport::Channel;

use crate::args::VisitArgs;
use crate::embed::{Embedded, Settings};
use crate::exit::{CliError, EXIT_FAILED, EXIT_INTERRUPTED};
use crate::flags;
use crate::format::{shown, span, std_duration};
use crate::profile;
use crate::report;

/// Runs it.
pub async fn run(mut args: VisitArgs) -> Result<u8, CliError> {
    if let Err(message) = sonde_proto::validate_url(&args.url) {
        return Err(CliError::Input(format!("{:?}: {message}", args.url)));
    }
    let commands = flags::commands(&args.setup)?;
    let seed = args.setup.seed_profile.clone();
    let mut request = RunVisitRequest {
        sequence: Some(CommandSequence { url: args.url.clone(), commands }),
        browser: Some(flags::browser(&args.setup, args.browser.kind)),
        instruments: Some(flags::instruments(&args.setup)?),
        ..RunVisitRequest::default()
    };
    let shutdown =
        Shutdown::on_signals().map_err(|e| CliError::Service(format!("signals cannot be handled: {e}")))?;
    if let Some(server) = &args.server {
        profile::must_be_stored(seed.as_deref())?;
        let channel = connect(&server.parse()?, &Inproc::new())?;
        return tokio::select! {
            ended = follow(&channel, request, args.json) => Ok(code(ended?.outcome())),
            () = shutdown.drain.cancelled() => Ok(EXIT_INTERRUPTED),
        };
    }
    // One visit needs one browser.
    args.browser.browsers.get_or_insert(1);
    let settings = Settings::load(&args.out, &args.browser, &args.config)?;
    if args.config.print_config {
        print!("{}", settings.print()?);
        return Ok(0);
    }
    let services = Embedded::start(settings, &args.config.log).await?;
    let browser = request.browser.get_or_insert_default();
    if let Err(error) = profile::plant(seed.as_deref(), browser, &services.storage).await {
        services.close().await;
        return Err(error);
    }
    let result = tokio::select! {
        ended = follow(&services.coordinator, request, args.json) => ended.map(Some),
        () = shutdown.drain.cancelled() => Ok(None),
    };
    let code = match result {
        Ok(Some(ended)) => {
            if !args.json {
                report::rows(&services.storage, &ended.crawl_id, &services.data_dir).await?;
            }
            code(ended.outcome())
        }
        Ok(None) => EXIT_INTERRUPTED,
        Err(error) => {
            services.close().await;
            return Err(error);
        }
    };
    tokio::select! {
        () = services.close() => {}
        () = shutdown.immediate.cancelled() => {}
    }
    Ok(code)
}

/// The end of a visit.
struct Ended {
    crawl_id: String,
    visit: VisitEnded,
}

impl Ended {
    fn outcome(&self) -> Outcome {
        self.visit.outcome()
    }
}

fn code(outcome: Outcome) -> u8 {
    if outcome == Outcome::Ok { 0 } else { EXIT_FAILED }
}

async fn follow(channel: &Channel, request: RunVisitRequest, json: bool) -> Result<Ended, CliError> {
    let mut client = CrawlServiceClient::new(channel.clone());
    let mut events = client.run_visit(request).await?.into_inner();
    let mut ended = None;
    while let Some(response) = events.message().await? {
        let Some(event) = response.event else { continue };
        if json {
            println!("{}", to_json("sonde.coordinator.v1.CrawlEvent", &event));
        } else if let Some(line) = event_line(&event) {
            println!("{line}");
        }
        if let Some(Event::VisitEnded(visit)) = event.event {
            ended = Some(Ended { crawl_id: event.crawl_id, visit });
        }
    }
    ended.ok_or_else(|| {
        CliError::Service("the coordinator ended the stream before the visit had its outcome".to_owned())
    })
}

/// One event for people; `None` for those that say nothing to them.
pub fn event_line(event: &CrawlEvent) -> Option<String> {
    let words = match event.event.as_ref()? {
        Event::CrawlState(c) => {
            format!("crawl {}", c.state().as_str_name().trim_start_matches("CRAWL_STATE_").to_lowercase())
        }
        Event::VisitsAdded(a) => {
            format!("{} visits added{}", a.count, if a.sealed { ", no more to come" } else { "" })
        }
        Event::AttemptStarted(s) => {
            format!(
                "#{} attempt {} on browser {}: {}",
                s.visit_no,
                s.attempt,
                s.browser_id,
                shown(&s.url, 100)
            )
        }
        Event::AttemptFailed(f) => {
            let why = f.failure.as_ref().map(|f| f.message.as_str()).unwrap_or_default();
            format!("#{} attempt {} ended {}: {}", f.visit_no, f.attempt, f.outcome().word(), shown(why, 200))
        }
        Event::VisitPhase(p) => format!("#{} {}", p.visit_no, shown(&p.phase.as_ref()?.line(), 120)),
        Event::VisitCommand(c) => {
            let r = c.result.as_ref()?;
            let error =
                if r.error.is_empty() { String::new() } else { format!(" ({})", shown(&r.error, 100)) };
            let status = if r.http_status > 0 { format!(" HTTP {}", r.http_status) } else { String::new() };
            let value = match r.value_json.as_str() {
                "" => String::new(),
                value => format!(": {}", shown(value, 300)),
            };
            let (name, word) = (&r.name, r.status().word());
            format!("#{} {name} {word}{error}{status} in {} ms{value}", c.visit_no, r.duration_ms)
        }
        Event::CrawlHooksEnded(ended) => hooks_line(ended),
        Event::FleetNotice(n) => format!("browser {} {}: {}", n.browser_id, n.kind, shown(&n.detail, 160)),
        Event::VisitEnded(e) => {
            let seal = e.seal.as_ref().map(|s| {
                let rows: u64 = s.rows.values().sum();
                format!("; {rows} rows, {}", if s.complete { "complete" } else { s.reason.as_str() })
            });
            let why = e.failure.as_ref().map(|f| format!(": {}", shown(&f.message, 200))).unwrap_or_default();
            format!(
                "#{} {} in {}{}{why}",
                e.visit_no,
                e.outcome().word(),
                span(std_duration(e.took)),
                seal.unwrap_or_default()
            )
        }
    };
    Some(words)
}

/// How the hooks of a crawl ended: how many, and the first failure of each service.
pub fn hooks_line(ended: &CrawlHooksEnded) -> String {
    let mut words = Vec::new();
    for report in &ended.reports {
        let failed: Vec<_> = report.hooks.iter().filter(|hook| hook.status == "failed").collect();
        let first =
            failed.first().map(|h| format!(" ({} {}: {})", h.plugin, h.hook, shown(&h.output_str, 160)));
        let counts = format!("{} hooks of the crawl, {} failed", report.hooks.len(), failed.len());
        words.push(match report.error.as_str() {
            "" => format!("{}: {counts}{}", report.browser_service, first.unwrap_or_default()),
            error => format!("{}: {}", report.browser_service, shown(error, 160)),
        });
    }
    words.join("; ")
}
