//! What this engine can observe, by field group.

use std::collections::BTreeMap;

use crate::engine::Scripts;
use crate::engine::capabilities::{Unsupported, by_extension, names, states};
use crate::engine::webrequest;

/// Through the browser's own context, with their partitions.
const JAR: &[&str] = &["cookies.snapshots", "cookies.partitioned"];

/// Told by the extension.
const COOKIES: &[&str] = &["cookies.script"];
const JAVASCRIPT: &[&str] = &["javascript.calls", "javascript.callstacks", "javascript.workers"];
const NAVIGATIONS: &[&str] = &["navigations", "navigations.window_sizes"];

pub const UNSUPPORTED: &Unsupported = &[
    (
        "javascript.local_workers",
        "the scripts of blob: and data: workers are no requests that an extension could change",
    ),
    (
        "javascript.insecure_workers",
        "on http: a request does not say that it is for a worker, but for hosts of this machine",
    ),
    ("scripts", "no means of an extension tells what was compiled"),
];

/// Field group -> observed, unsupported, off or lost. `extension`: it is there.
pub fn of(scripts: Option<&Scripts>, extension: bool) -> BTreeMap<String, String> {
    let told = |asked: fn(&Scripts) -> bool| by_extension(scripts, extension, asked);
    states([
        (webrequest::OBSERVED, told(|s| s.network)),
        (&names(webrequest::UNSUPPORTED), "unsupported"),
        (JAR, "observed"),
        (COOKIES, told(|s| s.cookies)),
        (JAVASCRIPT, told(|s| s.javascript)),
        (NAVIGATIONS, told(|s| s.navigations)),
        (&names(UNSUPPORTED), "unsupported"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M01
    #[test]
    fn what_the_extension_records_is_observed_when_it_is_there_and_asked_to() {
        let scripts = Scripts { javascript: true, network: true, ..Scripts::default() };
        let state = |scripts, extension| of(scripts, extension)["http.bodies"].clone();
        assert_eq!(state(Some(&scripts), true), "observed");
        assert_eq!(state(Some(&scripts), false), "lost");
        let others = Scripts { network: false, ..scripts.clone() };
        assert_eq!(state(Some(&others), true), "off");
        assert_eq!(state(None, false), "off");
        assert_eq!(of(Some(&scripts), true)["http.timings"], "unsupported");
    }
}
