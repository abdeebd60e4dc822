//! Checks of the command that runs hooks.

use super::{FieldErrors, url};
use crate::visit::v1::RunHooksCommand;

const MAX_PLUGINS: usize = 100;
const MAX_NAME: usize = 64;
const MAX_SETTINGS: usize = 200;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 16 << 10;

/// Checks the command; `path` is its own.
pub(super) fn run_hooks_errors(run: &RunHooksCommand, path: &str, errors: &mut FieldErrors) {
    let plugins = format!("{path}.plugins");
    if run.plugins.is_empty() || run.plugins.len() > MAX_PLUGINS {
        errors.push(&plugins, format!("{} names: 1 to {MAX_PLUGINS}", run.plugins.len()));
    }
    for (i, name) in run.plugins.iter().enumerate() {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fine) {
            errors.push(format!("{plugins}[{i}]"), "letters, digits, \"_\" and \"-\", 1 to 64");
        }
    }
    let settings = format!("{path}.settings");
    if run.settings.len() > MAX_SETTINGS {
        errors.push(&settings, format!("{}: at most {MAX_SETTINGS}", run.settings.len()));
    }
    // In the order of their names, so that the same request has the same answer.
    let mut keys: Vec<_> = run.settings.keys().collect();
    keys.sort();
    for key in keys {
        let fine = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(fine) {
            errors.push(
                format!("{settings}[{key:?}]"),
                "a name of capital letters, digits and \"_\", 1 to 128",
            );
        }
        let value = &run.settings[key];
        if value.len() > MAX_VALUE || value.contains('\0') {
            errors.push(format!("{settings}[{key:?}]"), format!("at most {MAX_VALUE} bytes without NUL"));
        }
    }
    url(&run.url, &format!("{path}.url"), true, errors);
}

#[cfg(test)]
mod tests {
    use crate::validate_commands;
    use crate::visit::v1::{Command, command::Step};

    use super::*;

    fn wrong(run: RunHooksCommand) -> Vec<String> {
        let command = Command { step: Some(Step::RunHooks(run)), ..Command::default() };
        let mut errors = FieldErrors::default();
        validate_commands(&[command], "commands", true, &mut errors);
        errors.0.into_iter().map(|e| e.path).collect()
    }

    /// S8: names only, all errors at once, each with its path.
    #[test]
    fn hooks_are_asked_for_by_name() {
        let fine =
            RunHooksCommand { plugins: vec!["title".into()], url: "http://a/".into(), ..Default::default() };
        assert_eq!(wrong(fine), [""; 0]);
        let run = RunHooksCommand {
            plugins: vec!["title".into(), "../x".into()],
            settings: [("a=b", "1"), ("LONG", &"x".repeat(MAX_VALUE + 1))]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            url: "file:///etc/passwd".into(),
        };
        let run_hooks = "commands[0].run_hooks";
        let paths = [".plugins[1]", ".settings[\"LONG\"]", ".settings[\"a=b\"]", ".url"];
        assert_eq!(wrong(run), paths.map(|p| format!("{run_hooks}{p}")));
        let nothing = wrong(RunHooksCommand::default());
        assert_eq!(nothing, [run_hooks.to_owned(), format!("{run_hooks}.plugins")], "no page, no names");
    }
}
