//! From compiled scripts to rows. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use sonde_proto::record::v1::Script;
use sonde_proto::record::v1::record::Row;

use super::Secrets;
use super::events::{CallSite, ScriptParsed};
use super::how::{self, Documents, Told};
use super::source::{SourceRequest, SourceResult};
use crate::engine::chromium::cdp::{SessionId, SessionInfo};
use crate::engine::chromium::http::{
    Decode, HttpTracker, ScriptPlace, ScriptRequest, stack, stored_url, truncation,
};

/// What is recorded of the scripts of a visit, and the limits.
#[derive(Debug, Clone)]
pub struct ScriptConfig {
    /// Whether sources are stored as blobs.
    pub save_sources: bool,
    pub max_source_bytes: u64,
    /// Scripts recorded; those beyond are counted in a truncation record.
    pub max_scripts: usize,
    /// SHA-256 of sources that we run in workers ourselves: they are not recorded, unless a script has them compiled.
    pub ours: Vec<String>,
    /// Sources that we run in documents ourselves.
    pub secrets: Secrets,
}

impl Default for ScriptConfig {
    fn default() -> Self {
        Self {
            save_sources: false,
            max_source_bytes: 64 * 1024 * 1024,
            max_scripts: 20_000,
            ours: Vec::new(),
            secrets: Secrets::default(),
        }
    }
}

/// What is to be done about a script.
// Nearly all are records.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum ScriptAction {
    Record {
        captured_at_us: i64,
        row: Row,
    },
    /// Answer with [`ScriptTracker::on_source`].
    ReadSource(SourceRequest),
}

/// A script whose source is awaited.
#[derive(Debug)]
struct Waiting {
    parsed: ScriptParsed,
    session: SessionInfo,
    at_us: i64,
    place: ScriptPlace,
    request: Option<ScriptRequest>,
    /// `None`: its source tells.
    how: Option<&'static str>,
}

/// One source, read once however often it is compiled.
#[derive(Debug)]
enum Source {
    /// Asked for; these wait for it, too.
    Asked(VecDeque<u64>),
    Known(SourceResult),
}

/// Same for scripts of the same source; the name of what a call site calls is asked for only once, too.
type Key = (String, Option<(SessionId, CallSite)>);

impl Waiting {
    fn key(&self, id: u64) -> Key {
        // The engine does not hash modules of WebAssembly.
        let unknown = self.parsed.hash.is_empty() || self.parsed.is_wasm();
        let source = if unknown { format!("#{id}") } else { self.parsed.hash.clone() };
        (source, self.call_site().map(|site| (self.session.id.clone(), site)))
    }

    fn call_site(&self) -> Option<CallSite> {
        self.how.is_none().then(|| self.parsed.call_site()).flatten()
    }
}

/// Turns the scripts that one visit's browser context compiled into rows.
#[derive(Debug, Default)]
pub struct ScriptTracker {
    config: ScriptConfig,
    next: u64,
    seen: usize,
    beyond: i64,
    undecodable: i64,
    waiting: BTreeMap<u64, Waiting>,
    sources: HashMap<Key, Source>,
    documents: Documents,
    out: Vec<ScriptAction>,
}

impl ScriptTracker {
    pub fn new(config: ScriptConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Takes one event; those that are not about scripts are ignored. `http` has taken it before.
    pub fn on_event<P: Decode + ?Sized>(
        &mut self,
        session: &SessionInfo,
        method: &str,
        params: &P,
        received_at_us: i64,
        http: &mut HttpTracker,
    ) -> Vec<ScriptAction> {
        let read = match method {
            "Debugger.scriptParsed" => params.decode::<ScriptParsed>().map(|parsed| match parsed {
                parsed if parsed.is_foreign() => {}
                _ if self.seen >= self.config.max_scripts => self.beyond += 1,
                parsed => self.on_parsed(session, parsed, received_at_us, http),
            }),
            "Page.frameNavigated" => {
                params.decode::<Navigated>().map(|event| self.documents.navigated(&event.frame.id))
            }
            "Page.domContentEventFired" => {
                self.documents.parsed(session.target_id.as_str());
                Ok(())
            }
            _ => return Vec::new(),
        };
        if let Err(error) = read {
            tracing::warn!(method, %error, "could not read a DevTools event");
            self.undecodable += 1;
        }
        std::mem::take(&mut self.out)
    }

    fn on_parsed(&mut self, session: &SessionInfo, parsed: ScriptParsed, at_us: i64, http: &mut HttpTracker) {
        self.seen += 1;
        let place = http.script_place(session, parsed.execution_context_aux_data.frame_id.as_deref());
        let request = http.script_request(&session.id, parsed.origin_url());
        let how = how::at_once(&parsed, session, &place, request.as_ref(), &mut self.documents);
        let wanted = parsed.is_wasm() || self.config.save_sources || how.is_none();
        let id = self.next;
        self.next += 1;
        let waiting = Waiting { parsed, session: session.clone(), at_us, place, request, how };
        if !wanted {
            return self.emit(waiting, None);
        }
        if waiting.parsed.length > i64::try_from(self.config.max_source_bytes).unwrap_or(i64::MAX) {
            let bytes = waiting.parsed.length.unsigned_abs();
            return self.emit(waiting, Some(&SourceResult::Capped { bytes }));
        }
        let key = waiting.key(id);
        match self.sources.get_mut(&key) {
            Some(Source::Known(result)) => {
                let result = result.clone();
                self.emit(waiting, Some(&result));
            }
            Some(Source::Asked(others)) => {
                others.push_back(id);
                self.waiting.insert(id, waiting);
            }
            None => {
                self.sources.insert(key, Source::Asked(VecDeque::new()));
                self.ask(id, &waiting);
                self.waiting.insert(id, waiting);
            }
        }
    }

    fn ask(&mut self, id: u64, waiting: &Waiting) {
        self.out.push(ScriptAction::ReadSource(SourceRequest {
            id,
            session: waiting.session.id.clone(),
            script_id: waiting.parsed.script_id.clone(),
            hash: waiting.parsed.hash.clone(),
            max_bytes: self.config.max_source_bytes,
            save: self.config.save_sources,
            call_site: waiting.call_site(),
        }));
    }

    /// The answer to [`ScriptAction::ReadSource`].
    pub fn on_source(&mut self, id: u64, result: SourceResult) -> Vec<ScriptAction> {
        let Some(asked) = self.waiting.remove(&id) else { return Vec::new() };
        let key = asked.key(id);
        let mut others = match self.sources.remove(&key) {
            Some(Source::Asked(others)) => others,
            _ => VecDeque::new(),
        };
        self.emit(asked, Some(&result));
        if !matches!(result, SourceResult::Failed { .. }) {
            for other in others {
                if let Some(waiting) = self.waiting.remove(&other) {
                    self.emit(waiting, Some(&result));
                }
            }
            self.sources.insert(key, Source::Known(result));
        } else if let Some(next) = others.pop_front()
            && let Some(waiting) = self.waiting.remove(&next)
        {
            // Another frame may still have what this one had no more.
            self.ask(next, &waiting);
            self.waiting.insert(next, waiting);
            self.sources.insert(key, Source::Asked(others));
        }
        std::mem::take(&mut self.out)
    }

    /// The end of the visit: scripts without their sources are recorded, and what was not recorded is counted.
    pub fn finish(&mut self, now_us: i64) -> Vec<ScriptAction> {
        let why = "the visit ended before the source came".to_owned();
        let late = SourceResult::Failed { why };
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            self.emit(waiting, Some(&late));
        }
        for (reason, count, limit) in [
            ("scripts_cap", self.beyond, self.config.max_scripts as i64),
            ("undecodable_event", self.undecodable, 0),
        ] {
            if count > 0 {
                self.truncated(now_us, None, reason, (count, 0), limit, None);
            }
        }
        std::mem::take(&mut self.out)
    }

    fn truncated(
        &mut self,
        captured_at_us: i64,
        column: Option<&str>,
        reason: &str,
        dropped: (i64, i64),
        limit: i64,
        subject: Option<String>,
    ) {
        let row = Row::Truncation(truncation("scripts", column, reason, dropped, limit, subject));
        self.out.push(ScriptAction::Record { captured_at_us, row });
    }

    /// `source`: `None` when it was not asked for.
    fn emit(&mut self, waiting: Waiting, source: Option<&SourceResult>) {
        let hash = match source {
            Some(SourceResult::Read { sha256, .. }) => sha256,
            _ => &waiting.parsed.hash,
        };
        let without_caller = waiting.parsed.stack_trace.is_none();
        if (without_caller && self.config.ours.contains(hash)) || self.config.secrets.contain(hash) {
            return;
        }
        let (at_us, subject) = (waiting.at_us, Some(waiting.parsed.script_id.clone()));
        if let Some(SourceResult::Capped { bytes }) = source {
            let limit = self.config.max_source_bytes as i64;
            self.truncated(at_us, None, "source_cap", (1, *bytes as i64), limit, subject.clone());
        }
        if waiting.parsed.stack_trace.as_ref().is_some_and(|s| stack::cut(s) > 0) {
            let limit = stack::MAX_FRAMES as i64;
            self.truncated(at_us, Some("call_stack"), "stack_cap", (1, 0), limit, subject);
        }
        let row = Row::Script(row(waiting, source));
        self.out.push(ScriptAction::Record { captured_at_us: at_us, row });
    }
}

#[derive(serde::Deserialize)]
struct Navigated {
    frame: NavigatedFrame,
}

#[derive(serde::Deserialize)]
struct NavigatedFrame {
    id: String,
}

/// What is known of a source.
#[derive(Default)]
struct Known {
    outcome: &'static str,
    error: Option<String>,
    sha256: Option<String>,
    bytes: Option<i64>,
}

fn known(source: Option<&SourceResult>) -> Known {
    match source {
        None => Known { outcome: "not_asked", ..Known::default() },
        Some(SourceResult::Read { sha256, bytes, .. }) => Known {
            outcome: "complete",
            sha256: Some(sha256.clone()),
            bytes: Some(*bytes as i64),
            ..Known::default()
        },
        Some(SourceResult::Capped { bytes }) => {
            Known { outcome: "capped", bytes: Some(*bytes as i64), ..Known::default() }
        }
        Some(SourceResult::Failed { why }) => {
            Known { outcome: "failed", error: Some(why.clone()), ..Known::default() }
        }
    }
}

fn row(waiting: Waiting, source: Option<&SourceResult>) -> Script {
    let Waiting { parsed, session, place, request, how, .. } = waiting;
    let told = match source {
        Some(SourceResult::Read { head, called, .. }) => {
            Told { head: Some(head), called: called.as_deref(), inserted: parsed.is_inserted() }
        }
        _ => Told { inserted: parsed.is_inserted(), ..Told::default() },
    };
    let how = how.unwrap_or_else(|| how::of_text(&told));
    let Known { outcome, error, sha256, bytes } = known(source);
    let engine_hash = Some(parsed.hash.clone()).filter(|h| !h.is_empty() && !parsed.is_wasm());
    let call_stack = parsed.stack_trace.as_ref().and_then(stack::text);
    let parent = parsed.stack_trace.as_ref().and_then(stack::innermost_url).map(str::to_owned);
    let url_or_none = |url: &str| Some(stored_url(url)).filter(|u| !u.is_empty());
    Script {
        url: stored_url(&parsed.url),
        content_hash: sha256.or_else(|| engine_hash.clone()),
        length: parsed.length,
        devtools_frame_id: place.devtools_frame,
        how: how.to_owned(),
        context_type: Some(session.kind.to_string()),
        tab_id: Some(place.tab_id),
        frame_id: Some(place.frame_id),
        document_url: place.document_url.map(|u| stored_url(&u)),
        top_level_url: place.top_level_url.map(|u| stored_url(&u)),
        request_id: request.as_ref().map(|r| r.request_id),
        engine_hash,
        named_by_itself: Some(parsed.has_source_url),
        embedder_url: url_or_none(&parsed.embedder_name),
        start_line: Some(parsed.start_line + 1),
        start_column: Some(parsed.start_column + 1),
        is_module: Some(parsed.is_module),
        source_map_url: url_or_none(&parsed.source_map_url),
        script_id: Some(parsed.script_id),
        call_stack,
        parent_url: parent.or_else(|| request.and_then(|r| r.initiator_url)).map(|u| stored_url(&u)),
        source_outcome: Some(outcome.to_owned()),
        source_error: error,
        source_bytes: bytes,
    }
}
