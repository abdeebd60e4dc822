//! The records of all processes that one service starts: in memory, in a journal, and told to whoever watches.

use std::collections::{BTreeMap, HashMap};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::counts::{Counter, Counts};
use super::handle::{Process, WeakProcess};
use super::journal::{self, Journal};
use super::output::{OutputReader, earlier};
use super::own::own_record;
use super::record::{Change, End, EndReason, ProcessKind, ProcessRecord, ProcessStatus};
use super::redact::Redactor;
use super::scope::Scope;
use super::{Machine, MachineStats, Spawn, SpawnError};
use crate::clock::wall_us;
use crate::lock::FileLock;

/// Changes that a watcher may be behind.
const CHANGES: usize = 1024;
const OUTPUTS: &str = "out";
/// Visits that are remembered of one process.
const VISITS: usize = 32;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records of processes that have exited.
    pub records: usize,
    /// Bytes of one file of output; there are at most two for each of stdout and stderr.
    pub file_bytes: u64,
    /// Bytes of the outputs of processes that have exited.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: 2000, file_bytes: 4 << 20, output_bytes: 256 << 20 }
    }
}

/// Whose store it is.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// State directory: holds the machine's identity, and a directory for each owner.
    pub directory: PathBuf,
    /// A name for the directory, such as `browser`.
    pub owner: &'static str,
    /// What this process is.
    pub kind: ProcessKind,
    pub limits: Limits,
    pub redactor: Redactor,
    /// What this process's own record says that it belongs to or has.
    pub context: BTreeMap<String, String>,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state directory {path:?} cannot be used: {source}; give one that can be written to")]
    Directory { path: PathBuf, source: io::Error },
    #[error("another process keeps its records in {path:?}; give this one a state directory of its own")]
    InUse { path: PathBuf },
}

/// The processes of one owner. Cheap to clone.
#[derive(Clone)]
pub struct ProcessStore(Arc<Inner>);

struct Inner {
    machine: Machine,
    own: String,
    outputs: PathBuf,
    limits: Limits,
    redactor: Redactor,
    book: Mutex<Book>,
    changes: broadcast::Sender<Arc<ProcessRecord>>,
    _lock: FileLock,
}

struct Book {
    /// By id, and so by time of creation.
    records: BTreeMap<String, Arc<ProcessRecord>>,
    journal: Journal,
    counter: Counter,
    /// Those that we have a handle on.
    live: HashMap<String, WeakProcess>,
    /// Bytes of the outputs of exited ones.
    sizes: HashMap<String, u64>,
}

impl std::fmt::Debug for ProcessStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessStore").field("own", &self.0.own).finish_non_exhaustive()
    }
}

fn private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn lock(directory: &Path) -> Result<FileLock, StoreError> {
    match FileLock::take(&directory.join("lock")) {
        Ok(lock) => lock.ok_or_else(|| StoreError::InUse { path: directory.to_owned() }),
        Err(source) => Err(StoreError::Directory { path: directory.to_owned(), source }),
    }
}

impl ProcessStore {
    /// Takes the owner's directory, with what a predecessor left in it; see [`ProcessStore::repair`]. This process gets a
    /// record itself: that of its supervisor, if that told one (`SONDE_PROCESS_ID`).
    ///
    /// # Errors
    /// When the directory cannot be used, or another process uses it.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let directory = options.directory.join(options.owner);
        let failed = |source| StoreError::Directory { path: directory.clone(), source };
        private(&directory.join(OUTPUTS)).map_err(failed)?;
        let directory = directory.canonicalize().map_err(failed)?;
        let guard = lock(&directory)?;
        let machine = Machine::identify(&options.directory).map_err(failed)?;
        let found = journal::read(&directory).map_err(failed)?;
        if found.damaged > 0 {
            tracing::warn!(
                ?directory,
                lines = found.damaged,
                "damaged lines of the journal of processes are left out"
            );
        }
        let journal = Journal::create(&directory, found.records.values()).map_err(failed)?;
        let mut book = Book {
            counter: Counter::new(wall_us(), found.records.keys()),
            records: found.records.into_iter().map(|(id, record)| (id, Arc::new(record))).collect(),
            journal,
            live: HashMap::new(),
            sizes: HashMap::new(),
        };
        let outputs = directory.join(OUTPUTS);
        book.take_stock(&outputs).map_err(failed)?;
        let mut own = own_record(&machine, options.kind, options.owner, &options.redactor).map_err(failed)?;
        own.context = options.context;
        let id = own.id.clone();
        book.put(own);
        Ok(Self(Arc::new(Inner {
            machine,
            own: id,
            outputs,
            limits: options.limits,
            redactor: options.redactor,
            book: Mutex::new(book),
            changes: broadcast::channel(CHANGES).0,
            _lock: guard,
        })))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its journal is.
    pub(super) fn directory(&self) -> &Path {
        self.0.outputs.parent().unwrap_or(&self.0.outputs)
    }

    /// This machine.
    pub fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// What this machine has left now, with the disk that the records are on.
    pub fn machine_stats(&self) -> MachineStats {
        MachineStats::observe(&self.0.outputs)
    }

    /// How many processes were started and how they ended, since this was opened.
    pub fn counts(&self) -> Counts {
        self.book().counter.counts.clone()
    }

    /// The record of this process itself.
    pub fn own_id(&self) -> &str {
        &self.0.own
    }

    /// For what is started on behalf of this process itself.
    pub fn scope(&self) -> Scope {
        Scope::new(self.clone())
    }

    /// One record.
    pub fn get(&self, id: &str) -> Option<Arc<ProcessRecord>> {
        self.book().records.get(id).cloned()
    }

    /// All records, in the order of their creation.
    pub fn all(&self) -> Vec<Arc<ProcessRecord>> {
        self.book().records.values().cloned().collect()
    }

    /// All records now, and every change from now on. A watcher that is far behind sees `Lagged`.
    pub fn watch(&self) -> (Vec<Arc<ProcessRecord>>, broadcast::Receiver<Arc<ProcessRecord>>) {
        let book = self.book();
        (book.records.values().cloned().collect(), self.0.changes.subscribe())
    }

    /// The process of a record, if we started it and it is not gone.
    pub fn process(&self, id: &str) -> Option<Process> {
        self.book().live.get(id).and_then(WeakProcess::upgrade)
    }

    /// The processes that run now.
    pub fn processes(&self) -> Vec<Process> {
        self.book().live.values().filter_map(WeakProcess::upgrade).collect()
    }

    /// What a process has written; `None` when nothing of it is kept.
    pub fn output(&self, id: &str, stderr: bool) -> Option<OutputReader> {
        if let Some(process) = self.process(id)
            && let Some(reader) = process.output(stderr)
        {
            return Some(reader);
        }
        let record = self.get(id)?;
        let path = if stderr { &record.stderr } else { &record.stdout };
        path.as_ref().map(OutputReader::closed)
    }

    /// These processes serve a visit from now on.
    pub fn serve<'a>(&self, ids: impl IntoIterator<Item = &'a str>, visit_id: i64) {
        for id in ids {
            self.note(id, |record| {
                let first = record.visits.len().saturating_sub(VISITS - 1);
                record.visits.drain(..first);
                record.visits.push(visit_id);
            });
        }
    }

    /// The service ends in order: its own record says so. What else still runs is left as it is.
    pub fn close(&self) {
        let end = End::without_status(EndReason::Exited, "it ended in order");
        self.change(&self.0.own, Change::Ended(end));
    }

    pub(super) fn change(&self, id: &str, change: Change) {
        let mut book = self.book();
        let Some(record) = book.records.get(id) else { return };
        let mut record = ProcessRecord::clone(record);
        match record.apply(change, wall_us()) {
            Ok(()) => self.tell(&mut book, record),
            Err(error) => tracing::error!(%error, "a process did what it cannot do"),
        }
    }

    /// Changes what is known of a process that has not exited. It is told at once, and written with its end.
    pub(super) fn note(&self, id: &str, change: impl FnOnce(&mut ProcessRecord)) {
        let mut book = self.book();
        let Some(record) = book.records.get_mut(id) else { return };
        if record.status == ProcessStatus::Exited {
            return;
        }
        let changed = Arc::make_mut(record);
        change(changed);
        changed.modified_at_us = wall_us();
        let told = record.clone();
        // An error only says that nobody watches.
        let _ = self.0.changes.send(told);
    }

    fn tell(&self, book: &mut Book, record: ProcessRecord) {
        let record = book.put(record);
        // An error only says that nobody watches.
        let _ = self.0.changes.send(record);
    }

    /// A record of what is about to be started.
    pub(super) fn queue(&self, spec: &Spawn, scope: &Scope, mark: &str) -> Entry {
        let id = spec.id.clone().unwrap_or_else(new_id);
        let inherited = if spec.clear_env { Vec::new() } else { std::env::vars_os().collect() };
        let env = inherited.into_iter().chain(spec.env.iter().cloned());
        let words = std::iter::once(spec.program.as_os_str()).chain(spec.args.iter().map(|a| a.as_os_str()));
        let pwd = spec.cwd.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        let own =
            |stream: &str, taken: bool| (!taken).then(|| self.0.outputs.join(format!("{id}.{stream}.log")));
        let (stdout, stderr) = match spec.files.clone() {
            Some((stdout, stderr)) => (Some(stdout), Some(stderr)),
            None => (own("stdout", spec.stdout.is_some()), own("stderr", spec.stderr.is_some())),
        };
        let now = wall_us();
        let record = ProcessRecord {
            id: id.clone(),
            machine_id: self.0.machine.guid.clone(),
            parent_id: Some(scope.parent.clone()),
            kind: spec.kind,
            label: spec.label.clone(),
            pwd: pwd.to_string_lossy().into_owned(),
            cmd: self.0.redactor.arguments(words.map(|w| w.to_string_lossy().into_owned())),
            env: self.0.redactor.environment(env),
            timeout_ms: spec.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            boot_id: self.0.machine.boot_id.clone(),
            pid_namespace: self.0.machine.pid_namespace,
            mark: mark.to_owned(),
            created_at_us: now,
            modified_at_us: now,
            stdout,
            stderr,
            retry_of: spec.retry_of.clone(),
            context: scope.context.clone().into_iter().chain(spec.context.clone()).collect(),
            ..ProcessRecord::default()
        };
        let entry = Entry { store: self.clone(), id, limit: self.0.limits.file_bytes, started: false };
        let mut book = self.book();
        self.tell(&mut book, record);
        entry
    }

    fn ended(&self, id: &str, end: End) {
        self.change(id, Change::Ended(end));
        let mut book = self.book();
        book.live.remove(id);
        book.weigh(id);
        book.retire(&self.0.limits, &self.0.own);
        book.tidy();
    }
}

/// A new record's id.
pub(super) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl Book {
    fn put(&mut self, record: ProcessRecord) -> Arc<ProcessRecord> {
        let was_behind = self.journal.wants_rewrite();
        if let Err(error) = self.journal.append(&record)
            && !was_behind
        {
            tracing::error!(%error, "the journal of processes cannot be written; it is tried again with each process that ends");
        }
        self.counter.count(self.records.get(&record.id).map(|record| &**record), &record);
        let record = Arc::new(record);
        self.records.insert(record.id.clone(), record.clone());
        record
    }

    fn weigh(&mut self, id: &str) {
        let Some(record) = self.records.get(id) else { return };
        let bytes =
            own_files(record).iter().filter_map(|path| std::fs::metadata(path).ok()).map(|m| m.len()).sum();
        self.sizes.insert(id.to_owned(), bytes);
    }

    /// Removes the oldest records of exited processes, with their files, until what is left is within the limits.
    fn retire(&mut self, limits: &Limits, own: &str) {
        let exited = |r: &&Arc<ProcessRecord>| r.status == ProcessStatus::Exited && r.id != own;
        let mut count = self.records.values().filter(exited).count();
        let mut bytes: u64 = self.sizes.values().sum();
        let ids: Vec<String> = self.records.values().filter(exited).map(|r| r.id.clone()).collect();
        for id in ids {
            if count <= limits.records && bytes <= limits.output_bytes {
                return;
            }
            if let Some(record) = self.records.remove(&id) {
                for path in own_files(&record) {
                    remove(&path);
                }
            }
            bytes -= self.sizes.remove(&id).unwrap_or_default();
            count -= 1;
        }
    }

    fn tidy(&mut self) {
        if self.journal.wants_rewrite()
            && let Err(error) = self.journal.rewrite(self.records.values().map(|record| &**record))
        {
            tracing::error!(%error, "the journal of processes cannot be rewritten");
        }
    }

    /// Weighs the files that are there, and removes those that no record tells of.
    fn take_stock(&mut self, outputs: &Path) -> io::Result<()> {
        let ids: Vec<String> = self.records.keys().cloned().collect();
        for id in ids {
            self.weigh(&id);
        }
        for entry in std::fs::read_dir(outputs)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !self.records.contains_key(name.split('.').next().unwrap_or_default()) {
                remove(&path);
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(?path, %error, "the output of a process cannot be removed");
        }
        _ => {}
    }
}

/// All that a record's process wrote.
fn files(record: &ProcessRecord) -> Vec<PathBuf> {
    let both = record.stdout.iter().chain(&record.stderr);
    both.flat_map(|path| [path.clone(), earlier(path)]).collect()
}

/// Of these, the ones that are ours to remove: a hook's are part of its results.
fn own_files(record: &ProcessRecord) -> Vec<PathBuf> {
    let hook = record.kind == ProcessKind::Hook;
    if hook { Vec::new() } else { files(record) }
}

/// The record of a process that is being started or runs.
#[derive(Debug)]
pub(super) struct Entry {
    store: ProcessStore,
    id: String,
    limit: u64,
    started: bool,
}

impl Entry {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn store(&self) -> ProcessStore {
        self.store.clone()
    }

    /// Where its outputs go, and how long each may be.
    pub fn files(&self) -> [Option<(PathBuf, u64)>; 2] {
        let record = self.store.get(&self.id);
        let place = |path: &Option<PathBuf>| path.clone().map(|path| (path, self.limit));
        record.map_or([None, None], |record| [place(&record.stdout), place(&record.stderr)])
    }

    pub fn started(&mut self, pid: u32, start_ticks: u64) {
        self.started = true;
        self.store.change(&self.id, Change::Started { pid, start_ticks });
    }

    pub fn failed(mut self, error: &SpawnError) {
        self.started = true;
        self.store.ended(&self.id, End::without_status(EndReason::SpawnFailed, error.to_string()));
    }

    pub fn attach(&self, process: &Process) {
        self.store.book().live.insert(self.id.clone(), process.downgrade());
    }

    /// Writes to disk: blocking.
    pub fn ended(self, end: End) {
        self.store.ended(&self.id, end);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // One that runs when the program ends is found by the next one.
        if !self.started {
            let end = End::without_status(EndReason::SpawnFailed, "its start was given up");
            self.store.ended(&self.id, end);
        }
    }
}
