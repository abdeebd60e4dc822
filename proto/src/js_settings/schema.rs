//! The language as a JSON Schema, draft-07, made from the same tables that the validator reads.

use serde_json::{Map, Value, json};

use super::{
    COLLECTIONS, MAX_ITEMS,
    name::{self, MAX_NAME},
    settings::{MAX_DEPTH, MAX_PROPERTIES, SETTINGS, Shape},
};

/// What `docs/js-settings.schema.json` holds. It cannot say what spans items or settings: merges that conflict, and
/// properties that are both instrumented and excluded; the validator refuses those, too.
pub fn json_schema() -> Value {
    let collections: Vec<_> = COLLECTIONS.iter().map(|c| c.name).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:sonde:js-settings",
        "title": "JavaScript settings",
        "description": "Which JavaScript APIs are recorded, and how: OpenWPM's language. See js-settings.md.",
        "type": "array",
        "maxItems": MAX_ITEMS,
        "items": {
            "anyOf": [
                { "title": "Collection", "enum": collections },
                { "$ref": "#/definitions/api" },
                {
                    "title": "API with its properties or settings",
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "propertyNames": { "$ref": "#/definitions/api" },
                    "additionalProperties": {
                        "anyOf": [{ "$ref": "#/definitions/names" }, { "$ref": "#/definitions/logSettings" }],
                    },
                },
            ],
        },
        "definitions": {
            "api": {
                "title": "An interface (Storage), or a path from window (window.navigator)",
                "type": "string",
                "maxLength": MAX_NAME,
                "pattern": name::pattern(),
            },
            "names": {
                "title": "Names of properties",
                "type": "array",
                "maxItems": MAX_PROPERTIES,
                "items": { "type": "string", "minLength": 1, "maxLength": MAX_NAME },
            },
            "logSettings": {
                "title": "Settings over the defaults",
                "type": "object",
                "properties": properties(),
                "additionalProperties": false,
            },
        },
    })
}

fn properties() -> Value {
    let defaults = super::LogSettings::default().to_json();
    let mut all = Map::new();
    for setting in &SETTINGS {
        let mut property = match setting.shape {
            // Beside a $ref nothing counts in this draft, hence allOf.
            Shape::Names => json!({ "allOf": [{ "$ref": "#/definitions/names" }] }),
            Shape::NamesOrNull => json!({ "anyOf": [{ "$ref": "#/definitions/names" }, { "type": "null" }] }),
            Shape::Flag => json!({ "type": "boolean" }),
            Shape::Depth => json!({ "type": "integer", "minimum": 0, "maximum": MAX_DEPTH }),
        };
        property["description"] = json!(setting.about);
        property["default"] = defaults[setting.key].clone();
        all.insert(setting.key.to_owned(), property);
    }
    Value::Object(all)
}
