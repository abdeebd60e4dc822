//! What the extension's network instrument can observe, in browsers whose network only extensions are told of.

use super::capabilities::Unsupported;

/// Recorded by the extension.
pub(super) const OBSERVED: &[&str] = &[
    "http.requests",
    "http.responses",
    "http.redirects",
    "http.failures",
    "http.bodies",
    "http.post_bodies",
    "http.request_header_order",
    // What a policy refused before it began: the documents tell, workers do not.
    "http.policy_failures",
    "http.tls",
    "cookies.http",
    "cookies.changes",
    "dns.addresses",
    "dns.canonical_names",
];

/// NULL in the rows: no event tells them.
pub(super) const UNSUPPORTED: &Unsupported = &[
    ("http.callstacks", "webRequest tells no stacks"),
    ("http.cache_sources", "webRequest tells that a cache answered, and not which"),
    ("http.form_bodies", "of forms webRequest tells the fields, and not the bytes"),
    ("http.initiators", "webRequest tells the document, and not what in it asked"),
    ("http.mime_types", "webRequest does not tell what was sniffed"),
    ("http.priorities", "webRequest tells none"),
    ("http.remote_ports", "webRequest tells the address alone"),
    (
        "http.service_worker_answers",
        "of the answers that service workers make webRequest tells neither status nor headers",
    ),
    ("http.timings", "webRequest tells when its events were, and no more"),
    ("http.websocket_frames", "webRequest ends with the handshake"),
    ("http.wire_sizes", "webRequest tells none"),
    ("cookies.http_blocked", "no event tells of cookies that were not taken"),
];
