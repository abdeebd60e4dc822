//! Where processes are looked up: at a service, or in the records beside some data.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sonde_browser::process_message;
use sonde_proto::browser::v1::{
    ListProcessesRequest, Process, ProcessFilter, ProcessStatus, ProcessUsage, WatchProcessTreeRequest,
    process_service_client::ProcessServiceClient, watch_process_tree_response::Event,
};
use sonde_runtime::endpoint::{Inproc, connect};
use sonde_runtime::process::{self, Forest, Machine, ProcessInfo, ProcessRecord};
use tonic::transport::Channel;

use super::args::Place;
use crate::embed::processes_of;
use crate::exit::CliError;

/// Processes of one page.
const PAGE: u32 = 1000;
/// Said of those whose record says that they run though they do not.
const GONE: &str = "it is gone, and nobody has recorded its end yet";

/// Where processes are looked up.
pub(super) enum Source {
    Service(ProcessServiceClient<Channel>),
    Records(Records),
}

/// The records beside some data, of all who keep some there.
pub(super) struct Records {
    machine: Machine,
    /// In the order of their creation.
    records: Vec<Arc<ProcessRecord>>,
}

impl Source {
    pub fn open(place: &Place) -> Result<Self, CliError> {
        match &place.server {
            Some(server) => {
                let channel = connect(&server.parse()?, &Inproc::new())?;
                Ok(Self::Service(ProcessServiceClient::new(channel)))
            }
            None => Ok(Self::Records(Records::read(&processes_of(&place.data))?)),
        }
    }

    /// Those that run, or all; for a tree each right before its children.
    pub async fn list(&self, tree: bool, all: bool, usage: bool) -> Result<Vec<Process>, CliError> {
        match self {
            Self::Service(client) if tree => walk(client.clone(), all, usage).await,
            Self::Service(client) => list(client.clone(), all, usage).await,
            Self::Records(records) => Ok(records.list(tree, all, usage).await),
        }
    }

    /// The process of an id, of the end of one, or of the pid of one that runs.
    pub async fn find(&self, text: &str) -> Result<Process, CliError> {
        let all = self.list(false, true, false).await?;
        if let Some(process) = all.iter().find(|process| process.id == text) {
            return Ok(process.clone());
        }
        let pid = |p: &&Process| p.status() == ProcessStatus::Running && p.pid.to_string() == text;
        let mut found: Vec<&Process> = all.iter().filter(pid).collect();
        if found.is_empty() && text.len() >= 4 {
            found = all.iter().filter(|process| process.id.ends_with(text)).collect();
        }
        match found[..] {
            [one] => Ok(one.clone()),
            [] => Err(CliError::Input(format!("no process is known by {text}; sonde ps --all lists them"))),
            _ => Err(CliError::Input(format!(
                "{} processes are known by {text}; give a whole id",
                found.len()
            ))),
        }
    }
}

async fn list(
    mut client: ProcessServiceClient<Channel>,
    all: bool,
    usage: bool,
) -> Result<Vec<Process>, CliError> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = Some(ProcessFilter { running: !all, ..ProcessFilter::default() });
        let request = ListProcessesRequest { filter, page_size: PAGE, page_token, usage };
        let page = client.list_processes(request).await?.into_inner();
        found.extend(page.processes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

async fn walk(
    mut client: ProcessServiceClient<Channel>,
    all: bool,
    usage: bool,
) -> Result<Vec<Process>, CliError> {
    let request = WatchProcessTreeRequest { root_id: String::new(), running: !all };
    let first = client.watch_process_tree(request).await?.into_inner().message().await?;
    let Some(Event::Snapshot(tree)) = first.and_then(|message| message.event) else {
        return Err(CliError::Service("the service sent no tree".to_owned()));
    };
    let mut processes = tree.processes;
    if usage {
        let with = list(client, all, true).await?;
        let mut with: BTreeMap<String, _> = with.into_iter().map(|p| (p.id, p.usage)).collect();
        for process in &mut processes {
            process.usage = with.remove(&process.id).flatten();
        }
    }
    Ok(processes)
}

impl Records {
    /// Reads them; a directory without any has none.
    fn read(directory: &Path) -> Result<Self, CliError> {
        let problem = |e: std::io::Error| {
            CliError::Input(format!("the records in {} cannot be read: {e}", directory.display()))
        };
        if !directory.is_dir() {
            return Err(CliError::Input(format!(
                "{} is not there: no process was recorded beside these data; give --data DIR or --server ENDPOINT",
                directory.display()
            )));
        }
        let machine = Machine::identify(directory).map_err(problem)?;
        let mut merged: BTreeMap<String, ProcessRecord> = BTreeMap::new();
        for owner in std::fs::read_dir(directory).map_err(problem)? {
            let owner = owner.map_err(problem)?.path();
            if !owner.is_dir() {
                continue;
            }
            let found = process::read_journal(&owner).map_err(problem)?;
            for (id, record) in found.records {
                let better = match merged.remove(&id) {
                    Some(other) => other.better(record),
                    None => record,
                };
                merged.insert(id, better);
            }
        }
        Ok(Self { machine, records: merged.into_values().map(Arc::new).collect() })
    }

    /// Whether a record that says "running" is right. What is elsewhere cannot be seen, and is believed.
    fn runs(&self, record: &ProcessRecord) -> bool {
        let elsewhere = record.machine_id != self.machine.guid;
        let here = self.machine.shares_pids_with(&record.machine_id, &record.boot_id, record.pid_namespace);
        elsewhere || (here && process::is_running(record))
    }

    async fn list(&self, tree: bool, all: bool, usage: bool) -> Vec<Process> {
        let forest = Forest::new(self.records.clone());
        let records = if tree { forest.walk(None).unwrap_or_default() } else { self.records.clone() };
        let mut found = Vec::new();
        let mut alive = Vec::new();
        for record in records {
            let mut process = process_message(&record, forest.depth(&record));
            if process.status() == ProcessStatus::Running {
                if self.runs(&record) {
                    alive.extend(info(&record).map(|info| (found.len(), info)));
                } else {
                    process.status = ProcessStatus::Exited.into();
                    process.end_detail = GONE.to_owned();
                }
            }
            if all || process.status() == ProcessStatus::Running {
                found.push(process);
            }
        }
        if usage {
            let (places, infos): (Vec<usize>, Vec<_>) = alive.into_iter().unzip();
            for (place, usage) in places.into_iter().zip(process::usage(infos).await) {
                let process::Usage { processes, rss_bytes, pss_bytes, vms_bytes, cpu_ms, cpu_percent } =
                    usage;
                found[place].usage =
                    Some(ProcessUsage { processes, rss_bytes, pss_bytes, vms_bytes, cpu_ms, cpu_percent });
            }
        }
        found
    }

    /// Ends a process, if it is the very one that was recorded; gives how many there were of its tree, and survivors.
    pub async fn end(&self, process: &Process, grace: Duration) -> Result<(usize, Vec<u32>), CliError> {
        let record = self.records.iter().find(|record| record.id == process.id);
        let ended = match record {
            Some(record) => process::end_recorded(&self.machine, record, grace).await,
            None => None,
        };
        ended.ok_or_else(|| {
            CliError::Input(format!(
                "{} ({}) does not run here: nothing was signalled",
                process.label, process.id
            ))
        })
    }
}

fn info(record: &ProcessRecord) -> Option<ProcessInfo> {
    Some(ProcessInfo {
        label: record.label.clone(),
        program: record.cmd.first()?.into(),
        args: record.cmd.iter().skip(1).cloned().collect(),
        pid: record.pid?,
        start_ticks: record.start_ticks?,
        mark: record.mark.as_str().into(),
        record: Some(record.id.as_str().into()),
    })
}
