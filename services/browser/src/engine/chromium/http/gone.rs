//! What has ended, so that late events do not begin it anew.

use std::collections::{HashSet, VecDeque};

/// Ended requests remembered, so that late events do not make them again.
const MAX_GONE: usize = 50_000;

/// Remembers the newest ids.
#[derive(Debug, Default)]
pub(super) struct Gone {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Gone {
    pub fn add(&mut self, id: String) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_GONE
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }
}
