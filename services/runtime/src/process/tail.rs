//! The end of a child's output, bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use super::TAIL_BYTES;

/// A longer run without a newline is logged in pieces, so that a child cannot make us buffer without end.
const LINE_BYTES: usize = 8 * 1024;

#[derive(Debug, Default, Clone)]
pub(super) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    written: watch::Sender<()>,
}

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..excess);
        drop(kept);
        self.written.send_replace(());
    }

    /// Tells of every piece that comes.
    pub fn news(&self) -> watch::Receiver<()> {
        self.written.subscribe()
    }

    pub fn text(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}

/// Reads until the last holder of the other end closes it. Lines also go to the log, at debug level.
pub(super) async fn follow(
    output: impl AsyncRead + Unpin,
    tail: Tail,
    label: String,
    pid: u32,
    stream: &'static str,
) {
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
        tail.push(chunk);
        for &byte in chunk {
            if byte != b'\n' {
                line.push(byte);
            }
            if byte == b'\n' || line.len() >= LINE_BYTES {
                tracing::debug!(label, pid, stream, "{}", String::from_utf8_lossy(&line));
                line.clear();
            }
        }
        output.consume(taken);
    }
    if !line.is_empty() {
        tracing::debug!(label, pid, stream, "{}", String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_end_of_the_output_is_kept() {
        let tail = Tail::default();
        let mut output = vec![b'a'; 3 * TAIL_BYTES];
        output.extend_from_slice(b"\nlast words");
        follow(&output[..], tail.clone(), "test".into(), 1, "stderr").await;
        assert_eq!(tail.text().len(), TAIL_BYTES);
        assert!(tail.text().ends_with("a\nlast words"));
    }
}
