//! The JavaScript settings' schema in the docs, and the cases that it and the validator must agree on.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use sonde_proto::js_settings::{JsSettings, json_schema};

/// M13
#[test]
fn the_published_schema_is_made_from_the_validator() {
    let published = include_str!("../../docs/js-settings.schema.json");
    assert_eq!(
        published,
        format!("{:#}\n", json_schema()),
        "run: cargo run -p sonde-proto --example js_settings_schema > docs/js-settings.schema.json"
    );
}

/// M13: the extension's unit tests run the same cases through a JSON Schema validator.
#[test]
fn the_validator_takes_the_good_cases_and_refuses_the_bad_ones() {
    let cases: Value = serde_json::from_str(include_str!("data/js-settings-cases.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let checked = JsSettings::parse(&case["settings"].to_string());
        assert_eq!(checked.is_ok(), case["valid"].as_bool().unwrap(), "{}: {checked:?}", case["name"]);
    }
}
