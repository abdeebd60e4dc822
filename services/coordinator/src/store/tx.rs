//! One job's view of the writing transaction. Counts and sequence numbers of crawls are gathered and written once.
use std::collections::BTreeMap;

use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};
use sonde_proto::{
    coordinator::v1::{CrawlEvent, crawl_event},
    visit::v1::Outcome,
};

use super::{CrawlKey, Shown, StoreError};
use crate::time::timestamp;

#[derive(Default)]
pub(super) struct Delta {
    crawl_id: String,
    sequence: i64,
    total: i64,
    queued: i64,
    running: i64,
    attempts: i64,
    outcomes: [i64; 8],
    /// `Some(0)` resets the streak, `Some(n)` sets it.
    streak: Option<u32>,
    known_streak: u32,
}

/// See the module's text.
pub(crate) struct Tx<'c> {
    pub(super) conn: &'c Connection,
    deltas: BTreeMap<CrawlKey, Delta>,
    events: Vec<(CrawlKey, CrawlEvent)>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(conn: &'c Connection) -> Self {
        Self { conn, deltas: BTreeMap::new(), events: Vec::new() }
    }

    pub(super) fn take_events(&mut self) -> Vec<(CrawlKey, CrawlEvent)> {
        std::mem::take(&mut self.events)
    }

    /// For reads within the transaction. Counts of crawls are those before it until [`Tx::flush`].
    pub fn conn(&self) -> &Connection {
        self.conn
    }

    fn delta(&mut self, crawl: CrawlKey) -> Result<&mut Delta, StoreError> {
        if !self.deltas.contains_key(&crawl) {
            let mut known = self
                .conn
                .prepare_cached("SELECT crawl_id, last_sequence, streak FROM crawls WHERE key = ?1")?;
            let found = known
                .query_row([crawl.0], |row| {
                    let known_streak = row.get(2)?;
                    Ok(Delta {
                        crawl_id: row.get(0)?,
                        sequence: row.get(1)?,
                        known_streak,
                        ..Default::default()
                    })
                })
                .optional()?;
            let delta =
                found.ok_or_else(|| StoreError::Damaged(format!("crawl {}, which is gone,", crawl.0)))?;
            self.deltas.insert(crawl, delta);
        }
        Ok(self.deltas.entry(crawl).or_default())
    }

    /// Appends a durable event; watchers get it after the commit.
    pub fn event(
        &mut self,
        crawl: CrawlKey,
        at_us: i64,
        event: crawl_event::Event,
    ) -> Result<(), StoreError> {
        let delta = self.delta(crawl)?;
        delta.sequence += 1;
        let event = CrawlEvent {
            sequence: delta.sequence,
            crawl_id: delta.crawl_id.clone(),
            at: Some(timestamp(at_us)),
            event: Some(event),
        };
        self.conn
            .prepare_cached("INSERT INTO events (crawl, sequence, payload) VALUES (?1, ?2, ?3)")?
            .execute(params![crawl.0, event.sequence, event.encode_to_vec()])?;
        self.events.push((crawl, event));
        Ok(())
    }

    pub(super) fn count_added(&mut self, crawl: CrawlKey, n: i64) -> Result<(), StoreError> {
        let delta = self.delta(crawl)?;
        delta.total += n;
        delta.queued += n;
        Ok(())
    }

    pub(super) fn count_leased(&mut self, crawl: CrawlKey) -> Result<(), StoreError> {
        let delta = self.delta(crawl)?;
        delta.queued -= 1;
        delta.running += 1;
        delta.attempts += 1;
        Ok(())
    }

    pub(super) fn count_requeued(&mut self, crawl: CrawlKey) -> Result<(), StoreError> {
        let delta = self.delta(crawl)?;
        delta.queued += 1;
        delta.running -= 1;
        Ok(())
    }

    pub(super) fn count_ended(
        &mut self,
        crawl: CrawlKey,
        from: Shown,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        let delta = self.delta(crawl)?;
        match from {
            Shown::Queued => delta.queued -= 1,
            Shown::Running => delta.running -= 1,
        }
        let place = usize::try_from(outcome as i32 - 1).ok().and_then(|i| delta.outcomes.get_mut(i));
        *place.ok_or_else(|| StoreError::Damaged("an outcome".into()))? += 1;
        Ok(())
    }

    /// Notes whether an attempt failed by our own fault, and says how many did in a row.
    pub fn streak(&mut self, crawl: CrawlKey, own_fault: bool) -> Result<u32, StoreError> {
        let delta = self.delta(crawl)?;
        let before = delta.streak.unwrap_or(delta.known_streak);
        let streak = if own_fault { before.saturating_add(1) } else { 0 };
        delta.streak = Some(streak);
        Ok(streak)
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let mut update = self.conn.prepare_cached(
            "UPDATE crawls SET last_sequence = ?2, total = total + ?3, queued = queued + ?4, running = running + ?5, \
             attempts = attempts + ?6, streak = ?7, o1 = o1 + ?8, o2 = o2 + ?9, o3 = o3 + ?10, o4 = o4 + ?11, \
             o5 = o5 + ?12, o6 = o6 + ?13, o7 = o7 + ?14, o8 = o8 + ?15 WHERE key = ?1",
        )?;
        for (crawl, d) in std::mem::take(&mut self.deltas) {
            let [o1, o2, o3, o4, o5, o6, o7, o8] = d.outcomes;
            let streak = d.streak.unwrap_or(d.known_streak);
            update.execute(params![
                crawl.0, d.sequence, d.total, d.queued, d.running, d.attempts, streak, o1, o2, o3, o4, o5,
                o6, o7, o8
            ])?;
        }
        Ok(())
    }
}
