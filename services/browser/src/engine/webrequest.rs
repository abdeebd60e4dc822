//! What the extension's network instrument can observe, in browsers whose network only extensions are told of.

use std::collections::BTreeMap;

use super::Scripts;

/// Recorded by the extension.
const OBSERVED: &[&str] = &[
    "http.requests",
    "http.responses",
    "http.redirects",
    "http.failures",
    "http.bodies",
    "http.post_bodies",
    // What a policy refused before it began: the documents tell, workers do not.
    "http.policy_failures",
    "http.tls",
    "cookies.http",
    "cookies.changes",
    "cookies.partitioned",
    "dns.addresses",
    "dns.canonical_names",
];

/// NULL in the rows: no event tells them.
const UNSUPPORTED: &[&str] = &[
    "http.callstacks",
    "http.cache_sources",
    // Of forms the fields come, and not the bytes.
    "http.form_bodies",
    "http.initiators",
    "http.mime_types",
    "http.priorities",
    "http.remote_ports",
    // Status and headers of the answers that service workers make.
    "http.service_worker_answers",
    "http.timings",
    "http.websocket_frames",
    "http.wire_sizes",
    "cookies.refusals",
];

/// Field group -> observed, unsupported or off. `loaded`: the extension is there.
pub fn capabilities(scripts: Option<&Scripts>, loaded: bool) -> BTreeMap<String, String> {
    let state = match scripts.is_some_and(|scripts| scripts.network) {
        true if loaded => "observed",
        true => "unsupported",
        false => "off",
    };
    let observed = OBSERVED.iter().map(|group| (group, state));
    let unsupported = UNSUPPORTED.iter().map(|group| (group, "unsupported"));
    observed.chain(unsupported).map(|(group, state)| ((*group).to_owned(), state.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_extension_records_is_observed_when_it_is_there_and_asked_to() {
        let scripts = Scripts { javascript: true, network: true, ..Scripts::default() };
        let of = |scripts, loaded| capabilities(scripts, loaded)["http.bodies"].clone();
        assert_eq!(of(Some(&scripts), true), "observed");
        assert_eq!(of(Some(&scripts), false), "unsupported");
        let others = Scripts { network: false, ..scripts.clone() };
        assert_eq!(of(Some(&others), true), "off");
        assert_eq!(of(None, false), "off");
        assert_eq!(capabilities(Some(&scripts), true)["http.timings"], "unsupported");
    }
}
