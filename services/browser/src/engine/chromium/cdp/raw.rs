//! JSON kept as received, decoded when somebody wants it.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;

/// The text of one JSON value. Cheap to clone; owns exactly its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Bytes);

impl RawJson {
    pub(super) fn copy_of(json: &str) -> Self {
        Self(Bytes::copy_from_slice(json.as_bytes()))
    }

    pub fn get(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made from a str")
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes into `T`. Page strings may hold lone surrogates (`"\ud800"`), which Rust strings cannot:
    /// those become U+FFFD.
    pub fn decode<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.0).or_else(|error| match without_lone_surrogates(self.get()) {
            Some(mended) => serde_json::from_str(&mended),
            None => Err(error),
        })
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

fn hex_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `None` when there is nothing to mend.
fn without_lone_surrogates(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut mended = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let Some(unit) = hex_unit(&bytes[at..]) else {
            at += 2;
            continue;
        };
        let low = bytes.get(at + 6..).and_then(hex_unit).is_some_and(|u| (0xDC00..0xE000).contains(&u));
        match unit {
            0xD800..0xDC00 if low => at += 12,
            0xD800..0xE000 => {
                mended.push_str(&json[copied..at]);
                mended.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            _ => at += 6,
        }
    }
    if copied == 0 {
        return None;
    }
    mended.push_str(&json[copied..]);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_kept() {
        let raw = RawJson::copy_of(r#"["\ud800x","\ude00","\ud83d\ude00","\\ud800","\ud800\ud83d\ude00"]"#);
        let texts: Vec<String> = raw.decode().unwrap();
        assert_eq!(texts, ["\u{fffd}x", "\u{fffd}", "\u{1f600}", "\\ud800", "\u{fffd}\u{1f600}"]);
    }
}
