//! Hooks as a command of a visit: what the operator allows, and what a request may say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sonde_proto::visit::v1::{CrawlHooks, RunHooksCommand};

use super::config::{self, ConfigError, Enabled, Given, with_required};
use super::discovery::{Found, discover};
use super::env::{Host, Page, Places};
use super::launch::{Launch, Limits};
use super::names::{Family, Generation};
use super::plan::{Planned, Sources, plan};
use super::runner::Options;
use super::schema::{Kind, Property};

/// Texts that requests may set, by the ends of their names. All other texts are the operator's: they may name programs,
/// arguments, files, servers or keys, or tell an agent what to do.
const TEXTS: [&str; 8] =
    ["USER_AGENT", "RESOLUTION", "WAIT_FOR", "FORMAT", "FORMATS", "LANGUAGE", "MAX_SIZE", "DOMAINS"];
/// Address space and processes of hooks, as a run by hand has them.
const LIMITS: Limits = Limits { file: 1 << 30, processes: 4096, memory: None };

/// The `[browser.hooks]` section: which plugins visits may run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HooksConfig {
    /// Directories of plugins; none: no visit may run hooks.
    pub dirs: Vec<PathBuf>,
    /// Searched for programs before `PATH`.
    pub path: Vec<PathBuf>,
    /// Node modules for hooks, with puppeteer-core for those of the browser.
    pub node_modules: Option<PathBuf>,
    /// How hooks are started.
    pub launch: Launch,
    /// Settings of plugins; requests may set others that are declared.
    pub settings: BTreeMap<String, String>,
}

/// Why a request's hooks do not run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("hooks are not allowed here: the operator names no directory in [browser.hooks] dirs")]
    Off,
    #[error("no plugin {0:?} is in the operator's directories: permission denied")]
    Unknown(String),
    #[error(
        "{key}: no plugin asked for declares this setting, or it is the operator's alone: permission denied"
    )]
    Setting { key: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the hooks could not be looked for: {0}")]
    Lost(String),
    #[error("the hooks' directory {dir:?} cannot be made: {source}")]
    Directory { dir: PathBuf, source: std::io::Error },
}

/// What visits need to run hooks.
#[derive(Debug)]
pub struct HookHost {
    config: HooksConfig,
    root: PathBuf,
    /// Visits of crawls that have hooks.
    joined: Mutex<HashMap<i64, Arc<Ran>>>,
}

/// What the hooks of a crawl's start left.
#[derive(Debug)]
pub struct Ran {
    pub crawl_id: String,
    /// With a directory for each plugin.
    pub dir: PathBuf,
    /// Those that had hooks.
    pub plugins: BTreeSet<String>,
}

/// See [`HookHost::join`].
#[derive(Debug)]
pub struct Joined {
    host: Arc<HookHost>,
    visit_id: i64,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.host.lock().remove(&self.visit_id);
    }
}

/// What a request asks for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    plugins: &'a [String],
    settings: &'a HashMap<String, String>,
}

/// All that planning needs, read once.
struct Planning {
    found: Found,
    wanted: Vec<String>,
    given: Given,
    host: Host,
    inherited: BTreeMap<String, String>,
}

/// Hooks of a crawl, ready to run.
#[derive(Debug)]
pub struct PreparedCrawl {
    pub start: Vec<Planned>,
    pub end: Vec<Planned>,
    pub options: Options,
    pub places: Places,
    pub page: Page,
}

/// Hooks of a command, ready to run.
#[derive(Debug)]
pub struct Prepared {
    pub hooks: Vec<Planned>,
    pub options: Options,
    pub places: Places,
    pub page: Page,
    /// Plugins that were asked for and do not run, with the reason.
    pub left_out: BTreeMap<String, String>,
}

impl HookHost {
    /// Hooks work below `root`.
    pub fn new(config: HooksConfig, root: &Path) -> Self {
        Self { config, root: root.join("hooks"), joined: Mutex::default() }
    }

    /// Looks through the operator's directories and plans: blocking. `with_browser`: hooks can have the browser.
    pub fn prepare(
        &self,
        asked: &RunHooksCommand,
        (url, visit_id, index): (&str, i64, u32),
        with_browser: bool,
    ) -> Result<Prepared, HostError> {
        let asked = Asked { plugins: &asked.plugins, settings: &asked.settings };
        let planning = self.planning(asked, with_browser)?;
        let mut places = self.places(&format!("{visit_id}-{index}"))?;
        let crawl = self.crawl_of(visit_id);
        let crawl_id = crawl.as_ref().map_or_else(|| visit_id.to_string(), |crawl| crawl.crawl_id.clone());
        let page = page(url, crawl_id);
        if let Some(crawl) = &crawl {
            places.crawl_dir = places.data_dir.join("crawl");
            let dir = places.crawl_dir.clone();
            crawl.show_in(&dir).map_err(|source| HostError::Directory { dir, source })?;
        }
        let mut hooks = planning.plan(Family::Crawl, &page, &places)?;
        hooks.retain(|hook| crawl.as_ref().is_none_or(|crawl| !crawl.plugins.contains(&hook.plugin)));
        hooks.extend(planning.plan(Family::Snapshot, &page, &places)?);
        let (options, left_out) = (self.options(&planning), planning.left_out()?);
        Ok(Prepared { hooks, options, places, page, left_out })
    }

    /// The same for the hooks of a crawl, which have no browser.
    pub fn prepare_crawl(
        &self,
        asked: &CrawlHooks,
        (url, crawl_id): (&str, &str),
    ) -> Result<PreparedCrawl, HostError> {
        let planning = self.planning(Asked { plugins: &asked.plugins, settings: &asked.settings }, false)?;
        let places = self.places(&format!("crawl-{}", uuid::Uuid::now_v7()))?;
        let page = page(url, crawl_id.to_owned());
        Ok(PreparedCrawl {
            start: planning.plan(Family::Crawl, &page, &places)?,
            end: planning.plan(Family::CrawlCleanup, &page, &places)?,
            options: self.options(&planning),
            places,
            page,
        })
    }

    /// The visit's commands see what the hooks of its crawl left, and run those hooks no more, until the guard is
    /// dropped.
    pub fn join(self: &Arc<Self>, visit_id: i64, crawl: Arc<Ran>) -> Joined {
        self.lock().insert(visit_id, crawl);
        Joined { host: self.clone(), visit_id }
    }

    fn crawl_of(&self, visit_id: i64) -> Option<Arc<Ran>> {
        self.lock().get(&visit_id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Arc<Ran>>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self, name: &str) -> Result<Places, HostError> {
        let dir = self.root.join(name);
        for inner in [".lib/bin", ".personas", ".tmp"] {
            let made = std::fs::create_dir_all(dir.join(inner));
            made.map_err(|source| HostError::Directory { dir: dir.clone(), source })?;
        }
        Ok(Places::under(&dir))
    }

    fn options(&self, planning: &Planning) -> Options {
        let names = planning.found.plugins.iter().flat_map(|p| &p.hooks).map(|h| &h.name);
        let options = Options { launch: self.config.launch, limits: LIMITS, ..Options::default() };
        options.for_generation(Generation::of(names))
    }

    fn planning(&self, asked: Asked<'_>, with_browser: bool) -> Result<Planning, HostError> {
        if self.config.dirs.is_empty() {
            return Err(HostError::Off);
        }
        let found = discover(&self.config.dirs);
        for refused in &found.refused {
            tracing::warn!(%refused, "a plugin is left out");
        }
        let mut given = self.given(&found, asked)?;
        if !with_browser {
            // Those that require the browser are left out, each with this for a reason.
            given.insert("CHROME_ENABLED".to_owned(), "false".to_owned());
        }
        let search = std::env::var("PATH").unwrap_or_default();
        let path = self.config.path.iter().map(|p| p.display().to_string()).chain([search]);
        let machine_id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
        let path = path.collect::<Vec<_>>().join(":");
        let host = Host { machine_id, runtime: "abx-dl".to_owned(), path };
        let inherited = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        Ok(Planning { found, wanted: asked.plugins.to_vec(), given, host, inherited })
    }

    /// The operator's settings with those of the request that are declared and harmless.
    fn given(&self, found: &Found, asked: Asked<'_>) -> Result<Given, HostError> {
        let mut declared = BTreeMap::new();
        for name in asked.plugins {
            let plugin = found.plugin(name).ok_or_else(|| HostError::Unknown(name.clone()))?;
            for part in with_required(found, plugin)? {
                declared.extend(&part.schema.properties);
            }
        }
        let mut given: Given = self.config.settings.clone();
        if let Some(modules) = &self.config.node_modules {
            given.entry("NODE_MODULES_DIR".to_owned()).or_insert_with(|| modules.display().to_string());
        }
        for (key, value) in asked.settings {
            if !declared.get(key).is_some_and(|property| may_be_set(key, property)) {
                return Err(HostError::Setting { key: key.clone() });
            }
            given.insert(key.clone(), value.clone());
        }
        Ok(given)
    }
}

impl Planning {
    fn plan(&self, family: Family, page: &Page, places: &Places) -> Result<Vec<Planned>, ConfigError> {
        let sources = Sources {
            found: &self.found,
            wanted: &self.wanted,
            given: &self.given,
            host: &self.host,
            inherited: &self.inherited,
            timeout: Duration::from_secs(60),
        };
        plan(&sources, family, page, places)
    }

    fn left_out(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let enabled = config::select(&self.found, &self.wanted, &self.given, &self.host.runtime)?;
        let why_not = |name: &String| match enabled.get(name) {
            Some(Enabled::No(why)) => Some((name.clone(), why.clone())),
            _ => None,
        };
        Ok(self.wanted.iter().filter_map(why_not).collect())
    }
}

impl Ran {
    /// Links to what the plugins left, in a directory made for them.
    fn show_in(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        for plugin in &self.plugins {
            std::os::unix::fs::symlink(self.dir.join(plugin), dir.join(plugin))?;
        }
        Ok(())
    }
}

fn page(url: &str, crawl_id: String) -> Page {
    let snapshot_id = uuid::Uuid::now_v7().to_string();
    Page { url: url.to_owned(), snapshot_id, crawl_id, depth: 0 }
}

fn may_be_set(key: &str, property: &Property) -> bool {
    match property.kind {
        Some(Kind::Boolean | Kind::Integer | Kind::Number) => true,
        Some(Kind::String) => {
            let end = |text: &&str| {
                key.strip_suffix(*text).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
            };
            !property.allowed.is_empty() || TEXTS.iter().any(end)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(dir: &Path) -> HookHost {
        let plugin = dir.join("plugins/mine");
        std::fs::create_dir_all(&plugin).unwrap();
        std::fs::write(
            plugin.join("config.json"),
            r#"{"properties":{"MINE_DEPTH":{"type":"integer","default":1},"MINE_BINARY":{"type":"string","default":"cat"},
                "PATH":{"type":"string"},"MINE_PROMPT":{"type":"string"},"MINE_ARGS":{"type":"array"},
                "MINE_USER_AGENT":{"type":"string"},"MINE_HOW":{"type":"string","enum":["a","b"]}}}"#,
        )
        .unwrap();
        std::fs::write(plugin.join("on_Snapshot__10_mine.sh"), "").unwrap();
        let needs = dir.join("plugins/needs");
        std::fs::create_dir_all(&needs).unwrap();
        std::fs::create_dir_all(dir.join("plugins/chrome")).unwrap();
        std::fs::write(dir.join("plugins/chrome/config.json"), "{}").unwrap();
        std::fs::write(needs.join("config.json"), r#"{"required_plugins":["chrome"]}"#).unwrap();
        std::fs::write(needs.join("on_Snapshot__20_needs.sh"), "").unwrap();
        HookHost::new(HooksConfig { dirs: vec![dir.join("plugins")], ..HooksConfig::default() }, dir)
    }

    fn asked(plugins: &[&str], settings: &[(&str, &str)]) -> RunHooksCommand {
        RunHooksCommand {
            plugins: plugins.iter().map(|p| (*p).to_owned()).collect(),
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            url: String::new(),
        }
    }

    /// S8: requests name plugins and declared settings; programs, arguments and places are the operator's.
    #[test]
    fn requests_choose_among_what_the_operator_allows() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let prepare = |asked: &RunHooksCommand| host.prepare(asked, ("http://a/", 7, 0), true);
        let prepared =
            prepare(&asked(&["mine"], &[("MINE_DEPTH", "3"), ("MINE_USER_AGENT", "me"), ("MINE_HOW", "b")]))
                .unwrap();
        assert_eq!(prepared.hooks.len(), 1);
        assert_eq!(prepared.hooks[0].env["MINE_DEPTH"], "3");
        assert!(prepared.places.snap_dir.starts_with(dir.path().join("hooks")));
        for (plugins, settings) in [
            (&["/bin/sh"], ("MINE_DEPTH", "3")),
            (&["mine"], ("MINE_BINARY", "/bin/sh")),
            (&["mine"], ("PATH", "/tmp")),
            (&["mine"], ("MINE_PROMPT", "rm")),
            (&["mine"], ("MINE_ARGS", "[\"-x\"]")),
            (&["mine"], ("LD_PRELOAD", "/tmp/x.so")),
        ] {
            let error = prepare(&asked(plugins, &[settings])).unwrap_err().to_string();
            assert!(error.contains("permission denied"), "{error}");
        }
        let off = HookHost::new(HooksConfig::default(), dir.path());
        let error = off.prepare(&asked(&["mine"], &[]), ("http://a/", 7, 0), true).unwrap_err();
        assert!(matches!(error, HostError::Off));
    }

    /// Without the browser, what requires it is left out with a reason.
    #[test]
    fn hooks_of_the_browser_need_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let both = asked(&["mine", "needs"], &[]);
        let prepared = host.prepare(&both, ("http://a/", 7, 0), false).unwrap();
        assert_eq!(prepared.hooks.iter().map(|h| h.plugin.as_str()).collect::<Vec<_>>(), ["mine"]);
        assert!(prepared.left_out["needs"].contains("CHROME_ENABLED"), "{:?}", prepared.left_out);
        assert_eq!(host.prepare(&both, ("http://a/", 7, 1), true).unwrap().hooks.len(), 2);
    }
}
