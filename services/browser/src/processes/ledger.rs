//! The table `processes`: what runs and what has ended, on its way to storage. The journal of the store is the truth; what
//! storage has not taken is sent again, by the next start, too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sonde_proto::record::v1 as rows;
use sonde_proto::storage::v1::{LedgerRow, ledger_row};
use sonde_runtime::clock::rfc3339_ms;
use sonde_runtime::process::{ProcessRecord, ProcessStore};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::uplink::{Bounds, Uplink, UplinkError};

/// From a change to its sending: a browser starts several processes, and ends them, at about one time.
const GATHER: Duration = Duration::from_millis(250);
/// Rows of a request: environments are long.
const BATCH: usize = 100;
/// Beyond this the records that the store has dropped are forgotten here, too.
const TAKEN: usize = 8192;
/// For storage to take a batch, over all tries; then what is known has become more.
const TAKE: Duration = Duration::from_secs(60);
/// For storage to take the last ends when the service stops.
const FLUSH: Duration = Duration::from_secs(5);

/// Sends until it is flushed.
pub(crate) struct Ledger {
    stop: CancellationToken,
    task: JoinHandle<usize>,
}

impl Ledger {
    /// Begins with all that the store knows.
    pub fn start(store: ProcessStore, uplink: Uplink) -> Self {
        let stop = CancellationToken::new();
        let sending = Sending { store, uplink, due: BTreeMap::new(), taken: HashMap::new() };
        Self { task: tokio::spawn(sending.run(stop.clone())), stop }
    }

    /// Sends the rest, for a while. What is not taken then is sent by the next start on the same state directory.
    pub async fn flush(self) {
        self.stop.cancel();
        match timeout(FLUSH + GATHER, self.task).await {
            Ok(Ok(0)) => {}
            Ok(Ok(rows)) => tracing::warn!(rows, "storage has not taken these rows of processes"),
            Ok(Err(error)) => tracing::error!(%error, "sending rows of processes ended"),
            Err(_) => tracing::warn!("storage takes no rows of processes"),
        }
    }
}

/// The rows of a program that is no browser-service, as `sonde up`.
pub struct ProcessRows {
    ledger: Ledger,
    uplink: Uplink,
}

impl ProcessRows {
    /// Begins with all that the store knows, also of earlier runs.
    pub fn start(store: ProcessStore, storage: Channel) -> Self {
        let uplink = Uplink::start(storage, Bounds::default(), CancellationToken::new());
        Self { ledger: Ledger::start(store, uplink.clone()), uplink }
    }

    /// Sends the rest, as long as storage is there. What is not taken is sent by the next start.
    pub async fn stop(self) {
        self.ledger.flush().await;
        self.uplink.close();
    }
}

struct Sending {
    store: ProcessStore,
    uplink: Uplink,
    /// By id, and so by time of creation: a parent's row comes before its children's.
    due: BTreeMap<String, Arc<ProcessRecord>>,
    /// The revision that storage has of each.
    taken: HashMap<String, u32>,
}

impl Sending {
    /// Gives the number of rows that storage has not taken.
    async fn run(mut self, stop: CancellationToken) -> usize {
        let (all, mut changes) = self.store.watch();
        for record in all {
            self.add(record);
        }
        let mut at = Instant::now();
        loop {
            tokio::select! {
                changed = changes.recv() => match changed {
                    Ok(record) => {
                        if self.due.is_empty() {
                            at = Instant::now() + GATHER;
                        }
                        self.add(record);
                    }
                    Err(RecvError::Lagged(_)) => self.look_again(),
                    Err(RecvError::Closed) => break,
                },
                () = sleep_until(at), if !self.due.is_empty() => {
                    let sent = stop.run_until_cancelled(self.send(Instant::now() + TAKE)).await;
                    if let Some(Err(error)) = sent
                        && !self.goes_on(&error)
                    {
                        return self.due.len();
                    }
                }
                () = stop.cancelled() => break,
            }
        }
        self.look_again();
        while !self.due.is_empty() {
            if let Err(error) = self.send(Instant::now() + FLUSH).await {
                tracing::warn!(%error, "the last rows of processes");
                break;
            }
        }
        self.due.len()
    }

    fn goes_on(&self, error: &UplinkError) -> bool {
        match error {
            UplinkError::Deadline { .. } => true,
            UplinkError::Refused { .. } => {
                tracing::error!(%error, "no more rows of processes are sent: run services of one version");
                false
            }
            UplinkError::Closed => false,
        }
    }

    fn add(&mut self, record: Arc<ProcessRecord>) {
        let revision = record.revision();
        if revision > 1 && self.taken.get(&record.id).is_none_or(|taken| *taken < revision) {
            self.due.insert(record.id.clone(), record);
        }
    }

    fn look_again(&mut self) {
        for record in self.store.all() {
            self.add(record);
        }
    }

    async fn send(&mut self, deadline: Instant) -> Result<(), UplinkError> {
        let batch: Vec<Arc<ProcessRecord>> = self.due.values().take(BATCH).cloned().collect();
        let rows = batch.iter().map(|record| row(record)).collect();
        self.uplink.write_ledger(rows, deadline).await?;
        for record in batch {
            self.due.remove(&record.id);
            self.taken.insert(record.id.clone(), record.revision());
        }
        if self.taken.len() > TAKEN {
            let store = &self.store;
            self.taken.retain(|id, _| store.get(id).is_some());
        }
        Ok(())
    }
}

fn row(record: &ProcessRecord) -> LedgerRow {
    let mut context = record.context.clone();
    let ended = record.end_reason.is_some();
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
    let row = rows::Process {
        process_id: record.id.clone(),
        parent_id: record.parent_id.clone(),
        machine_id: record.machine_id.clone(),
        process_type: record.kind.word().to_owned(),
        label: record.label.clone(),
        status: record.status.word().to_owned(),
        revision: record.revision(),
        pwd: record.pwd.clone(),
        cmd: json!(record.cmd).to_string(),
        env: json!(record.env).to_string(),
        timeout_ms: record.timeout_ms.map(u64::cast_signed),
        pid: record.pid,
        start_ticks: record.start_ticks.map(u64::cast_signed),
        boot_id: record.boot_id.clone(),
        created_at: rfc3339_ms(record.created_at_us),
        started_at: record.started_at_us.map(rfc3339_ms),
        ended_at: record.ended_at_us.map(rfc3339_ms),
        exit_code: record.exit_code,
        signal: record.signal,
        end_reason: record.end_reason.map(|reason| reason.word().to_owned()),
        end_detail: ended.then(|| record.end_detail.clone()),
        peak_rss_bytes: record.peak.map(|peak| peak.rss_bytes.cast_signed()),
        cpu_ms: record.peak.map(|peak| peak.cpu_ms.cast_signed()),
        stdout_path: path(&record.stdout),
        stderr_path: path(&record.stderr),
        url: record.url.clone(),
        retry_of: record.retry_of.clone(),
        browser_id: context.remove("browser_id").and_then(|id| id.parse().ok()),
        visit_ids: json!(record.visits).to_string(),
        context: json!(context).to_string(),
    };
    LedgerRow { row: Some(ledger_row::Row::Process(row)) }
}
