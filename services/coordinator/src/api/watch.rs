//! Events of a crawl: those on disk after a number, then live ones, without gap or repetition.
//!
//! The watcher subscribes before it reads, drops what it has seen, and reads again whenever it sees a gap or fell behind.
use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt};
use sonde_proto::coordinator::v1::{CrawlEvent, CrawlState, WatchCrawlResponse, crawl_event::Event};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Api, errors};
use crate::store::{CrawlKey, Store, events_after};

/// Events read at once.
const PAGE: usize = 256;

/// Events of one crawl in order.
pub(super) struct Watch {
    store: Store,
    crawl: CrawlKey,
    live: Receiver<Arc<CrawlEvent>>,
    stop: CancellationToken,
    /// Read, not yet given out.
    ready: VecDeque<CrawlEvent>,
    last: i64,
    /// Whether the store may hold events that were not read.
    behind: bool,
    phases: bool,
    over: bool,
}

impl Watch {
    pub fn new(api: &Api, crawl: CrawlKey, after: i64, phases: bool) -> Self {
        Self {
            store: api.store.clone(),
            live: api.live.hub.subscribe(crawl),
            stop: api.stop.clone(),
            crawl,
            ready: VecDeque::new(),
            last: after,
            behind: true,
            phases,
            over: false,
        }
    }

    /// The next event; None after the crawl's end, an error when the coordinator stops before.
    pub async fn next(&mut self) -> Option<Result<CrawlEvent, Status>> {
        loop {
            if self.over {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.last = event.sequence;
                self.over = is_end(&event);
                return Some(Ok(event));
            }
            if self.behind {
                let (crawl, last) = (self.crawl, self.last);
                match self.store.read(move |conn| events_after(conn, crawl, last, PAGE)).await {
                    Ok(events) => {
                        self.behind = events.len() == PAGE;
                        self.ready.extend(events);
                    }
                    Err(error) => {
                        self.over = true;
                        return Some(Err(errors::store(error)));
                    }
                }
                continue;
            }
            let received = tokio::select! {
                received = self.live.recv() => received,
                () = self.stop.cancelled() => {
                    self.over = true;
                    let message = format!("the coordinator is stopping; watch again after {}", self.last);
                    return Some(Err(errors::unavailable(message)));
                }
            };
            match received {
                Ok(event) if event.sequence == 0 => {
                    if self.phases {
                        return Some(Ok((*event).clone()));
                    }
                }
                Ok(event) if event.sequence <= self.last => {}
                Ok(event) if event.sequence == self.last + 1 => self.ready.push_back((*event).clone()),
                Ok(_) | Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => self.over = true,
            }
        }
    }
}

fn is_end(event: &CrawlEvent) -> bool {
    matches!(&event.event, Some(Event::CrawlState(changed)) if changed.state() == CrawlState::Ended)
}

impl Api {
    /// `over`: the crawl has ended, and its last event has this number.
    pub(super) fn watch_stream(
        &self,
        crawl: CrawlKey,
        after: i64,
        phases: bool,
        over: bool,
    ) -> Pin<Box<dyn Stream<Item = Result<WatchCrawlResponse, Status>> + Send>> {
        let watch = Watch { over, ..Watch::new(self, crawl, after, phases) };
        let events = futures_util::stream::unfold(watch, |mut watch| async {
            let next = watch.next().await?;
            Some((next, watch))
        });
        Box::pin(events.map(|event| event.map(|event| WatchCrawlResponse { event: Some(event) })))
    }
}
