//! R1: exactly one outcome per visit, and an outcome `ok` only for whole data.

use rusqlite::Connection;

use super::{CheckError, Expectation, Report, number, rows};

pub(super) fn check(
    db: &Connection,
    expectation: &Expectation,
    report: &mut Report,
) -> Result<(), CheckError> {
    counts(db, expectation, report)?;
    rows(
        db,
        "visits with several outcomes",
        "SELECT crawl_id, visit_no, count(*) FROM visit_outcomes GROUP BY 1, 2 HAVING count(*) > 1",
        |row| {
            let (crawl, visit, times): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            report.add("R1", format!("visit {visit} of crawl {crawl} has {times} outcomes"));
            Ok(())
        },
    )?;
    if !expectation.unfinished {
        rows(
            db,
            "visits without outcome",
            "SELECT DISTINCT crawl_id, visit_no FROM site_visits s WHERE NOT EXISTS (SELECT 1 FROM visit_outcomes o \
             WHERE o.crawl_id = s.crawl_id AND o.visit_no = s.visit_no)",
            |row| {
                let (crawl, visit): (String, i64) = (row.get(0)?, row.get(1)?);
                report.add("R1", format!("visit {visit} of crawl {crawl} was made and has no outcome"));
                Ok(())
            },
        )?;
    }
    rows(
        db,
        "deciding attempts",
        "SELECT o.crawl_id, o.visit_no, o.outcome, o.visit_id, o.attempts, s.visit_id, \
         (SELECT max(attempt) FROM site_visits m WHERE m.crawl_id = o.crawl_id AND m.visit_no = o.visit_no), \
         l.complete, l.outcome \
         FROM visit_outcomes o \
         LEFT JOIN site_visits s ON s.visit_id = o.visit_id AND s.crawl_id = o.crawl_id AND s.visit_no = o.visit_no \
         LEFT JOIN visit_seals l ON l.visit_id = o.visit_id",
        |row| {
            let decided = Decided {
                place: format!("visit {} of crawl {}", row.get::<_, i64>(1)?, row.get::<_, String>(0)?),
                outcome: row.get(2)?,
                by: row.get(3)?,
                attempts: row.get(4)?,
                known: row.get::<_, Option<i64>>(5)?.is_some(),
                highest: row.get(6)?,
                complete: row.get(7)?,
                sealed: row.get(8)?,
            };
            decided.check(expectation, report);
            Ok(())
        },
    )
}

fn counts(db: &Connection, expectation: &Expectation, report: &mut Report) -> Result<(), CheckError> {
    let outcomes = number(db, "outcomes", "SELECT count(*) FROM visit_outcomes")?.unsigned_abs();
    let visits = number(
        db,
        "visits",
        "SELECT count(*) FROM (SELECT crawl_id, visit_no FROM visit_outcomes UNION SELECT crawl_id, visit_no FROM site_visits)",
    )?
    .unsigned_abs();
    report.fact("outcomes", outcomes);
    report.fact("visits", visits);
    let attempts = number(db, "attempts", "SELECT count(*) FROM site_visits")?.unsigned_abs();
    report.fact("attempts", attempts);
    if let Some(submitted) = expectation.visits
        && !expectation.unfinished
        && (submitted != outcomes || submitted != visits)
    {
        report.add(
            "R1",
            format!("{submitted} visits submitted, {visits} distinct visits, {outcomes} outcomes stored"),
        );
    }
    rows_of_no_visit(db, expectation, report)
}

/// Rows of no visit, with what their payloads tell.
const STRAYS: &str = "(SELECT table_name, reason, payload, \
     iif(json_valid(payload), payload ->> '$.visit_id', NULL) AS visit_id, \
     iif(json_valid(payload), payload ->> '$.params.response.url', NULL) AS url FROM unattributed) u";

/// A visit ends while its page's icon is on the way: the request is the visit's, and its answer nobody's (I14). Of an
/// attempt that broke it is not known what it had recorded.
const ANSWERED_LATE: &str = "u.table_name = 'http_responses' AND u.reason = 'visit_ended' \
     AND (EXISTS (SELECT 1 FROM http_failures f \
     WHERE f.error = 'unfinished' AND f.visit_id = u.visit_id AND f.url = u.url) \
     OR EXISTS (SELECT 1 FROM site_visits s WHERE s.visit_id = u.visit_id \
     AND NOT EXISTS (SELECT 1 FROM visit_seals l WHERE l.visit_id = s.visit_id AND l.complete = 1)))";

fn rows_of_no_visit(
    db: &Connection,
    expectation: &Expectation,
    report: &mut Report,
) -> Result<(), CheckError> {
    let late = format!("SELECT count(*) FROM {STRAYS} WHERE {ANSWERED_LATE}");
    let late = number(db, "late answers", &late)?.unsigned_abs();
    report.fact("unattributed.answered_late", late);
    let found = report.figure("unattributed").saturating_sub(late);
    let Some(most) = expectation.most_unattributed.filter(|most| found > *most) else { return Ok(()) };
    report.add("M05", format!("{found} rows belong to no visit, at most {most} are accepted"));
    let sql = format!(
        "SELECT u.table_name || ': ' || u.reason || ' of ' || ifnull(u.visit_id, 'none'), \
         (SELECT l.complete FROM visit_seals l WHERE l.visit_id = u.visit_id), \
         (SELECT group_concat(f.error || ' ' || f.url, ', ') FROM http_failures f WHERE f.visit_id = u.visit_id), \
         substr(u.payload, 1, 2000) FROM {STRAYS} WHERE NOT ({ANSWERED_LATE})"
    );
    rows(db, "rows of no visit", &sql, |row| {
        let (what, whole): (String, Option<bool>) = (row.get(0)?, row.get(1)?);
        let (failures, payload): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        report.add("M05", format!("{what}; complete: {whole:?}, failed requests: {failures:?}; {payload:?}"));
        Ok(())
    })
}

struct Decided {
    place: String,
    outcome: String,
    by: Option<i64>,
    attempts: i64,
    /// Whether site_visits has the deciding attempt, for this visit.
    known: bool,
    highest: Option<i64>,
    complete: Option<bool>,
    sealed: Option<String>,
}

impl Decided {
    fn check(&self, expectation: &Expectation, report: &mut Report) {
        let Self { place, outcome, .. } = self;
        *report.facts.entry(format!("outcome.{outcome}")).or_default() += 1;
        if expectation.all_ok && outcome != "ok" {
            report.add("R1", format!("{place} ended {outcome} instead of ok"));
        }
        match self.by {
            Some(by) if !self.known => {
                report.add("R1", format!("{place} was decided by attempt {by}, which is none of its own"));
            }
            None if outcome == "ok" => report.add("R1", format!("{place} ended ok without an attempt")),
            _ => {}
        }
        if self.highest.is_some_and(|highest| highest > self.attempts) {
            report
                .add("R1", format!("{place} made {:?} attempts and counts {}", self.highest, self.attempts));
        }
        if outcome != "ok" {
            return;
        }
        if self.complete != Some(true) {
            report.add(
                "R4",
                format!(
                    "{place} ended ok and its seal is {}",
                    match self.complete {
                        None => "missing",
                        Some(_) => "incomplete",
                    }
                ),
            );
        } else if self.sealed.as_deref() != Some("ok") {
            report.add("R4", format!("{place} ended ok and its attempt was sealed as {:?}", self.sealed));
        }
    }
}
