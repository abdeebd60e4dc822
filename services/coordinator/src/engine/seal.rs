//! Lost attempts are closed to writers at storage before their visits go on.
use sonde_proto::{
    storage::v1::SealAttemptRequest,
    visit::v1::{Failure, FailureKind, Outcome, RetryAdvice},
};
use sonde_runtime::backoff::Backoff;
use tonic::Code;

use super::{Engine, Msg};

const RETRY: Backoff = Backoff::new(std::time::Duration::from_millis(100), std::time::Duration::from_secs(2));

/// Seals under way at once.
pub(super) const PARALLEL: usize = 16;

pub(crate) fn lost_failure(message: String, fingerprint: &str) -> Failure {
    Failure {
        kind: FailureKind::Lost.into(),
        message,
        retry: RetryAdvice::Same.into(),
        fingerprint: fingerprint.into(),
        ..Default::default()
    }
}

impl Engine {
    /// Answered by [`Msg::Sealed`], however long storage is away: until then the visit counts as running.
    pub(super) fn seal_lost(&mut self, visit_id: i64, reason: &'static str, failure: Failure) {
        let Some(running) = self.running.get_mut(&visit_id).filter(|r| !r.sealing) else { return };
        running.sealing = true;
        tracing::warn!(
            visit_id,
            visit_no = running.visit_no,
            reason,
            "an attempt is lost: {}",
            failure.message
        );
        let request = SealAttemptRequest {
            visit_id,
            fence: running.fence,
            outcome: Outcome::Crashed.into(),
            incomplete_reason: reason.into(),
            ..Default::default()
        };
        let (mut storage, handle) = (self.deps.storage.clone(), self.handle.clone());
        let (permits, stop) = (self.seals.clone(), self.deps.stop.clone());
        tokio::spawn(async move {
            let seal = async {
                let _permit = permits.acquire_owned().await;
                let mut failures = 0;
                loop {
                    match storage.seal(request.clone()).await {
                        Ok(seal) => return Some(seal),
                        // It was never opened, or a later attempt closed it: nothing is left to seal.
                        Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {
                            return None;
                        }
                        Err(status) => {
                            tracing::warn!(visit_id, code = ?status.code(), "not sealed yet: {}", status.message());
                        }
                    }
                    tokio::time::sleep(RETRY.next(failures, rand::random())).await;
                    failures = failures.saturating_add(1);
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                seal = seal => handle.send(Msg::Sealed { visit_id, seal, reason, failure }).await,
            }
        });
    }
}
