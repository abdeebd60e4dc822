//! Receiver-side checks of what users submit: every wrong field at once, each
//! with its path, so that one answer is enough to mend a request.
mod cookies;
mod demo;
mod documents;
mod hooks;
mod interaction;
mod loads;
mod process;

use std::{fmt, time::Duration};

use crate::digest::is_sha256;
use crate::js_settings::JsSettings;
use crate::visit::v1::{
    BrowserKind, BrowserSpec, CaptureMode, Command, CommandSequence, Display, Instruments, Isolation,
    ThirdPartyCookies, VisitLimits, command::Step, download_command::From,
};

pub use hooks::validate_crawl_hooks;
pub use process::CheckRequest;

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the message that was checked, as `commands[2].get.url`.
    pub path: String,
    /// What is wrong and what it must be.
    pub message: String,
}

/// All wrong fields of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            let separator = if i > 0 { "; " } else { "" };
            write!(f, "{separator}{}: {}", e.path, e.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

impl FieldErrors {
    /// Notes a wrong field.
    pub fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { path: path.into(), message: message.into() });
    }

    /// `Err` when any field is wrong.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// Longest command timeout.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest dwell and sleep.
const MAX_STAY: Duration = Duration::from_secs(600);
/// Longest URL in bytes.
const MAX_URL: usize = 8192;

/// Checks a command list. `path` is prefixed to the paths of wrong fields;
/// `needs_page` says whether the sequence must load a page before pictures and
/// sources are taken of it (not so when the browser is driven live).
pub fn validate_commands(commands: &[Command], path: &str, needs_page: bool, errors: &mut FieldErrors) {
    if commands.len() > 1000 {
        errors.push(path, format!("{} commands: at most 1000", commands.len()));
    }
    let mut page = !needs_page;
    if needs_page {
        demo::order_errors(commands, path, errors);
    }
    for (i, command) in commands.iter().enumerate() {
        let path = format!("{path}[{i}]");
        duration(command.timeout, &format!("{path}.timeout"), Duration::from_millis(1), MAX_TIMEOUT, errors);
        match &command.step {
            None => errors.push(&path, format!("no step: set one of {}", Command::NAMES.join(", "))),
            Some(step) => step_errors(step, &path, &mut page, errors),
        }
    }
}

fn step_errors(step: &Step, path: &str, page: &mut bool, errors: &mut FieldErrors) {
    match step {
        Step::Get(get) => {
            url(&get.url, &format!("{path}.get.url"), true, errors);
            duration(get.dwell, &format!("{path}.get.dwell"), Duration::ZERO, MAX_STAY, errors);
            loads::time_errors(get.load_policy(), get.load_time, &format!("{path}.get.load_time"), errors);
            if !get.referrer.is_empty() {
                url(&get.referrer, &format!("{path}.get.referrer"), false, errors);
            }
            *page = true;
        }
        Step::Browse(browse) => {
            url(&browse.url, &format!("{path}.browse.url"), true, errors);
            duration(browse.dwell, &format!("{path}.browse.dwell"), Duration::ZERO, MAX_STAY, errors);
            let field = format!("{path}.browse.load_time");
            loads::time_errors(browse.load_policy(), browse.load_time, &field, errors);
            if browse.num_links.is_some_and(|n| n > 100) {
                errors.push(format!("{path}.browse.num_links"), "at most 100");
            }
            *page = true;
        }
        Step::Screenshot(shot) => {
            loaded(*page, &format!("{path}.screenshot"), errors);
            documents::screenshot_errors(shot, &format!("{path}.screenshot"), errors);
        }
        Step::DumpPageSource(dump) => {
            loaded(*page, &format!("{path}.dump_page_source"), errors);
            documents::source_errors(dump, &format!("{path}.dump_page_source"), errors);
        }
        Step::Pdf(pdf) => {
            loaded(*page, &format!("{path}.pdf"), errors);
            documents::pdf_errors(pdf, &format!("{path}.pdf"), errors);
        }
        Step::Mhtml(mhtml) => {
            loaded(*page, &format!("{path}.mhtml"), errors);
            documents::mhtml_errors(mhtml, &format!("{path}.mhtml"), errors);
        }
        Step::GetCookies(get) => cookies::get_cookies_errors(get, &format!("{path}.get_cookies"), errors),
        Step::SetCookies(set) => cookies::set_cookies_errors(set, &format!("{path}.set_cookies"), errors),
        Step::SetHeaders(set) => cookies::set_headers_errors(set, &format!("{path}.set_headers"), errors),
        Step::Sleep(sleep) => {
            let field = format!("{path}.sleep.duration");
            if sleep.duration.is_none() {
                errors.push(&field, "is not set: 1 ms to 10 min");
            }
            duration(sleep.duration, &field, Duration::from_millis(1), MAX_STAY, errors);
        }
        Step::RunHooks(run) => {
            let path = format!("{path}.run_hooks");
            if run.url.is_empty() {
                loaded(*page, &path, errors);
            }
            hooks::run_hooks_errors(run, &path, errors);
            *page = true;
        }
        Step::Download(download) => {
            let path = format!("{path}.download");
            if matches!(download.from, Some(From::Click(_))) {
                loaded(*page, &path, errors);
            }
            interaction::download_errors(download, &path, errors);
        }
        Step::DumpProfile(dump) => suffix(&dump.suffix, &format!("{path}.dump_profile.suffix"), errors),
        Step::Har(har) => suffix(&har.suffix, &format!("{path}.har.suffix"), errors),
        Step::RecordVideo(video) => demo::video_errors(video, &format!("{path}.record_video"), errors),
        Step::Explore(explore) => {
            loaded(*page, &format!("{path}.explore"), errors);
            demo::explore_errors(explore, &format!("{path}.explore"), errors);
        }
        _ => {
            loaded(*page, path, errors);
            interaction::interaction_errors(step, path, errors);
        }
    }
}

fn loaded(page: bool, path: &str, errors: &mut FieldErrors) {
    if !page {
        errors.push(path, "no page is loaded before it: put a get or browse first");
    }
}

fn suffix(value: &str, path: &str, errors: &mut FieldErrors) {
    let fine =
        value.len() <= 64 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !fine {
        errors.push(path, "letters, digits, \"-\" and \"_\", at most 64");
    }
}

fn duration(
    value: Option<prost_types::Duration>,
    path: &str,
    least: Duration,
    most: Duration,
    errors: &mut FieldErrors,
) {
    let Some(value) = value else { return };
    match Duration::try_from(value) {
        Ok(d) if d >= least && d <= most => {}
        _ => errors.push(path, format!("{least:?} to {most:?}")),
    }
}

/// Checks one URL: http or https with a host, or a bare host name (which then
/// gets a scheme when the visit runs). "" is fine where `may_be_empty`.
fn url(value: &str, path: &str, may_be_empty: bool, errors: &mut FieldErrors) {
    if let Err(message) = check_url(value, may_be_empty) {
        errors.push(path, message);
    }
}

/// As `validate_url`, for one value.
fn check_url(value: &str, may_be_empty: bool) -> Result<(), String> {
    if value.is_empty() {
        return if may_be_empty {
            Ok(())
        } else {
            Err("is empty: an http or https URL, or a host name".into())
        };
    }
    if value.len() > MAX_URL {
        return Err(format!("{} bytes long: at most {MAX_URL}", value.len()));
    }
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("has white space or control characters in it".into());
    }
    let rest = match value.split_once("://") {
        Some((scheme, rest)) => {
            if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
                return Err(format!("scheme {scheme}: only http and https are visited"));
            }
            rest
        }
        None if looks_like_scheme(value) => {
            return Err(format!("{value:?}: only http and https are visited"));
        }
        None => value,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty()
        || host.starts_with(':')
        || host.contains(['\\', '<', '>', '"', '^', '`', '{', '|', '}'])
    {
        return Err(format!("{value:?} has no valid host"));
    }
    Ok(())
}

/// Whether `javascript:…`, `data:…` or `file:…` is meant rather than `host:port`.
fn looks_like_scheme(value: &str) -> bool {
    value.split_once(':').is_some_and(|(head, tail)| {
        let port = tail.split(['/', '?', '#']).next().unwrap_or_default();
        !head.contains('.') && !port.is_empty() && !port.bytes().all(|b| b.is_ascii_digit())
            || head.is_empty()
    })
}

/// A sequence whose fields were checked, with its URL there for sure.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainSequence {
    /// URL or bare host name.
    pub url: String,
    /// Steps; at least one.
    pub commands: Vec<Command>,
}

impl TryFrom<CommandSequence> for DomainSequence {
    type Error = FieldErrors;
    fn try_from(sequence: CommandSequence) -> Result<Self, FieldErrors> {
        validate_sequence(&sequence, "sequence")?;
        let mut commands = sequence.commands;
        if commands.is_empty() {
            commands.push(Command { step: Some(Step::Get(Default::default())), ..Default::default() });
        }
        Ok(Self { url: sequence.url, commands })
    }
}

/// Checks a sequence; `path` is prefixed to the paths of wrong fields.
pub fn validate_sequence(sequence: &CommandSequence, path: &str) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::default();
    url(&sequence.url, &format!("{path}.url"), false, &mut errors);
    validate_commands(&sequence.commands, &format!("{path}.commands"), true, &mut errors);
    errors.into_result()
}

/// Checks one URL or bare host name of a site list.
pub fn validate_url(value: &str) -> Result<(), String> {
    check_url(value, false)
}

const RESOURCE_TYPES: &[&str] = &[
    "all",
    "main_frame",
    "sub_frame",
    "script",
    "stylesheet",
    "image",
    "font",
    "media",
    "xmlhttprequest",
    "beacon",
    "ping",
    "websocket",
    "object",
    "csp_report",
    "web_manifest",
    "other",
];

/// Checks what a crawl runs on and records.
pub fn validate_setup(
    browser: Option<&BrowserSpec>,
    instruments: Option<&Instruments>,
    limits: Option<&VisitLimits>,
    errors: &mut FieldErrors,
) {
    if let Some(b) = browser {
        browser_errors(b, errors);
    }
    for (i, kind) in instruments.iter().flat_map(|i| &i.save_content).enumerate() {
        if !RESOURCE_TYPES.contains(&kind.as_str()) {
            errors.push(
                format!("instruments.save_content[{i}]"),
                format!("{kind:?} is none of {}", RESOURCE_TYPES.join(", ")),
            );
        }
    }
    if let Some(Err(wrong)) = instruments.map(|i| JsSettings::parse(&i.javascript_settings)) {
        errors.0.extend(wrong.0.into_iter().map(|mut error| {
            error.path = format!("instruments.javascript_settings{}", error.path);
            error
        }));
    }
    let kind = browser.map(BrowserSpec::kind).unwrap_or_default();
    if let Some(mode) = instruments.map(Instruments::javascript_capture) {
        capture_error(mode, kind, errors);
    }
    if let Some(i) = instruments.filter(|i| i.feature_use_check) {
        feature_use_error(i, kind, browser.map(BrowserSpec::isolation).unwrap_or_default(), errors);
    }
    if let Some(l) = limits {
        let second = Duration::from_secs(1);
        duration(l.prepare, "limits.prepare", second, MAX_TIMEOUT, errors);
        duration(l.seal, "limits.seal", second, MAX_TIMEOUT, errors);
        duration(l.total, "limits.total", second, MAX_TIMEOUT * 24, errors);
    }
}

fn capture_error(mode: CaptureMode, kind: BrowserKind, errors: &mut FieldErrors) {
    let wrong = match (mode, kind) {
        (CaptureMode::Stealth, BrowserKind::Firefox) => {
            "stealth is a mode of Chromium: Firefox has wrapped and exported"
        }
        (CaptureMode::Exported, BrowserKind::Chromium | BrowserKind::Unspecified) => {
            "exported is a mode of Firefox: Chromium has wrapped and stealth"
        }
        _ => return,
    };
    errors.push("instruments.javascript_capture", wrong);
}

fn feature_use_error(
    instruments: &Instruments,
    kind: BrowserKind,
    isolation: Isolation,
    errors: &mut FieldErrors,
) {
    let wrong = match (kind, instruments.javascript) {
        (BrowserKind::Firefox, _) => "is a check of Chromium: Firefox does not tell what a page used",
        (_, false) => "compares the calls of the javascript instrument: ask for that, too",
        _ if isolation != Isolation::Process => {
            "needs a browser process for each visit (isolation): one trace at a time runs in a browser, and in one that \
             had visits before it takes seconds to end"
        }
        _ => return,
    };
    errors.push("instruments.feature_use_check", wrong);
}

fn browser_errors(b: &BrowserSpec, errors: &mut FieldErrors) {
    if b.kind() != BrowserKind::Firefox && b.third_party_cookies() == ThirdPartyCookies::FromVisited {
        errors
            .push("browser.third_party_cookies", "from_visited is a policy of Firefox: use always or never");
    }
    for (path, value, least, most) in [
        ("browser.window_width", b.window_width, 200, 7680),
        ("browser.window_height", b.window_height, 200, 4320),
    ] {
        if value != 0 && !(least..=most).contains(&value) {
            errors.push(path, format!("{least} to {most} CSS pixels, or 0 for the default"));
        }
    }
    if !b.x_display.is_empty() {
        if b.display() != Display::Headed {
            errors.push("browser.x_display", "is for DISPLAY_HEADED: leave it out, or ask for that");
        } else if !is_x_display(&b.x_display) {
            errors.push("browser.x_display", "must be an X display, as :1 or host:1.0");
        }
    }
    if !b.seed_profile.is_empty() {
        if !is_sha256(&b.seed_profile) {
            errors.push(
                "browser.seed_profile",
                "must be the SHA-256 of a stored blob: 64 lower-case hex digits",
            );
        }
        if !matches!(b.isolation(), Isolation::Process | Isolation::Profile) {
            let why = "is for ISOLATION_PROCESS and ISOLATION_PROFILE: browser contexts have no profile of their own";
            errors.push("browser.seed_profile", why);
        }
    }
    if b.extra_flags.len() > 64 {
        errors.push("browser.extra_flags", "at most 64");
    }
    for (i, flag) in b.extra_flags.iter().enumerate() {
        if !flag.starts_with("--") {
            errors.push(format!("browser.extra_flags[{i}]"), "must begin with \"--\"");
        }
    }
}

/// `[host]:number[.screen]`
fn is_x_display(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.len() < 6 && text.bytes().all(|b| b.is_ascii_digit());
    name.rsplit_once(':').is_some_and(|(host, rest)| {
        let (display, screen) = rest.split_once('.').unwrap_or((rest, "0"));
        !host.contains(char::is_whitespace) && number(display) && number(screen)
    })
}

#[cfg(test)]
mod tests;
