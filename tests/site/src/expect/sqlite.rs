//! Reads the rows of a visit from a record store's SQLite file, by OpenWPM's table and column names.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use super::{
    Body, Calls, Cookie, Failure, FailureClass, Frame, Navigation, Observed, Redirect, Request, Response,
};
use crate::observe::query_value;

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {table} of the record store: {source}")]
    Query { table: &'static str, source: rusqlite::Error },
    #[error("no row of site_visits has a site_url with v={token}; was the page visited under this token?")]
    NoVisit { token: String },
}

/// Rows read, and where they came from.
#[derive(Clone, Debug)]
pub struct Read {
    pub rows: Observed,
    /// The visits (attempts) whose `site_url` carries the token; their rows are joined.
    pub visit_ids: Vec<i64>,
    /// Tables that the file does not have; their rows are empty.
    pub missing_tables: Vec<&'static str>,
}

/// Reads all visits of a token from a file, without writing to it.
pub fn read(path: &Path, token: &str) -> Result<Read, ReadError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)
        .map_err(|source| ReadError::Query { table: "the database file", source })?;
    read_from(&db, token)
}

/// Reads all visits of a token from an open database.
pub fn read_from(db: &Connection, token: &str) -> Result<Read, ReadError> {
    let visits = query(db, "site_visits", "SELECT visit_id, site_url FROM site_visits", &[], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    let carries = |url: &str| url.split_once('?').and_then(|(_, query)| query_value(query, "v"));
    let visit_ids: Vec<i64> = visits
        .into_iter()
        .filter(|(_, url)| carries(url).as_deref() == Some(token))
        .map(|(id, _)| id)
        .collect();
    if visit_ids.is_empty() {
        return Err(ReadError::NoVisit { token: token.to_owned() });
    }
    let mut reader = Reader { db, visit_ids, missing_tables: Vec::new() };
    let rows = reader.rows()?;
    Ok(Read { rows, visit_ids: reader.visit_ids, missing_tables: reader.missing_tables })
}

/// Of the browsers of some visits: field group -> observed, unsupported or off; of several states the first that is
/// not observed.
pub fn capabilities(path: &Path, visit_ids: &[i64]) -> Result<BTreeMap<String, String>, ReadError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)
        .map_err(|source| ReadError::Query { table: "the database file", source })?;
    let marks = vec!["?"; visit_ids.len()].join(",");
    let sql = format!(
        "SELECT field_group, state FROM capabilities JOIN site_visits USING (crawl_id, browser_id) \
         WHERE visit_id IN ({marks}) ORDER BY state = 'observed' DESC"
    );
    let rows = query(&db, "capabilities", &sql, visit_ids, |row| Ok((text(row, 0)?, text(row, 1)?)))?;
    Ok(rows.into_iter().collect())
}

/// What the engine saw used in some visits and no row tells of, and visits in which that was not compared.
pub fn unseen(path: &Path, visit_ids: &[i64]) -> Result<Vec<String>, ReadError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)
        .map_err(|source| ReadError::Query { table: "the database file", source })?;
    let marks = vec!["?"; visit_ids.len()].join(",");
    let sql = format!(
        "SELECT reason, subject FROM truncations WHERE visit_id IN ({marks}) \
         AND reason IN ('bypass_possible', 'feature_use_unchecked')"
    );
    query(&db, "truncations", &sql, visit_ids, |row| Ok(format!("{} {}", text(row, 0)?, text(row, 1)?)))
}

struct Reader<'a> {
    db: &'a Connection,
    visit_ids: Vec<i64>,
    missing_tables: Vec<&'static str>,
}

fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<String> {
    Ok(row.get::<_, Option<String>>(at)?.unwrap_or_default())
}

fn status(row: &Row<'_>, at: usize) -> rusqlite::Result<u16> {
    Ok(row.get::<_, Option<u16>>(at)?.unwrap_or_default())
}

/// Such URLs never leave the browser, so that the site knows nothing of them.
const NETWORK: &str = "AND url NOT LIKE 'blob:%' AND url NOT LIKE 'data:%'";

/// Our words for the kinds of `navigations`.
fn kind_of(kind: &str, url: &str) -> String {
    match kind {
        "committed" if url == "about:srcdoc" => "srcdoc",
        // Some browsers tell the fragment of an initial document apart.
        "committed" | "history_state" | "fragment" if url.starts_with("about:blank") => "blank",
        "committed" => "document",
        "history_state" => "history",
        other => other,
    }
    .to_owned()
}

impl Reader<'_> {
    fn rows(&mut self) -> Result<Observed, ReadError> {
        let failures = self.table(
            "http_failures",
            "url, error, visit_id, request_id, canceled AND NOT after_response",
            "",
            |row| {
                let failure = Failure { url: text(row, 0)?, class: FailureClass::of(&text(row, 1)?) };
                Ok((failure, (row.get(2)?, row.get(3)?), row.get::<_, bool>(4)?))
            },
        )?;
        let given_up: HashSet<(i64, i64)> =
            failures.iter().filter(|(_, _, given_up)| *given_up).map(|(_, id, _)| *id).collect();
        Ok(Observed {
            http_requests: self.table(
                "http_requests",
                "method, url, visit_id, request_id",
                NETWORK,
                |row| {
                    let given_up = given_up.contains(&(row.get(2)?, row.get(3)?));
                    Ok(Request { method: text(row, 0)?, url: text(row, 1)?, given_up })
                },
            )?,
            http_responses: self.table("http_responses", "url, response_status", NETWORK, |row| {
                Ok(Response { url: text(row, 0)?, status: status(row, 1)? })
            })?,
            // A row without a status of 3xx is a switch of scheme inside the browser, not a redirect of the site.
            http_redirects: self.table(
                "http_redirects",
                "old_request_url, new_request_url, response_status",
                "AND response_status BETWEEN 300 AND 399",
                |row| Ok(Redirect { old: text(row, 0)?, new: text(row, 1)?, status: status(row, 2)? }),
            )?,
            http_failures: failures.into_iter().map(|(failure, ..)| failure).collect(),
            javascript: self.table(
                "javascript",
                "symbol, operation, count(*)",
                "GROUP BY symbol, operation",
                |row| Ok(Calls { symbols: vec![text(row, 0)?], operation: text(row, 1)?, count: row.get::<_, i64>(2)?.unsigned_abs(), in_worker: false }),
            )?,
            navigations: self.table("navigations", "url, kind", "", |row| {
                let url = text(row, 0)?;
                let kind = row.get::<_, Option<String>>(1)?.map(|kind| kind_of(&kind, &url));
                Ok(Navigation { url, kind })
            })?,
            // A browser reports an overwrite as the end of the old value and a new one: only the second is a change.
            // What the jar did (Firefox tells) is there beside the headers and writes that had it do so.
            javascript_cookies: self.table(
                "javascript_cookies",
                "name, host, record_type",
                "AND record_type <> 'manual-export' AND source <> 'jar' AND NOT (record_type = 'deleted' AND change_cause = 'overwrite')",
                |row| {
                    let deleted = text(row, 2)? == "deleted";
                    Ok(Cookie { name: text(row, 0)?, host: text(row, 1)?, deleted, how: None })
                },
            )?,
            // What a service worker answers is not of the site.
            bodies: self.table(
                "http_responses",
                "url, content_hash",
                "AND url LIKE 'http%' AND response_status = 200 AND body_bytes > 0 AND content_hash IS NOT NULL AND NOT from_service_worker",
                |row| Ok(Body { url: text(row, 0)?, sha256: text(row, 1)? }),
            )?,
            websocket_frames: self.table("websocket_frames", "url, direction, payload", "", |row| {
                Ok(Frame { url: text(row, 0)?, direction: text(row, 1)?, payload: text(row, 2)? })
            })?,
        })
    }

    fn table<T>(
        &mut self,
        table: &'static str,
        columns: &str,
        tail: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, ReadError> {
        let exists = "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?1";
        let there = self.db.prepare(exists).and_then(|mut statement| statement.exists([table]));
        if !there.map_err(|source| ReadError::Query { table, source })? {
            self.missing_tables.push(table);
            return Ok(Vec::new());
        }
        let marks = vec!["?"; self.visit_ids.len()].join(",");
        let sql = format!("SELECT {columns} FROM {table} WHERE visit_id IN ({marks}) {tail}");
        query(self.db, table, &sql, &self.visit_ids, read)
    }
}

fn query<T>(
    db: &Connection,
    table: &'static str,
    sql: &str,
    ids: &[i64],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, ReadError> {
    let run = || -> rusqlite::Result<Vec<T>> {
        let mut statement = db.prepare(sql)?;
        statement.query_map(params_from_iter(ids), read)?.collect()
    };
    run().map_err(|source| ReadError::Query { table, source })
}
