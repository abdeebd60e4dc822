//! What a process with all its descendants takes of the machine, as `/proc` tells it now.

use std::time::Duration;

use super::ProcessInfo;
use super::tree::members;

/// Between the two looks that tell how busy it is.
const INTERVAL: Duration = Duration::from_millis(100);

/// Of a whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Living processes.
    pub processes: u32,
    /// Bytes; pages that they share count in each.
    pub rss_bytes: u64,
    /// Bytes (PSS); pages that they share count once.
    pub pss_bytes: u64,
    /// Virtual bytes.
    pub vms_bytes: u64,
    /// User and system time of those that live, and of those they have waited for.
    pub cpu_ms: u64,
    /// Of one core, over the last 100 ms.
    pub cpu_percent: f64,
}

/// Looks at processes twice, 100 ms apart, and says what each takes; in their order. For one that is gone all is 0.
pub async fn usage(processes: Vec<ProcessInfo>) -> Vec<Usage> {
    let first = look(processes.clone(), false).await;
    tokio::time::sleep(INTERVAL).await;
    let mut second = look(processes, true).await;
    for (usage, before) in second.iter_mut().zip(first) {
        let busy = usage.cpu_ms.saturating_sub(before.cpu_ms);
        usage.cpu_percent = busy as f64 * 100.0 / INTERVAL.as_millis() as f64;
    }
    second
}

async fn look(processes: Vec<ProcessInfo>, memory: bool) -> Vec<Usage> {
    let all = move || processes.iter().map(|process| now(process, memory)).collect();
    tokio::task::spawn_blocking(all).await.unwrap_or_else(|error| {
        tracing::error!(%error, "what processes take cannot be seen");
        Vec::new()
    })
}

fn now(process: &ProcessInfo, memory: bool) -> Usage {
    let mut usage = Usage::default();
    for member in members(process.pid, process.start_ticks, &process.mark) {
        if member.zombie {
            continue;
        }
        usage.processes += 1;
        usage.cpu_ms += cpu_ms(member.pid).unwrap_or_default();
        if memory {
            let (vms, rss) = sizes(member.pid).unwrap_or_default();
            usage.vms_bytes += vms;
            usage.rss_bytes += rss;
            usage.pss_bytes += share(member.pid).unwrap_or_default();
        }
    }
    usage
}

/// Virtual and resident bytes of a process; `None` when it has ended meanwhile.
pub fn sizes(pid: u32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = text.split_whitespace().map_while(|word| word.parse::<u64>().ok());
    let page = rustix::param::page_size() as u64;
    Some((pages.next()? * page, pages.next()? * page))
}

/// Proportional bytes (PSS) of a process; `None` when it has ended meanwhile.
pub fn share(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn cpu_ms(pid: u32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid.cast_signed()).and_then(|p| p.stat()).ok()?;
    let waited_for = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
    Some((stat.utime + stat.stime + waited_for) * 1000 / procfs::ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Spawn, spawn};

    /// A12
    #[tokio::test]
    async fn a_busy_tree_is_seen_to_be_busy() {
        let script = "while :; do :; done & echo up; wait";
        let child = spawn(Spawn::new("busy", "/bin/sh").args(["-c", script])).await.unwrap();
        child.stdout_shows(|text| text.contains("up").then_some(())).await.unwrap();
        let mut seen = Usage::default();
        for _ in 0..50 {
            seen = usage(vec![child.info().clone()]).await[0];
            if seen.cpu_percent > 0.0 {
                break;
            }
        }
        assert!(seen.cpu_percent > 0.0 && seen.cpu_ms > 0, "{seen:?}");
        assert_eq!(seen.processes, 2);
        assert!(
            seen.pss_bytes > 0 && seen.pss_bytes <= seen.rss_bytes && seen.rss_bytes <= seen.vms_bytes,
            "{seen:?}"
        );
        let info = child.info().clone();
        child.terminate(Duration::ZERO).await;
        assert_eq!(usage(vec![info]).await[0], Usage::default());
    }
}
