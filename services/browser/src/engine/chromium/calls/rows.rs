//! Rows of the calls in one worker or document.

use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{JavascriptCall, Truncation};

use super::batch::{CALL_STACK, Call, LIMITED, MISSING, NOT_INSTRUMENTED, STACK_FRAMES, TAMPERED, VALUE_CAP};
use super::call_site::{call_site, call_stack};

/// What the rows of a worker or document have in common, and how many there were.
#[derive(Clone, Debug, Default)]
pub struct CallRows {
    /// URL of the worker's script, or of the document.
    pub url: String,
    /// Of the page that it belongs to.
    pub top_level_url: Option<String>,
    /// -1: of no one tab.
    pub tab_id: i64,
    /// Within its tab, 0 for the top frame; -1: of no one frame.
    pub frame_id: i64,
    pub limit: u32,
    calls: i64,
}

impl CallRows {
    /// Of a worker.
    pub fn new(url: String, top_level_url: Option<String>, tab_id: i64, limit: u32) -> Self {
        Self { url, top_level_url, tab_id, frame_id: -1, limit, calls: 0 }
    }

    /// The rows of a record, with the time of its call in microseconds since the epoch.
    pub fn rows(&mut self, call: Call) -> Vec<(i64, Row)> {
        let at = call.at_us;
        if call.operation == LIMITED {
            return vec![(at, truncation("symbol_limit", None, call.cut, 0, self.limit.into(), call.symbol))];
        }
        if let MISSING | NOT_INSTRUMENTED = call.operation {
            let why = if call.operation == MISSING { "target_missing" } else { "not_instrumented" };
            let reason = call.value.as_deref().unwrap_or(why);
            return vec![(at, truncation(reason, None, 0, 0, 0, call.symbol))];
        }
        let Some(operation) = call.word() else { return Vec::new() };
        let mut rows = Vec::new();
        if call.cut > 0 {
            let column = if call.args.is_some() { "arguments" } else { "value" };
            let cut = truncation("value_cap", Some(column), 1, call.cut, VALUE_CAP, call.symbol.clone());
            rows.push((at, cut));
        }
        let site = call.stack.as_deref().and_then(call_site);
        let whole = (call.flags & CALL_STACK != 0).then(|| call.stack.as_deref().map(call_stack)).flatten();
        if whole.as_ref().is_some_and(|stack| stack.lines().count() >= STACK_FRAMES) {
            let limit = STACK_FRAMES as i64;
            rows.push((at, truncation("stack_cap", Some("call_stack"), 1, 0, limit, call.symbol.clone())));
        }
        let mut row = JavascriptCall {
            incognito: true,
            page_scoped_event_ordinal: self.calls,
            tab_id: self.tab_id,
            frame_id: self.frame_id,
            document_url: Some(self.url.clone()),
            top_level_url: self.top_level_url.clone(),
            call_stack: whole,
            symbol: call.symbol,
            operation: operation.to_owned(),
            value: call.value,
            arguments: call.args,
            tampered: call.flags & TAMPERED != 0,
            ..JavascriptCall::default()
        };
        if let Some(site) = site {
            row.script_url = Some(site.script_url);
            row.script_line = Some(site.line);
            row.script_col = Some(site.column);
            row.func_name = site.func_name;
            row.script_loc_eval = site.loc_eval;
        }
        self.calls += 1;
        rows.insert(0, (at, Row::Javascript(row)));
        rows
    }
}

/// A row that says what of the calls is not there.
pub fn truncation(
    reason: &str,
    column: Option<&str>,
    rows: i64,
    bytes: i64,
    limit: i64,
    subject: String,
) -> Row {
    Row::Truncation(Truncation {
        table_name: "javascript".to_owned(),
        column_name: column.map(str::to_owned),
        reason: reason.to_owned(),
        dropped_rows: rows,
        dropped_bytes: bytes,
        limit_value: limit,
        subject: Some(subject),
    })
}
