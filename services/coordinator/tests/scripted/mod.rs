//! A coordinator with scripted neighbours, over real gRPC.
#![allow(dead_code, reason = "each test binary uses its part")]
mod browsers;
mod storage;

use std::{collections::HashMap, path::Path, time::Duration};

pub use browsers::ScriptedBrowsers;
pub use storage::ScriptedStorage;

use sonde_coordinator::{Config, Coordinator, SERVICE_NAMES};
use sonde_proto::coordinator::v1::{
    AddVisitsRequest, AddVisitsResponse, Crawl, CrawlEvent, CrawlSpec, CrawlState, CreateCrawlRequest,
    GetCrawlRequest, VisitSpec, WatchCrawlRequest, crawl_event::Event,
    crawl_service_client::CrawlServiceClient,
};
use sonde_runtime::{
    endpoint::{Endpoint, Inproc, Listener, connect},
    serve::ServerBuilder,
};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Channel};

/// Longest wait for anything that must happen.
pub const SOON: Duration = Duration::from_secs(60);

pub type Client = CrawlServiceClient<Channel>;

pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

/// Waits until it is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Serves until the token is cancelled, then cuts every connection.
pub async fn serve(at: &Endpoint, inproc: &Inproc, routes: Routes, names: &[&str]) -> CancellationToken {
    let cut = CancellationToken::new();
    let listener = Listener::bind(at, inproc).await.unwrap();
    let server = ServerBuilder::new(routes, names, sonde_proto::DESCRIPTORS).immediate(cut.clone());
    server.start(listener, CancellationToken::new(), Duration::ZERO).await.unwrap();
    cut
}

/// Storage and browser-services, which outlive coordinators.
pub struct World {
    pub dir: tempfile::TempDir,
    pub inproc: Inproc,
    pub storage: ScriptedStorage,
    pub browsers: ScriptedBrowsers,
}

/// A coordinator in this process.
pub struct Running {
    pub coordinator: Coordinator,
    pub client: Client,
    pub channel: Channel,
    cut: CancellationToken,
}

impl World {
    pub async fn new(slots: u32) -> Self {
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
            inproc: Inproc::new(),
            storage: ScriptedStorage::new(),
            browsers: ScriptedBrowsers::new(slots),
        };
        serve(&at("storage"), &world.inproc, world.storage.routes(), &["sonde.storage.v1.IngestService"])
            .await;
        serve(&at("browser"), &world.inproc, world.browsers.routes(), &[]).await;
        world
    }

    pub fn config(&self) -> Config {
        Config { data_dir: self.dir.path().to_owned(), lease: Duration::from_secs(3), ..Default::default() }
    }

    pub async fn start(&self) -> Running {
        self.start_with(self.config()).await
    }

    pub async fn start_with(&self, config: Config) -> Running {
        let storage = connect(&at("storage"), &self.inproc).unwrap();
        let browser = connect(&at("browser"), &self.inproc).unwrap();
        let browsers = vec![("inproc:browser".to_owned(), browser)];
        let coordinator =
            Coordinator::start(config, storage, browsers, CancellationToken::new()).await.unwrap();
        let name = format!("coordinator-{}", rand::random::<u32>());
        let cut = serve(&at(&name), &self.inproc, coordinator.routes(), SERVICE_NAMES).await;
        let channel = connect(&at(&name), &self.inproc).unwrap();
        Running { coordinator, client: CrawlServiceClient::new(channel.clone()), channel, cut }
    }
}

impl Running {
    /// As a crash: nothing is drained, nothing is told.
    pub async fn crash(self) {
        self.cut.cancel();
        self.coordinator.close().await;
    }
}

pub fn at(name: &str) -> Endpoint {
    Endpoint::Inproc(name.to_owned())
}

pub fn unix(dir: &Path, name: &str) -> Endpoint {
    Endpoint::Unix(dir.join(name))
}

pub async fn create(client: &mut Client, request_id: &str, spec: CrawlSpec) -> Crawl {
    let request = CreateCrawlRequest { request_id: request_id.into(), spec: Some(spec) };
    client.create_crawl(request).await.unwrap().into_inner().crawl.unwrap()
}

pub async fn add(client: &mut Client, crawl_id: &str, urls: Vec<String>, seal: bool) -> AddVisitsResponse {
    let mut messages: Vec<AddVisitsRequest> = urls
        .chunks(1000)
        .map(|urls| AddVisitsRequest {
            crawl_id: crawl_id.into(),
            visits: urls.iter().map(|url| VisitSpec { url: url.clone(), ..Default::default() }).collect(),
            seal: false,
        })
        .collect();
    if seal {
        messages.push(AddVisitsRequest { crawl_id: crawl_id.into(), seal: true, ..Default::default() });
    }
    client.add_visits(tokio_stream::iter(messages)).await.unwrap().into_inner()
}

pub async fn crawl(client: &mut Client, crawl_id: &str) -> Crawl {
    let request = GetCrawlRequest { crawl_id: crawl_id.into() };
    client.get_crawl(request).await.unwrap().into_inner().crawl.unwrap()
}

/// All events after a number, until the crawl has ended.
pub async fn watch_to_end(client: &mut Client, crawl_id: &str, after_sequence: i64) -> Vec<CrawlEvent> {
    let request = WatchCrawlRequest { crawl_id: crawl_id.into(), after_sequence, phases: false };
    soon("the end of the crawl", async {
        let mut stream = client.watch_crawl(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            events.push(response.event.unwrap());
        }
        events
    })
    .await
}

/// R1: exactly one outcome for each visit from 1 to `visits`, in the events, at storage, and in the counts.
pub async fn assert_one_outcome_each(world: &World, client: &mut Client, crawl_id: &str, visits: i64) {
    let events = watch_to_end(client, crawl_id, 0).await;
    let sequences: Vec<i64> = events.iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, (1..=events.len() as i64).collect::<Vec<_>>(), "events have a gap or come twice");
    let mut ended: HashMap<i64, usize> = HashMap::new();
    for event in &events {
        if let Some(Event::VisitEnded(e)) = &event.event {
            *ended.entry(e.visit_no).or_default() += 1;
        }
    }
    assert_eq!(ended, (1..=visits).map(|n| (n, 1)).collect(), "one VisitEnded each");
    let rows = |n| {
        let kept = world.storage.kept.lock().unwrap();
        kept.outcomes.get(&(crawl_id.to_owned(), n)).map_or(0, Vec::len)
    };
    for n in 1..=visits {
        assert_eq!(rows(n), 1, "visit {n}: different outcomes at storage");
    }
    let crawl = crawl(client, crawl_id).await;
    assert_eq!(crawl.state(), CrawlState::Ended);
    let counts = crawl.counts.unwrap();
    assert_eq!((counts.total, counts.queued, counts.running), (visits as u64, 0, 0));
    assert_eq!(counts.outcomes.values().sum::<u64>(), visits as u64);
}
