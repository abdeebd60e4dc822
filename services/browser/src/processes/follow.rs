//! The streams of the ProcessService: trees as they change, outputs as they are written.

use std::collections::{HashSet, VecDeque};

use futures_util::stream::BoxStream;
use sonde_proto::browser::v1::{
    ProcessStream, ProcessTree, TailOutputRequest, TailOutputResponse, WatchProcessTreeRequest,
    WatchProcessTreeResponse, watch_process_tree_response::Event,
};
use sonde_runtime::process::{Forest, OutputReader, Process, ProcessStatus, ProcessStore};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{convert, unknown};

/// Messages that may wait for a slow caller.
const OUTBOX: usize = 16;
/// Of one message.
const PIECE: usize = 64 << 10;
/// From the end of an output unless said.
const BYTES: u64 = 64 << 10;

type Outbox<T> = mpsc::Sender<Result<T, Status>>;

/// Runs the writer of a stream until the caller goes or the service stops.
fn stream<T: Send + 'static, F>(
    stop: CancellationToken,
    write: impl FnOnce(Outbox<T>) -> F,
) -> BoxStream<'static, Result<T, Status>>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (out, outbox) = mpsc::channel(OUTBOX);
    let (writing, gone) = (write(out.clone()), out.clone());
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = writing => ended,
            () = gone.closed() => return,
            () = stop.cancelled() => Err(Status::unavailable("the browser-service is stopping")),
        };
        if let Err(status) = ended {
            // A caller that went has no use for it.
            let _ = out.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(outbox))
}

/// A caller that went is no error of ours: the stream ends.
async fn send<T>(out: &Outbox<T>, message: T) -> Result<(), Status> {
    out.send(Ok(message)).await.map_err(|_| Status::cancelled("the caller went"))
}

/// A snapshot, then changes.
pub(super) fn tree(
    store: ProcessStore,
    request: WatchProcessTreeRequest,
    stop: CancellationToken,
) -> BoxStream<'static, Result<WatchProcessTreeResponse, Status>> {
    stream(stop, |out| async move {
        loop {
            let (records, mut changes) = store.watch();
            let mut inside = snapshot(&out, Forest::new(records), &request).await?;
            loop {
                let record = match changes.recv().await {
                    Ok(record) => record,
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                };
                let below = record.parent_id.as_ref().is_some_and(|parent| inside.contains(parent));
                if request.root_id.is_empty() || below || inside.contains(&record.id) {
                    inside.insert(record.id.clone());
                    let depth = Forest::new(store.all()).depth(&record);
                    let changed = Event::Changed(convert::process(&record, depth));
                    send(&out, WatchProcessTreeResponse { event: Some(changed) }).await?;
                }
            }
        }
    })
}

/// Sends all of the tree; gives the ids of what is in it.
async fn snapshot(
    out: &Outbox<WatchProcessTreeResponse>,
    forest: Forest,
    request: &WatchProcessTreeRequest,
) -> Result<HashSet<String>, Status> {
    let root = Some(request.root_id.as_str()).filter(|id| !id.is_empty());
    let mut walk = forest.walk(root).map_err(unknown)?;
    let inside = walk.iter().map(|record| record.id.clone()).collect();
    walk.retain(|record| !request.running || record.status == ProcessStatus::Running);
    let processes = walk.iter().map(|record| convert::process(record, forest.depth(record))).collect();
    let snapshot = Event::Snapshot(ProcessTree { processes });
    send(out, WatchProcessTreeResponse { event: Some(snapshot) }).await?;
    Ok(inside)
}

/// An output on its way to a caller.
pub(super) struct Output {
    reader: OutputReader,
    /// Tells of more, and of the end.
    live: Option<(watch::Receiver<u64>, futures_util::future::BoxFuture<'static, ()>)>,
    bytes: u64,
    lines: u32,
}

impl Output {
    pub fn new(reader: OutputReader, process: Option<Process>, request: &TailOutputRequest) -> Self {
        let stderr = request.stream() == ProcessStream::Stderr;
        let live = process.filter(|_| request.follow).map(|process| {
            let gone: futures_util::future::BoxFuture<'static, ()> = Box::pin(process.gone());
            (process.written(stderr), gone)
        });
        let bytes = if request.bytes == 0 { BYTES } else { request.bytes };
        Self { reader, live, bytes, lines: request.lines }
    }

    pub fn stream(self, stop: CancellationToken) -> BoxStream<'static, Result<TailOutputResponse, Status>> {
        stream(stop, |out| async move { self.write(out).await })
    }

    async fn write(self, out: Outbox<TailOutputResponse>) -> Result<(), Status> {
        let Self { reader, mut live, bytes, lines } = self;
        let mut at = begin(&reader, bytes, lines).await?;
        let mut first = true;
        loop {
            // Noted before reading: what comes meanwhile is read in the next round.
            if let Some((news, _)) = &mut live {
                news.borrow_and_update();
            }
            loop {
                let piece = reader.read(at, PIECE).await.map_err(unreadable)?;
                if piece.bytes.is_empty() {
                    break;
                }
                let skipped = if first { 0 } else { piece.at - at };
                (first, at) = (false, piece.at + piece.bytes.len() as u64);
                send(&out, TailOutputResponse { offset: piece.at, data: piece.bytes.into(), skipped })
                    .await?;
            }
            let Some((news, gone)) = &mut live else { return Ok(()) };
            tokio::select! {
                more = news.changed() => if more.is_err() {
                    live = None;
                },
                // What it wrote last is read in one round more.
                () = gone => live = None,
            }
        }
    }
}

fn unreadable(error: std::io::Error) -> Status {
    Status::data_loss(format!("the output cannot be read: {error}"))
}

/// Where to begin to send the last so many bytes, of these the last so many lines.
async fn begin(reader: &OutputReader, bytes: u64, lines: u32) -> Result<u64, Status> {
    let end = reader.end().await.map_err(unreadable)?;
    let earliest = end.saturating_sub(bytes);
    if lines == 0 {
        return Ok(earliest);
    }
    let lines = lines as usize;
    // Beginnings of the latest lines, as many as are wanted.
    let mut begins = VecDeque::new();
    let mut at = earliest;
    while at < end {
        let piece = reader.read(at, PIECE).await.map_err(unreadable)?;
        if piece.bytes.is_empty() {
            break;
        }
        for (place, _) in piece.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            let begin = piece.at + place as u64 + 1;
            // The break at the very end begins no line.
            if begin < end {
                begins.push_back(begin);
            }
            if begins.len() > lines {
                begins.pop_front();
            }
        }
        at = piece.at + piece.bytes.len() as u64;
    }
    Ok(if begins.len() < lines { earliest } else { begins.front().copied().unwrap_or(earliest) })
}
