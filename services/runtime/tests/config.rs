//! Precedence of the layers, and the shape of every error.
#![allow(clippy::unwrap_used)] // the lint's exception for tests does not reach their helper functions

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sonde_runtime::config::units::HumanDuration;
use sonde_runtime::config::{self, ConfigError, Loaded, Origin, Override, Secret, load, print_config};
use sonde_runtime::endpoint::Endpoint;
use tempfile::TempDir;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Storage {
    listen: Endpoint,
    data_dir: PathBuf,
    #[serde(with = "config::duration")]
    drain: Duration,
    #[serde(with = "config::size")]
    cap: u64,
    workers: u16,
    sync: Sync,
    tags: Vec<String>,
    ratio: f64,
    verbose: bool,
    token: Option<Secret>,
    age: Option<HumanDuration>,
    sqlite: Sqlite,
    more: Option<Sqlite>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sqlite {
    page: u32,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sync {
    Full,
    Every { rows: u32 },
}

impl Default for Sqlite {
    fn default() -> Self {
        Self { page: 4096, name: "db".to_owned() }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            listen: Endpoint::Inproc("storage".to_owned()),
            data_dir: "/data".into(),
            drain: Duration::from_secs(30),
            cap: 64 << 20,
            workers: 2,
            sync: Sync::Full,
            tags: vec!["a".to_owned()],
            ratio: 0.5,
            verbose: false,
            token: None,
            age: None,
            sqlite: Sqlite::default(),
            more: None,
        }
    }
}

struct Given {
    dir: TempDir,
    file: Option<PathBuf>,
    env: Vec<(String, String)>,
    flags: Vec<Override>,
}

impl Given {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), file: None, env: Vec::new(), flags: Vec::new() }
    }

    fn file(mut self, text: &str) -> Self {
        let path = self.dir.path().join("sonde.toml");
        std::fs::write(&path, text).unwrap();
        self.file = Some(path);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.flags.push(Override::new(format!("--{}", key.replace(['.', '_'], "-")), key, value));
        self
    }

    fn load(&self) -> Result<Loaded<Storage>, ConfigError> {
        load("storage", self.file.as_deref(), self.env.clone(), &self.flags)
    }

    /// The lines of the error, with the directory cut off.
    fn errors(&self) -> Vec<String> {
        let error = self.load().expect_err("this configuration is wrong").to_string();
        let dir = format!("{}/", self.dir.path().display());
        error.lines().map(|line| line.replace(&dir, "")).collect()
    }
}

#[test]
fn nothing_given_yields_the_defaults() {
    let loaded = Given::new().load().unwrap();
    assert_eq!(loaded.value, Storage::default());
    assert_eq!(loaded.origin("sqlite.page"), &Origin::Default);
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let text =
        "[storage]\nworkers = 3\ncap = \"1GiB\"\ndrain = \"5s\"\nsqlite.page = 1\n[browser]\nwhatever = 1\n";
    let given = Given::new()
        .file(text)
        .env("SONDE_STORAGE__WORKERS", "4")
        .env("SONDE_STORAGE__CAP", "2GiB")
        .env("SONDE_STORAGE__SQLITE__NAME", "x")
        .env("SONDE_BROWSER__WHATEVER", "1")
        .env("SONDE_CONFIG", "sonde.toml")
        .env("HOME", "/root")
        .flag("storage.workers", "5")
        .flag("browser.whatever", "1");
    let loaded = given.load().unwrap();
    let expected = Storage {
        workers: 5,
        cap: 2 << 30,
        drain: Duration::from_secs(5),
        sqlite: Sqlite { page: 1, name: "x".to_owned() },
        ..Storage::default()
    };
    assert_eq!(loaded.value, expected);
    assert_eq!(loaded.origin("workers"), &Origin::Flag("--storage-workers".to_owned()));
    assert_eq!(loaded.origin("cap"), &Origin::Env("SONDE_STORAGE__CAP".to_owned()));
    assert_eq!(loaded.origin("sqlite.name"), &Origin::Env("SONDE_STORAGE__SQLITE__NAME".to_owned()));
    assert!(matches!(loaded.origin("sqlite.page"), Origin::File { line: 5, column: 8, .. }));
    assert!(matches!(loaded.origin("drain"), Origin::File { line: 4, column: 1, .. }));
    assert_eq!(loaded.origin("data_dir"), &Origin::Default);
}

#[test]
fn text_of_the_environment_becomes_what_the_field_is() {
    let loaded = Given::new()
        .env("SONDE_STORAGE__VERBOSE", "yes")
        .env("SONDE_STORAGE__RATIO", "0.25")
        .env("SONDE_STORAGE__TAGS", "x, y")
        .env("SONDE_STORAGE__DATA_DIR", "123")
        .env("SONDE_STORAGE__AGE", "2m")
        .env("SONDE_STORAGE__SYNC", "{ every = { rows = 7 } }")
        .env("SONDE_STORAGE__TOKEN__ENV", "TOKEN")
        .env("SONDE_STORAGE__MORE", "{ page = 1, name = 'n' }")
        .env("SONDE_STORAGE__LISTEN", "http://127.0.0.1:7400")
        .load()
        .unwrap();
    let expected = Storage {
        verbose: true,
        ratio: 0.25,
        tags: vec!["x".to_owned(), "y".to_owned()],
        data_dir: "123".into(),
        age: Some(HumanDuration(Duration::from_secs(120))),
        sync: Sync::Every { rows: 7 },
        token: Some(Secret::env("TOKEN")),
        more: Some(Sqlite { page: 1, name: "n".to_owned() }),
        listen: "http://127.0.0.1:7400".parse().unwrap(),
        ..Storage::default()
    };
    assert_eq!(loaded.value, expected);
    let cleared = Given::new().file("[storage]\nage = \"1s\"").env("SONDE_STORAGE__AGE", "").load().unwrap();
    assert_eq!(cleared.age, None);
}

#[test]
fn all_errors_are_reported_each_with_its_place_and_the_nearest_key() {
    let text = "[storage]\nworkers = 70000\n  dta_dir = \"/x\"\ncap = \"64\"\n\n[storage.sqlite]\npage = \"big\"\npaeg = 1\n\n[strage]\nx = 1\n";
    let errors = Given::new()
        .file(text)
        .env("SONDE_STORAGE__DRAIN", "soon")
        .env("SONDE_STORAGE__RATOI", "1")
        .env("SONDE_STRORAGE__RATIO", "1")
        .flag("storage.verbose", "perhaps")
        .flag("storage.colour", "red")
        .errors();
    let one_of =
        "listen, data_dir, drain, cap, workers, sync, tags, ratio, verbose, token, age, sqlite, more";
    let expected = [
        "sonde.toml:10:2: strage: unknown section; did you mean `storage`?".to_owned(),
        "env SONDE_STRORAGE__RATIO: strorage: unknown section; did you mean `storage`?".to_owned(),
        "env SONDE_STORAGE__DRAIN: storage.drain: `soon` is no duration: give whole numbers with units, such as 30s, 500ms or 1m30s".to_owned(),
        "flag --storage-verbose: storage.verbose: invalid value: string \"perhaps\", expected true or false".to_owned(),
        "env SONDE_STORAGE__RATOI: storage.ratoi: unknown key; did you mean `ratio`?".to_owned(),
        format!("flag --storage-colour: storage.colour: unknown key; expected one of {one_of}"),
    ];
    for line in &expected {
        assert!(errors.contains(line), "{line} is not in {errors:#?}");
    }
    let in_file = [
        "sonde.toml:2:1: storage.workers: invalid value: integer `70000`, expected u16",
        "sonde.toml:3:3: storage.dta_dir: unknown key; did you mean `data_dir`?",
        "sonde.toml:4:1: storage.cap: `64` is no size: give a whole number with a unit, such as 64MiB, 1GB or 512B",
        "sonde.toml:7:1: storage.sqlite.page: invalid type: string \"big\", expected u32",
        "sonde.toml:8:1: storage.sqlite.paeg: unknown key; did you mean `page`?",
    ];
    for line in in_file {
        assert!(errors.iter().any(|error| error == line), "{line} is not in {errors:#?}");
    }
    assert_eq!(errors.len(), expected.len() + in_file.len(), "{errors:#?}");
    assert_eq!(ConfigError::EXIT_CODE, 4);
}

#[test]
fn broken_toml_is_reported_at_its_line_and_column() {
    let errors = Given::new().file("[storage]\nworkers = \ncap = = 1\n").errors();
    assert!(errors[0].starts_with("sonde.toml:2:"), "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("sonde.toml:3:")), "{errors:?}");
    let errors = Given::new().file("[storage]\nworkers = 1\nworkers = 2\n").errors();
    assert!(errors[0].starts_with("sonde.toml:3:1: "), "{errors:?}");
}

#[test]
fn wrong_items_variants_and_types_are_named() {
    for (text, line) in [
        (
            "tags = [\"a\", 7]",
            "sonde.toml:2:14: storage.tags.1: invalid type: integer `7`, expected a string",
        ),
        (
            "sync = \"ful\"",
            "sonde.toml:2:1: storage.sync: `ful` is none of full, every; did you mean `full`?",
        ),
        (
            "sync = { every = { rows = -1 } }",
            "sonde.toml:2:20: storage.sync.every.rows: invalid value: integer `-1`, expected u32",
        ),
        ("sqlite = 3", "sonde.toml:2:1: storage.sqlite: invalid type: integer `3`, expected struct Sqlite"),
        (
            "drain = 30",
            "sonde.toml:2:1: storage.drain: invalid type: integer `30`, expected a string with a unit, such as \"30s\" for a duration or \"64MiB\" for a size",
        ),
        (
            "listen = \"tcp://x\"",
            "sonde.toml:2:1: storage.listen: `tcp://x` is no endpoint: it has no known scheme; give http://127.0.0.1:7400, unix:/path/to.sock or inproc:name",
        ),
        ("more = { pgae = 1 }", "sonde.toml:2:10: storage.more.pgae: unknown key; did you mean `page`?"),
    ] {
        assert_eq!(Given::new().file(&format!("[storage]\n{text}\n")).errors(), [line]);
    }
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let mut given = Given::new();
    given.file = Some(given.dir.path().join("none.toml"));
    assert!(given.errors()[0].starts_with("none.toml:1:1: cannot be read: No such file"));
}

/// S7
#[test]
fn secrets_are_given_by_reference_and_never_shown() {
    let errors = Given::new().file("[storage]\ntoken = \"hunter2\"\n").errors();
    assert!(
        errors[0].starts_with("sonde.toml:2:1: storage.token: a secret is not written here"),
        "{errors:?}"
    );
    assert!(!errors[0].contains("hunter2"));
    let errors = Given::new().env("SONDE_STORAGE__TOKEN", "hunter2").errors();
    assert!(errors[0].starts_with("env SONDE_STORAGE__TOKEN: storage.token: a secret"), "{errors:?}");
    assert!(!errors[0].contains("hunter2"));

    let given = Given::new();
    let path = given.dir.path().join("token");
    std::fs::write(&path, "hunter2\n").unwrap();
    let given = given.file(&format!("[storage]\ntoken = {{ file = {path:?} }}\n"));
    let loaded = given.load().unwrap();
    let revealed = loaded.token.as_ref().unwrap().reveal().unwrap();
    assert_eq!(revealed.expose(), "hunter2");
    let shown = format!(
        "{revealed:?} {loaded:?} {} {:?}",
        print_config(&loaded).unwrap(),
        Secret::literal("hunter2")
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(Secret::env("SONDE_TEST_THAT_IS_NOT_SET").reveal().is_err());
    assert!(
        Secret::file("/nonexistent/token").reveal().unwrap_err().to_string().contains("/nonexistent/token")
    );
}

#[test]
fn what_is_printed_loads_to_the_same_value_and_says_where_it_came_from() {
    let given = Given::new()
        .file("[storage]\nworkers = 3\ntoken = { env = \"TOKEN\" }\nsync = { every = { rows = 7 } }\n[storage.sqlite]\nname = 'a \"b\"'\n")
        .env("SONDE_STORAGE__AGE", "90s")
        .flag("storage.cap", "1MiB");
    let loaded = given.load().unwrap();
    let printed = print_config(&loaded).unwrap();
    let file = given.file.as_ref().unwrap().display().to_string();
    for line in [
        "[storage]".to_owned(),
        "drain = \"30s\"  # default".to_owned(),
        format!("workers = 3  # {file}:2"),
        format!("token = {{ env = \"TOKEN\" }}  # {file}:3"),
        "age = \"90s\"  # env SONDE_STORAGE__AGE".to_owned(),
        "cap = \"1MiB\"  # flag --storage-cap".to_owned(),
        "[storage.sqlite]".to_owned(),
        "page = 4096  # default".to_owned(),
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
    let again = Given::new().file(&printed).load().unwrap();
    assert_eq!(again.value, loaded.value);
}

#[test]
fn a_caller_reports_its_own_problem_at_the_values_place() {
    let loaded = Given::new().file("[storage]\n\nworkers = 3\n").load().unwrap();
    let error = loaded.problem("workers", "is more than this machine has").to_string();
    assert!(error.ends_with("sonde.toml:3:1: storage.workers: is more than this machine has"), "{error}");
    let set = Override::parse_set("storage.workers=9").unwrap();
    assert_eq!(set, Override::new("--set storage.workers", "storage.workers", "9"));
    assert!(Override::parse_set("workers").is_err());
}
