//! Real servers and real clients over all three kinds of endpoint.
#![allow(clippy::unwrap_used)] // the lint's exception for tests does not reach their helper functions

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use sonde_runtime::endpoint::{Endpoint, EndpointError, Inproc, Listener, connect};
use sonde_runtime::serve::{ServerBuilder, ServerHandle, serve};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

const NAME: &str = "sonde.test.v1.TestService";
const DEADLINE: Duration = Duration::from_secs(10);

async fn start(endpoint: &Endpoint, inproc: &Inproc, drain: Duration) -> ServerHandle {
    let listener = Listener::bind(endpoint, inproc).await.unwrap();
    let descriptors = tonic_health::pb::FILE_DESCRIPTOR_SET;
    serve(listener, Routes::default(), &[NAME], descriptors, CancellationToken::new(), drain).await.unwrap()
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn health(channel: &Channel, service: &str) -> Result<i32, Code> {
    let mut client = HealthClient::new(channel.clone());
    let check = timeout(DEADLINE, client.check(asking(service))).await.unwrap();
    check.map(|answer| answer.get_ref().status).map_err(|status| status.code())
}

async fn services_v1(channel: &Channel) -> Vec<String> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|s| s.name).collect(),
        other => panic!("{other:?}"),
    }
}

async fn services_v1alpha(channel: &Channel) -> usize {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.len(),
        other => panic!("{other:?}"),
    }
}

/// S1, S11
#[tokio::test]
async fn every_kind_of_endpoint_serves_health_and_reflection_and_is_gone_afterwards() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("s.sock");
    let inproc = Inproc::new();
    for text in ["http://127.0.0.1:0", &format!("unix:{}", socket.display()), "inproc:test"] {
        let server = start(&text.parse().unwrap(), &inproc, DEADLINE).await;
        let endpoint = server.endpoint().clone();
        assert!(!endpoint.to_string().ends_with(":0"));
        if let Endpoint::Unix(path) = &endpoint {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let channel = connect(&endpoint, &inproc).unwrap();
        assert_eq!(health(&channel, "").await, Ok(ServingStatus::Serving as i32), "{text}");
        assert_eq!(health(&channel, NAME).await, Ok(ServingStatus::Serving as i32));
        assert_eq!(health(&channel, "other").await, Err(Code::NotFound));
        assert!(services_v1(&channel).await.contains(&"grpc.health.v1.Health".to_owned()));
        assert!(services_v1alpha(&channel).await > 0);
        assert_eq!(server.stats().connections_open(), 1);
        assert_eq!(server.stats().requests(), 5);

        let stats = server.stats();
        let drained = timeout(DEADLINE, server.stop()).await.unwrap().unwrap();
        assert!(!drained.forced, "an idle connection holds no drain");
        assert_eq!(stats.connections_open(), 0);
        assert_eq!(health(&channel, "").await, Err(Code::Unavailable));

        // The channel finds a successor at the same place by itself.
        let successor = start(&endpoint, &inproc, DEADLINE).await;
        assert_eq!(health(&channel, "").await, Ok(ServingStatus::Serving as i32), "{text}");
        successor.stop().await.unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no socket is left");
}

/// R14: a stream that neither side ends is cut at the drain's end.
#[tokio::test]
async fn a_drain_with_an_open_stream_ends_at_its_deadline() {
    let inproc = Inproc::new();
    for text in ["http://127.0.0.1:0", "inproc:test"] {
        let drain = Duration::from_millis(300);
        let server = start(&text.parse().unwrap(), &inproc, drain).await;
        let channel = connect(server.endpoint(), &inproc).unwrap();
        let (_open, requests) = mpsc::channel(1);
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
        let mut answers =
            client.server_reflection_info(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let stats = server.stats();
        let asked = Instant::now();
        let drained = timeout(DEADLINE, server.stop()).await.unwrap().unwrap();
        assert!(drained.forced);
        assert!(drained.took >= drain && asked.elapsed() < drain + Duration::from_secs(1), "{drained:?}");
        assert_eq!(stats.connections_open(), 0);
        assert!(timeout(DEADLINE, answers.message()).await.unwrap().is_err());
    }
}

/// R14
#[tokio::test]
async fn health_watchers_see_not_serving_and_do_not_hold_the_drain() {
    let inproc = Inproc::new();
    let listener = Listener::bind(&"inproc:test".parse().unwrap(), &inproc).await.unwrap();
    let (shutdown, streams) = (CancellationToken::new(), CancellationToken::new());
    let server = ServerBuilder::new(Routes::default(), &[NAME], &[])
        .streams(streams.clone())
        .start(listener, shutdown.clone(), DEADLINE * 6)
        .await
        .unwrap();
    let mut client = HealthClient::new(connect(server.endpoint(), &inproc).unwrap());
    let mut seen = client.watch(asking(NAME)).await.unwrap().into_inner();
    assert_eq!(seen.message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
    shutdown.cancel();
    let last = timeout(DEADLINE, seen.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(last.status, ServingStatus::NotServing as i32);
    assert!(timeout(DEADLINE, seen.next()).await.unwrap().is_none());
    timeout(DEADLINE, streams.cancelled()).await.unwrap();
    assert!(!timeout(DEADLINE, server.wait()).await.unwrap().unwrap().forced);
}

/// R14
#[tokio::test]
async fn the_immediate_token_ends_a_drain_at_once() {
    let inproc = Inproc::new();
    let listener = Listener::bind(&"inproc:test".parse().unwrap(), &inproc).await.unwrap();
    let (shutdown, immediate) = (CancellationToken::new(), CancellationToken::new());
    let server = ServerBuilder::new(Routes::default(), &[], &[])
        .immediate(immediate.clone())
        .start(listener, shutdown.clone(), Duration::from_secs(600))
        .await
        .unwrap();
    let (_open, requests) = mpsc::channel(1);
    let channel = connect(server.endpoint(), &inproc).unwrap();
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let _answers = client.server_reflection_info(ReceiverStream::new(requests)).await.unwrap();
    shutdown.cancel();
    immediate.cancel();
    assert!(timeout(DEADLINE, server.wait()).await.unwrap().unwrap().forced);
}

/// S1
#[tokio::test]
async fn addresses_beyond_loopback_are_refused_with_advice() {
    let inproc = Inproc::new();
    for text in ["http://0.0.0.0:0", "http://[::]:0", "http://192.0.2.1:7400", "http://example.com:7400"] {
        let error = Listener::bind(&text.parse().unwrap(), &inproc).await.unwrap_err();
        assert!(matches!(error, EndpointError::NotLoopback { .. }), "{error}");
        assert!(error.to_string().contains("use http://127.0.0.1:PORT or unix:"), "{error}");
    }
    assert_eq!(EndpointError::EXIT_CODE, 4);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.sock");
    let endpoint = Endpoint::Unix(path.clone());
    let inproc = Inproc::new();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file");

    let live = Listener::bind(&endpoint, &inproc).await.unwrap();
    let error = Listener::bind(&endpoint, &inproc).await.unwrap_err();
    assert!(matches!(error, EndpointError::InUse { .. }), "{error}");
    drop(live);
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&endpoint, &inproc).await.unwrap_err();
    assert!(matches!(error, EndpointError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

    let long = Endpoint::Unix(dir.path().join("x".repeat(120)));
    let error = Listener::bind(&long, &inproc).await.unwrap_err();
    assert!(matches!(error, EndpointError::PathTooLong { .. }), "{error}");
}

#[tokio::test]
async fn in_process_names_are_unique_within_a_registry_only() {
    let (one, two) = (Inproc::new(), Inproc::new());
    let endpoint: Endpoint = "inproc:a".parse().unwrap();
    let first = Listener::bind(&endpoint, &one).await.unwrap();
    assert!(matches!(Listener::bind(&endpoint, &one).await, Err(EndpointError::InUse { .. })));
    Listener::bind(&endpoint, &two).await.unwrap();
    drop(first);
    Listener::bind(&endpoint, &one).await.unwrap();
}
