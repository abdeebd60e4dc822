//! R5: rows belong to their own visit. What a page's URL says of its visit is compared with the visit it is stored under.

use std::collections::HashMap;

use rusqlite::Connection;

use super::{CheckError, Expectation, Report, rows};

/// Columns whose URLs say which visit they come from.
const URLS: [(&str, &str); 6] = [
    ("http_requests", "url"),
    ("http_requests", "top_level_url"),
    ("http_responses", "url"),
    ("javascript", "document_url"),
    ("javascript", "top_level_url"),
    ("navigations", "url"),
];

pub(super) fn check(
    db: &Connection,
    expectation: &Expectation,
    report: &mut Report,
) -> Result<(), CheckError> {
    stamps(db, report)?;
    readiness(db, report)?;
    let mut owners = HashMap::new();
    rows(db, "visits", "SELECT visit_id, site_url FROM site_visits", |row| {
        if let Some(owner) = Owner::of(&row.get::<_, String>(1)?) {
            owners.insert(row.get::<_, i64>(0)?, owner);
        }
        Ok(())
    })?;
    for (table, column) in URLS {
        let sql =
            format!("SELECT visit_id, {column} FROM {table} WHERE visit_id > 0 AND {column} IS NOT NULL");
        rows(db, "URLs of rows", &sql, |row| {
            let (visit, url): (i64, String) = (row.get(0)?, row.get(1)?);
            if let Some(owner) = owners.get(&visit)
                && let Some(why) = owner.disowns(&url)
            {
                report.add("R5", format!("attempt {visit}: {table}.{column} is {url}: {why}"));
            }
            Ok(())
        })?;
    }
    if !expectation.unfinished {
        fences(db, report)?;
    }
    Ok(())
}

fn stamps(db: &Connection, report: &mut Report) -> Result<(), CheckError> {
    rows(
        db,
        "rows of unknown visits",
        "SELECT visit_id, count(*), group_concat(DISTINCT tbl) FROM placed WHERE visit_id > 0 AND visit_id NOT IN \
         (SELECT visit_id FROM site_visits) GROUP BY 1",
        |row| {
            let (visit, count, tables): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            report.add(
                "R5",
                format!("{count} rows ({tables}) belong to attempt {visit}, which site_visits does not have"),
            );
            Ok(())
        },
    )?;
    rows(
        db,
        "stamps that differ from the visit's",
        "SELECT p.visit_id, p.tbl, count(*) FROM placed p JOIN site_visits s ON s.visit_id = p.visit_id \
         WHERE p.browser_id <> s.browser_id OR p.attempt <> s.attempt GROUP BY 1, 2",
        |row| {
            let (visit, table, count): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            report.add(
                "R5",
                format!("{count} rows of {table} name another browser or attempt than attempt {visit} had"),
            );
            Ok(())
        },
    )?;
    // Session ids of the extension are unique, and a session belongs to one browser.
    rows(
        db,
        "sessions of several browsers",
        "SELECT session, count(DISTINCT browser_id) FROM placed WHERE session IS NOT NULL AND visit_id > 0 \
         GROUP BY 1 HAVING count(DISTINCT browser_id) > 1",
        |row| {
            let (session, browsers): (String, i64) = (row.get(0)?, row.get(1)?);
            report.add("R5", format!("extension session {session} has rows of {browsers} browsers"));
            Ok(())
        },
    )
}

fn readiness(db: &Connection, report: &mut Report) -> Result<(), CheckError> {
    rows(
        db,
        "times of seals",
        "SELECT l.visit_id, l.instruments_ready_at, l.navigation_start_at, \
         EXISTS (SELECT 1 FROM placed p WHERE p.visit_id = l.visit_id AND p.producer = 'extension') FROM visit_seals l",
        |row| {
            let (visit, ready, started, extension): (i64, Option<i64>, Option<i64>, bool) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            match (ready, started) {
                (Some(ready), Some(started)) if ready >= started => {
                    report.add("R5", format!("attempt {visit} navigated at {started}, its instruments were ready at {ready}"));
                }
                (None, Some(_)) if extension => report.add(
                    "R5",
                    format!("attempt {visit} navigated and has rows of the extension, which never said it was ready"),
                ),
                _ => {}
            }
            Ok(())
        },
    )
}

/// R6: a visit's fences grow with its attempts.
fn fences(db: &Connection, report: &mut Report) -> Result<(), CheckError> {
    rows(
        db,
        "fences",
        "SELECT a.crawl_id, a.visit_no, a.attempt, b.attempt FROM site_visits a JOIN site_visits b \
         ON a.crawl_id = b.crawl_id AND a.visit_no = b.visit_no AND a.attempt < b.attempt AND a.fence >= b.fence",
        |row| {
            let (crawl, visit, early, late): (String, i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            report.add(
                "R6",
                format!(
                    "visit {visit} of crawl {crawl}: attempt {early} has no lower fence than attempt {late}"
                ),
            );
            Ok(())
        },
    )
}

/// What the URLs of a visit's pages have in common.
#[derive(Debug, PartialEq)]
enum Owner {
    /// Every URL with a parameter `v` has this one: the fixture site hands it on to everything a page asks for.
    Token(String),
    /// Every URL of this port has this host: a documentation site's pages ask their own host only.
    Host { host: String, port: String },
}

impl Owner {
    fn of(site_url: &str) -> Option<Self> {
        if let Some(token) = token(site_url) {
            return Some(Self::Token(token.to_owned()));
        }
        let (host, port) = authority(site_url)?;
        host.starts_with("doc-").then(|| Self::Host { host: host.to_owned(), port: port.to_owned() })
    }

    /// Why a URL cannot be one of this visit's.
    fn disowns(&self, url: &str) -> Option<String> {
        match self {
            Self::Token(own) => {
                let other = token(url).filter(|other| other != own)?;
                Some(format!("its token is {other}, the visit's is {own}"))
            }
            Self::Host { host, port } => {
                let (other, _) = authority(url).filter(|(h, p)| p == port && h != host)?;
                Some(format!("its host is {other}, the visit's is {host}"))
            }
        }
    }
}

/// The parameter `v` of a URL.
fn token(url: &str) -> Option<&str> {
    let query = url.split('#').next()?.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix("v="))
}

/// Host and port of an `http` or `ws` URL with a port.
pub(super) fn authority(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "http" | "https" | "ws" | "wss") {
        return None;
    }
    rest.split(['/', '?', '#']).next()?.rsplit_once(':')
}
