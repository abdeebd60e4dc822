//! Hooks of plugins as a command: they run beside the page, and where the browser is Chromium it is lent to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sonde_proto::StreamId;
use sonde_proto::record::v1::{Truncation, record::Row};
use sonde_proto::visit::v1::{ArtifactRef, CommandStatus, LoadPolicy, RunHooksCommand};
use sonde_runtime::clock::wall_us;
use sonde_runtime::process::{Scope, within};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::loads::Loads;
use super::{NotLoaded as _, Page, load_site};
use crate::attempt::fault;
use crate::engine::artifact::no_page;
use crate::engine::links::candidates;
use crate::engine::{CommandReport, Progress};
use crate::hooks::chrome::{Landed, Lent, Navigation, Session, WaitUntil};
use crate::hooks::event::{Event, HookResult};
use crate::hooks::host::{HostError, Prepared};
use crate::hooks::keep::{Kept, MAX_BYTES, keep};
use crate::hooks::record::bounded;
use crate::hooks::runner;
use crate::uplink::AttemptUplink;

/// Events of hooks that wait to be read.
const EVENTS: usize = 1024;
/// Of the command's time, what is kept for storing what hooks left.
const STORING: Duration = Duration::from_secs(5);

/// The browser, lent to hooks for as long as this lives.
pub(in crate::engine) struct Loan {
    pub lent: Lent,
    pub _port: Box<dyn Send + Sync>,
}

/// Runs the hooks of a command on the page that is there, or on one that they load.
pub(super) async fn run_hooks(
    page: &mut impl Page,
    index: u32,
    asked: &RunHooksCommand,
    deadline: Instant,
) -> CommandReport {
    if asked.url.is_empty() && !page.loaded() {
        return no_page("run_hooks");
    }
    let prepared = match prepare(page, index, asked).await {
        Ok(prepared) => prepared,
        Err(error) => {
            let failure = fault::invalid("hooks", error.to_string());
            return CommandReport::failed(CommandStatus::Error, "hooks not run", failure);
        }
    };
    let _scratch = Scratch(prepared.places.data_dir.clone());
    run_prepared(page, index, asked, prepared, deadline).await
}

/// The directory of a command's hooks; it goes with the command, however that ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let dir = std::mem::take(&mut self.0);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::warn!(?dir, %error, "a directory of hooks could not be removed");
            }
        });
    }
}

async fn prepare<P: Page>(page: &mut P, index: u32, asked: &RunHooksCommand) -> Result<Prepared, HostError> {
    page.progress().detail("looking for hooks");
    let url = match asked.url.as_str() {
        "" => page.url(),
        url => candidates(url).into_iter().next().unwrap_or_else(|| url.to_owned()),
    };
    let (host, asked, visit_id) = (page.shared().hooks.clone(), asked.clone(), page.uplink().visit_id());
    let planning =
        tokio::task::spawn_blocking(move || host.prepare(&asked, (&url, visit_id, index), P::LENDS));
    planning.await.unwrap_or_else(|error| Err(HostError::Lost(error.to_string())))
}

async fn run_prepared<P: Page>(
    page: &mut P,
    index: u32,
    asked: &RunHooksCommand,
    prepared: Prepared,
    deadline: Instant,
) -> CommandReport {
    let Prepared { hooks, mut options, places, page: about, left_out } = prepared;
    let limit = deadline.checked_sub(STORING).unwrap_or(deadline);
    let loan = match page.lend().await {
        Ok(loan) => loan,
        Err(why) => {
            let failure = fault::command("hooks", format!("the browser cannot be lent to hooks: {why}"));
            return CommandReport::failed(CommandStatus::Error, "no browser for hooks", failure);
        }
    };
    let (asking, mut wishes) = mpsc::channel(1);
    let mut session = None;
    if let Some(loan) = &loan {
        let dirs = (places.crawl_dir.as_path(), places.snap_dir.as_path());
        match Session::open(dirs, &about.url, loan.lent.clone(), asking) {
            Ok(opened) => session = Some(opened),
            Err(error) => return unwritten(&error),
        }
    }
    let navigates = session.is_some() && hooks.iter().any(Session::is_navigation);
    if asked.url.is_empty() || !navigates {
        let loaded = match asked.url.as_str() {
            "" => Ok(()),
            url => load_site(page, url, "", Loads::new(LoadPolicy::Load, None), limit).await,
        };
        let report = page.report(loaded, limit).await;
        if report.status != CommandStatus::Ok {
            return report;
        }
        let landed =
            Landed { final_url: report.final_url, status: u16::try_from(report.http_status).unwrap_or(0) };
        if let Some(session) = &mut session {
            if !navigates && let Err(error) = session.loaded(&landed) {
                return unwritten(&error);
            }
            session.stay(landed);
        }
    }
    options.provider = session.map(|session| Arc::new(session) as Arc<dyn runner::Provider>);
    page.progress().detail(format!("running {} hooks", hooks.len()));
    let (events_end, events) = mpsc::channel(EVENTS);
    // Held to the end: nobody gives orders.
    let (_orders, inbox) = mpsc::channel(1);
    let ids = (about.url.clone(), about.snapshot_id.clone());
    // A task of its own has no scope of its own: the hooks are recorded as the visit's.
    let running = within(Scope::current(), runner::run(hooks, ids, options, inbox, events_end));
    let mut running = AbortOnDropHandle::new(tokio::spawn(running));
    let collecting = tokio::spawn(collect(events, page.progress().clone()));
    let in_time = loop {
        tokio::select! {
            _ = &mut running => break true,
            Some(wish) = wishes.recv() => load(page, wish, limit).await,
            () = sleep_until(limit) => break false,
        }
    };
    // Where it still runs, every hook is killed with it.
    drop(running);
    drop(loan);
    let results = collecting.await.unwrap_or_default();
    let mut report = match in_time {
        true => CommandReport::ok(),
        false => {
            let failure = fault::timeout("hooks", "the time ran out while hooks ran; they were killed");
            CommandReport::failed(CommandStatus::Timeout, "timeout: hooks", failure)
        }
    };
    report.final_url = page.url();
    report.value_json = value(&results, &left_out).to_string();
    let storing = store(page.uplink(), (index, &about.url), &places.snap_dir, &results, deadline).await;
    match storing {
        Ok(artifacts) => report.artifacts = artifacts,
        Err(error) => {
            return CommandReport {
                value_json: report.value_json,
                ..CommandReport::failed(CommandStatus::Error, "storage", error)
            };
        }
    }
    report
}

fn unwritten(error: &std::io::Error) -> CommandReport {
    let failure = fault::command("hooks", format!("the session directory cannot be written: {error}"));
    CommandReport::failed(CommandStatus::Error, "no session directory", failure)
}

async fn collect(mut events: mpsc::Receiver<Event>, progress: Progress) -> Vec<HookResult> {
    let mut results = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::ProcessStarted { plugin, .. } => progress.detail(format!("running hooks: {plugin}")),
            Event::ProcessCompleted(result) => results.push(*result),
            _ => {}
        }
    }
    results
}

/// Loads the page for the hooks.
async fn load(page: &mut impl Page, wish: Navigation, limit: Instant) {
    let policy = match wish.until {
        WaitUntil::DomContentLoaded => LoadPolicy::DomContentLoaded,
        WaitUntil::Load => LoadPolicy::Load,
        WaitUntil::NetworkIdle0 | WaitUntil::NetworkIdle2 => LoadPolicy::NetworkIdle,
    };
    let until = wish.deadline.min(limit);
    let loaded = load_site(page, &wish.url, "", Loads::new(policy, None), until).await;
    let code = loaded.as_ref().err().and_then(|why| why.network_error().map(str::to_owned));
    let report = page.report(loaded, limit).await;
    let landed = if report.status == CommandStatus::Ok {
        Ok(Landed { final_url: report.final_url, status: u16::try_from(report.http_status).unwrap_or(0) })
    } else {
        Err(code.map_or(report.error, |code| format!("net::ERR_{code}")))
    };
    // The hook's time was over meanwhile.
    let _ = wish.answer.send(landed);
}

fn value(results: &[HookResult], left_out: &std::collections::BTreeMap<String, String>) -> Value {
    let (records, dropped) = bounded(results.iter().flat_map(|r| &r.records));
    let hooks: Vec<_> = results
        .iter()
        .map(|r| {
            json!({
                "plugin": r.plugin, "hook": r.hook, "status": r.status, "output_str": r.output_str,
                "exit_code": r.exit_code, "end_reason": r.ended, "background": r.background,
                "duration_ms": r.duration_ms, "outputs": r.outputs, "notes": r.notes,
            })
        })
        .collect();
    json!({"hooks": hooks, "records": records, "records_dropped": dropped, "left_out": left_out})
}

/// Stores the files of hooks as blobs; what is too much is told by a row.
async fn store(
    uplink: &AttemptUplink,
    (index, url): (u32, &str),
    dir: &std::path::Path,
    results: &[HookResult],
    deadline: Instant,
) -> Result<Vec<ArtifactRef>, sonde_proto::visit::v1::Failure> {
    let mut artifacts = Vec::new();
    let mut dropped: (u64, u64) = (0, 0);
    let kept = keep(&uplink.service(), dir, results, deadline).await.map_err(|e| e.failure())?;
    for Kept { result, output, blob } in kept {
        let Some((sha256, bytes)) = blob else {
            dropped = (dropped.0 + 1, dropped.1 + output.size);
            continue;
        };
        let path: String =
            output.path.to_string_lossy().chars().map(|c| if c == '/' { '_' } else { c }).collect();
        artifacts.push(ArtifactRef {
            kind: "hook_output".to_owned(),
            name: format!("{}-{index}-{}-{path}", uplink.visit_id(), result.plugin),
            media_type: output.mimetype.clone(),
            sha256,
            bytes,
        });
    }
    if dropped.0 > 0 {
        let row = Row::Truncation(Truncation {
            table_name: "artifacts".to_owned(),
            column_name: None,
            reason: "hook_outputs".to_owned(),
            dropped_rows: i64::try_from(dropped.0).unwrap_or(i64::MAX),
            dropped_bytes: i64::try_from(dropped.1).unwrap_or(i64::MAX),
            limit_value: i64::try_from(MAX_BYTES).unwrap_or(i64::MAX),
            subject: Some(format!("command {index}: hooks on {url}")),
        });
        uplink.record(StreamId::SERVICE, wall_us(), row).await.map_err(|e| e.failure())?;
    }
    Ok(artifacts)
}
