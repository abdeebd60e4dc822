//! The table schemas, held against OpenWPM's column list.
use sonde_proto::schema::{self, Row, TABLES, Value, render};

/// OpenWPM 0.35's tables and columns, without the SQLite autoincrement `id`
/// and the defaults of `task.start_time` and `crawl.start_time`.
const OPENWPM: &[(&str, &str)] = &[
    ("task", "task_id start_time manager_params openwpm_version browser_version"),
    ("crawl", "browser_id task_id browser_params start_time"),
    ("site_visits", "visit_id browser_id site_url site_rank"),
    (
        "crawl_history",
        "browser_id visit_id command arguments retry_number command_status error traceback duration dtg",
    ),
    (
        "http_requests",
        "incognito browser_id visit_id extension_session_uuid event_ordinal window_id tab_id frame_id url top_level_url \
         parent_frame_id frame_ancestors method referrer headers request_id is_XHR is_third_party_channel \
         is_third_party_to_top_window triggering_origin loading_origin loading_href req_call_stack resource_type \
         post_body post_body_raw time_stamp",
    ),
    (
        "http_responses",
        "incognito browser_id visit_id extension_session_uuid event_ordinal window_id tab_id frame_id url method \
         response_status response_status_text is_cached headers request_id location time_stamp content_hash",
    ),
    (
        "http_redirects",
        "incognito browser_id visit_id old_request_url old_request_id new_request_url new_request_id \
         extension_session_uuid event_ordinal window_id tab_id frame_id response_status response_status_text headers \
         time_stamp",
    ),
    (
        "javascript",
        "incognito browser_id visit_id extension_session_uuid event_ordinal page_scoped_event_ordinal window_id tab_id \
         frame_id script_url script_line script_col func_name script_loc_eval document_url top_level_url call_stack \
         symbol operation value arguments time_stamp",
    ),
    (
        "javascript_cookies",
        "browser_id visit_id extension_session_uuid event_ordinal record_type change_cause expiry is_http_only \
         is_host_only is_session host is_secure name path value same_site first_party_domain store_id time_stamp",
    ),
    (
        "navigations",
        "incognito browser_id visit_id extension_session_uuid process_id window_id tab_id tab_opener_tab_id frame_id \
         parent_frame_id window_width window_height window_type tab_width tab_height tab_cookie_store_id uuid url \
         transition_qualifiers transition_type before_navigate_event_ordinal before_navigate_time_stamp \
         committed_event_ordinal committed_time_stamp",
    ),
    ("callstacks", "request_id browser_id visit_id call_stack"),
    ("incomplete_visits", "visit_id"),
    (
        "dns_responses",
        "request_id browser_id visit_id hostname redirect_url addresses used_address canonical_name is_TRR error \
         time_stamp",
    ),
];

/// M01, M02
#[test]
fn every_openwpm_column_is_there_under_its_name() {
    for (name, columns) in OPENWPM {
        let table = schema::table(name).unwrap_or_else(|| panic!("{name} is missing"));
        let ours: Vec<_> = table.columns().iter().map(|c| c.name).collect();
        for column in columns.split_whitespace() {
            assert!(ours.contains(&column), "{name}.{column} is missing");
        }
    }
}

#[test]
fn every_table_and_column_is_documented_and_unique() {
    for table in TABLES {
        assert!(!table.doc.is_empty(), "{} has no doc", table.name);
        let columns = table.columns();
        for (i, column) in columns.iter().enumerate() {
            assert!(!column.doc.is_empty(), "{}.{} has no doc", table.name, column.name);
            assert!(
                columns[..i].iter().all(|c| !c.name.eq_ignore_ascii_case(column.name)),
                "{} twice",
                column.name
            );
        }
        for key in table.key_columns().iter().chain(table.indexes.iter().copied().flatten()) {
            assert!(columns.iter().any(|c| c.name == *key), "{}: no column {key}", table.name);
        }
        assert!(!table.key_columns().is_empty(), "{} has no key", table.name);
    }
}

#[test]
fn a_row_gives_one_value_per_own_column_in_order() {
    let row = sonde_proto::record::v1::HttpFailure {
        request_id: 7,
        url: "http://a/".into(),
        blocked_reason: None,
        after_response: true,
        ..Default::default()
    };
    let mut values = Vec::new();
    row.values(&mut |v| values.push(v));
    assert_eq!(values.len(), row.table().own.len());
    assert_eq!(values[0], Value::Integer(7));
    assert_eq!(values[2], Value::Text("http://a/"));
    let at = |name| row.table().own.iter().position(|c| c.name == name).expect("a column");
    assert_eq!(values[at("blocked_reason")], Value::Null);
    assert_eq!(values[at("after_response")], Value::Integer(1));
}

/// M02: the documentation's page is made from the contract. `SONDE_UPDATE_DOCS=1` writes it anew.
#[test]
fn the_page_of_the_tables_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema.md");
    let page = render::markdown();
    if std::env::var_os("SONDE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "docs/schema.md is not what the record messages say: run\n  \
         SONDE_UPDATE_DOCS=1 cargo test -p sonde-proto --test schema\nand commit it"
    );
}

/// M01, M02: every form that `sonde schema` prints has every column of OpenWPM.
#[test]
fn every_printed_form_has_openwpms_columns() {
    let (markdown, sql) = (render::markdown(), render::sql());
    let arrow: serde_json::Value = serde_json::from_str(&render::arrow()).expect("JSON");
    for (name, columns) in OPENWPM {
        let table = schema::table(name).unwrap_or_else(|| panic!("{name} is missing"));
        let start =
            markdown.find(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("{name} has no section"));
        let section = markdown[start + 1..].split("\n## ").next().unwrap_or_default();
        let stamp = markdown.split("\n## ").nth(1).unwrap_or_default();
        let create = sql.lines().find(|l| l.starts_with(&format!("CREATE TABLE IF NOT EXISTS \"{name}\"")));
        let create = create.unwrap_or_else(|| panic!("{name} is not made"));
        let fields =
            arrow[name]["schema"]["fields"].as_array().unwrap_or_else(|| panic!("{name} has no fields"));
        for column in columns.split_whitespace() {
            let line = format!("| `{column}` |");
            assert!(section.contains(&line) || table.stamped && stamp.contains(&line), "{name}.{column}");
            assert!(create.contains(&format!("\"{column}\" ")), "{name}.{column}: {create}");
            assert!(fields.iter().any(|f| f["name"] == column), "{name}.{column}");
        }
        assert_eq!(fields.len(), table.columns().len());
    }
}
