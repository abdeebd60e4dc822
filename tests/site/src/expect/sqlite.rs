//! Reads the rows of a visit from a record store's SQLite file, by OpenWPM's table and column names.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use super::code::FETCHED;
use super::{
    Body, Calls, Cookie, Failure, FailureClass, Form, Frame, Message, Name, Navigation, Observed, Redirect,
    Request, Response, Script, Stack, Upload,
};
use crate::log::sha256_hex;
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

/// The ways of scripts that came by a request of their own.
const BY_REQUEST: [&str; 5] = ["external", "import", "worker", "import_scripts", "worklet"];

/// A column of JSON.
fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text = text(row, at)?;
    serde_json::from_str(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(e)))
}

fn headers(row: &Row<'_>, at: usize) -> rusqlite::Result<Vec<(String, String)>> {
    json(row, at)
}

/// Method, URL, parts, length: the parts joined.
fn upload(row: &Row<'_>) -> rusqlite::Result<Upload> {
    let parts: Vec<(Option<String>, String)> = json(row, 2)?;
    let decode = |(_, part): (Option<String>, String)| BASE64.decode(part);
    let parts: Result<Vec<Vec<u8>>, _> = parts.into_iter().map(decode).collect();
    let body = parts
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(e)))?
        .concat();
    let bytes = row.get::<_, Option<i64>>(3)?.unwrap_or_default().unsigned_abs();
    Ok(Upload { method: text(row, 0)?, url: text(row, 1)?, bytes, sha256: sha256_hex(&body) })
}

/// Name, URL, address used, addresses, error. An address that is none of those of the name is said.
fn name(row: &Row<'_>) -> rusqlite::Result<Name> {
    let (host, url, used) = (text(row, 0)?, text(row, 1)?, row.get::<_, Option<String>>(2)?);
    let known: Option<String> = row.get(3)?;
    let failed = row.get::<_, Option<String>>(4)?.is_some();
    let among = |used: &String| known.as_ref().is_none_or(|known| known.split(',').any(|one| one == used));
    let address = used.map(|used| match (failed, among(&used)) {
        (false, true) => used,
        (true, _) => format!("{used} with an error"),
        (_, false) => format!("{used}, of {}", known.as_deref().unwrap_or_default()),
    });
    Ok(Name { host, url, address })
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

/// The rows of requests that were sent: not answered by a service worker, nor out of a cache that did not ask the site.
const SENT: &str = "AND NOT EXISTS (SELECT 1 FROM http_responses AS answer \
    WHERE answer.visit_id = http_requests.visit_id AND answer.request_id = http_requests.request_id \
    AND answer.hop_index = http_requests.hop_index \
    AND (answer.is_cached AND NOT answer.headers_final OR answer.from_service_worker))";

impl Reader<'_> {
    fn rows(&mut self) -> Result<Observed, ReadError> {
        // Given up by the page, with it, or at the visit's end: the site may have seen it or not.
        let failures = self.table(
            "http_failures",
            "url, error, visit_id, request_id, \
             (canceled OR error IN ('target_gone', 'unfinished')) AND NOT after_response",
            "",
            |row| {
                let failure = Failure { url: text(row, 0)?, class: FailureClass::of(&text(row, 1)?) };
                Ok((failure, (row.get(2)?, row.get(3)?), row.get::<_, bool>(4)?))
            },
        )?;
        let given_up: HashSet<(i64, i64)> =
            failures.iter().filter(|(_, _, given_up)| *given_up).map(|(_, id, _)| *id).collect();
        let of_request = |row: &Row<'_>, first| -> rusqlite::Result<bool> {
            Ok(given_up.contains(&(row.get(first)?, row.get(first + 1)?)))
        };
        Ok(Observed {
            http_requests: self.table(
                "http_requests",
                "method, url, visit_id, request_id",
                NETWORK,
                |row| {
                    let given_up = of_request(row, 2)?;
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
            dns_responses: self.table(
                "dns_responses",
                "hostname, redirect_url, used_address, addresses, error",
                "",
                name,
            )?,
            scripts: self.table("scripts", "how, url, content_hash", "", |row| {
                let (how, url) = (text(row, 0)?, text(row, 1)?);
                let fetched = BY_REQUEST.contains(&how.as_str()) && url.starts_with("http");
                let (how, url) = if fetched { (FETCHED.to_owned(), Some(url)) } else { (how, None) };
                Ok(Script { how, url, sha256: text(row, 2)? })
            })?,
            callstacks: self.table(
                "callstacks",
                "(SELECT url FROM http_requests AS r WHERE r.visit_id = callstacks.visit_id \
                  AND r.request_id = callstacks.request_id ORDER BY hop_index LIMIT 1), call_stack",
                "",
                |row| {
                    let stack = text(row, 1)?;
                    let innermost = stack.lines().next().unwrap_or_default();
                    let frames = innermost.trim_end_matches(';').to_owned();
                    Ok(Stack { of: text(row, 0)?, frames })
                },
            )?,
            request_headers: self.table(
                "http_requests",
                "method, url, headers, visit_id, request_id, headers_final",
                &format!("{NETWORK} {SENT}"),
                |row| {
                    let of = format!("{} {}", text(row, 0)?, text(row, 1)?);
                    let (headers, on_the_wire) = (headers(row, 2)?, row.get(5)?);
                    Ok(Message { of, headers, on_the_wire, given_up: of_request(row, 3)? })
                },
            )?,
            response_headers: self.response_headers()?,
            post_bodies: self.table(
                "http_requests",
                "method, url, post_body_raw, post_body_bytes",
                "AND post_body_raw IS NOT NULL AND post_body_bytes > 0",
                upload,
            )?,
            post_forms: self.table("http_requests", "url, post_body", "AND post_body IS NOT NULL", |row| {
                Ok(Form { url: text(row, 0)?, fields: json(row, 1)? })
            })?,
            call_sites: self.call_sites()?,
        })
    }

    fn response_headers(&mut self) -> Result<Vec<Message>, ReadError> {
        let read = |row: &Row<'_>| {
            let of = format!("{} {}", status(row, 0)?, text(row, 1)?);
            Ok(Message { of, headers: headers(row, 2)?, on_the_wire: row.get(3)?, given_up: false })
        };
        let wire = format!("{NETWORK} AND NOT from_service_worker AND (headers_final OR NOT is_cached)");
        let columns = "response_status, url, headers, headers_final";
        let mut all = self.table("http_responses", columns, &wire, read)?;
        let hops = "response_status, old_request_url, headers, headers_final";
        let hops_of_site =
            "AND response_status BETWEEN 300 AND 399 AND (headers_final OR response_status <> 307)";
        all.extend(self.table("http_redirects", hops, hops_of_site, read)?);
        Ok(all)
    }

    /// Two rows a call: its site, and its stack.
    fn call_sites(&mut self) -> Result<Vec<Stack>, ReadError> {
        let columns = "symbol, func_name, script_url, script_line, script_col, script_loc_eval, call_stack";
        let calls = self.table("javascript", columns, "AND call_stack IS NOT NULL", |row| {
            let of = text(row, 0)?;
            let site = format!("{}@{}:{}:{}", text(row, 1)?, text(row, 2)?, text(row, 3)?, text(row, 4)?);
            let in_eval = row.get::<_, Option<String>>(5)?.is_some();
            let stack: Vec<String> = text(row, 6)?.lines().map(str::to_owned).collect();
            let stack = Stack { of: of.clone(), frames: stack.join(" < ") };
            Ok([(!in_eval).then_some(Stack { of, frames: site }), Some(stack)])
        })?;
        Ok(calls.into_iter().flatten().flatten().collect())
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
