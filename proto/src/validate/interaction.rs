//! Checks of the commands that act on a page, wait for it, and read it.

use std::time::Duration;

use super::loads::time_errors;
use super::{FieldErrors, MAX_STAY, MAX_URL, duration, is_sha256, url};
use crate::key_combination;
use crate::visit::v1::command::Step;
use crate::visit::v1::{
    AssertCommand, ClickCommand, DownloadCommand, EvaluateCommand, ExtractCommand, ExtractKind, LoadPolicy,
    Modifier, PressCommand, ScrollCommand, SelectCommand, Target, TextMatch, TypeCommand, UploadCommand,
    WaitForCommand, assert_command::Check, download_command::From, scroll_command::To,
    select_command::Choice, text_match::Match, upload_file::Source, wait_for_command::Condition,
};

/// Bytes of a file that is downloaded.
const MAX_DOWNLOAD: u64 = 1 << 30;
const MAX_SELECTOR: usize = 4096;
const MAX_NTH: u32 = 9999;
const MAX_TEXT: usize = 16 << 10;
const MAX_SCRIPT: usize = 256 << 10;
const MAX_RESULT: u32 = 16 << 20;
const MAX_FIELDS: usize = 100;
const MAX_NAME: usize = 256;
const MAX_DELAY: Duration = Duration::from_secs(10);
const MAX_SIDE: f64 = 100_000.0;
const MAX_DISTANCE: u32 = 1_000_000;
const MAX_STEPS: u32 = 1000;
const MAX_FILES: usize = 100;
const MAX_FILE_NAME: usize = 255;
const MAX_INLINE: usize = 1 << 20;

/// Checks such a step; `path` is that of its command.
pub(super) fn interaction_errors(step: &Step, path: &str, errors: &mut FieldErrors) {
    match step {
        Step::Click(click) => click_errors(click, &format!("{path}.click"), errors),
        Step::Hover(hover) => {
            needed(hover.target.as_ref(), &format!("{path}.hover.target"), errors);
            position(hover.position.as_ref(), &format!("{path}.hover.position"), errors);
        }
        Step::Type(typed) => type_errors(typed, &format!("{path}.type"), errors),
        Step::Press(press) => press_errors(press, &format!("{path}.press"), errors),
        Step::Select(select) => select_errors(select, &format!("{path}.select"), errors),
        Step::Upload(upload) => upload_errors(upload, &format!("{path}.upload"), errors),
        Step::Scroll(scroll) => scroll_errors(scroll, &format!("{path}.scroll"), errors),
        Step::WaitFor(wait) => wait_errors(wait, &format!("{path}.wait_for"), errors),
        Step::Evaluate(evaluate) => evaluate_errors(evaluate, &format!("{path}.evaluate"), errors),
        Step::Extract(extract) => extract_errors(extract, &format!("{path}.extract"), errors),
        Step::Assert(assert) => assert_errors(assert, &format!("{path}.assert"), errors),
        _ => {}
    }
}

fn click_errors(click: &ClickCommand, path: &str, errors: &mut FieldErrors) {
    needed(click.target.as_ref(), &format!("{path}.target"), errors);
    position(click.position.as_ref(), &format!("{path}.position"), errors);
    if click.count > 3 {
        errors.push(format!("{path}.count"), "1 to 3, or 0 for one");
    }
    for (i, modifier) in click.modifiers().enumerate() {
        if modifier == Modifier::Unspecified {
            errors.push(format!("{path}.modifiers[{i}]"), "must be alt, control, meta or shift");
        }
    }
    if click.modifiers.len() > 4 {
        errors.push(format!("{path}.modifiers"), "at most 4");
    }
}

fn type_errors(typed: &TypeCommand, path: &str, errors: &mut FieldErrors) {
    optional(typed.target.as_ref(), &format!("{path}.target"), errors);
    bounded(&typed.text, MAX_TEXT, &format!("{path}.text"), errors);
    duration(typed.delay, &format!("{path}.delay"), Duration::ZERO, MAX_DELAY, errors);
}

fn press_errors(press: &PressCommand, path: &str, errors: &mut FieldErrors) {
    optional(press.target.as_ref(), &format!("{path}.target"), errors);
    if let Err(wrong) = key_combination(&press.keys) {
        errors.push(format!("{path}.keys"), wrong.to_string());
    }
}

fn select_errors(select: &SelectCommand, path: &str, errors: &mut FieldErrors) {
    needed(select.target.as_ref(), &format!("{path}.target"), errors);
    match &select.choice {
        None => errors.push(path, "no option: set one of value, label, index"),
        Some(Choice::Value(text) | Choice::Label(text)) if text.len() > MAX_SELECTOR => {
            errors.push(path, format!("at most {MAX_SELECTOR} bytes of value or label"));
        }
        Some(_) => {}
    }
}

pub(super) fn download_errors(download: &DownloadCommand, path: &str, errors: &mut FieldErrors) {
    match &download.from {
        Some(From::Url(from)) => url(from, &format!("{path}.url"), false, errors),
        Some(From::Click(target)) => needed(Some(target), &format!("{path}.click"), errors),
        None => errors.push(path, "set one of url, click"),
    }
    if download.max_bytes > MAX_DOWNLOAD {
        errors.push(format!("{path}.max_bytes"), format!("1 to {MAX_DOWNLOAD}, or 0 for the default"));
    }
}

fn upload_errors(upload: &UploadCommand, path: &str, errors: &mut FieldErrors) {
    needed(upload.target.as_ref(), &format!("{path}.target"), errors);
    let field = format!("{path}.files");
    if upload.files.len() > MAX_FILES {
        errors.push(&field, format!("{} files: at most {MAX_FILES}", upload.files.len()));
    }
    let mut inline = 0;
    for (i, file) in upload.files.iter().enumerate() {
        let name = file.name.as_str();
        let fine = (1..=MAX_FILE_NAME).contains(&name.len())
            && ![".", ".."].contains(&name)
            && !name.contains(|c: char| c == '/' || c.is_control());
        if !fine {
            let must = "1 to 255 bytes, no \"/\", no control characters, not \".\" and \"..\"";
            errors.push(format!("{field}[{i}].name"), must);
        }
        match &file.source {
            None => errors.push(format!("{field}[{i}]"), "no bytes: set one of content, blob"),
            Some(Source::Content(content)) => inline += content.len(),
            Some(Source::Blob(blob)) if !is_sha256(blob) => {
                let must = "must be the SHA-256 of a stored blob: 64 lower-case hex digits";
                errors.push(format!("{field}[{i}].blob"), must);
            }
            Some(Source::Blob(_)) => {}
        }
    }
    if inline > MAX_INLINE {
        errors.push(field, format!("{inline} bytes of content: at most {MAX_INLINE}, store more as a blob"));
    }
}

fn scroll_errors(scroll: &ScrollCommand, path: &str, errors: &mut FieldErrors) {
    match &scroll.to {
        None => errors.push(path, "no place: set one of by, element, bottom"),
        Some(To::By(by)) => {
            for (name, value) in [("x", by.x), ("y", by.y)] {
                if value.unsigned_abs() > MAX_DISTANCE {
                    errors.push(format!("{path}.by.{name}"), "-1000000 to 1000000 CSS pixels");
                }
            }
        }
        Some(To::Element(target)) => needed(Some(target), &format!("{path}.element"), errors),
        Some(To::Bottom(bottom)) if bottom.max_steps > MAX_STEPS => {
            errors.push(format!("{path}.bottom.max_steps"), "1 to 1000, or 0 for 100");
        }
        Some(To::Bottom(_)) => {}
    }
}

fn wait_errors(wait: &WaitForCommand, path: &str, errors: &mut FieldErrors) {
    let policy = match wait.condition {
        Some(Condition::Load(policy)) => policy.try_into().unwrap_or_default(),
        _ => LoadPolicy::Unspecified,
    };
    time_errors(policy, wait.load_time, &format!("{path}.load_time"), errors);
    match &wait.condition {
        None => errors.push(path, "no condition: set one of element, url, load, time"),
        Some(Condition::Element(element)) => {
            needed(element.target.as_ref(), &format!("{path}.element.target"), errors);
        }
        Some(Condition::Url(glob)) => bounded(glob, MAX_URL, &format!("{path}.url"), errors),
        // Its time is checked with that of every condition.
        Some(Condition::Load(_)) => {}
        Some(Condition::Time(time)) => {
            duration(Some(*time), &format!("{path}.time"), Duration::from_millis(1), MAX_STAY, errors);
        }
    }
}

fn evaluate_errors(evaluate: &EvaluateCommand, path: &str, errors: &mut FieldErrors) {
    bounded(&evaluate.expression, MAX_SCRIPT, &format!("{path}.expression"), errors);
    if evaluate.max_bytes > MAX_RESULT {
        errors.push(format!("{path}.max_bytes"), format!("at most {MAX_RESULT}"));
    }
}

fn extract_errors(extract: &ExtractCommand, path: &str, errors: &mut FieldErrors) {
    if extract.fields.is_empty() || extract.fields.len() > MAX_FIELDS {
        errors.push(format!("{path}.fields"), format!("1 to {MAX_FIELDS}"));
    }
    for (i, field) in extract.fields.iter().enumerate() {
        let path = format!("{path}.fields[{i}]");
        bounded(&field.name, MAX_NAME, &format!("{path}.name"), errors);
        if extract.fields[..i].iter().any(|f| f.name == field.name) {
            errors.push(format!("{path}.name"), format!("{:?} is there twice", field.name));
        }
        match field.all {
            true => every(field.target.as_ref(), &format!("{path}.target"), errors),
            false => needed(field.target.as_ref(), &format!("{path}.target"), errors),
        }
        let named = matches!(field.kind(), ExtractKind::Attribute | ExtractKind::Property);
        if named {
            bounded(&field.key, MAX_NAME, &format!("{path}.key"), errors);
        } else if !field.key.is_empty() {
            errors.push(format!("{path}.key"), "is for attributes and properties: leave it out");
        }
    }
}

fn assert_errors(assert: &AssertCommand, path: &str, errors: &mut FieldErrors) {
    match &assert.check {
        None => errors.push(path, "no check: set one of count, visible, text, url, title, expression"),
        Some(Check::Count(count)) => every(count.target.as_ref(), &format!("{path}.count.target"), errors),
        Some(Check::Visible(target)) => needed(Some(target), &format!("{path}.visible"), errors),
        Some(Check::Text(text)) => {
            needed(text.target.as_ref(), &format!("{path}.text.target"), errors);
            text_match(text.text.as_ref(), &format!("{path}.text.text"), errors);
        }
        Some(Check::Url(text)) => text_match(Some(text), &format!("{path}.url"), errors),
        Some(Check::Title(text)) => text_match(Some(text), &format!("{path}.title"), errors),
        Some(Check::Expression(script)) => {
            bounded(script, MAX_SCRIPT, &format!("{path}.expression"), errors);
        }
    }
}

fn text_match(text: Option<&TextMatch>, path: &str, errors: &mut FieldErrors) {
    match text.and_then(|t| t.r#match.as_ref()) {
        None => errors.push(path, "no text: set one of equals, contains, matches"),
        Some(Match::Equals(text) | Match::Contains(text) | Match::Matches(text)) if text.len() > MAX_URL => {
            errors.push(path, format!("{} bytes long: at most {MAX_URL}", text.len()));
        }
        Some(_) => {}
    }
}

fn needed(target: Option<&Target>, path: &str, errors: &mut FieldErrors) {
    match target {
        Some(target) => target_errors(target, path, errors),
        None => errors.push(path, "is not set: give a selector"),
    }
}

fn optional(target: Option<&Target>, path: &str, errors: &mut FieldErrors) {
    if let Some(target) = target {
        target_errors(target, path, errors);
    }
}

/// A target that stands for all of its matches.
fn every(target: Option<&Target>, path: &str, errors: &mut FieldErrors) {
    needed(target, path, errors);
    if target.is_some_and(|t| t.nth.is_some()) {
        errors.push(format!("{path}.nth"), "all matches are meant: leave it out");
    }
}

pub(super) fn target_errors(target: &Target, path: &str, errors: &mut FieldErrors) {
    bounded(&target.selector, MAX_SELECTOR, &format!("{path}.selector"), errors);
    if target.selector.split(">>>").any(|part| part.trim().is_empty()) && !target.selector.is_empty() {
        errors.push(format!("{path}.selector"), "a selector is missing before or after \">>>\"");
    }
    if target.nth.is_some_and(|n| n > MAX_NTH) {
        errors.push(format!("{path}.nth"), format!("0 to {MAX_NTH}"));
    }
    if target.frame.len() > MAX_SELECTOR {
        errors.push(format!("{path}.frame"), format!("at most {MAX_SELECTOR} bytes"));
    }
}

fn position(position: Option<&crate::visit::v1::Position>, path: &str, errors: &mut FieldErrors) {
    let Some(position) = position else { return };
    for (name, value) in [("x", position.x), ("y", position.y)] {
        if !(0.0..=MAX_SIDE).contains(&value) {
            errors.push(format!("{path}.{name}"), "0 to 100000 CSS pixels");
        }
    }
}

fn bounded(text: &str, most: usize, path: &str, errors: &mut FieldErrors) {
    if text.is_empty() || text.len() > most {
        errors.push(path, format!("{} bytes long: 1 to {most}", text.len()));
    }
}
