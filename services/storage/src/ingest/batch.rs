use bytes::Bytes;
use prost::Message;
use sonde_proto::record::v1::{Producer, RecordList};
use sonde_proto::storage::v1::IngestRequest;
use sonde_proto::{Fence, VisitId};

use super::Refusal;

/// Most records in a batch.
pub(crate) const MAX_COUNT: u32 = 4096;
/// Most bytes of a batch's payload.
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;
const MAX_ORDINAL: i64 = 1 << 53;

/// A batch whose fields and payload were checked.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// `None` for records of no visit.
    pub attempt: Option<(VisitId, Fence)>,
    pub stream: u32,
    pub producer: Producer,
    /// "" for other producers than the extension.
    pub session: String,
    pub first: i64,
    pub last: i64,
    /// An encoded `RecordList` of `first..=last`.
    pub payload: Bytes,
}

impl Batch {
    pub fn visit_id(&self) -> i64 {
        self.attempt.map_or(VisitId::NONE, |(visit_id, _)| visit_id.get())
    }

    pub fn count(&self) -> u64 {
        (self.last - self.first + 1).unsigned_abs()
    }
}

impl TryFrom<IngestRequest> for Batch {
    type Error = Refusal;

    fn try_from(request: IngestRequest) -> Result<Self, Refusal> {
        let wrong = |what: String| Refusal::Invalid(what);
        let attempt = if request.visit_id == VisitId::NONE {
            None
        } else {
            let visit_id = VisitId::try_from(request.visit_id).map_err(|e| wrong(e.to_string()))?;
            Some((visit_id, Fence::try_from(request.fence).map_err(|e| wrong(e.to_string()))?))
        };
        let producer = match Producer::try_from(request.producer) {
            Ok(Producer::Unspecified) | Err(_) => {
                return Err(wrong(format!("producer {} is none", request.producer)));
            }
            Ok(producer) => producer,
        };
        if request.extension_session_uuid.len() > 64 {
            return Err(wrong("extension_session_uuid is longer than 64 bytes".into()));
        }
        if !(0..MAX_ORDINAL).contains(&request.first_ordinal) {
            return Err(wrong(format!("first_ordinal {} is not 0 to 2^53", request.first_ordinal)));
        }
        if !(1..=MAX_COUNT).contains(&request.count) {
            return Err(wrong(format!("count {} is not 1 to {MAX_COUNT}", request.count)));
        }
        if request.payload.len() > MAX_PAYLOAD {
            return Err(wrong(format!(
                "payload of {} bytes is longer than {MAX_PAYLOAD}",
                request.payload.len()
            )));
        }
        check_payload(&request.payload, request.count).map_err(wrong)?;
        Ok(Self {
            attempt,
            stream: request.stream,
            producer,
            session: request.extension_session_uuid,
            first: request.first_ordinal,
            last: request.first_ordinal + i64::from(request.count) - 1,
            payload: request.payload,
        })
    }
}

fn check_payload(payload: &Bytes, count: u32) -> Result<(), String> {
    let list = RecordList::decode(payload.clone()).map_err(|e| format!("payload does not decode: {e}"))?;
    if list.count() != count as usize {
        return Err(format!("payload holds {} records and count says {count}", list.count()));
    }
    list.check().map_err(|e| e.to_string())
}
