//! `sonde up` on a free port with its data in the world's directory.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::world::{Running, World};

/// From start to all three services ready.
const READY: Duration = Duration::from_secs(90);
/// From SIGTERM to the end of everything.
const STOP: Duration = Duration::from_secs(90);

/// The three services as processes.
pub struct Up {
    running: Running,
    /// `http://127.0.0.1:port` of the coordinator.
    pub coordinator: String,
    pub storage: PathBuf,
    pub browser: PathBuf,
}

impl Up {
    /// Starts them with so many browsers and waits until they are ready.
    pub async fn start(world: &World, browsers: u32) -> Self {
        let (data, listen, browsers) = (
            world.data().display().to_string(),
            format!("http://127.0.0.1:{}", free_port()),
            browsers.to_string(),
        );
        let mut running = world.sonde(["up", "--out", &data, "--listen", &listen, "--browsers", &browsers]);
        let coordinator = running.line("coordinator", READY).await;
        let socket = |text: String| PathBuf::from(text.strip_prefix("unix:").unwrap_or(&text));
        let storage = socket(running.line("storage", READY).await);
        let browser = socket(running.line("browser", READY).await);
        // A coordinator of somebody else on this port would answer as ours, and take our visits.
        let log = running.stderr();
        assert!(!log.contains("cannot listen on"), "the port was taken meanwhile: {log}");
        Self { running, coordinator, storage, browser }
    }

    /// Host and port of the coordinator.
    pub fn authority(&self) -> &str {
        self.coordinator.strip_prefix("http://").unwrap_or(&self.coordinator)
    }

    /// What the services have logged until now.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// R14: SIGTERM, an orderly end with exit code 0, and nothing left.
    pub async fn stop(self, world: &World) {
        self.terminate(world).await;
        world.assert_nothing_left(Duration::from_secs(5)).await;
    }

    /// The same without a look at files: a service that was killed could not remove its own.
    pub async fn stop_after_kills(self, world: &World) {
        self.terminate(world).await;
        world.assert_no_process_left(Duration::from_secs(5)).await;
    }

    async fn terminate(mut self, world: &World) {
        // Remembers the sessions of browsers, whose processes cannot be known by their environment.
        world.processes();
        self.running.signal_group(Signal::TERM);
        assert_eq!(self.running.code(STOP).await, 0, "{}", self.running.stderr());
    }
}

/// Ports given out in this process: two tests that look at the same time must not both find the same one free.
static GIVEN: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on, below those that the system gives to outgoing connections.
fn free_port() -> u16 {
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < 10_000, "none of 10,000 ports is free");
        // Far from where other test processes begin, whose ids are near.
        let offset = (std::process::id().wrapping_mul(61).wrapping_add(given)) % 10_000;
        let port = 20_000 + u16::try_from(offset).expect("it is below 10,000");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_out_twice() {
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| [free_port(), free_port()])).collect();
        let ports: Vec<u16> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 16, "{ports:?}");
    }
}
