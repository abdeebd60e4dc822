//! The end of a crawl's hooks, on every browser-service that served it: before the crawl's own end.
use std::{collections::BTreeMap, time::Duration};

use sonde_proto::{
    browser::v1::{EndCrawlRequest, browser_service_client::BrowserServiceClient},
    coordinator::v1::{CrawlHooksEnded, CrawlHooksReport},
};
use sonde_runtime::{backoff::Backoff, clock::Mono};
use tonic::{Code, transport::Channel};

use super::{Engine, Msg};
use crate::store::CrawlKey;

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// Hooks have an hour at most, and their files are stored after that.
const LONGEST: Duration = Duration::from_secs(3600 + 300);
/// Hooks told of in one report.
const MAX_HOOKS: usize = 1000;

/// A crawl that waits for the end of its hooks.
#[derive(Clone, Debug)]
pub(super) struct HooksDue {
    pub crawl: CrawlKey,
    pub crawl_id: String,
    /// The services that served it.
    pub endpoints: Vec<String>,
}

impl Engine {
    /// Answered by [`Msg::HooksEnded`]. Asked again after a restart, the services answer the same.
    pub(super) fn end_hooks(&mut self, due: HooksDue) {
        if !self.ending_hooks.insert(due.crawl) {
            return;
        }
        let (handle, stop) = (self.handle.clone(), self.deps.stop.clone());
        let (channels, patience) = (self.deps.browsers.clone(), self.deps.config.lease);
        tokio::spawn(async move {
            let HooksDue { crawl, crawl_id, endpoints } = due;
            let asking = endpoints.into_iter().map(|endpoint| ask(endpoint, &channels, &crawl_id, patience));
            tokio::select! {
                () = stop.cancelled() => {}
                reports = futures_util::future::join_all(asking) => {
                    handle.send(Msg::HooksEnded { crawl, ended: CrawlHooksEnded { reports } }).await;
                }
            }
        });
    }
}

async fn ask(
    endpoint: String,
    channels: &BTreeMap<String, Channel>,
    crawl_id: &str,
    patience: Duration,
) -> CrawlHooksReport {
    let asked = match channels.get(&endpoint) {
        Some(channel) => end(channel.clone(), &endpoint, crawl_id, patience).await,
        None => Err("it is not configured any more".to_owned()),
    };
    let (hooks, error) = match asked {
        Ok(hooks) => (hooks, String::new()),
        Err(error) => {
            tracing::warn!(endpoint, crawl_id, error, "the hooks of a crawl: no word of their end");
            (Vec::new(), error)
        }
    };
    CrawlHooksReport { browser_service: endpoint, error, hooks }
}

/// A service that is not reached for `patience` has ended, and its hooks with it.
async fn end(
    channel: Channel,
    endpoint: &str,
    crawl_id: &str,
    patience: Duration,
) -> Result<Vec<sonde_proto::visit::v1::CrawlHookResult>, String> {
    let mut client = BrowserServiceClient::new(channel);
    let (mut failures, mut since) = (0, None);
    loop {
        let request = EndCrawlRequest { crawl_id: crawl_id.to_owned() };
        let error = match tokio::time::timeout(LONGEST, client.end_crawl(request)).await {
            Ok(Ok(answer)) => {
                let mut hooks = answer.into_inner().hooks;
                hooks.truncate(MAX_HOOKS);
                return Ok(hooks);
            }
            Ok(Err(status)) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => {
                return Err(format!("EndCrawl: {:?}: {}", status.code(), status.message()));
            }
            Ok(Err(status)) => format!("EndCrawl: {:?}: {}", status.code(), status.message()),
            Err(_) => return Err(format!("EndCrawl: no answer within {LONGEST:?}")),
        };
        let since = *since.get_or_insert_with(Mono::now);
        if Mono::now() >= since + patience {
            return Err(format!("not answered for {} s; the last try: {error}", patience.as_secs()));
        }
        tracing::debug!(endpoint, crawl_id, error, "EndCrawl is tried again");
        tokio::time::sleep(RETRY.next(failures, rand::random())).await;
        failures = failures.saturating_add(1);
    }
}
