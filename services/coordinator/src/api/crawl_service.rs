//! CrawlService: submit, watch, steer.
use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use sonde_proto::{
    CrawlId, FieldErrors,
    coordinator::v1::{
        AddVisitsRequest, AddVisitsResponse, CancelCrawlRequest, CancelCrawlResponse, Crawl, CrawlSpec,
        CrawlState, CreateCrawlRequest, CreateCrawlResponse, DriveRequest, DriveResponse, GetCrawlRequest,
        GetCrawlResponse, GetVisitRequest, GetVisitResponse, ListCrawlsRequest, ListCrawlsResponse,
        ListVisitsRequest, ListVisitsResponse, PauseCrawlRequest, PauseCrawlResponse, ResumeCrawlRequest,
        ResumeCrawlResponse, RunVisitRequest, RunVisitResponse, WatchCrawlRequest, WatchCrawlResponse,
        crawl_service_server::CrawlService,
    },
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, convert, errors, spec};
use crate::{
    engine::{MAX_ACTIVE_CRAWLS, Msg, Unsteerable, Verb},
    ledger,
    store::{
        CrawlKey, CrawlKind, CrawlRow, NewCrawl, NewVisit, VisitFilter, attempts_of, count_active,
        crawl_by_id, crawl_by_request, crawl_key, crawl_page, visit, visit_page,
    },
};

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How long the engine may take to do what it is told; only a full disk makes it slow.
const STEER: Duration = Duration::from_secs(30);

/// What came of a request to make a crawl.
enum Made {
    New(Box<CrawlRow>),
    Existing(Box<CrawlRow>),
    Other(String),
    TooMany,
}

impl Api {
    /// Makes a crawl; with `only`, one sealed visit in it.
    pub(super) async fn create(
        &self,
        request_id: Option<String>,
        submitted: CrawlSpec,
        kind: CrawlKind,
        only: Option<NewVisit>,
    ) -> Result<CrawlRow, Status> {
        let spec = spec::complete(submitted.clone(), &self.config.javascript_settings);
        let crawl_id = CrawlId::new_now().to_string();
        let now_us = self.clock.us();
        let provenance = ledger::crawl_provenance(&crawl_id, &spec, &self.config, self.task_id, now_us);
        let new = NewCrawl { crawl_id, request_id, submitted, spec, kind };
        let made = self.store.write(move |tx| {
            if let Some(request_id) = &new.request_id
                && let Some((row, submitted)) = crawl_by_request(tx.conn(), request_id)?
            {
                let same = submitted == new.submitted;
                return Ok(if same { Made::Existing(Box::new(row)) } else { Made::Other(row.crawl_id) });
            }
            if count_active(tx.conn())? >= MAX_ACTIVE_CRAWLS {
                return Ok(Made::TooMany);
            }
            let key = tx.insert_crawl(&new, now_us)?;
            tx.push_ledger(&provenance)?;
            if let Some(only) = only {
                tx.add_visits(key, &[only])?;
                tx.seal_crawl(key)?;
            }
            tx.flush()?;
            let row = crawl_key(tx.conn(), key)?;
            Ok(Made::New(Box::new(row.ok_or_else(|| {
                crate::store::StoreError::Damaged(format!("crawl {}, just made,", new.crawl_id))
            })?)))
        });
        match made.await.map_err(errors::store)? {
            Made::New(row) => {
                self.outbox_bell.notify_one();
                self.engine.send(Msg::Crawl(row.key)).await;
                Ok(*row)
            }
            Made::Existing(row) => Ok(*row),
            Made::Other(crawl_id) => Err(errors::exists(format!(
                "request_id was used for crawl {crawl_id} with another spec: choose another request_id"
            ))),
            Made::TooMany => Err(errors::exhausted(format!(
                "{MAX_ACTIVE_CRAWLS} crawls have not ended: end some (CancelCrawl, or AddVisits with seal), then try again"
            ))),
        }
    }

    pub(super) async fn find(&self, crawl_id: &str) -> Result<CrawlRow, Status> {
        crawl_id.parse::<CrawlId>().map_err(|e| errors::invalid_field("crawl_id", &e.to_string()))?;
        let wanted = crawl_id.to_owned();
        let found = self.store.read(move |conn| crawl_by_id(conn, &wanted)).await.map_err(errors::store)?;
        found.ok_or_else(|| errors::no_crawl(crawl_id))
    }

    async fn steer(&self, crawl_id: &str, verb: Verb) -> Result<Crawl, Status> {
        let row = self.find(crawl_id).await?;
        let is_cancel = matches!(verb, Verb::Cancel { .. });
        match self.tell(row.key, verb).await? {
            Ok(()) => {}
            // Cancelled or over: what was wanted is so.
            Err(Unsteerable::Ended) if is_cancel => {}
            Err(Unsteerable::Ended) => {
                let message = format!("crawl {crawl_id} has ended: make another by CreateCrawl");
                return Err(errors::precondition("CRAWL_ENDED", message));
            }
            Err(Unsteerable::Cancelling) => {
                let message = format!("crawl {crawl_id} is being cancelled, which cannot be undone");
                return Err(errors::precondition("CRAWL_CANCELLED", message));
            }
        }
        Ok(self.crawl(self.find(crawl_id).await?))
    }

    /// Done, and on disk, when it answers.
    pub(super) async fn tell(&self, crawl: CrawlKey, verb: Verb) -> Result<Result<(), Unsteerable>, Status> {
        let (reply, answer) = oneshot::channel();
        self.engine.send(Msg::Steer { crawl, verb, reply }).await;
        match tokio::time::timeout(STEER, answer).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => {
                Err(errors::unavailable("the coordinator is stopping; try again when it is back".into()))
            }
            Err(_) => Err(errors::unavailable(format!(
                "the coordinator's store did not take it within {STEER:?} ({}); it may still do it",
                self.live.status().store
            ))),
        }
    }
}

fn page_size(asked: u32) -> Result<usize, Status> {
    match asked {
        0 => Ok(100),
        1..=1000 => Ok(asked as usize),
        _ => Err(errors::invalid_field("page_size", "1 to 1000, or 0 for 100")),
    }
}

#[tonic::async_trait]
impl CrawlService for Api {
    async fn create_crawl(
        &self,
        request: Request<CreateCrawlRequest>,
    ) -> Result<Response<CreateCrawlResponse>, Status> {
        let CreateCrawlRequest { request_id, spec } = request.into_inner();
        let mut errors = FieldErrors::default();
        if !(1..=128).contains(&request_id.chars().count()) {
            errors
                .push("request_id", "1 to 128 characters, chosen by you, the same when you repeat the call");
        }
        let spec = spec.unwrap_or_default();
        spec::check(&spec, &mut errors);
        errors.into_result().map_err(|e| errors::invalid(&e))?;
        let row = self.create(Some(request_id), spec, CrawlKind::Campaign, None).await?;
        Ok(Response::new(CreateCrawlResponse { crawl: Some(self.crawl(row)) }))
    }

    async fn add_visits(
        &self,
        request: Request<Streaming<AddVisitsRequest>>,
    ) -> Result<Response<AddVisitsResponse>, Status> {
        self.take_visits(request.into_inner()).await.map(Response::new)
    }

    async fn get_crawl(
        &self,
        request: Request<GetCrawlRequest>,
    ) -> Result<Response<GetCrawlResponse>, Status> {
        let row = self.find(&request.into_inner().crawl_id).await?;
        Ok(Response::new(GetCrawlResponse { crawl: Some(self.crawl(row)) }))
    }

    async fn list_crawls(
        &self,
        request: Request<ListCrawlsRequest>,
    ) -> Result<Response<ListCrawlsResponse>, Status> {
        let ListCrawlsRequest { page_size: asked, page_token } = request.into_inner();
        let limit = page_size(asked)?;
        if !page_token.is_empty() && page_token.parse::<CrawlId>().is_err() {
            return Err(errors::invalid_field("page_token", "next_page_token of the page before, or \"\""));
        }
        let page = self.store.read(move |conn| crawl_page(conn, &page_token, limit + 1)).await;
        let mut rows = page.map_err(errors::store)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| row.crawl_id.clone());
        let crawls = rows.into_iter().map(|row| self.crawl(row)).collect();
        Ok(Response::new(ListCrawlsResponse { crawls, next_page_token: next.unwrap_or_default() }))
    }

    async fn list_visits(
        &self,
        request: Request<ListVisitsRequest>,
    ) -> Result<Response<ListVisitsResponse>, Status> {
        let request = request.into_inner();
        let limit = page_size(request.page_size)?;
        let after: i64 = match request.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| {
                errors::invalid_field("page_token", "next_page_token of the page before, or \"\"")
            })?,
        };
        let row = self.find(&request.crawl_id).await?;
        let filter = VisitFilter {
            states: request.states().collect(),
            outcomes: request.outcomes().collect(),
            leasable: false,
        };
        let page = self.store.read(move |conn| visit_page(conn, row.key, &filter, after, limit + 1)).await;
        let mut rows = page.map_err(errors::store)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| row.visit_no.to_string());
        let visits = rows.into_iter().map(|row| self.visit(&request.crawl_id, row)).collect();
        Ok(Response::new(ListVisitsResponse { visits, next_page_token: next.unwrap_or_default() }))
    }

    async fn get_visit(
        &self,
        request: Request<GetVisitRequest>,
    ) -> Result<Response<GetVisitResponse>, Status> {
        let GetVisitRequest { crawl_id, visit_no } = request.into_inner();
        let row = self.find(&crawl_id).await?;
        let found = self
            .store
            .read(move |conn| Ok((visit(conn, row.key, visit_no)?, attempts_of(conn, row.key, visit_no)?)));
        let (found, attempts) = found.await.map_err(errors::store)?;
        let found = found.ok_or_else(|| errors::no_visit(&crawl_id, visit_no))?;
        Ok(Response::new(GetVisitResponse {
            visit: Some(self.visit(&crawl_id, found)),
            attempts: attempts.into_iter().map(convert::attempt).collect(),
        }))
    }

    type WatchCrawlStream = Events<WatchCrawlResponse>;

    async fn watch_crawl(
        &self,
        request: Request<WatchCrawlRequest>,
    ) -> Result<Response<Self::WatchCrawlStream>, Status> {
        let WatchCrawlRequest { crawl_id, after_sequence, phases } = request.into_inner();
        let row = self.find(&crawl_id).await?;
        if after_sequence < 0 || after_sequence > row.last_sequence {
            let message = format!("0 to {}, the crawl's newest", row.last_sequence);
            return Err(errors::invalid_field("after_sequence", &message));
        }
        let over = row.state == CrawlState::Ended && after_sequence == row.last_sequence;
        Ok(Response::new(self.watch_stream(row.key, after_sequence, phases, over)))
    }

    async fn pause_crawl(
        &self,
        request: Request<PauseCrawlRequest>,
    ) -> Result<Response<PauseCrawlResponse>, Status> {
        let crawl = self.steer(&request.into_inner().crawl_id, Verb::Pause).await?;
        Ok(Response::new(PauseCrawlResponse { crawl: Some(crawl) }))
    }

    async fn resume_crawl(
        &self,
        request: Request<ResumeCrawlRequest>,
    ) -> Result<Response<ResumeCrawlResponse>, Status> {
        let crawl = self.steer(&request.into_inner().crawl_id, Verb::Resume).await?;
        Ok(Response::new(ResumeCrawlResponse { crawl: Some(crawl) }))
    }

    async fn cancel_crawl(
        &self,
        request: Request<CancelCrawlRequest>,
    ) -> Result<Response<CancelCrawlResponse>, Status> {
        let verb = Verb::cancel("cancelled by its user");
        let crawl = self.steer(&request.into_inner().crawl_id, verb).await?;
        Ok(Response::new(CancelCrawlResponse { crawl: Some(crawl) }))
    }

    type RunVisitStream = Events<RunVisitResponse>;

    async fn run_visit(
        &self,
        request: Request<RunVisitRequest>,
    ) -> Result<Response<Self::RunVisitStream>, Status> {
        self.run_single(request.into_inner()).await.map(Response::new)
    }

    type DriveStream = Events<DriveResponse>;

    async fn drive(
        &self,
        request: Request<Streaming<DriveRequest>>,
    ) -> Result<Response<Self::DriveStream>, Status> {
        self.start_drive(request.into_inner()).await.map(Response::new)
    }
}
