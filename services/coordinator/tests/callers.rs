//! RunVisit and Drive: crawls that end with their callers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod scripted;

use std::time::Duration;

use scripted::{World, crawl, soon, until};
use sonde_proto::{
    coordinator::v1::{
        CrawlState, DriveFinish, DriveRequest, DriveResponse, DriveStart, ListCrawlsRequest, RunVisitRequest,
        crawl_event::Event, crawl_service_client::CrawlServiceClient, drive_request, drive_response::Message,
    },
    visit::v1::{Command, CommandSequence, FailureKind, Outcome, ScreenshotCommand, command::Step},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

fn visit(url: &str) -> RunVisitRequest {
    let sequence = CommandSequence { url: url.into(), commands: Vec::new() };
    RunVisitRequest { sequence: Some(sequence), retries: 1, ..Default::default() }
}

async fn only_crawl(client: &mut scripted::Client) -> String {
    let list = client.list_crawls(ListCrawlsRequest::default()).await.unwrap().into_inner().crawls;
    assert_eq!(list.len(), 1);
    list[0].crawl_id.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_visit_streams_its_events_to_its_outcome() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let mut stream = c.client.run_visit(visit("https://flaky-1.a.org/")).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(response) = soon("the next event", stream.message()).await.unwrap() {
        events.push(response.event.unwrap().event.unwrap());
    }
    assert!(events.iter().any(|e| matches!(e, Event::VisitPhase(_))));
    assert!(events.iter().any(|e| matches!(e, Event::AttemptFailed(_))));
    let Some(Event::VisitEnded(ended)) = events.last() else { panic!("{:?}", events.last()) };
    assert_eq!((ended.outcome(), ended.attempts), (Outcome::Ok, 2));
    let status = c.client.run_visit(visit("ftp://a.org")).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_visit_is_cancelled_when_its_caller_goes() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let stream = c.client.run_visit(visit("https://hang.a.org/")).await.unwrap().into_inner();
    until("it runs", async || world.browsers.running() == 1).await;
    drop(stream);
    let crawl_id = only_crawl(&mut c.client).await;
    let mut client = c.client.clone();
    until("it ended", async || crawl(&mut client, &crawl_id).await.state() == CrawlState::Ended).await;
    assert_eq!(crawl(&mut c.client, &crawl_id).await.counts.unwrap().outcomes.get("cancelled"), Some(&1));
}

/// Its caller went with the coordinator.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_visit_is_cancelled_by_the_next_coordinator() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let stream = c.client.run_visit(visit("https://hang.a.org/")).await.unwrap().into_inner();
    until("it runs", async || world.browsers.running() == 1).await;
    let crawl_id = only_crawl(&mut c.client).await;
    c.crash().await;
    drop(stream);
    let c = world.start().await;
    let mut client = c.client.clone();
    until("it ended", async || crawl(&mut client, &crawl_id).await.state() == CrawlState::Ended).await;
    assert_eq!(world.browsers.ran().len(), 1);
}

struct Driver {
    requests: mpsc::Sender<DriveRequest>,
    responses: Streaming<DriveResponse>,
}

impl Driver {
    async fn start(client: &mut scripted::Client, idle: Option<Duration>) -> Self {
        let (requests, queue) = mpsc::channel(8);
        let start = DriveStart {
            url: "https://ok.a.org".into(),
            idle_timeout: idle.map(|d| prost_types::Duration::try_from(d).unwrap()),
            ..Default::default()
        };
        let message = Some(drive_request::Message::Start(start));
        requests.send(DriveRequest { message }).await.unwrap();
        let responses = client.drive(ReceiverStream::new(queue)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn send(&self, step: Step) {
        let command = Command { step: Some(step), ..Default::default() };
        let message = Some(drive_request::Message::Command(command));
        self.requests.send(DriveRequest { message }).await.unwrap();
    }

    /// The next response that is no phase or the like.
    async fn next(&mut self) -> Option<Message> {
        loop {
            match soon("the next response", self.responses.message()).await.unwrap()?.message.unwrap() {
                Message::Event(event) if !matches!(event.event, Some(Event::VisitEnded(_))) => {}
                other => return Some(other),
            }
        }
    }

    async fn outcome(&mut self) -> Outcome {
        match self.next().await {
            Some(Message::Event(event)) => match event.event {
                Some(Event::VisitEnded(ended)) => ended.outcome(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_driven_command_by_command() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let mut driver = Driver::start(&mut c.client, None).await;
    for name in ["get", "screenshot"] {
        let step = match name {
            "get" => Step::Get(Default::default()),
            _ => Step::Screenshot(ScreenshotCommand::default()),
        };
        driver.send(step).await;
        let Some(Message::Result(result)) = driver.next().await else { panic!("no result") };
        assert_eq!(result.name, name);
    }
    driver.send(Step::Sleep(Default::default())).await;
    let Some(Message::Refused(failure)) = driver.next().await else { panic!("not refused") };
    assert_eq!(failure.kind(), FailureKind::Invalid);
    let Driver { requests, responses } = driver;
    let (unused, _) = mpsc::channel(1);
    drop(requests);
    let mut driver = Driver { requests: unused, responses };
    assert_eq!(driver.outcome().await, Outcome::Ok);
    assert!(driver.next().await.is_none());
}

/// M40: the requests stay open, and the visit ends in order all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_says_it_is_done_ends_the_visit() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let mut driver = Driver::start(&mut c.client, None).await;
    driver.send(Step::Get(Default::default())).await;
    let Some(Message::Result(_)) = driver.next().await else { panic!("no result") };
    let message = Some(drive_request::Message::Finish(DriveFinish {}));
    driver.requests.send(DriveRequest { message }).await.unwrap();
    assert_eq!(driver.outcome().await, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_says_nothing_ends_with_timeout() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let mut driver = Driver::start(&mut c.client, Some(Duration::from_millis(100))).await;
    assert_eq!(driver.outcome().await, Outcome::Timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_goes_away_ends_as_cancelled() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    // Over a connection of its own, which breaks.
    let at = scripted::at("other");
    let cut = scripted::serve(&at, &world.inproc, c.coordinator.routes(), &[]).await;
    let channel = sonde_runtime::endpoint::connect(&at, &world.inproc).unwrap();
    let mut other = CrawlServiceClient::new(channel);
    let driver = Driver::start(&mut other, None).await;
    until("it runs", async || world.browsers.running() == 1).await;
    cut.cancel();
    let crawl_id = only_crawl(&mut c.client).await;
    let mut client = c.client.clone();
    until("it ended", async || crawl(&mut client, &crawl_id).await.state() == CrawlState::Ended).await;
    let outcomes = crawl(&mut c.client, &crawl_id).await.counts.unwrap().outcomes;
    assert_eq!(outcomes.get("cancelled"), Some(&1), "{outcomes:?}");
    drop(driver);
}

/// Driven browsers wait their turn without their idle time running.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_browser_is_not_idleness() {
    let world = World::new(1).await;
    let mut c = world.start().await;
    let first = c.client.run_visit(visit("https://hang.a.org/")).await.unwrap();
    until("it runs", async || world.browsers.running() == 1).await;
    let mut driver = Driver::start(&mut c.client, Some(Duration::from_millis(200))).await;
    driver.send(Step::Get(Default::default())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.browsers.release.send_replace(true);
    let Some(Message::Result(_)) = driver.next().await else { panic!("no result") };
    assert_eq!(driver.outcome().await, Outcome::Timeout);
    drop(first);
}
