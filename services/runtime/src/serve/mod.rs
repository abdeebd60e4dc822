//! A gRPC server with explicit limits, health, reflection (v1 and v1alpha), and a drain that ends.
//!
//! HTTP/1.1 is not accepted, so no page of a browser can reach a service by a form or a fetch.

mod connection;
pub mod limits;
mod trace;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

pub use connection::{Peer, Stats};

use crate::clock::Mono;
use crate::endpoint::{Endpoint, Listener};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the descriptor set given for reflection is invalid: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the server on {endpoint} failed: {source}")]
    Transport { endpoint: Endpoint, source: tonic::transport::Error },
    #[error("the server on {endpoint} ended before it was asked to")]
    Ended { endpoint: Endpoint },
    #[error("the server's task on {endpoint} failed: {source}")]
    Task { endpoint: Endpoint, source: tokio::task::JoinError },
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Streams were still open at the end of the drain (or at the second signal), and were cut.
    pub forced: bool,
    /// From the request to stop until no connection was left.
    pub took: Duration,
}

/// Listed by reflection besides the services of `names`.
const HEALTH: &str = "grpc.health.v1.Health";

/// What to serve. See [`serve`] for the short form.
pub struct ServerBuilder {
    routes: Routes,
    names: Vec<String>,
    descriptor_set: Vec<u8>,
    streams: CancellationToken,
    immediate: CancellationToken,
}

impl ServerBuilder {
    /// `names` are the full service names that health reports (`sonde.storage.v1.IngestService`); `descriptor_set` is
    /// an encoded `FileDescriptorSet` for reflection (the standard types and health are added).
    pub fn new(routes: Routes, names: &[&str], descriptor_set: &[u8]) -> Self {
        Self {
            routes,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            descriptor_set: descriptor_set.to_vec(),
            streams: CancellationToken::new(),
            immediate: CancellationToken::new(),
        }
    }

    /// A token that handlers end their long streams on; cancelled once health says NOT_SERVING.
    pub fn streams(mut self, token: CancellationToken) -> Self {
        self.streams = token;
        self
    }

    /// A token that ends everything at once (the second signal).
    pub fn immediate(mut self, token: CancellationToken) -> Self {
        self.immediate = token;
        self
    }

    /// Serves until `shutdown` is cancelled and at most `drain` longer. Call within a tokio runtime.
    ///
    /// # Errors
    /// If the descriptor set is invalid.
    pub async fn start(
        self,
        listener: Listener,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> Result<ServerHandle, ServeError> {
        let endpoint = listener.endpoint();
        let stats = Arc::new(Stats::default());
        let cut = CancellationToken::new();
        let graceful = CancellationToken::new();
        let (health, health_service) = health_reporter();
        for name in &self.names {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(&self.descriptor_set)
                .with_service_name(HEALTH);
            // The set describes the whole contract: what is not named here would be listed and not be there.
            self.names.iter().fold(builder, |builder, name| builder.with_service_name(name))
        };
        let router = limited_server()
            .layer(trace::Trace(stats.clone()))
            .add_routes(self.routes)
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let incoming = connection::incoming(listener, cut.clone(), stats.clone());
        let server = router.serve_with_incoming_shutdown(incoming, graceful.clone().cancelled_owned());
        let life = Life {
            endpoint: endpoint.clone(),
            names: self.names,
            health: health.clone(),
            streams: self.streams,
            immediate: self.immediate,
            cut: cut.clone(),
            graceful,
            shutdown: shutdown.clone(),
            drain,
        };
        tracing::info!(%endpoint, "serving");
        let task = tokio::spawn(life.run(server));
        Ok(ServerHandle { endpoint, health, stats, shutdown, task })
    }
}

fn limited_server() -> Server {
    // No max_connection_age: with a grace set, tonic cuts at its end without having said GOAWAY, and sessions are long.
    Server::builder()
        .accept_http1(false)
        .max_concurrent_streams(limits::CONCURRENT_STREAMS)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_BYTES)
        .http2_max_header_list_size(limits::HEADER_BYTES)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(limits::PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(limits::ERROR_RESETS))
}

/// Serves `routes` until `shutdown` is cancelled; handlers end their streams on a clone of the same token.
///
/// # Errors
/// If the descriptor set is invalid.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    names: &[&str],
    descriptor_set: &[u8],
    shutdown: CancellationToken,
    drain: Duration,
) -> Result<ServerHandle, ServeError> {
    ServerBuilder::new(routes, names, descriptor_set).start(listener, shutdown, drain).await
}

/// A running server. Dropping it does not stop the server; its tokens do.
#[derive(Debug)]
pub struct ServerHandle {
    endpoint: Endpoint,
    health: HealthReporter,
    stats: Arc<Stats>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<Drained, ServeError>>,
}

impl ServerHandle {
    /// Where clients connect, with the real port.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// To report a single service as not serving (its store is down, say).
    pub fn health(&self) -> &HealthReporter {
        &self.health
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Cancels the shutdown token and waits for the end.
    ///
    /// # Errors
    /// As [`ServerHandle::wait`].
    pub async fn stop(self) -> Result<Drained, ServeError> {
        self.shutdown.cancel();
        self.wait().await
    }

    /// Waits for the end, which comes at most the drain time after the shutdown token's cancellation.
    ///
    /// # Errors
    /// If the server ended by itself.
    pub async fn wait(self) -> Result<Drained, ServeError> {
        let endpoint = self.endpoint;
        self.task.await.map_err(|source| ServeError::Task { endpoint, source })?
    }
}

struct Life {
    endpoint: Endpoint,
    names: Vec<String>,
    health: HealthReporter,
    streams: CancellationToken,
    immediate: CancellationToken,
    cut: CancellationToken,
    graceful: CancellationToken,
    shutdown: CancellationToken,
    drain: Duration,
}

impl Life {
    async fn run<S>(self, server: S) -> Result<Drained, ServeError>
    where
        S: Future<Output = Result<(), tonic::transport::Error>>,
    {
        // However this ends, by a panic too, no connection outlives it.
        let _cut = self.cut.clone().drop_guard();
        let mut server = std::pin::pin!(server);
        tokio::select! {
            result = &mut server => return Err(self.failure(result)),
            () = self.shutdown.cancelled() => {}
            () = self.immediate.cancelled() => {}
        }
        let asked = Mono::now();
        tracing::info!(endpoint = %self.endpoint, drain = ?self.drain, "draining");
        self.stop_serving().await;
        let finished = tokio::select! {
            result = &mut server => Some(result),
            () = tokio::time::sleep(self.drain) => None,
            () = self.immediate.cancelled() => None,
        };
        let forced = finished.is_none();
        let result = match finished {
            Some(result) => result,
            None => {
                tracing::warn!(endpoint = %self.endpoint, "streams are still open: cutting them");
                self.cut.cancel();
                tokio::time::timeout(limits::HARD_STOP, &mut server).await.unwrap_or(Ok(()))
            }
        };
        result.map_err(|source| ServeError::Transport { endpoint: self.endpoint.clone(), source })?;
        let drained = Drained { forced, took: asked.elapsed() };
        tracing::info!(endpoint = %self.endpoint, forced, took = ?drained.took, "stopped");
        Ok(drained)
    }

    async fn stop_serving(&self) {
        let mut health = self.health.clone();
        let names = || self.names.iter().map(String::as_str).chain([""]);
        for name in names() {
            health.set_service_status(name, ServingStatus::NotServing).await;
        }
        self.streams.cancel();
        self.graceful.cancel();
        // Health watchers would hold the drain to its deadline: this ends them, after their last status.
        for name in names() {
            health.clear_service_status(name).await;
        }
    }

    fn failure(&self, result: Result<(), tonic::transport::Error>) -> ServeError {
        match result {
            Ok(()) => ServeError::Ended { endpoint: self.endpoint.clone() },
            Err(source) => ServeError::Transport { endpoint: self.endpoint.clone(), source },
        }
    }
}
