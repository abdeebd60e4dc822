//! The records of a batch, one by one, in the order of their ordinals.

use std::sync::Arc;
use std::vec;

use crate::record::v1::{JavascriptCall, JavascriptCalls, Record, RecordList, record};
use crate::schema::{Row, Table, Value};

/// Why a [`RecordList`] is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidList {
    /// One without a row.
    #[error("record {0} of the payload has no row, or one of a table that this version lacks")]
    NoRow(usize),
    /// Calls whose lists do not fit together.
    #[error("calls {0} of the payload are {1}")]
    Calls(usize, &'static str),
}

impl RecordList {
    /// How many records it holds.
    pub fn count(&self) -> usize {
        self.records.len() + self.calls.iter().map(|calls| calls.template.len()).sum::<usize>()
    }

    /// Whether [`RecordList::entries`] can tell it.
    pub fn check(&self) -> Result<(), InvalidList> {
        if let Some(at) = self.records.iter().position(|record| record.row.is_none()) {
            return Err(InvalidList::NoRow(at));
        }
        for (at, calls) in self.calls.iter().enumerate() {
            if calls.template.len() != calls.after_us.len() {
                return Err(InvalidList::Calls(at, "without a time for each template"));
            }
            let there = calls.templates.len();
            if calls.template.iter().any(|&template| usize::try_from(template).map_or(true, |t| t >= there)) {
                return Err(InvalidList::Calls(at, "of templates that are not there"));
            }
        }
        Ok(())
    }

    /// Its records, in order.
    ///
    /// # Errors
    /// Those of [`RecordList::check`].
    pub fn entries(self) -> Result<Entries, InvalidList> {
        self.check()?;
        Ok(Entries { records: self.records.into_iter(), calls: self.calls.into_iter(), run: None })
    }
}

/// The records of a list; from [`RecordList::entries`].
#[derive(Debug, Default)]
pub struct Entries {
    records: vec::IntoIter<Record>,
    calls: vec::IntoIter<JavascriptCalls>,
    /// The calls being told, and the next of them.
    run: Option<(Arc<JavascriptCalls>, usize)>,
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if let Some(Record { captured_at_us, row }) = self.records.next() {
            return row.map(|row| Entry { captured_at_us, kind: Kind::Row(row) });
        }
        loop {
            if let Some((calls, at)) = &mut self.run
                && let Some((template, after)) = calls.template.get(*at).zip(calls.after_us.get(*at))
            {
                let place = i64::try_from(*at).unwrap_or(i64::MAX);
                let entry = Entry {
                    captured_at_us: calls.captured_at_us.saturating_add(*after),
                    kind: Kind::Call {
                        template: *template as usize,
                        page_scoped_event_ordinal: calls
                            .first_page_scoped_event_ordinal
                            .saturating_add(place),
                        calls: calls.clone(),
                    },
                };
                *at += 1;
                return Some(entry);
            }
            self.run = Some((Arc::new(self.calls.next()?), 0));
        }
    }
}

/// One record of a list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Time of the event: microseconds since the Unix epoch.
    pub captured_at_us: i64,
    kind: Kind,
}

// Most are one or the other throughout a list: boxing rows would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum Kind {
    Row(record::Row),
    Call { calls: Arc<JavascriptCalls>, template: usize, page_scoped_event_ordinal: i64 },
}

impl From<Entry> for Record {
    fn from(Entry { captured_at_us, kind }: Entry) -> Self {
        let row = match kind {
            Kind::Row(row) => row,
            Kind::Call { calls, template, page_scoped_event_ordinal } => {
                let template = calls.templates[template].clone();
                record::Row::Javascript(JavascriptCall { page_scoped_event_ordinal, ..template })
            }
        };
        Self { captured_at_us, row: Some(row) }
    }
}

/// Place of `page_scoped_event_ordinal` among the columns of `javascript` itself.
const ORDINAL: usize = 1;

impl Row for Entry {
    fn table(&self) -> &'static Table {
        match &self.kind {
            Kind::Row(row) => row.table(),
            Kind::Call { calls, template, .. } => calls.templates[*template].table(),
        }
    }

    fn values<'a>(&'a self, put: &mut dyn FnMut(Value<'a>)) {
        match &self.kind {
            Kind::Row(row) => row.values(put),
            Kind::Call { calls, template, page_scoped_event_ordinal } => {
                let mut place = 0;
                calls.templates[*template].values(&mut |value| {
                    put(if place == ORDINAL { Value::Integer(*page_scoped_event_ordinal) } else { value });
                    place += 1;
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::v1::HttpFailure;

    fn call(symbol: &str) -> JavascriptCall {
        JavascriptCall { symbol: symbol.to_owned(), value: Some("v".to_owned()), ..Default::default() }
    }

    fn list() -> RecordList {
        let failure = record::Row::HttpFailure(HttpFailure::default());
        let first = JavascriptCalls {
            templates: vec![call("a"), call("b")],
            template: vec![1, 0, 1],
            after_us: vec![0, -5, 7],
            first_page_scoped_event_ordinal: 40,
            captured_at_us: 1000,
        };
        let second = JavascriptCalls {
            templates: vec![call("c")],
            template: vec![0],
            after_us: vec![0],
            ..first.clone()
        };
        RecordList {
            records: vec![Record { captured_at_us: 3, row: Some(failure) }],
            calls: vec![first, JavascriptCalls::default(), second],
        }
    }

    fn told(row: &dyn Row) -> Vec<String> {
        let mut values = Vec::new();
        row.values(&mut |value| values.push(format!("{value:?}")));
        values
    }

    /// M07, P2: calls that share a template are the rows that they would be one by one.
    #[test]
    fn calls_are_told_one_by_one() {
        let list = list();
        assert_eq!(list.count(), 5);
        let entries: Vec<Entry> = list.entries().unwrap().collect();
        let times: Vec<i64> = entries.iter().map(|entry| entry.captured_at_us).collect();
        assert_eq!(times, [3, 1000, 995, 1007, 1000]);
        let mut calls = Vec::new();
        for entry in entries {
            let values = told(&entry);
            assert_eq!(entry.table().own.len(), values.len());
            let record = Record::from(entry);
            let row = record.row.unwrap();
            assert_eq!(told(&row), values);
            if let record::Row::Javascript(call) = row {
                calls.push((call.symbol, call.page_scoped_event_ordinal));
            }
        }
        let expected = [("b", 40), ("a", 41), ("b", 42), ("c", 40)];
        assert_eq!(calls, expected.map(|(symbol, ordinal)| (symbol.to_owned(), ordinal)));
        let table = call("a").table();
        assert_eq!(table.own[ORDINAL].name, "page_scoped_event_ordinal");
    }

    /// What does not fit together is refused, not guessed.
    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let broken = |change: fn(&mut RecordList)| {
            let mut list = list();
            change(&mut list);
            list.entries().unwrap_err()
        };
        assert_eq!(broken(|l| l.records[0].row = None), InvalidList::NoRow(0));
        assert!(matches!(broken(|l| l.calls[0].template[1] = 2), InvalidList::Calls(0, _)));
        assert!(matches!(broken(|l| l.calls[2].after_us.clear()), InvalidList::Calls(2, _)));
    }
}
