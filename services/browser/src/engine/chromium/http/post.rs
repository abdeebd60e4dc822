//! Bodies of requests: parts as sent, and the fields of forms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

/// The columns of a request's body.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PostBody {
    /// JSON object of name to array of values; of forms only.
    pub fields: Option<String>,
    /// JSON array of [file name or null, base64].
    pub raw: Option<String>,
    /// Whole length.
    pub bytes: i64,
    /// Bytes that the cap cut off.
    pub cut: i64,
}

/// Builds the columns; the form is parsed from the body within the cap.
pub(super) fn columns(parts: &[Vec<u8>], content_type: Option<&str>, cap: usize) -> PostBody {
    let bytes: usize = parts.iter().map(Vec::len).sum();
    let mut left = cap;
    let mut raw = Vec::with_capacity(parts.len());
    let mut whole = Vec::with_capacity(bytes.min(cap));
    for part in parts {
        let kept = &part[..part.len().min(left)];
        left -= kept.len();
        raw.push((None::<String>, BASE64.encode(kept)));
        whole.extend_from_slice(kept);
    }
    let fields = content_type.and_then(|kind| fields(&whole, kind));
    PostBody {
        fields: fields.map(|f| Value::Object(f).to_string()),
        raw: Some(serde_json::to_string(&raw).expect("strings are serialisable")),
        bytes: bytes as i64,
        cut: bytes.saturating_sub(cap) as i64,
    }
}

fn fields(body: &[u8], content_type: &str) -> Option<Map<String, Value>> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let mut found = Map::new();
    let mut add = |name: String, value: String| {
        let values = found.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        values.as_array_mut().expect("made as an array").push(Value::String(value));
    };
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        for (name, value) in url::form_urlencoded::parse(body) {
            add(name.into_owned(), value.into_owned());
        }
    } else if kind.eq_ignore_ascii_case("multipart/form-data") {
        for (name, value) in multipart(body, parameter(content_type, "boundary")?) {
            add(name, value);
        }
    } else {
        return None;
    }
    Some(found)
}

fn parameter<'a>(header: &'a str, wanted: &str) -> Option<&'a str> {
    header.split(';').skip(1).find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Fields of a multipart form; of files the file name.
fn multipart(body: &[u8], boundary: &str) -> Vec<(String, String)> {
    let delimiter = format!("--{boundary}").into_bytes();
    let mut found = Vec::new();
    let mut rest = body;
    while let Some(at) = find(rest, &delimiter) {
        rest = &rest[at + delimiter.len()..];
        let end = find(rest, &delimiter).unwrap_or(rest.len());
        let Some(head) = find(&rest[..end], b"\r\n\r\n") else { continue };
        let content = &rest[head + 4..end];
        let content = content.strip_suffix(b"\r\n").unwrap_or(content);
        let head = String::from_utf8_lossy(&rest[..head]);
        let disposition = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let Some(name) = disposition.and_then(|d| parameter(d, "name")) else { continue };
        let value = match disposition.and_then(|d| parameter(d, "filename")) {
            Some(file) => file.to_owned(),
            None => String::from_utf8_lossy(content).into_owned(),
        };
        found.push((name.to_owned(), value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_become_fields_and_other_bodies_stay_raw() {
        let form = columns(&[b"a=1&b=%C3%A9&a=+2".to_vec()], Some("application/x-www-form-urlencoded"), 99);
        assert_eq!(form.fields.unwrap(), r#"{"a":["1"," 2"],"b":["é"]}"#);
        let raw = columns(&[vec![0, 255, 1]], Some("application/octet-stream"), 99);
        assert_eq!((raw.fields, raw.raw.unwrap(), raw.bytes), (None, r#"[[null,"AP8B"]]"#.into(), 3));
    }

    #[test]
    fn multipart_gives_values_and_file_names() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nv;\r\nw\r\n--B\r\n\
            Content-Disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\nContent-Type: a/b\r\n\r\nabc\r\n--B--\r\n";
        let form = columns(&[body.into()], Some("multipart/form-data; boundary=B"), 9999);
        assert_eq!(form.fields.unwrap(), r#"{"f":["x.bin"],"n":["v;\r\nw"]}"#);
    }

    #[test]
    fn a_cap_cuts_the_raw_body_and_says_how_much() {
        let cut = columns(&[b"abc".to_vec(), b"def".to_vec()], None, 4);
        assert_eq!((cut.raw.unwrap(), cut.bytes, cut.cut), (r#"[[null,"YWJj"],[null,"ZA=="]]"#.into(), 6, 2));
    }
}
