//! Checks of the commands that demos are made of.

use std::time::Duration;

use super::{FieldErrors, MAX_TIMEOUT, duration, suffix};
use crate::visit::v1::{
    Command, ExploreCommand, RecordVideoCommand, StartVideo, command::Step, record_video_command::Action,
};

const BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(16 << 30);
const MAX_WORDS: usize = 200;
const MAX_WORD: usize = 64;

pub(super) fn video_errors(video: &RecordVideoCommand, path: &str, errors: &mut FieldErrors) {
    match &video.action {
        Some(Action::Start(start)) => start_errors(start, &format!("{path}.start"), errors),
        Some(Action::Stop(stop)) => suffix(&stop.suffix, &format!("{path}.stop.suffix"), errors),
        None => errors.push(path, "set one of start, stop"),
    }
}

fn start_errors(start: &StartVideo, path: &str, errors: &mut FieldErrors) {
    for (name, value, least, most, default) in [
        ("max_width", start.max_width, 2, 3840, 1280),
        ("max_height", start.max_height, 2, 2160, 720),
        ("quality", start.quality, 1, 100, 90),
        ("max_fps", start.max_fps, 1, 30, 30),
    ] {
        if value != 0 && !(least..=most).contains(&value) {
            errors.push(format!("{path}.{name}"), format!("{least} to {most}, or 0 for {default}"));
        }
    }
    let second = Duration::from_secs(1);
    duration(start.max_duration, &format!("{path}.max_duration"), second, MAX_TIMEOUT, errors);
    if start.max_bytes != 0 && !BYTES.contains(&start.max_bytes) {
        let must = format!("{} to {}, or 0 for 1073741824", BYTES.start(), BYTES.end());
        errors.push(format!("{path}.max_bytes"), must);
    }
}

/// Starts and stops take turns, where the whole sequence is known.
pub(super) fn order_errors(commands: &[Command], path: &str, errors: &mut FieldErrors) {
    let mut running = false;
    for (i, command) in commands.iter().enumerate() {
        let Some(Step::RecordVideo(RecordVideoCommand { action: Some(action) })) = &command.step else {
            continue;
        };
        let start = matches!(action, Action::Start(_));
        if start == running {
            let path = format!("{path}[{i}].record_video");
            let wrong = if start { "a recording runs already: stop it first" } else { "no recording runs" };
            errors.push(path, wrong);
        }
        running = start;
    }
}

pub(super) fn explore_errors(explore: &ExploreCommand, path: &str, errors: &mut FieldErrors) {
    for (name, value, default) in
        [("max_clicks", explore.max_clicks, 10), ("max_depth", explore.max_depth, 3)]
    {
        if value > 100 {
            errors.push(format!("{path}.{name}"), format!("1 to 100, or 0 for {default}"));
        }
    }
    let second = Duration::from_secs(1);
    duration(explore.max_runtime, &format!("{path}.max_runtime"), second, MAX_TIMEOUT, errors);
    if explore.blocked_words.len() > MAX_WORDS {
        errors.push(format!("{path}.blocked_words"), format!("at most {MAX_WORDS}"));
    }
    for (i, word) in explore.blocked_words.iter().enumerate() {
        let long = word.len() > MAX_WORD;
        if long || !word.chars().any(char::is_alphanumeric) {
            let must = format!("1 to {MAX_WORD} bytes, with a letter or digit");
            errors.push(format!("{path}.blocked_words[{i}]"), must);
        }
    }
}
