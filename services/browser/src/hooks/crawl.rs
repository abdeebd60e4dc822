//! The states of an archivist's crawl and of its snapshots: queued, started, sealed. Pure: time and events are arguments.
//!
//! One value holds a crawl with all of its snapshots and its limits, so that whoever shares it (behind one lock) cannot
//! pass a limit, however many workers add pages.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Where a crawl or a snapshot is. Sealed is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Queued,
    Started,
    Sealed,
}

/// What a crawl may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// 0: only the pages given; at most 4.
    pub max_depth: u8,
    pub max_urls: usize,
    /// Bytes of all snapshots.
    pub max_size: u64,
    /// Bytes of one snapshot.
    pub max_snapshot_size: u64,
    pub timeout: Duration,
}

/// The deepest crawl.
pub const DEEPEST: u8 = 4;

/// A snapshot's number in its crawl, from 0.
pub type Number = usize;

/// One page.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub url: String,
    pub depth: u8,
    pub state: State,
    pub size: u64,
    /// Not before this time.
    pub retry_at: Duration,
}

/// Why a page is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    Deep,
    Known,
    Urls,
    Size,
    Sealed,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run the hooks of the crawl, then say [`Crawl::set_up`].
    RunCrawlHooks,
    /// Run the hooks of the snapshot, then say [`Crawl::done`].
    RunSnapshot(Number),
    /// End the background hooks of the snapshot: exactly once.
    CleanSnapshot(Number),
    /// End the background hooks of the crawl: exactly once.
    CleanCrawl,
}

/// A crawl.
#[derive(Debug)]
pub struct Crawl {
    state: State,
    bounds: Bounds,
    started_at: Duration,
    set_up: bool,
    paused: bool,
    snapshots: Vec<Snapshot>,
    urls: HashSet<String>,
    size: u64,
    refused: BTreeMap<Refused, u64>,
}

impl Crawl {
    pub fn new(bounds: Bounds) -> Self {
        let bounds = Bounds { max_depth: bounds.max_depth.min(DEEPEST), ..bounds };
        Self {
            state: State::Queued,
            bounds,
            started_at: Duration::ZERO,
            set_up: false,
            paused: false,
            snapshots: Vec::new(),
            urls: HashSet::new(),
            size: 0,
            refused: BTreeMap::new(),
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Bytes of all snapshots.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Pages not added, by reason.
    pub fn refused(&self) -> &BTreeMap<Refused, u64> {
        &self.refused
    }

    /// Adds a page: one given, or one that the hooks of `parent` found.
    pub fn add(&mut self, url: &str, parent: Option<Number>) -> Result<Number, Refused> {
        let depth = parent.and_then(|p| self.snapshots.get(p)).map_or(0, |p| p.depth.saturating_add(1));
        let why = if self.state == State::Sealed {
            Refused::Sealed
        } else if depth > self.bounds.max_depth {
            Refused::Deep
        } else if self.urls.contains(url) {
            Refused::Known
        } else if self.snapshots.len() >= self.bounds.max_urls {
            Refused::Urls
        } else if self.size >= self.bounds.max_size {
            Refused::Size
        } else {
            self.urls.insert(url.to_owned());
            let (url, state) = (url.to_owned(), State::Queued);
            self.snapshots.push(Snapshot { url, depth, state, size: 0, retry_at: Duration::ZERO });
            return Ok(self.snapshots.len() - 1);
        };
        *self.refused.entry(why).or_default() += 1;
        Err(why)
    }

    /// Counts bytes that a snapshot wants to keep; `false`: a limit is reached, they are not counted and not to be kept.
    pub fn grow(&mut self, number: Number, bytes: u64) -> bool {
        let Some(snapshot) = self.snapshots.get_mut(number) else { return false };
        let (own, all) = (snapshot.size.saturating_add(bytes), self.size.saturating_add(bytes));
        // One that was sealed by an abort still brings what it has.
        let fits = snapshot.state != State::Queued
            && own <= self.bounds.max_snapshot_size
            && all <= self.bounds.max_size;
        if fits {
            snapshot.size = own;
            self.size = all;
        }
        fits
    }

    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Puts a snapshot off: it is queued again, not before `at`.
    pub fn put_off(&mut self, number: Number, at: Duration) {
        if let Some(snapshot) = self.snapshots.get_mut(number)
            && snapshot.state != State::Sealed
        {
            (snapshot.state, snapshot.retry_at) = (State::Queued, at);
        }
    }

    /// The hooks of the crawl have run.
    pub fn set_up(&mut self) {
        self.set_up |= self.state == State::Started;
    }

    /// The hooks of a snapshot have run.
    pub fn done(&mut self, number: Number) -> Vec<Action> {
        let mut actions = self.seal(number);
        actions.extend(self.seal_if_finished());
        actions
    }

    /// Ends it now: nothing starts any more.
    pub fn abort(&mut self) -> Vec<Action> {
        let mut actions: Vec<_> = (0..self.snapshots.len()).flat_map(|n| self.seal(n)).collect();
        actions.extend(self.seal_crawl());
        actions
    }

    /// What can start at `now`, at most `free` snapshots.
    pub fn tick(&mut self, now: Duration, free: usize) -> Vec<Action> {
        match self.state {
            State::Sealed => Vec::new(),
            State::Queued if self.paused || self.snapshots.is_empty() => Vec::new(),
            State::Queued => {
                (self.state, self.started_at) = (State::Started, now);
                vec![Action::RunCrawlHooks]
            }
            State::Started if now.saturating_sub(self.started_at) >= self.bounds.timeout => self.abort(),
            State::Started if self.paused || !self.set_up => Vec::new(),
            State::Started => {
                let can_start = |s: &Snapshot| s.state == State::Queued && s.retry_at <= now;
                let mut actions = Vec::new();
                for (number, snapshot) in self.snapshots.iter_mut().enumerate() {
                    if actions.len() < free && can_start(snapshot) {
                        snapshot.state = State::Started;
                        actions.push(Action::RunSnapshot(number));
                    }
                }
                actions
            }
        }
    }

    fn seal(&mut self, number: Number) -> Vec<Action> {
        match self.snapshots.get_mut(number) {
            Some(snapshot) if snapshot.state != State::Sealed => {
                let ran = snapshot.state == State::Started;
                snapshot.state = State::Sealed;
                if ran { vec![Action::CleanSnapshot(number)] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn seal_if_finished(&mut self) -> Vec<Action> {
        if self.state == State::Started && self.snapshots.iter().all(|s| s.state == State::Sealed) {
            return self.seal_crawl();
        }
        Vec::new()
    }

    fn seal_crawl(&mut self) -> Vec<Action> {
        let ran = self.state == State::Started;
        self.state = State::Sealed;
        if ran { vec![Action::CleanCrawl] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        max_depth: 2,
        max_urls: 20,
        max_size: 1000,
        max_snapshot_size: 300,
        timeout: Duration::from_secs(100),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A41, A42, A43
    #[test]
    fn a_crawl_goes_its_way_and_its_last_snapshot_seals_it() {
        let mut crawl = Crawl::new(BOUNDS);
        assert!(crawl.tick(at(0), 9).is_empty(), "nothing to do yet");
        let first = crawl.add("http://a/", None).unwrap();
        assert_eq!(crawl.tick(at(1), 9), [Action::RunCrawlHooks]);
        assert!(crawl.tick(at(1), 9).is_empty(), "its hooks run first");
        crawl.set_up();
        assert_eq!(crawl.tick(at(2), 9), [Action::RunSnapshot(first)]);
        let second = crawl.add("http://b/", Some(first)).unwrap();
        assert_eq!(crawl.done(first), [Action::CleanSnapshot(first)]);
        crawl.put_off(second, at(10));
        assert!(crawl.tick(at(9), 9).is_empty(), "not before its time");
        assert_eq!(crawl.tick(at(10), 9), [Action::RunSnapshot(second)]);
        assert_eq!(crawl.done(second), [Action::CleanSnapshot(second), Action::CleanCrawl]);
        assert_eq!(crawl.state(), State::Sealed);
        assert_eq!(crawl.done(second), []);
        assert_eq!(crawl.add("http://c/", None), Err(Refused::Sealed));
    }

    /// A45, A46
    #[test]
    fn time_and_abort_seal_everything_once() {
        let mut crawl = Crawl::new(BOUNDS);
        crawl.add("http://a/", None).unwrap();
        crawl.add("http://b/", None).unwrap();
        crawl.tick(at(0), 1);
        crawl.set_up();
        crawl.pause(true);
        assert!(crawl.tick(at(1), 1).is_empty());
        crawl.pause(false);
        assert_eq!(crawl.tick(at(1), 1), [Action::RunSnapshot(0)]);
        assert_eq!(crawl.tick(at(100), 1), [Action::CleanSnapshot(0), Action::CleanCrawl]);
        assert!(crawl.abort().is_empty() && crawl.tick(at(200), 1).is_empty());
    }

    /// A45: eight workers add and grow through one lock; no limit is passed.
    #[test]
    fn parallel_workers_cannot_pass_a_limit() {
        let crawl = Arc::new(Mutex::new(Crawl::new(BOUNDS)));
        crawl.lock().unwrap().add("http://root/", None).unwrap();
        crawl.lock().unwrap().tick(at(0), 9);
        crawl.lock().unwrap().set_up();
        let work = |worker: usize, crawl: Arc<Mutex<Crawl>>| {
            move || {
                for n in 0..200 {
                    let mut crawl = crawl.lock().unwrap();
                    for action in crawl.tick(at(1), 1) {
                        if let Action::RunSnapshot(number) = action {
                            crawl.grow(number, 70);
                        }
                    }
                    // Refusals are counted, and that is what this is about.
                    let _ = crawl.add(&format!("http://{worker}/{n}"), Some(n % 3));
                }
            }
        };
        let workers: Vec<_> = (0..8).map(|w| std::thread::spawn(work(w, crawl.clone()))).collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        let crawl = crawl.lock().unwrap();
        assert!(crawl.snapshots().len() <= BOUNDS.max_urls && crawl.size() <= BOUNDS.max_size);
        let counted: u64 = crawl.refused().values().sum();
        assert_eq!(crawl.snapshots().len() as u64 - 1 + counted, 8 * 200);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u8, Option<usize>),
        Tick(u64, usize),
        SetUp,
        Done(usize),
        Grow(usize, u64),
        PutOff(usize, u64),
        Pause(bool),
        Abort,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<u8>(), prop::option::of(0usize..25)).prop_map(|(u, p)| Step::Add(u, p)),
            6 => (0u64..5, 0usize..4).prop_map(|(t, f)| Step::Tick(t, f)),
            2 => Just(Step::SetUp),
            5 => (0usize..25).prop_map(Step::Done),
            3 => (0usize..25, 0u64..400).prop_map(|(n, b)| Step::Grow(n, b)),
            2 => (0usize..25, 0u64..100).prop_map(|(n, t)| Step::PutOff(n, t)),
            1 => any::<bool>().prop_map(Step::Pause),
            1 => Just(Step::Abort),
        ]
    }

    proptest! {
        /// A41-A45: whatever comes, states only go on (but for one that is put off), limits hold, clean-up comes once,
        /// and nothing starts before its time or after the seal.
        #[test]
        fn nothing_breaks_the_machine(steps in prop::collection::vec(step(), 0..120)) {
            let mut crawl = Crawl::new(BOUNDS);
            let (mut now, mut cleaned, mut crawl_cleaned) = (0u64, BTreeSet::new(), 0);
            for step in steps {
                let state = crawl.state();
                let before: Vec<State> = crawl.snapshots().iter().map(|s| s.state).collect();
                let put_off = if let Step::PutOff(n, _) = step { Some(n) } else { None };
                let actions = match step {
                    Step::Add(url, parent) => { let _ = crawl.add(&url.to_string(), parent); Vec::new() }
                    Step::Tick(later, free) => { now += later; crawl.tick(at(now), free) }
                    Step::SetUp => { crawl.set_up(); Vec::new() }
                    Step::Done(n) => crawl.done(n),
                    Step::Grow(n, bytes) => { crawl.grow(n, bytes); Vec::new() }
                    Step::PutOff(n, t) => { crawl.put_off(n, at(t)); Vec::new() }
                    Step::Pause(paused) => { crawl.pause(paused); Vec::new() }
                    Step::Abort => crawl.abort(),
                };
                prop_assert!(crawl.state() >= state);
                for (n, was) in before.iter().enumerate() {
                    prop_assert!(crawl.snapshots()[n].state >= *was || put_off == Some(n));
                }
                for action in actions {
                    match action {
                        Action::RunSnapshot(n) => {
                            prop_assert!(state == State::Started && crawl.snapshots()[n].retry_at <= at(now));
                        }
                        Action::CleanSnapshot(n) => prop_assert!(cleaned.insert(n)),
                        Action::CleanCrawl => crawl_cleaned += 1,
                        Action::RunCrawlHooks => prop_assert_eq!(state, State::Queued),
                    }
                }
                prop_assert!(crawl.snapshots().len() <= BOUNDS.max_urls && crawl.size() <= BOUNDS.max_size);
                prop_assert!(crawl.snapshots().iter().all(|s| s.depth <= 2 && s.size <= BOUNDS.max_snapshot_size));
                prop_assert!(crawl_cleaned <= 1);
                if crawl.state() == State::Sealed {
                    prop_assert!(crawl.snapshots().iter().all(|s| s.state == State::Sealed));
                }
            }
        }
    }
}
