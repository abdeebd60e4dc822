//! BrowserService: which slots there are, and one session per slot.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use sonde_proto::browser::v1::browser_service_server::BrowserService;
use sonde_proto::browser::v1::{
    EndCrawlRequest, EndCrawlResponse, GetInfoRequest, GetInfoResponse, SessionRequest, SessionResponse,
    session_request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::Engine;
use crate::hooks::crawls::Crawls;
use crate::slot::Slot;

/// Messages to a caller that may wait; a caller further behind is dropped and may attach again.
const OUTBOX: usize = 1024;

/// The service over its slots.
pub(crate) struct Service {
    pub instance_id: String,
    pub engine: Arc<dyn Engine>,
    pub slots: Arc<[Slot]>,
    pub crawls: Crawls,
    /// Ends every session stream.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl BrowserService for Service {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(GetInfoResponse {
            instance_id: self.instance_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: self.slots.len() as u32,
            browsers: self.engine.kinds().into_iter().map(Into::into).collect(),
            running: self.slots.iter().filter_map(Slot::running).collect(),
        }))
    }

    async fn end_crawl(
        &self,
        request: Request<EndCrawlRequest>,
    ) -> Result<Response<EndCrawlResponse>, Status> {
        let crawl_id = request.into_inner().crawl_id;
        if crawl_id.is_empty() || crawl_id.len() > 128 {
            return Err(Status::invalid_argument("crawl_id: 1 to 128 bytes"));
        }
        let ended = self.crawls.end(&crawl_id).await;
        let hooks = ended.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(EndCrawlResponse { hooks }))
    }

    type SessionStream = BoxStream<'static, Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, outbox) = mpsc::channel(OUTBOX);
        let session = Session { slots: self.slots.clone(), requests: request.into_inner(), out };
        let stop = self.stop.clone();
        // The headers go at once: a caller may wait for them before it sends Open.
        tokio::spawn(async move { stop.run_until_cancelled(session.run()).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox))))
    }
}

struct Session {
    slots: Arc<[Slot]>,
    requests: Streaming<SessionRequest>,
    out: mpsc::Sender<Result<SessionResponse, Status>>,
}

impl Session {
    async fn run(mut self) {
        let (slot, number) = match self.open().await {
            Ok(opened) => opened,
            Err(status) => {
                // A caller that went has no use for it.
                let _ = self.out.send(Err(status)).await;
                return;
            }
        };
        // The slot holds the sending end: when it lets go, the stream ends.
        let Self { mut requests, out, .. } = self;
        let weak = out.downgrade();
        drop(out);
        loop {
            match requests.message().await {
                Ok(Some(SessionRequest { message: Some(message) })) => {
                    if !slot.request(number, message).await {
                        return;
                    }
                }
                Ok(Some(SessionRequest { message: None })) => {
                    if let Some(out) = weak.upgrade() {
                        let status = Status::invalid_argument("a SessionRequest without a message");
                        let _ = out.send(Err(status)).await;
                    }
                    return slot.gone(number, false).await;
                }
                Ok(None) => return slot.gone(number, true).await,
                Err(status) => {
                    tracing::debug!(%status, "a session broke");
                    return slot.gone(number, false).await;
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(Slot, u64), Status> {
        let first = self.requests.message().await?;
        let Some(session_request::Message::Open(open)) = first.and_then(|r| r.message) else {
            return Err(Status::invalid_argument("the first message of a session must be Open"));
        };
        let slot = self.slots.get(open.slot as usize).cloned().ok_or_else(|| {
            let last = self.slots.len() - 1;
            Status::invalid_argument(format!("slot {} does not exist: 0 to {last}", open.slot))
        })?;
        let number = slot.open(open.browser_id, self.out.clone()).await;
        let number = number.ok_or_else(|| Status::unavailable("the browser-service is stopping"))?;
        Ok((slot, number))
    }
}
