//! The language in which users say which JavaScript APIs are recorded, and how: OpenWPM's, whole.
//!
//! A list of items: the name of a collection; the name of an API (`navigator` paths begin with `window`, anything else
//! is an interface); or an object with one such name as its key, and either the properties or some of the nine
//! settings as its value. [`JsSettings::parse`] expands it to one [`Target`] per object, with every wrong place named
//! at once. The same grammar as a JSON Schema is in `docs/js-settings.schema.json`; `docs/js-settings.md` explains it.

mod collections;
mod item;
mod merge;
mod name;
mod schema;
mod settings;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::FieldErrors;
pub use collections::COLLECTIONS;
pub use schema::json_schema;
pub use settings::LogSettings;

/// What is recorded where nothing else is said.
pub const DEFAULT_JS_SETTINGS: &str = r#"["collection_fingerprinting"]"#;
/// Longest text, in bytes.
const MAX_TEXT: usize = 256 * 1024;
/// Items of a list.
const MAX_ITEMS: usize = 1000;

/// One instrumented object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The expression, as `window.navigator` or `window['Storage'].prototype`.
    pub object: String,
    /// What symbols of it begin with, as `window.navigator` or `Storage`.
    pub instrumented_name: String,
    /// The property names that lead from the global object to it.
    pub path: Vec<String>,
    /// A user named it: a page that lacks it fails its visit. Browsers may lack what only collections name.
    pub required: bool,
    /// How it is recorded.
    pub log_settings: LogSettings,
}

/// The expanded settings: each object once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsSettings {
    targets: Vec<Target>,
}

impl Default for JsSettings {
    fn default() -> Self {
        Self::parse(DEFAULT_JS_SETTINGS).expect("the default settings are right; a test holds them")
    }
}

impl JsSettings {
    /// Expands settings given as JSON text; "" means [`DEFAULT_JS_SETTINGS`].
    ///
    /// # Errors
    /// Every wrong place, with its path, as `[2].window.logSettings.depth`.
    pub fn parse(text: &str) -> Result<Self, FieldErrors> {
        let text = if text.trim().is_empty() { DEFAULT_JS_SETTINGS } else { text };
        let mut errors = FieldErrors::default();
        if text.len() > MAX_TEXT {
            errors.push("", format!("{} bytes long: at most {MAX_TEXT}", text.len()));
            return Err(errors);
        }
        match serde_json::from_str(text) {
            Ok(value) => Self::from_value(&value),
            Err(error) => {
                errors.push("", format!("is not JSON: {error}"));
                Err(errors)
            }
        }
    }

    /// Expands settings that are JSON already.
    ///
    /// # Errors
    /// As [`JsSettings::parse`].
    pub fn from_value(value: &Value) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::default();
        let Some(items) = value.as_array() else {
            errors.push("", format!("is {}: must be a list of items", kind(value)));
            return Err(errors);
        };
        if items.len() > MAX_ITEMS {
            errors.push("", format!("{} items: at most {MAX_ITEMS}", items.len()));
            return Err(errors);
        }
        let mut expanded = Vec::new();
        for (i, value) in items.iter().enumerate() {
            item::expand(value, &format!("[{i}]"), &mut expanded, &mut errors);
        }
        let targets = merge::merge(expanded, &mut errors);
        errors.into_result()?;
        Ok(Self { targets })
    }

    /// Each object once, in the order in which they were named.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// As OpenWPM's clean settings: `[{object, instrumentedName, logSettings}]`.
    pub fn to_json(&self) -> Value {
        self.targets.iter().map(Target::to_json).collect()
    }

    /// As the extension takes them: [`JsSettings::to_json`] with `path` and `required` beside.
    pub fn for_extension(&self) -> Value {
        let extended = self.targets.iter().map(|target| {
            let mut json = target.to_json();
            json["path"] = json!(target.path);
            json["required"] = json!(target.required);
            json
        });
        extended.collect()
    }
}

impl Target {
    fn to_json(&self) -> Value {
        json!({
            "object": self.object,
            "instrumentedName": self.instrumented_name,
            "logSettings": self.log_settings.to_json(),
        })
    }
}

/// A JSON value's kind, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
