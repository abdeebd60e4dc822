//! `Debugger.scriptParsed` as we read it: every field may be missing.

use serde::Deserialize;

use crate::engine::chromium::http::{StackTrace, stack};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScriptParsed {
    pub script_id: String,
    pub url: String,
    pub start_line: i64,
    pub start_column: i64,
    pub hash: String,
    pub execution_context_aux_data: AuxData,
    #[serde(rename = "sourceMapURL")]
    pub source_map_url: String,
    #[serde(rename = "hasSourceURL")]
    pub has_source_url: bool,
    pub is_module: bool,
    pub length: i64,
    pub stack_trace: Option<StackTrace>,
    pub script_language: String,
    pub embedder_name: String,
}

/// A place in a script: from 0, columns in UTF-16 units.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallSite {
    pub script_id: String,
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuxData {
    /// `default`, `isolated` or `worker`.
    #[serde(rename = "type")]
    pub kind: String,
    pub frame_id: Option<String>,
}

impl ScriptParsed {
    /// Where it came from; "" when it came from nowhere but a script's own text. The name a script gives itself says
    /// nothing of that.
    pub fn origin_url(&self) -> &str {
        if self.has_source_url { &self.embedder_name } else { &self.url }
    }

    /// Whether a function that the extension replaced had it compiled: those insert elements, and take no code.
    pub fn is_inserted(&self) -> bool {
        self.stack_trace.as_ref().and_then(|stack| stack.call_frames.first()).is_some_and(stack::is_ours)
    }

    /// The call that had it compiled.
    pub fn call_site(&self) -> Option<CallSite> {
        let frame = self.stack_trace.as_ref()?.call_frames.first().filter(|frame| !stack::is_ours(frame))?;
        let (line, column) = (usize::try_from(frame.line_number), usize::try_from(frame.column_number));
        Some(CallSite { script_id: frame.script_id.clone(), line: line.ok()?, column: column.ok()? })
    }

    pub fn is_wasm(&self) -> bool {
        self.script_language == "WebAssembly"
    }

    /// Worlds of extensions, which pages cannot get into; and what the browser brings itself.
    pub fn is_foreign(&self) -> bool {
        let named = |prefix: &str| self.embedder_name.starts_with(prefix);
        let own_url = !self.has_source_url && self.url.starts_with("chrome-extension://");
        self.execution_context_aux_data.kind == "isolated" || own_url || named("chrome-extension://")
    }
}
