//! From the arguments of a visit to the messages of the contract.

use std::time::Duration;

use sonde_proto::digest::is_sha256;
use sonde_proto::js_settings::{COLLECTIONS, JsSettings};
use sonde_proto::visit::v1::{
    BrowseCommand, BrowserKind, BrowserSpec, CaptureMode, Command, Display, DumpPageSourceCommand,
    GetCommand, Instruments, Isolation, LoadPolicy, ScreenshotCommand, ThirdPartyCookies, command::Step,
};

use crate::args::{BrowserArg, CaptureArg, IsolationArg, Load, ThirdParty, VisitSetup};
use crate::exit::CliError;

/// A std duration as the contract's.
pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("nanoseconds of a second fit"),
    }
}

/// What to record.
pub fn instruments(setup: &VisitSetup) -> Result<Instruments, CliError> {
    let mut chosen = Instruments { save_content: setup.save_content.clone(), ..Instruments::default() };
    for word in setup.instruments.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "none" => {}
            "all" => {
                (chosen.http, chosen.cookies, chosen.javascript, chosen.navigations) =
                    (true, true, true, true);
                (chosen.dns, chosen.scripts) = (true, true);
            }
            "http" => chosen.http = true,
            "cookies" => chosen.cookies = true,
            "javascript" | "js" => chosen.javascript = true,
            "navigations" => chosen.navigations = true,
            "dns" => chosen.dns = true,
            "scripts" => chosen.scripts = true,
            other => {
                return Err(CliError::Input(format!(
                    "--instruments: {other:?} is none of all, none, http, cookies, javascript, navigations, dns, \
                     scripts"
                )));
            }
        }
    }
    if let Some(given) = &setup.js_settings {
        if !chosen.javascript {
            return Err(CliError::Input(
                "--js-settings needs the javascript instrument: add it to --instruments".to_owned(),
            ));
        }
        chosen.javascript_settings = javascript_settings(given)?;
    }
    chosen.javascript_limit = setup.js_limit;
    if let Some(mode) = setup.js_capture {
        if !chosen.javascript {
            return Err(CliError::Input(
                "--js-capture needs the javascript instrument: add it to --instruments".to_owned(),
            ));
        }
        chosen.javascript_capture = capture(mode).into();
    }
    if setup.feature_use_check && !chosen.javascript {
        return Err(CliError::Input(
            "--feature-use-check needs the javascript instrument: add it to --instruments".to_owned(),
        ));
    }
    chosen.feature_use_check = setup.feature_use_check;
    if !chosen.save_content.is_empty() && !chosen.http {
        return Err(CliError::Input(
            "--save-content needs the http instrument: add it to --instruments".to_owned(),
        ));
    }
    Ok(chosen)
}

fn capture(mode: CaptureArg) -> CaptureMode {
    match mode {
        CaptureArg::Wrapped => CaptureMode::Wrapped,
        CaptureArg::Stealth => CaptureMode::Stealth,
        CaptureArg::Exported => CaptureMode::Exported,
    }
}

/// JSON text, the name of a collection, or the file that holds the text; checked.
fn javascript_settings(given: &str) -> Result<String, CliError> {
    let collection = COLLECTIONS.iter().any(|c| c.name == given);
    let (place, text) = match given.trim_start() {
        text if text.starts_with('[') => ("--js-settings".to_owned(), text.to_owned()),
        _ if collection => ("--js-settings".to_owned(), serde_json::json!([given]).to_string()),
        path => {
            let read = std::fs::read_to_string(path);
            let unreadable = |e| {
                let names: Vec<_> = COLLECTIONS.iter().map(|c| c.name).collect();
                CliError::Input(format!(
                    "--js-settings {path}: cannot be read: {e}; give a file, JSON text, or one of {}",
                    names.join(", ")
                ))
            };
            (format!("--js-settings {path}"), read.map_err(unreadable)?)
        }
    };
    match JsSettings::parse(&text) {
        Ok(_) => Ok(text),
        Err(wrong) => {
            let lines: Vec<_> = wrong.0.iter().map(|e| format!("  {}: {}", e.path, e.message)).collect();
            Err(CliError::Input(format!("{place}:\n{}", lines.join("\n"))))
        }
    }
}

/// Where windows are shown, and on which X display.
pub fn display(text: &str) -> Result<(Display, String), String> {
    match text {
        "headless" => Ok((Display::Headless, String::new())),
        "headed" => Ok((Display::Headed, String::new())),
        "xvfb" => Ok((Display::Xvfb, String::new())),
        name if name.contains(':') => Ok((Display::Headed, name.to_owned())),
        _ => Err("one of headless, headed, xvfb, or an X display such as :1".to_owned()),
    }
}

/// The kind of a browser.
pub fn of_kind(kind: BrowserArg) -> BrowserKind {
    match kind {
        BrowserArg::Chromium => BrowserKind::Chromium,
        BrowserArg::Firefox => BrowserKind::Firefox,
    }
}

/// The browser to run on.
pub fn browser(setup: &VisitSetup, kind: BrowserArg) -> BrowserSpec {
    let isolation = match setup.isolation {
        IsolationArg::Context => Isolation::Context,
        IsolationArg::Process => Isolation::Process,
        IsolationArg::Profile => Isolation::Profile,
    };
    let third_party = match setup.third_party_cookies {
        ThirdParty::Always => ThirdPartyCookies::Always,
        ThirdParty::Never => ThirdPartyCookies::Never,
        ThirdParty::FromVisited => ThirdPartyCookies::FromVisited,
    };
    BrowserSpec {
        kind: of_kind(kind).into(),
        display: setup.display.0.into(),
        x_display: setup.display.1.clone(),
        isolation: isolation.into(),
        third_party_cookies: third_party.into(),
        // A file is stored first, and has its hash then.
        seed_profile: setup.seed_profile.clone().filter(|seed| is_sha256(seed)).unwrap_or_default(),
        ..BrowserSpec::default()
    }
}

/// The commands of every visit.
///
/// # Errors
/// When the file of commands cannot be used.
pub fn commands(setup: &VisitSetup) -> Result<Vec<Command>, CliError> {
    match &setup.commands {
        Some(file) => crate::commands::read(file),
        None => Ok(simple_commands(setup)),
    }
}

fn simple_commands(setup: &VisitSetup) -> Vec<Command> {
    let load_policy = match setup.load {
        Load::Load => LoadPolicy::Load,
        Load::Domcontentloaded => LoadPolicy::DomContentLoaded,
        Load::Networkidle => LoadPolicy::NetworkIdle,
        Load::Commit => LoadPolicy::Commit,
    }
    .into();
    let dwell = Some(proto_duration(setup.dwell));
    let page = match setup.browse {
        Some(links) => Step::Browse(BrowseCommand {
            num_links: Some(links),
            load_policy,
            dwell,
            ..BrowseCommand::default()
        }),
        None => Step::Get(GetCommand { load_policy, dwell, ..GetCommand::default() }),
    };
    let links = setup.browse.unwrap_or(0);
    let time = setup.timeout + (setup.dwell + Duration::from_secs(if links > 0 { 30 } else { 0 })) * links;
    let mut all = vec![Command {
        timeout: Some(proto_duration(time + setup.dwell)),
        step: Some(page),
        ..Command::default()
    }];
    let mut add = |step| all.push(Command { step: Some(step), ..Command::default() });
    if setup.screenshot {
        add(Step::Screenshot(ScreenshotCommand::default()));
    }
    if setup.full_page_screenshot {
        add(Step::Screenshot(ScreenshotCommand {
            full_page: true,
            suffix: "full".to_owned(),
            ..ScreenshotCommand::default()
        }));
    }
    if setup.page_source {
        add(Step::DumpPageSource(DumpPageSourceCommand::default()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M13
    #[test]
    fn javascript_settings_come_from_text_names_and_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("settings.json");
        std::fs::write(&file, r#"["window.navigator", {"window": ["fetch"]}]"#).expect("a file");
        let file = file.to_str().expect("a path in UTF-8");
        assert!(javascript_settings(file).expect("a file").contains("fetch"));
        assert_eq!(javascript_settings("collection_extended").expect("a name"), r#"["collection_extended"]"#);
        assert_eq!(javascript_settings(r#" ["Storage"]"#).expect("text"), r#"["Storage"]"#);
        let error =
            javascript_settings(r#"["window", 1, {"Storage": 2}]"#).expect_err("wrong text").to_string();
        assert!(error.contains("\n  [1]: ") && error.contains("\n  [2].Storage: "), "{error}");
        let error = javascript_settings("collection_none").expect_err("no such file").to_string();
        assert!(error.contains("cannot be read") && error.contains("collection_extended"), "{error}");
    }
}
