//! What a measurement of a visit must hold, and how much of it a set of rows does hold.
//!
//! [`from_site`] derives the rows from the site's own log and from what the pages reported; [`Expected::score`]
//! compares them with rows observed, given as plain structs or read by [`sqlite::read`].

mod code;
mod derive;
mod differences;
mod keys;
mod rows;
mod score;
pub mod sqlite;
mod wire;

pub use derive::{downloading, from_site, hanging, one_csp_report};
pub use differences::{Differences, DifferencesError, Judgement};
pub use rows::{
    Body, Calls, Cookie, Failure, FailureClass, Form, Frame, Message, Name, Navigation, Redirect, Request,
    Response, Script, Stack, Upload,
};
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
    DnsResponses,
    Scripts,
    /// Of requests that a page told the stack of.
    Callstacks,
    /// Not a table: the bodies stored of the responses. None is due; each must be the one that the site sent.
    Bodies,
    /// Not a table: the columns `headers` of requests, and of responses and redirects.
    RequestHeaders,
    ResponseHeaders,
    /// Not tables: the order of their names.
    RequestHeaderOrder,
    ResponseHeaderOrder,
    /// Not a table: the columns `post_body_raw` and `post_body` of requests.
    PostBodies,
    PostForms,
    /// Not a table: the columns of `javascript` that say where a call came from, of calls that a page told the stack of.
    CallSites,
}

impl Table {
    pub const ALL: [Table; 19] = [
        Table::HttpRequests,
        Table::HttpResponses,
        Table::HttpRedirects,
        Table::HttpFailures,
        Table::Javascript,
        Table::Navigations,
        Table::JavascriptCookies,
        Table::WebsocketFrames,
        Table::DnsResponses,
        Table::Scripts,
        Table::Callstacks,
        Table::Bodies,
        Table::RequestHeaders,
        Table::ResponseHeaders,
        Table::RequestHeaderOrder,
        Table::ResponseHeaderOrder,
        Table::PostBodies,
        Table::PostForms,
        Table::CallSites,
    ];

    /// As in the record store, or a name of ours for what is only some columns.
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
            Table::DnsResponses => "dns_responses",
            Table::Scripts => "scripts",
            Table::Callstacks => "callstacks",
            Table::Bodies => "bodies",
            Table::RequestHeaders => "request_headers",
            Table::ResponseHeaders => "response_headers",
            Table::RequestHeaderOrder => "request_header_order",
            Table::ResponseHeaderOrder => "response_header_order",
            Table::PostBodies => "post_bodies",
            Table::PostForms => "post_forms",
            Table::CallSites => "call_sites",
        }
    }
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
    pub dns_responses: Vec<Name>,
    pub scripts: Vec<Script>,
    pub callstacks: Vec<Stack>,
    pub bodies: Vec<Body>,
    pub request_headers: Vec<Message>,
    pub response_headers: Vec<Message>,
    pub post_bodies: Vec<Upload>,
    pub post_forms: Vec<Form>,
    pub call_sites: Vec<Stack>,
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
    /// URLs of requests of which no headers are due: they reached nobody, or their visit ended by them.
    pub unreached: Vec<String>,
    /// The browser does not tell in which order it sent the headers of requests.
    pub unordered: bool,
}

/// Field groups of `capabilities` that whole rows depend on: without them the rows are not due.
pub const CAPABILITIES: [&str; 5] = [SOCKETS, WORKERS, STACKS, SCRIPTS, ORDER];

const SOCKETS: &str = "http.websocket_frames";
const WORKERS: &str = "javascript.workers";
const STACKS: &str = "http.callstacks";
const SCRIPTS: &str = "scripts";
const ORDER: &str = "http.request_header_order";

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
        if !has(STACKS) {
            self.required.callstacks.clear();
        }
        self.unordered = !has(ORDER);
        if !has(SCRIPTS) {
            self.required.scripts.clear();
        }
        self
    }

    /// Without headers of requests, each as "Name: value", that are not told.
    #[must_use]
    pub fn without_headers(mut self, hidden: impl Fn(&str) -> bool) -> Self {
        for message in self.required.request_headers.iter_mut().chain(&mut self.optional.request_headers) {
            message.headers.retain(|(name, value)| !hidden(&format!("{name}: {value}")));
        }
        self
    }
}
