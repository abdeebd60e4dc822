//! The network of visits on a real Firefox, through the engine and a storage in memory: rows, bodies and seals.
#![allow(clippy::unwrap_used)]

#[path = "firefox/rig.rs"]
#[allow(dead_code)]
mod rig;
mod support;

use rig::Rig;
use sonde_browser::engine::{Fate, Scripts};
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{DnsResponse, HttpRequest, HttpResponse};
use sonde_proto::visit::v1::{BrowserKind, CommandStatus, Instruments};

#[derive(Default)]
struct Rows {
    requests: Vec<HttpRequest>,
    responses: Vec<HttpResponse>,
    names: Vec<DnsResponse>,
}

fn rows(all: Vec<Row>) -> Rows {
    let mut rows = Rows::default();
    for row in all {
        match row {
            Row::HttpRequest(row) => rows.requests.push(row),
            Row::HttpResponse(row) => rows.responses.push(row),
            Row::DnsResponse(row) => rows.names.push(row),
            _ => {}
        }
    }
    rows
}

/// M10, M11, M15, R4: what visits ask for arrives sealed, each visit's own, and capabilities say so.
#[tokio::test]
async fn the_network_of_a_visit_arrives_sealed() {
    let instruments = Instruments {
        http: true,
        dns: true,
        cookies: true,
        save_content: vec!["all".to_owned()],
        ..Instruments::default()
    };
    let rig = Rig::start(Scripts::of_kind(BrowserKind::Firefox, &instruments)).await;
    let facts = rig.browser.facts().clone();
    for (group, state) in
        [("http.requests", "observed"), ("http.bodies", "observed"), ("http.websocket_frames", "unsupported")]
    {
        assert_eq!(facts.capabilities[group], state, "{group}");
    }
    let told: serde_json::Value = serde_json::from_str(&facts.provenance).unwrap();
    assert!(told["extension"]["public_suffix_list"].as_str().unwrap().starts_with("tldts "), "{told}");
    for visit_id in [1, 2] {
        let mut visit = rig.open(visit_id, &instruments).await;
        let url = rig.url("/calls");
        assert_eq!(visit.get(&url).await.status, CommandStatus::Ok);
        let (ending, seal) = visit.seal().await;
        assert_eq!(ending.incomplete_reason, "", "{ending:?}");
        assert!(seal.complete, "{:?}", rig.storage.kept().seals[&visit_id]);
        let rows = rows(rig.storage.rows(visit_id));
        let document: Vec<_> = rows.requests.iter().filter(|r| r.url == url).collect();
        assert_eq!(document.len(), 1, "{:#?}", rows.requests);
        assert_eq!((document[0].resource_type.as_str(), document[0].headers_final), ("main_frame", true));
        let answer = rows.responses.iter().find(|r| r.request_id == document[0].request_id).unwrap();
        assert_eq!(
            (answer.response_status, answer.body_outcome.as_str()),
            (Some(200), "complete"),
            "{answer:?}"
        );
        assert_eq!(answer.content_hash.as_ref().map(String::len), Some(64));
        assert!(rows.names.iter().any(|n| n.request_id == document[0].request_id), "{:?}", rows.names);
        assert_eq!(visit.visit.dispose(rig::soon()).await, Fate::Keep);
    }
    rig.stop().await;
}
