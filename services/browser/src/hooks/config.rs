//! The values of plugins' settings, and which plugins run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::discovery::{Found, Plugin};
use super::schema::{Kind, Property};

/// Settings as the operator gives them: NAME=value, as in an environment.
pub type Given = BTreeMap<String, String>;
/// Settings with their values.
pub type Values = BTreeMap<String, Value>;

/// Replacing placeholders ends after this many rounds: a chain that is longer is a circle.
const MAX_ROUNDS: usize = 16;
/// Bytes of one value after its placeholders were replaced: circles grow.
const MAX_VALUE: usize = 64 * 1024;

/// Why a plugin cannot be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{key}={value}: {problem}; set {key} to a value that its plugin's config.json allows")]
    Value { key: String, value: String, problem: String },
    #[error("the placeholders of {key} never come to an end; look for {{{key}}} in what it refers to")]
    Placeholders { key: String },
    #[error("the plugins {} require each other in a circle; remove one of their required_plugins", .0.join(" -> "))]
    Cycle(Vec<String>),
    #[error("no plugin is named {name}; `sonde hooks list` shows those that are there")]
    Unknown { name: String },
}

/// The settings of a plugin's own schema and of all it requires, resolved. Per key: its own name, its aliases in order,
/// the fallback as given, the fallback's resolved value, the default; then `{OTHER}` placeholders.
///
/// Properties come in the order of `schemas`; a later one replaces an earlier one of the same name.
pub fn resolve<'a>(
    schemas: impl IntoIterator<Item = &'a BTreeMap<String, Property>>,
    given: &Given,
) -> Result<Values, ConfigError> {
    let mut properties: BTreeMap<&String, &Property> = BTreeMap::new();
    for schema in schemas {
        properties.extend(schema);
    }
    let mut values = Values::new();
    // A fallback of a fallback needs as many rounds as the chain is long.
    for _ in 0..=properties.len() {
        let mut changed = false;
        for (key, property) in &properties {
            let Some(value) = value_of(key, property, given, &values)? else { continue };
            if values.get(*key) != Some(&value) {
                values.insert((*key).clone(), value);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    hydrate(&mut values, given)?;
    for (key, property) in properties {
        if let Some(value) = values.get(key) {
            check(key, property, value)?;
        }
    }
    Ok(values)
}

fn value_of(
    key: &str,
    property: &Property,
    given: &Given,
    values: &Values,
) -> Result<Option<Value>, ConfigError> {
    let names = std::iter::once(key).chain(property.aliases.iter().map(String::as_str));
    let fallback = property.fallback.as_deref();
    if let Some(text) = names.chain(fallback).find_map(|name| given.get(name)) {
        return typed(key, property, text).map(Some);
    }
    Ok(fallback.and_then(|f| values.get(f)).or(property.default.as_ref()).cloned())
}

fn wrong(key: &str, value: impl ToString, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), value: value.to_string(), problem: problem.into() }
}

/// A given text as the type says.
fn typed(key: &str, property: &Property, text: &str) -> Result<Value, ConfigError> {
    let trimmed = text.trim();
    if property.nullable && trimmed.is_empty() && property.kind != Some(Kind::String) {
        return Ok(Value::Null);
    }
    let number = |what| trimmed.parse::<f64>().map_err(|_| wrong(key, text, what));
    Ok(match property.kind {
        None | Some(Kind::String) => Value::String(text.to_owned()),
        Some(Kind::Boolean) => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Value::Bool(true),
            "false" | "0" | "no" | "off" | "" => Value::Bool(false),
            _ => return Err(wrong(key, text, "not one of true, 1, yes, on, false, 0, no, off")),
        },
        Some(Kind::Integer) => match trimmed.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => return Err(wrong(key, text, "not an integer")),
        },
        Some(Kind::Number) => serde_json::Number::from_f64(number("not a number")?)
            .map(Value::Number)
            .ok_or_else(|| wrong(key, text, "not a finite number"))?,
        Some(Kind::Array) => match serde_json::from_str(trimmed) {
            Ok(Value::Array(items)) => Value::Array(items),
            _ if trimmed.starts_with('[') => return Err(wrong(key, text, "not a list in JSON")),
            _ => trimmed.split(',').map(str::trim).filter(|p| !p.is_empty()).map(Value::from).collect(),
        },
        Some(Kind::Object) => match serde_json::from_str(trimmed) {
            Ok(Value::Object(map)) => Value::Object(map),
            _ if trimmed.is_empty() => Value::Object(serde_json::Map::new()),
            _ => return Err(wrong(key, text, "not an object in JSON")),
        },
    })
}

fn check(key: &str, property: &Property, value: &Value) -> Result<(), ConfigError> {
    if value.is_null() {
        return Ok(());
    }
    let problem = |says: String| Err(wrong(key, value, says));
    if let Some(number) = value.as_f64() {
        if property.minimum.is_some_and(|least| number < least) {
            return problem(format!("less than {}", property.minimum.unwrap_or_default()));
        }
        if property.maximum.is_some_and(|most| number > most) {
            return problem(format!("more than {}", property.maximum.unwrap_or_default()));
        }
    }
    if !property.allowed.is_empty() && !property.allowed.contains(value) {
        let list: Vec<_> = property.allowed.iter().map(ToString::to_string).collect();
        return problem(format!("not one of {}", list.join(", ")));
    }
    match (&property.pattern, value.as_str()) {
        (Some(pattern), Some(text)) if !pattern.is_match(text) => {
            problem(format!("does not match {pattern}"))
        }
        _ => Ok(()),
    }
}

/// Replaces `{NAME}` by the value of NAME until nothing changes.
fn hydrate(values: &mut Values, given: &Given) -> Result<(), ConfigError> {
    for _ in 0..MAX_ROUNDS {
        let before = values.clone();
        let lookup = |name: &str| before.get(name).map(plain).or_else(|| given.get(name).cloned());
        let mut last = None;
        for (key, value) in values.iter_mut() {
            if let Value::String(text) = value {
                let filled = fill(text, lookup);
                if filled.len() > MAX_VALUE {
                    return Err(ConfigError::Placeholders { key: key.clone() });
                }
                if filled != *text {
                    *text = filled;
                    last = Some(key.clone());
                }
            }
        }
        if last.is_none() {
            return Ok(());
        }
    }
    let key =
        values.iter().find(|(_, v)| v.as_str().is_some_and(|t| t.contains('{'))).map(|(k, _)| k.clone());
    Err(ConfigError::Placeholders { key: key.unwrap_or_default() })
}

/// Replaces each `{NAME}` that `lookup` knows; others stay.
pub fn fill(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let name = rest.find('}').map(|close| &rest[1..close]);
        let is_name = |n: &&str| {
            !n.is_empty() && n.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        };
        match name.filter(is_name).and_then(|n| Some((n.len() + 2, lookup(n)?))) {
            Some((length, value)) => {
                out.push_str(&value);
                rest = &rest[length..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

/// A value as hooks read it from their environment.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The plugin itself after all that it requires, each once. A required plugin that is not there is left out, as base
/// plugins without hooks may be; `select` judges those that matter.
pub fn with_required<'a>(found: &'a Found, plugin: &'a Plugin) -> Result<Vec<&'a Plugin>, ConfigError> {
    fn visit<'a>(
        found: &'a Found,
        plugin: &'a Plugin,
        way: &mut Vec<String>,
        done: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a Plugin>,
    ) -> Result<(), ConfigError> {
        if let Some(start) = way.iter().position(|name| *name == plugin.name) {
            let mut circle = way[start..].to_vec();
            circle.push(plugin.name.clone());
            return Err(ConfigError::Cycle(circle));
        }
        if done.contains(plugin.name.as_str()) {
            return Ok(());
        }
        way.push(plugin.name.clone());
        for required in plugin.schema.required_plugins.iter().filter_map(|name| found.plugin(name)) {
            visit(found, required, way, done, order)?;
        }
        way.pop();
        done.insert(&plugin.name);
        order.push(plugin);
        Ok(())
    }
    let mut order = Vec::new();
    let mut done = BTreeSet::new();
    if let Some(base) = found.plugin("base").filter(|base| base.name != plugin.name) {
        done.insert(base.name.as_str());
        order.push(base);
    }
    visit(found, plugin, &mut Vec::new(), &mut done, &mut order)?;
    Ok(order)
}

/// The settings of a plugin with those of all it requires.
pub fn settings(found: &Found, plugin: &Plugin, given: &Given) -> Result<Values, ConfigError> {
    resolve(with_required(found, plugin)?.iter().map(|p| &p.schema.properties), given)
}

/// Whether a plugin runs, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enabled {
    Yes,
    No(String),
}

/// Which plugins run: those of `wanted` (all, where it is empty) with all that they require.
pub fn select(
    found: &Found,
    wanted: &[String],
    given: &Given,
    runtime: &str,
) -> Result<BTreeMap<String, Enabled>, ConfigError> {
    let mut chosen = BTreeSet::new();
    for name in wanted {
        let plugin = found.plugin(name).ok_or_else(|| ConfigError::Unknown { name: name.clone() })?;
        chosen.extend(with_required(found, plugin)?.iter().map(|p| p.name.as_str()));
    }
    let mut answers = BTreeMap::new();
    for plugin in &found.plugins {
        let mut answer = Enabled::Yes;
        for needed in with_required(found, plugin)? {
            if let Some(why) = refusal(found, needed, given, runtime)? {
                let mine = needed.name == plugin.name;
                answer = Enabled::No(if mine { why } else { format!("requires {}: {why}", needed.name) });
            }
        }
        if !wanted.is_empty() && !chosen.contains(plugin.name.as_str()) {
            answer = Enabled::No("not asked for".to_owned());
        }
        answers.insert(plugin.name.clone(), answer);
    }
    Ok(answers)
}

fn refusal(
    found: &Found,
    plugin: &Plugin,
    given: &Given,
    runtime: &str,
) -> Result<Option<String>, ConfigError> {
    if let Some(gone) = plugin.schema.required_plugins.iter().find(|name| found.plugin(name).is_none()) {
        return Ok(Some(format!("requires the plugin {gone}, which is not there")));
    }
    if !plugin.schema.runtimes.is_empty() && !plugin.schema.runtimes.iter().any(|r| r == runtime) {
        return Ok(Some(format!("runs only in {}", plugin.schema.runtimes.join(", "))));
    }
    let key = enabled_key(&plugin.name);
    let off = match settings(found, plugin, given)?.get(&key) {
        Some(value) => *value == Value::Bool(false),
        // Not in its schema, but still the operator's word.
        None => given
            .get(&key)
            .is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off")),
    };
    Ok(off.then(|| format!("{key} is false")))
}

/// `<PLUGIN>_ENABLED`.
pub fn enabled_key(plugin: &str) -> String {
    format!("{}_ENABLED", plugin.to_uppercase())
}

#[cfg(test)]
mod tests;
