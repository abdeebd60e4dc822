//! The first SIGINT or SIGTERM asks for a drain, the second for an end at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a process was asked to do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Cancelled by the first signal, or by [`Shutdown::request`].
    pub drain: CancellationToken,
    /// Cancelled by the second signal: the caller ends with [`Shutdown::exit_code`] without waiting for anything.
    pub immediate: CancellationToken,
    last: Arc<AtomicI32>,
}

impl Shutdown {
    /// Both tokens without any signal handler, for embedding and tests.
    pub fn detached() -> Self {
        Self {
            drain: CancellationToken::new(),
            immediate: CancellationToken::new(),
            last: Arc::new(AtomicI32::new(0)),
        }
    }

    /// Takes over SIGINT and SIGTERM of this process. Call once, within a tokio runtime.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::detached();
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        tokio::spawn(watch(shutdown.clone(), interrupt, terminate));
        Ok(shutdown)
    }

    /// Asks for a drain from inside the process.
    pub fn request(&self) {
        self.drain.cancel();
    }

    /// The last signal received, if any.
    pub fn signal(&self) -> Option<i32> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number),
        }
    }

    /// 128 + the signal that asked for the immediate end (130 for SIGINT, 143 for SIGTERM); 130 if there was none.
    pub fn exit_code(&self) -> u8 {
        128 + u8::try_from(self.signal().unwrap_or(libc::SIGINT)).unwrap_or(2)
    }
}

async fn watch(shutdown: Shutdown, mut interrupt: Signal, mut terminate: Signal) {
    for token in [&shutdown.drain, &shutdown.immediate] {
        let number = tokio::select! {
            _ = interrupt.recv() => libc::SIGINT,
            _ = terminate.recv() => libc::SIGTERM,
        };
        shutdown.last.store(number, Ordering::Relaxed);
        if shutdown.drain.is_cancelled() {
            tracing::warn!(signal = number, "asked again to stop: ending at once");
            shutdown.immediate.cancel();
            return;
        }
        tracing::info!(signal = number, "asked to stop: draining; a second signal ends at once");
        token.cancel();
    }
}
