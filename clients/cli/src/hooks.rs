//! `sonde hooks`: what plugins are there, and a run of their hooks on one page.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sonde_browser::hooks::config::{self, Enabled, Given, fill, plain};
use sonde_browser::hooks::discovery::{Found, Plugin, discover};
use sonde_browser::hooks::env::{Host, Page, Places};
use sonde_browser::hooks::event::{Event, HookResult};
use sonde_browser::hooks::launch::{Launch, which};
use sonde_browser::hooks::names::{Family, Generation};
use sonde_browser::hooks::plan::{Sources, plan};
use sonde_browser::hooks::record::Status;
use sonde_browser::hooks::runner::{self, Control, Options, Pace};
use sonde_browser::hooks::verdict::Mode;
use tokio::sync::mpsc;

use crate::args::{HooksArgs, HooksCommand, HooksRunArgs, HooksSetup, LaunchArg};
use crate::exit::{CliError, EXIT_FAILED, EXIT_INTERRUPTED};
use crate::format::shown;

/// Events that wait for the writer.
const EVENTS: usize = 1024;

/// Runs `sonde hooks …`.
pub async fn run(args: HooksArgs) -> Result<u8, CliError> {
    match args.command {
        HooksCommand::List(setup) => list(&setup),
        HooksCommand::Run(args) => run_hooks(*args).await,
    }
}

fn look(setup: &HooksSetup) -> Result<Found, CliError> {
    if setup.dir.is_empty() {
        let what = "no directory of plugins is known: give --dir DIR, or set SONDE_HOOKS_DIRS to directories with : between";
        return Err(CliError::Input(what.into()));
    }
    let found = discover(&setup.dir);
    for refusal in &found.refused {
        eprintln!("sonde: {refusal}");
    }
    if found.plugins.is_empty() {
        let dirs: Vec<_> = setup.dir.iter().map(|d| d.display().to_string()).collect();
        return Err(CliError::Input(format!(
            "no plugin is in {}; a plugin is a directory with hooks",
            dirs.join(", ")
        )));
    }
    Ok(found)
}

fn given(setup: &HooksSetup) -> Result<Given, CliError> {
    let pair = |text: &String| {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| CliError::Input(format!("--with {text}: give NAME=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    setup.with.iter().map(pair).collect()
}

fn search(setup: &HooksSetup) -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    setup.path.iter().map(|p| p.display().to_string()).chain([inherited]).collect::<Vec<_>>().join(":")
}

fn input(error: impl std::fmt::Display) -> CliError {
    CliError::Input(error.to_string())
}

fn list(setup: &HooksSetup) -> Result<u8, CliError> {
    let (found, given) = (look(setup)?, given(setup)?);
    let enabled = config::select(&found, &setup.plugins, &given, &setup.runtime).map_err(input)?;
    let search = search(setup);
    let mut table = crate::report::table(&["plugin", "enabled", "hooks in order", "missing programs"]);
    for plugin in &found.plugins {
        let why = match &enabled[&plugin.name] {
            Enabled::Yes => "yes".to_owned(),
            Enabled::No(why) => format!("no: {why}"),
        };
        let hooks: Vec<_> = plugin.hooks.iter().map(|h| h.name.file.as_str()).collect();
        let missing = missing(&found, plugin, &given, &search).map_err(input)?;
        table.add_row([plugin.name.clone(), why, hooks.join("\n"), missing.join(", ")]);
    }
    match writeln!(std::io::stdout(), "{table}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::Service(format!("the list could not be printed: {error}")))
        }
        _ => Ok(0),
    }
}

fn missing(
    found: &Found,
    plugin: &Plugin,
    given: &Given,
    search: &str,
) -> Result<Vec<String>, config::ConfigError> {
    let values = config::settings(found, plugin, given)?;
    let lookup = |key: &str| values.get(key).map(plain).or_else(|| given.get(key).cloned());
    let names = plugin.schema.required_binaries.iter().map(|b| fill(&b.name, lookup));
    Ok(names.filter(|name| which(name, search).is_none()).collect())
}

async fn run_hooks(args: HooksRunArgs) -> Result<u8, CliError> {
    let (found, given) = (look(&args.setup)?, given(&args.setup)?);
    let url = url::Url::parse(&args.url)
        .map_err(|e| CliError::Input(format!("{}: {e}; give a whole URL", args.url)))?;
    let out = prepare(&args.out)?;
    let _recorded = crate::processes::record_all(&out, "hooks").await?;
    let page = Page {
        url: url.into(),
        snapshot_id: uuid::Uuid::now_v7().to_string(),
        crawl_id: uuid::Uuid::now_v7().to_string(),
        depth: 0,
    };
    let host =
        Host { machine_id: machine_id(), runtime: args.setup.runtime.clone(), path: search(&args.setup) };
    let inherited: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let sources = Sources {
        found: &found,
        wanted: &args.setup.plugins,
        given: &given,
        host: &host,
        inherited: &inherited,
        timeout: args.timeout,
    };
    let places = Places::under(&out);
    let mut hooks = plan(&sources, Family::Crawl, &page, &places).map_err(input)?;
    hooks.extend(plan(&sources, Family::Snapshot, &page, &places).map_err(input)?);
    if hooks.is_empty() {
        return Err(CliError::Input("no hook is enabled; `sonde hooks list` says why".into()));
    }
    let generation = Generation::of(found.plugins.iter().flat_map(|p| &p.hooks).map(|h| &h.name));
    let options = Options {
        pace: if args.step_parallel { Pace::StepParallel } else { Pace::Sequential },
        mode: if args.seed_mode { Mode::Seed } else { Mode::Current },
        launch: launch(args.launch),
        max_depth: Some(args.max_depth),
        ..Options::default()
    };
    let options = options.for_generation(generation);
    let (events_end, events) = mpsc::channel(EVENTS);
    let (controls, inbox) = mpsc::channel(4);
    let writing = tokio::spawn(write(events, out.join("index.jsonl"), args.json));
    let ids = (page.url.clone(), page.snapshot_id.clone());
    let run = runner::run(hooks, ids, options, inbox, events_end);
    let report = interruptible(run, controls).await;
    writing.await.map_err(|e| CliError::Service(format!("the writer of the index failed: {e}")))??;
    let failed = report.results.iter().any(|r| r.status == Status::Failed);
    Ok(if report.aborted {
        EXIT_INTERRUPTED
    } else if failed {
        EXIT_FAILED
    } else {
        0
    })
}

/// Ctrl-C ends the run in order: no further hook starts, and those in the background have their time.
async fn interruptible(
    run: impl Future<Output = runner::Report>,
    controls: mpsc::Sender<Control>,
) -> runner::Report {
    let mut run = std::pin::pin!(run);
    tokio::select! {
        report = &mut run => return report,
        signal = tokio::signal::ctrl_c() => if let Err(error) = signal {
            eprintln!("sonde: Ctrl-C cannot be heard: {error}");
        } else if controls.send(Control::Abort).await.is_ok() {
            eprintln!("sonde: ending the hooks");
        },
    }
    run.await
}

fn prepare(out: &Path) -> Result<PathBuf, CliError> {
    let problem =
        |e: std::io::Error| CliError::Input(format!("{}: {e}; give --out another directory", out.display()));
    for dir in [".lib/bin", ".personas", ".tmp"] {
        std::fs::create_dir_all(out.join(dir)).map_err(problem)?;
    }
    out.canonicalize().map_err(problem)
}

fn launch(arg: LaunchArg) -> Launch {
    match arg {
        LaunchArg::Auto => Launch::Auto,
        LaunchArg::Shebang => Launch::Shebang,
        LaunchArg::Interpreter => Launch::Interpreter,
    }
}

fn machine_id() -> String {
    let read = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if read.trim().is_empty() { "unknown".to_owned() } else { read.trim().to_owned() }
}

/// Writes the index and tells what happens.
async fn write(mut events: mpsc::Receiver<Event>, index: PathBuf, as_json: bool) -> Result<(), CliError> {
    let problem =
        |e: std::io::Error| CliError::Service(format!("{}: {e}; is the disk full?", index.display()));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&index).map_err(problem)?;
    let mut file = std::io::LineWriter::new(file);
    while let Some(event) = events.recv().await {
        if as_json {
            println!("{}", serde_json::to_string(&event).map_err(|e| CliError::Service(e.to_string()))?);
        }
        let lines = match &event {
            Event::Record { record, .. } if record.kind != "ArchiveResult" => vec![json!(record)],
            Event::ProcessCompleted(result) => {
                if !as_json {
                    println!(
                        "{:10} {}/{} {}",
                        word(result.status),
                        result.plugin,
                        result.hook,
                        shown(&result.output_str, 200)
                    );
                }
                completed(result)
            }
            _ => Vec::new(),
        };
        for line in lines {
            writeln!(file, "{line}").map_err(problem)?;
        }
    }
    file.flush().map_err(problem)
}

fn word(status: Status) -> String {
    serde_json::to_value(status).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
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
    vec![process, archive]
}
