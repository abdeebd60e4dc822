//! ProcessService: what this service has started, how it is, and its end.

mod convert;
pub use convert::process as process_message;
mod follow;
mod ledger;
pub(crate) use ledger::Ledger;
pub use ledger::ProcessRows;

use std::time::Duration;

use futures_util::stream::BoxStream;
use sonde_proto::CheckRequest;
use sonde_proto::browser::v1::process_service_server::ProcessService;
use sonde_proto::browser::v1::{
    self as wire, GetMachineRequest, GetMachineResponse, GetProcessCountsRequest, GetProcessCountsResponse,
    GetProcessRequest, GetProcessResponse, ListProcessesRequest, ListProcessesResponse, TailOutputRequest,
    TailOutputResponse, TerminateProcessRequest, TerminateProcessResponse, WatchProcessTreeRequest,
    WatchProcessTreeResponse,
};
use sonde_runtime::process::{
    self, EndReason, Forest, Network, ProcessRecord, ProcessStatus, ProcessStore, UnknownProcess,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Processes of a page unless said.
const PAGE: usize = 100;
/// From SIGTERM to SIGKILL unless said.
const GRACE: Duration = Duration::from_secs(5);

/// The service over the records of one store.
pub(crate) struct Processes {
    pub store: ProcessStore,
    pub network: Network,
    /// Ends every stream.
    pub stop: CancellationToken,
}

fn checked<T: CheckRequest>(request: Request<T>) -> Result<T, Status> {
    let request = request.into_inner();
    request.check().map_err(|errors| Status::invalid_argument(errors.to_string()))?;
    Ok(request)
}

fn unknown(error: UnknownProcess) -> Status {
    Status::not_found(format!("{error}: it was never started here, or its record is not kept any more"))
}

impl Processes {
    fn forest(&self) -> Forest {
        Forest::new(self.store.all())
    }

    fn record(&self, id: &str) -> Result<std::sync::Arc<ProcessRecord>, Status> {
        self.store.get(id).ok_or_else(|| unknown(UnknownProcess(id.to_owned())))
    }

    /// Says what those that run take of the machine.
    async fn add_usage(&self, processes: &mut [wire::Process]) {
        let handles: Vec<_> = processes
            .iter()
            .enumerate()
            .filter_map(|(at, process)| Some((at, self.store.process(&process.id)?.info().clone())))
            .collect();
        if handles.is_empty() {
            return;
        }
        let (places, infos): (Vec<usize>, Vec<_>) = handles.into_iter().unzip();
        for (place, usage) in places.into_iter().zip(process::usage(infos).await) {
            processes[place].usage = Some(convert::usage(usage));
        }
    }
}

#[tonic::async_trait]
impl ProcessService for Processes {
    async fn list_processes(
        &self,
        request: Request<ListProcessesRequest>,
    ) -> Result<Response<ListProcessesResponse>, Status> {
        let request = checked(request)?;
        let forest = self.forest();
        let found = forest.select(&convert::filter(request.filter.unwrap_or_default())).map_err(unknown)?;
        let running = found.iter().filter(|r| r.status == ProcessStatus::Running).count();
        let matched = found.len();
        let size = if request.page_size == 0 { PAGE } else { request.page_size as usize };
        // Ids sort by creation, as the records do.
        let mut rest = found.into_iter().filter(|record| record.id > request.page_token);
        let page: Vec<_> = rest.by_ref().take(size).collect();
        let next_page_token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => last.id.clone(),
            _ => String::new(),
        };
        let mut processes: Vec<_> = page.iter().map(|r| convert::process(r, forest.depth(r))).collect();
        if request.usage {
            self.add_usage(&mut processes).await;
        }
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let (matched, running) = (count(matched), count(running));
        Ok(Response::new(ListProcessesResponse { processes, next_page_token, matched, running }))
    }

    async fn get_process(
        &self,
        request: Request<GetProcessRequest>,
    ) -> Result<Response<GetProcessResponse>, Status> {
        let record = self.record(&checked(request)?.id)?;
        let mut process = convert::process(&record, self.forest().depth(&record));
        process.env = record.env.clone().into_iter().collect();
        self.add_usage(std::slice::from_mut(&mut process)).await;
        Ok(Response::new(GetProcessResponse { process: Some(process) }))
    }

    type WatchProcessTreeStream = BoxStream<'static, Result<WatchProcessTreeResponse, Status>>;

    async fn watch_process_tree(
        &self,
        request: Request<WatchProcessTreeRequest>,
    ) -> Result<Response<Self::WatchProcessTreeStream>, Status> {
        let request = checked(request)?;
        if !request.root_id.is_empty() {
            self.record(&request.root_id)?;
        }
        Ok(Response::new(follow::tree(self.store.clone(), request, self.stop.clone())))
    }

    type TailOutputStream = BoxStream<'static, Result<TailOutputResponse, Status>>;

    async fn tail_output(
        &self,
        request: Request<TailOutputRequest>,
    ) -> Result<Response<Self::TailOutputStream>, Status> {
        let request = checked(request)?;
        let record = self.record(&request.id)?;
        let stderr = request.stream() == wire::ProcessStream::Stderr;
        let reader = self.store.output(&record.id, stderr).ok_or_else(|| {
            Status::failed_precondition(format!("the output of {} ({}) is not kept", record.label, record.id))
        })?;
        let process = self.store.process(&record.id);
        let output = follow::Output::new(reader, process, &request);
        Ok(Response::new(output.stream(self.stop.clone())))
    }

    async fn terminate_process(
        &self,
        request: Request<TerminateProcessRequest>,
    ) -> Result<Response<TerminateProcessResponse>, Status> {
        let request = checked(request)?;
        let record = self.record(&request.id)?;
        let refuse =
            |why: &str| Err(Status::failed_precondition(format!("{} ({}) {why}", record.label, record.id)));
        if record.status == ProcessStatus::Exited {
            return refuse("has exited already");
        }
        if record.id == self.store.own_id() {
            return refuse("is this service itself: end it by SIGTERM, or with sonde up");
        }
        let Some(process) = self.store.process(&record.id) else {
            return refuse("was not started by this service, or is about to be gone");
        };
        let grace = request.grace.and_then(|d| Duration::try_from(d).ok()).unwrap_or(GRACE);
        process.because(EndReason::Terminated, "somebody asked for it by TerminateProcess");
        let ended = process.terminate(grace).await;
        let record = self.record(&request.id)?;
        Ok(Response::new(TerminateProcessResponse {
            process: Some(convert::process(&record, self.forest().depth(&record))),
            forced: ended.forced,
            killed: u32::try_from(ended.sweep.killed).unwrap_or(u32::MAX),
            survivors: ended.sweep.survivors,
        }))
    }

    async fn get_machine(
        &self,
        _: Request<GetMachineRequest>,
    ) -> Result<Response<GetMachineResponse>, Status> {
        let machine = Some(convert::machine(self.store.machine()));
        let stats = Some(convert::stats(self.store.machine_stats()));
        let network = Some(convert::network(self.network.current()));
        Ok(Response::new(GetMachineResponse { machine, stats, network }))
    }

    async fn get_process_counts(
        &self,
        _: Request<GetProcessCountsRequest>,
    ) -> Result<Response<GetProcessCountsResponse>, Status> {
        Ok(Response::new(convert::counts(self.store.counts())))
    }
}
