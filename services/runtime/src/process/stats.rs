//! What a machine has left at a moment.

use std::path::Path;
use std::time::Duration;

use crate::clock::wall_us;

/// What a machine has left at a moment; what the system does not tell is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MachineStats {
    /// Microseconds since the epoch.
    pub observed_at_us: i64,
    /// Processes that ran or waited for a core, over the last 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Since the kernel was booted.
    pub uptime: Duration,
    pub memory_available_bytes: u64,
    pub swap_total_bytes: u64,
    pub swap_free_bytes: u64,
    /// Of the file system of a directory.
    pub disk_total_bytes: u64,
    /// Of these, what is free to us.
    pub disk_free_bytes: u64,
}

impl MachineStats {
    /// As it is now, with the file system that `directory` is on.
    pub fn observe(directory: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (memory, disk) = (read("/proc/meminfo"), rustix::fs::statvfs(directory).ok());
        let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
            disk.as_ref().map_or(0, |disk| blocks(disk).saturating_mul(disk.f_frsize))
        };
        let uptime = numbers(&read("/proc/uptime")).next().unwrap_or_default();
        let mut load = [0.0; 3];
        load.iter_mut().zip(numbers(&read("/proc/loadavg"))).for_each(|(place, number)| *place = number);
        Self {
            observed_at_us: wall_us(),
            load,
            uptime: Duration::try_from_secs_f64(uptime).unwrap_or_default(),
            memory_available_bytes: meminfo(&memory, "MemAvailable"),
            swap_total_bytes: meminfo(&memory, "SwapTotal"),
            swap_free_bytes: meminfo(&memory, "SwapFree"),
            disk_total_bytes: bytes(|disk| disk.f_blocks),
            disk_free_bytes: bytes(|disk| disk.f_bavail),
        }
    }
}

fn numbers(text: &str) -> impl Iterator<Item = f64> {
    text.split_whitespace().map_while(|word| word.parse().ok())
}

/// Bytes of a line of `/proc/meminfo`; 0 when it is not there.
pub(super) fn meminfo(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|t| t.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A19
    #[test]
    fn what_is_left_is_read_from_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let stats = MachineStats::observe(dir.path());
        assert!(stats.observed_at_us > 0 && stats.uptime > Duration::ZERO, "{stats:?}");
        assert!(
            stats.memory_available_bytes > 0 && stats.swap_free_bytes <= stats.swap_total_bytes,
            "{stats:?}"
        );
        assert!(stats.disk_total_bytes > 0 && stats.disk_free_bytes <= stats.disk_total_bytes, "{stats:?}");
        assert!(stats.load.iter().all(|load| load.is_finite() && *load >= 0.0), "{stats:?}");
        assert_eq!(meminfo("MemTotal:  9 kB\nSwapTotal:       3 kB\n", "SwapTotal"), 3 << 10);
        assert_eq!(meminfo("SwapTotalX: 3 kB", "SwapTotal"), 0);
        assert_eq!(numbers("0.50 1 x 3").collect::<Vec<_>>(), [0.5, 1.0]);
    }
}
