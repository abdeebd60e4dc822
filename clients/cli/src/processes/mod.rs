//! `sonde ps|logs|kill`: the processes of a browser-service, or those that the records beside some data tell of.

mod args;
mod logs;
mod own;
mod source;

use std::io::Write as _;
use std::time::Duration;

use sonde_proto::browser::v1::{Process, ProcessEndReason, ProcessStatus, TerminateProcessRequest};
use sonde_proto::to_json;
use sonde_runtime::clock::wall_us;

pub use args::{KillArgs, LogsArgs, PsArgs};
pub use own::recorded;

use crate::exit::{CliError, EXIT_FAILED};
use crate::format::{shown, span};
use crate::report::table;
use source::Source;

/// Characters of an id that are shown: its end is random.
const SHORT_ID: usize = 12;

/// `sonde ps`.
pub async fn ps(args: PsArgs) -> Result<u8, CliError> {
    let source = Source::open(&args.place)?;
    let processes = source.list(args.tree, args.all, args.usage).await?;
    let mut text = String::new();
    if args.json {
        for process in &processes {
            text.push_str(&format!("{}\n", to_json("sonde.browser.v1.Process", process)));
        }
    } else {
        let mut rows =
            table(&["process", "pid", "type", "id", "since", "memory", "cpu", "belongs to", "end"]);
        rows.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        for process in &processes {
            rows.add_row(row(process, args.tree));
        }
        text = format!("{rows}\n");
    }
    print(text.as_bytes())?;
    Ok(0)
}

/// A reader that went, as `head`, is no failure.
fn print(bytes: &[u8]) -> Result<bool, CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::Service(format!("cannot write to standard output: {error}"))),
    }
}

fn micros(at: Option<prost_types::Timestamp>) -> Option<i64> {
    at.map(|at| at.seconds * 1_000_000 + i64::from(at.nanos) / 1000)
}

fn row(process: &Process, tree: bool) -> [String; 9] {
    let indent = if tree && process.depth > 0 {
        "  ".repeat(process.depth as usize - 1) + "└ "
    } else {
        String::new()
    };
    let short = process.id.len().saturating_sub(SHORT_ID);
    let mut context: Vec<_> = process.context.iter().map(|(key, value)| format!("{key} {value}")).collect();
    context.sort();
    let usage = process.usage.as_ref();
    let since = micros(process.started_at).map(|started| {
        let until = micros(process.ended_at).unwrap_or_else(wall_us);
        span(Duration::from_micros(u64::try_from(until - started).unwrap_or_default()))
    });
    [
        format!("{indent}{}", shown(&process.label, 50)),
        if process.pid == 0 { String::new() } else { process.pid.to_string() },
        process.r#type().as_str_name().trim_start_matches("PROCESS_TYPE_").to_lowercase(),
        process.id.get(short..).unwrap_or(&process.id).to_owned(),
        since.unwrap_or_default(),
        usage.map(|usage| format!("{} MiB", usage.pss_bytes >> 20)).unwrap_or_default(),
        usage.map(|usage| format!("{:.0} %", usage.cpu_percent)).unwrap_or_default(),
        shown(&context.join(", "), 60),
        shown(&end(process), 70),
    ]
}

fn end(process: &Process) -> String {
    if process.status() != ProcessStatus::Exited {
        return String::new();
    }
    let reason = process.end_reason();
    let word =
        reason.as_str_name().trim_start_matches("PROCESS_END_REASON_").to_lowercase().replace('_', " ");
    let how = match (process.exit_code, process.signal) {
        (Some(code), _) => format!(" (exit code {code})"),
        (None, signal) if signal > 0 && reason != ProcessEndReason::Signalled => {
            format!(" (signal {signal})")
        }
        _ => String::new(),
    };
    let detail =
        if process.end_detail.is_empty() { String::new() } else { format!(": {}", process.end_detail) };
    format!("{word}{how}{detail}")
}

/// `sonde logs`.
pub async fn logs(args: LogsArgs) -> Result<u8, CliError> {
    let source = Source::open(&args.place)?;
    let process = source.find(&args.id).await?;
    match source {
        Source::Service(client) => logs::from_service(client, &process, &args).await?,
        Source::Records(_) => logs::from_files(&process, &args).await?,
    }
    Ok(0)
}

/// `sonde kill`.
pub async fn kill(args: KillArgs) -> Result<u8, CliError> {
    let source = Source::open(&args.place)?;
    let process = source.find(&args.id).await?;
    let survivors = match source {
        Source::Service(mut client) => {
            let grace = prost_types::Duration::try_from(args.grace)
                .map_err(|_| CliError::Input("--grace: too long".to_owned()))?;
            let request = TerminateProcessRequest { id: process.id.clone(), grace: Some(grace) };
            let ended = client.terminate_process(request).await?.into_inner();
            println!("{} ended: {}", process.label, end(&ended.process.unwrap_or_default()));
            ended.survivors
        }
        Source::Records(records) => {
            let (ended, survivors) = records.end(&process, args.grace).await?;
            println!("{} ended, with {} processes that belong to it", process.label, ended.saturating_sub(1));
            survivors
        }
    };
    if survivors.is_empty() {
        return Ok(0);
    }
    eprintln!("sonde: processes {survivors:?} could not be ended");
    Ok(EXIT_FAILED)
}
