use std::collections::BTreeMap;

use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{
    Callstack, DnsResponse, HttpFailure, HttpRedirect, HttpRequest, HttpResponse, JavascriptCall,
    JavascriptCookie, Navigation, Script, Truncation, Unattributed, WebsocketFrame,
};

/// The rows that a visit left, in the order of their streams.
#[derive(Debug, Default, Clone)]
pub struct Rows(pub Vec<Row>);

macro_rules! pick {
    ($($name:ident: $variant:ident($row:ty)),* $(,)?) => {
        impl Rows {
            $(pub fn $name(&self) -> Vec<&$row> {
                self.0.iter().filter_map(|r| if let Row::$variant(r) = r { Some(r) } else { None }).collect()
            })*
        }
    };
}

pick! {
    requests: HttpRequest(HttpRequest),
    responses: HttpResponse(HttpResponse),
    redirects: HttpRedirect(HttpRedirect),
    failures: HttpFailure(HttpFailure),
    callstacks: Callstack(Callstack),
    frames: WebsocketFrame(WebsocketFrame),
    dns: DnsResponse(DnsResponse),
    cookies: JavascriptCookie(JavascriptCookie),
    javascript: Javascript(JavascriptCall),
    navigations: Navigation(Navigation),
    scripts: Script(Script),
    truncations: Truncation(Truncation),
    unattributed: Unattributed(Unattributed),
}

impl Rows {
    pub fn request(&self, end: &str) -> &HttpRequest {
        let found = self.requests().into_iter().find(|r| r.url.ends_with(end));
        found.unwrap_or_else(|| panic!("no request {end}: {self:#?}"))
    }

    pub fn response(&self, end: &str) -> &HttpResponse {
        let found = self.responses().into_iter().find(|r| r.url.ends_with(end));
        found.unwrap_or_else(|| panic!("no response {end}: {self:#?}"))
    }

    /// Truncations by reason: rows dropped.
    pub fn cuts(&self) -> BTreeMap<&str, i64> {
        let mut cuts = BTreeMap::new();
        for row in self.truncations() {
            *cuts.entry(row.reason.as_str()).or_default() += row.dropped_rows;
        }
        cuts
    }
}
