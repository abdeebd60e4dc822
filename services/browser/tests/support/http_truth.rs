//! What is due of the page of the HTTP tests, in every browser.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use bytes::Bytes;
use sonde_proto::record::v1::{HttpFailure, HttpRequest};
use sonde_site::sha256_hex;

use super::Rows;
use super::http_site::{Site, twin};

/// Each request that reached the server has one row, and each row one end.
pub fn check_log(site: &Site, rows: &Rows) {
    let get = |url| ("GET".to_owned(), url);
    let mut expected = site.pages.tally();
    expected.insert(get(format!("ws://localhost:{}/socket", site.ws)), 1);
    // Firefox asks again where the connection is reset; that is one request to it.
    assert!(expected.insert(get(site.url("/reset")), 1).unwrap() >= 1);
    let never_sent = |r: &&HttpRequest| {
        let of = |id: i64| id == r.request_id;
        let refused = |f: &HttpFailure| of(f.request_id) && f.error == "net::ERR_CONNECTION_REFUSED";
        r.url.starts_with("data:")
            || rows.failures().into_iter().any(refused)
            || rows
                .responses()
                .into_iter()
                .any(|a| of(a.request_id) && (a.is_cached || a.from_service_worker))
    };
    let mut recorded = BTreeMap::new();
    for row in rows.requests().into_iter().filter(|r| !never_sent(r)) {
        *recorded.entry((row.method.clone(), row.url.clone())).or_default() += 1;
    }
    assert_eq!(expected, recorded);
    for row in rows.requests() {
        let answered = rows.responses().into_iter().filter(|a| a.request_id == row.request_id).count();
        let alone = |f: &&HttpFailure| f.request_id == row.request_id && !f.after_response;
        assert_eq!(answered + rows.failures().into_iter().filter(alone).count(), 1, "{row:?}");
    }
}

/// Bodies as they were stored, by hash.
pub fn check_bodies(rows: &Rows, blobs: &HashMap<String, Bytes>) {
    let bodies: [(&str, Vec<u8>); 8] = [
        ("/twin-a", twin(b'a')),
        ("/twin-b", twin(b'b')),
        ("/gzip", b"squeezed ".repeat(700)),
        ("/latin.js", b"x='\xe9\xff'".into()),
        ("/bom.js", b"\xef\xbb\xbfx='\xc3\xa9'".into()),
        ("/in-frame", b"/in-frame".into()),
        ("/in-worker", b"/in-worker".into()),
        ("/missing", b"no".into()),
    ];
    for (path, body) in bodies {
        check_body(rows, blobs, path, &body);
    }
    for path in ["/204", "/empty", "/headed"] {
        assert_eq!(rows.response(path).body_outcome, "empty", "{path}");
        assert!(blobs[rows.response(path).content_hash.as_ref().unwrap()].is_empty());
    }
}

pub fn check_body(rows: &Rows, blobs: &HashMap<String, Bytes>, path: &str, body: &[u8]) {
    let response = rows.response(path);
    let hash = sha256_hex(body);
    let told = (response.content_hash.as_deref(), response.body_outcome.as_str());
    assert_eq!(told, (Some(hash.as_str()), "complete"), "{response:?}");
    assert_eq!((response.body_bytes, &blobs[&hash][..]), (Some(body.len() as i64), body));
}

fn check_kinds(rows: &Rows) {
    let types = [
        ("/page", "main_frame"),
        ("/frame", "sub_frame"),
        ("/style.css", "stylesheet"),
        ("/image.png", "image"),
        ("/imported.js", "script"),
        ("/beacon", "beacon"),
        ("/gzip", "xmlhttprequest"),
        ("/socket", "websocket"),
        ("/formed", "sub_frame"),
        ("/popup", "main_frame"),
        ("/cors", "xmlhttprequest"),
    ];
    for (path, kind) in types {
        assert_eq!(rows.request(path).resource_type, kind, "{path}");
    }
    let contexts = [
        ("/in-frame", "iframe"),
        ("/in-worker", "worker"),
        ("/in-shared", "shared_worker"),
        ("/in-sw", "service_worker"),
    ];
    for (path, kind) in contexts {
        assert_eq!(rows.request(path).context_type.as_deref(), Some(kind), "{path}");
    }
    let frame = rows.request("/in-frame");
    assert_eq!((frame.parent_frame_id, frame.is_third_party_channel), (Some(0), Some(false)));
    assert!(frame.frame_id > 0 && frame.top_level_url.as_ref().unwrap().ends_with("/page"));
}

/// Kinds, hops, bodies of requests, the words of failures, the answer of a service worker.
pub fn check_facts(site: &Site, rows: &Rows) {
    check_kinds(rows);
    let hops = rows.redirects().into_iter().map(|r| (r.response_status, r.headers_final, r.hop_index));
    assert_eq!(hops.collect::<Vec<_>>(), [(302, true, 0), (307, true, 1)]);
    let last = rows.request("/final.js");
    let told = (last.hop_index, last.request_id, last.headers_final);
    assert_eq!(told, (2, rows.request("/r1").request_id, true));
    assert_eq!(rows.request("/urlencoded").post_body.as_deref(), Some(r#"{"a":["1"],"b":["é"]}"#));
    assert_eq!(rows.request("/formed").post_body.as_deref(), Some(r#"{"q":["a b"]}"#));
    for path in ["/binary", "/long", "/beacon", "/in-worker"] {
        check_upload(site, rows, path);
    }
    for path in ["/binary", "/urlencoded", "/formed"] {
        assert_eq!(rows.request(path).post_body_bytes, Some(site.body(path).len() as i64), "{path}");
    }
    let refused = rows.failures().into_iter().find(|f| f.url.ends_with("/refused")).unwrap();
    assert_eq!(refused.error, "net::ERR_CONNECTION_REFUSED");
    let made_up = rows.response("/made-up");
    assert_eq!((made_up.from_service_worker, made_up.body_bytes), (true, Some(4)));
}

/// The bytes that were sent are those that the server got.
pub fn check_upload(site: &Site, rows: &Rows, path: &str) {
    let raw: Vec<(Option<String>, String)> =
        serde_json::from_str(rows.request(path).post_body_raw.as_ref().unwrap()).unwrap();
    let parts = raw.iter().flat_map(|(_, b)| base64::engine::general_purpose::STANDARD.decode(b).unwrap());
    assert_eq!(parts.collect::<Vec<u8>>(), site.body(path), "{path}");
}
