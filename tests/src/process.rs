//! Processes as the kernel tells of them.

use rustix::process::{Pid, Signal};

/// A living process. Pid and start time identify it beyond the reuse of pids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub session: u32,
    /// Clock ticks since boot.
    pub started: u64,
    /// Its arguments, joined by blanks.
    pub command: String,
}

impl Process {
    /// Reads a process; `None` when it has ended, also when nobody has waited for it yet.
    pub fn read(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // pid (name) state parent group session ...; the name may hold blanks and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            command,
        })
    }

    /// Every living process.
    pub fn all() -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).filter_map(Self::read).collect()
    }

    /// Whether it is still the same living process.
    pub fn alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: Signal) {
        if self.alive()
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            // It may end between the two calls: then there is nothing to tell it.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// The first argument's file name.
    pub fn name(&self) -> &str {
        let program = self.command.split(' ').next().unwrap_or_default();
        program.rsplit('/').next().unwrap_or(program)
    }

    /// Whether this is the main process of a browser of ours.
    pub fn is_browser(&self) -> bool {
        let chromium = self.command.contains("--remote-debugging-pipe") && !self.command.contains(" --type=");
        let firefox = self.command.contains("--marionette") && !self.command.contains("-contentproc");
        chromium || (firefox && !self.command.contains("--connect-existing"))
    }

    pub(crate) fn environment_has(&self, entry: &str) -> bool {
        let Ok(environment) = std::fs::read(format!("/proc/{}/environ", self.pid)) else { return false };
        environment.split(|byte| *byte == 0).any(|known| known == entry.as_bytes())
    }

    /// Resident bytes: private ones, and each shared one in parts (PSS) where `proportional`.
    pub fn resident(&self, proportional: bool) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let key = if proportional { "Pss:" } else { "Rss:" };
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }
}
