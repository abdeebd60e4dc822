//! Statements about the contract's tables. Identifiers come from the contract only, never from data.

use sonde_proto::schema::Table;
pub(super) use sonde_proto::schema::render::{
    quoted, sql_column as column, sql_indexes as create_indexes, sql_table as create_table,
};

fn list(names: &[&str]) -> String {
    names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ")
}

/// An insert of all columns of a table, in their order.
pub(super) fn insert(table: &Table, or_ignore: bool) -> String {
    let names: Vec<&str> = table.columns().iter().map(|c| c.name).collect();
    let marks = vec!["?"; names.len()].join(", ");
    let conflict = if or_ignore { " ON CONFLICT DO NOTHING" } else { "" };
    format!("INSERT INTO {} ({}) VALUES ({marks}){conflict}", quoted(table.name), list(&names))
}
