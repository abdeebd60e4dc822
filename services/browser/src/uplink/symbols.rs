//! Which JavaScript symbols an attempt has rows of: the other half of the cross-check with the engine's own counters.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{JavascriptCall, RecordList, Truncation};

/// Symbols of the rows that have passed since [`Symbols::gather`].
#[derive(Default)]
pub struct Symbols(OnceLock<Mutex<HashSet<String>>>);

impl Symbols {
    /// From now on rows are looked at. Batches are decoded for it, which nobody else pays for.
    pub fn gather(&self) {
        self.0.get_or_init(Mutex::default);
    }

    /// Those that have a row, or of which a row of `truncations` says why they have none.
    pub fn all(&self) -> HashSet<String> {
        let all = |seen: &Mutex<HashSet<String>>| seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.get().map(all).unwrap_or_default()
    }

    pub(super) fn note(&self, row: &Row) {
        if let Some(seen) = self.0.get() {
            note(seen, row);
        }
    }

    /// `payload`: a batch of the extension's.
    pub(super) fn note_batch(&self, payload: &Bytes) {
        let Some(seen) = self.0.get() else { return };
        match RecordList::decode(payload.clone()) {
            Ok(RecordList { records, calls }) => {
                records.iter().filter_map(|record| record.row.as_ref()).for_each(|row| note(seen, row));
                let templates = calls.iter().flat_map(|calls| &calls.templates);
                templates.for_each(|template| add(seen, &template.symbol));
            }
            // Storage refuses it, and the attempt ends by that.
            Err(error) => tracing::warn!(%error, "a batch of the extension cannot be decoded"),
        }
    }
}

fn note(seen: &Mutex<HashSet<String>>, row: &Row) {
    let symbol = match row {
        Row::Javascript(JavascriptCall { symbol, .. }) => symbol,
        Row::Truncation(Truncation { table_name, subject: Some(subject), .. })
            if table_name == "javascript" =>
        {
            subject
        }
        _ => return,
    };
    add(seen, symbol);
}

fn add(seen: &Mutex<HashSet<String>>, symbol: &str) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if !seen.contains(symbol) {
        seen.insert(symbol.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use sonde_proto::record::v1::{JavascriptCalls, Record};

    use super::*;

    fn call(symbol: &str) -> Row {
        Row::Javascript(JavascriptCall { symbol: symbol.to_owned(), ..JavascriptCall::default() })
    }

    /// I3
    #[test]
    fn symbols_of_rows_and_of_batches_are_gathered_once_somebody_asks() {
        let symbols = Symbols::default();
        symbols.note(&call("early"));
        symbols.gather();
        symbols.note(&call("one"));
        let cut = |table: &str, subject: &str| {
            Row::Truncation(Truncation {
                table_name: table.to_owned(),
                subject: Some(subject.to_owned()),
                ..Truncation::default()
            })
        };
        let rows = [call("two"), cut("javascript", "limited"), cut("http_requests", "other")];
        let records = rows.map(|row| Record { captured_at_us: 1, row: Some(row) }).to_vec();
        let template = JavascriptCall { symbol: "three".to_owned(), ..JavascriptCall::default() };
        let calls = vec![JavascriptCalls { templates: vec![template], ..JavascriptCalls::default() }];
        symbols.note_batch(&RecordList { records, calls }.encode_to_vec().into());
        symbols.note_batch(&Bytes::from_static(b"\xff"));
        assert_eq!(symbols.all(), ["one", "two", "three", "limited"].map(str::to_owned).into());
    }
}
