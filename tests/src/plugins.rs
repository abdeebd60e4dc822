//! Real plugins of the package `abx-plugins`, as `./x setup` installs them, run by `sonde hooks run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::world::World;

/// For one run.
pub const RUN: Duration = Duration::from_secs(120);
/// As `./x setup` installs it.
const VENV: &str = "abx-plugins-1.11.86";

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("sonde")
}

/// The node modules of hooks.
pub fn modules() -> PathBuf {
    cache().join("hooks-node/node_modules")
}

/// The programs and the plugins of the package.
///
/// # Panics
/// When it is not installed.
pub fn package() -> (PathBuf, PathBuf) {
    let venv = cache().join(VENV);
    let lib = std::fs::read_dir(venv.join("lib")).unwrap_or_else(|e| panic!("{venv:?}: {e}; run ./x setup"));
    let mut pythons = lib.filter_map(Result::ok).map(|e| e.path().join("site-packages"));
    let packages = pythons.find(|p| p.exists()).expect("the environment has packages");
    (venv.join("bin"), packages.join("abx_plugins/plugins"))
}

/// What became of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    /// Lines of `index.jsonl`.
    pub index: Vec<Value>,
    pub said: String,
}

impl Ran {
    /// The last result of a plugin, of the hook whose file name holds `hook`.
    ///
    /// # Panics
    /// When there is none.
    pub fn result(&self, plugin: &str, hook: &str) -> &Value {
        let of = |l: &&Value| {
            l["type"] == "ArchiveResult"
                && l["plugin"] == plugin
                && l["hook_name"].as_str().is_some_and(|name| name.contains(hook))
        };
        self.index.iter().rfind(of).unwrap_or_else(|| panic!("{plugin} has no result: {}", self.said))
    }

    /// The status of a plugin's last result.
    pub fn status(&self, plugin: &str) -> &str {
        self.result(plugin, "")["status"].as_str().unwrap_or_default()
    }

    /// URLs of pages that a plugin found.
    pub fn found(&self, plugin: &str) -> Vec<&str> {
        let found = self.index.iter().filter(|l| l["type"] == "Snapshot" && l["plugin"] == plugin);
        found.filter_map(|l| l["url"].as_str()).collect()
    }
}

/// Runs plugins on a page.
pub async fn run(world: &World, url: &str, plugins: &str, more: &[&str]) -> Ran {
    let (bin, dir) = package();
    run_in(world, &dir, url, &[&["--path", &bin.display().to_string(), "--plugins", plugins], more].concat())
        .await
}

/// Runs the plugins of a directory on a page.
pub async fn run_in(world: &World, dir: &Path, url: &str, more: &[&str]) -> Ran {
    let (dir, out) = (dir.display().to_string(), world.data().display().to_string());
    let mut arguments = vec!["hooks", "run", url, "--dir", &dir, "--out", &out, "--launch", "interpreter"];
    arguments.extend(["--with", "FAVICON_PROVIDER=", "--with", "TIMEOUT=60"]);
    arguments.extend(more);
    let mut sonde = world.sonde(arguments);
    let code = sonde.code(RUN).await;
    let said = format!("{}\n{}", sonde.stdout(), sonde.stderr());
    let index = std::fs::read_to_string(world.data().join("index.jsonl")).unwrap_or_default();
    let index = index.lines().map(|l| serde_json::from_str(l).expect("each line is JSON")).collect();
    Ran { code, index, said }
}
