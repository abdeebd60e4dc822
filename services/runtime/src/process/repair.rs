//! What a killed predecessor left: processes that still run are ended, records that say "running" of dead ones corrected.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::cgroup;
use super::handle::{KILL_LIMIT, Process, Terminated};
use super::machine::Machine;
use super::record::{Change, End, EndReason, ProcessRecord, ProcessStatus};
use super::store::ProcessStore;
use super::tree::{self, Member};
use crate::clock::wall_us;

/// A process whose time was over is given this long from SIGTERM on: its own end was under way.
const TIMED_OUT: Duration = Duration::from_secs(30);

/// What a repair found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Records whose processes were gone.
    pub lost: usize,
    /// Records whose processes still ran, and were ended.
    pub ended: usize,
    /// Processes beyond the recorded ones that had to be ended with them.
    pub others: usize,
    /// Processes that could not be ended.
    pub survivors: Vec<u32>,
}

/// Ends processes side by side, each within its own grace time; in the order given, how each ended.
pub async fn terminate_all(processes: impl IntoIterator<Item = (Process, Duration)>) -> Vec<Terminated> {
    let ends = processes.into_iter().map(|(process, grace)| async move { process.terminate(grace).await });
    join_all(ends).await
}

impl ProcessStore {
    /// Ends what is left of processes that an earlier owner of this store started, side by side: SIGTERM, `grace`, SIGKILL;
    /// those whose time is over have 30 s of grace, or `grace` where that is longer, and their reason is the timeout.
    /// Records of what nobody saw end become LOST. Call it before anything is started.
    ///
    /// A process is touched only when its pid, start time, boot and PID namespace are the recorded ones, or when it carries
    /// the recorded mark.
    pub async fn repair(&self, grace: Duration) -> Repaired {
        let open = self.all().into_iter().filter(|record| {
            record.status != ProcessStatus::Exited
                && record.id != self.own_id()
                && self.process(&record.id).is_none()
        });
        let each = join_all(open.map(|record| self.repair_one(record, grace))).await;
        let mut all = Repaired::default();
        for one in each {
            all.lost += one.lost;
            all.ended += one.ended;
            all.others += one.others;
            all.survivors.extend(one.survivors);
        }
        all.survivors.sort_unstable();
        all.survivors.dedup();
        if all != Repaired::default() {
            tracing::warn!(?all, "an earlier service did not end in order");
        }
        all
    }

    async fn repair_one(&self, record: Arc<ProcessRecord>, grace: Duration) -> Repaired {
        let mut repaired = Repaired::default();
        let machine = self.machine();
        if !machine.shares_pids_with(&record.machine_id, &record.boot_id, record.pid_namespace) {
            let end = End::lost("its machine was started again since, or was another one");
            self.change(&record.id, Change::Ended(end));
            repaired.lost = 1;
            return repaired;
        }
        let timed_out = record.timed_out(wall_us());
        let grace = if timed_out { grace.max(TIMED_OUT) } else { grace };
        let (found, survivors) = end_rest(&record, grace).await;
        let led =
            found.iter().any(|m| Some(m.pid) == record.pid && Some(m.start_ticks) == record.start_ticks);
        let others = found.len() - usize::from(led);
        let end = match (record.status, led) {
            (ProcessStatus::Running, true) => {
                repaired.ended = 1;
                let detail = "it was left over by a service that was killed, and ended at the next start";
                match (timed_out, record.timeout_ms) {
                    (true, Some(ms)) => {
                        End::without_status(EndReason::Timeout, format!("longer than its {ms} ms; {detail}"))
                    }
                    _ => End::without_status(EndReason::Terminated, detail),
                }
            }
            _ => {
                repaired.lost = 1;
                End::lost(match others {
                    0 => "the service that started it was killed".to_owned(),
                    n => format!(
                        "the service that started it was killed; {n} processes it had left were ended"
                    ),
                })
            }
        };
        self.change(&record.id, Change::Ended(end));
        repaired.others = others;
        repaired.survivors = survivors;
        repaired
    }
}

/// Ends a process that somebody else started and recorded, with all that is left of it: SIGTERM, `grace`, SIGKILL; gives
/// how many processes that were, and those that could not be ended. `None`, and nothing is touched, when its pid, start
/// time, boot or PID namespace is not the recorded one.
pub async fn end_recorded(
    machine: &Machine,
    record: &Arc<ProcessRecord>,
    grace: Duration,
) -> Option<(usize, Vec<u32>)> {
    let here = machine.shares_pids_with(&record.machine_id, &record.boot_id, record.pid_namespace);
    if !here || !is_running(record) {
        return None;
    }
    let (found, survivors) = end_rest(record, grace).await;
    Some((found.len(), survivors))
}

/// Whether the process of a record of this machine and boot lives, and is that very process.
pub fn is_running(record: &ProcessRecord) -> bool {
    let identity = record.pid.zip(record.start_ticks);
    record.status == ProcessStatus::Running && identity.is_some_and(|(pid, ticks)| tree::is_alive(pid, ticks))
}

/// Ends all that is left of a record's process: those that were there, and those that could not be ended.
async fn end_rest(record: &Arc<ProcessRecord>, grace: Duration) -> (Vec<Member>, Vec<u32>) {
    let look = || async {
        let record = record.clone();
        let look = move || tree::left_over(record.pid.zip(record.start_ticks), &record.mark);
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    };
    let found = look().await;
    if found.is_empty() {
        cgroup::remove(&record.mark).await;
        return (found, Vec::new());
    }
    tree::signal_and_wait(&found, rustix::process::Signal::TERM, Instant::now() + grace).await;
    let until = Instant::now() + KILL_LIMIT;
    let mut again = false;
    loop {
        let left = look().await;
        if left.is_empty() {
            cgroup::remove(&record.mark).await;
            return (found, Vec::new());
        }
        if Instant::now() >= until {
            return (found, left.iter().map(|m| m.pid).collect());
        }
        if std::mem::replace(&mut again, true) {
            cgroup::kill(&record.mark);
        }
        if tree::signal_and_wait(&left, rustix::process::Signal::KILL, until).await == 0 {
            // What was seen has ended by itself meanwhile.
            tokio::task::yield_now().await;
        }
    }
}
