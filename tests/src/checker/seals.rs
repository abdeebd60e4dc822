//! R4 (no unmarked gap) and R7 (no row of an attempt that is not sealed).

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use serde_json::Value;

use super::{CheckError, Expectation, Report, rows};

/// Stored ordinals of a stream: how many, and the ranges missing below the last.
#[derive(Default)]
struct Stored {
    count: i64,
    next: i64,
    missing: Vec<(i64, i64)>,
}

/// Attempt -> stream -> what is stored of it.
type Streams = BTreeMap<i64, BTreeMap<i64, Stored>>;

pub(super) fn check(
    db: &Connection,
    expectation: &Expectation,
    report: &mut Report,
) -> Result<(), CheckError> {
    rows(
        db,
        "rows without a seal",
        "SELECT visit_id, count(*), group_concat(DISTINCT tbl) FROM placed WHERE visit_id > 0 AND visit_id NOT IN \
         (SELECT visit_id FROM visit_seals) GROUP BY 1",
        |row| {
            let (visit, count, tables): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            report.add(
                "R7",
                format!("attempt {visit} is not sealed and {count} rows of it are visible ({tables})"),
            );
            Ok(())
        },
    )?;
    if !expectation.unfinished {
        rows(
            db,
            "attempts without a seal",
            "SELECT visit_id, crawl_id, visit_no, attempt FROM site_visits WHERE visit_id NOT IN \
             (SELECT visit_id FROM visit_seals)",
            |row| {
                let (visit, crawl, no, attempt): (i64, String, i64, i64) =
                    (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                report.add(
                    "R4",
                    format!(
                        "attempt {visit} (crawl {crawl}, visit {no}, attempt {attempt}) was never sealed"
                    ),
                );
                Ok(())
            },
        )?;
    }
    let stored = stored(db)?;
    let mut tables: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
    rows(
        db,
        "rows per table",
        "SELECT visit_id, tbl, count(*) FROM placed WHERE visit_id > 0 GROUP BY 1, 2",
        |row| {
            tables.entry(row.get(0)?).or_default().insert(row.get(1)?, row.get(2)?);
            Ok(())
        },
    )?;
    rows(
        db,
        "seals",
        "SELECT l.visit_id, l.complete, l.outcome, l.streams, l.row_counts, i.reason FROM visit_seals l \
         LEFT JOIN incomplete_visits i ON i.visit_id = l.visit_id",
        |row| {
            let seal = Seal {
                visit: row.get(0)?,
                complete: row.get(1)?,
                outcome: row.get(2)?,
                streams: row.get(3)?,
                row_counts: row.get(4)?,
                incomplete: row.get(5)?,
            };
            *report
                .facts
                .entry(format!("seals.{}", if seal.complete { "complete" } else { "incomplete" }))
                .or_default() += 1;
            seal.check_streams(stored.get(&seal.visit).unwrap_or(&BTreeMap::new()), report);
            seal.check_counts(tables.get(&seal.visit).unwrap_or(&BTreeMap::new()), report);
            seal.check_incomplete(report);
            Ok(())
        },
    )
}

fn stored(db: &Connection) -> Result<Streams, CheckError> {
    let mut all = Streams::new();
    rows(
        db,
        "ordinals per stream",
        "SELECT DISTINCT visit_id, stream, ordinal FROM placed WHERE visit_id > 0 ORDER BY 1, 2, 3",
        |row| {
            let stream = all.entry(row.get(0)?).or_default().entry(row.get(1)?).or_default();
            let ordinal: i64 = row.get(2)?;
            if ordinal > stream.next {
                stream.missing.push((stream.next, ordinal - 1));
            }
            stream.count += 1;
            stream.next = ordinal + 1;
            Ok(())
        },
    )?;
    Ok(all)
}

struct Seal {
    visit: i64,
    complete: bool,
    outcome: String,
    streams: String,
    row_counts: String,
    incomplete: Option<String>,
}

impl Seal {
    fn check_streams(&self, stored: &BTreeMap<i64, Stored>, report: &mut Report) {
        let visit = self.visit;
        let Ok(Value::Array(said)) = serde_json::from_str::<Value>(&self.streams) else {
            report.add(
                "R4",
                format!("attempt {visit}: visit_seals.streams is no JSON array: {}", self.streams),
            );
            return;
        };
        let mut named = BTreeSet::new();
        for entry in &said {
            let Some(stream) = entry["stream"].as_i64() else {
                report.add("R4", format!("attempt {visit}: a stream of the seal has no number: {entry}"));
                continue;
            };
            if !named.insert(stream) {
                report.add("R4", format!("attempt {visit}: the seal names stream {stream} twice"));
            }
            self.check_stream(stream, entry, stored.get(&stream).unwrap_or(&Stored::default()), report);
        }
        for stream in stored.keys().filter(|s| !named.contains(s)) {
            report.add(
                "R4",
                format!("attempt {visit}: stream {stream} has rows and the seal does not name it"),
            );
        }
    }

    fn check_stream(&self, stream: i64, said: &Value, stored: &Stored, report: &mut Report) {
        let visit = self.visit;
        let mut wrong = |what: String| report.add("R4", format!("attempt {visit}, stream {stream}: {what}"));
        if said["stored"].as_i64() != Some(stored.count) {
            wrong(format!("the seal says {} are stored, {} are", said["stored"], stored.count));
        }
        let last = said["last_ordinal"].as_i64();
        let mut missing = stored.missing.clone();
        if let Some(last) = last.filter(|last| *last >= stored.next) {
            missing.push((stored.next, last));
        }
        let pair = |range: &Value| Some((range[0].as_i64()?, range[1].as_i64()?));
        let marked: Option<Vec<_>> =
            said["missing"].as_array().and_then(|all| all.iter().map(pair).collect());
        if marked.as_ref() != Some(&missing) {
            wrong(format!("ordinals {missing:?} are missing, the seal marks {}", said["missing"]));
        }
        if !self.complete {
            return;
        }
        if !missing.is_empty() {
            wrong(format!("sealed complete, and ordinals {missing:?} are missing"));
        }
        if last != Some(stored.next - 1) {
            wrong(format!(
                "sealed complete with last_ordinal {last:?}, the last one stored is {}",
                stored.next - 1
            ));
        }
    }

    fn check_counts(&self, tables: &BTreeMap<String, i64>, report: &mut Report) {
        let visit = self.visit;
        let Ok(Value::Object(said)) = serde_json::from_str::<Value>(&self.row_counts) else {
            report.add(
                "R4",
                format!("attempt {visit}: visit_seals.row_counts is no JSON object: {}", self.row_counts),
            );
            return;
        };
        let names: BTreeSet<&String> = said.keys().chain(tables.keys()).collect();
        for name in names {
            let (says, holds) =
                (said.get(name).and_then(Value::as_i64).unwrap_or(0), tables.get(name).copied());
            if says != holds.unwrap_or(0) {
                report.add(
                    "R4",
                    format!(
                        "attempt {visit}: the seal counts {says} rows of {name}, {} are there",
                        holds.unwrap_or(0)
                    ),
                );
            }
        }
    }

    fn check_incomplete(&self, report: &mut Report) {
        let Self { visit, complete, outcome, .. } = self;
        let whole = *complete && outcome == "ok";
        match &self.incomplete {
            None if !whole => report.add(
                "R4",
                format!(
                    "attempt {visit} (complete: {complete}, outcome {outcome}) is not in incomplete_visits"
                ),
            ),
            Some(reason) if whole => {
                report.add("R4", format!("attempt {visit} is whole and in incomplete_visits ({reason})"));
            }
            Some(reason) if reason.is_empty() => {
                report.add("R4", format!("attempt {visit} is in incomplete_visits without a reason"));
            }
            _ => {}
        }
    }
}
