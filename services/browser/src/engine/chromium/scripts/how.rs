//! How a script came to be.

use std::collections::HashMap;

use super::events::ScriptParsed;
use crate::engine::chromium::cdp::SessionInfo;
use crate::engine::chromium::http::{ScriptPlace, ScriptRequest};

/// Documents whose scripts are told from their handlers by place.
const MAX_DOCUMENTS: usize = 50_000;

/// What the source alone tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Told<'a> {
    /// How it begins; `None` where it was not read.
    pub head: Option<&'a str>,
    /// The name that was called to have it compiled.
    pub called: Option<&'a str>,
    /// What was called is a function of ours in the place of one that inserts.
    pub inserted: bool,
}

/// How far the parser of a document is.
#[derive(Debug, Default)]
struct Parser {
    /// Where its newest inline script began.
    last: Option<(i64, i64)>,
    /// It has parsed the whole document.
    done: bool,
}

/// Tells event handlers in the markup of a document from its scripts. Both are compiled under the document's URL at
/// their place in it; but the parser compiles scripts in their order, with no script running, until the document has
/// been parsed.
#[derive(Debug, Default)]
pub(super) struct Documents(HashMap<String, Parser>);

impl Documents {
    pub fn navigated(&mut self, frame: &str) {
        self.0.remove(frame);
    }

    pub fn parsed(&mut self, frame: &str) {
        if self.0.len() < MAX_DOCUMENTS || self.0.contains_key(frame) {
            self.0.entry(frame.to_owned()).or_default().done = true;
        }
    }

    fn is_handler(&mut self, frame: &str, script: &ScriptParsed) -> bool {
        if script.is_module {
            return false;
        }
        if script.stack_trace.is_some() {
            return true;
        }
        let place = Some((script.start_line, script.start_column));
        let room = self.0.len() < MAX_DOCUMENTS || self.0.contains_key(frame);
        if !room {
            return false;
        }
        let parser = self.0.entry(frame.to_owned()).or_default();
        let handler = parser.done || place <= parser.last;
        if !handler {
            parser.last = place;
        }
        handler
    }
}

fn without_fragment(url: &str) -> &str {
    url.split_once('#').map_or(url, |(url, _)| url)
}

fn is_worker(kind: &str) -> bool {
    matches!(kind, "worker" | "shared_worker" | "service_worker")
}

/// What can be told when it is compiled; `None`: that takes its source.
pub(super) fn at_once(
    script: &ScriptParsed,
    session: &SessionInfo,
    place: &ScriptPlace,
    request: Option<&ScriptRequest>,
    documents: &mut Documents,
) -> Option<&'static str> {
    let url = script.origin_url();
    let kind = &*session.kind;
    Some(match () {
        () if script.is_wasm() => "wasm",
        () if url.is_empty() && script.stack_trace.is_none() => "anonymous",
        () if url.is_empty() => return None,
        () if kind == "worklet" => "worklet",
        () if is_worker(kind) && without_fragment(url) == without_fragment(&session.url) => "worker",
        () if is_worker(kind) && script.is_module => "import",
        () if is_worker(kind) => "import_scripts",
        () if place.document_url.as_deref().is_some_and(|d| without_fragment(d) == without_fragment(url)) => {
            let frame = place.devtools_frame.as_deref().unwrap_or_default();
            if documents.is_handler(frame, script) { "handler" } else { "inline" }
        }
        () if url.starts_with("data:") => "data",
        () if url.starts_with("blob:") => "blob",
        () if script.is_module && request.is_some_and(|r| r.by_script) => "import",
        () => "external",
    })
}

/// What a text without a URL is.
pub(super) fn of_text(told: &Told<'_>) -> &'static str {
    /// The text that `Function` and its kin make of their arguments.
    const FUNCTIONS: &[&str] = &[
        "(function anonymous(",
        "(async function anonymous(",
        "(function* anonymous(",
        "(async function* anonymous(",
    ];
    /// What inserts a script element, or text into one.
    const INSERTIONS: &[&str] = &[
        "append",
        "appendChild",
        "prepend",
        "before",
        "after",
        "insertBefore",
        "replaceChild",
        "replaceWith",
        "replaceChildren",
        "insertAdjacentElement",
        "insertAdjacentText",
        "insertNode",
        "adoptNode",
        "write",
        "writeln",
        "text",
        "textContent",
        "innerText",
    ];
    match told {
        Told { head: Some(head), .. } if FUNCTIONS.iter().any(|f| head.starts_with(f)) => "function",
        Told { inserted: true, .. } => "inline",
        Told { called: Some(called), .. } if INSERTIONS.contains(called) => "inline",
        _ => "eval",
    }
}
