//! What a start finds on disk: crawls that have not ended, attempts that may still run, sites visited lately.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sonde_proto::{coordinator::v1::CrawlState, visit::v1::Outcome};
use sonde_runtime::clock::Mono;
use tokio::sync::Semaphore;

use super::{Deps, Engine, EngineHandle, Running, Verb, book::Book, seal};
use crate::{
    schedule::Sites,
    store::{
        CrawlKey, CrawlKind, StoreError, active_crawls, crawl_key, recent_site_ends, running_attempts, visit,
    },
    time::micros,
    visit::Stage,
};

impl Engine {
    /// The engine as the store left it. Attempts that ran are returned, for the fleet to take over.
    pub async fn recover(deps: Deps, handle: EngineHandle) -> Result<(Self, Vec<Running>), StoreError> {
        let crawls = deps.store.read(active_crawls).await?;
        let running = recover_running(&deps).await?;
        let crawls: BTreeMap<CrawlKey, Book> =
            crawls.into_iter().map(|row| (row.key, Book::new(row))).collect();
        let delay = crawls.values().map(|book| book.politeness.min_delay).max().unwrap_or_default();
        let mut sites = recover_sites(&deps, delay).await?;
        running.iter().for_each(|r| sites.begin(&r.site));
        let touched = crawls.keys().copied().collect();
        let mut engine = Self {
            handle,
            crawls,
            slots: BTreeMap::new(),
            running: running.iter().map(|r| (r.visit_id, r.clone())).collect::<HashMap<_, _>>(),
            sites: Arc::new(sites),
            storage_ok: false,
            task_written: false,
            described: HashSet::new(),
            draining: None,
            touched,
            wake: None,
            later: Vec::new(),
            reread: BTreeSet::new(),
            outbox_full: false,
            outbox_left: false,
            seals: Arc::new(Semaphore::new(seal::PARALLEL)),
            ending_hooks: HashSet::new(),
            deps,
        };
        engine.cancel_orphans().await?;
        Ok((engine, running))
    }

    /// The callers of RunVisit and Drive went with the process before.
    async fn cancel_orphans(&mut self) -> Result<(), StoreError> {
        let now_us = self.deps.clock.us();
        for book in self.crawls.values_mut() {
            if book.row.kind == CrawlKind::Campaign || book.row.state == CrawlState::Cancelling {
                continue;
            }
            let key = book.row.key;
            let reason = "the coordinator restarted, and its caller is gone".to_owned();
            book.row.state = CrawlState::Cancelling;
            book.cancelled = Some((Outcome::Cancelled, reason.clone()));
            self.deps
                .store
                .write(move |tx| {
                    tx.seal_crawl(key)?;
                    tx.set_crawl_state(key, CrawlState::Cancelling, &reason, now_us)
                })
                .await?;
        }
        Ok(())
    }

    /// For a slot that takes over an attempt of a cancelled crawl: it is told so right away.
    pub fn recovered_cancels(&self) -> Vec<(i64, String)> {
        let cancelling = |r: &&Running| {
            self.crawls.get(&r.crawl).is_some_and(|book| book.row.state == CrawlState::Cancelling)
        };
        let reason =
            |r: &Running| self.crawls.get(&r.crawl).map(|book| book.row.reason.clone()).unwrap_or_default();
        self.running.values().filter(cancelling).map(|r| (r.visit_id, reason(r))).collect()
    }

    /// Attempts whose browser-service is no longer configured.
    pub fn abandon(&mut self, visit_id: i64) {
        let failure =
            seal::lost_failure("its browser-service is not configured any more".into(), "service-removed");
        self.seal_lost(visit_id, "lost", failure);
    }
}

async fn recover_running(deps: &Deps) -> Result<Vec<Running>, StoreError> {
    deps.store
        .read(|conn| {
            let mut found = Vec::new();
            for attempt in running_attempts(conn)? {
                let gone =
                    || StoreError::Damaged(format!("attempt {}: its visit is gone, it", attempt.visit_id));
                let crawl = crawl_key(conn, attempt.crawl)?.ok_or_else(gone)?;
                let mut row = visit(conn, attempt.crawl, attempt.visit_no)?.ok_or_else(gone)?;
                row.machine.stage = Stage::Running { fence: attempt.fence, browser_id: attempt.browser_id };
                found.push(Running {
                    crawl: attempt.crawl,
                    crawl_id: crawl.crawl_id,
                    kind: crawl.kind,
                    spec: crawl.spec,
                    visit_no: row.visit_no,
                    url: row.url,
                    site: row.site,
                    visit_id: attempt.visit_id,
                    fence: attempt.fence,
                    attempt: attempt.attempt,
                    browser_id: attempt.browser_id,
                    instance_id: attempt.instance_id,
                    leased_at: attempt.leased_at,
                    machine: row.machine,
                    sealing: false,
                });
            }
            Ok(found)
        })
        .await
}

/// Delays between visits of a site hold over a restart.
async fn recover_sites(deps: &Deps, delay: Duration) -> Result<Sites, StoreError> {
    let (now, now_us) = (Mono::now(), deps.clock.us());
    let since = now_us.saturating_sub(micros(delay));
    let ends = deps.store.read(move |conn| recent_site_ends(conn, since)).await?;
    deps.store.write(move |tx| tx.prune_site_ends(since)).await?;
    let mut sites = Sites::default();
    for (site, ended_us) in ends {
        let ago = u64::try_from((now_us - ended_us).max(0)).unwrap_or(0);
        sites.begin(&site);
        sites.end(&site, Mono::from_us(now.as_us().saturating_sub(ago)), delay);
    }
    Ok(sites)
}

/// The usual way to cancel.
impl Verb {
    pub fn cancel(reason: impl Into<String>) -> Self {
        Self::Cancel { outcome: Outcome::Cancelled, reason: reason.into() }
    }
}
