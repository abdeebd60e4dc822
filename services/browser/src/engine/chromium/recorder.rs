//! The loop of everything that records a visit by DevTools: what the visit orders, what the recorder's own work
//! brought, what the browser tells, in this order of precedence.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::cdp::{Item, Subscription};
use crate::uplink::UplinkError;

/// Orders that may wait.
const ORDERS: usize = 16;

/// Why records may be missing; the first reason counts.
#[derive(Debug, Default)]
pub(super) struct Suspect(String);

impl Suspect {
    pub fn because(&mut self, why: &str) {
        if self.0.is_empty() {
            why.clone_into(&mut self.0);
        }
    }

    /// "" when none are.
    fn take(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

/// Turns what the browser tells into records.
pub(super) trait Handler: Send {
    /// What a visit tells it.
    type Order: Send;
    /// A piece of work that it began itself.
    type Done: Send;

    fn suspect(&mut self) -> &mut Suspect;
    fn on_order(&mut self, order: Self::Order);
    fn on_item(&mut self, item: Item) -> impl Future<Output = Result<(), UplinkError>> + Send;
    /// The next piece of its work that is done; `None`: none is under way. Loses nothing when it is dropped.
    fn done(&mut self) -> impl Future<Output = Option<Self::Done>> + Send;
    fn on_done(&mut self, done: Self::Done) -> impl Future<Output = Result<(), UplinkError>> + Send;
    /// Records what is open, after everything that was told until the end.
    fn finish(&mut self) -> impl Future<Output = Result<(), UplinkError>> + Send;
}

enum Order<T> {
    Tell(T),
    /// Take everything that has arrived, wait for work under way until the deadline, record what is open. The answer
    /// says why records may be missing.
    Finish {
        deadline: Instant,
        done: oneshot::Sender<String>,
    },
}

/// A visit's side of a recorder. The recorder ends with the last of its clones.
pub(super) struct Orders<T> {
    sender: mpsc::Sender<Order<T>>,
    of: &'static str,
}

impl<T> Clone for Orders<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), of: self.of }
    }
}

/// The recorder is no longer there.
#[derive(Debug, thiserror::Error)]
#[error("the recorder has ended")]
pub(super) struct Ended;

impl<T> Orders<T> {
    /// What is recorded, as [`Recorder::new`] was told.
    pub fn of(&self) -> &'static str {
        self.of
    }

    pub async fn tell(&self, order: T) -> Result<(), Ended> {
        self.sender.send(Order::Tell(order)).await.map_err(|_| Ended)
    }

    /// Ends the recording: all that was told before is recorded by the deadline, unless it says why not ("": it is).
    /// Work of the recorder itself has until `patience`.
    pub async fn finish(&self, patience: Instant, deadline: Instant) -> String {
        let (done, answer) = oneshot::channel();
        let finished = async {
            self.sender.send(Order::Finish { deadline: patience, done }).await.ok()?;
            answer.await.ok()
        };
        let finished = timeout_at(deadline, finished).await.ok().flatten();
        finished.unwrap_or_else(|| format!("the recorder of {} did not end in time", self.of))
    }
}

/// One recorder of one visit.
pub(super) struct Recorder<H: Handler> {
    events: Subscription,
    handler: H,
    orders: mpsc::Receiver<Order<H::Order>>,
}

/// A recording that was told to finish: what comes now is late.
pub(super) struct Finished<H: Handler> {
    events: Subscription,
    pub handler: H,
    orders: mpsc::Receiver<Order<H::Order>>,
}

impl<H: Handler> Finished<H> {
    /// The next that came late; `None`: the browser or the visit is over.
    pub async fn late(&mut self) -> Option<Item> {
        tokio::select! {
            biased;
            item = self.events.recv() => item,
            None = self.orders.recv() => None,
        }
    }
}

impl<H: Handler> Recorder<H> {
    /// `of`: what is recorded, in the plural or as a mass ("the network").
    pub fn new(of: &'static str, events: Subscription, handler: H) -> (Self, Orders<H::Order>) {
        let (sender, orders) = mpsc::channel(ORDERS);
        (Self { events, handler, orders }, Orders { sender, of })
    }

    /// Runs until it is told to finish; `None`: its visit was dropped before.
    pub async fn run(mut self) -> Option<Finished<H>> {
        let mut connected = true;
        loop {
            let recorded = tokio::select! {
                biased;
                order = self.orders.recv() => match order? {
                    Order::Tell(order) => {
                        self.handler.on_order(order);
                        Ok(())
                    }
                    Order::Finish { deadline, done } => {
                        let suspect = self.finish(deadline).await;
                        // A visit that was dropped meanwhile does not want to know.
                        let _ = done.send(suspect);
                        let Self { events, handler, orders } = self;
                        return Some(Finished { events, handler, orders });
                    }
                },
                Some(done) = self.handler.done() => self.handler.on_done(done).await,
                item = self.events.recv(), if connected => match item {
                    Some(item) => self.handler.on_item(item).await,
                    None => {
                        connected = false;
                        self.handler.suspect().because("the browser ended while it was recorded");
                        Ok(())
                    }
                },
            };
            if let Err(error) = recorded {
                // The attempt ends by it; what follows could not be recorded either.
                self.handler.suspect().because(&error.to_string());
                connected = false;
            }
        }
    }

    async fn finish(&mut self, deadline: Instant) -> String {
        let draining = async {
            while let Some(item) = self.events.try_recv() {
                self.handler.on_item(item).await?;
            }
            while let Some(done) = self.handler.done().await {
                self.handler.on_done(done).await?;
            }
            Ok::<(), UplinkError>(())
        };
        match timeout_at(deadline, draining).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.handler.suspect().because(&error.to_string()),
            Err(_) => self.handler.suspect().because("not all bodies were there at the deadline"),
        }
        if let Err(error) = self.handler.finish().await {
            self.handler.suspect().because(&error.to_string());
        }
        self.handler.suspect().take()
    }
}
