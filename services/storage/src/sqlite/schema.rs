//! DDL from the contract's tables. Identifiers come from the contract only, never from data.

use sonde_proto::schema::{Column, Table};

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ")
}

pub(super) fn column(column: &Column) -> String {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    format!("{} {}{not_null}", quoted(column.name), column.kind.sqlite())
}

/// Stamped tables begin with `id`, as OpenWPM's do.
pub(super) fn create_table(table: &Table) -> String {
    let mut parts: Vec<String> = Vec::new();
    if table.stamped {
        parts.push("\"id\" INTEGER PRIMARY KEY".into());
    }
    parts.extend(table.columns().into_iter().map(column));
    if !table.stamped {
        parts.push(format!("PRIMARY KEY ({})", list(table.key)));
    }
    format!("CREATE TABLE IF NOT EXISTS {} ({})", quoted(table.name), parts.join(", "))
}

/// The keys of stamped tables and the indexes of all.
///
/// Rows of no visit have no attempt that would make (stream, ordinal) one producer's: there the producer's session and
/// the time of capture tell a repeat from another producer's row.
pub(super) fn create_indexes(table: &Table) -> Vec<String> {
    let mut all = Vec::new();
    let on = quoted(table.name);
    if table.stamped {
        all.push(format!(
            "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {on} (visit_id, stream, ordinal) WHERE visit_id > 0",
            quoted(&format!("{}_key", table.name)),
        ));
        all.push(format!(
            "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {on} \
             (stream, coalesce(extension_session_uuid, ''), ordinal, captured_at) WHERE visit_id < 0",
            quoted(&format!("{}_no_visit_key", table.name)),
        ));
    }
    for columns in table.indexes {
        let name = format!("{}_{}", table.name, columns.join("_"));
        all.push(format!("CREATE INDEX IF NOT EXISTS {} ON {on} ({})", quoted(&name), list(columns)));
    }
    all
}

/// An insert of all columns of a table, in their order.
pub(super) fn insert(table: &Table, or_ignore: bool) -> String {
    let names: Vec<&str> = table.columns().iter().map(|c| c.name).collect();
    let marks = vec!["?"; names.len()].join(", ");
    let conflict = if or_ignore { " ON CONFLICT DO NOTHING" } else { "" };
    format!("INSERT INTO {} ({}) VALUES ({marks}){conflict}", quoted(table.name), list(&names))
}
