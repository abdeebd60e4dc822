//! One browser, the fixture site, and what visits left.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, GetCommand, Instruments, Isolation, LoadPolicy, Outcome,
    SleepCommand,
};
use sonde_site::expect::sqlite::{ReadError, read_from};
use sonde_site::expect::{Expected, Rows, Table};
use sonde_site::{Page, Site, Truth, page};

use super::vectors::{self, Answers, Asked};
use super::{Findings, PAGE};
use crate::checker::CheckError;
use crate::session::{Slot, all_instruments};

/// Why a line could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("{page}: the visit ended {outcome}: {why}")]
    Visit { page: String, outcome: String, why: String },
    #[error("{0}")]
    Site(String),
    #[error("the stored rows cannot be read: {0}")]
    Rows(#[from] rusqlite::Error),
    #[error("the stored rows cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the stored blobs cannot be read: {0}")]
    Blobs(#[from] CheckError),
    #[error("{page} left no note {key}; its notes: {notes:?}")]
    NoNote { page: String, key: &'static str, notes: Vec<String> },
}

/// For answers that are on their way to a page that is done: 400 ms.
const TRAILING: prost_types::Duration = prost_types::Duration { seconds: 0, nanos: 400_000_000 };

/// A slot of a browser-service on which pages are visited.
pub struct Lab {
    pub site: Site,
    slot: Slot,
    kind: BrowserKind,
    data: PathBuf,
    visits: u32,
    asked: Option<Arc<Asked>>,
}

/// A visit that is over.
pub struct Visited {
    pub page: &'static Page,
    pub token: String,
    pub visit_id: i64,
    pub site: Site,
    pub result: AttemptResult,
    pub db: Connection,
    pub data: PathBuf,
}

impl Lab {
    /// `data`: the data directory of the storage that the slot's browser-service streams to.
    pub fn new(mut slot: Slot, kind: BrowserKind, site: Site, data: PathBuf) -> Self {
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
        Self { site, slot, kind, data, visits: 0, asked: None }
    }

    pub fn kind(&self) -> BrowserKind {
        self.kind
    }

    /// Every instrument, and every body.
    pub fn everything() -> Instruments {
        Instruments { save_content: vec!["all".to_owned()], dns: true, ..all_instruments() }
    }

    /// Visits a page until it says that it is done. `extra` is more of the query.
    pub async fn visit(
        &mut self,
        name: &str,
        extra: &str,
        instruments: Instruments,
    ) -> Result<Visited, LabError> {
        let page =
            page(name).ok_or_else(|| LabError::Site(format!("the fixture site has no page {name:?}")))?;
        self.visits += 1;
        let token = format!(
            "{}-{}-{name}",
            self.kind.as_str_name().to_ascii_lowercase().replace('_', "-"),
            self.visits
        );
        let url = page.url(&self.site, &token, extra);
        let get = Step::Get(GetCommand { load_policy: LoadPolicy::Commit.into(), ..GetCommand::default() });
        let visit_id = self.slot.begin_interactive(&url, instruments, vec![get]).await;
        let waited = match page.done {
            Some(document) => self.site.wait_done(&token, document, PAGE).await,
            None => Ok(()),
        };
        let trailing = Step::Sleep(SleepCommand { duration: Some(TRAILING) });
        let result = match self.slot.step(visit_id, trailing).await {
            Some(ended_early) => ended_early,
            None => self.slot.finish(visit_id).await,
        };
        let failed = |outcome: Outcome, why: String| LabError::Visit {
            page: name.to_owned(),
            outcome: outcome.as_str_name().to_owned(),
            why,
        };
        if result.outcome() != Outcome::Ok {
            let why = result.failure.as_ref().map(|f| f.message.clone()).unwrap_or_default();
            return Err(failed(result.outcome(), why));
        }
        waited.map_err(|error| failed(Outcome::Ok, error.to_string()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(self.data.join("crawl.sqlite"), flags)?;
        Ok(Visited { page, token, visit_id, site: self.site.clone(), result, db, data: self.data.clone() })
    }

    /// The same with every instrument.
    pub async fn watch(&mut self, name: &str, extra: &str) -> Result<Visited, LabError> {
        self.visit(name, extra, Self::everything()).await
    }

    /// The same, and what the engine itself can say of it: in a browser of its own.
    pub async fn audit(&mut self, name: &str) -> Result<Visited, LabError> {
        let feature_use_check = self.kind == BrowserKind::Chromium;
        let before = std::mem::replace(&mut self.slot.browser.isolation, Isolation::Process.into());
        let visited = self.visit(name, "", Instruments { feature_use_check, ..Self::everything() }).await;
        self.slot.browser.isolation = before;
        visited
    }

    /// The answers of the detection vectors: visits that more than one line judges are made once.
    pub(super) async fn vectors(&mut self) -> Result<Arc<Asked>, LabError> {
        if let Some(asked) = &self.asked {
            return Ok(asked.clone());
        }
        let vanilla = self.answers(Instruments::default()).await?;
        let again = self.answers(Instruments::default()).await?;
        let watched = self.answers(Self::everything()).await?;
        Ok(self.asked.insert(Arc::new(Asked { vanilla, again, watched })).clone())
    }

    async fn answers(&mut self, instruments: Instruments) -> Result<Answers, LabError> {
        let visited = self.visit("integrity-vectors", "", instruments).await?;
        Ok(vectors::answers(&visited.note("vectors")?))
    }

    /// `chromium wrapped`, and the product as the provenance of the last browser has it.
    pub fn browser(&self) -> (String, String) {
        let kind = match self.kind {
            BrowserKind::Firefox => "firefox",
            _ => "chromium",
        };
        let facts = self.provenance();
        let capture = facts["extension"]["javascript_capture"].as_str().unwrap_or("unwatched");
        (format!("{kind} {capture}"), facts["product"].as_str().unwrap_or_default().to_owned())
    }

    /// Facts of the browser that started last.
    pub fn provenance(&self) -> Value {
        serde_json::from_str(&self.slot.provenance).unwrap_or_default()
    }
}

impl Visited {
    pub fn truth(&self) -> Truth {
        self.site.truth(&self.token)
    }

    pub fn rows(&self) -> Result<Rows, LabError> {
        Ok(read_from(&self.db, &self.token)?.rows)
    }

    pub fn expected(&self) -> Expected {
        self.page.expected(&self.token, &self.site)
    }

    /// The value under a key of the JSON notes of the page.
    pub fn note(&self, key: &'static str) -> Result<Value, LabError> {
        let notes = self.truth().notes;
        let found = notes.iter().find_map(|note| {
            let value: Value = serde_json::from_str(note).ok()?;
            value.get(key).cloned()
        });
        found.ok_or_else(|| LabError::NoNote { page: self.page.name.to_owned(), key, notes })
    }

    /// A fault for each difference between the rows of these tables and what is due.
    pub fn score(&self, tables: &[Table], findings: &mut Findings) -> Result<(), LabError> {
        let (expected, rows) = (self.expected(), self.rows()?);
        for table in tables {
            let score = expected.score(*table, &rows);
            for (word, rows) in [("missing", &score.missing_rows), ("surplus", &score.surplus_rows)] {
                for row in rows.iter().take(5) {
                    findings.fault(format!(
                        "{}: {word} {}",
                        self.page.name,
                        row.chars().take(160).collect::<String>()
                    ));
                }
            }
        }
        Ok(())
    }

    /// First column of every row; `?1` is the visit's id.
    pub fn all<T: FromSql>(&self, sql: &str) -> Result<Vec<T>, LabError> {
        let mut statement = self.db.prepare(sql)?;
        let rows = statement.query_map([self.visit_id], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// First column of the first row; `?1` is the visit's id.
    pub fn one<T: FromSql>(&self, sql: &str) -> Result<T, LabError> {
        Ok(self.db.query_row(sql, [self.visit_id], |row| row.get(0))?)
    }
}
