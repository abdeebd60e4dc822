//! Table schemas, derived at build time from the record messages; and rows as
//! typed values in the order of their table's columns.

pub mod render;

/// How a column's values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// UTF-8 text.
    Text,
    /// Signed 64-bit integer.
    Integer,
    /// 0 or 1.
    Bool,
    /// 64-bit float.
    Real,
    /// Bytes.
    Bytes,
}

impl ColumnKind {
    /// SQLite's type of it: TEXT, INTEGER, REAL or BLOB.
    pub fn sqlite(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Integer | Self::Bool => "INTEGER",
            Self::Real => "REAL",
            Self::Bytes => "BLOB",
        }
    }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, OpenWPM's where that project has the column.
    pub name: &'static str,
    /// How values are kept.
    pub kind: ColumnKind,
    /// Whether NULL may stand in it.
    pub nullable: bool,
    /// What a text is: "json", "iso8601", "sha256-hex", "url"; "" when free.
    pub format: &'static str,
    /// The field's comment in the contract.
    pub doc: &'static str,
}

/// One table.
#[derive(Debug)]
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// The message's comment in the contract.
    pub doc: &'static str,
    /// Whether its rows flow through ingest streams and carry the stamp's columns.
    pub stamped: bool,
    /// Whether `time_stamp` is derived from the time of capture.
    pub time_stamp: bool,
    /// Primary key of an unstamped table; stamped ones have (visit_id, stream, ordinal).
    pub key: &'static [&'static str],
    /// Column of an unstamped table by which a row with the same key is replaced: the greater stays. "": the first does.
    pub newest: &'static str,
    /// Columns to index, a list an index.
    pub indexes: &'static [&'static [&'static str]],
    /// The message's own columns; [`Table::columns`] gives all.
    pub own: &'static [Column],
}

const TIME_STAMP: Column = Column {
    name: "time_stamp",
    kind: ColumnKind::Text,
    nullable: false,
    format: "iso8601",
    doc: "Time of the event: ISO 8601, milliseconds, Z.",
};

/// How many of the stamp's columns stand before the message's own.
pub const STAMP_BEFORE: usize = 4;

impl Table {
    /// All columns in order: for stamped tables visit_id, browser_id,
    /// event_ordinal, extension_session_uuid, then the message's own, then
    /// time_stamp where the table has it, then attempt, stream, ordinal,
    /// producer, captured_at.
    pub fn columns(&self) -> Vec<&'static Column> {
        let (before, after) = if self.stamped { STAMP.split_at(STAMP_BEFORE) } else { (&[][..], &[][..]) };
        let stamp_time = (self.time_stamp).then_some(&TIME_STAMP);
        before.iter().chain(self.own).chain(stamp_time).chain(after).collect()
    }

    /// The primary key's columns.
    pub fn key_columns(&self) -> &'static [&'static str] {
        if self.stamped { &["visit_id", "stream", "ordinal"] } else { self.key }
    }
}

/// A value of a row, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// Integer, or 0 and 1 for booleans.
    Integer(i64),
    /// Float.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// A message that is a row.
pub trait Row {
    /// Its table.
    fn table(&self) -> &'static Table;
    /// Its own columns' values, in the order of [`Table::own`].
    fn values<'a>(&'a self, put: &mut dyn FnMut(Value<'a>));
}

/// Finds a table by its name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|t| t.name == name)
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));
