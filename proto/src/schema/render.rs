//! The tables for readers: as Markdown, as SQL, and as Arrow schemas. All from [`super::TABLES`].

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::{Column, ColumnKind, TABLES, Table};

/// A name as SQL quotes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ")
}

/// A column of a `CREATE TABLE`, in SQLite's words.
pub fn sql_column(column: &Column) -> String {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    format!("{} {}{not_null}", quoted(column.name), column.kind.sqlite())
}

/// `CREATE TABLE IF NOT EXISTS` of a table. Stamped tables begin with `id`, as OpenWPM's do.
pub fn sql_table(table: &Table) -> String {
    let mut parts: Vec<String> = Vec::new();
    if table.stamped {
        parts.push("\"id\" INTEGER PRIMARY KEY".into());
    }
    parts.extend(table.columns().into_iter().map(sql_column));
    if !table.stamped {
        parts.push(format!("PRIMARY KEY ({})", list(table.key)));
    }
    format!("CREATE TABLE IF NOT EXISTS {} ({})", quoted(table.name), parts.join(", "))
}

/// The keys of stamped tables and the indexes of all.
///
/// Rows of no visit have no attempt that would make (stream, ordinal) one producer's: there the producer's session and
/// the time of capture tell a repeat from another producer's row.
pub fn sql_indexes(table: &Table) -> Vec<String> {
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

/// Every statement that makes the tables, each on a line that ends in a semicolon.
pub fn sql() -> String {
    TABLES.iter().fold(String::new(), |mut text, table| {
        for statement in std::iter::once(sql_table(table)).chain(sql_indexes(table)) {
            text.push_str(&statement);
            text.push_str(";\n");
        }
        text
    })
}

fn arrow_type(kind: ColumnKind) -> Json {
    match kind {
        ColumnKind::Text => json!({"name": "utf8"}),
        ColumnKind::Integer => json!({"name": "int", "bitWidth": 64, "isSigned": true}),
        ColumnKind::Bool => json!({"name": "bool"}),
        ColumnKind::Real => json!({"name": "floatingpoint", "precision": "DOUBLE"}),
        ColumnKind::Bytes => json!({"name": "binary"}),
    }
}

/// Arrow schemas by table, in the JSON form that the Arrow project defines for its integration tests.
pub fn arrow() -> String {
    let schema = |table: &Table| {
        let field = |c: &&Column| {
            let mut metadata = vec![json!({"key": "doc", "value": c.doc})];
            if !c.format.is_empty() {
                metadata.push(json!({"key": "format", "value": c.format}));
            }
            json!({
                "name": c.name, "type": arrow_type(c.kind), "nullable": c.nullable, "children": [],
                "metadata": metadata,
            })
        };
        let fields: Vec<Json> = table.columns().iter().map(field).collect();
        json!({"schema": {"fields": fields, "metadata": [{"key": "doc", "value": table.doc}]}})
    };
    let tables: serde_json::Map<String, Json> =
        TABLES.iter().map(|table| (table.name.to_owned(), schema(table))).collect();
    let mut text = serde_json::to_string_pretty(&Json::Object(tables)).expect("JSON values have a text");
    text.push('\n');
    text
}

fn type_words(column: &Column) -> String {
    let kind = match column.kind {
        ColumnKind::Text => "text",
        ColumnKind::Integer => "integer",
        ColumnKind::Bool => "0 or 1",
        ColumnKind::Real => "real",
        ColumnKind::Bytes => "bytes",
    };
    let format = if column.format.is_empty() { String::new() } else { format!(", {}", column.format) };
    let null = if column.nullable { ", may be NULL" } else { "" };
    format!("{kind}{format}{null}")
}

/// Text that may stand in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn markdown_table(text: &mut String, table: &Table) {
    let key = table.key_columns().iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    write!(text, "\n## {}\n\n{}\n\nKey: {key}.", table.name, cell(table.doc)).expect("writing to a string");
    if table.stamped {
        text.push_str(" With the [columns of every record](#columns-of-every-record).");
    }
    text.push_str("\n\n| column | type | what it is |\n| --- | --- | --- |\n");
    let own = table.columns().into_iter().filter(|c| !table.stamped || !is_stamp(c));
    for column in own {
        column_line(text, column);
    }
}

fn is_stamp(column: &Column) -> bool {
    super::STAMP.iter().any(|stamp| stamp.name == column.name)
}

fn column_line(text: &mut String, column: &Column) {
    writeln!(text, "| `{}` | {} | {} |", column.name, type_words(column), cell(column.doc))
        .expect("writing to a string");
}

/// The documentation's page of all tables.
pub fn markdown() -> String {
    let mut text = "# Tables\n\n\
        Made by `sonde schema --format markdown` from the record messages in `proto/sonde/record/v1`; do not edit.\n\n\
        Tables and columns of OpenWPM have its names and meanings; ours come after them. NULL is what is absent or\n\
        could not be observed: the table `capabilities` tells which. Times are by the clock of the machine that ran the\n\
        browser.\n\n\
        ## Columns of every record\n\n\
        The tables of records (not the ledgers) have these beside their own; in SQLite also `id`, the number of the row\n\
        in its file.\n\n\
        | column | type | what it is |\n| --- | --- | --- |\n"
        .to_owned();
    for column in super::STAMP {
        column_line(&mut text, column);
    }
    for table in TABLES {
        markdown_table(&mut text, table);
    }
    text
}
