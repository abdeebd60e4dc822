//! Checks of crawl specs, and their defaults.
use std::time::Duration;

use prost_types::Duration as Wire;
use sonde_proto::{
    FieldErrors,
    coordinator::v1::{CrawlSpec, Politeness, RetryPolicy},
    validate_commands, validate_crawl_hooks, validate_setup,
    visit::v1::{BrowserKind, BrowserSpec, Command, Instruments, Isolation, VisitLimits, command::Step},
};

use crate::time::wire;

const DAY: Duration = Duration::from_secs(86_400);

/// Every wrong field of a spec; `path` is prefixed.
pub(super) fn check(spec: &CrawlSpec, errors: &mut FieldErrors) {
    let mut found = FieldErrors::default();
    if spec.name.chars().count() > 200 {
        found.push("name", "at most 200 characters");
    }
    validate_setup(spec.browser.as_ref(), spec.instruments.as_ref(), spec.limits.as_ref(), &mut found);
    validate_commands(&spec.commands, "commands", true, &mut found);
    if let Some(retry) = &spec.retry {
        if retry.max_retries.is_some_and(|n| n > 10) {
            found.push("retry.max_retries", "0 to 10");
        }
        let least = Duration::from_millis(1);
        between(retry.initial_backoff, "retry.initial_backoff", least, &mut found);
        between(retry.max_backoff, "retry.max_backoff", least, &mut found);
    }
    if let Some(politeness) = &spec.politeness {
        between(politeness.min_delay, "politeness.min_delay", Duration::ZERO, &mut found);
    }
    if spec.priority > 100 {
        found.push("priority", "0 to 100");
    }
    if let Some(hooks) = &spec.hooks {
        validate_crawl_hooks(hooks, "hooks", &mut found);
    }
    if spec.labels.len() > 64 {
        found.push("labels", format!("{}: at most 64", spec.labels.len()));
    }
    errors.0.extend(found.0.into_iter().map(|mut error| {
        error.path = format!("spec.{}", error.path);
        error
    }));
}

fn between(value: Option<Wire>, path: &str, least: Duration, errors: &mut FieldErrors) {
    let fine = value.is_none_or(|v| Duration::try_from(v).is_ok_and(|d| d >= least && d <= DAY));
    if !fine {
        errors.push(path, format!("{least:?} to {DAY:?}"));
    }
}

/// The spec with every default written out, as it is run and recorded. `javascript` is the default of its settings.
pub(super) fn complete(mut spec: CrawlSpec, javascript: &str) -> CrawlSpec {
    spec.browser = Some(browser(spec.browser.unwrap_or_default()));
    let mut instruments = spec.instruments.unwrap_or_else(instruments);
    if instruments.javascript && instruments.javascript_settings.trim().is_empty() {
        javascript.clone_into(&mut instruments.javascript_settings);
    }
    spec.instruments = Some(instruments);
    spec.limits = Some(limits(spec.limits.unwrap_or_default()));
    if spec.commands.is_empty() {
        spec.commands.push(Command { step: Some(Step::Get(Default::default())), ..Default::default() });
    }
    let retry = spec.retry.unwrap_or_default();
    spec.retry = Some(RetryPolicy {
        max_retries: Some(retry.max_retries.unwrap_or(2)),
        initial_backoff: Some(retry.initial_backoff.unwrap_or_else(|| seconds(1))),
        max_backoff: Some(retry.max_backoff.unwrap_or_else(|| seconds(60))),
    });
    let politeness = spec.politeness.unwrap_or_default();
    let min_delay = Some(politeness.min_delay.unwrap_or_default());
    spec.politeness = Some(Politeness { min_delay, ..politeness });
    spec
}

fn seconds(n: u64) -> Wire {
    wire(Duration::from_secs(n))
}

fn browser(mut spec: BrowserSpec) -> BrowserSpec {
    if spec.kind() == BrowserKind::Unspecified {
        spec.kind = BrowserKind::Chromium.into();
    }
    if spec.isolation() == Isolation::Unspecified {
        spec.isolation = Isolation::Context.into();
    }
    if spec.window_width == 0 {
        spec.window_width = 1366;
    }
    if spec.window_height == 0 {
        spec.window_height = 768;
    }
    if spec.languages.is_empty() {
        spec.languages = "en-US,en".into();
    }
    spec
}

fn instruments() -> Instruments {
    Instruments { http: true, cookies: true, javascript: true, navigations: true, ..Default::default() }
}

fn limits(mut limits: VisitLimits) -> VisitLimits {
    limits.prepare.get_or_insert_with(|| seconds(30));
    limits.seal.get_or_insert_with(|| seconds(30));
    if limits.max_body_bytes == 0 {
        limits.max_body_bytes = 64 << 20;
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M21
    #[test]
    fn all_wrong_fields_are_named_with_their_paths() {
        let spec = CrawlSpec {
            name: "x".repeat(201),
            browser: Some(BrowserSpec { window_width: 1, ..Default::default() }),
            commands: vec![Command::default()],
            retry: Some(RetryPolicy { max_retries: Some(11), ..Default::default() }),
            politeness: Some(Politeness {
                min_delay: Some(Wire { seconds: -1, nanos: 0 }),
                ..Default::default()
            }),
            priority: 101,
            instruments: Some(Instruments {
                javascript_settings: r#"["window", 7, { "window": { "depth": -1 } }]"#.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut errors = FieldErrors::default();
        check(&spec, &mut errors);
        let paths: Vec<_> = errors.0.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "spec.name",
                "spec.browser.window_width",
                "spec.instruments.javascript_settings[1]",
                "spec.instruments.javascript_settings[2].window.logSettings.depth",
                "spec.commands[0]",
                "spec.retry.max_retries",
                "spec.politeness.min_delay",
                "spec.priority"
            ]
        );
    }

    #[test]
    fn a_complete_spec_stays_as_it_is() {
        let settings = r#"["window.navigator"]"#;
        let once = complete(CrawlSpec::default(), settings);
        assert_eq!(once.instruments.as_ref().map(|i| i.javascript_settings.as_str()), Some(settings));
        let mut errors = FieldErrors::default();
        check(&once, &mut errors);
        assert_eq!(errors, FieldErrors::default());
        assert_eq!(complete(once.clone(), "[]"), once);
    }
}
