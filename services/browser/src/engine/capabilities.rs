//! What engines can observe, by field group: the states of the `capabilities` table, and their page of the docs.

use std::collections::BTreeMap;

use super::Scripts;

/// Groups that an engine cannot observe, each with why.
pub(super) type Unsupported = [(&'static str, &'static str)];

/// The state of what the extension records. `loaded`: it is there.
pub(super) fn by_extension(
    scripts: Option<&Scripts>,
    loaded: bool,
    asked: fn(&Scripts) -> bool,
) -> &'static str {
    match scripts.is_some_and(asked) {
        true if loaded => "observed",
        true => "lost",
        false => "off",
    }
}

/// Field group -> state.
pub(super) fn states<'a>(
    groups: impl IntoIterator<Item = (&'a [&'a str], &'a str)>,
) -> BTreeMap<String, String> {
    let states = groups.into_iter().flat_map(|(names, state)| names.iter().map(move |name| (*name, state)));
    states.map(|(name, state)| (name.to_owned(), state.to_owned())).collect()
}

/// The names alone.
pub(super) fn names(unsupported: &Unsupported) -> Vec<&'static str> {
    unsupported.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::chromium::capabilities::Launched;
    use crate::engine::{chromium, firefox, webrequest};

    const PAGE: &str = "docs/capabilities.md";
    const HEAD: &str = "# What each browser can observe

The table `capabilities` says this of every browser of a crawl: `observed` groups are recorded when a visit asks for their
instrument, `unsupported` ones cannot be told by the browser, for the reason given here. A group that was not asked for
is `off`; one that was asked for and did not come up is `lost`. A browser behind a proxy leaves the names to it: then
`dns.used_addresses` and `dns.errors` are `unsupported` on Chromium. So are `javascript.workers` and `cookies.script` in
Chromium's capture mode `stealth`.

A test visits a page that provokes every group and compares what came of it with what is said here.
This page is written by `SONDE_UPDATE_DOCS=1 cargo test -p sonde-browser --lib capabilities`.

| field group | Chromium | Firefox |
| --- | --- | --- |
";

    fn told(states: BTreeMap<String, String>, reasons: &[&Unsupported]) -> BTreeMap<String, String> {
        let reasons: BTreeMap<&str, &str> = reasons.iter().flat_map(|r| r.iter().copied()).collect();
        let told = states.into_iter().map(|(group, state)| {
            let said = match reasons.get(group.as_str()) {
                Some(reason) => format!("{state}: {reason}"),
                None => state,
            };
            (group, said)
        });
        told.collect()
    }

    fn page() -> String {
        let scripts = Scripts {
            javascript: true,
            cookies: true,
            navigations: true,
            network: true,
            ..Scripts::default()
        };
        let launched = Launched { scripts: Some(&scripts), extension: true, proxied: false, stealth: false };
        let chromium = told(chromium::capabilities::of(&launched), &[chromium::capabilities::UNSUPPORTED]);
        let reasons = [webrequest::UNSUPPORTED, firefox::capabilities::UNSUPPORTED];
        let firefox = told(firefox::capabilities::of(Some(&scripts), true), &reasons);
        let groups: std::collections::BTreeSet<&String> = chromium.keys().chain(firefox.keys()).collect();
        let of = |told: &BTreeMap<String, String>, group: &str| {
            told.get(group).cloned().unwrap_or_else(|| "not told apart".to_owned())
        };
        let row =
            |group: &String| format!("| `{group}` | {} | {} |\n", of(&chromium, group), of(&firefox, group));
        groups.into_iter().map(row).fold(HEAD.to_owned(), |page, row| page + &row)
    }

    /// M01: the docs say what the code says, and why not.
    #[test]
    fn the_page_of_the_docs_is_what_the_engines_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
        let page = page();
        if std::env::var_os("SONDE_UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "{PAGE} is stale: SONDE_UPDATE_DOCS=1 cargo test -p sonde-browser --lib capabilities"
        );
    }

    #[test]
    fn every_unsupported_group_says_why() {
        for line in page().lines() {
            for cell in line.split(" | ") {
                assert_ne!(cell.trim_end_matches(" |"), "unsupported", "{line}");
            }
        }
    }
}
