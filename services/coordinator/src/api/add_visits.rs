//! AddVisits: a site list of any length, message by message; each is on disk before the next is read.
use sonde_proto::{
    FieldErrors,
    coordinator::v1::{
        AddVisitsRequest, AddVisitsResponse, CrawlState, LineError, VisitSpec, VisitsAdded, crawl_event,
    },
    validate_commands, validate_url,
};
use tonic::{Status, Streaming};

use super::{Api, errors};
use crate::{
    engine::Msg,
    schedule::site_of,
    store::{CrawlKey, NewVisit, StoreError, crawl_key, visit},
};

const MESSAGE_VISITS: usize = 1000;
const ERRORS: usize = 1000;

/// What came of one message.
enum Added {
    Fine { added: u64 },
    Closed { state: CrawlState },
}

impl Api {
    pub(super) async fn take_visits(
        &self,
        mut inbound: Streaming<AddVisitsRequest>,
    ) -> Result<AddVisitsResponse, Status> {
        let mut answer = AddVisitsResponse::default();
        let mut crawl: Option<(CrawlKey, String)> = None;
        let mut seen: i64 = 0;
        while let Some(message) = inbound.message().await? {
            let (key, crawl_id) = match &crawl {
                Some(known) => known.clone(),
                None => {
                    let found = (self.find(&message.crawl_id).await?.key, message.crawl_id.clone());
                    crawl.insert(found).clone()
                }
            };
            if message.visits.len() > MESSAGE_VISITS {
                let what = format!("{}: at most {MESSAGE_VISITS} a message", message.visits.len());
                return Err(errors::invalid_field("visits", &what));
            }
            let mut fine = Vec::with_capacity(message.visits.len());
            for spec in message.visits {
                seen += 1;
                let line_no = if spec.line_no > 0 { spec.line_no } else { seen };
                match check(spec) {
                    Ok(new) => fine.push(new),
                    Err(error) => {
                        answer.error_count += 1;
                        if answer.errors.len() < ERRORS {
                            answer.errors.push(LineError { line_no, message: error });
                        }
                    }
                }
            }
            let given = fine.len() as u64;
            match self.add(key, fine, message.seal).await? {
                Added::Fine { added } => {
                    answer.added += added;
                    answer.existing += given - added;
                }
                Added::Closed { state } => {
                    let message = format!(
                        "crawl {crawl_id} takes no more visits (it is {}): make another by CreateCrawl",
                        if state == CrawlState::Running { "sealed" } else { "cancelled or over" }
                    );
                    return Err(errors::precondition("CRAWL_SEALED", message));
                }
            }
        }
        if crawl.is_none() {
            return Err(errors::invalid_field("crawl_id", "no message came: the first one names the crawl"));
        }
        Ok(answer)
    }

    async fn add(&self, key: CrawlKey, visits: Vec<NewVisit>, seal: bool) -> Result<Added, Status> {
        let now_us = self.clock.us();
        let done = self.store.write(move |tx| {
            let damaged = || StoreError::Damaged(format!("crawl {}, which is gone,", key.0));
            let row = crawl_key(tx.conn(), key)?.ok_or_else(damaged)?;
            let open = !row.sealed && matches!(row.state, CrawlState::Running | CrawlState::Paused);
            if !open {
                // A caller that repeats what it did before is right, and changes nothing.
                for new in &visits {
                    if new.line_no == 0 || visit(tx.conn(), key, new.line_no)?.is_none() {
                        return Ok(Added::Closed { state: row.state });
                    }
                }
                return Ok(Added::Fine { added: 0 });
            }
            let added = tx.add_visits(key, &visits)?;
            if seal {
                tx.seal_crawl(key)?;
            }
            if added > 0 || seal {
                let event = VisitsAdded { count: added, sealed: seal };
                tx.event(key, now_us, crawl_event::Event::VisitsAdded(event))?;
            }
            Ok(Added::Fine { added })
        });
        let done = done.await.map_err(errors::store)?;
        self.engine.send(Msg::Crawl(key)).await;
        Ok(done)
    }
}

/// A line as it is kept, or what is wrong with it.
pub(super) fn check(spec: VisitSpec) -> Result<NewVisit, String> {
    if spec.line_no < 0 {
        return Err(format!("line_no {}: 1 or more, or 0 for the next free one", spec.line_no));
    }
    validate_url(&spec.url)?;
    let site = site_of(&spec.url)?;
    let mut errors = FieldErrors::default();
    validate_commands(&spec.commands, "commands", true, &mut errors);
    errors.into_result().map_err(|e| e.to_string())?;
    Ok(NewVisit {
        line_no: spec.line_no,
        url: spec.url,
        site,
        site_rank: spec.site_rank,
        commands: spec.commands,
    })
}
