//! The events of a crawl, resumed over lost connections: nothing is missing,
//! nothing comes twice (R16).

use std::time::Duration;

use sonde_proto::coordinator::v1::{
    CrawlEvent, CrawlState, WatchCrawlRequest, WatchCrawlResponse, crawl_event::Event,
    crawl_service_client::CrawlServiceClient,
};
use sonde_runtime::backoff::Backoff;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Follows one crawl.
pub struct Watch {
    client: CrawlServiceClient<Channel>,
    crawl_id: String,
    phases: bool,
    after: i64,
    stream: Option<Streaming<WatchCrawlResponse>>,
    failures: u32,
    ended: bool,
}

/// What came.
pub enum Seen {
    /// An event.
    Event(Box<CrawlEvent>),
    /// The connection was lost; the watch goes on by itself.
    Lost(String),
    /// The crawl has ended.
    End,
}

impl Watch {
    /// Events after the sequence number `after`; 0 for all.
    pub fn new(client: CrawlServiceClient<Channel>, crawl_id: &str, after: i64, phases: bool) -> Self {
        Self { client, crawl_id: crawl_id.to_owned(), phases, after, stream: None, failures: 0, ended: false }
    }

    /// The next event. Errors are final ones, as NOT_FOUND; a lost connection is not.
    pub async fn next(&mut self) -> Result<Seen, Status> {
        loop {
            if self.ended {
                return Ok(Seen::End);
            }
            let Some(stream) = &mut self.stream else {
                match self.open().await {
                    Ok(()) => continue,
                    Err(status) => return self.lost(status).await,
                }
            };
            match stream.message().await {
                Ok(Some(response)) => {
                    let Some(event) = response.event else { continue };
                    self.failures = 0;
                    if event.sequence > 0 {
                        if event.sequence <= self.after {
                            continue;
                        }
                        self.after = event.sequence;
                    }
                    if let Some(Event::CrawlState(change)) = &event.event {
                        self.ended = change.state() == CrawlState::Ended;
                    }
                    return Ok(Seen::Event(Box::new(event)));
                }
                Ok(None) => {
                    self.stream = None;
                    return self.lost(Status::unavailable("the stream ended before the crawl did")).await;
                }
                Err(status) => {
                    self.stream = None;
                    return self.lost(status).await;
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), Status> {
        let request = WatchCrawlRequest {
            crawl_id: self.crawl_id.clone(),
            after_sequence: self.after,
            phases: self.phases,
        };
        self.stream = Some(self.client.watch_crawl(request).await?.into_inner());
        Ok(())
    }

    async fn lost(&mut self, status: Status) -> Result<Seen, Status> {
        let passing = matches!(
            status.code(),
            Code::Unavailable
                | Code::Unknown
                | Code::Cancelled
                | Code::Aborted
                | Code::DeadlineExceeded
                | Code::Internal
        );
        if !passing {
            return Err(status);
        }
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let wait = backoff.next(self.failures, 0.5);
        self.failures += 1;
        tokio::time::sleep(wait).await;
        Ok(Seen::Lost(status.message().to_owned()))
    }
}
