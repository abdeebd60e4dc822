//! What a child writes: its end in memory, more of it in files, and its lines for whoever wants them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use super::TAIL_BYTES;
use super::output::{OutputFile, Position};

/// A longer run without a newline is handed on in pieces, so that a child cannot make us buffer without end.
const LINE_BYTES: usize = 16 * 1024;

/// Takes each line of an output, without its end. Called by the task that reads: one that is slow slows the child down.
pub type Lines = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Debug, Default, Clone)]
pub(super) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    written: watch::Sender<u64>,
    /// Of the file it goes to.
    pub position: Position,
}

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..excess);
        drop(kept);
        self.written.send_modify(|written| *written += bytes.len() as u64);
    }

    /// Bytes so far; changes with every piece that comes, once it is in the file.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    pub fn text(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}

/// Where an output goes beside its tail.
pub(super) struct Follow {
    pub tail: Tail,
    /// And the largest size of it and of its predecessor.
    pub file: Option<(PathBuf, u64)>,
    /// `None`: to the log, at debug level.
    pub lines: Option<Lines>,
    pub label: String,
    pub pid: u32,
    pub stream: &'static str,
}

impl Follow {
    /// Reads until the last holder of the other end closes it.
    pub async fn run(self, output: impl AsyncRead + Unpin) {
        let Self { tail, file, lines, label, pid, stream } = self;
        let mut file = match file {
            None => None,
            Some((path, limit)) => OutputFile::create(&path, limit, tail.position.clone())
                .await
                .inspect_err(|error| tracing::error!(label, pid, stream, ?path, %error, "output is not kept"))
                .ok(),
        };
        let emit = |line: &mut Vec<u8>| {
            let text = String::from_utf8_lossy(line);
            match &lines {
                Some(lines) => lines(text.trim_end_matches(['\n', '\r'])),
                None => tracing::debug!(label, pid, stream, "{}", text.trim_end_matches(['\n', '\r'])),
            }
            line.clear();
        };
        let mut output = BufReader::with_capacity(LINE_BYTES, output);
        let mut line = Vec::new();
        loop {
            let chunk = match output.fill_buf().await {
                Ok([]) => break,
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::warn!(label, pid, stream, %error, "cannot read a child's output any more");
                    break;
                }
            };
            let taken = chunk.len();
            if let Some(open) = &mut file
                && let Err(error) = open.write(chunk).await
            {
                tracing::error!(label, pid, stream, %error, "output is not kept any more");
                file = None;
            }
            tail.push(chunk);
            for &byte in chunk {
                line.push(byte);
                if byte == b'\n' || line.len() >= LINE_BYTES {
                    emit(&mut line);
                }
            }
            output.consume(taken);
        }
        if !line.is_empty() {
            emit(&mut line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(tail: &Tail, lines: Option<Lines>, file: Option<(PathBuf, u64)>) -> Follow {
        Follow { tail: tail.clone(), file, lines, label: "test".into(), pid: 1, stream: "stderr" }
    }

    #[tokio::test]
    async fn only_the_end_of_the_output_is_kept() {
        let tail = Tail::default();
        let mut output = vec![b'a'; 3 * TAIL_BYTES];
        output.extend_from_slice(b"\nlast words");
        to(&tail, None, None).run(&output[..]).await;
        assert_eq!(tail.text().len(), TAIL_BYTES);
        assert!(tail.text().ends_with("a\nlast words"));
        assert_eq!(*tail.news().borrow(), output.len() as u64);
    }

    /// R9
    #[tokio::test]
    async fn lines_are_whole_and_bounded() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        let sink: Lines = Arc::new(move |line| {
            seen.lock().expect("no test panics holding it").push(line.to_owned());
        });
        let long = "x".repeat(LINE_BYTES + 5);
        let text = format!("one\r\ntwo\n\n{long}\nlast");
        to(&Tail::default(), Some(sink), None).run(text.as_bytes()).await;
        let lines = lines.lock().expect("no test panics holding it");
        let lengths: Vec<_> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [3, 3, 0, LINE_BYTES, 5, 4]);
    }

    /// R15, A04: a full disk costs the file, and neither the child nor the tail of its words.
    #[tokio::test]
    async fn output_goes_on_where_its_file_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let tail = Tail::default();
        to(&tail, None, Some((path.clone(), 1000))).run(&b"words"[..]).await;
        assert_eq!(std::fs::read(&path).unwrap(), b"words");
        let other = Tail::default();
        to(&other, None, Some((dir.path().join("no/where"), 1000))).run(&b"words"[..]).await;
        assert_eq!(other.text(), "words");
    }
}
