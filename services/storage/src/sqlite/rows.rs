//! Rows into their tables: one prepared statement a table, values bound straight from the message.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement};
use sonde_proto::Entry;
use sonde_proto::record::v1::{Producer, SiteVisit};
use sonde_proto::schema::{Row, Table, Value};
use sonde_runtime::clock::rfc3339_ms;

use super::schema;
use crate::error::StoreError;

/// What all rows of one stream of one attempt share.
pub(super) struct Stamp<'a> {
    pub visit_id: i64,
    pub browser_id: u32,
    pub attempt: u32,
    pub stream: u32,
    pub producer: Producer,
    /// "" for none.
    pub session: &'a str,
}

impl<'a> Stamp<'a> {
    pub fn of(visit: &SiteVisit, stream: u32, producer: Producer, session: &'a str) -> Self {
        let SiteVisit { visit_id, browser_id, attempt, .. } = *visit;
        Self { visit_id, browser_id, attempt, stream, producer, session }
    }
}

/// Inserts rows of any table.
pub(super) struct RowWriter<'c> {
    connection: &'c Connection,
    /// Rows whose key is there are left as they are, or replaced by newer ones; otherwise that is an error.
    or_ignore: bool,
    /// A handful of tables: a scan beats a hash.
    statements: Vec<(&'static Table, Statement<'c>)>,
    /// The millisecond of the last record, and its text: thousands of calls share one.
    time: (i64, String),
}

impl<'c> RowWriter<'c> {
    pub fn new(connection: &'c Connection, or_ignore: bool) -> Self {
        Self { connection, or_ignore, statements: Vec::new(), time: (0, rfc3339_ms(0)) }
    }

    /// Inserts a row of an unstamped table; whether it was new, or newer.
    pub fn ledger(&mut self, row: &impl Row) -> Result<bool, StoreError> {
        let at = self.prepared(row.table())?;
        let mut binder = Binder::new(&mut self.statements[at].1);
        row.values(&mut |value| binder.put(value));
        binder.execute()
    }

    /// Inserts a record; whether it was new.
    pub fn record(
        &mut self,
        stamp: &Stamp<'_>,
        event_ordinal: i64,
        ordinal: i64,
        record: &Entry,
    ) -> Result<bool, StoreError> {
        let table = record.table();
        let ms = record.captured_at_us.div_euclid(1000);
        if self.time.0 != ms {
            self.time = (ms, rfc3339_ms(record.captured_at_us));
        }
        let at = self.prepared(table)?;
        let mut binder = Binder::new(&mut self.statements[at].1);
        binder.put(Value::Integer(stamp.visit_id));
        binder.put(Value::Integer(i64::from(stamp.browser_id)));
        binder.put(Value::Integer(event_ordinal));
        binder.put(if stamp.session.is_empty() { Value::Null } else { Value::Text(stamp.session) });
        record.values(&mut |value| binder.put(value));
        if table.time_stamp {
            binder.put(Value::Text(&self.time.1));
        }
        binder.put(Value::Integer(i64::from(stamp.attempt)));
        binder.put(Value::Integer(i64::from(stamp.stream)));
        binder.put(Value::Integer(ordinal));
        binder.put(Value::Text(stamp.producer.word()));
        binder.put(Value::Integer(record.captured_at_us));
        binder.execute()
    }

    /// Place of the table's statement.
    fn prepared(&mut self, table: &'static Table) -> Result<usize, StoreError> {
        Ok(match self.statements.iter().position(|(known, _)| std::ptr::eq(*known, table)) {
            Some(at) => at,
            None => {
                let statement = self.connection.prepare(&schema::insert(table, self.or_ignore))?;
                self.statements.push((table, statement));
                self.statements.len() - 1
            }
        })
    }
}

struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    next: usize,
    failed: Option<rusqlite::Error>,
}

impl<'s, 'c> Binder<'s, 'c> {
    fn new(statement: &'s mut Statement<'c>) -> Self {
        Self { statement, next: 1, failed: None }
    }

    fn put(&mut self, value: Value<'_>) {
        self.bind(ToSqlOutput::Borrowed(match value {
            Value::Null => ValueRef::Null,
            Value::Integer(i) => ValueRef::Integer(i),
            Value::Real(r) => ValueRef::Real(r),
            Value::Text(t) => ValueRef::Text(t.as_bytes()),
            Value::Bytes(b) => ValueRef::Blob(b),
        }));
    }

    fn bind(&mut self, value: ToSqlOutput<'_>) {
        if self.failed.is_none()
            && let Err(error) = self.statement.raw_bind_parameter(self.next, value)
        {
            self.failed = Some(error);
        }
        self.next += 1;
    }

    fn execute(self) -> Result<bool, StoreError> {
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok(self.statement.raw_execute()? > 0),
        }
    }
}
