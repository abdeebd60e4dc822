//! Subscriptions: events by predicate, bounded, with losses counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Events of one subscription that may wait.
const QUEUED: usize = 4096;

/// Something that happened in the browser.
#[derive(Debug, Clone)]
pub struct Event {
    /// `browsingContext.load` and the like.
    pub method: String,
    pub params: Value,
}

impl Event {
    /// A text among the parameters; "" when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.params[name].as_str().unwrap_or_default()
    }
}

/// What a subscription gives.
#[derive(Debug)]
pub enum Item {
    Event(Event),
    /// So many events were dropped here, because nobody took them.
    Lost(u64),
}

type Wants = Box<dyn Fn(&Event) -> bool + Send>;

/// The receiving end of a subscription. It ends with the connection.
pub struct Events {
    events: mpsc::Receiver<Event>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` after the end of the connection.
    pub async fn recv(&mut self) -> Option<Item> {
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => self.events.recv().await.map(Item::Event),
            lost => Some(Item::Lost(lost)),
        }
    }
}

struct Subscriber {
    wants: Wants,
    events: mpsc::Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// Everybody who wants events; `None` after the end of the connection.
pub(super) struct Subscribers(Mutex<Option<Vec<Subscriber>>>);

impl Default for Subscribers {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Subscribers {
    pub fn add(&self, wants: Wants) -> Events {
        let (sender, events) = mpsc::channel(QUEUED);
        let lost = Arc::new(AtomicU64::new(0));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = all.as_mut() {
            all.push(Subscriber { wants, events: sender, lost: lost.clone() });
        }
        Events { events, lost }
    }

    /// Hands an event to those who want it; those who are gone are forgotten.
    pub fn tell(&self, event: &Event) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = all.as_mut() else { return };
        all.retain(|subscriber| {
            if !(subscriber.wants)(event) {
                return !subscriber.events.is_closed();
            }
            match subscriber.events.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.lost.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Ends all subscriptions, once what they hold is taken.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
