//! Takes batches, and answers once they are on disk.
//!
//! One thread owns the ingest log and decides, in the order of its queue, what is taken and what is refused
//! ([`attempts::Attempts`], which does no I/O). It commits whatever has queued up while the last commit was on its way.

pub(crate) mod attempts;
pub(crate) mod batch;
mod writer;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tonic::Status;

use sonde_proto::record::v1::SiteVisit;
use sonde_proto::storage::v1::IngestResponse;

use crate::error::StoreError;
pub(crate) use attempts::{Closed, Refusal};
pub(crate) use batch::Batch;
pub(crate) use writer::{Recovered, Writer, refused};

/// What the thread is asked for.
pub(crate) enum Command {
    Append {
        batch: Batch,
        ack: Ack,
    },
    /// Answered with the visit's earlier attempts, which are closed to writers by it and must be sealed.
    Open {
        visit: SiteVisit,
        reply: oneshot::Sender<Result<Vec<Closed>, Rejected>>,
    },
    /// Answered once all that came before is on disk; nothing more is taken for the attempt.
    Close {
        visit_id: i64,
        fence: i64,
        reply: oneshot::Sender<Result<Closed, Rejected>>,
    },
    /// Answered once all that came before is on disk.
    Flush(oneshot::Sender<()>),
    Forget(i64),
    Drained(i64),
    Stop,
}

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) enum Rejected {
    Refused(Refusal),
    Failed(StoreError),
}

impl Rejected {
    pub fn status(&self) -> Status {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Failed(error) => error.status(),
        }
    }
}

/// An answer on its way to a caller, with the place in the caller's window that it frees when delivered.
pub(crate) type Answer = (Result<IngestResponse, Status>, OwnedSemaphorePermit);

/// Where the answer to one batch goes. Dropping it frees the batch's share of the queue's bytes.
pub(crate) struct Ack {
    /// Has room for as many answers as the window has places.
    pub answers: mpsc::Sender<Answer>,
    pub place: OwnedSemaphorePermit,
    /// `None` for answers to batches that never were queued.
    pub bytes: Option<OwnedSemaphorePermit>,
}

impl Ack {
    pub fn send(self, answer: Result<IngestResponse, Status>) {
        // A caller that left sends the batch again, and is then told that it is there.
        if self.answers.try_send((answer, self.place)).is_err() {
            tracing::debug!("the caller left before its ack");
        }
    }
}
