//! The highest fence seen for each visit: a lower one comes from a caller that was replaced (R6).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Visits remembered; the oldest are forgotten (storage still refuses their stale fences).
const REMEMBERED: usize = 8192;

type Visit = (String, i64);

/// Shared by all slots of a service. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fences(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    highest: HashMap<Visit, i64>,
    order: VecDeque<Visit>,
}

impl Fences {
    /// Takes a fence of a visit; `Err` with the highest seen when it is lower or the same.
    pub fn admit(&self, crawl_id: &str, visit_no: i64, fence: i64) -> Result<(), i64> {
        let visit = (crawl_id.to_owned(), visit_no);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.highest.get_mut(&visit) {
            Some(highest) if *highest >= fence => return Err(*highest),
            Some(highest) => *highest = fence,
            None => {
                state.highest.insert(visit.clone(), fence);
                state.order.push_back(visit);
                if state.order.len() > REMEMBERED
                    && let Some(oldest) = state.order.pop_front()
                {
                    state.highest.remove(&oldest);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R6
    #[test]
    fn a_fence_is_admitted_once_and_never_a_lower_one() {
        let fences = Fences::default();
        assert_eq!(fences.admit("c", 1, 5), Ok(()));
        assert_eq!(fences.admit("c", 1, 5), Err(5));
        assert_eq!(fences.admit("c", 1, 4), Err(5));
        assert_eq!(fences.admit("c", 2, 1), Ok(()));
        assert_eq!(fences.admit("c", 1, 6), Ok(()));
    }
}
