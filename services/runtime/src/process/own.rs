//! The record of this very process.

use std::io;

use super::record::{Change, ProcessKind, ProcessRecord};
use super::redact::Redactor;
use super::store::new_id;
use super::{ID_VARIABLE, MARK_VARIABLE, Machine, PARENT_VARIABLE, tree};
use crate::clock::wall_us;

pub(super) fn own_record(
    machine: &Machine,
    kind: ProcessKind,
    label: &str,
    redactor: &Redactor,
) -> io::Result<ProcessRecord> {
    let told = |name| std::env::var(name).ok().filter(|id| uuid::Uuid::parse_str(id).is_ok());
    let pid = std::process::id();
    let now = wall_us();
    let mark = std::env::var(MARK_VARIABLE).unwrap_or_default();
    let mut record = ProcessRecord {
        id: told(ID_VARIABLE).unwrap_or_else(new_id),
        machine_id: machine.guid.clone(),
        parent_id: told(PARENT_VARIABLE),
        kind,
        label: label.to_owned(),
        pwd: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
        cmd: redactor.arguments(std::env::args_os().map(|a| a.to_string_lossy().into_owned())),
        env: redactor.environment(std::env::vars_os()),
        boot_id: machine.boot_id.clone(),
        pid_namespace: machine.pid_namespace,
        mark: mark.rsplit('/').next().unwrap_or_default().to_owned(),
        created_at_us: now,
        modified_at_us: now,
        ..ProcessRecord::default()
    };
    let started = Change::Started { pid, start_ticks: tree::start_ticks(pid)? };
    record.apply(started, now).map_err(io::Error::other)?;
    Ok(record)
}
