//! Script stacks as text.

use std::fmt::Write as _;

use super::events::{CallFrame, Initiator, StackTrace};

/// More frames than any browser sends; a bound all the same.
pub(in crate::engine::chromium) const MAX_FRAMES: usize = 1000;
/// Of one stack, in bytes: URLs can be as long as 2 MiB.
const MAX_TEXT: usize = 1 << 20;
/// Of a frame beside its name and URL.
const PUNCTUATION: usize = 32;

/// Our own, where a page calls a function that the extension replaced.
pub(in crate::engine::chromium) fn is_ours(frame: &CallFrame) -> bool {
    frame.url.starts_with("chrome-extension://")
}

/// The frames that are not our own of a stack and of its asynchronous parents, each with the cause that stands on it.
fn frames(stack: &StackTrace) -> impl Iterator<Item = (&CallFrame, &str)> {
    let parts = std::iter::successors(Some((stack, "")), |(part, _)| {
        let parent = part.parent.as_deref()?;
        Some((parent, parent.description.as_deref().unwrap_or_default()))
    });
    parts.flat_map(|(part, cause)| {
        let frames = part.call_frames.iter().filter(|frame| !is_ours(frame));
        frames.enumerate().map(move |(at, frame)| (frame, if at == 0 { cause } else { "" }))
    })
}

/// How many frames fit.
fn fitting(stack: &StackTrace) -> usize {
    let mut room = MAX_TEXT;
    frames(stack)
        .take(MAX_FRAMES)
        .take_while(|(frame, cause)| {
            let needs = frame.function_name.len() + frame.url.len() + cause.len() + PUNCTUATION;
            let fits = needs <= room;
            room = room.saturating_sub(needs);
            fits
        })
        .count()
}

/// Frames that [`text`] leaves out.
pub(in crate::engine::chromium) fn cut(stack: &StackTrace) -> usize {
    frames(stack).count() - fitting(stack)
}

/// Frames innermost first, one a line: `func@file:line:col;asyncCause`, lines and columns from 1. The cause
/// stands on the first frame of each asynchronous parent.
pub(in crate::engine::chromium) fn text(stack: &StackTrace) -> Option<String> {
    let mut text = String::new();
    for (frame, cause) in frames(stack).take(fitting(stack)) {
        if !text.is_empty() {
            text.push('\n');
        }
        let (line, column) = (frame.line_number + 1, frame.column_number + 1);
        let (name, url) = (&frame.function_name, super::site::stored_url(&frame.url));
        write!(text, "{name}@{url}:{line}:{column};{cause}").expect("writing to a string");
    }
    (!text.is_empty()).then_some(text)
}

/// The script that stands innermost, asynchronous parents included.
pub(in crate::engine::chromium) fn innermost_url(stack: &StackTrace) -> Option<&str> {
    frames(stack).map(|(frame, _)| frame.url.as_str()).find(|url| !url.is_empty())
}

/// The initiator without its stack; line and column as the browser says, from 0.
pub(super) fn initiator_json(initiator: &Initiator) -> String {
    let mut fields = serde_json::Map::new();
    fields.insert("type".into(), initiator.kind.clone().into());
    if let Some(url) = &initiator.url {
        fields.insert("url".into(), super::site::stored_url(url).into());
    }
    for (name, value) in [("line", initiator.line_number), ("column", initiator.column_number)] {
        if let Some(value) = value {
            fields.insert(name.into(), (value as i64).into());
        }
    }
    serde_json::Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asynchronous_parents_follow_with_their_cause() {
        let stack: StackTrace = serde_json::from_str(
            r#"{"callFrames":[{"functionName":"f","url":"http://a/x.js","lineNumber":4,"columnNumber":9}],
                "parent":{"description":"Promise.then","callFrames":[
                    {"functionName":"","url":"http://a/y.js","lineNumber":0,"columnNumber":0},
                    {"functionName":"g","url":"http://a/y.js","lineNumber":1,"columnNumber":1}]}}"#,
        )
        .unwrap();
        let lines = "f@http://a/x.js:5:10;\n@http://a/y.js:1:1;Promise.then\ng@http://a/y.js:2:2;";
        assert_eq!(text(&stack).unwrap(), lines);
        assert_eq!(innermost_url(&stack), Some("http://a/x.js"));
        assert_eq!(cut(&stack), 0);
    }

    /// I4
    #[test]
    fn our_own_frames_are_left_out() {
        let stack = |urls: &[&str]| StackTrace {
            call_frames: urls
                .iter()
                .map(|url| CallFrame { url: (*url).to_owned(), ..CallFrame::default() })
                .collect(),
            ..StackTrace::default()
        };
        let ours = "chrome-extension://a/main.js";
        assert_eq!(text(&stack(&[ours, "http://a/x.js"])).unwrap(), "@http://a/x.js:1:1;");
        assert_eq!((text(&stack(&[ours])), innermost_url(&stack(&[ours]))), (None, None));
    }

    /// M18
    #[test]
    fn long_stacks_are_cut_and_say_by_how_much() {
        let frame = |url: String| CallFrame { url, ..CallFrame::default() };
        let many =
            StackTrace { call_frames: vec![frame("u".into()); MAX_FRAMES + 3], ..StackTrace::default() };
        assert_eq!((cut(&many), text(&many).unwrap().lines().count()), (3, MAX_FRAMES));
        let long = StackTrace { call_frames: vec![frame("u".repeat(400_000)); 4], ..StackTrace::default() };
        assert_eq!((cut(&long), text(&long).unwrap().lines().count()), (2, 2));
    }
}
