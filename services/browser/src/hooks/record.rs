//! What hooks print: lines, of which those that are JSON objects with a `type` are records.

use serde_json::{Map, Value};

/// Bytes of one line; a longer one is cut there, and is a log line.
pub const MAX_LINE: usize = 1 << 20;

/// What became of a hook, in its own words or the runner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Queued,
    Started,
    Backoff,
    Succeeded,
    Failed,
    Skipped,
    NoResults,
}

impl Status {
    /// Both spellings of no results are read.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "queued" => Self::Queued,
            "started" => Self::Started,
            "backoff" => Self::Backoff,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "skipped" => Self::Skipped,
            "noresults" | "noresult" => Self::NoResults,
            _ => return None,
        })
    }

    /// Whether a hook that ended so is run again by a retry.
    pub fn retried(self) -> bool {
        matches!(self, Self::Failed | Self::Skipped)
    }
}

/// The types of records that hooks are known to print.
pub const KNOWN: [&str; 8] =
    ["ArchiveResult", "Snapshot", "Tag", "Binary", "BinaryRequest", "Machine", "Dependency", "Process"];

/// One record, with the names of its plugin and hook added.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Record {
    /// Its `type`.
    #[serde(skip)]
    pub kind: String,
    /// Whether the type is one of [`KNOWN`]; others are kept, with a warning.
    #[serde(skip)]
    pub known: bool,
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Record {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key).and_then(Value::as_str)
    }

    /// The status of an ArchiveResult; `Err` holds a word that is none.
    pub fn status(&self) -> Option<Result<Status, String>> {
        if self.kind != "ArchiveResult" {
            return None;
        }
        let word = self.text("status").unwrap_or_default();
        Some(Status::parse(word).ok_or_else(|| word.to_owned()))
    }

    /// The depth of a Snapshot, where it names one.
    pub fn depth(&self) -> Option<u64> {
        self.fields.get("depth").or_else(|| self.fields.get("snapshot_depth")).and_then(Value::as_u64)
    }
}

/// Bytes of records that results tell.
const MAX_RECORDS: usize = 1 << 20;

/// As many records as fit into what a result tells, and how many do not.
pub fn bounded<'a>(all: impl Iterator<Item = &'a Record>) -> (Vec<Value>, u64) {
    let (mut records, mut bytes, mut dropped) = (Vec::new(), 0, 0);
    for record in all {
        let record = serde_json::json!(record);
        bytes += record.to_string().len();
        if bytes <= MAX_RECORDS { records.push(record) } else { dropped += 1 }
    }
    (records, dropped)
}

/// One line of output.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    Record(Record),
    /// `COMPUTED:KEY=VALUE` of old hooks.
    Computed {
        key: String,
        value: String,
    },
    Log(String),
}

/// Reads one line. `extra` is added where the record itself does not say otherwise.
pub fn read(line: &[u8], (plugin, hook): (&str, &str), extra: &Value) -> Line {
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    if let Some((key, value)) = text.strip_prefix("COMPUTED:").and_then(|rest| rest.split_once('=')) {
        return Line::Computed { key: key.trim().to_owned(), value: value.trim().to_owned() };
    }
    let parsed = if text.starts_with('{') { serde_json::from_str(text).ok() } else { None };
    let Some(Value::Object(mut fields)) = parsed else { return Line::Log(text.to_owned()) };
    let Some(kind) = fields.get("type").and_then(Value::as_str).map(str::to_owned) else {
        return Line::Log(text.to_owned());
    };
    for (key, value) in extra.as_object().into_iter().flatten() {
        fields.entry(key.clone()).or_insert_with(|| value.clone());
    }
    // Not the hook's to say.
    fields.insert("plugin".into(), plugin.into());
    fields.insert("hook_name".into(), hook.into());
    fields.insert("plugin_hook".into(), format!("{plugin}/{hook}").into());
    let known = KNOWN.contains(&kind.as_str());
    Line::Record(Record { kind, known, fields })
}

/// Cuts a stream of bytes into lines. Lines that are too long come in pieces.
#[derive(Debug, Default)]
pub struct Splitter {
    half: Vec<u8>,
}

impl Splitter {
    /// The lines that `bytes` complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (piece, whole) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            let mut piece = piece;
            while self.half.len() + piece.len() > MAX_LINE {
                let (now, later) = piece.split_at(MAX_LINE - self.half.len());
                self.half.extend_from_slice(now);
                lines.push(std::mem::take(&mut self.half));
                piece = later;
            }
            self.half.extend_from_slice(piece);
            if whole {
                lines.push(std::mem::take(&mut self.half));
            }
        }
        lines
    }

    /// The line that was never ended.
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.half.is_empty()).then_some(self.half)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn line(text: &str) -> Line {
        read(text.as_bytes(), ("p", "h"), &json!({"snapshot_id": "s1", "plugin": "other"}))
    }

    /// A28-A30
    #[test]
    fn objects_with_a_type_are_records_and_all_else_is_log() {
        let Line::Record(record) = line(r#"{"type":"ArchiveResult","status":"succeeded","plugin":"forged"}"#)
        else {
            panic!("a record")
        };
        assert_eq!(record.status(), Some(Ok(Status::Succeeded)));
        assert_eq!(
            Value::Object(record.fields),
            json!({"type":"ArchiveResult","status":"succeeded","plugin":"p",
            "hook_name":"h","plugin_hook":"p/h","snapshot_id":"s1"})
        );
        for text in ["{broken", "[1]", r#"{"a":1}"#, r#"{"type":3}"#, "wget download started", ""] {
            assert_eq!(line(text), Line::Log(text.to_owned()));
        }
        assert!(matches!(line(r#"{"type":"Parrot"}"#), Line::Record(r) if !r.known && r.kind == "Parrot"));
        assert_eq!(line("COMPUTED:A=b=c"), Line::Computed { key: "A".into(), value: "b=c".into() });
    }

    /// A31
    #[test]
    fn both_spellings_of_no_results_are_read() {
        for word in ["noresults", "noresult"] {
            assert_eq!(Status::parse(word), Some(Status::NoResults));
        }
        let all = ["queued", "started", "backoff", "succeeded", "failed", "skipped"];
        assert!(all.iter().all(|w| Status::parse(w).is_some()));
        assert_eq!(Status::parse("great"), None);
    }

    proptest! {
        /// A28: lines come out whole however the pipe cuts them, the last one even without its end.
        #[test]
        fn lines_survive_any_cut(lines in prop::collection::vec("[ -~]{1,20}", 1..20), cut in 1usize..7) {
            let text = lines.join("\n");
            let mut splitter = Splitter::default();
            let mut seen: Vec<Vec<u8>> = text.as_bytes().chunks(cut).flat_map(|c| splitter.push(c)).collect();
            seen.extend(splitter.finish());
            let seen: Vec<_> = seen.into_iter().map(|l| String::from_utf8(l).unwrap()).collect();
            prop_assert_eq!(seen, lines);
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut splitter = Splitter::default();
        let long = vec![b'x'; 2 * MAX_LINE + 5];
        let lines = splitter.push(&long);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE]);
        assert_eq!(splitter.finish().unwrap().len(), 5);
    }
}
