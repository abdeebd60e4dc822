use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;

use super::*;

const NOW: Mono = Mono::from_us(1_000_000_000);

#[derive(Debug)]
struct Case {
    slots: Vec<FreeSlot>,
    crawls: Vec<CrawlLoad>,
    candidates: Vec<Candidate>,
    sites: Sites,
    busy: HashMap<String, u32>,
    ended: HashMap<String, u64>,
}

fn kinds() -> impl Strategy<Value = Vec<BrowserKind>> {
    prop_oneof![
        4 => Just(vec![BrowserKind::Chromium]),
        1 => Just(vec![BrowserKind::Firefox]),
        1 => Just(vec![BrowserKind::Chromium, BrowserKind::Firefox]),
    ]
}

prop_compose! {
    fn cases()(
        slots in prop::collection::vec((kinds(), prop::option::of(0..4i64)), 0..8),
        crawls in prop::collection::vec((0..3u32, 0..3u64, 0..4u32, any::<bool>(), 0..3u32, 0..3u64), 1..4),
        visits in prop::collection::vec((0..4usize, 0..5u8, prop::option::of(0..8u32)), 0..30),
        busy in prop::collection::vec((0..5u8, 0..3u32, prop::option::of(0..5u64)), 0..5),
    ) -> Case {
        let slots: Vec<_> = slots.into_iter().enumerate().map(|(i, (kinds, last))| FreeSlot {
            browser_id: i as u32, kinds, last_crawl: last.map(CrawlKey),
        }).collect();
        let crawls: Vec<_> = crawls.into_iter().enumerate().map(
            |(i, (priority, running, max_parallel, firefox, max_per_site, delay))| CrawlLoad {
                key: CrawlKey(i as i64), priority, running, max_parallel,
                kind: if firefox { BrowserKind::Firefox } else { BrowserKind::Chromium },
                politeness: Politeness { max_per_site, min_delay: Duration::from_secs(delay) },
            }).collect();
        let candidates = visits.into_iter().map(|(crawl, site, avoid)| Candidate {
            crawl: CrawlKey((crawl % crawls.len()) as i64), site: format!("s{site}"), avoid,
        }).collect();
        let (mut sites, mut running, mut ended) = (Sites::default(), HashMap::new(), HashMap::new());
        for (site, n, end) in busy {
            let site = format!("s{site}");
            if running.contains_key(&site) { continue; }
            let ago = end.map(|s| Mono::from_us(NOW.as_us() - s * 1_000_000));
            (0..n + u32::from(ago.is_some())).for_each(|_| sites.begin(&site));
            if let Some(at) = ago {
                sites.end(&site, at, Duration::from_secs(3600));
                ended.insert(site.clone(), end.unwrap_or_default());
            }
            running.insert(site, n);
        }
        Case { slots, crawls, candidates, sites, busy: running, ended }
    }
}

fn solve(case: &Case) -> Vec<Assignment> {
    schedule(&Problem {
        slots: &case.slots,
        crawls: &case.crawls,
        candidates: &case.candidates,
        sites: &case.sites,
        now: NOW,
    })
}

proptest! {
    /// M47: properties 1 to 4 of the README.
    #[test]
    fn assignments_are_allowed(case in cases()) {
        let made = solve(&case);
        let slots: HashSet<_> = made.iter().map(|a| a.slot).collect();
        let visits: HashSet<_> = made.iter().map(|a| a.candidate).collect();
        prop_assert_eq!((slots.len(), visits.len()), (made.len(), made.len()));
        let mut per_site = case.busy.clone();
        let mut per_crawl: HashMap<_, u64> = case.crawls.iter().map(|c| (c.key, c.running)).collect();
        for a in &made {
            let candidate = &case.candidates[a.candidate];
            let crawl = &case.crawls[candidate.crawl.0 as usize];
            prop_assert!(case.slots[a.slot].kinds.contains(&crawl.kind));
            let running = per_crawl.get_mut(&crawl.key).expect("known");
            *running += 1;
            prop_assert!(crawl.max_parallel == 0 || *running <= u64::from(crawl.max_parallel));
            let at_site = per_site.entry(candidate.site.clone()).or_default();
            *at_site += 1;
            let rule = &crawl.politeness;
            prop_assert!(rule.max_per_site == 0 || *at_site <= rule.max_per_site);
            if !rule.min_delay.is_zero() {
                prop_assert_eq!(*at_site, 1);
                prop_assert!(case.ended.get(&candidate.site).is_none_or(|ago| *ago >= rule.min_delay.as_secs()));
            }
        }
    }

    /// Property 5: no slot stays free while a visit may run on it.
    #[test]
    fn no_slot_is_wasted(case in cases()) {
        let made = solve(&case);
        let mut sites = case.sites.clone();
        let mut running: HashMap<_, u64> = case.crawls.iter().map(|c| (c.key, c.running)).collect();
        for a in &made {
            sites.begin(&case.candidates[a.candidate].site);
            *running.get_mut(&case.candidates[a.candidate].crawl).expect("known") += 1;
        }
        let free = (0..case.slots.len()).filter(|s| made.iter().all(|a| a.slot != *s));
        for slot in free {
            for (i, left) in case.candidates.iter().enumerate() {
                if made.iter().any(|a| a.candidate == i) { continue; }
                let crawl = &case.crawls[left.crawl.0 as usize];
                let room = crawl.max_parallel == 0 || running[&crawl.key] < u64::from(crawl.max_parallel);
                let may = room && sites.allows(&left.site, &crawl.politeness, NOW)
                    && case.slots[slot].kinds.contains(&crawl.kind);
                prop_assert!(!may, "slot {} could run visit {}", slot, i);
            }
        }
    }

    /// Properties 6 and 7, where nothing holds anything back.
    #[test]
    fn priority_then_order(mut case in cases()) {
        for crawl in &mut case.crawls {
            crawl.politeness = Politeness::default();
            crawl.max_parallel = 0;
            crawl.kind = BrowserKind::Chromium;
        }
        case.slots.iter_mut().for_each(|s| s.kinds = vec![BrowserKind::Chromium]);
        let made = solve(&case);
        let priority = |i: usize| case.crawls[case.candidates[i].crawl.0 as usize].priority;
        for a in &made {
            for i in (0..case.candidates.len()).filter(|i| made.iter().all(|a| a.candidate != *i)) {
                prop_assert!(priority(a.candidate) >= priority(i));
                let same = case.candidates[i].crawl == case.candidates[a.candidate].crawl;
                prop_assert!(!same || a.candidate < i);
            }
        }
    }
}

/// Property 8.
#[test]
fn slots_that_fit_are_preferred_and_crashed_ones_avoided() {
    let slot = |browser_id, last| FreeSlot {
        browser_id,
        kinds: vec![BrowserKind::Chromium],
        last_crawl: Some(CrawlKey(last)),
    };
    let crawl = CrawlLoad {
        key: CrawlKey(1),
        priority: 0,
        running: 0,
        max_parallel: 0,
        kind: BrowserKind::Chromium,
        politeness: Politeness::default(),
    };
    let visit = |avoid| Candidate { crawl: CrawlKey(1), site: "a".into(), avoid };
    let slots = [slot(7, 2), slot(8, 1)];
    for (avoid, expected) in [(None, 1), (Some(8), 0)] {
        let made = schedule(&Problem {
            slots: &slots,
            crawls: std::slice::from_ref(&crawl),
            candidates: &[visit(avoid)],
            sites: &Sites::default(),
            now: NOW,
        });
        assert_eq!(made, [Assignment { slot: expected, candidate: 0 }]);
    }
}
