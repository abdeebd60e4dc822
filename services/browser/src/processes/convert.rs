//! Records of processes as the contract has them.

use std::collections::BTreeMap;
use std::time::Duration;

use sonde_proto::browser::v1::{
    self as wire, ProcessEndReason, ProcessFilter, ProcessStatus as WireStatus, ProcessType, process_filter,
};
use sonde_runtime::process::{
    Counts, EndReason, Filter, Machine, MachineStats, NetworkInterface, ProcessCounts, ProcessKind,
    ProcessRecord, ProcessStatus, Relation, Usage,
};

use crate::attempt::timestamp;

fn kind(kind: ProcessKind) -> ProcessType {
    match kind {
        ProcessKind::Supervisor => ProcessType::Supervisor,
        ProcessKind::Service => ProcessType::Service,
        ProcessKind::Cli => ProcessType::Cli,
        ProcessKind::Browser => ProcessType::Browser,
        ProcessKind::Driver => ProcessType::Driver,
        ProcessKind::Display => ProcessType::Display,
        ProcessKind::Hook => ProcessType::Hook,
        ProcessKind::Binary => ProcessType::Binary,
    }
}

fn status(status: ProcessStatus) -> WireStatus {
    match status {
        ProcessStatus::Queued => WireStatus::Queued,
        ProcessStatus::Running => WireStatus::Running,
        ProcessStatus::Exited => WireStatus::Exited,
    }
}

fn reason(reason: Option<EndReason>) -> ProcessEndReason {
    match reason {
        None => ProcessEndReason::Unspecified,
        Some(EndReason::Exited) => ProcessEndReason::Exited,
        Some(EndReason::Signalled) => ProcessEndReason::Signalled,
        Some(EndReason::Terminated) => ProcessEndReason::Terminated,
        Some(EndReason::Timeout) => ProcessEndReason::Timeout,
        Some(EndReason::Lost) => ProcessEndReason::Lost,
        Some(EndReason::SpawnFailed) => ProcessEndReason::SpawnFailed,
    }
}

/// A record as the contract has it, without its environment, and without what it takes now.
pub fn process(record: &ProcessRecord, depth: u32) -> wire::Process {
    let record = record.clone();
    let path = |path: Option<std::path::PathBuf>| path.unwrap_or_default().to_string_lossy().into_owned();
    let timeout = record.timeout_ms.map(Duration::from_millis);
    let peak = record.peak.unwrap_or_default();
    wire::Process {
        id: record.id,
        parent_id: record.parent_id.unwrap_or_default(),
        depth,
        machine_id: record.machine_id,
        r#type: kind(record.kind).into(),
        label: record.label,
        status: status(record.status).into(),
        pwd: record.pwd,
        cmd: record.cmd,
        env: Default::default(),
        timeout: timeout.and_then(duration),
        pid: record.pid.unwrap_or_default(),
        start_ticks: record.start_ticks.unwrap_or_default(),
        boot_id: record.boot_id,
        mark: record.mark,
        created_at: Some(timestamp(record.created_at_us)),
        modified_at: Some(timestamp(record.modified_at_us)),
        started_at: record.started_at_us.map(timestamp),
        ended_at: record.ended_at_us.map(timestamp),
        exit_code: record.exit_code,
        signal: record.signal.unwrap_or_default(),
        end_reason: reason(record.end_reason).into(),
        end_detail: record.end_detail,
        stdout_path: path(record.stdout),
        stderr_path: path(record.stderr),
        url: record.url.unwrap_or_default(),
        retry_of: record.retry_of.unwrap_or_default(),
        context: record.context.into_iter().collect(),
        visit_ids: record.visits,
        usage: None,
        peak_rss_bytes: peak.rss_bytes,
        total_cpu_ms: peak.cpu_ms,
    }
}

pub(super) fn usage(usage: Usage) -> wire::ProcessUsage {
    let Usage { processes, rss_bytes, pss_bytes, vms_bytes, cpu_ms, cpu_percent } = usage;
    wire::ProcessUsage { processes, rss_bytes, pss_bytes, vms_bytes, cpu_ms, cpu_percent }
}

pub(super) fn machine(machine: &Machine) -> wire::Machine {
    let machine = machine.clone();
    wire::Machine {
        guid: machine.guid,
        hostname: machine.hostname,
        boot_id: machine.boot_id,
        in_container: machine.in_container,
        in_vm: machine.in_vm,
        manufacturer: machine.manufacturer,
        product: machine.product,
        os_arch: machine.os_arch,
        os_family: machine.os_family,
        os_platform: machine.os_platform,
        os_release: machine.os_release,
        os_kernel: machine.os_kernel,
        cpus: machine.cpus,
        memory_bytes: machine.memory_bytes,
        hardware_uuid: machine.hardware_uuid,
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

pub(super) fn stats(stats: MachineStats) -> wire::MachineStats {
    let [load_1m, load_5m, load_15m] = stats.load;
    wire::MachineStats {
        observed_at: Some(timestamp(stats.observed_at_us)),
        load_1m,
        load_5m,
        load_15m,
        uptime: duration(stats.uptime),
        memory_available_bytes: stats.memory_available_bytes,
        swap_total_bytes: stats.swap_total_bytes,
        swap_free_bytes: stats.swap_free_bytes,
        disk_total_bytes: stats.disk_total_bytes,
        disk_free_bytes: stats.disk_free_bytes,
    }
}

pub(super) fn network(seen: NetworkInterface) -> wire::NetworkInterface {
    wire::NetworkInterface {
        name: seen.name,
        mac_address: seen.mac_address,
        local_ip: seen.local_ip,
        dns_server: seen.dns_server,
        observed_at: Some(timestamp(seen.observed_at_us)),
    }
}

pub(super) fn counts(counts: Counts) -> wire::GetProcessCountsResponse {
    let each = counts.kinds.into_iter().map(|(of, counts)| {
        let bounds = ProcessCounts::BOUNDS.map(duration).into_iter().chain([None]);
        let durations = bounds.zip(counts.durations);
        wire::ProcessCounts {
            r#type: kind(of).into(),
            started: counts.started,
            running: counts.running,
            ended: counts.ended,
            failed: counts.failed,
            killed: counts.killed,
            durations: durations.map(|(up_to, count)| wire::DurationCount { up_to, count }).collect(),
            total: duration(counts.total),
        }
    });
    wire::GetProcessCountsResponse { since: Some(timestamp(counts.since_us)), counts: each.collect() }
}

/// Of a filter that was checked.
pub(super) fn filter(filter: ProcessFilter) -> Filter {
    let given = |text: String| (!text.is_empty()).then_some(text);
    let kinds = filter.types().map(|wanted| {
        let same = |ours: &&ProcessKind| kind(**ours) == wanted;
        ProcessKind::ALL.iter().find(same).copied()
    });
    let kinds = kinds.flatten().collect();
    let browser = filter.browser_id.map(|id| ("browser_id".to_owned(), id.to_string()));
    let relation = filter.relation.map(|relation| match relation {
        process_filter::Relation::ChildrenOf(id) => Relation::ChildrenOf(id),
        process_filter::Relation::DescendantsOf(id) => Relation::DescendantsOf(id),
        process_filter::Relation::AncestorsOf(id) => Relation::AncestorsOf(id),
        process_filter::Relation::RootOf(id) => Relation::RootOf(id),
    });
    Filter {
        running: filter.running,
        kinds,
        label: given(filter.label),
        machine_id: given(filter.machine_id),
        context: browser.into_iter().collect::<BTreeMap<_, _>>(),
        visit_id: (filter.visit_id != 0).then_some(filter.visit_id),
        relation,
    }
}
