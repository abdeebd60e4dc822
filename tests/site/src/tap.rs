//! A connection that remembers the heads of the request now being read and of its answer, byte for byte.
//!
//! The HTTP library keeps neither the case of header names nor the place of repeated ones, and adds headers of its own;
//! the log promises what was on the wire.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::log::Log;

/// The HTTP library refuses larger heads before this bound matters.
const MAX_HEAD: usize = 512 << 10;

#[derive(Default)]
struct Head {
    bytes: Vec<u8>,
    complete: bool,
}

impl Head {
    /// Takes what belongs to the head; true once, when it is whole.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        if self.complete || self.bytes.len() > MAX_HEAD {
            return false;
        }
        let searched = self.bytes.len().saturating_sub(3);
        self.bytes.extend_from_slice(bytes);
        if let Some(at) = self.bytes[searched..].windows(4).position(|w| w == b"\r\n\r\n") {
            self.bytes.truncate(searched + at);
            self.complete = true;
        }
        self.complete
    }
}

/// The head of the current request of one connection. Clients that do not pipeline send the next head only after
/// they were answered, and [`HeadTap::take`] is called before that.
#[derive(Clone, Default)]
pub(crate) struct HeadTap(Arc<Mutex<Head>>);

impl HeadTap {
    fn feed(&self, read: &[u8]) {
        self.0.lock().expect("no code panics while it holds the tap").feed(read);
    }

    /// The raw head, or `None` when it was not seen whole.
    pub fn take(&self) -> Option<Vec<u8>> {
        let head = self.0.lock().expect("no code panics while it holds the tap");
        head.complete.then(|| head.bytes.clone())
    }

    /// Begins to watch for the next head; call once the body of the current request is read.
    pub fn rearm(&self) {
        *self.0.lock().expect("no code panics while it holds the tap") = Head::default();
    }
}

/// The head of the answer that one connection is to send next. It goes into the log when it is on its way.
#[derive(Clone)]
pub(crate) struct AnswerTap {
    log: Arc<Log>,
    due: Arc<Mutex<Option<(u64, Head)>>>,
}

impl AnswerTap {
    pub fn new(log: Arc<Log>) -> Self {
        Self { log, due: Arc::default() }
    }

    /// What is sent from now on answers that request.
    pub fn expect(&self, ordinal: u64) {
        *self.due.lock().expect("no code panics while it holds the tap") = Some((ordinal, Head::default()));
    }

    fn feed(&self, sent: &[u8]) {
        let mut due = self.due.lock().expect("no code panics while it holds the tap");
        if let Some((ordinal, head)) = due.as_mut()
            && head.feed(sent)
        {
            if let Some(RawHead { headers, .. }) = parse_head(&head.bytes) {
                self.log.update(*ordinal, |hit| hit.response_headers = headers);
            }
            *due = None;
        }
    }
}

/// First line and headers of a raw head, as they were on the wire.
pub(crate) struct RawHead {
    pub line: String,
    pub headers: Vec<(String, String)>,
}

/// Splits a head into lines; `None` when it is not one. Bytes map to characters as Latin-1, so nothing is lost.
pub(crate) fn parse_head(bytes: &[u8]) -> Option<RawHead> {
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.split("\r\n").skip_while(|line| line.is_empty());
    let line = lines.next()?.to_owned();
    let headers = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
        .collect::<Option<Vec<_>>>()?;
    Some(RawHead { line, headers })
}

/// Lets a handler end its connection without an answer.
#[derive(Clone, Default)]
pub(crate) struct Hangup {
    ended: CancellationToken,
    reset: Arc<AtomicBool>,
}

impl Hangup {
    /// Ends it: by a reset, or as one that is over.
    pub fn now(&self, reset: bool) {
        self.reset.store(reset, Ordering::Relaxed);
        self.ended.cancel();
    }

    pub async fn asked(&self) {
        self.ended.cancelled().await;
    }
}

/// What carries a connection.
pub(crate) enum Carrier {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Carrier {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// Calls a method of the stream that it is.
macro_rules! carried {
    ($self:expr, $method:ident($($argument:expr),*)) => {
        match &mut $self.stream {
            Carrier::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Carrier::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

/// The tapped connection.
pub(crate) struct Tapped {
    pub stream: Carrier,
    pub tap: HeadTap,
    pub answers: AnswerTap,
    pub hangup: Hangup,
}

impl Drop for Tapped {
    fn drop(&mut self) {
        if self.hangup.reset.load(Ordering::Relaxed)
            && let Err(error) = self.stream.tcp().set_zero_linger()
        {
            tracing::warn!(%error, "a connection ends without the reset it should have");
        }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = carried!(self, poll_read(cx, buf));
        if let Poll::Ready(Ok(())) = result {
            self.tap.feed(&buf.filled()[before..]);
        }
        result
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = carried!(self, poll_write(cx, buf));
        if let Poll::Ready(Ok(sent)) = &result {
            self.answers.feed(&buf[..*sent]);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_split_over_reads_is_kept_with_case_and_order() {
        let tap = HeadTap::default();
        for part in [&b"GET / HTTP/1.1\r\nX-b: 1\r\nx-A: 2\r\nX-b: 3\r"[..], b"\n", b"\r\nbody\r\n\r\n"] {
            tap.feed(part);
        }
        let head = parse_head(&tap.take().unwrap()).unwrap();
        assert_eq!(head.line, "GET / HTTP/1.1");
        let names: Vec<_> = head.headers.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(names, ["X-b=1", "x-A=2", "X-b=3"]);
        tap.rearm();
        assert!(tap.take().is_none());
    }
}
