//! `index.jsonl`: what hooks printed and left, a line each; and what people see of a run.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sonde_browser::hooks::drive::{Counts, word};
use sonde_browser::hooks::event::{Event, HookResult};
use tokio::sync::mpsc;

use crate::exit::CliError;
use crate::format::shown;

/// Beside the directories of plugins.
const FILE: &str = "index.jsonl";

fn path(out: &Path) -> PathBuf {
    out.join(FILE)
}

/// Writes the index and tells what happens, until no more events can come.
pub async fn write(
    mut events: mpsc::Receiver<Event>,
    out: PathBuf,
    as_json: bool,
) -> Result<Counts, CliError> {
    let index = path(&out);
    let problem =
        |e: std::io::Error| CliError::Service(format!("{}: {e}; is the disk full?", index.display()));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&index).map_err(problem)?;
    let (mut file, mut counts) = (std::io::LineWriter::new(file), Counts::default());
    while let Some(event) = events.recv().await {
        counts.count(&event);
        if as_json {
            println!("{}", serde_json::to_string(&event).map_err(|e| CliError::Service(e.to_string()))?);
        }
        let lines = match &event {
            Event::Record { record, .. } if record.kind != "ArchiveResult" => vec![json!(record)],
            Event::ProcessCompleted(result) => {
                if !as_json {
                    let (status, said) = (word(result.status), shown(&result.output_str, 200));
                    println!("{status:10} {}/{} {said}", result.plugin, result.hook);
                }
                completed(result)
            }
            _ => Vec::new(),
        };
        for line in lines {
            writeln!(file, "{line}").map_err(problem)?;
        }
    }
    file.flush().map_err(problem)?;
    Ok(counts)
}

/// The Process and the ArchiveResult line of a hook.
fn completed(result: &HookResult) -> Vec<Value> {
    let own = result.records.iter().rev().find(|r| r.kind == "ArchiveResult");
    let mut archive =
        own.map(|r| Value::Object(r.fields.clone())).unwrap_or_else(|| json!({"type": "ArchiveResult"}));
    archive["plugin"] = json!(result.plugin);
    archive["hook_name"] = json!(result.hook);
    archive["status"] = json!(result.status);
    archive["output_str"] = json!(result.output_str);
    archive["output_files"] = json!(result.outputs);
    archive["notes"] = json!(result.notes);
    let process = json!({
        "type": "Process", "process_type": "hook", "plugin": result.plugin, "hook_name": result.hook,
        "cmd": result.cmd, "pid": result.pid, "exit_code": result.exit_code, "status": "exited",
        "end_reason": result.ended, "duration_ms": result.duration_ms,
        "stdout": result.stdout, "stderr": result.stderr,
    });
    // One that was done by us had no process.
    if result.pid.is_none() && result.cmd.is_empty() { vec![archive] } else { vec![process, archive] }
}

/// The last status of each hook of earlier runs, by plugin and file name.
///
/// # Errors
/// When there was none.
pub fn statuses(out: &Path) -> Result<BTreeMap<(String, String), String>, CliError> {
    let index = path(out);
    let text = std::fs::read_to_string(&index).map_err(|e| {
        CliError::Input(format!("{}: {e}; --retry needs the --out of an earlier run", index.display()))
    })?;
    let mut statuses = BTreeMap::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        if text("type") == "ArchiveResult" {
            statuses.insert((text("plugin"), text("hook_name")), text("status"));
        }
    }
    Ok(statuses)
}
