//! What one request becomes.

use super::*;

const URL: &str = "https://a.test/x.js";

fn whole(id: &str) -> Vec<(&'static str, Value)> {
    vec![
        sent(id, URL, "Script"),
        sent_extra(id, 1.0),
        received_extra(id, 200, "c=1"),
        received(id, URL, "Script", 200, true),
        data(id, 5),
        finished(id),
    ]
}

/// M10
#[test]
fn a_request_and_its_response_carry_what_was_on_the_wire() {
    let mut bench = Bench::with(SaveContent::None);
    bench.events(whole("1"));
    let [request] = bench.requests()[..] else { panic!("{:?}", bench.actions) };
    assert_eq!(request.headers, r#"[["Host","h"],["X-Mark","1"]]"#);
    assert!(request.headers_final && !request.is_xhr && request.incognito);
    assert_eq!((request.tab_id, request.window_id, request.frame_id), (7, Some(3), 0));
    assert_eq!((request.resource_type.as_str(), request.method.as_str()), ("script", "GET"));
    assert_eq!(
        (request.loading_href.as_deref(), request.is_third_party_channel),
        (Some("https://top.test/"), Some(true))
    );
    assert_eq!(request.initiator.as_deref(), Some(r#"{"line":3,"type":"parser","url":"https://top.test/"}"#));
    let [response] = bench.responses()[..] else { panic!("{:?}", bench.actions) };
    assert_eq!(response.response_status_text, "HTTP/1.1 200 Text");
    assert_eq!(response.headers, r#"[["Set-Cookie","c=1"],["X-B","2"]]"#);
    assert_eq!(
        (response.body_outcome.as_str(), response.body_bytes, response.encoded_bytes),
        ("not_asked", Some(5), Some(321))
    );
    assert_eq!(response.tls.as_deref(), Some(r#"{"protocol":"TLS 1.3"}"#));
    assert_eq!(response.timing.as_deref(), Some(r#"{"requestTime":100.5}"#));
    let [cookie] = bench.cookies()[..] else { panic!("{:?}", bench.actions) };
    assert_eq!(
        (cookie.name.as_str(), cookie.host.as_deref(), cookie.request_id),
        ("c", Some("a.test"), Some(request.request_id))
    );
    let times: Vec<i64> = bench
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::Record { captured_at_us, .. } => Some(*captured_at_us),
            _ => None,
        })
        .collect();
    // The request at wallTime; cookie, response and address two monotonic seconds later.
    assert_eq!(times, [1_000_000_000, 1_002_000_000, 1_002_000_000, 1_002_000_000]);
    bench.finish();
    assert!(bench.truncations().is_empty());
}

/// M10
#[test]
fn hops_of_a_redirect_keep_the_request_id() {
    let mut bench = Bench::with(SaveContent::None);
    let last = "https://b.test/3";
    bench.events([
        sent("1", "https://a.test/1", "Script"),
        sent_extra("1", 1.0),
        received_extra("1", 302, "one=1"),
        redirected("1", "https://a.test/2", "https://a.test/1", true),
        // An upgrade inside the browser: nothing was sent.
        redirected("1", last, "https://a.test/2", false),
        sent_extra("1", 3.0),
        received("1", last, "Script", 200, true),
        finished("1"),
        received_extra("1", 200, "three=3"),
    ]);
    let requests = bench.requests();
    let marks: Vec<_> = requests.iter().map(|r| (r.hop_index, r.url.as_str(), r.headers_final)).collect();
    assert_eq!(marks, [(0, "https://a.test/1", true), (1, "https://a.test/2", false), (2, last, true)]);
    assert!(requests.iter().all(|r| r.request_id == requests[0].request_id));
    let redirects = bench.redirects();
    let marks: Vec<_> =
        redirects.iter().map(|r| (r.hop_index, r.new_request_url.as_deref(), r.headers_final)).collect();
    assert_eq!(marks, [(0, Some("https://a.test/2"), true), (1, Some(last), false)]);
    assert_eq!((bench.responses()[0].hop_index, bench.cookies().len()), (2, 2));
    assert_eq!(bench.cookies()[1].url.as_deref(), Some(last));
}

/// M10, I17
#[test]
fn failures_have_their_error_and_bodies_that_break_off_both_rows() {
    let mut bench = Bench::with(SaveContent::All);
    bench.events([sent("1", URL, "Script"), failed("1", "net::ERR_NAME_NOT_RESOLVED", false)]);
    assert!(bench.failures().is_empty(), "headers may still come");
    bench.now += 3_000_000;
    bench.events([sent("2", URL, "Script"), sent_extra("2", 1.0), received_extra("2", 200, "c=1")]);
    bench.events([
        received("2", URL, "Script", 200, true),
        data("2", 4),
        failed("2", "net::ERR_CONTENT_LENGTH_MISMATCH", false),
    ]);
    bench.event(sent("3", URL, "Script"));
    bench.finish();
    let failures: Vec<_> =
        bench.failures().iter().map(|f| (f.error.clone(), f.after_response, f.canceled)).collect();
    let expected = [
        ("net::ERR_NAME_NOT_RESOLVED", false, false),
        ("net::ERR_CONTENT_LENGTH_MISMATCH", true, false),
        ("unfinished", false, false),
    ];
    assert_eq!(failures, expected.map(|(e, after, canceled)| (e.to_owned(), after, canceled)));
    assert_eq!((bench.requests().len(), bench.responses()[0].body_outcome.as_str()), (3, "aborted"));
}

/// I17
#[test]
fn a_body_that_the_page_gave_up_is_no_failure() {
    let mut bench = Bench::with(SaveContent::All);
    bench.events([sent("1", URL, "Fetch"), sent_extra("1", 1.0), received_extra("1", 200, "c=1")]);
    bench.events([received("1", URL, "Fetch", 200, true), failed("1", "net::ERR_ABORTED", true)]);
    bench.events([sent("2", URL, "Fetch"), sent_extra("2", 1.0), received_extra("2", 200, "c=2")]);
    bench.event(received("2", URL, "Fetch", 200, true));
    bench.finish();
    assert!(bench.failures().is_empty());
    let fates: Vec<_> =
        bench.responses().iter().map(|r| (r.body_outcome.as_str(), r.body_error.as_deref())).collect();
    assert_eq!(fates, [("aborted", Some("the page gave it up")), ("aborted", Some("its end was not seen"))]);
}

/// I10: a page that unloads lets go of its keepalive requests, which the site answers all the same.
#[test]
fn an_answer_that_comes_after_its_page_has_gone_is_a_response() {
    let mut bench = Bench::with(SaveContent::None);
    bench.events([sent("1", URL, "Fetch"), sent_extra("1", 1.0), failed("1", "net::ERR_ABORTED", true)]);
    assert!(bench.failures().is_empty(), "the answer may still come");
    bench.event(received_extra("1", 204, "late=1"));
    assert!(bench.failures().is_empty());
    let response = bench.responses()[0];
    assert_eq!((response.response_status, response.headers_final), (Some(204), true));
    assert_eq!((bench.requests().len(), bench.cookies().len()), (1, 1));
}

/// I14: the page's own word of an answer that the visit has comes after its end, and is no news.
#[test]
fn an_answer_that_only_the_network_service_told_of_is_the_visits() {
    let mut bench = Bench::with(SaveContent::None);
    bench.events([sent("1", URL, "Other"), sent_extra("1", 1.0), received_extra("1", 200, "a=1")]);
    bench.events([sent("2", URL, "Other"), sent_extra("2", 1.0)]);
    assert!(bench.responses().is_empty() && !bench.tracker.has_answer("1"));
    bench.finish();
    let outcomes: Vec<_> = bench.responses().iter().map(|r| r.body_outcome.as_str()).collect();
    assert_eq!((outcomes, bench.failures().len()), (vec!["aborted"], 1));
    assert_eq!((bench.tracker.has_answer("1"), bench.tracker.has_answer("2")), (true, false));
}

/// I10: what the browser refuses to send never reaches a site.
#[test]
fn a_request_that_was_not_sent_has_only_its_failure() {
    let mut bench = Bench::with(SaveContent::None);
    let (method, mut params) = failed("1", "", false);
    params["blockedReason"] = "csp".into();
    bench.events([sent("1", URL, "Image"), (method, params)]);
    bench.finish();
    assert!(bench.requests().is_empty());
    let failure = bench.failures()[0];
    assert_eq!((failure.error.as_str(), failure.blocked_reason.as_deref()), ("blocked: csp", Some("csp")));
}

/// M11, I17
#[test]
fn every_body_has_an_outcome() {
    let stored = BodyResult::Stored { sha256: "ab".repeat(32), bytes: 5 };
    let fates = [
        (stored, "complete", Some(5), None),
        (BodyResult::Capped { bytes: 99 }, "capped", Some(99), None),
        (BodyResult::Failed { why: "gone".into() }, "failed", Some(5), Some("gone")),
    ];
    for (result, outcome, bytes, error) in fates {
        let mut bench = Bench::with(SaveContent::Types(["script".to_owned()].into()));
        bench.events(whole("1"));
        assert!(bench.responses().is_empty());
        let id = bench.asked_bodies()[0].request_id;
        assert_eq!(bench.asked_bodies()[0].expected_bytes, Some(5));
        let actions = bench.tracker.on_body(id, result);
        bench.actions.extend(actions);
        let response = bench.responses()[0];
        assert_eq!((response.body_outcome.as_str(), response.body_bytes), (outcome, bytes));
        assert_eq!(
            (response.content_hash.is_some(), response.body_error.as_deref()),
            (outcome == "complete", error)
        );
        assert_eq!(bench.truncations().len(), usize::from(outcome == "capped"));
    }
}

/// M11, M18
#[test]
fn bodies_that_are_empty_or_too_large_are_not_asked_for() {
    let config = HttpConfig { save_content: SaveContent::All, max_body_bytes: 10, ..HttpConfig::default() };
    let mut bench = Bench::new(config);
    bench.events([
        sent("1", URL, "Fetch"),
        received("1", URL, "Fetch", 204, false),
        failed("1", "net::ERR_ABORTED", true),
    ]);
    let mut head = sent("2", URL, "Fetch");
    head.1["request"]["method"] = "HEAD".into();
    bench.events([head, received("2", URL, "Fetch", 200, false), finished("2")]);
    bench.events([
        sent("3", URL, "Fetch"),
        received("3", URL, "Fetch", 200, false),
        data("3", 8),
        data("3", 8),
        finished("3"),
    ]);
    assert!(bench.asked_bodies().is_empty() && bench.failures().is_empty());
    let outcomes: Vec<_> =
        bench.responses().iter().map(|r| (r.body_outcome.clone(), r.content_hash.is_some())).collect();
    assert_eq!(outcomes, [("empty".into(), true), ("empty".into(), true), ("capped".into(), false)]);
    assert_eq!(bench.actions.iter().filter(|a| **a == Action::StoreEmptyBody).count(), 1);
    let cut = bench.truncations();
    assert_eq!(
        (cut.len(), cut[0].reason.as_str(), cut[0].dropped_bytes, cut[0].limit_value),
        (1, "body_cap", 16, 10)
    );
}

#[test]
fn cached_answers_are_marked() {
    let mut bench = Bench::with(SaveContent::None);
    bench.events([
        sent("1", URL, "Script"),
        ("Network.requestServedFromCache", json!({"requestId": "1"})),
        received("1", URL, "Script", 200, false),
        finished("1"),
    ]);
    let mut disk = received("2", URL, "Script", 200, false);
    disk.1["response"]["fromDiskCache"] = true.into();
    bench.events([sent("2", URL, "Script"), disk, finished("2")]);
    // Revalidated: asked on the wire, answered from the disk.
    bench.events([sent("3", URL, "Script"), sent_extra("3", 1.0), received_extra("3", 304, "r=1")]);
    bench.events([received("3", URL, "Script", 200, true), finished("3")]);
    let marks: Vec<_> =
        bench.responses().iter().map(|r| (r.cache_source.as_deref(), r.response_status)).collect();
    assert_eq!(marks, [(Some("memory"), Some(200)), (Some("disk"), Some(200)), (Some("disk"), Some(304))]);
    assert!(bench.responses().iter().all(|r| r.is_cached));
}

/// M10
#[test]
fn posted_bodies_are_taken_from_the_event_or_asked_for() {
    let mut bench = Bench::with(SaveContent::None);
    let mut form = sent("1", URL, "Fetch");
    form.1["request"]["method"] = "POST".into();
    form.1["request"]["headers"] = json!({"Content-Type": "application/x-www-form-urlencoded"});
    form.1["request"]["hasPostData"] = true.into();
    form.1["request"]["postDataEntries"] = json!([{"bytes": "YT0xJmI9Mg=="}]);
    bench.events([form, received("1", URL, "Fetch", 200, false), finished("1")]);
    let request = bench.requests()[0];
    assert_eq!(request.post_body.as_deref(), Some(r#"{"a":["1"],"b":["2"]}"#));
    assert_eq!(
        (request.post_body_raw.as_deref(), request.post_body_bytes),
        (Some(r#"[[null,"YT0xJmI9Mg=="]]"#), Some(7))
    );

    for (id, bytes, raw) in [("2", Some(vec![0, 255]), Some(r#"[[null,"AP8="]]"#)), ("3", None, None)] {
        let mut blob = sent(id, URL, "Fetch");
        blob.1["request"]["method"] = "POST".into();
        blob.1["request"]["headers"] = json!({"Content-Length": "2"});
        blob.1["request"]["hasPostData"] = true.into();
        bench.actions.clear();
        bench.events([blob, received(id, URL, "Fetch", 200, false), finished(id)]);
        assert!(bench.requests().is_empty());
        let asked = bench.actions.iter().find_map(|a| match a {
            Action::FetchPostData(request) => Some(request.clone()),
            _ => None,
        });
        let actions = bench.tracker.on_post_data(&asked.unwrap(), bytes.clone());
        bench.actions.extend(actions);
        assert_eq!(
            (bench.requests()[0].post_body_raw.as_deref(), bench.requests()[0].post_body_bytes),
            (raw, Some(2))
        );
        assert_eq!((bench.truncations().len(), bench.responses().len()), (usize::from(bytes.is_none()), 1));
    }
}

/// M10: what was on the wire is not lost while the body is asked for, and files that the browser does not keep are said.
#[test]
fn a_body_that_comes_late_or_in_part_leaves_the_headers_on_the_wire() {
    let mut bench = Bench::new(HttpConfig::default());
    for (kind, length) in [("Fetch", "2"), ("Document", "9")] {
        let mut blob = sent(kind, URL, kind);
        blob.1["request"]["hasPostData"] = true.into();
        let mut extra = sent_extra(kind, 1.0);
        extra.1["headers"]["Content-Length"] = length.into();
        bench.actions.clear();
        let answer = [received_extra(kind, 200, "a=1"), received(kind, URL, kind, 200, true)];
        bench.events([blob, extra].into_iter().chain(answer));
        let asked = |bench: &Bench| {
            let asked = bench.actions.iter().rev().find_map(|action| match action {
                Action::FetchPostData(request) => Some(request.clone()),
                _ => None,
            });
            asked.unwrap()
        };
        if kind == "Document" {
            assert!(bench.tracker.on_post_data(&asked(&bench), None).is_empty(), "asked again at the end");
        }
        bench.events([finished(kind)]);
        let actions = bench.tracker.on_post_data(&asked(&bench), Some(vec![0, 255]));
        bench.actions.extend(actions);
        let row = bench.requests()[0];
        assert!(row.headers_final && row.headers.contains("X-Mark"), "{row:?}");
        let whole = kind == "Fetch";
        assert_eq!((row.post_body_raw.is_some(), row.post_body_bytes), (whole, length.parse().ok()));
        assert_eq!(bench.truncations().len(), usize::from(!whole));
    }
}

/// M10
#[test]
fn websockets_have_a_handshake_and_frames() {
    let config = HttpConfig { payload_cap: 4, ..HttpConfig::default() };
    let mut bench = Bench::new(config);
    let url = "wss://a.test/s";
    let frame = |opcode: i64, text: &str| json!({"requestId": "w", "timestamp": 12.0, "response": {"opcode": opcode, "mask": true, "payloadData": text}});
    let answer = json!({"requestId": "w", "timestamp": 11.0, "response": {"status": 101, "statusText": "Switching Protocols",
        "headers": {"Set-Cookie": "w=1"}, "headersText": "HTTP/1.1 101 Switching Protocols\r\nSet-Cookie: w=1\r\n\r\n",
        "requestHeaders": {"Host": "a.test"}, "requestHeadersText": "GET /s HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n"}});
    bench.events([
        ("Network.webSocketCreated", json!({"requestId": "w", "url": url, "initiator": {"type": "script"}})),
        ("Network.webSocketWillSendHandshakeRequest", json!({"requestId": "w", "timestamp": 10.0, "wallTime": 1000.0, "request": {"headers": {"Host": "a.test"}}})),
        ("Network.webSocketHandshakeResponseReceived", answer),
        ("Network.webSocketFrameSent", frame(1, "hello")),
        ("Network.webSocketFrameReceived", frame(2, "AAEC")),
        ("Network.webSocketClosed", json!({"requestId": "w", "timestamp": 13.0})),
        ("Network.webSocketCreated", json!({"requestId": "x", "url": url, "initiator": {"type": "script"}})),
        ("Network.webSocketFrameError", json!({"requestId": "x", "timestamp": 13.0, "errorMessage": "net::ERR_CONNECTION_REFUSED"})),
        ("Network.webSocketClosed", json!({"requestId": "x", "timestamp": 13.0})),
    ]);
    let request = bench.requests()[0];
    assert_eq!(
        (request.resource_type.as_str(), request.headers.as_str()),
        ("websocket", r#"[["Host","a.test"],["Upgrade","websocket"]]"#)
    );
    assert_eq!((bench.responses()[0].response_status, bench.cookies().len()), (Some(101), 1));
    let frames: Vec<_> =
        bench.frames().iter().map(|f| (f.direction.clone(), f.payload.clone(), f.payload_bytes)).collect();
    assert_eq!(frames, [("sent".into(), "hell".into(), 5), ("received".into(), "AAEC".into(), 3)]);
    assert_eq!(
        (bench.truncations().len(), bench.failures()[0].error.as_str()),
        (1, "net::ERR_CONNECTION_REFUSED")
    );
}

/// M18
#[test]
fn requests_beyond_the_bound_are_counted() {
    let mut bench = Bench::new(HttpConfig { max_open: 2, ..HttpConfig::default() });
    bench.events((0..5).map(|i| sent(&i.to_string(), URL, "Script")));
    assert_eq!(bench.tracker.open_requests(), 2);
    bench.event(("Network.requestWillBeSent", json!({"requestId": 5})));
    bench.finish();
    let missed: Vec<_> = bench.truncations().iter().map(|t| (t.reason.clone(), t.dropped_rows)).collect();
    assert_eq!(missed, [("open_requests_cap".to_owned(), 3), ("undecodable_event".to_owned(), 1)]);
    assert_eq!(bench.failures().len(), 2);
}

#[test]
fn the_main_document_is_the_newest_top_level_navigation() {
    let mut bench = Bench::with(SaveContent::None);
    bench.events([
        sent("1", "https://top.test/", "Document"),
        received("1", "https://top.test/", "Document", 404, false),
    ]);
    let main = bench.tracker.main_document().unwrap();
    assert_eq!((main.url.as_str(), main.status, main.finished), ("https://top.test/", Some(404), false));
    // It has its response: only the end of its body is open.
    assert_eq!((bench.tracker.open_requests(), bench.tracker.unended_requests()), (0, 1));
    bench.events([
        finished("1"),
        sent("2", "https://no.test/", "Document"),
        failed("2", "net::ERR_X", false),
    ]);
    let main = bench.tracker.main_document().unwrap();
    assert_eq!(
        (main.url.as_str(), main.net_error.as_deref(), main.finished),
        ("https://no.test/", Some("net::ERR_X"), true)
    );
    assert_eq!((bench.tracker.open_requests(), bench.tracker.last_activity_us()), (0, bench.now));
}
