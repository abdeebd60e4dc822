//! Reads the source of a script from the browser and hashes it. A thin shell.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::events::CallSite;
use crate::engine::chromium::cdp::SessionId;
use crate::engine::chromium::http::{BlobSink, CdpCaller, Decode};

/// Characters of a source by which it is told how it was made.
const HEAD: usize = 64;

/// A source to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRequest {
    /// For [`super::ScriptTracker::on_source`].
    pub id: u64,
    pub session: SessionId,
    pub script_id: String,
    /// The engine's own hash of it; "" where it has none.
    pub hash: String,
    /// Longer ones are not read.
    pub max_bytes: u64,
    /// Whether the source is stored as a blob.
    pub save: bool,
    /// The call that had it compiled, where its name is of interest.
    pub call_site: Option<CallSite>,
}

/// What became of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceResult {
    Read {
        /// Lower-case hex.
        sha256: String,
        bytes: u64,
        /// How the text begins; "" of WebAssembly.
        head: String,
        /// The name that is called at `call_site`; "" where there is none.
        called: Option<String>,
    },
    Capped {
        bytes: u64,
    },
    Failed {
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    script_source: String,
    /// Base64 of a WebAssembly module.
    bytecode: Option<String>,
}

/// For [`super::ScriptAction::ReadSource`].
pub async fn read_source(
    caller: &impl CdpCaller,
    sink: &impl BlobSink,
    request: &SourceRequest,
) -> SourceResult {
    match try_read(caller, sink, request).await {
        Ok(result) => result,
        Err(why) => SourceResult::Failed { why },
    }
}

async fn source_of(caller: &impl CdpCaller, session: &SessionId, script_id: &str) -> Result<Answer, String> {
    let params = json!({"scriptId": script_id});
    let answer = caller.call_raw(session, "Debugger.getScriptSource", params).await?;
    answer.decode().map_err(|e| format!("cannot read the answer of getScriptSource: {e}"))
}

/// Whether the source is not that of the script asked for: a session goes on in another process when its page goes to
/// another site, and ids begin anew there.
fn is_of_another(answer: &Answer, hash: &str) -> bool {
    let unknown = hash.is_empty() || answer.bytecode.is_some();
    // Lone surrogates come as replacement characters, and are something else in the engine's hash.
    !unknown
        && !answer.script_source.contains('\u{fffd}')
        && super::sha256(answer.script_source.as_bytes()) != hash
}

async fn try_read(
    caller: &impl CdpCaller,
    sink: &impl BlobSink,
    request: &SourceRequest,
) -> Result<SourceResult, String> {
    let answer = source_of(caller, &request.session, &request.script_id).await?;
    if is_of_another(&answer, &request.hash) {
        return Err("its document went, and another script of the next one has its id".to_owned());
    }
    let head = answer.script_source.chars().take(HEAD).collect();
    let source = match answer.bytecode {
        Some(module) => {
            BASE64.decode(module).map_err(|e| format!("the browser's base64 of a module is broken: {e}"))?
        }
        None => answer.script_source.into_bytes(),
    };
    let bytes = source.len() as u64;
    if bytes > request.max_bytes {
        return Ok(SourceResult::Capped { bytes });
    }
    let sha256 = super::sha256(&source);
    if request.save {
        let stored = sink.put(&sha256, Bytes::from(source)).await;
        stored.map_err(|e| format!("cannot store the source: {e}"))?;
    }
    let called = match &request.call_site {
        None => None,
        // A caller that is gone already has no name to be told.
        Some(site) => {
            let caller = source_of(caller, &request.session, &site.script_id).await;
            caller.ok().map(|answer| name_at(&answer.script_source, site.line, site.column))
        }
    };
    Ok(SourceResult::Read { sha256, bytes, head, called })
}

/// The identifier that begins at a place; "" where none does.
fn name_at(source: &str, line: usize, column: usize) -> String {
    let is_end = |c: char| matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}');
    let mut rest = source;
    for _ in 0..line {
        let Some(at) = rest.find(is_end) else { return String::new() };
        let ends_in_two = rest[at..].starts_with("\r\n");
        let end = rest[at..].chars().next().map_or(0, char::len_utf8);
        rest = &rest[at + if ends_in_two { 2 } else { end }..];
    }
    let mut units = 0;
    let start = rest.char_indices().find(|(_, c)| {
        let here = units;
        units += c.len_utf16();
        here >= column
    });
    let Some((start, _)) = start else { return String::new() };
    rest[start..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_not_what_the_engine_hashed_is_another_scripts() {
        let answer = |source: &str| Answer { script_source: source.to_owned(), bytecode: None };
        let hash = super::super::sha256(b"f()");
        assert!(!is_of_another(&answer("f()"), &hash));
        assert!(is_of_another(&answer("g()"), &hash));
        assert!(is_of_another(&answer(""), &hash));
        assert!(!is_of_another(&answer("g()"), ""));
        assert!(!is_of_another(&answer("'\u{fffd}'"), &hash));
        let module = Answer { bytecode: Some(String::new()), ..answer("") };
        assert!(!is_of_another(&module, &hash));
    }

    #[test]
    fn names_are_found_by_line_and_column() {
        let source = "a\r\n  '\u{1f600}';b.append(s)\neval('x')";
        assert_eq!(name_at(source, 1, 9), "append");
        assert_eq!(name_at(source, 2, 0), "eval");
        assert_eq!(name_at(source, 2, 4), "");
        assert_eq!(name_at(source, 9, 0), "");
        assert_eq!(name_at(source, 0, 99), "");
    }
}
