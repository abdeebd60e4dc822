//! Rows that the coordinator writes at storage: task, crawl, provenance, capabilities, outcomes.
//!
//! They wait in the store's outbox, written in the transaction they belong to, until [`push`] has them confirmed.
use serde_json::{Value, json};
use sonde_proto::{
    browser::v1::BrowserEvent,
    coordinator::v1::{CrawlSpec, VisitEnded},
    record::v1 as record,
    storage::v1::{LedgerRow, ledger_row::Row},
    to_json,
};
use sonde_runtime::clock::rfc3339_ms;

use crate::{config::Config, facts};

pub(crate) mod push;

fn row(row: Row) -> LedgerRow {
    LedgerRow { row: Some(row) }
}

pub(crate) fn task(task_id: i64, config: &Config, browser_version: &str, started_us: i64) -> LedgerRow {
    row(Row::Task(record::Task {
        task_id,
        start_time: rfc3339_ms(started_us),
        manager_params: config_json(config).to_string(),
        openwpm_version: env!("CARGO_PKG_VERSION").into(),
        browser_version: browser_version.into(),
    }))
}

fn config_json(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_else(|error| json!({ "unknown": error.to_string() }))
}

/// One browser slot of a task.
pub(crate) fn slot(task_id: i64, browser_id: u32, endpoint: &str, slot: u32, now_us: i64) -> LedgerRow {
    row(Row::Crawl(record::Crawl {
        browser_id,
        task_id,
        browser_params: json!({ "browser_service": endpoint, "slot": slot }).to_string(),
        start_time: rfc3339_ms(now_us),
    }))
}

/// What a crawl's rows came from, as far as the coordinator knows.
pub(crate) fn crawl_provenance(
    crawl_id: &str,
    spec: &CrawlSpec,
    config: &Config,
    task_id: i64,
    now_us: i64,
) -> LedgerRow {
    let facts = json!({
        "spec": to_json("sonde.coordinator.v1.CrawlSpec", spec),
        "coordinator_version": env!("CARGO_PKG_VERSION"),
        "task_id": task_id,
        "host": facts::host(),
        "clocks": facts::clocks(),
        "config": config_json(config),
    });
    provenance(crawl_id, "crawl".into(), facts.to_string(), now_us)
}

fn provenance(crawl_id: &str, subject: String, facts: String, now_us: i64) -> LedgerRow {
    row(Row::Provenance(record::Provenance {
        crawl_id: crawl_id.into(),
        subject,
        facts,
        recorded_at: rfc3339_ms(now_us),
    }))
}

/// What a browser said of itself when it started, for a crawl that it served.
pub(crate) fn browser_provenance(
    crawl_id: &str,
    browser_id: u32,
    started: &BrowserEvent,
    now_us: i64,
) -> Vec<LedgerRow> {
    let facts = match serde_json::from_str::<Value>(&started.provenance) {
        Ok(facts @ Value::Object(_)) => facts,
        _ => json!({ "unparsed": started.provenance }),
    };
    let mut rows = vec![provenance(crawl_id, format!("browser:{browser_id}"), facts.to_string(), now_us)];
    rows.extend(started.capabilities.iter().map(|(field_group, state)| {
        row(Row::Capability(record::Capability {
            crawl_id: crawl_id.into(),
            browser_id,
            field_group: field_group.clone(),
            state: state.clone(),
        }))
    }));
    rows
}

/// `product` of a browser's provenance; "" when it does not say.
pub(crate) fn product(started: &BrowserEvent) -> String {
    let facts: Option<Value> = serde_json::from_str(&started.provenance).ok();
    let product = facts.as_ref().and_then(|facts| facts.get("product")?.as_str());
    product.unwrap_or_default().to_owned()
}

/// `phase`: where the deciding attempt was last.
pub(crate) fn outcome(crawl_id: &str, ended: &VisitEnded, phase: Option<String>, now_us: i64) -> LedgerRow {
    let failed_in = ended.failure.as_ref().map(|f| f.phase.clone()).filter(|phase| !phase.is_empty());
    row(Row::VisitOutcome(record::VisitOutcome {
        crawl_id: crawl_id.into(),
        visit_no: ended.visit_no,
        site_url: ended.url.clone(),
        outcome: ended.outcome().word().into(),
        visit_id: (ended.visit_id != 0).then_some(ended.visit_id),
        attempts: ended.attempts,
        error: ended.failure.as_ref().map(|failure| failure.message.clone()),
        phase: failed_in.or(phase),
        ended_at: rfc3339_ms(now_us),
    }))
}
