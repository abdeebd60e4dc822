//! The extension's files: where they are, and the copy of them that one browser process loads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;
use sonde_proto::js_settings::JsSettings;

/// The marker that the configuration takes the place of, quotes included.
const MARKER: &str = "\"@@SONDE_CONFIG@@\"";
/// The content scripts that hold it, as the background does.
const INLINED: [&str; 3] = ["exported.js", "isolated.js", "main.js"];
const MANIFEST: &str = "manifest.json";
/// Run by the browser-service and by the background: not files of the extension itself.
const OURS: [&str; 3] = [PREFIX, "stealth.js", "worker.js"];
const PREFIX: &str = "prefix.js";
const BACKGROUND: &str = "background.js";
/// Files of one extension.
const MOST_FILES: usize = 1000;

/// Which of the extension's content scripts hold the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// `main.js` in the page's world, with `isolated.js` beside it: Proxies in the place of natives.
    Wrapped,
    /// `exported.js` in the isolated world alone: functions that it lends to the page. Firefox only.
    Exported,
    /// None of them: the browser-service has the engine stop at the functions. Chromium only.
    Stealth,
}

impl Capture {
    /// As in provenance.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrapped => "wrapped",
            Self::Exported => "exported",
            Self::Stealth => "stealth",
        }
    }

    /// Its one content script; `None`: those of the built extension.
    fn one_script(self) -> Option<&'static str> {
        match self {
            Self::Wrapped => None,
            Self::Exported => Some("exported.js"),
            // Tells where a tab is; of calls it knows nothing.
            Self::Stealth => Some("isolated.js"),
        }
    }

    /// The files of the extension that are of no use.
    fn leaves_out(self) -> &'static [&'static str] {
        match self {
            Self::Wrapped => &["exported.js"],
            Self::Exported => &["isolated.js", "main.js"],
            Self::Stealth => &["exported.js", "main.js"],
        }
    }
}

/// What a browser process's copy of the extension is told.
#[derive(Clone, Debug)]
pub struct ExtensionConfig {
    /// Port of the [`super::Relay`].
    pub port: u16,
    /// Token of the [`super::Relay`].
    pub token: String,
    /// Names the private events between the worlds of a page: at least 128 random bits, as letters and digits.
    pub secret: String,
    pub capture: Capture,
    pub javascript: bool,
    pub cookies: bool,
    pub navigations: bool,
    /// What the network does, where the browser tells extensions (Firefox).
    pub network: bool,
    /// Which APIs are recorded, and how.
    pub javascript_settings: JsSettings,
    /// Calls recorded of each symbol in each document; 0: all.
    pub javascript_limit: u32,
    /// The extension may watch and change requests, and so hooks workers, too (Firefox). In Chromium, where it uses none of
    /// it, the permission alone would send each request through the browser process.
    pub requests: bool,
    /// Gives pages `window.instrumentJS`.
    pub testing: bool,
}

impl ExtensionConfig {
    /// What the token of a visit's first page, in which nothing is to be recorded, ends with. No page knows it.
    pub fn first_page(&self) -> String {
        hex(&Sha256::digest(format!("first page {}", self.secret))[..16])
    }
}

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionFacts {
    /// SHA-256, as hex, of the source: its sorted relative paths and contents.
    pub hash: String,
    /// Version in the manifest.
    pub version: String,
    /// The id that Chromium derives from the manifest's key.
    pub chromium_id: Option<String>,
}

/// Why the extension cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(
        "no built extension at {}; build it (npm ci && npm run build in clients/extension) or name its directory in SONDE_EXTENSION_DIR",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound { tried: Vec<PathBuf> },
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is not a file of our extension: {what}; build it again", path.display())]
    Foreign { path: PathBuf, what: &'static str },
    #[error("{0} may hold letters and digits only, and at least 16 of them")]
    Secret(&'static str),
}

/// The directory of the built extension: as configured, else `SONDE_EXTENSION_DIR`, else beside the executable, else
/// the checkout this was built from.
pub fn locate_extension(configured: Option<&Path>) -> Result<PathBuf, PrepareError> {
    let from_environment = std::env::var_os("SONDE_EXTENSION_DIR").map(PathBuf::from);
    let named = configured.map(Path::to_path_buf).or(from_environment);
    let candidates = match named {
        Some(path) => vec![path],
        None => {
            let executable = std::env::current_exe().ok();
            let beside = executable.as_deref().and_then(Path::parent);
            let mut paths: Vec<PathBuf> = beside
                .map(|dir| vec![dir.join("extension"), dir.join("../share/sonde/extension")])
                .unwrap_or_default();
            paths.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/extension/dist"));
            paths
        }
    };
    match candidates.iter().find(|path| path.join("manifest.json").is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(PrepareError::NotFound { tried: candidates }),
    }
}

/// Copies the extension to `target`, which must not exist, with its configuration inlined.
/// The copy holds secrets: it is readable by its owner only.
pub fn prepare_extension(
    source: &Path,
    target: &Path,
    config: &ExtensionConfig,
) -> Result<ExtensionFacts, PrepareError> {
    for (name, secret) in [("the relay's token", &config.token), ("the extension's secret", &config.secret)] {
        if secret.len() < 16 || !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(PrepareError::Secret(name));
        }
    }
    let files = files_of(source)?;
    let mut hash = Sha256::new();
    private_dir(target)?;
    for relative in &files {
        let from = source.join(relative);
        let contents = fs::read(&from).map_err(at("read", &from))?;
        let name = relative.to_string_lossy();
        for part in [name.as_bytes(), &contents] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        if OURS.contains(&name.as_ref()) || config.capture.leaves_out().contains(&name.as_ref()) {
            continue;
        }
        let to = target.join(relative);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(at("create", parent))?;
        }
        let written = match name.as_ref() {
            MANIFEST => manifest(&from, &contents, config)?,
            BACKGROUND => {
                let prefix =
                    if config.requests && config.javascript { Some(prefix(source, config)?) } else { None };
                inlined(&from, contents, &background(config, prefix))?
            }
            name if INLINED.contains(&name) => inlined(&from, contents, &content(name, config))?,
            _ => contents,
        };
        fs::write(&to, written).map_err(at("write", &to))?;
    }
    let (version, chromium_id) = manifest_facts(&target.join(MANIFEST))?;
    Ok(ExtensionFacts { hash: hex(&hash.finalize()), version, chromium_id })
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.to_path_buf();
    move |source| PrepareError::Io { doing, path, source }
}

fn private_dir(path: &Path) -> Result<(), PrepareError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path).map_err(at("create", path))
}

/// Relative paths of all files, sorted.
fn files_of(root: &Path) -> Result<Vec<PathBuf>, PrepareError> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let path = root.join(&directory);
        for entry in fs::read_dir(&path).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let kind = entry.file_type().map_err(at("stat", &entry.path()))?;
            let relative = directory.join(entry.file_name());
            if kind.is_dir() {
                directories.push(relative);
            } else if kind.is_file() {
                files.push(relative);
            }
        }
        if files.len() > MOST_FILES {
            return Err(PrepareError::Foreign { path: root.to_path_buf(), what: "it has too many files" });
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Background<'a> {
    port: u16,
    token: &'a str,
    javascript: bool,
    cookies: bool,
    navigations: bool,
    network: bool,
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Main<'a> {
    secret: &'a str,
    first_page: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusals: Option<bool>,
    javascript: bool,
    cookies: bool,
    targets: serde_json::Value,
    limit: u32,
    testing: bool,
}

/// The manifest, out of that of the built extension.
fn manifest(path: &Path, built: &[u8], config: &ExtensionConfig) -> Result<Vec<u8>, PrepareError> {
    let foreign = |what| PrepareError::Foreign { path: path.to_path_buf(), what };
    let mut manifest: serde_json::Value =
        serde_json::from_slice(built).map_err(|_| foreign("it is not JSON"))?;
    if let Some(file) = config.capture.one_script() {
        let scripts = manifest["content_scripts"].as_array().cloned().unwrap_or_default();
        let mut isolated = scripts
            .into_iter()
            .find(|script| script["world"] == "ISOLATED")
            .ok_or_else(|| foreign("it has no content script in the isolated world"))?;
        isolated["js"] = serde_json::json!([file]);
        manifest["content_scripts"] = serde_json::json!([isolated]);
    }
    if !config.requests
        && let Some(permissions) = manifest.get_mut("permissions").and_then(|p| p.as_array_mut())
    {
        permissions.retain(|p| !p.as_str().is_some_and(|p| p == "dns" || p.starts_with("webRequest")));
    }
    if manifest.get("key").is_some() {
        // Another id for each copy: a profile that is kept remembers the background of an extension by its id, and would
        // start the last browser's again. The browser takes any bytes for a key.
        manifest["key"] = STANDARD.encode(Sha256::digest(format!("id {}", config.secret))).into();
    }
    Ok(serde_json::to_vec_pretty(&manifest).expect("a JSON value has a JSON form"))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and JSON values have a JSON form")
}

fn background(config: &ExtensionConfig, prefix: Option<String>) -> String {
    let ExtensionConfig { port, cookies, navigations, network, javascript_limit: limit, .. } = *config;
    json(&Background {
        port,
        token: &config.token,
        javascript: config.javascript && config.capture != Capture::Stealth,
        cookies,
        navigations,
        network,
        limit,
        prefix: prefix.as_deref(),
    })
}

/// What the background puts before the scripts of workers. Pages cannot read it; it holds no secret all the same.
fn prefix(source: &Path, config: &ExtensionConfig) -> Result<String, PrepareError> {
    let path = source.join(PREFIX);
    let contents = fs::read(&path).map_err(at("read", &path))?;
    let told = json(&serde_json::json!({
        "targets": config.javascript_settings.for_extension(),
        "limit": config.javascript_limit,
    }));
    let prefix = inlined(&path, contents, &told)?;
    // A column for each byte, whatever the encoding of what follows.
    let escaped = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    let ascii = |c: char| if c.is_ascii() { c.to_string() } else { escaped(c) };
    Ok(String::from_utf8_lossy(&prefix).chars().map(ascii).collect())
}

fn content(name: &str, config: &ExtensionConfig) -> String {
    let ExtensionConfig { javascript, cookies, network, javascript_limit: limit, testing, .. } = *config;
    let secret = config.secret.as_str();
    if name == "isolated.js" {
        return json(&serde_json::json!({ "secret": secret, "refusals": network }));
    }
    let targets = config.javascript_settings.for_extension();
    let refusals = (name == "exported.js").then_some(network);
    let first_page = config.first_page();
    json(&Main { secret, first_page, refusals, javascript, cookies, targets, limit, testing })
}

/// Each file is told what it needs, and no more: the page's world never holds the token.
fn inlined(path: &Path, contents: Vec<u8>, told: &str) -> Result<Vec<u8>, PrepareError> {
    let foreign = |what| PrepareError::Foreign { path: path.to_path_buf(), what };
    let text = String::from_utf8(contents).map_err(|_| foreign("it is not UTF-8"))?;
    if text.matches(MARKER).count() != 1 {
        return Err(foreign("it does not hold the marker of the configuration once"));
    }
    // A JSON string is a JavaScript string literal.
    Ok(text.replacen(MARKER, &json(&told), 1).into_bytes())
}

fn manifest_facts(path: &Path) -> Result<(String, Option<String>), PrepareError> {
    let foreign = |what| PrepareError::Foreign { path: path.to_path_buf(), what };
    let bytes = fs::read(path).map_err(at("read", path))?;
    let manifest: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|_| foreign("it is not JSON"))?;
    let version = manifest["version"].as_str().ok_or_else(|| foreign("it has no version"))?.to_owned();
    let key = manifest["key"]
        .as_str()
        .map(|key| STANDARD.decode(key).map_err(|_| foreign("its key is not base64")));
    Ok((version, key.transpose()?.map(|key| chromium_id(&key))))
}

/// The first half of the key's SHA-256, with a to p for the hex digits.
fn chromium_id(key: &[u8]) -> String {
    let letter = |nibble: u8| char::from(b'a' + nibble);
    Sha256::digest(key)[..16].iter().flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect()
}
