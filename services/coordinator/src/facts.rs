//! Facts of this machine and this configuration, for provenance. What is not known is null, not left out.
use std::fs;

use serde_json::{Value, json};
use sonde_runtime::clock::{rfc3339_ms, wall_us};

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// Hostname, kernel, CPU and memory.
pub(crate) fn host() -> Value {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let memory = field(&meminfo, "MemTotal")
        .and_then(|kib| kib.split(' ').next()?.parse::<u64>().ok())
        .map(|kib| kib * 1024);
    json!({
        "hostname": read("/proc/sys/kernel/hostname"),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cpu": field(&cpuinfo, "model name"),
        "cpus": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "memory_bytes": memory,
    })
}

/// The clocks side by side, so that times of different machines can be set against each other.
pub(crate) fn clocks() -> Value {
    let uptime = read("/proc/uptime");
    let boottime = uptime.as_deref().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let zone = jiff::tz::TimeZone::system();
    json!({
        "wall": rfc3339_ms(wall_us()),
        "boottime_seconds": boottime,
        "boot_id": read("/proc/sys/kernel/random/boot_id"),
        "timezone": zone.iana_name(),
    })
}
