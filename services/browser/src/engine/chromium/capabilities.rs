//! What this engine can observe, by field group: the states of the `capabilities` table.

use std::collections::BTreeMap;

use crate::engine::Scripts;

/// What a browser was started with.
pub(super) struct Launched {
    /// What was asked of the extension.
    pub scripts: Option<Scripts>,
    /// Whether the extension is there.
    pub extension: bool,
    /// Whether requests go to a proxy.
    pub proxied: bool,
}

/// Told by DevTools, whatever the browser was started with: recorded when a visit asks for its instrument.
pub(super) const DEVTOOLS: &[&str] = &[
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

/// What DevTools does not tell.
pub(super) const UNSUPPORTED: &[&str] = &[
    // Its jar says nothing of changes within a browser context.
    "cookies.changes",
    // The network stack keeps the answers of a look-up to itself.
    "dns.addresses",
    "dns.canonical_names",
    "dns.is_trr",
    "http.webtransport",
    // Only with the Runtime domain, which a page can notice, are stacks told beyond the innermost frame of each part.
    "http.whole_callstacks",
    // What a page sends when it makes room for one of another site: its process is no longer heard by then.
    "http.unload_requests_across_sites",
    // Streams as bodies of requests.
    "http.streamed_post_bodies",
];

/// Told by the network stack, unless a proxy resolves the names.
pub(super) const DNS: &[&str] = &["dns.used_addresses", "dns.errors"];

/// Told by the extension.
const COOKIES: &[&str] = &["cookies.script"];
const JAVASCRIPT: &[&str] = &["javascript.calls", "javascript.callstacks", "javascript.workers"];
const NAVIGATIONS: &[&str] = &["navigations", "navigations.window_sizes"];

/// Field group -> observed, unsupported, off or lost.
pub(super) fn of(launched: &Launched) -> BTreeMap<String, String> {
    let by_extension = |asked: fn(&Scripts) -> bool| match launched.scripts.as_ref().is_some_and(asked) {
        true if launched.extension => "observed",
        true => "lost",
        false => "off",
    };
    let dns = if launched.proxied { "unsupported" } else { "observed" };
    let groups: [(&[&str], &str); 6] = [
        (DEVTOOLS, "observed"),
        (UNSUPPORTED, "unsupported"),
        (DNS, dns),
        (COOKIES, by_extension(|s| s.cookies)),
        (JAVASCRIPT, by_extension(|s| s.javascript)),
        (NAVIGATIONS, by_extension(|s| s.navigations)),
    ];
    let states = groups.iter().flat_map(|(names, state)| names.iter().map(move |name| (*name, *state)));
    states.map(|(name, state)| (name.to_owned(), state.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M01
    #[test]
    fn what_was_not_asked_for_is_off_and_what_did_not_come_up_is_lost() {
        let scripts = Scripts { javascript: true, navigations: true, ..Scripts::default() };
        let here = of(&Launched { scripts: Some(scripts.clone()), extension: true, proxied: false });
        assert_eq!(here["javascript.calls"], "observed");
        assert_eq!(here["cookies.script"], "off");
        assert_eq!(here["dns.used_addresses"], "observed");
        let gone = of(&Launched { scripts: Some(scripts), extension: false, proxied: true });
        assert_eq!(gone["navigations"], "lost");
        assert_eq!(gone["dns.errors"], "unsupported");
        assert_eq!(gone.len(), DEVTOOLS.len() + UNSUPPORTED.len() + DNS.len() + 6);
    }
}
