//! An independent judge of a data directory: it reads the stored data and, where there is one, the log of the site that
//! was visited, and believes nothing else. It shares no code with the services.

mod blobs;
mod network;
mod order;
mod outcomes;
mod seals;
mod visits;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

pub use blobs::{read_blob, stored_blobs};
pub use network::{LoggedRequest, read_log};

/// What to check, and what the caller knows.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// Visits submitted over all crawls of the directory; `None` when unknown.
    pub visits: Option<u64>,
    /// Whether every visit must have ended with outcome `ok`.
    pub all_ok: bool,
    /// Whether crawls may still have visits without an outcome (an interrupted crawl).
    pub unfinished: bool,
    /// Rows that belong to no visit which are accepted, beside answers to requests that a visit records as unfinished;
    /// `None`: any number.
    pub most_unattributed: Option<u64>,
    /// Every request that reached the visited sites.
    pub log: Option<Vec<LoggedRequest>>,
}

impl Expectation {
    /// A crawl that is over and went well: `visits` times ok, no row without a visit.
    pub fn all_ok(visits: u64) -> Self {
        Self { visits: Some(visits), all_ok: true, most_unattributed: Some(0), ..Self::default() }
    }

    /// The same with the log of the site.
    pub fn with_log(mut self, log: Vec<LoggedRequest>) -> Self {
        self.log = Some(log);
        self
    }
}

/// Something that must never be in stored data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Id of the requirement, as `R3`.
    pub rule: &'static str,
    /// What is wrong and where.
    pub what: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub violations: Vec<Violation>,
    /// Figures for people, as `rows.http_requests`.
    pub facts: BTreeMap<String, u64>,
}

impl Report {
    fn add(&mut self, rule: &'static str, what: impl Into<String>) {
        self.violations.push(Violation { rule, what: what.into() });
    }

    fn fact(&mut self, name: impl Into<String>, value: u64) {
        self.facts.insert(name.into(), value);
    }

    /// Whether a rule was violated.
    pub fn violates(&self, rule: &str) -> bool {
        self.violations.iter().any(|v| v.rule == rule)
    }

    /// The figure of that name, 0 when there is none.
    pub fn figure(&self, name: &str) -> u64 {
        self.facts.get(name).copied().unwrap_or(0)
    }

    /// Fails with everything found.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "the stored data are not sound\n{self}");
    }
}

/// Violations of one rule that are printed; the rest is counted.
const SHOWN: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_rule: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for violation in &self.violations {
            by_rule.entry(violation.rule).or_default().push(&violation.what);
        }
        for (rule, all) in by_rule {
            for what in all.iter().take(SHOWN) {
                writeln!(f, "{rule}: {what}")?;
            }
            if all.len() > SHOWN {
                writeln!(f, "{rule}: and {} more", all.len() - SHOWN)?;
            }
        }
        for (name, value) in &self.facts {
            writeln!(f, "{name} = {value}")?;
        }
        Ok(())
    }
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("cannot open {path}: {source}; is it the data directory of a crawl?")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("cannot read the stored data ({what}): {source}")]
    Query { what: &'static str, source: rusqlite::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("line {line} of the access log {path} is none: {reason}")]
    Log { path: PathBuf, line: usize, reason: String },
}

/// Checks a data directory: its `crawl.sqlite` and `blobs`.
pub fn check(data_dir: &Path, expectation: &Expectation) -> Result<Report, CheckError> {
    let path = data_dir.join("crawl.sqlite");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&path, flags)
        .and_then(|db| db.pragma_update(None, "temp_store", "MEMORY").map(|()| db))
        .map_err(|source| CheckError::Open { path, source })?;
    check_open(&db, &data_dir.join("blobs"), expectation)
}

/// Checks an open database, which is not written to but for temporary tables.
pub fn check_open(db: &Connection, blobs: &Path, expectation: &Expectation) -> Result<Report, CheckError> {
    let mut report = Report::default();
    order::gather(db, &mut report)?;
    outcomes::check(db, expectation, &mut report)?;
    order::check(db, &mut report)?;
    seals::check(db, expectation, &mut report)?;
    visits::check(db, expectation, &mut report)?;
    blobs::check(db, blobs, &mut report)?;
    if let Some(log) = &expectation.log {
        network::check(db, log, &mut report)?;
    }
    Ok(report)
}

/// Runs a query and hands each row to `each`.
fn rows(
    db: &Connection,
    what: &'static str,
    sql: &str,
    mut each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<()>,
) -> Result<(), CheckError> {
    let mut run = || -> rusqlite::Result<()> {
        let mut statement = db.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row)?;
        }
        Ok(())
    };
    run().map_err(|source| CheckError::Query { what, source })
}

/// One number.
fn number(db: &Connection, what: &'static str, sql: &str) -> Result<i64, CheckError> {
    db.query_row(sql, [], |row| row.get(0)).map_err(|source| CheckError::Query { what, source })
}

#[cfg(test)]
mod tests;
