//! Statements about the contract's tables. Identifiers come from the contract only, never from data.

use sonde_proto::schema::Table;
pub(super) use sonde_proto::schema::render::{
    quoted, sql_column as column, sql_indexes as create_indexes, sql_table as create_table,
};

fn list(names: &[&str]) -> String {
    names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ")
}

/// An insert of all columns of a table, in their order. With `or_ignore` a row whose key is there changes nothing, or
/// replaces what is there where the table goes by the newest.
pub(super) fn insert(table: &Table, or_ignore: bool) -> String {
    let names: Vec<&str> = table.columns().iter().map(|c| c.name).collect();
    let marks = vec!["?"; names.len()].join(", ");
    let conflict = match (or_ignore, table.newest) {
        (false, _) => String::new(),
        (true, "") => " ON CONFLICT DO NOTHING".to_owned(),
        (true, newest) => {
            let set = names.iter().filter(|name| !table.key.contains(name)).map(|name| {
                let name = quoted(name);
                format!("{name} = excluded.{name}")
            });
            format!(
                " ON CONFLICT ({}) DO UPDATE SET {} WHERE excluded.{newest} > {}.{newest}",
                list(table.key),
                set.collect::<Vec<_>>().join(", "),
                quoted(table.name),
                newest = quoted(newest),
            )
        }
    };
    format!("INSERT INTO {} ({}) VALUES ({marks}){conflict}", quoted(table.name), list(&names))
}
