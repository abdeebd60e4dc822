//! One item of the list.

use serde_json::Value;

use super::{Target, collections::COLLECTIONS, kind, name, settings};
use crate::{FieldErrors, js_settings::LogSettings};

/// A target and the path of the item it comes from.
pub struct Expanded {
    pub target: Target,
    pub from: String,
}

/// Adds the targets of an item; what is wrong with it goes to `errors`.
pub fn expand(value: &Value, path: &str, expanded: &mut Vec<Expanded>, errors: &mut FieldErrors) {
    match value {
        Value::String(word) => {
            if let Some(collection) = COLLECTIONS.iter().find(|c| c.name == word) {
                let of_collection = collection.entries.iter().map(|entry| Expanded {
                    target: entry.target(),
                    from: format!("{path} ({})", collection.name),
                });
                expanded.extend(of_collection);
                return;
            }
            push(word, LogSettings::default(), path, expanded, errors);
        }
        Value::Object(map) => {
            let [(word, value)] = map.iter().collect::<Vec<_>>()[..] else {
                let message = format!("has {} keys: must have one, the name of an API", map.len());
                return errors.push(path, message);
            };
            let place = format!("{path}.{word}");
            let settings_path = format!("{place}.logSettings");
            let settings = match value {
                Value::Array(_) => LogSettings {
                    properties_to_instrument: Some(settings::names(
                        value,
                        &format!("{settings_path}.propertiesToInstrument"),
                        false,
                        errors,
                    )),
                    ..LogSettings::default()
                },
                Value::Object(given) => LogSettings::read(given, &settings_path, errors),
                other => {
                    let message =
                        format!("is {}: must be a list of properties or an object of settings", kind(other));
                    errors.push(&place, message);
                    LogSettings::default()
                }
            };
            push(word, settings, &place, expanded, errors);
        }
        other => errors.push(
            path,
            format!("is {}: must be a name, or an object with a name as its one key", kind(other)),
        ),
    }
}

fn push(
    word: &str,
    log_settings: LogSettings,
    path: &str,
    expanded: &mut Vec<Expanded>,
    errors: &mut FieldErrors,
) {
    match name::place(word) {
        Ok(name::Place { object, instrumented_name, path: steps }) => expanded.push(Expanded {
            target: Target { object, instrumented_name, path: steps, required: true, log_settings },
            from: path.to_owned(),
        }),
        Err(message) => errors.push(path, message),
    }
}
