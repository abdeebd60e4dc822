//! I10: the site's log and http_requests agree, request for request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use super::visits::authority;
use super::{CheckError, Report, rows};

/// A request that reached a site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoggedRequest {
    pub method: String,
    /// `http://host:port/path?query`
    pub url: String,
}

impl From<&sonde_site::Hit> for LoggedRequest {
    fn from(hit: &sonde_site::Hit) -> Self {
        Self { method: hit.method.clone(), url: hit.url.clone() }
    }
}

/// Reads an access log: one JSON object with `method` and `url` a line.
pub fn read_log(path: &Path) -> Result<Vec<LoggedRequest>, CheckError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CheckError::Read { path: path.to_owned(), source })?;
    let parse = |(at, line): (usize, &str)| {
        let wrong = |reason: String| CheckError::Log { path: path.to_owned(), line: at + 1, reason };
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let text = |name: &str| {
            value[name].as_str().map(str::to_owned).ok_or_else(|| wrong(format!("it has no text \"{name}\"")))
        };
        Ok(LoggedRequest { method: text("method")?, url: text("url")? })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

type Bag = BTreeMap<LoggedRequest, i64>;

/// What is known of requests, by method and URL.
#[derive(Default)]
struct Recorded {
    /// They reached the site: it answered.
    certain: Bag,
    /// They may have: a cache answered, or nobody did.
    possible: Bag,
}

pub(super) fn check(db: &Connection, log: &[LoggedRequest], report: &mut Report) -> Result<(), CheckError> {
    let ports: BTreeSet<&str> =
        log.iter().filter_map(|hit| authority(&hit.url)).map(|(_, port)| port).collect();
    let mut recorded = recorded(db, &ports)?;
    let excused = failed_hosts(db)?;
    let mut missing = Bag::new();
    for hit in log {
        let request = LoggedRequest { method: hit.method.clone(), url: plain(&hit.url) };
        if !take(&mut recorded.certain, &request) && !take(&mut recorded.possible, &request) {
            *missing.entry(request).or_default() += 1;
        }
    }
    let (mut lost, mut unseen) = (0, 0);
    for (request, times) in missing {
        let host = authority(&request.url).map(|(host, _)| host.to_owned()).unwrap_or_default();
        if excused.contains(&host) {
            lost += times.unsigned_abs();
        } else {
            unseen += times.unsigned_abs();
            report.add(
                "I10",
                format!(
                    "{} {} reached the site {times} times more than http_requests has it",
                    request.method, request.url
                ),
            );
        }
    }
    let mut surplus = 0;
    for (request, times) in recorded.certain.into_iter().filter(|(_, times)| *times > 0) {
        surplus += times.unsigned_abs();
        report.add(
            "I10",
            format!(
                "http_requests has {} {} {times} times more than it reached the site",
                request.method, request.url
            ),
        );
    }
    report.fact("site.hits", log.len() as u64);
    report.fact("site.hits_not_recorded", unseen);
    report.fact("site.hits_of_broken_attempts", lost);
    report.fact("site.recorded_not_hit", surplus);
    Ok(())
}

fn take(bag: &mut Bag, request: &LoggedRequest) -> bool {
    match bag.get_mut(request) {
        Some(times) if *times > 0 => {
            *times -= 1;
            true
        }
        _ => false,
    }
}

fn recorded(db: &Connection, ports: &BTreeSet<&str>) -> Result<Recorded, CheckError> {
    let mut recorded = Recorded::default();
    rows(
        db,
        "requests",
        "SELECT q.method, q.url, \
         EXISTS (SELECT 1 FROM http_responses p WHERE p.visit_id = q.visit_id AND p.request_id = q.request_id \
                 AND p.hop_index = q.hop_index AND NOT p.is_cached AND NOT p.from_service_worker) OR \
         EXISTS (SELECT 1 FROM http_redirects p WHERE p.visit_id = q.visit_id \
                 AND p.old_request_id = CAST(q.request_id AS TEXT) AND p.hop_index = q.hop_index) \
         FROM http_requests q WHERE q.visit_id > 0",
        |row| {
            let url = plain(&row.get::<_, String>(1)?);
            if authority(&url).is_some_and(|(_, port)| ports.contains(port)) {
                let bag = if row.get(2)? { &mut recorded.certain } else { &mut recorded.possible };
                *bag.entry(LoggedRequest { method: row.get(0)?, url }).or_default() += 1;
            }
            Ok(())
        },
    )?;
    Ok(recorded)
}

/// Hosts of visits that had an attempt whose data are not whole: what it asked for may be in the site's log alone.
fn failed_hosts(db: &Connection) -> Result<BTreeSet<String>, CheckError> {
    let mut hosts = BTreeSet::new();
    rows(
        db,
        "broken attempts",
        "SELECT DISTINCT s.site_url FROM site_visits s LEFT JOIN visit_seals l ON l.visit_id = s.visit_id \
         WHERE l.visit_id IS NULL OR NOT l.complete OR l.outcome <> 'ok'",
        |row| {
            hosts.extend(authority(&row.get::<_, String>(0)?).map(|(host, _)| host.to_owned()));
            Ok(())
        },
    )?;
    Ok(hosts)
}

/// Without fragment, and with the scheme a server sees.
fn plain(url: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    url.strip_prefix("ws://").map_or_else(|| url.to_owned(), |rest| format!("http://{rest}"))
}
