//! From any older schema to this version's, in ordered steps, each in a transaction of its own and recorded.

use std::path::Path;

use rusqlite::{Connection, Transaction};
use sonde_proto::schema::TABLES;

use super::{connection, schema};
use crate::error::{OpenError, StoreError};

/// The schema that this version writes into `crawl.sqlite` (`PRAGMA user_version`).
pub const SCHEMA_VERSION: i64 = 1;

struct Step {
    version: i64,
    name: &'static str,
    run: fn(&Transaction<'_>) -> Result<(), StoreError>,
}

/// Each can run again without harm.
const STEPS: &[Step] =
    &[Step { version: SCHEMA_VERSION, name: "the tables of the contract", run: create_tables }];

/// "SOND": what `file` and we know our databases by.
const APPLICATION_ID: i64 = 0x534f_4e44;

fn create_tables(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    for table in TABLES {
        transaction.execute_batch(&schema::create_table(table))?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?)
}

/// Brings `crawl.sqlite` to [`SCHEMA_VERSION`]; `now` is ISO 8601.
pub(super) fn migrate(connection: &mut Connection, path: &Path, now: &str) -> Result<(), OpenError> {
    let store = |source| OpenError::Store { path: path.to_owned(), source };
    let found = version(connection, path, SCHEMA_VERSION)?;
    for step in STEPS.iter().filter(|step| step.version > found) {
        connection::transaction(connection, |transaction| apply(transaction, step, now)).map_err(store)?;
        tracing::info!(version = step.version, step = step.name, "schema step applied");
    }
    reconcile(connection, path)
}

/// The version in the file, checked to be ours and not newer than `known`; marks an empty file as ours.
pub(super) fn version(connection: &Connection, path: &Path, known: i64) -> Result<i64, OpenError> {
    let store = |source| OpenError::Store { path: path.to_owned(), source };
    let found = pragma(connection, "user_version").map_err(store)?;
    let ours = pragma(connection, "application_id").map_err(store)? == APPLICATION_ID;
    if !ours {
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|e| store(e.into()))?;
        if tables > 0 || found != 0 {
            return Err(OpenError::Schema {
                path: path.to_owned(),
                reason: "this database was not made by Sonde; give another data directory (storage.data_dir)"
                    .into(),
            });
        }
        connection
            .execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))
            .map_err(|e| store(e.into()))?;
    }
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    Ok(found)
}

fn apply(transaction: &Transaction<'_>, step: &Step, now: &str) -> Result<(), StoreError> {
    (step.run)(transaction)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations \
         (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)",
    )?;
    transaction.execute(
        "INSERT INTO schema_migrations (version, name, applied_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        (step.version, step.name, now),
    )?;
    transaction.execute_batch(&format!("PRAGMA user_version = {}", step.version))?;
    Ok(())
}

/// The contract grows by tables and nullable columns without a new version: adds what is missing.
fn reconcile(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let wrong = |reason: String| OpenError::Schema { path: path.to_owned(), reason };
    let store = |source| OpenError::Store { path: path.to_owned(), source };
    connection::transaction(connection, create_tables).map_err(store)?;
    for table in TABLES {
        let have = columns(connection, table.name).map_err(store)?;
        let want = table.columns();
        for column in &want {
            match have.iter().find(|h| h.name.eq_ignore_ascii_case(column.name)) {
                Some(h) if h.kind == column.kind.sqlite() => {}
                Some(h) => {
                    return Err(wrong(format!(
                        "{}.{} is {} and should be {}: this database was changed by something else",
                        table.name,
                        column.name,
                        h.kind,
                        column.kind.sqlite()
                    )));
                }
                None if column.nullable => {
                    let sql = format!(
                        "ALTER TABLE {} ADD COLUMN {}",
                        schema::quoted(table.name),
                        schema::column(column)
                    );
                    connection.execute_batch(&sql).map_err(|e| store(e.into()))?;
                    tracing::info!(table = table.name, column = column.name, "column added");
                }
                None => {
                    return Err(wrong(format!(
                        "{}.{} is missing and may not be NULL, so it cannot be added to what is there: use a new data directory",
                        table.name, column.name
                    )));
                }
            }
        }
        let foreign = have.iter().find(|h| {
            h.required && h.name != "id" && want.iter().all(|c| !c.name.eq_ignore_ascii_case(&h.name))
        });
        if let Some(column) = foreign {
            return Err(wrong(format!(
                "{}.{} is not known to this version and may not be NULL: open it with the version that wrote it",
                table.name, column.name
            )));
        }
        for sql in schema::create_indexes(table) {
            connection.execute_batch(&sql).map_err(|e| store(e.into()))?;
        }
    }
    Ok(())
}

struct Found {
    name: String,
    kind: String,
    /// NOT NULL without a default.
    required: bool,
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<Found>, StoreError> {
    let mut statement = connection
        .prepare("SELECT name, type, \"notnull\" AND dflt_value IS NULL FROM pragma_table_info(?1)")?;
    let rows = statement.query_map([table], |row| {
        Ok(Found { name: row.get(0)?, kind: row.get(1)?, required: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00.000Z";

    fn fresh() -> Connection {
        let mut connection = Connection::open_in_memory().expect("memory");
        migrate(&mut connection, Path::new("crawl.sqlite"), NOW).expect("migrates");
        connection
    }

    fn dump(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").expect("sql");
        let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).expect("rows");
        rows.filter_map(|row| row.expect("row")).collect()
    }

    /// M06: each step alone, on the schema before it, twice.
    #[test]
    fn every_step_applies_alone_and_again() {
        let mut connection = Connection::open_in_memory().expect("memory");
        for (index, step) in STEPS.iter().enumerate() {
            assert_eq!(step.version, index as i64 + 1, "versions count from 1");
            connection::transaction(&mut connection, |t| apply(t, step, NOW)).expect("applies");
            let once = dump(&connection);
            connection::transaction(&mut connection, |t| apply(t, step, NOW)).expect("applies again");
            assert_eq!(dump(&connection), once);
            assert_eq!(pragma(&connection, "user_version"), Ok(step.version));
        }
        assert_eq!(STEPS.last().map(|s| s.version), Some(SCHEMA_VERSION));
    }

    #[test]
    fn opening_again_changes_nothing() {
        let mut connection = fresh();
        let before = dump(&connection);
        migrate(&mut connection, Path::new("crawl.sqlite"), "later").expect("again");
        assert_eq!(dump(&connection), before);
        let applied: String =
            connection.query_row("SELECT applied_at FROM schema_migrations", [], |r| r.get(0)).expect("row");
        assert_eq!(applied, NOW);
    }

    #[test]
    fn a_missing_nullable_column_is_added_and_a_required_one_is_an_error() {
        let mut connection = fresh();
        connection.execute_batch("ALTER TABLE http_responses DROP COLUMN tls").expect("dropped");
        migrate(&mut connection, Path::new("crawl.sqlite"), NOW).expect("migrates");
        assert!(columns(&connection, "http_responses").expect("columns").iter().any(|c| c.name == "tls"));

        connection.execute_batch("ALTER TABLE http_responses DROP COLUMN url").expect("dropped");
        let error = migrate(&mut connection, Path::new("crawl.sqlite"), NOW).expect_err("refused");
        assert!(error.to_string().contains("http_responses.url is missing"), "{error}");
    }

    /// M06
    #[test]
    fn a_newer_schema_and_a_foreign_database_are_refused() {
        let mut connection = fresh();
        connection.execute_batch("PRAGMA user_version = 999").expect("set");
        let error = migrate(&mut connection, Path::new("crawl.sqlite"), NOW).expect_err("refused");
        assert!(matches!(error, OpenError::Newer { found: 999, known: SCHEMA_VERSION, .. }), "{error}");
        assert!(error.to_string().contains("newer version of Sonde"), "{error}");

        let mut connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch("CREATE TABLE task (task_id INTEGER)").expect("made");
        let error = migrate(&mut connection, Path::new("crawl.sqlite"), NOW).expect_err("refused");
        assert!(error.to_string().contains("not made by Sonde"), "{error}");
    }
}
