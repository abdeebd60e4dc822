//! `sonde hooks`: what plugins are there, and a run of their hooks on one page.

mod args;
mod index;
mod orders;
mod run;
mod work;

use std::io::Write as _;
use std::path::PathBuf;

use sonde_browser::hooks::config::{self, Enabled, Given, fill, plain};
use sonde_browser::hooks::discovery::{Found, Plugin, discover};
use sonde_browser::hooks::launch::which;

pub use args::HooksArgs;
use args::{HooksCommand, HooksSetup};

use crate::args::key_value;
use crate::exit::CliError;

/// Runs `sonde hooks …`.
pub async fn run(args: HooksArgs) -> Result<u8, CliError> {
    match args.command {
        HooksCommand::List(setup) => list(&setup),
        HooksCommand::Run(args) => run::run(*args).await,
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
    let pair = |text: &String| key_value(text).map_err(|e| CliError::Input(format!("--with: {e}")));
    let mut given: Given = setup.with.iter().map(pair).collect::<Result<_, CliError>>()?;
    if let Some(modules) = setup.node_modules.clone().or_else(installed_modules) {
        given.entry("NODE_MODULES_DIR".to_owned()).or_insert_with(|| modules.display().to_string());
    }
    Ok(given)
}

/// Where `./x setup` puts what hooks speak to a browser with.
fn installed_modules() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let modules = cache.join("sonde/hooks-node/node_modules");
    modules.is_dir().then_some(modules)
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
