use bytes::Bytes;
use proptest::prelude::*;
use sonde_proto::record::v1::Producer;
use sonde_proto::{Fence, VisitId};

use super::*;

fn visit(visit_id: i64, fence: i64) -> SiteVisit {
    SiteVisit { visit_id, crawl_id: "c".into(), visit_no: 1, attempt: 1, fence, ..Default::default() }
}

fn batch(visit_id: i64, fence: i64, first: i64, last: i64) -> Batch {
    let id = VisitId::try_from(visit_id).expect("an id");
    Batch {
        attempt: Some((id, Fence::try_from(fence).expect("a fence"))),
        stream: 1,
        producer: Producer::Devtools,
        session: String::new(),
        first,
        last,
        payload: Bytes::new(),
    }
}

proptest! {
    /// R6: over any order of opens, batches and seals of one visit, nothing is taken from an attempt once a higher
    /// fence was seen, and fences only grow.
    #[test]
    fn a_lower_fence_never_writes(steps in prop::collection::vec((0u8..4, 1i64..8), 0..60)) {
        let mut attempts = Attempts::default();
        let mut known = Known::default();
        let mut highest = 0;
        for (step, fence) in steps {
            let v = visit(fence, fence);
            match step {
                0 => {
                    let taken = attempts.open(&v, &known).is_ok();
                    prop_assert!(!taken || fence >= highest);
                    if taken {
                        highest = fence;
                    }
                }
                1 => {
                    let taken = attempts.append(&batch(fence, fence, 0, 9)).is_ok();
                    prop_assert!(!taken || fence == highest);
                }
                2 => {
                    let closed = attempts.close(fence, fence, &known).is_ok();
                    prop_assert!(!closed || fence == highest);
                    prop_assert!(attempts.append(&batch(fence, fence, 0, 9)).is_err());
                }
                _ => {
                    // Sealed: from now on only the tables know of it.
                    if attempts.visit_of(fence).is_some() && attempts.close(fence, highest, &known).is_ok() {
                        attempts.forget(fence);
                        known.highest_fence = known.highest_fence.max(Some(fence));
                    }
                }
            }
        }
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let mut attempts = Attempts::default();
    assert_eq!(attempts.append(&batch(1, 1, 0, 0)), Err(Refusal::NotOpen { visit_id: 1 }));
    attempts.open(&visit(1, 5), &Known::default()).expect("opens");
    assert!(matches!(attempts.append(&batch(1, 4, 0, 0)), Err(Refusal::WrongFence { .. })));
    let taken = attempts.open(&SiteVisit { visit_no: 2, ..visit(1, 5) }, &Known::default());
    assert!(matches!(taken, Err(Refusal::VisitIdTaken { visit_id: 1 })));
    let (new, closed) = attempts.open(&visit(2, 6), &Known::default()).expect("opens");
    assert!(new && closed.len() == 1 && closed[0].visit.visit_id == 1);
    let stale = attempts.append(&batch(1, 5, 0, 0)).expect_err("refused");
    assert!(stale.to_string().contains("stop writing"), "{stale}");
    // Sealed and forgotten: its id opens nothing again.
    let known = Known { highest_fence: Some(5), attempt: Some(("c".into(), 1, 5)), sealed: true };
    attempts.forget(1);
    assert!(matches!(attempts.open(&visit(1, 5), &known), Err(Refusal::Sealed { visit_id: 1 })));
}
