//! The reviewed list of what differs between browsers, `expectations.toml`: rows that a page leaves on one browser and
//! not on another, and groups of fields that a browser cannot observe. An entry that is not needed is an error, too.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{CAPABILITIES, Score, Table};

const REVIEWED: &str = include_str!("../../expectations.toml");

/// The whole list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    #[serde(default)]
    unsupported: Vec<Unsupported>,
    #[serde(default)]
    hidden_headers: Vec<HiddenHeaders>,
    #[serde(default)]
    difference: Vec<Difference>,
}

/// Headers of requests that a browser does not tell of, on any page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HiddenHeaders {
    browser: String,
    /// As "Name: value", `*` for any characters.
    headers: Vec<String>,
    reason: String,
}

/// A group of fields that a browser cannot observe, so that no row of it is due.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsupported {
    browser: String,
    capability: String,
    reason: String,
}

/// Rows of one table that some pages leave out, or leave besides.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    browser: String,
    pages: Vec<String>,
    table: Table,
    #[serde(default)]
    missing: Vec<String>,
    #[serde(default)]
    surplus: Vec<String>,
    /// Rows that are missing at times: which, the browser itself does not know beforehand.
    #[serde(default)]
    at_times_missing: Vec<String>,
    reason: String,
}

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DifferencesError {
    #[error("tests/site/expectations.toml: {0}")]
    Malformed(#[from] toml::de::Error),
    #[error("tests/site/expectations.toml: {0}")]
    Wrong(String),
}

/// What is left of a comparison once the listed differences are taken away.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Rows missing or surplus that are not listed, and entries that were not needed.
    pub problems: Vec<String>,
    /// Listed rows that were met.
    pub known: u64,
}

impl Differences {
    /// The reviewed list of this repository.
    pub fn reviewed() -> Result<Self, DifferencesError> {
        Self::parse(REVIEWED)
    }

    fn parse(text: &str) -> Result<Self, DifferencesError> {
        let list: Self = toml::from_str(text)?;
        list.check().map_err(DifferencesError::Wrong)?;
        Ok(list)
    }

    fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for entry in &self.difference {
            let Difference { browser, pages, table, missing, surplus, at_times_missing, reason } = entry;
            let rows = [missing, surplus, at_times_missing];
            let place = format!("{browser}, {}, {}", pages.join(" "), table.name());
            if reason.is_empty() || pages.is_empty() || rows.iter().all(|rows| rows.is_empty()) {
                return Err(format!("{place}: give pages, rows and a reason"));
            }
            for page in pages {
                if crate::pages::page(page).is_none() {
                    return Err(format!("{place}: there is no page {page:?}"));
                }
                if !seen.insert((browser, page, table.name())) {
                    return Err(format!("{browser}, {page}, {}: two entries", table.name()));
                }
            }
        }
        for entry in &self.hidden_headers {
            if entry.headers.is_empty() || entry.reason.is_empty() {
                return Err(format!("hidden headers of {}: give headers and a reason", entry.browser));
            }
        }
        for entry in &self.unsupported {
            if !CAPABILITIES.contains(&entry.capability.as_str()) || entry.reason.is_empty() {
                return Err(format!(
                    "unsupported {:?}: one of {CAPABILITIES:?}, with a reason",
                    entry.capability
                ));
            }
        }
        Ok(())
    }

    /// Whether a browser is listed as able to observe a group of fields.
    pub fn supports(&self, browser: &str, capability: &str) -> bool {
        !self.unsupported.iter().any(|entry| entry.browser == browser && entry.capability == capability)
    }

    /// Whether a header of a request, as "Name: value", is listed as one that a browser does not tell of.
    pub fn hides(&self, browser: &str, header: &str) -> bool {
        let own = self.hidden_headers.iter().filter(|entry| entry.browser == browser);
        own.flat_map(|entry| &entry.headers).any(|pattern| matches(pattern, header))
    }

    /// Holds the capabilities that a browser stated against the list. Empty when they agree.
    pub fn judge_capabilities(&self, browser: &str, stated: &BTreeMap<String, String>) -> Vec<String> {
        let differs = |capability: &&str| {
            let state = stated.get(*capability).map_or("missing", String::as_str);
            let listed = if self.supports(browser, capability) { "observed" } else { "unsupported" };
            (state != listed).then(|| format!("capability {capability} is {state}, and listed as {listed}"))
        };
        CAPABILITIES.iter().filter_map(differs).collect()
    }

    /// Holds one table of one page against the list.
    pub fn judge(&self, browser: &str, page: &str, table: Table, score: &Score) -> Judgement {
        let mut judgement = Judgement::default();
        let listed = |entry: &&Difference| {
            entry.browser == browser && entry.table == table && entry.pages.iter().any(|name| name == page)
        };
        let entry = self.difference.iter().find(listed);
        let (missing, surplus) =
            entry.map_or((&[][..], &[][..]), |entry| (entry.missing.as_slice(), entry.surplus.as_slice()));
        let at_times = entry.map_or(&[][..], |entry| entry.at_times_missing.as_slice());
        let (known, others): (Vec<String>, Vec<String>) = score
            .missing_rows
            .iter()
            .cloned()
            .partition(|row| at_times.iter().any(|pattern| matches(pattern, row)));
        judgement.known += known.len() as u64;
        compare("missing", &others, missing, &mut judgement);
        compare("surplus", &score.surplus_rows, surplus, &mut judgement);
        judgement
    }
}

/// Each pattern takes one row; what is left on either side is a problem.
fn compare(what: &str, rows: &[String], patterns: &[String], into: &mut Judgement) {
    let mut left: Vec<&String> = rows.iter().collect();
    for pattern in patterns {
        match left.iter().position(|row| matches(pattern, row)) {
            Some(at) => {
                left.remove(at);
                into.known += 1;
            }
            None => into.problems.push(format!("not {what}, though listed: {pattern}")),
        }
    }
    into.problems.extend(left.into_iter().map(|row| format!("{what} {row}")));
}

/// `*` stands for any characters.
fn matches(pattern: &str, row: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = row.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reviewed_list_is_well_formed() {
        Differences::reviewed().unwrap();
    }

    #[test]
    fn a_listed_row_is_known_an_unlisted_one_and_an_unexpected_pass_are_problems() {
        let list = Differences::parse(
            "[[difference]]\nbrowser = \"firefox\"\npages = [\"img\"]\ntable = \"http_requests\"\n\
             missing = [\"GET http://*/a?* x1\"]\nreason = \"r\"\n",
        )
        .unwrap();
        let score = |rows: &[&str]| Score {
            missing_rows: rows.iter().map(|row| (*row).to_owned()).collect(),
            ..Score::default()
        };
        let judge = |browser, page, rows: &[&str]| {
            let Judgement { problems, known } = list.judge(browser, page, Table::HttpRequests, &score(rows));
            (problems.len(), known)
        };
        assert_eq!(judge("firefox", "img", &["GET http://h:1/a?v=t x1"]), (0, 1));
        assert_eq!(judge("firefox", "img", &["GET http://h:1/a?v=t x2"]), (2, 0), "the count is part of it");
        assert_eq!(judge("firefox", "img", &["GET http://h:1/a?v=t x1", "GET http://h/b x1"]), (1, 1));
        assert_eq!(judge("firefox", "img", &[]), (1, 0), "an unexpected pass");
        assert_eq!(judge("chromium", "img", &["GET http://h:1/a?v=t x1"]), (1, 0));
        assert_eq!(judge("chromium", "img", &[]), (0, 0));
    }

    #[test]
    fn a_row_that_is_missing_at_times_may_be_there() {
        let list = Differences::parse(
            "[[difference]]\nbrowser = \"chromium\"\npages = [\"img\"]\ntable = \"dns_responses\"\n\
             at_times_missing = [\"a *\"]\nreason = \"r\"\n",
        )
        .unwrap();
        let judge = |rows: &[&str]| {
            let missing_rows = rows.iter().map(|row| (*row).to_owned()).collect();
            let score = Score { missing_rows, ..Score::default() };
            let Judgement { problems, known } = list.judge("chromium", "img", Table::DnsResponses, &score);
            (problems.len(), known)
        };
        assert_eq!((judge(&[]), judge(&["a 1"]), judge(&["b 1"])), ((0, 0), (0, 1), (1, 0)));
    }

    #[test]
    fn wrong_entries_are_refused() {
        let entry = |page: &str, more: &str| {
            let head =
                format!("[[difference]]\nbrowser = \"b\"\npages = [\"{page}\"]\ntable = \"navigations\"\n");
            Differences::parse(&format!("{head}{more}")).unwrap_err().to_string()
        };
        assert!(entry("nowhere", "missing = [\"x\"]\nreason = \"r\"").contains("no page"));
        assert!(entry("img", "missing = [\"x\"]\nreason = \"\"").contains("a reason"));
        assert!(entry("img", "reason = \"r\"").contains("rows"));
        assert!(entry("img", "absent = []\nreason = \"r\"").contains("absent"));
    }

    #[test]
    fn a_browser_that_learns_something_is_noticed() {
        let list = Differences::parse(
            "[[unsupported]]\nbrowser = \"firefox\"\ncapability = \"javascript.workers\"\nreason = \"r\"\n",
        )
        .unwrap();
        let stated = |workers: &str| {
            CAPABILITIES
                .map(|group| {
                    let state = if group == "javascript.workers" { workers } else { "observed" };
                    (group.to_owned(), state.to_owned())
                })
                .into()
        };
        assert!(list.judge_capabilities("firefox", &stated("unsupported")).is_empty());
        assert_eq!(list.judge_capabilities("firefox", &stated("observed")).len(), 1);
        assert_eq!(list.judge_capabilities("chromium", &stated("unsupported")).len(), 1);
    }
}
