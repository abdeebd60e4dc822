//! The arrows of the design, checked: who may depend on whom, and where foreign things may appear.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};
use sonde_tests::workspace;

/// What each crate of ours may depend on, of ours.
const ARROWS: [(&str, &[&str]); 8] = [
    ("sonde-proto", &[]),
    ("sonde-runtime", &["sonde-proto"]),
    ("sonde-storage", &["sonde-proto", "sonde-runtime"]),
    ("sonde-coordinator", &["sonde-proto", "sonde-runtime"]),
    ("sonde-browser", &["sonde-proto", "sonde-runtime"]),
    ("sonde-site", &[]),
    (
        "sonde-cli",
        &[
            "sonde-proto",
            "sonde-runtime",
            "sonde-storage",
            "sonde-coordinator",
            "sonde-browser",
            "sonde-site",
        ],
    ),
    (
        "sonde-tests",
        &[
            "sonde-proto",
            "sonde-runtime",
            "sonde-storage",
            "sonde-coordinator",
            "sonde-browser",
            "sonde-site",
            "sonde-cli",
        ],
    ),
];

/// A source file of the workspace.
struct Source {
    /// Relative to the workspace, with forward slashes.
    path: String,
    /// Without comments and without its unit tests.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = workspace::root();
    let mut files = Vec::new();
    for directory in ["proto", "services", "clients/cli", "tests"] {
        walk(&root.join(directory), &mut files);
    }
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        Source { path, code: code(&text), lines: text.lines().count() }
    };
    let all: Vec<_> = files.iter().map(read).collect();
    assert!(all.len() > 50, "only {} source files were found", all.len());
    all
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Code as far as it is compiled into programs: up to a trailing module of unit tests, without line comments.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether a file belongs to tests, benches or examples only.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap();
    name == "tests.rs"
        || ["/tests/", "/benches/", "/examples/"].iter().any(|part| path.contains(part))
        || (path.starts_with("tests/") && !path.starts_with("tests/site/src/"))
}

/// Files of programs whose code holds any of `words` though `allowed` does not say so.
fn strays(words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let holds = |source: &Source| words.iter().any(|word| has_word(&source.code, word));
    let stray = |source: &Source| !is_test(&source.path) && !allowed(&source.path) && holds(source);
    sources().into_iter().filter(stray).map(|source| source.path).collect()
}

/// Whether `word` is in the code, not as the end of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(in_name))
}

#[test]
fn dependencies_point_one_way() {
    let manifest = workspace::root().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let known: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let listed: BTreeSet<&str> = allowed.keys().copied().collect();
    assert_eq!(known, listed, "a crate is not in the list of arrows, or the list names one that is gone");
    for package in &metadata.packages {
        for dependency in package.dependencies.iter().filter(|d| known.contains(d.name.as_str())) {
            let name = package.name.as_str();
            // The site knows none of ours, so that any crate may measure itself against it.
            if dependency.name == "sonde-site" && dependency.kind == DependencyKind::Development {
                continue;
            }
            // For tests and builds, too: a service that is tested with another one would soon be built with it.
            assert!(
                allowed[name].contains(&dependency.name.as_str()),
                "{name} depends on {} ({:?}): the services meet over gRPC only",
                dependency.name,
                dependency.kind
            );
        }
        let foreign = |name: &str| {
            let of_programs = |kind| matches!(kind, DependencyKind::Normal | DependencyKind::Build);
            package.dependencies.iter().any(|d| d.name == name && of_programs(d.kind))
        };
        let may = |name: &str, crates: &[&str]| {
            assert!(
                !foreign(name) || crates.contains(&package.name.as_str()),
                "{} depends on {name}",
                package.name
            );
        };
        may("chromiumoxide", &["sonde-browser"]);
        may("fantoccini", &["sonde-browser"]);
        may("rusqlite", &["sonde-storage", "sonde-coordinator", "sonde-site", "sonde-tests"]);
    }
}

#[test]
fn engines_and_databases_stay_in_their_adapters() {
    let engine = |path: &str| path.starts_with("services/browser/src/engine/chromium/");
    assert_eq!(
        strays(&["chromiumoxide", "chromiumoxide_cdp"], engine),
        [""; 0],
        "types of chromiumoxide belong under engine/chromium/"
    );
    let firefox = |path: &str| path.starts_with("services/browser/src/engine/firefox/");
    assert_eq!(strays(&["fantoccini"], firefox), [""; 0], "types of fantoccini belong under engine/firefox/");
    let store = |path: &str| {
        ["services/storage/src/sqlite/", "services/coordinator/src/store/", "tests/site/src/"]
            .iter()
            .any(|area| path.starts_with(area))
            || path == "services/storage/src/sqlite.rs"
            || path == "services/coordinator/src/store.rs"
    };
    assert_eq!(
        strays(&["rusqlite"], store),
        [""; 0],
        "rusqlite belongs in storage's sink and the coordinator's store"
    );
}

/// A02
#[test]
fn processes_are_started_in_one_place_only() {
    let spawning = ["process::Command", "Command::new(", "libc::fork", "posix_spawn", "execv"];
    let allowed = |path: &str| path.starts_with("services/runtime/src/process/");
    assert_eq!(
        strays(&spawning, allowed),
        [""; 0],
        "processes are started in process/ of runtime, which records and ends them"
    );
}

#[test]
fn names_say_what_is_in_them() {
    let magnets = ["utils", "util", "common", "helpers", "helper", "misc", "manager"];
    let named = |source: &Source| {
        let mut parts = source.path.trim_end_matches(".rs").split('/');
        parts.any(|part| magnets.contains(&part))
    };
    let found: Vec<_> = sources().into_iter().filter(named).map(|s| s.path).collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn files_are_short_and_mains_are_thin() {
    let sources = sources();
    for source in &sources {
        let (path, lines) = (&source.path, source.lines);
        assert!(lines <= 500, "{path} has {lines} lines: cut it by topic");
        if path.ends_with("/main.rs") {
            assert!(
                lines <= 130,
                "{path} has {lines} lines: a main reads its configuration, serves and drains"
            );
        }
    }
    let mains = ["services/storage", "services/coordinator", "services/browser", "clients/cli"];
    for main in mains {
        let path = format!("{main}/src/main.rs");
        assert!(sources.iter().any(|s| s.path == path), "{path} is missing");
    }
}

#[test]
fn the_contract_is_held_to_the_strictest_rules() {
    let text = std::fs::read_to_string(workspace::root().join("buf.yaml")).unwrap();
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let decided = [
        "version: v2",
        "modules:",
        "- path: proto",
        "lint:",
        "use:",
        "- STANDARD",
        "- COMMENTS",
        "disallow_comment_ignores: true",
        "breaking:",
        "use:",
        "- FILE",
    ];
    assert_eq!(lines, decided, "buf.yaml differs from what was decided: an exception needs a reason");
}
