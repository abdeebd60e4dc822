//! What a run found: sums by table, and what is not as it should be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sonde_site::expect::{Differences, Observed, Score, Table, sqlite};
use sonde_site::{Page, Site};

use crate::format::span;
use crate::report::table;

#[derive(Default)]
struct Sums {
    expected: u64,
    matched: u64,
    observed: u64,
    surplus: u64,
}

/// Pages shown of those that took longest.
const SLOWEST: usize = 8;

/// Problems shown of one table of one page.
const SHOWN: usize = 20;

/// What one run found.
pub struct Report<'a> {
    browser: &'static str,
    differences: &'a Differences,
    file: PathBuf,
    tables: BTreeMap<&'static str, Sums>,
    problems: Vec<String>,
    known: u64,
    /// How long each page took.
    times: Vec<(Duration, &'static str)>,
}

impl<'a> Report<'a> {
    pub fn new(browser: &'static str, differences: &'a Differences, data_dir: &Path) -> Self {
        let file = data_dir.join("crawl.sqlite");
        Self {
            browser,
            differences,
            file,
            tables: BTreeMap::new(),
            problems: Vec::new(),
            known: 0,
            times: Vec::new(),
        }
    }

    /// No difference that is not listed.
    pub fn is_exact(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn praise(&self) -> String {
        match self.known {
            0 => "recall 1.000 and precision 1.000 on every table".to_owned(),
            n => format!("recall 1.000 and precision 1.000 on every table, but for {n} listed rows"),
        }
    }

    /// Compares what a visit left with what it should have.
    pub fn add(&mut self, page: &Page, token: &str, outcome: Result<Duration, String>, site: &Site) {
        let mut problems = site.truth(token).errors;
        match outcome {
            Ok(took) => self.times.push((took, page.name)),
            Err(problem) => problems.push(problem),
        }
        match self.read(token) {
            Ok((observed, stated)) => {
                problems.extend(self.differences.judge_capabilities(self.browser, &stated));
                let has = |capability: &str| stated.get(capability).is_some_and(|state| state == "observed");
                let hidden = |header: &str| self.differences.hides(self.browser, header);
                let expected = page.expected(token, site).with(has).without_headers(hidden);
                let judged =
                    Table::ALL.map(|table| self.judge(page, table, &expected.score(table, &observed)));
                problems.extend(judged.into_iter().flatten());
            }
            Err(error) => problems.push(error.to_string()),
        }
        self.problems.extend(problems.into_iter().map(|problem| format!("{}: {problem}", page.name)));
    }

    /// The rows of a visit, and what its browser stated to observe.
    fn read(&self, token: &str) -> Result<(Observed, BTreeMap<String, String>), sqlite::ReadError> {
        let read = sqlite::read(&self.file, token)?;
        Ok((read.rows, sqlite::capabilities(&self.file, &read.visit_ids)?))
    }

    fn judge(&mut self, page: &Page, table: Table, score: &Score) -> Option<String> {
        let sums = self.tables.entry(table.name()).or_default();
        sums.expected += score.expected;
        sums.matched += score.matched;
        sums.observed += score.observed;
        sums.surplus += score.surplus;
        let judgement = self.differences.judge(self.browser, page.name, table, score);
        self.known += judgement.known;
        if judgement.problems.is_empty() {
            return None;
        }
        let shown: Vec<_> = judgement.problems.iter().take(SHOWN).map(|row| format!("    {row}")).collect();
        Some(format!("{}\n{}", table.name(), shown.join("\n")))
    }

    /// The time of half of the pages, and the pages that took longest.
    pub fn times(&self) -> String {
        let mut times = self.times.clone();
        times.sort();
        let Some((median, _)) = times.get(times.len() / 2) else { return String::new() };
        let slowest = times.iter().rev().take(SLOWEST).map(|(time, page)| format!("{page} {}", span(*time)));
        format!(
            "a page takes {} (median); longest: {}",
            span(*median),
            slowest.collect::<Vec<_>>().join(", ")
        )
    }

    pub fn print(&self) {
        for problem in &self.problems {
            println!("{problem}");
        }
        let mut rows = table(&["table", "expected", "matched", "observed", "surplus", "recall", "precision"]);
        let ratio = |part: u64, whole: u64| {
            format!("{:.3}", if whole == 0 { 1.0 } else { part as f64 / whole as f64 })
        };
        for (name, s) in &self.tables {
            rows.add_row([
                (*name).to_owned(),
                s.expected.to_string(),
                s.matched.to_string(),
                s.observed.to_string(),
                s.surplus.to_string(),
                ratio(s.matched, s.expected),
                ratio(s.observed - s.surplus, s.observed),
            ]);
        }
        println!("{rows}");
    }
}
