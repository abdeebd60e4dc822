//! The network of visits on a real Firefox, through the engine and a storage in memory: rows, bodies and seals.
#![allow(clippy::unwrap_used)]

mod support;

use sonde_browser::engine::Scripts;
use sonde_proto::visit::v1::{BrowserKind, CommandStatus, Instruments};
use support::firefox::Rig;

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
    for _ in 0..2 {
        let mut visit = rig.open(&instruments).await;
        let url = rig.url("/calls");
        assert_eq!(visit.get(&url).await.status, CommandStatus::Ok);
        let rows = rig.finish(&mut visit).await;
        let document: Vec<_> = rows.requests().into_iter().filter(|r| r.url == url).collect();
        assert_eq!(document.len(), 1, "{:#?}", rows.requests());
        assert_eq!((document[0].resource_type.as_str(), document[0].headers_final), ("main_frame", true));
        let answer = rows.responses().into_iter().find(|r| r.request_id == document[0].request_id).unwrap();
        assert_eq!(
            (answer.response_status, answer.body_outcome.as_str()),
            (Some(200), "complete"),
            "{answer:?}"
        );
        assert_eq!(answer.content_hash.as_ref().map(String::len), Some(64));
        assert!(rows.dns().iter().any(|n| n.request_id == document[0].request_id), "{:?}", rows.dns());
        visit.end().await;
    }
    rig.stop().await;
}
