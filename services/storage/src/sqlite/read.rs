//! Reading `crawl.sqlite`: what is known of a visit, and counts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use sonde_proto::schema::{TABLES, Table};
use sonde_proto::visit::v1::SealSummary;

use super::{connection, schema};
use crate::error::StoreError;

/// What `crawl.sqlite` says of an attempt and its visit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Highest fence of the visit's attempts.
    pub highest_fence: Option<i64>,
    /// The attempt's own row: crawl, visit, fence.
    pub attempt: Option<(String, i64, i64)>,
    /// Whether the attempt is sealed.
    pub sealed: bool,
}

const POOL: usize = 4;

/// Read-only connections, made when needed; a few are kept.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::new(Vec::new()) }
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let lock = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connection::reader(&self.path)?,
        };
        let result = work(&connection);
        let mut idle = lock();
        if idle.len() < POOL {
            idle.push(connection);
        }
        result
    }

    pub fn known(&self, visit_id: i64, crawl_id: &str, visit_no: i64) -> Result<Known, StoreError> {
        self.with(|c| {
            let highest_fence = c
                .prepare_cached("SELECT max(fence) FROM site_visits WHERE crawl_id = ?1 AND visit_no = ?2")?
                .query_row((crawl_id, visit_no), |row| row.get(0))?;
            let attempt = c
                .prepare_cached("SELECT crawl_id, visit_no, fence FROM site_visits WHERE visit_id = ?1")?
                .query_row([visit_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            Ok(Known { highest_fence, attempt, sealed: seal_of(c, visit_id)?.is_some() })
        })
    }

    /// The seal of an attempt, and its fence.
    pub fn seal(&self, visit_id: i64) -> Result<Option<(SealSummary, i64)>, StoreError> {
        self.with(|c| seal_of(c, visit_id))
    }

    /// Rows per table; of one crawl unless that is "", of one attempt unless that is 0.
    pub fn counts(&self, crawl_id: &str, visit_id: i64) -> Result<HashMap<String, u64>, StoreError> {
        self.with(|c| {
            // One read transaction: all tables as of one moment.
            let transaction = c.unchecked_transaction()?;
            let mut counts = HashMap::new();
            for table in TABLES {
                let sql = count_sql(table, !crawl_id.is_empty(), visit_id != 0);
                let mut statement = transaction.prepare_cached(&sql)?;
                let rows: i64 = statement
                    .query_row(rusqlite::named_params! { ":crawl": crawl_id, ":visit": visit_id }, |row| {
                        row.get(0)
                    })?;
                counts.insert(table.name.to_owned(), rows.unsigned_abs());
            }
            Ok(counts)
        })
    }
}

/// The first seal stands: what a second call is answered with.
pub(super) fn seal_of(
    connection: &Connection,
    visit_id: i64,
) -> Result<Option<(SealSummary, i64)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT s.complete, s.row_counts, s.fence, i.reason FROM visit_seals s
         LEFT JOIN incomplete_visits i ON i.visit_id = s.visit_id WHERE s.visit_id = ?1",
    )?;
    let found = statement
        .query_row([visit_id], |row| {
            Ok((
                row.get::<_, bool>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, Option<String>>(3)?,
            ))
        })
        .optional()?;
    let Some((complete, counts, fence, reason)) = found else { return Ok(None) };
    let rows = serde_json::from_str(&counts)
        .map_err(|e| StoreError::Broken(format!("visit_seals.row_counts of {visit_id}: {e}")))?;
    let reason = if complete { String::new() } else { reason.unwrap_or_default() };
    Ok(Some((SealSummary { complete, reason, rows }, fence)))
}

/// Both parameters are always named, so that one binding fits all tables.
fn count_sql(table: &Table, crawl: bool, visit: bool) -> String {
    let has = |name: &str| table.columns().iter().any(|c| c.name == name);
    let of_visits = |what: &str, filter: &str| {
        format!("\"{what}\" IN (SELECT \"{what}\" FROM site_visits WHERE {filter})")
    };
    let matching = |filter: &str, column: &str| match table.name {
        _ if has(column) => filter.to_owned(),
        "task" => {
            format!("task_id IN (SELECT task_id FROM crawl WHERE {})", of_visits("browser_id", filter))
        }
        _ if has("visit_id") => of_visits("visit_id", filter),
        _ if has("browser_id") => of_visits("browser_id", filter),
        // A crawl's own rows belong to no single attempt.
        _ => "0".to_owned(),
    };
    let mut conditions = vec!["(:crawl IS NOT NULL AND :visit IS NOT NULL)".to_owned()];
    if crawl {
        conditions.push(matching("crawl_id = :crawl", "crawl_id"));
    }
    if visit {
        conditions.push(matching("visit_id = :visit", "visit_id"));
    }
    format!("SELECT count(*) FROM {} WHERE {}", schema::quoted(table.name), conditions.join(" AND "))
}
