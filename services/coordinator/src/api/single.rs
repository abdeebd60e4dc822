//! RunVisit: one visit in a crawl of its own, which ends with its caller.
use std::pin::Pin;

use futures_util::Stream;
use sonde_proto::{
    FieldErrors,
    coordinator::v1::{
        CrawlSpec, RetryPolicy, RunVisitRequest, RunVisitResponse, VisitSpec, crawl_event::Event,
    },
    validate_commands, validate_setup, validate_url,
};
use tokio::sync::oneshot;
use tonic::Status;

use super::{Api, add_visits, errors, watch::Watch};
use crate::{
    engine::{EngineHandle, Msg, Verb},
    store::{CrawlKey, CrawlKind},
};

/// Ad-hoc visits come before all others.
pub(super) const PRIORITY: u32 = 100;

/// Cancels the crawl when dropped before it was disarmed: its caller is gone.
pub(super) struct CallerGuard {
    engine: EngineHandle,
    crawl: CrawlKey,
    armed: bool,
}

impl CallerGuard {
    pub fn new(engine: EngineHandle, crawl: CrawlKey) -> Self {
        Self { engine, crawl, armed: true }
    }

    pub fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for CallerGuard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (reply, _) = oneshot::channel();
        let cancel = Msg::Steer { crawl: self.crawl, verb: Verb::cancel("its caller went away"), reply };
        if let Err(cancel) = self.engine.try_send(cancel)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let engine = self.engine.clone();
            runtime.spawn(async move { engine.send(*cancel).await });
        }
    }
}

impl Api {
    pub(super) async fn run_single(
        &self,
        request: RunVisitRequest,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<RunVisitResponse, Status>> + Send>>, Status> {
        let mut errors = FieldErrors::default();
        let sequence = request.sequence.unwrap_or_default();
        if let Err(message) = validate_url(&sequence.url) {
            errors.push("sequence.url", message);
        }
        validate_commands(&sequence.commands, "sequence.commands", true, &mut errors);
        let (browser, instruments, limits) = (request.browser, request.instruments, request.limits);
        validate_setup(browser.as_ref(), instruments.as_ref(), limits.as_ref(), &mut errors);
        if request.retries > 10 {
            errors.push("retries", "0 to 10");
        }
        errors.into_result().map_err(|e| errors::invalid(&e))?;
        let line = VisitSpec { line_no: 1, url: sequence.url.clone(), ..Default::default() };
        let only = add_visits::check(line).map_err(|e| errors::invalid_field("sequence.url", &e))?;
        let spec = CrawlSpec {
            name: sequence.url,
            browser,
            instruments,
            limits,
            commands: sequence.commands,
            retry: Some(RetryPolicy { max_retries: Some(request.retries), ..Default::default() }),
            priority: PRIORITY,
            ..Default::default()
        };
        let row = self.create(None, spec, CrawlKind::Single, Some(only)).await?;
        let guard = CallerGuard::new(self.engine.clone(), row.key);
        let state = Some((Watch::new(self, row.key, 0, true), guard));
        let events = futures_util::stream::unfold(state, |state| async {
            let (mut watch, mut guard) = state?;
            let event = match watch.next().await? {
                Ok(event) => event,
                Err(status) => {
                    guard.disarm();
                    return Some((Err(status), None));
                }
            };
            let last = matches!(event.event, Some(Event::VisitEnded(_)));
            let response = Ok(RunVisitResponse { event: Some(event) });
            if last {
                guard.disarm();
            }
            Some((response, (!last).then_some((watch, guard))))
        });
        Ok(Box::pin(events))
    }
}
