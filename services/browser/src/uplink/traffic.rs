//! HTTP rows of an attempt, kept for whoever wants them before they can be read from storage.

use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use sonde_proto::record::v1::RecordList;
use sonde_proto::record::v1::record::Row;

/// Rows that are kept.
const MOST: usize = 20_000;

/// The HTTP rows that have passed since [`Traffic::gather`], each with its time in microseconds since the epoch.
#[derive(Default)]
pub struct Traffic(OnceLock<Mutex<Gathered>>);

#[derive(Debug, Clone, Default)]
pub struct Gathered {
    pub rows: Vec<(i64, Row)>,
    /// That there was no room for.
    pub dropped: u64,
}

impl Traffic {
    /// From now on rows are looked at. Batches are decoded for it, which nobody else pays for.
    pub fn gather(&self) {
        self.0.get_or_init(Mutex::default);
    }

    /// `None` where nobody has asked for them.
    pub fn all(&self) -> Option<Gathered> {
        self.0.get().map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn note(&self, at_us: i64, row: &Row) {
        let Some(kept) = self.0.get() else { return };
        if !matches!(
            row,
            Row::HttpRequest(_) | Row::HttpResponse(_) | Row::HttpRedirect(_) | Row::HttpFailure(_)
        ) {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.rows.len() < MOST {
            kept.rows.push((at_us, row.clone()));
        } else {
            kept.dropped += 1;
        }
    }

    /// `payload`: a batch of the extension's. One that cannot be decoded is refused by storage, and ends the attempt.
    pub(super) fn note_batch(&self, payload: &Bytes) {
        if self.0.get().is_none() {
            return;
        }
        let Ok(RecordList { records, .. }) = RecordList::decode(payload.clone()) else { return };
        for record in &records {
            if let Some(row) = &record.row {
                self.note(record.captured_at_us, row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sonde_proto::record::v1::{HttpRequest, JavascriptCall, Record};

    use super::*;

    #[test]
    fn http_rows_of_rows_and_batches_are_kept_once_somebody_asks() {
        let traffic = Traffic::default();
        let request = || Row::HttpRequest(HttpRequest::default());
        traffic.note(1, &request());
        assert!(traffic.all().is_none());
        traffic.gather();
        traffic.note(2, &request());
        traffic.note(3, &Row::Javascript(JavascriptCall::default()));
        let records = vec![Record { captured_at_us: 4, row: Some(request()) }];
        traffic.note_batch(&RecordList { records, calls: Vec::new() }.encode_to_vec().into());
        let times: Vec<i64> = traffic.all().unwrap().rows.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [2, 4]);
        for at in 0..MOST as i64 {
            traffic.note(at, &request());
        }
        assert_eq!(traffic.all().unwrap().dropped, 2);
    }
}
