//! Reads what a hook prints as it comes, keeps it on disk up to a limit, and cuts it into records.

use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::super::event::Event;
use super::super::record::{self, Line, Record, Splitter};
use super::live::tell;

/// Records kept of one hook; the rest is counted.
const MAX_RECORDS: usize = 100_000;
/// Notes kept of one hook.
const MAX_NOTES: usize = 100;
/// The end of stderr, for the sentence on a failure.
const STDERR_TAIL: usize = 8 * 1024;

/// What a hook printed.
#[derive(Debug, Default)]
pub(super) struct Printed {
    pub records: Vec<Record>,
    pub notes: Vec<String>,
}

pub(super) struct Stdout {
    pub plugin: String,
    pub hook: String,
    pub extra: Value,
    pub max_bytes: u64,
    pub max_depth: Option<u64>,
    pub ready: Option<oneshot::Sender<()>>,
    /// Told when there is more than `max_bytes`.
    pub over: mpsc::Sender<()>,
    pub events: mpsc::Sender<Event>,
}

impl Stdout {
    pub async fn read(mut self, mut pipe: pipe::Receiver, mut log: File) -> Printed {
        let (mut splitter, mut printed) = (Splitter::default(), Printed::default());
        let (mut total, mut too_deep) = (0u64, 0u64);
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
            let room = usize::try_from(self.max_bytes.saturating_sub(total)).unwrap_or(usize::MAX);
            total += n as u64;
            // Beyond the limit it is read so that the hook can end, and dropped.
            let kept = &buffer[..n.min(room)];
            if kept.len() < n {
                // A full channel says that the runner knows.
                let _ = self.over.try_send(());
            }
            keep(&mut log, kept, &mut printed.notes).await;
            for line in splitter.push(kept) {
                self.line(&line, &mut printed, &mut too_deep).await;
            }
        }
        if let Some(half) = splitter.finish() {
            self.line(&half, &mut printed, &mut too_deep).await;
        }
        if too_deep > 0 {
            printed.notes.push(format!("{too_deep} snapshots beyond the depth limit were dropped"));
        }
        if total > self.max_bytes {
            printed.notes.push(format!("{total} bytes of output, of which {} are kept", self.max_bytes));
        }
        flush(&mut log, &mut printed.notes).await;
        printed
    }

    async fn line(&mut self, line: &[u8], printed: &mut Printed, too_deep: &mut u64) {
        if let Some(ready) = self.ready.take() {
            // Nobody waits for a hook in the foreground.
            let _ = ready.send(());
        }
        let (plugin, hook) = (self.plugin.clone(), self.hook.clone());
        let event = match record::read(line, (&self.plugin, &self.hook), &self.extra) {
            Line::Record(record) => {
                let deep = record.kind == "Snapshot"
                    && record.depth().zip(self.max_depth).is_some_and(|(d, m)| d > m);
                if deep {
                    *too_deep += 1;
                    return;
                }
                if !record.known {
                    note(
                        &mut printed.notes,
                        format!("a record of the unknown type {:?} was kept", record.kind),
                    );
                }
                if printed.records.len() < MAX_RECORDS {
                    printed.records.push(record.clone());
                } else {
                    note(&mut printed.notes, format!("records beyond {MAX_RECORDS} are not kept"));
                }
                Event::Record { plugin, hook, record }
            }
            Line::Computed { key, value } => {
                Event::ProcessStdout { plugin, hook, line: format!("{key}={value}") }
            }
            Line::Log(line) => Event::ProcessStdout { plugin, hook, line },
        };
        tell(&self.events, event).await;
    }
}

/// Keeps stderr as [`Stdout::read`] does; gives its end.
pub(super) async fn stderr(
    mut pipe: pipe::Receiver,
    mut log: File,
    max: u64,
    over: mpsc::Sender<()>,
) -> String {
    let (mut tail, mut total, mut buffer) = (Vec::new(), 0u64, vec![0; 64 * 1024]);
    let mut notes = Vec::new();
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        let room = usize::try_from(max.saturating_sub(total)).unwrap_or(usize::MAX);
        total += n as u64;
        let kept = &buffer[..n.min(room)];
        if kept.len() < n {
            let _ = over.try_send(());
        }
        keep(&mut log, kept, &mut notes).await;
        tail.extend_from_slice(kept);
        let excess = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..excess);
    }
    flush(&mut log, &mut notes).await;
    for note in notes {
        tracing::warn!("{note}");
    }
    String::from_utf8_lossy(&tail).into_owned()
}

fn note(notes: &mut Vec<String>, text: String) {
    if notes.len() < MAX_NOTES && !notes.contains(&text) {
        notes.push(text);
    }
}

async fn keep(log: &mut File, bytes: &[u8], notes: &mut Vec<String>) {
    if let Err(error) = log.write_all(bytes).await {
        note(notes, format!("the hook's output cannot be kept: {error}; is the disk full?"));
    }
}

async fn flush(log: &mut File, notes: &mut Vec<String>) {
    if let Err(error) = log.flush().await {
        note(notes, format!("the hook's output cannot be kept: {error}; is the disk full?"));
    }
}
