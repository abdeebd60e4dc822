//! The environment and the arguments of a hook.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::{Given, Values, plain};

/// Where a run keeps its things.
#[derive(Debug, Clone)]
pub struct Places {
    pub data_dir: PathBuf,
    pub crawl_dir: PathBuf,
    pub snap_dir: PathBuf,
    pub lib_dir: PathBuf,
    pub personas_dir: PathBuf,
    pub tmp_dir: PathBuf,
}

impl Places {
    /// All of them under one directory.
    pub fn under(dir: &Path) -> Self {
        Self {
            data_dir: dir.to_owned(),
            crawl_dir: dir.to_owned(),
            snap_dir: dir.to_owned(),
            lib_dir: dir.join(".lib"),
            personas_dir: dir.join(".personas"),
            tmp_dir: dir.join(".tmp"),
        }
    }
}

/// What a hook is told of its page.
#[derive(Debug, Clone)]
pub struct Page {
    pub url: String,
    pub snapshot_id: String,
    pub crawl_id: String,
    pub depth: u32,
}

/// The host a hook runs on.
#[derive(Debug, Clone)]
pub struct Host {
    pub machine_id: String,
    /// `archivebox` or `abx-dl`.
    pub runtime: String,
    /// Searched for programs after `lib_dir/bin`.
    pub path: String,
}

/// What is passed on of our own environment; the rest (secrets of the service) is not the hooks' to see.
pub const PASSED_ON: [&str; 8] =
    ["HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "SSL_CERT_FILE"];

const DEFAULTS: [(&str, &str); 9] = [
    ("TIMEOUT", "60"),
    ("USER_AGENT", "Mozilla/5.0 (compatible; Sonde)"),
    ("CHECK_SSL_VALIDITY", "true"),
    ("COOKIES_FILE", ""),
    ("CHROME_SANDBOX", "true"),
    ("DRY_RUN", "false"),
    ("RESOLUTION", "1440,2000"),
    ("ACTIVE_PERSONA", "Default"),
    ("LIBRARY_VERSION", env!("CARGO_PKG_VERSION")),
];

/// The whole environment of one hook. `inherited` is ours; `given` the operator's settings, `values` the plugin's.
pub fn environment(
    (plugin, hook): (&str, &str),
    page: &Page,
    places: &Places,
    host: &Host,
    (given, values): (&Given, &Values),
    inherited: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |key: &str, value: String| drop(env.insert(key.to_owned(), value));
    for key in PASSED_ON {
        if let Some(value) = inherited.get(key) {
            set(key, value.clone());
        }
    }
    for (key, value) in DEFAULTS {
        set(key, value.to_owned());
    }
    for (key, value) in given {
        set(key, value.clone());
    }
    // Directories that a schema defaults to "" are told below.
    for (key, value) in values {
        set(key, plain(value));
    }
    let dir = |path: &Path| path.to_string_lossy().into_owned();
    let modules = dir(&places.lib_dir.join("npm/node_modules"));
    let modules = given.get("NODE_MODULES_DIR").cloned().unwrap_or(modules);
    let bin = dir(&places.lib_dir.join("bin"));
    for (key, path) in [
        ("DATA_DIR", &places.data_dir),
        ("ARCHIVE_DIR", &places.data_dir),
        ("CRAWL_DIR", &places.crawl_dir),
        ("SNAP_DIR", &places.snap_dir),
        ("LIB_DIR", &places.lib_dir),
        ("ABXPKG_LIB_DIR", &places.lib_dir),
        ("PERSONAS_DIR", &places.personas_dir),
        ("TMP_DIR", &places.tmp_dir),
    ] {
        set(key, dir(path));
    }
    set("LIB_BIN_DIR", bin.clone());
    for key in ["NODE_MODULES_DIR", "NODE_MODULE_DIR", "NODE_PATH"] {
        set(key, modules.clone());
    }
    set("MACHINE_ID", host.machine_id.clone());
    set("ABX_RUNTIME", host.runtime.clone());
    set("EXTRA_CONTEXT", extra_context((plugin, hook), page).to_string());
    set("PATH", search_path(values, &bin, &host.path));
    env.remove("UV_RUN_RECURSION_DEPTH");
    env
}

/// What is added to each record of a hook.
pub fn extra_context((plugin, hook): (&str, &str), page: &Page) -> Value {
    json!({
        "snapshot_id": page.snapshot_id,
        "snapshot_depth": page.depth,
        "crawl_id": page.crawl_id,
        "plugin": plugin,
        "hook_name": hook,
    })
}

/// Directories of programs that are named by path, then our own, then the host's; each once.
fn search_path(values: &Values, bin: &str, host: &str) -> String {
    let named = values.iter().filter(|(key, _)| key.ends_with("_BINARY")).filter_map(|(_, value)| {
        let parent = Path::new(value.as_str()?).parent()?;
        parent.is_absolute().then(|| parent.to_string_lossy().into_owned())
    });
    let mut dirs: Vec<String> = Vec::new();
    for dir in named.chain([bin.to_owned()]).chain(host.split(':').map(str::to_owned)) {
        if !dir.is_empty() && !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs.join(":")
}

/// `--key=value` arguments: true as a bare flag, lists and objects as JSON; empty ones, false ones and those whose key
/// begins with `_` are left out.
pub fn arguments<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<String> {
    let one = |(key, value): (&str, Value)| {
        let flag = format!("--{}", key.replace('_', "-"));
        match value {
            _ if key.starts_with('_') => None,
            Value::Null | Value::Bool(false) => None,
            Value::Bool(true) => Some(flag),
            Value::String(text) if text.is_empty() => None,
            Value::Array(items) if items.is_empty() => None,
            Value::Object(map) if map.is_empty() => None,
            value => Some(format!("{flag}={}", plain(&value))),
        }
    };
    pairs.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &[(&str, &str)], values: &[(&str, Value)]) -> BTreeMap<String, String> {
        let page =
            Page { url: "http://a/".into(), snapshot_id: "s1".into(), crawl_id: "c1".into(), depth: 2 };
        let host = Host { machine_id: "m1".into(), runtime: "abx-dl".into(), path: "/usr/bin:/bin".into() };
        let given: Given = given.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let values: Values = values.iter().map(|(k, v)| ((*k).into(), v.clone())).collect();
        let ours = [("HOME", "/root"), ("SONDE_TOKEN", "secret"), ("UV_RUN_RECURSION_DEPTH", "1")];
        let ours = ours.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        environment(
            ("wget", "on_Snapshot__06_wget"),
            &page,
            &Places::under("/d".as_ref()),
            &host,
            (&given, &values),
            &ours,
        )
    }

    /// 2.2; S7: nothing of ours but what is named.
    #[test]
    fn the_environment_is_whole_and_holds_nothing_else_of_ours() {
        let env = made(
            &[("TIMEOUT", "5"), ("UV_RUN_RECURSION_DEPTH", "3")],
            &[
                ("WGET_BINARY", json!("/opt/wget/bin/wget")),
                ("WGET_ARGS", json!(["a", "b"])),
                ("X", json!(true)),
                ("SNAP_DIR", json!("")),
            ],
        );
        for key in [
            "PATH",
            "DATA_DIR",
            "ARCHIVE_DIR",
            "CRAWL_DIR",
            "LIB_DIR",
            "ABXPKG_LIB_DIR",
            "LIB_BIN_DIR",
            "NODE_MODULES_DIR",
            "NODE_MODULE_DIR",
            "NODE_PATH",
            "PERSONAS_DIR",
            "ACTIVE_PERSONA",
            "MACHINE_ID",
            "ABX_RUNTIME",
            "LIBRARY_VERSION",
            "EXTRA_CONTEXT",
            "TIMEOUT",
            "USER_AGENT",
            "CHECK_SSL_VALIDITY",
            "COOKIES_FILE",
            "TMP_DIR",
            "CHROME_SANDBOX",
            "DRY_RUN",
            "RESOLUTION",
            "HOME",
        ] {
            assert!(env.contains_key(key), "{key}");
        }
        assert_eq!(env["SNAP_DIR"], "/d");
        assert_eq!(env["PATH"], "/opt/wget/bin:/d/.lib/bin:/usr/bin:/bin");
        assert_eq!(
            (env["WGET_ARGS"].as_str(), env["X"].as_str(), env["TIMEOUT"].as_str()),
            (r#"["a","b"]"#, "true", "5")
        );
        let extra: Value = serde_json::from_str(&env["EXTRA_CONTEXT"]).unwrap();
        assert_eq!((&extra["snapshot_id"], &extra["snapshot_depth"]), (&json!("s1"), &json!(2)));
        assert!(!env.contains_key("SONDE_TOKEN") && !env.contains_key("UV_RUN_RECURSION_DEPTH"));
    }

    #[test]
    fn arguments_are_built_as_hooks_read_them() {
        let pairs = [
            ("url", json!("http://a/?b=c d")),
            ("snapshot_id", json!("s")),
            ("flag", json!(true)),
            ("off", json!(false)),
            ("none", json!("")),
            ("list", json!([1])),
            ("_hidden", json!("x")),
        ];
        let expected = ["--url=http://a/?b=c d", "--snapshot-id=s", "--flag", "--list=[1]"];
        assert_eq!(arguments(pairs), expected);
    }
}
