//! What this machine is.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stats::meminfo;
use crate::clock::wall_us;

const FILE: &str = "machine.json";

/// One machine, virtual machine or container. Its `guid` is kept in the state directory, so that it outlives restarts
/// wherever that directory does; the rest is read anew at each start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Random UUID.
    pub guid: String,
    pub hostname: String,
    /// Random per boot of the kernel.
    pub boot_id: String,
    /// Inode of our PID namespace.
    pub pid_namespace: u64,
    pub in_container: bool,
    pub in_vm: bool,
    /// As the firmware tells; "" where it does not.
    pub manufacturer: String,
    pub product: String,
    /// `x86_64`.
    pub os_arch: String,
    /// `linux`.
    pub os_family: String,
    /// `debian`.
    pub os_platform: String,
    /// `12`.
    pub os_release: String,
    /// `6.12.0-13-cloud-amd64`.
    pub os_kernel: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// UUID of the hardware as the firmware tells; "" where it does not, or only to root.
    pub hardware_uuid: String,
    /// Microseconds since the epoch.
    pub created_at_us: i64,
}

impl Machine {
    /// This machine under the identity in the state directory, which is given one if it has none.
    ///
    /// # Errors
    /// When the identity cannot be read or written.
    pub fn identify(directory: &Path) -> io::Result<Self> {
        let kept = match read(directory)? {
            Some(kept) => kept,
            None => create(directory)?,
        };
        Ok(Self { guid: kept.guid, created_at_us: kept.created_at_us, ..Self::observe() })
    }

    /// The identity that is kept in a state directory; `None` when there is none yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn kept(directory: &Path) -> io::Result<Option<Self>> {
        read(directory)
    }

    /// Whether a pid of that machine, boot and PID namespace means the same process here and now.
    pub fn shares_pids_with(&self, machine_id: &str, boot_id: &str, pid_namespace: u64) -> bool {
        self.guid == machine_id && self.boot_id == boot_id && self.pid_namespace == pid_namespace
    }

    fn observe() -> Self {
        let dmi = |name: &str| line(&format!("/sys/class/dmi/id/{name}"));
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let of_release = |key: &str| {
            let value = release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let flags = cpuinfo.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
        Self {
            guid: String::new(),
            hostname: line("/proc/sys/kernel/hostname"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            pid_namespace: std::fs::metadata("/proc/self/ns/pid").map(|m| m.ino()).unwrap_or_default(),
            in_container: in_container(),
            in_vm: flags.split_whitespace().any(|flag| flag == "hypervisor"),
            manufacturer: dmi("sys_vendor"),
            product: dmi("product_name"),
            os_arch: std::env::consts::ARCH.to_owned(),
            os_family: std::env::consts::OS.to_owned(),
            os_platform: of_release("ID"),
            os_release: of_release("VERSION_ID"),
            os_kernel: line("/proc/sys/kernel/osrelease"),
            cpus: std::thread::available_parallelism()
                .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_bytes: meminfo(&memory, "MemTotal"),
            hardware_uuid: dmi("product_uuid").to_ascii_lowercase(),
            created_at_us: 0,
        }
    }
}

/// The first line of a file that need not be there.
fn line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn in_container() -> bool {
    let marked = ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists());
    let said = std::env::var_os("container").is_some_and(|value| !value.is_empty())
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let groups = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    marked || said || ["docker", "kubepods", "containerd", "lxc", "libpod"].iter().any(|w| groups.contains(w))
}

fn read(directory: &Path) -> io::Result<Option<Machine>> {
    let path = directory.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let machine: Machine = serde_json::from_str(&text)
        .map_err(|e| io::Error::other(format!("{}: {e}; remove it to get a new identity", path.display())))?;
    if machine.guid.is_empty() {
        let what = format!("{} has no guid; remove it to get a new identity", path.display());
        return Err(io::Error::other(what));
    }
    Ok(Some(machine))
}

/// Makes an identity; when another process makes one at the same time, the first one's counts for both.
fn create(directory: &Path) -> io::Result<Machine> {
    let guid = uuid::Uuid::new_v4().to_string();
    let machine = Machine { guid: guid.clone(), created_at_us: wall_us(), ..Machine::observe() };
    let text = serde_json::to_vec_pretty(&machine).map_err(io::Error::other)?;
    let next = directory.join(format!("machine.{guid}"));
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next)?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    // A link never replaces what is there.
    let linked = written.and_then(|()| std::fs::hard_link(&next, directory.join(FILE)));
    std::fs::remove_file(&next)?;
    match linked {
        Ok(()) => Ok(machine),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(directory)?.ok_or_else(|| io::Error::other("the machine's identity went while it was read"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A19
    #[test]
    fn the_identity_is_kept_where_the_directory_is() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Machine::identify(one.path()).unwrap();
        let again = Machine::identify(one.path()).unwrap();
        assert_eq!(first, again);
        assert_ne!(Machine::identify(other.path()).unwrap().guid, first.guid, "two machines differ");
        assert!(!first.boot_id.is_empty() && first.pid_namespace > 0 && first.memory_bytes > 0);
        let told = std::fs::read_to_string("/sys/class/dmi/id/product_uuid").unwrap_or_default();
        assert_eq!(first.hardware_uuid, told.trim().to_ascii_lowercase());
        assert_eq!(Machine::kept(one.path()).unwrap().unwrap().guid, first.guid);
        std::fs::write(one.path().join(FILE), "{").unwrap();
        assert!(Machine::identify(one.path()).unwrap_err().to_string().contains("remove it"));
    }

    /// A19: those that start together agree.
    #[test]
    fn those_that_start_together_share_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let guids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Machine::identify(path).unwrap().guid)).collect();
            starts.into_iter().map(|s| s.join().unwrap()).collect()
        });
        assert_eq!(guids.len(), 1);
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 1, "nothing else is left");
    }

    /// A22
    #[test]
    fn pids_of_another_machine_boot_or_namespace_are_not_ours() {
        let ours = Machine { guid: "g".into(), boot_id: "b".into(), pid_namespace: 3, ..Machine::default() };
        assert!(ours.shares_pids_with("g", "b", 3));
        assert!(!ours.shares_pids_with("h", "b", 3));
        assert!(!ours.shares_pids_with("g", "c", 3));
        assert!(!ours.shares_pids_with("g", "b", 4));
    }
}
