//! Checks of cookies and request headers.

use super::{FieldErrors, MAX_URL};
use crate::visit::v1::{Cookie, GetCookiesCommand, SameSite, SetCookiesCommand, SetHeadersCommand};

const MAX_COOKIES: usize = 1000;
const MAX_PAIR: usize = 4096;
const MAX_DOMAIN: usize = 253;
const MAX_PATH: usize = 1024;
const MAX_HEADERS: usize = 100;
const MAX_HEADER_NAME: usize = 256;
const MAX_HEADER_VALUE: usize = 8192;

/// Those that are of the connection or of the jar, not of a request.
const NOT_OURS: &[&str] = &[
    "connection",
    "content-length",
    "cookie",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn get_cookies_errors(get: &GetCookiesCommand, path: &str, errors: &mut FieldErrors) {
    if !get.domain.is_empty() {
        domain(&get.domain, &format!("{path}.domain"), errors);
    }
}

pub(super) fn set_cookies_errors(set: &SetCookiesCommand, path: &str, errors: &mut FieldErrors) {
    if set.cookies.is_empty() || set.cookies.len() > MAX_COOKIES {
        errors.push(format!("{path}.cookies"), format!("1 to {MAX_COOKIES}"));
    }
    for (i, cookie) in set.cookies.iter().enumerate() {
        cookie_errors(cookie, &format!("{path}.cookies[{i}]"), errors);
    }
}

fn cookie_errors(cookie: &Cookie, path: &str, errors: &mut FieldErrors) {
    let of_pair = |text: &str| text.chars().any(|c| c.is_control() || c == ';');
    if of_pair(&cookie.name) || cookie.name.contains('=') {
        errors.push(format!("{path}.name"), "has control characters, \"=\" or \";\" in it");
    }
    if of_pair(&cookie.value) {
        errors.push(format!("{path}.value"), "has control characters or \";\" in it");
    }
    let pair = cookie.name.len() + cookie.value.len();
    if pair == 0 || pair > MAX_PAIR {
        errors.push(path, format!("name and value are {pair} bytes long: 1 to {MAX_PAIR}"));
    }
    domain(&cookie.domain, &format!("{path}.domain"), errors);
    let fine = cookie.path.is_empty() || cookie.path.starts_with('/');
    if !fine || cookie.path.len() > MAX_PATH || of_pair(&cookie.path) {
        errors
            .push(format!("{path}.path"), format!("begins with \"/\" and is at most {MAX_PATH} bytes long"));
    }
    let prefixed =
        |prefix: &str| cookie.name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
    let of_host = prefixed("__Host-");
    if of_host && (cookie.domain.starts_with('.') || !matches!(cookie.path.as_str(), "" | "/")) {
        errors.push(format!("{path}.name"), "__Host- is for one host and the path \"/\"");
    }
    if (of_host || prefixed("__Secure-")) && !cookie.secure {
        errors.push(format!("{path}.secure"), "a cookie of that name must be secure");
    }
    if cookie.same_site() == SameSite::None && !cookie.secure {
        errors.push(format!("{path}.secure"), "a cookie for all sites must be secure");
    }
    if let Some(partition) = &cookie.partition {
        if !cookie.secure {
            errors.push(format!("{path}.secure"), "a partitioned cookie must be secure");
        }
        if !is_site(&partition.top_level_site) {
            let path = format!("{path}.partition.top_level_site");
            errors.push(path, "scheme and registrable domain, as https://example.org");
        }
    }
    if let Some(expires) = &cookie.expires
        && !(0..1_000_000_000).contains(&expires.nanos)
    {
        errors.push(format!("{path}.expires"), "is no time");
    }
}

fn domain(value: &str, path: &str, errors: &mut FieldErrors) {
    let host = value.strip_prefix('.').unwrap_or(value);
    let of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if host.is_empty() || value.len() > MAX_DOMAIN || !host.chars().all(of_host) || host.starts_with('.') {
        let wanted = format!("a host name in ASCII, as example.org or .example.org, 1 to {MAX_DOMAIN} bytes");
        errors.push(path, wanted);
    }
}

fn is_site(value: &str) -> bool {
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    value.len() <= MAX_URL
        && host.is_some_and(|h| {
            !h.is_empty()
                && !h.contains(|c: char| c.is_control() || c.is_whitespace() || "/?#@,()".contains(c))
        })
}

pub(super) fn set_headers_errors(set: &SetHeadersCommand, path: &str, errors: &mut FieldErrors) {
    if set.headers.len() > MAX_HEADERS {
        errors.push(format!("{path}.headers"), format!("at most {MAX_HEADERS}"));
    }
    for (i, header) in set.headers.iter().enumerate() {
        let path = format!("{path}.headers[{i}]");
        let name = header.name.to_ascii_lowercase();
        if !is_token(&name) {
            let wanted = format!("letters, digits and !#$%&'*+-.^_`|~, 1 to {MAX_HEADER_NAME}");
            errors.push(format!("{path}.name"), wanted);
        } else if NOT_OURS.contains(&name.as_str()) || name.starts_with("proxy-") {
            errors.push(format!("{path}.name"), format!("{} is the browser's own to send", header.name));
        } else if set.headers[..i].iter().any(|h| h.name.eq_ignore_ascii_case(&name)) {
            errors.push(format!("{path}.name"), format!("{} is there twice", header.name));
        }
        let visible = header.value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b));
        let fits = (1..=MAX_HEADER_VALUE).contains(&header.value.len());
        if !fits || !visible || header.value.trim() != header.value {
            let wanted =
                format!("1 to {MAX_HEADER_VALUE} bytes of visible ASCII, spaces and tabs, neither at an end");
            errors.push(format!("{path}.value"), wanted);
        }
    }
}

fn is_token(name: &str) -> bool {
    (1..=MAX_HEADER_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
