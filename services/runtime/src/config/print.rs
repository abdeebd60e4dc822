use serde::Serialize;
use toml::Value;

use super::{ConfigError, Loaded, Origin, Problem};

/// The section as TOML, each value with a comment that says where it came from. What is printed loads again to the
/// same value. Secrets appear by reference only.
///
/// # Errors
/// If the value cannot be written as TOML (a map with keys that are no strings, an integer above `i64::MAX`).
pub fn print_config<T: Serialize>(loaded: &Loaded<T>) -> Result<String, ConfigError> {
    let unfit = |error: toml::ser::Error| {
        ConfigError::one(Problem::new(
            Origin::Default,
            loaded.section(),
            format!("cannot be written: {error}"),
        ))
    };
    let value = Value::try_from(&loaded.value).map_err(unfit)?;
    let mut lines = Vec::new();
    write_table(loaded, &mut lines, &[], &value).map_err(unfit)?;
    Ok(lines.join("\n") + "\n")
}

fn write_table<T>(
    loaded: &Loaded<T>,
    lines: &mut Vec<String>,
    path: &[&str],
    value: &Value,
) -> Result<(), toml::ser::Error> {
    let Value::Table(table) = value else { return Ok(()) };
    let is_nested = |value: &Value| value.as_table().is_some_and(|table| !is_reference(table));
    if table.is_empty() || table.values().any(|value| !is_nested(value)) {
        let header = std::iter::once(loaded.section()).chain(path.iter().copied()).map(quoted);
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(format!("[{}]", header.collect::<Vec<_>>().join(".")));
    }
    for (key, value) in table.iter().filter(|(_, value)| !is_nested(value)) {
        let mut text = String::new();
        value.serialize(toml::ser::ValueSerializer::new(&mut text))?;
        let origin = match loaded.origin(&dotted(path, key)) {
            Origin::File { path, line, .. } => format!("{}:{line}", path.display()),
            other => other.to_string(),
        };
        // Neither a path nor a variable's name may end the comment.
        lines.push(format!("{} = {text}  # {}", quoted(key), origin.replace(char::is_control, " ")));
    }
    for (key, value) in table.iter().filter(|(_, value)| is_nested(value)) {
        let mut path = path.to_vec();
        path.push(key);
        write_table(loaded, lines, &path, value)?;
    }
    Ok(())
}

/// `{ file = "..." }` and the like read better on one line.
fn is_reference(table: &toml::Table) -> bool {
    table.len() == 1 && table.keys().all(|key| key == "file" || key == "env")
}

fn dotted(path: &[&str], key: &str) -> String {
    let mut joined = path.join(".");
    if !joined.is_empty() {
        joined.push('.');
    }
    joined + key
}

fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { Value::from(key).to_string() }
}
