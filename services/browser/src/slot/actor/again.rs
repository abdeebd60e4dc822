//! What ends an attempt early, and what does not: a browser that was gone before anything was done on it.

use super::Actor;
use crate::attempt::{Interrupt, Supply};

impl Actor {
    /// The first reason counts; that its browser is gone may be found to be no reason, and yields to others.
    pub(super) fn interrupt(&mut self, why: Interrupt) {
        let Some(running) = &self.running else { return };
        running.interrupt.send_if_modified(|present| {
            let open = matches!(present, None | Some(Interrupt::BrowserGone(_)));
            if open {
                *present = Some(why);
            }
            open
        });
    }

    /// Gives an attempt the next browser in the place of one that is gone.
    pub(super) fn another(&mut self, visit_id: i64) {
        let Some(running) = self.running.as_mut().filter(|r| r.visit_id == visit_id) else { return };
        tracing::info!(visit_id, "its browser was gone before anything was done on it: it gets the next one");
        running.life = None;
        running.supply.send_replace(Supply::Coming(None));
        self.provide();
        // Last: from here on it looks for its browser again.
        let Some(running) = &self.running else { return };
        running.interrupt.send_if_modified(|present| {
            present.take_if(|why| matches!(why, Interrupt::BrowserGone(_))).is_some()
        });
    }
}
