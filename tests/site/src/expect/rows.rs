//! The rows compared, as plain values.

use std::collections::BTreeMap;

use serde::Serialize;

/// One row of http_requests: one hop of one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Request {
    pub method: String,
    pub url: String,
    /// The browser gave it up before its answer: only the network knows whether it reached the site.
    pub given_up: bool,
}

impl Request {
    pub fn sent(method: &str, url: &str) -> Self {
        Self { method: method.to_owned(), url: url.to_owned(), given_up: false }
    }
}

/// One row of http_responses: a final response, not a redirect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Response {
    pub url: String,
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Redirect {
    pub old: String,
    pub new: String,
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Failure {
    pub url: String,
    pub class: FailureClass,
}

/// What a network error means, whichever browser names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    Refused,
    Dns,
    Aborted,
    Truncated,
    Reset,
    Timeout,
    Blocked,
    Tls,
    Other,
}

impl FailureClass {
    /// Classifies `net::ERR_...` and `NS_ERROR_...` names, and our own snake-case class names.
    pub fn of(error: &str) -> Self {
        let upper = error.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| upper.contains(part));
        match () {
            () if has(&[
                "CONTENT_LENGTH_MISMATCH",
                "INCOMPLETE_CHUNKED",
                "PARTIAL_TRANSFER",
                "TRUNCATED",
            ]) =>
            {
                Self::Truncated
            }
            () if has(&["REFUSED"]) => Self::Refused,
            () if has(&["NAME_NOT_RESOLVED", "UNKNOWN_HOST", "DNS", "NAME_RESOLUTION"]) => Self::Dns,
            () if has(&["BLOCKED", "CSP", "TRACKING"]) => Self::Blocked,
            () if has(&["TIMED_OUT", "TIMEOUT"]) => Self::Timeout,
            () if has(&["RESET", "EMPTY_RESPONSE", "CONNECTION_CLOSED"]) => Self::Reset,
            () if has(&["ABORT"]) => Self::Aborted,
            () if has(&["TLS", "SSL", "CERT", "PKIX", "SEC_ERROR"]) => Self::Tls,
            () => Self::Other,
        }
    }
}

/// Calls of one API. `symbols` are the names it may be recorded under (an interface or the one it inherits from).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Calls {
    pub symbols: Vec<String>,
    /// `get`, `set` or `call`.
    pub operation: String,
    pub count: u64,
    /// Made in a worker; false in rows observed.
    pub in_worker: bool,
}

/// A navigation; the fragment of the URL counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Navigation {
    pub url: String,
    /// `document`, `history`, `fragment`, `srcdoc` or `blank`; `None` where the records do not say.
    pub kind: Option<String>,
}

/// A cookie change. `host` has no leading dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cookie {
    pub name: String,
    pub host: String,
    pub deleted: bool,
    /// `http` or `script`; `None` where the records do not say.
    pub how: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Frame {
    pub url: String,
    /// `sent` or `received`.
    pub direction: String,
    pub payload: String,
}

/// The whole decoded body of a response with status 200, unless it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Body {
    pub url: String,
    /// Lower-case hex.
    pub sha256: String,
}

/// The headers of one message, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Message {
    /// Whose: "GET <url>" of a request, "200 <url>" of an answer.
    pub of: String,
    pub headers: Vec<(String, String)>,
    /// False of headers that the browser knew before it sent them, or by another part of it.
    pub on_the_wire: bool,
    /// The browser gave it up before its answer: only the network knows whether it reached the site.
    pub given_up: bool,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Upload {
    pub method: String,
    pub url: String,
    /// Whole length.
    pub bytes: u64,
    /// Lower-case hex SHA-256 of the first MiB.
    pub sha256: String,
}

/// The fields of a form that was posted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Form {
    pub url: String,
    /// Names and values by the order of the names; of files the name.
    pub fields: BTreeMap<String, Vec<String>>,
}

/// How the name of one hop was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Name {
    pub host: String,
    pub url: String,
    /// The address used; `None`: the look-up failed.
    pub address: Option<String>,
}

/// A script that ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Script {
    /// As in the column; of those that came by a request of their own, whatever asked for it, fetched.
    pub how: String,
    /// Of those that came by a request of their own.
    pub url: Option<String>,
    /// Lower-case hex, of the source.
    pub sha256: String,
}

/// The stack that led to a call or a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Stack {
    /// The symbol called, or the URL asked for.
    pub of: String,
    pub frames: String,
}
