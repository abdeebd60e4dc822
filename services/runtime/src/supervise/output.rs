//! The output of children, line by line, each under its service's name.

use std::io::Write;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Longer lines are handed on in pieces.
const LINE_BYTES: usize = 16 * 1024;

/// Receives each line: the service's name and the line without its end. Called from the reading task, so that a slow
/// sink slows the child down instead of filling memory.
pub type LineSink = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// Writes `name | line` to standard error.
pub fn to_stderr() -> LineSink {
    Arc::new(|name, line| {
        let mut stderr = std::io::stderr().lock();
        // If standard error is gone there is nobody to tell.
        let _ = writeln!(stderr, "{name} | {line}");
    })
}

/// Reads until the end of `source`.
pub(super) async fn pump(name: String, source: impl AsyncRead + Unpin, sink: LineSink) {
    let mut reader = BufReader::with_capacity(LINE_BYTES, source);
    let mut line = Vec::new();
    let emit = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line);
        sink(&name, text.trim_end_matches(['\n', '\r']));
        line.clear();
    };
    loop {
        let (taken, complete) = match reader.fill_buf().await {
            Ok([]) => break,
            Ok(bytes) => {
                let room = LINE_BYTES - line.len();
                let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                let taken = end.unwrap_or(bytes.len()).min(room);
                line.extend_from_slice(&bytes[..taken]);
                (taken, line.ends_with(b"\n") || line.len() == LINE_BYTES)
            }
            Err(error) => {
                tracing::warn!(service = name, %error, "its output cannot be read further");
                break;
            }
        };
        reader.consume(taken);
        if complete {
            emit(&mut line);
        }
    }
    if !line.is_empty() {
        emit(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// R9
    #[tokio::test]
    async fn lines_are_whole_and_bounded() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        let sink: LineSink = Arc::new(move |name, line| {
            seen.lock().expect("no test panics holding it").push((name.to_owned(), line.to_owned()));
        });
        let long = "x".repeat(LINE_BYTES + 5);
        let text = format!("one\r\ntwo\n\n{long}\nlast");
        pump("a".to_owned(), text.as_bytes(), sink).await;
        let lines = lines.lock().expect("no test panics holding it");
        assert!(lines.iter().all(|(name, _)| name == "a"));
        let lengths: Vec<_> = lines.iter().map(|(_, line)| line.len()).collect();
        assert_eq!(lengths, [3, 3, 0, LINE_BYTES, 5, 4]);
    }
}
