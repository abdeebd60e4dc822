//! A plugin's config.json: a JSON Schema of its settings, with what it needs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The type of a setting. `null` beside it is allowed everywhere: hooks read it as "not set".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// One setting.
#[derive(Debug, Clone)]
pub struct Property {
    /// `None`: any.
    pub kind: Option<Kind>,
    pub nullable: bool,
    pub default: Option<Value>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub allowed: Vec<Value>,
    pub pattern: Option<regex::Regex>,
    /// Old names.
    pub aliases: Vec<String>,
    /// The setting that stands in for it.
    pub fallback: Option<String>,
}

/// A program that a plugin needs; `name` may hold placeholders, as `{WGET_BINARY}`.
#[derive(Debug, Clone, PartialEq)]
pub struct RequiredBinary {
    pub name: String,
    /// Comma-separated, as `env,apt`.
    pub providers: String,
    pub min_version: Option<String>,
}

/// What config.json says.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    pub title: String,
    pub required_plugins: Vec<String>,
    pub required_binaries: Vec<RequiredBinary>,
    pub output_mimetypes: Vec<String>,
    /// Runtimes it runs in; empty: all.
    pub runtimes: Vec<String>,
    /// Whether it takes the URL `archivebox://internal`.
    pub accepts_internal_input: bool,
    pub properties: BTreeMap<String, Property>,
}

/// Why a config.json is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{at} is not {what}")]
    Form { at: String, what: &'static str },
    #[error("the pattern of {key} is no regular expression: {source}")]
    Pattern { key: String, source: Box<regex::Error> },
}

fn form(at: impl Into<String>, what: &'static str) -> SchemaError {
    SchemaError::Form { at: at.into(), what }
}

impl Schema {
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let Value::Object(top) = serde_json::from_str(text)? else {
            return Err(form("the file", "an object"));
        };
        let mut schema = Self {
            title: top.get("title").and_then(Value::as_str).unwrap_or_default().to_owned(),
            required_plugins: strings(&top, "required_plugins")?,
            required_binaries: binaries(&top)?,
            output_mimetypes: strings(&top, "output_mimetypes")?,
            runtimes: strings(&top, "x-runtimes")?,
            accepts_internal_input: top
                .get("x-accepts-internal-input")
                .is_some_and(|v| *v == Value::Bool(true)),
            properties: BTreeMap::new(),
        };
        match top.get("properties") {
            None => {}
            Some(Value::Object(properties)) => {
                for (key, value) in properties {
                    schema.properties.insert(key.clone(), property(key, value)?);
                }
            }
            Some(_) => return Err(form("properties", "an object")),
        }
        Ok(schema)
    }
}

fn strings(map: &Map<String, Value>, key: &str) -> Result<Vec<String>, SchemaError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|i| i.as_str().map(str::to_owned).ok_or_else(|| form(key, "a list of strings")))
            .collect(),
        Some(_) => Err(form(key, "a list of strings")),
    }
}

fn binaries(top: &Map<String, Value>) -> Result<Vec<RequiredBinary>, SchemaError> {
    let what = "a list of objects with a name";
    let Some(value) = top.get("required_binaries") else { return Ok(Vec::new()) };
    let items = value.as_array().ok_or_else(|| form("required_binaries", what))?;
    let one = |item: &Value| {
        let name = item.get("name").and_then(Value::as_str).filter(|n| !n.is_empty());
        let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(RequiredBinary {
            name: name.ok_or_else(|| form("required_binaries", what))?.to_owned(),
            providers: text("binproviders").unwrap_or_default(),
            min_version: text("min_version"),
        })
    };
    items.iter().map(one).collect()
}

fn property(key: &str, value: &Value) -> Result<Property, SchemaError> {
    let map = value.as_object().ok_or_else(|| form(key, "an object"))?;
    let mut types = match map.get("type") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(_) => strings(map, "type")?,
    };
    let nullable = types.iter().any(|t| t == "null");
    types.retain(|t| t != "null");
    let kind = match types.first().map(String::as_str) {
        None => None,
        Some("boolean") => Some(Kind::Boolean),
        Some("integer") => Some(Kind::Integer),
        Some("number") => Some(Kind::Number),
        Some("string") => Some(Kind::String),
        Some("array") => Some(Kind::Array),
        Some("object") => Some(Kind::Object),
        Some(_) => return Err(form(format!("the type of {key}"), "one of JSON Schema")),
    };
    let pattern = match map.get("pattern").and_then(Value::as_str) {
        None => None,
        Some(pattern) => Some(
            regex::Regex::new(pattern)
                .map_err(|e| SchemaError::Pattern { key: key.to_owned(), source: Box::new(e) })?,
        ),
    };
    Ok(Property {
        // Several types at once: the hook judges.
        kind: if types.len() > 1 { None } else { kind },
        nullable,
        default: map.get("default").cloned(),
        minimum: map.get("minimum").and_then(Value::as_f64),
        maximum: map.get("maximum").and_then(Value::as_f64),
        allowed: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        pattern,
        aliases: strings(map, "x-aliases")?,
        fallback: map.get("x-fallback").and_then(Value::as_str).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_form_of_config_is_read() {
        let text = r#"{"title":"wget","required_plugins":["base"],"x-runtimes":["abx-dl"],"x-accepts-internal-input":true,
            "required_binaries":[{"name":"{WGET_BINARY}","binproviders":"env,apt","min_version":null}],
            "output_mimetypes":["image/"],
            "properties":{"WGET_TIMEOUT":{"type":"integer","default":60,"minimum":5,"x-fallback":"TIMEOUT"},
              "P":{"type":["string","null"],"pattern":"^a+$","enum":["a"],"x-aliases":["Q"]}}}"#;
        let schema = Schema::parse(text).unwrap();
        assert_eq!((schema.required_plugins, schema.runtimes), (vec!["base".into()], vec!["abx-dl".into()]));
        assert!(schema.accepts_internal_input);
        assert_eq!(schema.required_binaries[0].name, "{WGET_BINARY}");
        assert_eq!(schema.required_binaries[0].min_version, None);
        let timeout = &schema.properties["WGET_TIMEOUT"];
        assert_eq!((timeout.kind, timeout.minimum), (Some(Kind::Integer), Some(5.0)));
        let p = &schema.properties["P"];
        assert!(p.nullable && p.kind == Some(Kind::String) && p.aliases == ["Q"]);
    }

    #[test]
    fn a_broken_config_says_where() {
        for (text, says) in [
            ("[]", "the file"),
            ("{", "not JSON"),
            (r#"{"required_plugins":[1]}"#, "required_plugins"),
            (r#"{"properties":{"A":{"type":"money"}}}"#, "the type of A"),
            (r#"{"properties":{"A":{"type":"string","pattern":"("}}}"#, "pattern of A"),
            (r#"{"required_binaries":[{}]}"#, "required_binaries"),
        ] {
            let error = Schema::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
