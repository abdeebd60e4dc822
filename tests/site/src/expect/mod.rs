//! What a measurement of a visit must hold, and how much of it a set of rows does hold.
//!
//! [`from_site`] derives the rows from the site's own log and from what the pages reported; [`Expected::score`]
//! compares them with rows observed, given as plain structs or read by [`sqlite::read`].

mod derive;
mod differences;
mod score;
pub mod sqlite;

pub use derive::{downloading, from_site, hanging, one_csp_report};
pub use differences::{Differences, DifferencesError, Judgement};
pub use score::Score;

use serde::{Deserialize, Serialize};

/// The tables compared, named as in the record store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    HttpRequests,
    HttpResponses,
    HttpRedirects,
    HttpFailures,
    Javascript,
    Navigations,
    JavascriptCookies,
    WebsocketFrames,
    /// Not a table: the bodies stored of the responses. None is due; each must be the one that the site sent.
    Bodies,
}

impl Table {
    pub const ALL: [Table; 9] = [
        Table::HttpRequests,
        Table::HttpResponses,
        Table::HttpRedirects,
        Table::HttpFailures,
        Table::Javascript,
        Table::Navigations,
        Table::JavascriptCookies,
        Table::WebsocketFrames,
        Table::Bodies,
    ];

    /// As in the record store, but for the bodies.
    pub fn name(self) -> &'static str {
        match self {
            Table::HttpRequests => "http_requests",
            Table::HttpResponses => "http_responses",
            Table::HttpRedirects => "http_redirects",
            Table::HttpFailures => "http_failures",
            Table::Javascript => "javascript",
            Table::Navigations => "navigations",
            Table::JavascriptCookies => "javascript_cookies",
            Table::WebsocketFrames => "websocket_frames",
            Table::Bodies => "bodies",
        }
    }
}

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

/// Rows of one visit, as recorded or as due.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rows {
    pub http_requests: Vec<Request>,
    pub http_responses: Vec<Response>,
    pub http_redirects: Vec<Redirect>,
    pub http_failures: Vec<Failure>,
    pub javascript: Vec<Calls>,
    pub navigations: Vec<Navigation>,
    pub javascript_cookies: Vec<Cookie>,
    pub websocket_frames: Vec<Frame>,
    pub bodies: Vec<Body>,
}

/// Rows of one visit as recorded. A row of `javascript` has one symbol, and `count` says how often it was seen.
pub type Observed = Rows;

/// Rows a visit must leave, and rows it may.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Expected {
    pub required: Rows,
    /// Rows that are right if they are there: answers of a cache, favicons, what a browser's policy decides.
    pub optional: Rows,
    /// CSP reports the page causes itself; more are caused by us.
    pub csp_reports: usize,
}

/// Field groups of `capabilities` that whole rows depend on: without them the rows are not due.
pub const CAPABILITIES: [&str; 2] = [SOCKETS, WORKERS];

const SOCKETS: &str = "http.websocket_frames";
const WORKERS: &str = "javascript.workers";

impl Expected {
    /// What is due from a browser that has not all of [`CAPABILITIES`].
    #[must_use]
    pub fn with(mut self, has: impl Fn(&str) -> bool) -> Self {
        if !has(SOCKETS) {
            self.required.websocket_frames.clear();
        }
        if !has(WORKERS) {
            self.required.javascript.retain(|calls| !calls.in_worker);
        }
        self
    }
}
