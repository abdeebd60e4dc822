//! Visits in a row.
use std::time::{Duration, Instant};

use sonde_proto::visit::v1::{GetCommand, Instruments, Outcome, command::Step};
use sonde_tests::session::Slot;

/// What one of so many visits of a page takes.
///
/// # Panics
/// When one does not end well.
pub async fn visits(slot: &mut Slot, url: &str, instruments: &Instruments, visits: u32) -> Duration {
    let began = Instant::now();
    for _ in 0..visits {
        let get = Step::Get(GetCommand::default());
        let result = slot.visit(url, instruments.clone(), vec![get]).await;
        assert_eq!(result.outcome(), Outcome::Ok, "{url}: {:?}", result.failure);
    }
    began.elapsed() / visits
}
