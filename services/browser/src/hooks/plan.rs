//! What is run: hooks in order, each with its environment and time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::config::{self, ConfigError, Enabled, Given, Values};
use super::discovery::Found;
use super::env::{self, Host, Page, Places};
use super::event::HookResult;
use super::names::{Family, HookName};

/// One hook to run.
#[derive(Debug, Clone)]
pub struct Planned {
    pub plugin: String,
    pub name: HookName,
    /// The hook's file.
    pub path: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Where it runs and leaves its files.
    pub dir: PathBuf,
    pub timeout: Duration,
    /// Added to its records.
    pub extra: Value,
}

/// Where a plan's parts come from.
#[derive(Debug)]
pub struct Sources<'a> {
    pub found: &'a Found,
    /// Plugins by name; empty: all.
    pub wanted: &'a [String],
    pub given: &'a Given,
    pub host: &'a Host,
    /// Our own environment, of which [`env::PASSED_ON`] is passed on.
    pub inherited: &'a BTreeMap<String, String>,
    /// Where nothing says a hook's time.
    pub timeout: Duration,
}

/// The hooks of one family for one page, in the order of running.
pub fn plan(
    sources: &Sources<'_>,
    family: Family,
    page: &Page,
    places: &Places,
) -> Result<Vec<Planned>, ConfigError> {
    let enabled = config::select(sources.found, sources.wanted, sources.given, &sources.host.runtime)?;
    let mut all = Vec::new();
    for plugin in &sources.found.plugins {
        if enabled.get(&plugin.name) != Some(&Enabled::Yes) {
            continue;
        }
        let values = config::settings(sources.found, plugin, sources.given)?;
        let root = if family == Family::Snapshot { &places.snap_dir } else { &places.crawl_dir };
        for hook in plugin.hooks.iter().filter(|h| h.name.family == family) {
            let names = (plugin.name.as_str(), hook.name.file.as_str());
            let pairs = [("url", page.url.clone().into()), ("snapshot_id", page.snapshot_id.clone().into())];
            all.push(Planned {
                plugin: plugin.name.clone(),
                name: hook.name.clone(),
                path: hook.path.clone(),
                args: env::arguments(pairs),
                env: env::environment(
                    names,
                    page,
                    places,
                    sources.host,
                    (sources.given, &values),
                    sources.inherited,
                ),
                dir: root.join(&plugin.name),
                timeout: timeout(&plugin.name, &values, sources),
                extra: env::extra_context(names, page),
            });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.plugin.cmp(&b.plugin)));
    Ok(all)
}

/// `<PLUGIN>_TIMEOUT`, else `TIMEOUT`, else the runner's.
fn timeout(plugin: &str, values: &Values, sources: &Sources<'_>) -> Duration {
    let own = format!("{}_TIMEOUT", plugin.to_uppercase());
    let given = |key: &str| sources.given.get(key).and_then(|v| v.trim().parse::<f64>().ok());
    let seconds =
        values.get(&own).and_then(Value::as_f64).or_else(|| given(&own)).or_else(|| given("TIMEOUT"));
    let seconds = seconds.filter(|s| *s > 0.0 && *s < 1e6);
    seconds.map_or(sources.timeout, Duration::from_secs_f64)
}

/// A retry: only what failed or was skipped (A44).
pub fn again(plan: Vec<Planned>, results: &[HookResult]) -> Vec<Planned> {
    let retried = |p: &Planned| {
        let mut of = results.iter().filter(|r| r.plugin == p.plugin && r.hook == p.name.file);
        of.next_back().is_none_or(|r| r.status.retried())
    };
    plan.into_iter().filter(retried).collect()
}
