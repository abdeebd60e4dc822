//! The frames of a page as a tree: which of them there are, and the JSON of their sources.

use serde_json::{Map, Value, json};

use crate::engine::artifact::SOURCE;

/// Depth of a recursive dump, as OpenWPM's.
pub const DEPTH: u32 = 5;

/// Gives a JSON list of a document's URL and its source.
pub fn source() -> String {
    format!("JSON.stringify([document.URL, {SOURCE}])")
}

/// A frame of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The browser's.
    pub id: String,
    /// The frame that holds it; `None`: it is the page.
    pub parent: Option<String>,
    /// By which of the engine's connections it is reached.
    pub host: String,
    pub url: String,
}

/// A frame with its source, or why there is none.
#[derive(Debug, Clone)]
pub struct Read {
    pub frame: Frame,
    pub url: String,
    pub source: Result<String, String>,
}

/// The frames down to a depth (the page has 0), and how many are below.
pub fn down_to(frames: Vec<Frame>, depth: u32) -> (Vec<Frame>, usize) {
    let all = frames.len();
    let mut kept: Vec<(Frame, u32)> = Vec::new();
    for frame in frames {
        let holder = frame.parent.as_ref().and_then(|id| kept.iter().find(|(held, _)| held.id == *id));
        let at = match (&frame.parent, holder) {
            (None, _) => 0,
            (Some(_), Some((_, at))) => at + 1,
            (Some(_), None) => continue,
        };
        if at <= depth {
            kept.push((frame, at));
        }
    }
    let cut = all - kept.len();
    (kept.into_iter().map(|(frame, _)| frame).collect(), cut)
}

/// OpenWPM's JSON of the sources: each frame with those that it holds.
pub fn tree(read: &[Read]) -> Value {
    read.iter().find(|r| r.frame.parent.is_none()).map_or(Value::Null, |page| node(page, read))
}

fn node(of: &Read, all: &[Read]) -> Value {
    let held = all.iter().filter(|r| r.frame.parent.as_ref() == Some(&of.frame.id));
    let iframes: Map<String, Value> = held.map(|r| (r.frame.id.clone(), node(r, all))).collect();
    match &of.source {
        Ok(source) => json!({"doc_url": of.url, "source": source, "iframes": iframes}),
        Err(error) => json!({"doc_url": of.url, "error": error, "iframes": iframes}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: &str, parent: Option<&str>) -> Frame {
        Frame {
            id: id.into(),
            parent: parent.map(str::to_owned),
            host: String::new(),
            url: format!("u:{id}"),
        }
    }

    /// M20
    #[test]
    fn frames_are_nested_down_to_a_depth() {
        let frames =
            vec![frame("p", None), frame("a", Some("p")), frame("b", Some("a")), frame("c", Some("b"))];
        let (kept, cut) = down_to(frames, 2);
        assert_eq!((kept.len(), cut), (3, 1));
        let read: Vec<Read> = kept
            .into_iter()
            .map(|frame| {
                let source =
                    if frame.id == "b" { Err("gone".to_owned()) } else { Ok(format!("<{}>", frame.id)) };
                Read { url: frame.url.clone(), frame, source }
            })
            .collect();
        let expected = json!({"doc_url": "u:p", "source": "<p>", "iframes": {"a": {
            "doc_url": "u:a", "source": "<a>", "iframes": {"b": {"doc_url": "u:b", "error": "gone", "iframes": {}}}}}});
        assert_eq!(tree(&read), expected);
    }
}
