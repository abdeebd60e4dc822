//! How many processes were started and how they ended: what metrics are made of.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::record::{EndReason, ProcessKind, ProcessRecord, ProcessStatus};

const KILL: i32 = 9;

/// Processes of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Those that ran.
    pub started: u64,
    /// Of these, those that run now.
    pub running: u64,
    /// Of these, those that have exited.
    pub ended: u64,
    /// Those that never ran, exited by themselves with a code other than 0, by a signal that was not ours, because their
    /// time was over, or unseen.
    pub failed: u64,
    /// Of those that have exited, the ones that we ended by SIGKILL.
    pub killed: u64,
    /// Those that have exited by how long they ran: up to each of [`ProcessCounts::BOUNDS`], the last one longer than all.
    pub durations: [u64; 7],
    /// How long those that have exited ran, all together.
    pub total: Duration,
}

impl ProcessCounts {
    /// Upper bounds of durations, each inclusive, ascending.
    pub const BOUNDS: [Duration; 6] = [
        Duration::from_millis(100),
        Duration::from_secs(1),
        Duration::from_secs(10),
        Duration::from_secs(60),
        Duration::from_secs(600),
        Duration::from_secs(3600),
    ];

    fn ran(&mut self, duration: Duration) {
        self.ended += 1;
        self.running = self.running.saturating_sub(1);
        let place = Self::BOUNDS.iter().position(|bound| duration <= *bound).unwrap_or(Self::BOUNDS.len());
        self.durations[place] += 1;
        self.total += duration;
    }
}

/// Counts of what one store started, by kind; what a predecessor left is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// From when on was counted, in microseconds since the epoch.
    pub since_us: i64,
    /// Only kinds that there were.
    pub kinds: BTreeMap<ProcessKind, ProcessCounts>,
}

/// Counts records as they change.
#[derive(Debug)]
pub(super) struct Counter {
    pub counts: Counts,
    inherited: HashSet<String>,
}

impl Counter {
    pub fn new<'a>(since_us: i64, inherited: impl IntoIterator<Item = &'a String>) -> Self {
        let counts = Counts { since_us, kinds: BTreeMap::new() };
        Self { counts, inherited: inherited.into_iter().cloned().collect() }
    }

    /// A record as it was, and as it is now.
    pub fn count(&mut self, before: Option<&ProcessRecord>, record: &ProcessRecord) {
        let before = before.map(|record| record.status);
        if before == Some(record.status) || self.inherited.contains(&record.id) {
            return;
        }
        let counts = self.counts.kinds.entry(record.kind).or_default();
        match record.status {
            ProcessStatus::Queued => {}
            ProcessStatus::Running => {
                counts.started += 1;
                counts.running += 1;
            }
            ProcessStatus::Exited => {
                if before == Some(ProcessStatus::Running) {
                    let times = record.started_at_us.zip(record.ended_at_us);
                    let took = times.map_or(0, |(started, ended)| ended - started);
                    counts.ran(Duration::from_micros(u64::try_from(took).unwrap_or_default()));
                }
                let (failed, killed) = judge(record);
                counts.failed += u64::from(failed);
                counts.killed += u64::from(killed);
            }
        }
    }
}

fn judge(record: &ProcessRecord) -> (bool, bool) {
    let by_kill = record.signal == Some(KILL);
    match record.end_reason {
        None => (false, false),
        Some(EndReason::Exited) => (record.exit_code.is_some_and(|code| code != 0), false),
        Some(EndReason::Terminated) => (false, by_kill),
        Some(EndReason::Timeout) => (true, by_kill),
        Some(EndReason::Signalled | EndReason::Lost | EndReason::SpawnFailed) => (true, false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Exit;
    use super::super::record::{Change, End};
    use super::*;

    const STARTED: Change = Change::Started { pid: 7, start_ticks: 8 };

    fn end(code: Option<i32>, signal: Option<i32>, reason: EndReason) -> Change {
        let exit = Exit { code, signal };
        Change::Ended(End { exit, reason, detail: String::new(), peak: None, at_us: None })
    }

    fn live(counter: &mut Counter, id: &str, changes: Vec<(Change, i64)>) {
        let mut record =
            ProcessRecord { id: id.to_owned(), kind: ProcessKind::Hook, ..ProcessRecord::default() };
        counter.count(None, &record);
        for (change, at_ms) in changes {
            let before = record.clone();
            record.apply(change, at_ms * 1000).unwrap();
            counter.count(Some(&before), &record);
        }
    }

    /// A49
    #[test]
    fn each_start_and_each_end_is_counted_once() {
        let mut counter = Counter::new(5, &["left".to_owned()]);
        let fine = end(Some(0), None, EndReason::Exited);
        live(&mut counter, "fine", vec![(STARTED, 0), (fine.clone(), 100)]);
        live(&mut counter, "wrong", vec![(STARTED, 0), (end(Some(2), None, EndReason::Exited), 101)]);
        live(&mut counter, "late", vec![(STARTED, 0), (end(None, Some(9), EndReason::Timeout), 60_001)]);
        live(&mut counter, "obeyed", vec![(STARTED, 0), (end(None, Some(15), EndReason::Terminated), 1)]);
        live(
            &mut counter,
            "crashed",
            vec![(STARTED, 0), (end(None, Some(11), EndReason::Signalled), 5_000_000)],
        );
        live(&mut counter, "never", vec![(end(None, None, EndReason::SpawnFailed), 1)]);
        live(&mut counter, "goes on", vec![(STARTED, 0)]);
        live(&mut counter, "left", vec![(STARTED, 0), (fine, 1)]);
        let total = Duration::from_millis(100 + 101 + 60_001 + 1 + 5_000_000);
        let hooks = ProcessCounts {
            started: 6,
            running: 1,
            ended: 5,
            failed: 4,
            killed: 1,
            durations: [2, 1, 0, 0, 1, 0, 1],
            total,
        };
        assert_eq!(counter.counts.kinds, BTreeMap::from([(ProcessKind::Hook, hooks)]));
        assert_eq!(counter.counts.since_us, 5);
    }
}
