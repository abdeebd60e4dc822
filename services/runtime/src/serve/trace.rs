//! One span per request, one event at its response's head, and the count.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};
use tracing::Instrument;

use super::connection::Stats;
use crate::clock::Mono;

#[derive(Clone)]
pub(super) struct Trace(pub Arc<Stats>);

impl<S> Layer<S> for Trace {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, stats: self.0.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Traced<S> {
    inner: S,
    stats: Arc<Stats>,
}

impl<S, In, Out> Service<Request<In>> for Traced<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        self.stats.requests.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!("rpc", method = request.uri().path().trim_start_matches('/'));
        let started = Mono::now();
        let response = span.in_scope(|| self.inner.call(request));
        let traced = async move {
            let result = response.await;
            if let Ok(response) = &result {
                // A status in the head means that the call failed before its first message; else it is in trailers.
                let status = response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
                let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                tracing::debug!(status = status.unwrap_or("-"), us, "answered");
            }
            result
        };
        Box::pin(traced.instrument(span))
    }
}
