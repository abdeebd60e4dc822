use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Dials that wait to be accepted.
const BACKLOG: usize = 64;
/// Bytes in flight per direction of one in-process connection.
const PIPE_BYTES: usize = 256 * 1024;

/// The in-process listeners by name. Pass clones by value; two registries know nothing of each other.
#[derive(Clone, Default)]
pub struct Inproc {
    listeners: Arc<Mutex<HashMap<String, mpsc::Sender<DuplexStream>>>>,
}

impl Inproc {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<DuplexStream>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if the name is taken.
    pub(super) fn listen(&self, name: &str) -> Option<InprocListener> {
        let (dials, accepted) = mpsc::channel(BACKLOG);
        match self.lock().entry(name.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(dials);
                Some(InprocListener { name: name.to_owned(), accepted, registry: self.clone() })
            }
        }
    }

    /// A connection to the listener `name`; waits while its backlog is full.
    pub(super) async fn dial(&self, name: &str) -> io::Result<DuplexStream> {
        let refused = || {
            let message = format!("nothing listens on inproc:{name} in this process");
            io::Error::new(io::ErrorKind::ConnectionRefused, message)
        };
        let dials = self.lock().get(name).cloned().ok_or_else(refused)?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        dials.send(theirs).await.map_err(|_| refused())?;
        Ok(ours)
    }
}

impl fmt::Debug for Inproc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

#[derive(Debug)]
pub(super) struct InprocListener {
    name: String,
    accepted: mpsc::Receiver<DuplexStream>,
    registry: Inproc,
}

impl InprocListener {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for ever when nobody dials: this listener itself keeps its name registered.
    pub async fn accept(&mut self) -> io::Result<DuplexStream> {
        self.accepted.recv().await.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }
}

impl Drop for InprocListener {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.name);
    }
}
