use super::CallRows;
use super::batch::{Call, decode};
use super::call_site::{call_site, call_stack};
use sonde_proto::record::v1::record::Row;

/// M13
#[test]
fn batches_are_read_as_the_hooks_write_them() {
    let first = Call {
        symbol: "a.b".to_owned(),
        operation: 1,
        flags: 0,
        at_us: 1_800_000_000_000_000,
        stack: Some("s\n1".to_owned()),
        value: Some("é".to_owned()),
        args: None,
        cut: 0,
    };
    let text =
        "1800000000000000,2,4,0,2\n3,3,3,5\n0,0,1,0,1,2,-1,0\n11,0,0,1,-1,-1,3,3\na.bs\n1é\u{1f600}[\"x\"]";
    let calls = decode(text).unwrap();
    assert_eq!(calls[0], Call { value: Some("é\u{1f600}".to_owned()), ..first });
    assert_eq!(
        (calls[1].at_us, calls[1].args.as_deref(), calls[1].cut),
        (1_800_000_000_000_011, Some("[\"x\"]"), 3)
    );
    // The emoji is two units long: where lengths do not fit, the batch is broken.
    assert!(decode(&text.replace("3,3,3,5", "3,3,2,5")).is_err());
    for broken in ["", "1,1,0,0,1\n", "1,1,0,0,1\n\n0,0\n", "1,0,1,0,0\n5\nabc", "1,0,0,0,0\n\nmore"] {
        assert!(decode(broken).is_err(), "{broken:?}");
    }
}

/// M13: of the stacks that the extension's parser is held to as well.
#[test]
fn call_sites_are_read_as_the_extension_reads_them() {
    let text = include_str!("../../../../../../clients/extension/tests/data/stacks-chromium.json");
    let captured: serde_json::Value = serde_json::from_str(text).unwrap();
    let site = |name: &str| {
        let stack = captured["stacks"][name].as_str().unwrap();
        let below: Vec<_> = stack.lines().filter(|line| !line.contains("at take ")).collect();
        let site = call_site(&below.join("\n")).unwrap();
        let file = site.script_url.replace("http://site.test/", "");
        let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        format!("{} {file} {}:{} {}", or(site.func_name), site.line, site.column, or(site.loc_eval))
    };
    for (name, expected) in [
        ("plain", "plain s.js 4:20 -"),
        ("constructor", "Foo s.js 6:29 -"),
        ("alias", "Object.plain2 s.js 8:50 -"),
        ("computed", "com puted s.js 6:216 -"),
        ("native", "- s.js 9:15 -"),
        ("eval", "eval s.js 1:1 line 10 > eval"),
        ("nested eval", "eval s.js 1:1 line 11 > eval line 1 > eval"),
        ("inner eval", "inner s.js 3:20 line 12 > eval"),
        ("Function", "eval s.js 3:1 line 14 > eval"),
        ("named eval", "eval named.js 1:1 -"),
        ("async function", "af s.js 17:67 -"),
        ("data", "- data:text/javascript,take('data') 1:1 -"),
    ] {
        assert_eq!(site(name), expected, "{name}");
    }
    assert_eq!(call_site("Error\n    at Array.map (<anonymous>)"), None);
    assert_eq!(call_stack("Error: x\n    at f (u:1:2)\n    at u:3:4"), "f (u:1:2)\nu:3:4");
}

/// I12, M18
#[test]
fn calls_are_numbered_and_cuts_and_limits_are_told() {
    let mut worker = CallRows::new("http://a/w.js".to_owned(), None, -1, 10);
    let call = Call {
        symbol: "window.navigator.vendor".to_owned(),
        operation: 1,
        flags: 0,
        at_us: 5,
        stack: None,
        value: Some("x".to_owned()),
        args: None,
        cut: 0,
    };
    let rows = [
        call.clone(),
        Call { cut: 7, ..call.clone() },
        Call { operation: 12, cut: 3, ..call.clone() },
        Call { operation: 10, value: None, ..call },
    ];
    let rows: Vec<_> = rows.into_iter().flat_map(|call| worker.rows(call)).map(|(_, row)| row).collect();
    let [
        Row::Javascript(a),
        Row::Javascript(b),
        Row::Truncation(cut),
        Row::Truncation(limit),
        Row::Truncation(missing),
    ] = &rows[..]
    else {
        panic!("{rows:?}");
    };
    assert_eq!((missing.reason.as_str(), missing.dropped_rows), ("target_missing", 0));
    assert_eq!((a.page_scoped_event_ordinal, b.page_scoped_event_ordinal), (0, 1));
    assert_eq!((cut.reason.as_str(), cut.dropped_bytes), ("value_cap", 7));
    assert_eq!((limit.reason.as_str(), limit.dropped_rows, limit.limit_value), ("symbol_limit", 3, 10));
}
