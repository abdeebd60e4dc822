//! Every bound of the tracker is told when it is met (M18).

use super::*;

fn nested(bench: &mut Bench, depth: usize, url: &str) {
    for n in 1..=depth {
        let parent = if n == 1 { PAGE.to_owned() } else { format!("F{}", n - 1) };
        let params = json!({"frame": {"id": format!("F{n}"), "parentId": parent, "url": url}});
        bench.event(("Page.frameNavigated", params));
    }
}

/// M18
#[test]
fn long_lists_of_ancestors_are_cut() {
    for (depth, url, left_out) in [(70, "https://f.test/".to_owned(), 70 - 64), (3, "u".repeat(200_000), 2)] {
        let mut bench = Bench::with(SaveContent::None);
        nested(&mut bench, depth, &url);
        let (method, mut params) = sent("1", "https://a.test/", "Script");
        params["frameId"] = format!("F{depth}").into();
        bench.event((method, params));
        bench.finish();
        let reasons: Vec<_> =
            bench.truncations().iter().map(|t| (t.column_name.clone().unwrap(), t.reason.clone())).collect();
        assert_eq!(reasons, [("frame_ancestors".to_owned(), "ancestors_cap".to_owned())], "{left_out}");
        let listed: Vec<Value> =
            serde_json::from_str(bench.requests()[0].frame_ancestors.as_ref().unwrap()).unwrap();
        assert_eq!(listed.len(), depth - left_out);
    }
}

/// M18
#[test]
fn stacks_that_are_too_long_are_cut() {
    let mut bench = Bench::with(SaveContent::None);
    let (method, mut params) = sent("1", "https://a.test/", "Script");
    let frame = json!({"functionName": "f", "url": "u", "lineNumber": 0, "columnNumber": 0});
    params["initiator"] = json!({"type": "script", "stack": {"callFrames": vec![frame; 1002]}});
    bench.event((method, params));
    bench.finish();
    let [cut] = bench.truncations()[..] else { panic!("{:?}", bench.truncations()) };
    assert_eq!(
        (cut.table_name.as_str(), cut.reason.as_str(), cut.limit_value),
        ("callstacks", "stack_cap", 1000)
    );
}

/// M18
#[test]
fn extra_infos_without_end_are_counted() {
    let mut bench = Bench::with(SaveContent::None);
    bench.event(sent("1", "https://a.test/", "Script"));
    for n in 0..300 {
        bench.event(received_extra("1", 401, &format!("c={n}")));
    }
    bench.events([
        sent_extra("1", 1.0),
        received("1", "https://a.test/", "Script", 200, false),
        finished("1"),
    ]);
    bench.finish();
    let cuts: Vec<_> =
        bench.truncations().iter().map(|t| (t.reason.as_str(), t.dropped_rows, t.limit_value)).collect();
    assert!(cuts.contains(&("extra_info_per_request_cap", 300 - 256, 256)), "{cuts:?}");
}

/// M18
#[test]
fn data_urls_say_what_was_left_out_of_them() {
    let mut bench = Bench::with(SaveContent::None);
    bench.event(sent("1", "data:text/plain,12345678901234567890", "Image"));
    bench.finish();
    let [cut] = bench.truncations()[..] else { panic!("{:?}", bench.truncations()) };
    assert_eq!((cut.reason.as_str(), cut.dropped_rows), ("data_url_content", 1));
    assert!(cut.dropped_bytes > 0);
}
