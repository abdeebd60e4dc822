//! The un-acked end of one stream: numbers records, cuts batches, and keeps them until storage has acked. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::encoding::message;
use sonde_proto::record::v1::{Producer, Record};
use tokio::time::Instant;

/// Records of one batch.
pub(super) const BATCH_RECORDS: u32 = 256;
/// Payload at which a batch is cut early.
const BATCH_BYTES: usize = 1 << 20;
/// Longest time a record waits for company.
pub(super) const LINGER: Duration = Duration::from_millis(20);
/// Field number of `RecordList.records`.
const RECORDS: u32 = 1;

/// Records on their way, numbered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Batch {
    pub first: i64,
    pub count: u32,
    pub payload: Bytes,
}

impl Batch {
    fn last(&self) -> i64 {
        self.first + i64::from(self.count) - 1
    }
}

/// How much something holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub records: u64,
    pub bytes: u64,
}

/// One stream of one attempt.
#[derive(Debug)]
pub(super) struct Buffer {
    pub producer: Producer,
    /// UUID of the extension's session; "" for other producers.
    pub session_uuid: String,
    next: i64,
    open: BytesMut,
    open_records: u32,
    opened_at: Option<Instant>,
    unacked: VecDeque<Batch>,
    /// How many of `unacked`, from the front, went out on the present connection.
    sent: usize,
    acked: i64,
    held: Held,
}

impl Buffer {
    pub fn new(producer: Producer, session_uuid: String) -> Self {
        Self {
            producer,
            session_uuid,
            next: 0,
            open: BytesMut::new(),
            open_records: 0,
            opened_at: None,
            unacked: VecDeque::new(),
            sent: 0,
            acked: -1,
            held: Held::default(),
        }
    }

    /// Numbers a record. Says whether the sender has to look: a batch was begun or cut.
    pub fn push(&mut self, record: &Record, now: Instant) -> bool {
        let before = self.open.len();
        message::encode(RECORDS, record, &mut self.open);
        self.held.records += 1;
        self.held.bytes += (self.open.len() - before) as u64;
        self.next += 1;
        self.open_records += 1;
        self.opened_at.get_or_insert(now);
        let full = self.open_records >= BATCH_RECORDS || self.open.len() >= BATCH_BYTES;
        if full {
            self.cut();
        }
        full || self.open_records == 1
    }

    /// Takes a batch that its producer numbered, unless all of it came before.
    pub fn forward(&mut self, first: i64, count: u32, payload: Bytes) {
        let batch = Batch { first, count, payload };
        if batch.last() < self.next {
            return;
        }
        self.next = batch.last() + 1;
        self.held.records += u64::from(count);
        self.held.bytes += batch.payload.len() as u64;
        self.unacked.push_back(batch);
    }

    /// Ends the batch that is being filled.
    pub fn cut(&mut self) {
        if self.open_records == 0 {
            return;
        }
        let first = self.next - i64::from(self.open_records);
        let payload = self.open.split().freeze();
        self.unacked.push_back(Batch { first, count: self.open_records, payload });
        self.open_records = 0;
        self.opened_at = None;
    }

    /// When the batch that is being filled has waited long enough.
    pub fn due_at(&self) -> Option<Instant> {
        self.opened_at.map(|at| at + LINGER)
    }

    /// The next batch for the present connection; counts as sent.
    pub fn take_unsent(&mut self) -> Option<Batch> {
        let batch = self.unacked.get(self.sent)?.clone();
        self.sent += 1;
        Some(batch)
    }

    /// After a loss of the connection: everything un-acked goes out again.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Storage has every ordinal up to `through`. Gives what was let go.
    pub fn ack(&mut self, through: i64) -> Held {
        let mut gone = Held::default();
        while let Some(batch) = self.unacked.front().filter(|b| b.last() <= through) {
            gone.records += u64::from(batch.count);
            gone.bytes += batch.payload.len() as u64;
            self.unacked.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        self.held.records -= gone.records;
        self.held.bytes -= gone.bytes;
        self.acked = self.acked.max(through);
        gone
    }

    /// Lets go of everything: storage will not take it.
    pub fn abandon(&mut self) {
        self.unacked.clear();
        self.open.clear();
        self.open_records = 0;
        self.opened_at = None;
        self.sent = 0;
        self.held = Held::default();
    }

    pub fn held(&self) -> Held {
        self.held
    }

    pub fn acked(&self) -> i64 {
        self.acked
    }

    /// -1 when it carried nothing.
    pub fn last_ordinal(&self) -> i64 {
        self.next - 1
    }

    pub fn is_flushed(&self) -> bool {
        self.open_records == 0 && self.unacked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use sonde_proto::record::v1::RecordList;

    use super::*;

    fn record(at: i64) -> Record {
        Record { captured_at_us: at, row: None }
    }

    fn service() -> Buffer {
        Buffer::new(Producer::Service, String::new())
    }

    /// R3: ordinals are contiguous from 0 whatever the batches are.
    #[tokio::test]
    async fn batches_are_contiguous_and_decode() {
        let mut buffer = service();
        let now = Instant::now();
        for at in 0..600 {
            buffer.push(&record(at), now);
        }
        buffer.cut();
        let batches: Vec<Batch> = std::iter::from_fn(|| buffer.take_unsent()).collect();
        let spans: Vec<(i64, u32)> = batches.iter().map(|b| (b.first, b.count)).collect();
        assert_eq!(spans, [(0, 256), (256, 256), (512, 88)]);
        let list = RecordList::decode(batches[2].payload.clone()).unwrap();
        assert_eq!(list.records.len(), 88);
        assert_eq!(list.records[0].captured_at_us, 512);
        assert_eq!(buffer.last_ordinal(), 599);
    }

    /// R3: what is not acked goes out again, what is acked does not.
    #[tokio::test]
    async fn a_rewind_repeats_only_what_is_not_acked() {
        let mut buffer = service();
        for at in 0..512 {
            buffer.push(&record(at), Instant::now());
        }
        assert_eq!(std::iter::from_fn(|| buffer.take_unsent()).count(), 2);
        assert_eq!(buffer.ack(255).records, 256);
        buffer.rewind();
        assert_eq!(buffer.take_unsent().unwrap().first, 256);
        assert!(!buffer.is_flushed());
        buffer.ack(511);
        assert!(buffer.is_flushed());
        assert_eq!(buffer.held(), Held::default());
    }

    #[test]
    fn a_forwarded_batch_is_kept_once() {
        let mut buffer = Buffer::new(Producer::Extension, "u".into());
        let payload = Bytes::from_static(b"x");
        buffer.forward(0, 10, payload.clone());
        buffer.forward(0, 10, payload.clone());
        buffer.forward(10, 1, payload);
        assert_eq!(buffer.last_ordinal(), 10);
        assert_eq!(buffer.held(), Held { records: 11, bytes: 2 });
    }
}
