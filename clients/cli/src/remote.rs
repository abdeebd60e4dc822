//! `sonde crawls|visits|browsers`: what a running coordinator knows.

use prost::Message;
use sonde_proto::coordinator::v1::{
    CancelCrawlRequest, Crawl, GetCrawlRequest, GetVisitRequest, ListBrowsersRequest, ListCrawlsRequest,
    ListVisitsRequest, PauseCrawlRequest, ResumeCrawlRequest, SlotState, Visit, crawl_event::Event,
    crawl_service_client::CrawlServiceClient, fleet_service_client::FleetServiceClient,
};
use sonde_proto::to_json;
use sonde_proto::visit::v1::Outcome;
use sonde_runtime::endpoint::{Inproc, connect};
use tonic::transport::Channel;

use crate::args::{CrawlsAction, CrawlsArgs, ServerArgs, VisitsAction, VisitsArgs};
use crate::exit::{CliError, EXIT_FAILED};
use crate::format::{shown, span, std_duration};
use crate::report::table;
use crate::visit::event_line;
use crate::watch::{Seen, Watch};

fn channel(server: &ServerArgs) -> Result<Channel, CliError> {
    Ok(connect(&server.server.parse()?, &Inproc::new())?)
}

fn print_json(name: &str, message: &impl Message) {
    println!("{}", to_json(name, message));
}

/// `sonde crawls …`.
pub async fn crawls(args: CrawlsArgs) -> Result<u8, CliError> {
    let json = args.server.json;
    let mut client = CrawlServiceClient::new(channel(&args.server)?);
    let crawl = match args.action {
        CrawlsAction::List => return list_crawls(client, json).await,
        CrawlsAction::Watch { crawl_id, after, phases } => {
            return watch(client, &crawl_id, after, phases, json, None).await;
        }
        CrawlsAction::Get { crawl_id } => {
            client.get_crawl(GetCrawlRequest { crawl_id }).await?.into_inner().crawl
        }
        CrawlsAction::Pause { crawl_id } => {
            client.pause_crawl(PauseCrawlRequest { crawl_id }).await?.into_inner().crawl
        }
        CrawlsAction::Resume { crawl_id } => {
            client.resume_crawl(ResumeCrawlRequest { crawl_id }).await?.into_inner().crawl
        }
        CrawlsAction::Cancel { crawl_id } => {
            client.cancel_crawl(CancelCrawlRequest { crawl_id }).await?.into_inner().crawl
        }
    };
    let crawl = crawl.unwrap_or_default();
    if json {
        print_json("sonde.coordinator.v1.Crawl", &crawl);
    } else {
        let mut rows = table(CRAWL_HEADER);
        rows.add_row(crawl_row(&crawl));
        println!("{rows}");
        if !crawl.waiting_for.is_empty() {
            println!("waiting for: {}", crawl.waiting_for);
        }
    }
    Ok(0)
}

const CRAWL_HEADER: &[&str] = &["crawl", "name", "state", "total", "queued", "running", "ended"];

fn crawl_row(crawl: &Crawl) -> [String; 7] {
    let counts = crawl.counts.clone().unwrap_or_default();
    let mut outcomes: Vec<_> = counts.outcomes.iter().map(|(k, v)| format!("{k} {v}")).collect();
    outcomes.sort();
    [
        crawl.crawl_id.clone(),
        shown(crawl.spec.as_ref().map(|s| s.name.as_str()).unwrap_or_default(), 30),
        crawl.state().as_str_name().trim_start_matches("CRAWL_STATE_").to_lowercase(),
        counts.total.to_string(),
        counts.queued.to_string(),
        counts.running.to_string(),
        outcomes.join(", "),
    ]
}

async fn list_crawls(mut client: CrawlServiceClient<Channel>, json: bool) -> Result<u8, CliError> {
    let mut rows = table(CRAWL_HEADER);
    let mut page_token = String::new();
    loop {
        let page = client.list_crawls(ListCrawlsRequest { page_size: 500, page_token }).await?.into_inner();
        for crawl in &page.crawls {
            if json {
                print_json("sonde.coordinator.v1.Crawl", crawl);
            } else {
                rows.add_row(crawl_row(crawl));
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if !json {
        println!("{rows}");
    }
    Ok(0)
}

/// Prints events until the crawl, or the one visit asked for, has ended.
async fn watch(
    client: CrawlServiceClient<Channel>,
    crawl_id: &str,
    after: i64,
    phases: bool,
    json: bool,
    only: Option<i64>,
) -> Result<u8, CliError> {
    let mut watch = Watch::new(client, crawl_id, after, phases);
    loop {
        match watch.next().await? {
            Seen::End => return Ok(0),
            Seen::Lost(why) => eprintln!("sonde: the coordinator does not answer ({why}); trying again"),
            Seen::Event(event) => {
                let number = event.event.as_ref().and_then(visit_of);
                if only.is_some() && number != only {
                    continue;
                }
                if json {
                    print_json("sonde.coordinator.v1.CrawlEvent", event.as_ref());
                } else if let Some(line) = event_line(&event) {
                    println!("{:>6} {line}", event.sequence);
                }
                if let (Some(_), Some(Event::VisitEnded(ended))) = (only, &event.event) {
                    return Ok(if ended.outcome() == Outcome::Ok { 0 } else { EXIT_FAILED });
                }
            }
        }
    }
}

fn visit_of(event: &Event) -> Option<i64> {
    match event {
        Event::AttemptStarted(e) => Some(e.visit_no),
        Event::AttemptFailed(e) => Some(e.visit_no),
        Event::VisitEnded(e) => Some(e.visit_no),
        Event::VisitPhase(e) => Some(e.visit_no),
        Event::VisitCommand(e) => Some(e.visit_no),
        Event::CrawlState(_) | Event::VisitsAdded(_) | Event::FleetNotice(_) | Event::CrawlHooksEnded(_) => {
            None
        }
    }
}

/// `sonde visits …`.
pub async fn visits(args: VisitsArgs) -> Result<u8, CliError> {
    let json = args.server.json;
    let mut client = CrawlServiceClient::new(channel(&args.server)?);
    match args.action {
        VisitsAction::List { crawl_id, outcome } => list_visits(client, crawl_id, outcome, json).await,
        VisitsAction::Watch { crawl_id, visit_no } => {
            watch(client, &crawl_id, 0, true, json, Some(visit_no)).await
        }
        VisitsAction::Get { crawl_id, visit_no } => {
            let found = client.get_visit(GetVisitRequest { crawl_id, visit_no }).await?.into_inner();
            if json {
                print_json("sonde.coordinator.v1.GetVisitResponse", &found);
                return Ok(0);
            }
            let mut rows = table(VISIT_HEADER);
            rows.add_row(visit_row(&found.visit.unwrap_or_default()));
            println!("{rows}");
            for attempt in &found.attempts {
                let result = attempt.result.clone().unwrap_or_default();
                let why = result.failure.as_ref().map(|f| f.message.as_str()).unwrap_or_default();
                println!(
                    "attempt {} (visit_id {}) on {}: {} {}",
                    attempt.attempt,
                    attempt.visit_id,
                    attempt.browser_service,
                    result.outcome().word(),
                    shown(why, 200)
                );
                for c in &result.commands {
                    let error = shown(&c.error, 100);
                    println!("  {} {} in {} ms {error}", c.name, c.status().word(), c.duration_ms);
                }
            }
            Ok(0)
        }
    }
}

const VISIT_HEADER: &[&str] = &["no", "url", "state", "outcome", "attempts", "error"];

fn visit_row(visit: &Visit) -> [String; 6] {
    let phase = visit.phase.as_ref().map(sonde_proto::visit::v1::Phase::line);
    [
        visit.visit_no.to_string(),
        shown(&visit.url, 70),
        phase
            .unwrap_or_else(|| visit.state().as_str_name().trim_start_matches("VISIT_STATE_").to_lowercase()),
        if visit.outcome() == Outcome::Unspecified {
            String::new()
        } else {
            visit.outcome().word().to_owned()
        },
        visit.attempts.to_string(),
        shown(visit.failure.as_ref().map(|f| f.message.as_str()).unwrap_or_default(), 60),
    ]
}

async fn list_visits(
    mut client: CrawlServiceClient<Channel>,
    crawl_id: String,
    outcome: Option<String>,
    json: bool,
) -> Result<u8, CliError> {
    let outcomes = match outcome {
        None => Vec::new(),
        Some(word) => {
            let name = format!("OUTCOME_{}", word.to_uppercase());
            let outcome = Outcome::from_str_name(&name).ok_or_else(|| {
                CliError::Input(format!(
                    "--outcome {word}: none of ok, neterror, timeout, error, crashed, blocked, cancelled, poisoned"
                ))
            })?;
            vec![outcome.into()]
        }
    };
    let mut rows = table(VISIT_HEADER);
    let mut page_token = String::new();
    loop {
        let request = ListVisitsRequest {
            crawl_id: crawl_id.clone(),
            states: Vec::new(),
            outcomes: outcomes.clone(),
            page_size: 1000,
            page_token,
        };
        let page = client.list_visits(request).await?.into_inner();
        for visit in &page.visits {
            if json {
                print_json("sonde.coordinator.v1.Visit", visit);
            } else {
                rows.add_row(visit_row(visit));
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if !json {
        println!("{rows}");
    }
    Ok(0)
}

/// `sonde browsers`.
pub async fn browsers(server: ServerArgs) -> Result<u8, CliError> {
    let mut client = FleetServiceClient::new(channel(&server)?);
    let slots = client.list_browsers(ListBrowsersRequest {}).await?.into_inner().slots;
    let mut rows = table(&["service", "slot", "browser", "state", "visit", "phase", "last error"]);
    for slot in &slots {
        if server.json {
            print_json("sonde.coordinator.v1.BrowserSlot", slot);
            continue;
        }
        let busy = slot.state() == SlotState::Busy;
        let phase = slot.phase.as_ref();
        let since = phase.and_then(|p| Some((p.deadline.as_ref()?, p)));
        let left = since.map(|(deadline, p)| {
            let now = sonde_runtime::clock::wall_us();
            let at = deadline.seconds * 1_000_000 + i64::from(deadline.nanos) / 1000;
            let left = std_duration(u64::try_from((at - now).max(0)).ok().map(|us| prost_types::Duration {
                seconds: (us / 1_000_000) as i64,
                nanos: ((us % 1_000_000) * 1000) as i32,
            }));
            format!("{} ({} left)", p.line(), span(left))
        });
        rows.add_row([
            slot.browser_service.clone(),
            slot.slot.to_string(),
            slot.browser_id.to_string(),
            slot.state().as_str_name().trim_start_matches("SLOT_STATE_").to_lowercase(),
            if busy { format!("{} #{}", slot.crawl_id, slot.visit_no) } else { String::new() },
            left.unwrap_or_default(),
            shown(&slot.last_error, 60),
        ]);
    }
    if !server.json {
        println!("{rows}");
    }
    Ok(0)
}
