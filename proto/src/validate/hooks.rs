//! Checks of the command that runs hooks.

use std::collections::HashMap;
use std::time::Duration;

use super::{FieldErrors, url};
use crate::visit::v1::{CrawlHooks, RunHooksCommand};

const MAX_PLUGINS: usize = 100;
const MAX_NAME: usize = 64;
const MAX_SETTINGS: usize = 200;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 16 << 10;

/// Checks the command; `path` is its own.
pub(super) fn run_hooks_errors(run: &RunHooksCommand, path: &str, errors: &mut FieldErrors) {
    choice_errors(&run.plugins, &run.settings, path, errors);
    url(&run.url, &format!("{path}.url"), true, errors);
}

/// Checks the hooks of a crawl; `path` is their own.
pub fn validate_crawl_hooks(hooks: &CrawlHooks, path: &str, errors: &mut FieldErrors) {
    choice_errors(&hooks.plugins, &hooks.settings, path, errors);
    let fits = |d| (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&d);
    if hooks.timeout.is_some_and(|d| !Duration::try_from(d).is_ok_and(fits)) {
        errors.push(format!("{path}.timeout"), "1 s to 1 h");
    }
}

fn choice_errors(names: &[String], given: &HashMap<String, String>, path: &str, errors: &mut FieldErrors) {
    let plugins = format!("{path}.plugins");
    if names.is_empty() || names.len() > MAX_PLUGINS {
        errors.push(&plugins, format!("{} names: 1 to {MAX_PLUGINS}", names.len()));
    }
    for (i, name) in names.iter().enumerate() {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fine) {
            errors.push(format!("{plugins}[{i}]"), "letters, digits, \"_\" and \"-\", 1 to 64");
        }
    }
    let settings = format!("{path}.settings");
    if given.len() > MAX_SETTINGS {
        errors.push(&settings, format!("{}: at most {MAX_SETTINGS}", given.len()));
    }
    // In the order of their names, so that the same request has the same answer.
    let mut keys: Vec<_> = given.keys().collect();
    keys.sort();
    for key in keys {
        let fine = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(fine) {
            errors.push(
                format!("{settings}[{key:?}]"),
                "a name of capital letters, digits and \"_\", 1 to 128",
            );
        }
        let value = &given[key];
        if value.len() > MAX_VALUE || value.contains('\0') {
            errors.push(format!("{settings}[{key:?}]"), format!("at most {MAX_VALUE} bytes without NUL"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::validate_commands;
    use crate::visit::v1::{Command, command::Step};

    use super::*;

    /// A42: the hooks of a crawl are named as those of a command are, and have a time.
    #[test]
    fn the_hooks_of_a_crawl_are_asked_for_by_name() {
        let wrong = |hooks: CrawlHooks| {
            let mut errors = FieldErrors::default();
            validate_crawl_hooks(&hooks, "spec.hooks", &mut errors);
            errors.0.into_iter().map(|e| e.path).collect::<Vec<_>>()
        };
        let timeout = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let fine = CrawlHooks { plugins: vec!["title".into()], timeout: timeout(3600), ..Default::default() };
        assert!(wrong(fine).is_empty());
        let hooks = CrawlHooks {
            plugins: vec!["../x".into()],
            settings: [("lower".to_owned(), "v".to_owned())].into(),
            timeout: timeout(3601),
        };
        assert_eq!(
            wrong(hooks),
            ["spec.hooks.plugins[0]", "spec.hooks.settings[\"lower\"]", "spec.hooks.timeout"]
        );
    }

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
