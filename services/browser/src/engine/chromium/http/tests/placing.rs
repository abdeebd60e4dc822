//! Which tab, frame, worker and kind a request is of.

use super::*;

fn one(
    bench: &mut Bench,
    session: &SessionInfo,
    mut event: (&'static str, Value),
    change: impl Fn(&mut Value),
) -> HttpRequest {
    change(&mut event.1);
    let id = event.1["requestId"].as_str().unwrap().to_owned();
    bench.actions.clear();
    bench.event_of(session, event.0, &event.1);
    let (method, params) = received(&id, "", "", 200, false);
    bench.event_of(session, method, &params);
    bench.event(finished(&id));
    bench.requests()[0].clone()
}

/// M10
#[test]
fn frames_workers_and_popups_are_told_apart() {
    let mut bench = Bench::with(SaveContent::None);
    let page = bench.page.clone();
    let top = json!({"frame": {"id": PAGE, "url": "https://top.test/"}});
    bench.event(("Page.frameNavigated", top));
    bench.event(("Page.frameAttached", json!({"frameId": "F", "parentFrameId": PAGE})));
    let frame =
        one(&mut bench, &page, sent("1", "https://b.test/f", "Document"), |p| p["frameId"] = "F".into());
    assert_eq!(
        (frame.resource_type.as_str(), frame.frame_id, frame.parent_frame_id),
        ("sub_frame", 1, Some(0))
    );
    assert_eq!(frame.frame_ancestors.as_deref(), Some(r#"[{"frameId":0,"url":"https://top.test/"}]"#));
    assert_eq!(
        (frame.top_level_url.as_deref(), frame.loading_href.as_deref()),
        (Some("https://top.test/"), Some("https://top.test/"))
    );
    assert_eq!(
        (frame.is_third_party_to_top_window, frame.context_type.as_deref()),
        (Some(true), Some("page"))
    );

    let mut oopif = session("I", "iframe", "F", Some("S"));
    oopif.parent_frame_id = Some(PAGE.into());
    bench.event_of(
        &oopif,
        "Page.frameNavigated",
        &json!({"frame": {"id": "F", "parentId": PAGE, "url": "https://b.test/f"}}),
    );
    let inside = one(&mut bench, &oopif, sent("2", "https://b.test/x", "Fetch"), |p| {
        p["frameId"] = "F".into();
        p["documentURL"] = "https://b.test/f".into();
    });
    assert_eq!((inside.frame_id, inside.tab_id, inside.is_xhr), (1, 7, true));
    assert_eq!(
        (inside.is_third_party_channel, inside.is_third_party_to_top_window),
        (Some(false), Some(true))
    );
    assert_eq!(
        (inside.triggering_origin.as_deref(), inside.context_type.as_deref()),
        (Some("https://b.test"), Some("iframe"))
    );

    let mut worker = session("W", "worker", "WT", Some("I"));
    worker.parent_frame_id = Some("F".into());
    let in_worker = one(&mut bench, &worker, sent("3", "https://b.test/imp.js", "Other"), |p| {
        p["frameId"] = Value::Null;
        p["initiator"] = json!({"type": "script"});
    });
    assert_eq!((in_worker.frame_id, in_worker.tab_id, in_worker.resource_type.as_str()), (1, 7, "script"));
    assert_eq!(in_worker.context_type.as_deref(), Some("worker"));

    let shared = session("SW", "service_worker", "SWT", None);
    let of_none =
        one(&mut bench, &shared, sent("4", "https://b.test/y", "Fetch"), |p| p["frameId"] = Value::Null);
    assert_eq!((of_none.tab_id, of_none.frame_id, of_none.top_level_url.as_deref()), (-1, -1, None));

    let popup = session("P", "page", "POPUP", None);
    bench.tracker.set_tab(&"POPUP".into(), 8, None);
    let popped =
        one(&mut bench, &popup, sent("5", "https://c.test/", "Document"), |p| p["frameId"] = "POPUP".into());
    assert_eq!((popped.resource_type.as_str(), popped.tab_id, popped.frame_id), ("main_frame", 8, 0));
    assert_eq!(
        (popped.top_level_url.as_deref(), popped.loading_href.as_deref()),
        (Some("https://c.test/"), None)
    );
    assert_eq!(bench.tracker.main_document(), None, "a popup is not the visit's page");
}

#[test]
fn a_preflight_belongs_where_its_request_does() {
    let mut bench = Bench::with(SaveContent::All);
    let page = bench.page.clone();
    bench.event(("Page.frameAttached", json!({"frameId": "F", "parentFrameId": PAGE})));
    let mut main = sent("1", "https://c.test/cors", "Fetch");
    main.1["frameId"] = "F".into();
    bench.event(main);
    let preflight = one(&mut bench, &page, sent("P", "https://c.test/cors", "Preflight"), |p| {
        p["frameId"] = "".into();
        p["documentURL"] = "https://c.test/cors".into();
        p["request"]["method"] = "OPTIONS".into();
        p["initiator"] = json!({"type": "preflight", "url": "https://c.test/cors", "requestId": "1"});
    });
    assert_eq!(
        (preflight.method.as_str(), preflight.resource_type.as_str(), preflight.is_xhr),
        ("OPTIONS", "xmlhttprequest", false)
    );
    assert_eq!((preflight.frame_id, preflight.loading_href.as_deref()), (1, Some("https://top.test/")));
    assert_eq!(bench.responses()[0].body_outcome, "empty");
}

#[test]
fn kinds_are_in_the_words_of_webrequest() {
    let mut bench = Bench::with(SaveContent::None);
    let page = bench.page.clone();
    let kinds = [
        ("Stylesheet", "stylesheet"),
        ("Image", "image"),
        ("Font", "font"),
        ("Media", "media"),
        ("XHR", "xmlhttprequest"),
        ("Ping", "beacon"),
        ("CSPViolationReport", "csp_report"),
        ("Manifest", "web_manifest"),
        ("Prefetch", "other"),
        ("Document", "main_frame"),
    ];
    for (at, (devtools, ours)) in kinds.into_iter().enumerate() {
        let row = one(&mut bench, &page, sent(&at.to_string(), "https://a.test/", devtools), |_| ());
        assert_eq!(row.resource_type, ours);
    }
    let favicon = one(&mut bench, &page, sent("i", "https://a.test/favicon.ico", "Other"), |p| {
        p["request"]["headers"]["Accept"] = "image/avif,*/*".into();
    });
    assert_eq!(favicon.resource_type, "image");
}

#[test]
fn a_request_whose_worker_ends_does_not_stay_open() {
    let mut bench = Bench::with(SaveContent::None);
    let worker = session("W", "worker", "WT", Some("S"));
    let (method, params) = sent("1", "https://a.test/", "Fetch");
    bench.event_of(&worker, method, &params);
    assert_eq!(bench.tracker.open_requests(), 1);
    bench.event_of(&worker, "Target.detachedFromTarget", &json!({"sessionId": "W"}));
    assert_eq!(bench.tracker.open_requests(), 0);
    bench.now += 3_000_000;
    bench.event(sent("2", "https://a.test/", "Fetch"));
    assert_eq!(bench.failures()[0].error, "target_gone");
}
