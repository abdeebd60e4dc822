//! Layered configuration: defaults < TOML file < environment < command line.
//!
//! A file has one table per section (`[storage]`, `[browser]`, ...); the environment names the same keys as
//! `SONDE_STORAGE__DATA_DIR`, nested by double underscores; the command line as `storage.data_dir`. Unknown keys are
//! refused, every error found is reported with its place, and each value remembers where it came from.
//!
//! A section's type derives `Serialize`, `Deserialize` and `Default` with `#[serde(default)]`. Do not use
//! `#[serde(flatten)]` in it: it hides the known keys.

mod de;
mod error;
mod print;
mod secret;
mod suggest;
mod tree;
pub mod units;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{ConfigError, Origin, Problem};
pub use print::print_config;
pub use secret::{Revealed, Secret, SecretError};
pub use units::{duration, size};

use suggest::nearest;
use tree::{Node, Value};

/// The sections that a configuration file may hold. A file is shared by all services; each reads its own section.
pub const SECTIONS: &[&str] = &["browser", "cli", "coordinator", "dashboard", "storage", "telemetry", "up"];

const ENV_PREFIX: &str = "SONDE_";
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Each round removes one bad value, so this bounds how many are reported.
const MAX_ROUNDS: usize = 100;

/// One value given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// As the user typed it, for messages: `--data-dir`.
    pub flag: String,
    /// With its section: `storage.data_dir`.
    pub key: String,
    pub value: String,
}

impl Override {
    pub fn new(flag: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { flag: flag.into(), key: key.into(), value: value.into() }
    }

    /// Reads the argument of `--set`: `storage.data_dir=/data`.
    ///
    /// # Errors
    /// If there is no `=`, or no section.
    pub fn parse_set(argument: &str) -> Result<Self, ConfigError> {
        let flag = format!("--set {argument}");
        match argument.split_once('=') {
            Some((key, value)) if key.contains('.') => Ok(Self::new(format!("--set {key}"), key, value)),
            _ => Err(ConfigError::one(Problem::new(
                Origin::Flag(flag),
                "",
                "give it as section.key=value, such as --set storage.data_dir=/data",
            ))),
        }
    }
}

/// A section's value, and where each part of it came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    pub value: T,
    section: String,
    origins: BTreeMap<String, Origin>,
}

impl<T> Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Loaded<T> {
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Where the value of `key` (dotted, within the section) came from; for a table, where its first key did.
    pub fn origin(&self, key: &str) -> &Origin {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin;
            }
            let below = format!("{key}.");
            if let Some((_, origin)) =
                self.origins.range(below.clone()..).next().filter(|(found, _)| found.starts_with(&below))
            {
                return origin;
            }
            match key.rsplit_once('.') {
                Some((parent, _)) => key = parent,
                None => return &Origin::Default,
            }
        }
    }

    /// An error about the value of `key` that only the caller could see, reported at the place it came from.
    pub fn problem(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::one(Problem::new(self.origin(key).clone(), format!("{}.{key}", self.section), message))
    }
}

/// The `SONDE_*` variables of this process.
///
/// # Errors
/// If one of them is not UTF-8.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
        match value.into_string() {
            Ok(value) => found.push((name.to_owned(), value)),
            Err(_) => problems.push(Problem::new(Origin::Env(name.to_owned()), "", "is not UTF-8")),
        }
    }
    ConfigError::unless_empty(problems).map(|()| found)
}

/// Loads `section` from all layers. Parts of the file, environment and overrides that belong to other sections are
/// ignored; names of sections that do not exist are errors.
///
/// # Errors
/// All that was found wrong, in one error; the process should end with [`crate::EXIT_CONFIG`].
pub fn load<T>(
    section: &str,
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: &[Override],
) -> Result<Loaded<T>, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let mut problems = Vec::new();
    let defaults = default_layer::<T>(section)?;
    let mut merged = defaults.clone();
    if let Some(path) = file {
        match file_layer(section, path) {
            Ok((layer, wrong)) => {
                problems.extend(wrong);
                if let Some(layer) = layer {
                    merged.merge(layer);
                }
            }
            Err(error) => problems.extend(error.problems),
        }
    }
    for (name, text) in env {
        match env_key(section, &name) {
            Ok(Some(path)) => merged.insert(&path, Node::text(Origin::Env(name), text)),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    for given in overrides {
        match override_key(section, given) {
            Ok(Some(path)) => {
                merged.insert(&path, Node::text(Origin::Flag(given.flag.clone()), given.value.clone()));
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    decode(section, merged, &defaults, problems)
}

/// Decodes again and again, each time with the value found wrong put back to its default, to find all errors.
fn decode<T: DeserializeOwned>(
    section: &str,
    mut tree: Node,
    defaults: &Node,
    mut problems: Vec<Problem>,
) -> Result<Loaded<T>, ConfigError> {
    let unknown = RefCell::new(Vec::new());
    let mut decoded = None;
    let mut removed: Vec<Vec<String>> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let error = match T::deserialize(de::De::new(&tree, section, &unknown)) {
            Ok(value) => {
                decoded = Some(value);
                break;
            }
            Err(error) => error,
        };
        let path = error.path().to_vec();
        let origin = tree.origin_at(&path).clone();
        let mut problem = Problem::new(origin, join(section, &path), error.message);
        problem.suggestion = error.suggestion;
        // What holds a value that was taken away may now lack it: that is no second error.
        if !removed.iter().any(|below| below.starts_with(&path)) {
            problems.push(problem);
        }
        if !tree.put_back(&path, defaults) {
            break;
        }
        removed.push(path);
    }
    for problem in unknown.into_inner() {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    match decoded {
        Some(value) if problems.is_empty() => {
            Ok(Loaded { value, section: section.to_owned(), origins: tree.origins() })
        }
        _ => Err(ConfigError { problems }),
    }
}

fn default_layer<T: Serialize + Default>(section: &str) -> Result<Node, ConfigError> {
    let value = toml::Value::try_from(T::default()).map_err(|error| {
        ConfigError::one(Problem::new(
            Origin::Default,
            section,
            format!("defaults cannot be written: {error}"),
        ))
    })?;
    Ok(Node::from_default(value))
}

/// The section's table, if the file has it, and what is wrong beside it.
fn file_layer(section: &str, path: &Path) -> Result<(Option<Node>, Vec<Problem>), ConfigError> {
    let at_start = |message: String| {
        ConfigError::one(Problem::new(Origin::File { path: path.into(), line: 1, column: 1 }, "", message))
    };
    let size = std::fs::metadata(path).map_err(|error| at_start(format!("cannot be read: {error}")))?.len();
    if size > MAX_FILE_BYTES {
        return Err(at_start(format!("has {size} bytes; a configuration has at most {MAX_FILE_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| at_start(format!("cannot be read: {error}")))?;
    let mut root = tree::parse_file(path, &text)?;
    let mut problems = Vec::new();
    let mut layer = None;
    if let Value::Table(sections) = &mut root.value {
        for (name, node) in std::mem::take(sections) {
            if name == section {
                layer = Some(node);
            } else if !SECTIONS.contains(&name.as_str()) {
                problems.push(unknown_section(node.origin, section, &name));
            }
        }
    }
    Ok((layer, problems))
}

fn unknown_section(origin: Origin, section: &str, name: &str) -> Problem {
    let known = || SECTIONS.iter().copied().chain([section]);
    let mut problem = Problem::new(origin, name, "unknown section");
    problem.suggestion = nearest(name, known()).or_else(|| {
        let mut all: Vec<_> = known().collect();
        all.sort_unstable();
        all.dedup();
        Some(format!("one of {}", all.join(", ")))
    });
    problem
}

/// The path within `section` that a variable names; `None` if it is another section's, or no nested name at all
/// (`SONDE_CONFIG` and the like belong to the command line).
fn env_key(section: &str, name: &str) -> Result<Option<Vec<String>>, Problem> {
    let Some(rest) = name.strip_prefix(ENV_PREFIX) else { return Ok(None) };
    if !rest.contains("__") {
        return Ok(None);
    }
    let parts = rest.split("__").map(str::to_lowercase);
    within(section, parts, Origin::Env(name.to_owned()))
}

fn override_key(section: &str, given: &Override) -> Result<Option<Vec<String>>, Problem> {
    within(section, given.key.split('.').map(str::to_owned), Origin::Flag(given.flag.clone()))
}

fn within(
    section: &str,
    mut parts: impl Iterator<Item = String>,
    origin: Origin,
) -> Result<Option<Vec<String>>, Problem> {
    let first = parts.next().unwrap_or_default();
    let rest: Vec<_> = parts.collect();
    if first != section {
        let known = SECTIONS.contains(&first.as_str());
        return if known { Ok(None) } else { Err(unknown_section(origin, section, &first)) };
    }
    if rest.is_empty() || rest.iter().any(String::is_empty) {
        return Err(Problem::new(origin, section, "names no key of this section"));
    }
    Ok(Some(rest))
}

fn join(section: &str, path: &[String]) -> String {
    let mut joined = section.to_owned();
    for part in path {
        joined.push('.');
        joined.push_str(part);
    }
    joined
}
