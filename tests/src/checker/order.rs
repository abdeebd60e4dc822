//! R3 (no row twice) and M07 (one total order per attempt, in which each stream keeps its own).

use std::collections::HashMap;

use rusqlite::Connection;

use super::{CheckError, Report, number, rows};

/// Columns by which a table is known to hold rows of streams.
const STAMP: [&str; 8] =
    ["visit_id", "stream", "ordinal", "event_ordinal", "captured_at", "browser_id", "attempt", "producer"];

/// Collects the stamps of all rows of all tables into the temporary table `placed`.
pub(super) fn gather(db: &Connection, report: &mut Report) -> Result<(), CheckError> {
    let query = |source| CheckError::Query { what: "stamps of all tables", source };
    let mut tables: HashMap<String, usize> = HashMap::new();
    let list = STAMP.map(|c| format!("'{c}'")).join(",");
    rows(
        db,
        "the tables",
        &format!(
            "SELECT m.name, count(*) FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name IN ({list}) \
             WHERE m.type = 'table' GROUP BY m.name"
        ),
        |row| {
            tables.insert(row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs() as usize);
            Ok(())
        },
    )?;
    let columns = STAMP.join(", ");
    db.execute_batch(&format!(
        "DROP TABLE IF EXISTS temp.placed; CREATE TEMP TABLE placed (tbl, session, {columns})"
    ))
    .map_err(query)?;
    let mut stamped = 0;
    for (table, found) in tables {
        if found != STAMP.len() {
            continue;
        }
        stamped += 1;
        let inserted = db
            .execute(
                &format!(
                    "INSERT INTO placed SELECT '{table}', extension_session_uuid, {columns} FROM \"{table}\""
                ),
                [],
            )
            .map_err(query)?;
        report.fact(format!("rows.{table}"), inserted as u64);
    }
    if stamped == 0 {
        report.add("M01", "the database has no table with the columns of a stamp");
    }
    db.execute_batch(
        "CREATE INDEX temp.placed_key ON placed (visit_id, stream, ordinal);
         CREATE INDEX temp.placed_event ON placed (visit_id, event_ordinal);",
    )
    .map_err(query)?;
    let unattributed = number(
        db,
        "rows of no visit",
        "SELECT count(*) FROM placed WHERE visit_id <= 0 OR tbl = 'unattributed'",
    )?;
    report.fact("unattributed", unattributed.unsigned_abs());
    Ok(())
}

/// Checks keys and order.
pub(super) fn check(db: &Connection, report: &mut Report) -> Result<(), CheckError> {
    rows(
        db,
        "rows with equal keys",
        "SELECT visit_id, stream, ordinal, count(*), group_concat(tbl) FROM placed WHERE visit_id > 0 \
         GROUP BY 1, 2, 3 HAVING count(*) > 1",
        |row| {
            let (visit, stream, ordinal, times, tables): (i64, i64, i64, i64, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            report.add(
                "R3",
                format!(
                    "attempt {visit}, stream {stream}, ordinal {ordinal} is there {times} times ({tables})"
                ),
            );
            Ok(())
        },
    )?;
    let mut walk = Walk::default();
    rows(
        db,
        "the order of events",
        "SELECT visit_id, event_ordinal, stream, ordinal, captured_at, tbl FROM placed WHERE visit_id > 0 \
         ORDER BY visit_id, event_ordinal",
        |row| {
            let at = Place {
                visit: row.get(0)?,
                event: row.get(1)?,
                stream: row.get(2)?,
                ordinal: row.get(3)?,
                captured_at: row.get(4)?,
            };
            walk.step(&at, &row.get::<_, String>(5)?, report);
            Ok(())
        },
    )
}

struct Place {
    visit: i64,
    event: i64,
    stream: i64,
    ordinal: i64,
    captured_at: i64,
}

/// Walks the rows of an attempt after the other in order of events.
#[derive(Default)]
struct Walk {
    visit: i64,
    next: i64,
    latest: i64,
    /// Stream -> last ordinal and latest capture seen.
    streams: HashMap<i64, (i64, i64)>,
}

impl Walk {
    fn step(&mut self, at: &Place, table: &str, report: &mut Report) {
        if at.visit != self.visit {
            *self = Self { visit: at.visit, latest: i64::MIN, ..Self::default() };
        }
        let Place { visit, event, stream, ordinal, captured_at } = at;
        if *event != self.next {
            let next = self.next;
            report
                .add("M07", format!("attempt {visit}: event_ordinal {event} in {table} where {next} is due"));
        }
        self.next = event + 1;
        let last = self.streams.entry(*stream).or_insert((-1, i64::MIN));
        if *ordinal <= last.0 {
            let before = last.0;
            report.add(
                "M07",
                format!("attempt {visit}: stream {stream} has ordinal {ordinal} after {before} in the order of events"),
            );
        }
        // A stream whose clock went back keeps its own order: its time is the latest it has reached.
        let time = last.1.max(*captured_at);
        *last = (*ordinal, time);
        if time < self.latest {
            let late = self.latest - time;
            report.add("M07", format!("attempt {visit}: event {event} in {table} was captured {late} us before the one ahead of it"));
        }
        self.latest = self.latest.max(time);
    }
}
