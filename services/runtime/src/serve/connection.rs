//! An accepted connection that can be cut: tonic spawns its connections out of reach, so the only handle on them is
//! their I/O.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::limits;
use crate::endpoint::{Accepted, Listener};

/// The length of `PRI * HTTP/2.0 ...`.
const PREFACE_BYTES: usize = 24;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server has done so far.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) accept_errors: AtomicU64,
}

impl Stats {
    pub fn connections_accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn connections_open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }
}

/// Who is at the other end; in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Tcp(Option<SocketAddr>),
    /// The user id that the kernel vouches for.
    Unix {
        uid: Option<u32>,
    },
    Inproc,
}

pub(super) struct Connection {
    io: Accepted,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    handshake: Option<(Pin<Box<Sleep>>, usize)>,
    stats: Arc<Stats>,
    _permit: OwnedSemaphorePermit,
}

/// The connections of `listener`, at most [`limits::CONNECTIONS`] at a time. Dropping it closes the listener.
pub(super) fn incoming(
    listener: Listener,
    cut: CancellationToken,
    stats: Arc<Stats>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let permits = Arc::new(Semaphore::new(limits::CONNECTIONS));
    futures_util::stream::unfold(
        (listener, permits, cut, stats),
        |(mut listener, permits, cut, stats)| async {
            let permit = permits.clone().acquire_owned().await.expect("this semaphore is never closed");
            let io = loop {
                match listener.accept().await {
                    Ok(io) => break io,
                    Err(error) => {
                        // Out of descriptors, or a client that left: neither ends the server, neither may spin.
                        stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%error, endpoint = %listener.endpoint(), "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            };
            stats.accepted.fetch_add(1, Ordering::Relaxed);
            stats.open.fetch_add(1, Ordering::Relaxed);
            let connection = Connection {
                io,
                cut: Box::pin(cut.clone().cancelled_owned()),
                handshake: Some((Box::pin(tokio::time::sleep(limits::HANDSHAKE)), 0)),
                stats: stats.clone(),
                _permit: permit,
            };
            Some((Ok(connection), (listener, permits, cut, stats)))
        },
    )
}

impl Connection {
    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server has stopped"))
            }
            Poll::Pending => Ok(()),
        }
    }

    fn check_handshake(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some((deadline, _)) = &mut self.handshake else { return Ok(()) };
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}

macro_rules! on_io {
    ($self:expr, $io:ident => $call:expr) => {
        match &mut $self.io {
            Accepted::Tcp($io) => $call,
            Accepted::Unix($io) => $call,
            Accepted::Inproc($io) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        self.check_handshake(context)?;
        let before = buffer.filled().len();
        let result = on_io!(self, io => Pin::new(io).poll_read(context, buffer));
        if let Some((_, read)) = &mut self.handshake {
            *read += buffer.filled().len() - before;
            if *read >= PREFACE_BYTES {
                self.handshake = None;
            }
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        on_io!(self, io => Pin::new(io).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, io => Pin::new(io).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, io => Pin::new(io).poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        on_io!(self, io => Pin::new(io).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Accepted::Tcp(io) => io.is_write_vectored(),
            Accepted::Unix(io) => io.is_write_vectored(),
            Accepted::Inproc(io) => io.is_write_vectored(),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        match &self.io {
            Accepted::Tcp(io) => Peer::Tcp(io.peer_addr().ok()),
            Accepted::Unix(io) => Peer::Unix { uid: io.peer_cred().ok().map(|peer| peer.uid()) },
            Accepted::Inproc(_) => Peer::Inproc,
        }
    }
}
