//! Requests, bodies, late records and ordinals.

use std::collections::BTreeMap;

use sonde_site::expect::Table;

use super::Findings;
use super::lab::{Lab, LabError, Visited};

const HTTP: &[Table] =
    &[Table::HttpRequests, Table::HttpResponses, Table::HttpRedirects, Table::HttpFailures];

pub(super) async fn log(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    for page in ["two-hundred-requests", "redirects", "posts", "preflight", "workers", "failures"] {
        lab.watch(page, "").await?.score(HTTP, findings)?;
    }
    Ok(())
}

/// Rows of a visit that name another visit's page.
fn strangers(visited: &Visited, other: &str) -> Result<i64, LabError> {
    let mut found = 0;
    for (table, column) in [
        ("http_requests", "url"),
        ("http_responses", "url"),
        ("http_failures", "url"),
        ("navigations", "url"),
        ("javascript", "document_url"),
    ] {
        let sql = format!("SELECT count(*) FROM {table} WHERE visit_id = ?1 AND {column} LIKE '%v={other}%'");
        found += visited.one::<i64>(&sql)?;
    }
    Ok(found
        + visited
            .one::<i64>("SELECT count(*) FROM javascript_cookies WHERE visit_id = ?1 AND name = 'late'")?)
}

pub(super) async fn late(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let mut before = Vec::new();
    for _ in 0..2 {
        let late = lab.watch("integrity-late", "").await?;
        before.push(late.token.clone());
        for next in ["static-small", "integrity-end"] {
            let visited = lab.watch(next, "").await?;
            for token in &before {
                findings.equal(
                    &format!("rows of an earlier visit in that of {next}"),
                    &strangers(&visited, token)?,
                    &0,
                );
            }
            visited.score(HTTP, findings)?;
        }
    }
    let token = before.first().map(String::as_str).unwrap_or_default();
    let visited = lab.watch("integrity-end", "").await?;
    let kept = format!("SELECT count(*) FROM unattributed WHERE ?1 <> 0 AND payload LIKE '%{token}%'");
    findings.remark(format!("{} late rows kept as unattributed", visited.one::<i64>(&kept)?));
    let unexplained = "SELECT count(*) FROM unattributed WHERE ?1 <> 0 AND coalesce(reason, '') = ''";
    findings.equal("unattributed rows without a reason", &visited.one::<i64>(unexplained)?, &0);
    Ok(())
}

/// Path -> (hash that the site sent, its length).
fn sent(visited: &Visited) -> BTreeMap<String, (String, u64)> {
    let hits = visited.site.hits_for(&visited.token);
    let whole = hits.into_iter().filter_map(|hit| {
        let body = hit.response_body.filter(|body| body.complete)?;
        Some((hit.url, (body.sha256, body.len)))
    });
    whole.collect()
}

pub(super) async fn alike(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let visited = lab.watch("integrity-bodies", "").await?;
    let mut statement = visited
        .db
        .prepare("SELECT url, content_hash FROM http_responses WHERE visit_id = ?1 AND url LIKE '%/r/%'")?;
    let stored: BTreeMap<String, Option<String>> = statement
        .query_map([visited.visit_id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut compared = 0;
    for (url, (hash, len)) in sent(&visited) {
        if len == 0 || !url.contains("/r/") {
            continue;
        }
        compared += 1;
        let found = stored.get(&url).cloned().flatten();
        findings.equal(&format!("hash of {url}"), &found, &Some(hash));
    }
    let prefixes: std::collections::BTreeSet<_> =
        stored.iter().filter(|(url, _)| url.contains("/r/prefix/")).map(|(_, hash)| hash.clone()).collect();
    findings.equal("blobs of two bodies that begin alike, one of them twice", &prefixes.len(), &2);
    findings.remark(format!("{compared} bodies"));
    Ok(())
}

pub(super) async fn outcomes(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    for page in ["integrity-bodies", "bodies", "failures"] {
        let visited = lab.watch(page, "").await?;
        let sql = "SELECT url || ' ' || body_outcome FROM http_responses WHERE visit_id = ?1 AND body_outcome NOT IN \
                   ('complete', 'empty', 'capped', 'aborted', 'failed')";
        for row in visited.all::<String>(sql)? {
            findings.fault(format!("{page}: {row}"));
        }
        let sql = "SELECT count(*) FROM http_responses WHERE visit_id = ?1 AND body_outcome = 'failed' AND coalesce(body_error, '') = ''";
        findings.equal(&format!("{page}: failed bodies without a reason"), &visited.one::<i64>(sql)?, &0);
        let sql = "SELECT count(*) FROM http_responses WHERE visit_id = ?1 AND body_outcome = 'complete' AND content_hash IS NULL";
        findings.equal(&format!("{page}: whole bodies without a hash"), &visited.one::<i64>(sql)?, &0);
    }
    Ok(())
}

pub(super) async fn ordinals(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let visited = lab.watch("javascript", "").await?;
    let tables: Vec<String> = {
        let sql = "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'ordinal' WHERE m.type = 'table' AND ?1 <> 0";
        visited.all(sql)?
    };
    let all: Vec<String> = tables
        .iter()
        .filter(|t| t.as_str() != "unattributed")
        .map(|t| format!("SELECT visit_id, stream, ordinal FROM \"{t}\""))
        .collect();
    let gaps = format!(
        "SELECT visit_id || ' stream ' || stream || ': ' || count(*) || ' rows up to ordinal ' || max(ordinal) \
         FROM ({}) WHERE visit_id IS NOT NULL AND ?1 <> 0 GROUP BY visit_id, stream HAVING count(DISTINCT ordinal) <> count(*) \
         OR max(ordinal) - min(ordinal) + 1 <> count(*)",
        all.join(" UNION ALL ")
    );
    for row in visited.all::<String>(&gaps)? {
        findings.fault(row);
    }
    let streams = format!(
        "SELECT count(*) FROM (SELECT DISTINCT visit_id, stream FROM ({}) WHERE ?1 <> 0)",
        all.join(" UNION ALL ")
    );
    findings.remark(format!("{} streams of all visits so far", visited.one::<i64>(&streams)?));
    let torn = "SELECT count(*) FROM visit_seals WHERE ?1 <> 0 AND NOT complete";
    findings.equal("seals that are not whole", &visited.one::<i64>(torn)?, &0);
    Ok(())
}
