//! Script stacks as text.

use std::fmt::Write as _;

use super::events::{Initiator, StackTrace};

/// More frames than any browser sends; a bound all the same.
const MAX_FRAMES: usize = 1000;

/// Frames innermost first, one a line: `func@file:line:col;asyncCause`, lines and columns from 1. The cause
/// stands on the first frame of each asynchronous parent.
pub(super) fn text(stack: &StackTrace) -> Option<String> {
    let mut text = String::new();
    let mut frames = 0;
    let mut at = Some(stack);
    let mut cause = "";
    while let Some(part) = at {
        for frame in &part.call_frames {
            frames += 1;
            if frames > MAX_FRAMES {
                return Some(text);
            }
            if !text.is_empty() {
                text.push('\n');
            }
            let (line, column) = (frame.line_number + 1, frame.column_number + 1);
            let (name, url) = (&frame.function_name, super::site::stored_url(&frame.url));
            write!(text, "{name}@{url}:{line}:{column};{cause}").expect("writing to a string");
            cause = "";
        }
        at = part.parent.as_deref();
        cause = at.and_then(|p| p.description.as_deref()).unwrap_or_default();
    }
    (frames > 0).then_some(text)
}

/// The script that stands innermost, asynchronous parents included.
pub(super) fn innermost_url(stack: &StackTrace) -> Option<&str> {
    let own = stack.call_frames.iter().map(|f| f.url.as_str()).find(|u| !u.is_empty());
    own.or_else(|| innermost_url(stack.parent.as_deref()?))
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
    }
}
