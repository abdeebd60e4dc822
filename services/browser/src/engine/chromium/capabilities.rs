//! What this engine can observe, by field group.

use std::collections::BTreeMap;

use crate::engine::Scripts;
use crate::engine::capabilities::{Unsupported, by_extension, names, states};

/// What a browser was started with.
pub struct Launched<'a> {
    /// What was asked of the extension.
    pub scripts: Option<&'a Scripts>,
    /// Whether the extension is there.
    pub extension: bool,
    /// Whether requests go to a proxy.
    pub proxied: bool,
    /// Whether calls are seen by the debugger alone.
    pub stealth: bool,
}

/// Told by DevTools, whatever the browser was started with: recorded when a visit asks for its instrument.
const DEVTOOLS: &[&str] = &[
    "http.requests",
    "http.responses",
    "http.redirects",
    "http.failures",
    "http.preflights",
    "http.cache_hits",
    "http.headers_on_the_wire",
    "http.bodies",
    "http.post_bodies",
    "http.service_worker_bodies",
    "http.tls",
    "http.timings",
    "http.initiators",
    "http.callstacks",
    "http.async_callstacks",
    "http.pings",
    "http.unload_requests",
    "http.remote_addresses",
    "http.websocket_frames",
    "http.event_source_messages",
    "http.blocked_cookies",
    "cookies.http",
    "cookies.http_blocked",
    "cookies.partitioned",
    "cookies.snapshots",
    "scripts",
    "scripts.sources",
    "scripts.stacks",
    "scripts.workers",
    "scripts.worklets",
    "scripts.wasm",
];

pub const UNSUPPORTED: &Unsupported = &[
    ("cookies.changes", "the jar tells of no changes within a browser context"),
    ("dns.addresses", "the network stack keeps the answers of a look-up to itself"),
    ("dns.canonical_names", "the network stack keeps the answers of a look-up to itself"),
    ("dns.is_trr", "the network stack does not tell how a name was resolved"),
    ("http.request_header_order", "DevTools tells the headers of a request in the order of their names"),
    (
        "http.service_worker_update_checks",
        "the browser process asks for a registered worker's scripts again by itself; DevTools hears of those that had \
         changed only",
    ),
    ("http.streamed_post_bodies", "DevTools has no bodies of requests that are streams"),
    (
        "http.unload_requests_across_sites",
        "when a document of another site takes the place of one, or a frame of another site is removed, DevTools has let \
         go of the old process before its last handlers run (`pagehide`, `unload`)",
    ),
    ("http.webtransport", "DevTools tells of no streams or datagrams"),
    (
        "http.whole_callstacks",
        "beyond the innermost frame of each part stacks are told with the Runtime domain only, which a page can notice",
    ),
];

/// Told by the network stack, unless a proxy resolves the names.
const DNS: &[&str] = &["dns.used_addresses", "dns.errors"];

/// Told by the extension.
const COOKIES: &[&str] = &["cookies.script"];
const JAVASCRIPT: &[&str] = &[
    "javascript.calls",
    "javascript.callstacks",
    "javascript.workers",
    "javascript.local_workers",
    "javascript.insecure_workers",
];
const NAVIGATIONS: &[&str] = &["navigations", "navigations.window_sizes"];

/// What capture mode `stealth` cannot see: it has no hooks in workers, and none for what is written to cookies.
const NOT_BY_STEALTH: &[&str] = &["cookies.script", "javascript.workers"];

/// Field group -> observed, unsupported, off or lost.
pub fn of(launched: &Launched) -> BTreeMap<String, String> {
    let told = |asked: fn(&Scripts) -> bool| by_extension(launched.scripts, launched.extension, asked);
    let dns = if launched.proxied { "unsupported" } else { "observed" };
    let mut states = states([
        (DEVTOOLS, "observed"),
        (&names(UNSUPPORTED), "unsupported"),
        (DNS, dns),
        (COOKIES, told(|s| s.cookies)),
        (JAVASCRIPT, told(|s| s.javascript)),
        (NAVIGATIONS, told(|s| s.navigations)),
    ]);
    if launched.stealth {
        states.extend(NOT_BY_STEALTH.iter().map(|group| ((*group).to_owned(), "unsupported".to_owned())));
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M01
    #[test]
    fn what_was_not_asked_for_is_off_and_what_did_not_come_up_is_lost() {
        let scripts = Scripts { javascript: true, navigations: true, ..Scripts::default() };
        let here = of(&Launched { scripts: Some(&scripts), extension: true, proxied: false, stealth: false });
        assert_eq!(here["javascript.calls"], "observed");
        assert_eq!(here["cookies.script"], "off");
        assert_eq!(here["dns.used_addresses"], "observed");
        let gone = of(&Launched { scripts: Some(&scripts), extension: false, proxied: true, stealth: true });
        assert_eq!(gone["navigations"], "lost");
        assert_eq!(gone["dns.errors"], "unsupported");
        assert_eq!(gone.len(), DEVTOOLS.len() + UNSUPPORTED.len() + DNS.len() + JAVASCRIPT.len() + 3);
    }
}
