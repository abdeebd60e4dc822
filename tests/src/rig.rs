//! Visits of commands on one browser at the fixture site, and what they leave in storage.

use rusqlite::Connection;
use serde_json::{Value, json};
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, Command, CommandStatus, Instruments, Outcome,
};
use sonde_site::{Hit, Site, SiteOptions, sha256_hex};

use crate::session::{Browsers, Slot};
use crate::world::World;

/// A browser, its services, and the fixture site.
pub struct Rig {
    pub kind: BrowserKind,
    pub world: World,
    pub site: Site,
    pub browsers: Browsers,
    pub slot: Slot,
    /// What visits record; nothing by default.
    pub instruments: Instruments,
}

impl Rig {
    pub async fn start(kind: BrowserKind) -> Self {
        let world = World::new();
        let site = Site::start(SiteOptions::default()).await.expect("the site starts");
        let browsers = Browsers::start(&world, 1).await;
        let mut slot = browsers.slot(0).await;
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
        Self { kind, world, site, browsers, slot, instruments: Instruments::default() }
    }

    /// The page of the fixture site that is interacted with.
    pub fn page(&self, token: &str) -> String {
        self.site.url(&self.site.hosts()[0], &format!("/p/interaction?v={token}"))
    }

    /// A visit of the page for interaction with more commands as proto JSON, of which each may fail without the others.
    pub async fn visit(&mut self, token: &str, commands: Value) -> AttemptResult {
        let mut all = vec![json!({"get": {}})];
        all.extend(commands.as_array().expect("a list").iter().cloned());
        let url = self.page(token);
        self.visit_at(&url, all.into()).await
    }

    /// A visit of exactly these commands, of which each may fail without the others.
    ///
    /// # Panics
    /// When they are refused, or the visit is not sealed as complete.
    pub async fn visit_at(&mut self, url: &str, commands: Value) -> AttemptResult {
        self.sequence_at(url, one_by_one(commands)).await
    }

    /// A visit of exactly these commands.
    ///
    /// # Panics
    /// When they are refused, or the visit is not sealed as complete.
    pub async fn sequence_at(&mut self, url: &str, commands: Value) -> AttemptResult {
        let commands = parsed(commands);
        let mut errors = sonde_proto::FieldErrors::default();
        sonde_proto::validate_commands(&commands, "commands", true, &mut errors);
        assert_eq!(errors.to_string(), "");
        self.run(url, commands).await
    }

    async fn run(&mut self, url: &str, commands: Vec<Command>) -> AttemptResult {
        self.slot.begin_commands(url, self.instruments.clone(), commands).await;
        let result = self.slot.ended().await;
        assert!(result.seal.as_ref().is_some_and(|s| s.complete), "{:?}: {result:#?}", self.kind);
        result
    }

    /// As [`Self::visit`], where all commands end ok; the value of the last.
    pub async fn value(&mut self, token: &str, commands: Value) -> Value {
        let result = self.visit(token, commands).await;
        self.assert_ok(&result);
        let last = result.commands.last().expect("there are commands");
        let stored = self.history(result.visit_id, last.index, "value_json");
        assert_eq!(stored.unwrap_or_default(), last.value_json, "{:?}", self.kind);
        serde_json::from_str(&last.value_json).unwrap_or(Value::Null)
    }

    /// Fails unless every command ended ok.
    #[track_caller]
    pub fn assert_ok(&self, result: &AttemptResult) {
        for command in &result.commands {
            let fine = command.status() == CommandStatus::Ok;
            let why = || self.history(result.visit_id, command.index, "traceback");
            assert!(fine, "{:?}: {:?} {command:#?}", self.kind, why());
        }
        assert_eq!(result.outcome(), Outcome::Ok, "{:?}: {result:#?}", self.kind);
    }

    /// What is stored now.
    pub fn db(&self) -> Connection {
        Connection::open(self.world.data().join("crawl.sqlite")).expect("storage has a database")
    }

    /// A column of a command's row.
    pub fn history(&self, visit_id: i64, command: u32, column: &str) -> Option<String> {
        let sql = format!("SELECT {column} FROM crawl_history WHERE visit_id = ?1 AND command_index = ?2");
        let found = self.db().query_row(&sql, rusqlite::params![visit_id, command], |row| row.get(0));
        found.expect("a command has its row")
    }

    /// What a result's command made: the only artifact of its row, with its bytes read back from storage.
    ///
    /// # Panics
    /// When row, result and blob are not of one another.
    pub fn artifact(&self, result: &AttemptResult, command: usize) -> (Artifact, Vec<u8>) {
        let [made] = result.commands[command].artifacts.as_slice() else {
            panic!("{:?}: {:#?}", self.kind, result.commands[command])
        };
        let sql = "SELECT kind, name, media_type, content_hash, bytes, url FROM artifacts
                   WHERE visit_id = ?1 AND command_index = ?2";
        let row = self.db().query_row(
            sql,
            rusqlite::params![result.visit_id, result.commands[command].index],
            |row| {
                let (hash, bytes): (String, i64) = (row.get(3)?, row.get(4)?);
                let artifact = Artifact {
                    kind: row.get(0)?,
                    name: row.get(1)?,
                    media_type: row.get(2)?,
                    url: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
                };
                Ok((artifact, hash, bytes))
            },
        );
        let (artifact, hash, bytes) = row.expect("an artifact has its row");
        assert_eq!((hash.as_str(), bytes), (made.sha256.as_str(), made.bytes), "{:?}", self.kind);
        assert_eq!(artifact.name, made.name, "{:?}", self.kind);
        let path = self.world.data().join("blobs").join(&hash[..2]).join(&hash[2..4]).join(&hash);
        let content = std::fs::read(&path).expect("the blob is there");
        assert_eq!(sha256_hex(&content), hash, "{:?}", self.kind);
        assert_eq!(content.len() as i64, bytes, "{:?}", self.kind);
        // Of several of one name the last has it.
        let later = result.commands.iter().skip(command + 1).flat_map(|c| &c.artifacts);
        let last = later.filter(|a| a.name == artifact.name).count() == 0;
        if let Some(directory) = directory(&artifact.kind).filter(|_| last) {
            let named = self.world.data().join(directory).join(&artifact.name);
            assert!(std::fs::read(&named).expect("it has its name") == content, "{:?}: {named:?}", self.kind);
        }
        (artifact, content)
    }

    /// Requests of a visit for a path, as the site got them.
    pub fn hits(&self, token: &str, path: &str) -> Vec<Hit> {
        self.site.hits_for(token).into_iter().filter(|hit| hit.path_only() == path).collect()
    }

    /// SIGTERM; nothing is left.
    pub async fn stop(self) {
        let Self { world, browsers, slot, .. } = self;
        drop(slot);
        browsers.stop(&world).await;
    }
}

/// Where artifacts of a kind are files under their names.
fn directory(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "screenshot" => "screenshots",
        "page_source" | "frame_sources" => "sources",
        "video" => "videos",
        "download" => "downloads",
        _ => return None,
    })
}

/// Commands of which each may fail without the others.
fn one_by_one(mut commands: Value) -> Value {
    for command in commands.as_array_mut().expect("a list") {
        command["continue_on_error"] = json!(true);
    }
    commands
}

/// Commands as proto JSON.
fn parsed(commands: Value) -> Vec<Command> {
    let all = commands.as_array().expect("a list").iter().map(|command| {
        let read = sonde_proto::from_json::<Command>("sonde.visit.v1.Command", command);
        read.unwrap_or_else(|wrong| panic!("{wrong}: {command}"))
    });
    all.collect()
}

/// A row of `artifacts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub kind: String,
    pub name: String,
    pub media_type: String,
    pub url: String,
}
