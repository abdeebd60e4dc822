#![doc = include_str!("README.md")]
use sonde_proto::visit::v1::BrowserKind;
use sonde_runtime::clock::Mono;

mod site;
#[cfg(test)]
mod tests;

pub(crate) use site::{Politeness, Sites, site_of};

use crate::store::CrawlKey;

/// A slot that waits for a visit.
#[derive(Clone, Debug)]
pub(crate) struct FreeSlot {
    pub browser_id: u32,
    pub kinds: Vec<BrowserKind>,
    /// Crawl of its last visit: its browser fits that one.
    pub last_crawl: Option<CrawlKey>,
}

/// A crawl that may be leased from.
#[derive(Clone, Debug)]
pub(crate) struct CrawlLoad {
    pub key: CrawlKey,
    pub priority: u32,
    pub running: u64,
    /// 0: no limit.
    pub max_parallel: u32,
    pub kind: BrowserKind,
    pub politeness: Politeness,
}

impl CrawlLoad {
    pub fn has_room(&self) -> bool {
        self.max_parallel == 0 || self.running < u64::from(self.max_parallel)
    }
}

/// A queued visit that is due.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub crawl: CrawlKey,
    pub site: String,
    /// Slot whose browser it crashed last.
    pub avoid: Option<u32>,
}

/// Everything the decision depends on.
pub(crate) struct Problem<'a> {
    pub slots: &'a [FreeSlot],
    pub crawls: &'a [CrawlLoad],
    /// Of one crawl in the order in which they are to run.
    pub candidates: &'a [Candidate],
    pub sites: &'a Sites,
    pub now: Mono,
}

/// `problem.slots[slot]` gets `problem.candidates[candidate]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub slot: usize,
    pub candidate: usize,
}

pub(crate) fn schedule(problem: &Problem<'_>) -> Vec<Assignment> {
    let mut crawls = problem.crawls.to_vec();
    let mut sites = problem.sites.clone();
    let mut slots: Vec<usize> = (0..problem.slots.len()).collect();
    let mut waiting: Vec<usize> = (0..problem.candidates.len()).collect();
    let mut made = Vec::new();
    while !slots.is_empty() {
        crawls.sort_by_key(|c| (std::cmp::Reverse(c.priority), c.running, c.key));
        let Some((crawl, place, slot)) = next(problem, &crawls, &sites, &slots, &waiting) else { break };
        let candidate = waiting.remove(place);
        crawls[crawl].running += 1;
        sites.begin(&problem.candidates[candidate].site);
        made.push(Assignment { slot: slots.remove(slot), candidate });
    }
    made
}

/// The best crawl's first visit that may run now, and the slot that fits it best.
fn next(
    problem: &Problem<'_>,
    crawls: &[CrawlLoad],
    sites: &Sites,
    slots: &[usize],
    waiting: &[usize],
) -> Option<(usize, usize, usize)> {
    for (c, crawl) in crawls.iter().enumerate().filter(|(_, crawl)| crawl.has_room()) {
        let first = waiting.iter().position(|i| {
            let candidate = &problem.candidates[*i];
            candidate.crawl == crawl.key && sites.allows(&candidate.site, &crawl.politeness, problem.now)
        });
        let Some(place) = first else { continue };
        let avoid = problem.candidates[waiting[place]].avoid;
        let fitting =
            slots.iter().enumerate().filter(|(_, s)| problem.slots[**s].kinds.contains(&crawl.kind));
        let best = fitting.min_by_key(|(_, s)| {
            let slot = &problem.slots[**s];
            (avoid == Some(slot.browser_id), slot.last_crawl != Some(crawl.key))
        });
        if let Some((slot, _)) = best {
            return Some((c, place, slot));
        }
    }
    None
}
