//! Documents that pages lead to, and the scripts they share; nobody visits them first.

use super::{HOST, Page, text};
use crate::expect;

macro_rules! files {
    ($directory:literal, $kind:literal: $($name:literal)*) => {
        &[$(($name, text!($directory, "/", $name, ".", $kind))),*]
    };
}

const DOCUMENTS: &[(&str, &str)] = files!("inner", "html":
    "failures-next" "frame-child" "popup-child" "worker-client" "navigation-refresh" "navigation-form"
    "navigation-end" "js-unload-next" "cache-next" "end" "child" "bystander" "history-next" "refresh-start"
    "interaction" "timecode" "explore" "explore-next"
);

const SCRIPTS: &[(&str, &str)] = files!("scripts", "js":
    "probe" "calls" "traced" "traced-module" "sabotage" "worker" "shared" "sw" "count-worker" "count-service"
    "integrity-vectors" "integrity-vectors-shape" "integrity-vectors-calls" "integrity-vectors-realm" "integrity-realms"
    "integrity-late-worker" "integrity-code"
);

pub(super) fn document(name: &str) -> Option<Page> {
    let (name, html) = *DOCUMENTS.iter().find(|(inner, _)| *inner == name)?;
    let (path, expectation) = ("/p/", expect::from_site);
    Some(Page { name, host: HOST, secure: false, path, done: None, expectation, html, headers: &[] })
}

/// The script of a file name, as `probe.js`.
pub(crate) fn script(file: &str) -> Option<&'static str> {
    let name = file.strip_suffix(".js")?;
    SCRIPTS.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}
