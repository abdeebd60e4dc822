//! From a request that reached the site to what of it goes over the wire: headers, bodies, names.

use std::collections::BTreeMap;

use url::{Host, Url};

use super::{Form, Message, Name, Rows, Upload};
use crate::log::{Hit, sha256_hex};

/// The address of every host.
const ADDRESS: &str = "127.0.0.1";

/// Adds the rows of a hit.
pub(super) fn rows(hit: &Hit, rows: &mut Rows) {
    rows.request_headers.push(message(&hit.method, &hit.url, &hit.headers));
    let body = &hit.request_body;
    if body.len > 0 {
        let (method, url) = (hit.method.clone(), hit.url.clone());
        rows.post_bodies.push(Upload { method, url, bytes: body.len, sha256: sha256_hex(&body.bytes) });
        let kind = hit.header("content-type").unwrap_or_default();
        rows.post_forms.extend(fields(&body.bytes, kind).map(|fields| Form { url: hit.url.clone(), fields }));
    }
    let Some(status) = hit.status else { return };
    if !hit.response_headers.is_empty() {
        rows.response_headers.push(message(&status.to_string(), &hit.url, &hit.response_headers));
        rows.dns_responses.extend(name(&hit.url, Some(ADDRESS)));
    }
}

fn message(what: &str, url: &str, headers: &[(String, String)]) -> Message {
    Message { of: format!("{what} {url}"), headers: headers.to_vec(), on_the_wire: true, given_up: false }
}

/// The look-up for a URL; `None` for those of addresses.
pub(super) fn name(url: &str, address: Option<&str>) -> Option<Name> {
    match Url::parse(url).ok()?.host()? {
        Host::Domain(host) => {
            Some(Name { host: host.to_owned(), url: url.to_owned(), address: address.map(str::to_owned) })
        }
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

/// The fields of a form; `None` of other bodies.
fn fields(body: &[u8], kind: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: String, value: String| fields.entry(name).or_default().push(value);
    if kind.starts_with("application/x-www-form-urlencoded") {
        for (name, value) in url::form_urlencoded::parse(body) {
            add(name.into_owned(), value.into_owned());
        }
    } else {
        let boundary = kind.strip_prefix("multipart/form-data; boundary=")?;
        // Our own pages' forms: files of theirs are text.
        let text = String::from_utf8_lossy(body).into_owned();
        for part in text.split(&format!("--{boundary}")) {
            let Some((head, content)) = part.split_once("\r\n\r\n") else { continue };
            let quoted = |name: &str| Some(head.split_once(name)?.1.split_once('"')?.0.to_owned());
            let Some(name) = quoted(" name=\"") else { continue };
            let content = content.strip_suffix("\r\n").unwrap_or(content);
            add(name, quoted("filename=\"").unwrap_or_else(|| content.to_owned()));
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_and_other_bodies_are_none() {
        let of = |body: &str, kind: &str| fields(body.as_bytes(), kind).map(|f| format!("{f:?}"));
        let urlencoded = of("b=%C3%A9&a=1&b=+2", "application/x-www-form-urlencoded;charset=UTF-8");
        assert_eq!(urlencoded.unwrap(), r#"{"a": ["1"], "b": ["é", " 2"]}"#);
        let parts = "--B\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nv\r\nw\r\n--B\r\n\
            Content-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: a/b\r\n\r\nabc\r\n--B--\r\n";
        let multipart = of(parts, "multipart/form-data; boundary=B");
        assert_eq!(multipart.unwrap(), r#"{"f": ["x.txt"], "n": ["v\r\nw"]}"#);
        assert_eq!(of("a=1", "text/plain"), None);
        assert_eq!(name("http://127.0.0.1:1/", Some(ADDRESS)), None);
        assert_eq!(name("http://a.localhost:1/", None).unwrap().host, "a.localhost");
    }
}
