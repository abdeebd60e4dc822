//! Files of commands: proto JSON, or TOML of the same shape.

use std::path::Path;

use serde::Deserialize;
use sonde_proto::visit::v1::{Command, GetCommand, command::Step};
use sonde_proto::{FieldErrors, from_json, validate_commands};

use crate::exit::CliError;

/// Largest file in bytes.
const MAX_FILE: usize = 16 << 20;

/// Reads a file of commands. The visit's own page is loaded first unless the first command loads one; cookies and headers
/// that come before are set before it.
///
/// # Errors
/// All that is wrong, each with its line and field.
pub fn read(path: &Path) -> Result<Vec<Command>, CliError> {
    let named = |message: String| CliError::Input(format!("{}: {message}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| named(format!("cannot be read: {e}")))?;
    if text.len() > MAX_FILE {
        return Err(named(format!("{} bytes long: at most {MAX_FILE}", text.len())));
    }
    let toml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    parse(&text, toml).map_err(|wrong| named(wrong.join("\n  ")))
}

/// A command as written, and the line it begins in.
struct Written {
    line: usize,
    value: serde_json::Value,
}

#[derive(Deserialize)]
struct TomlFile {
    commands: Vec<toml::Spanned<toml::Value>>,
}

#[derive(Deserialize)]
struct JsonObject<'a> {
    #[serde(borrow)]
    commands: Vec<&'a serde_json::value::RawValue>,
}

fn parse(text: &str, toml: bool) -> Result<Vec<Command>, Vec<String>> {
    let written = if toml { toml_commands(text) } else { json_commands(text) }.map_err(|e| vec![e])?;
    let (mut commands, mut wrong) = (Vec::new(), Vec::new());
    for (i, Written { line, value }) in written.iter().enumerate() {
        match from_json::<Command>("sonde.visit.v1.Command", value) {
            Ok(command) => commands.push(command),
            Err(error) => wrong.push(format!("line {line}: commands[{i}]: {error}")),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let first = commands.iter().position(|command| !needs_no_page(command)).unwrap_or(commands.len());
    let loads =
        matches!(commands.get(first), Some(Command { step: Some(Step::Get(_) | Step::Browse(_)), .. }));
    let mut errors = FieldErrors::default();
    validate_commands(&commands, "commands", false, &mut errors);
    let line = |path: &str| {
        let index = path.strip_prefix("commands[").and_then(|rest| rest.split(']').next()?.parse().ok());
        index.and_then(|i: usize| written.get(i)).map_or(1, |w| w.line)
    };
    if !errors.0.is_empty() {
        return Err(errors
            .0
            .iter()
            .map(|e| format!("line {}: {}: {}", line(&e.path), e.path, e.message))
            .collect());
    }
    if !loads {
        let get = Command { step: Some(Step::Get(GetCommand::default())), ..Command::default() };
        commands.insert(first, get);
    }
    Ok(commands)
}

fn needs_no_page(command: &Command) -> bool {
    use Step::{DumpProfile, GetCookies, RecordVideo, SetCookies, SetHeaders};
    let step = &command.step;
    matches!(step, Some(GetCookies(_) | SetCookies(_) | SetHeaders(_) | RecordVideo(_) | DumpProfile(_)))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

fn json_commands(text: &str) -> Result<Vec<Written>, String> {
    // Its errors have line and column.
    let whole: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let raw: Vec<&serde_json::value::RawValue> = if whole.is_array() {
        serde_json::from_str(text).map_err(|e| e.to_string())?
    } else {
        serde_json::from_str::<JsonObject<'_>>(text).map_err(|e| e.to_string())?.commands
    };
    raw.into_iter()
        .map(|raw| {
            let offset = raw.get().as_ptr() as usize - text.as_ptr() as usize;
            let value = serde_json::from_str(raw.get()).map_err(|e| e.to_string())?;
            Ok(Written { line: line_of(text, offset), value })
        })
        .collect()
}

fn toml_commands(text: &str) -> Result<Vec<Written>, String> {
    // Its errors have line and column, too.
    let file: TomlFile = toml::from_str(text).map_err(|e| e.to_string())?;
    file.commands
        .into_iter()
        .map(|command| {
            let line = line_of(text, command.span().start);
            let value = serde_json::to_value(command.into_inner()).map_err(|e| e.to_string())?;
            Ok(Written { line, value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, toml: bool) -> Vec<&'static str> {
        parse(text, toml).expect("fine").iter().map(Command::name).collect()
    }

    /// M21
    #[test]
    fn json_and_toml_say_the_same() {
        let json = r##"[{"click": {"target": {"selector": "#a"}}, "timeout": "2s"}, {"sleep": {"duration": "0.1s"}}]"##;
        let toml = "[[commands]]\ntimeout = \"2s\"\nclick.target.selector = \"#a\"\n\n[[commands]]\nsleep.duration = \"0.1s\"\n";
        assert_eq!(names(json, false), ["get", "click", "sleep"]);
        assert_eq!(parse(json, false), parse(toml, true));
        assert_eq!(names(r#"{"commands": [{"browse": {}}]}"#, false), ["browse"]);
        let headers = r#"{"set_headers": {"headers": [{"name": "X-A", "value": "1"}]}}"#;
        let sorted = names(&format!(r#"[{headers}, {{"pdf": {{}}}}]"#), false);
        assert_eq!(sorted, ["set_headers", "get", "pdf"]);
        assert_eq!(names(&format!(r#"[{headers}, {{"get": {{}}}}]"#), false), ["set_headers", "get"]);
    }

    /// M21: all that is wrong at once, with lines and fields.
    #[test]
    fn wrong_commands_are_named_by_line_and_field() {
        let json = "[\n {\"press\": {\"keys\": \"Return\"}},\n\n {\"click\": {\"target\": {}}}\n]";
        let wrong = parse(json, false).expect_err("refused");
        assert!(wrong[0].starts_with("line 2: commands[0].press.keys: "), "{wrong:?}");
        assert!(wrong[1].starts_with("line 4: commands[1].click.target.selector: "), "{wrong:?}");
        let wrong = parse("[[commands]]\nget = {}\n[[commands]]\nclik = {}\n", true).expect_err("refused");
        assert!(wrong[0].starts_with("line 3: commands[1]: ") && wrong[0].contains("clik"), "{wrong:?}");
        let wrong = parse("[\n{\"get\": }]", false).expect_err("refused");
        assert!(wrong[0].contains("line 2"), "{wrong:?}");
    }
}
