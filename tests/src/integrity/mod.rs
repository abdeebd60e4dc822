//! The integrity suite: hostile pages in real browsers, what each of them must not achieve, and what it did achieve.
//!
//! Every line of `requirements/5-integrity.md` is a [`Line`]: the pages it visits and the judgement of what they left.
//! [`run`] does them all on one browser, and [`Column`]s are printed side by side.

mod code;
mod lab;
mod lines;
mod network;
mod vectors;
mod words;

use std::fmt::Write as _;
use std::time::Duration;

pub use lab::{Lab, LabError, Visited};
pub use vectors::{Answers, Difference};

/// What came of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub id: &'static str,
    pub what: &'static str,
    /// What is wrong; empty: the line holds.
    pub faults: Vec<String>,
    /// What a reader of the table should know: counts, remaining differences by name.
    pub remarks: Vec<String>,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Collects what a line finds.
#[derive(Debug, Default)]
pub struct Findings {
    faults: Vec<String>,
    remarks: Vec<String>,
}

impl Findings {
    pub fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    pub fn remark(&mut self, what: impl Into<String>) {
        self.remarks.push(what.into());
    }

    /// A fault unless both are equal.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, due: &T) {
        if found != due {
            self.fault(format!("{what}: {found:?} instead of {due:?}"));
        }
    }
}

/// One browser in one capture mode.
#[derive(Clone, Debug)]
pub struct Column {
    /// `chromium wrapped`.
    pub name: String,
    /// Of the browser's provenance.
    pub product: String,
    pub verdicts: Vec<Verdict>,
}

impl Column {
    pub fn faults(&self) -> Vec<String> {
        let of = |v: &Verdict| -> Vec<String> {
            v.faults.iter().map(|f| format!("{} {}: {f}", self.name, v.id)).collect()
        };
        self.verdicts.iter().flat_map(of).collect()
    }
}

/// Runs the lines whose ids are asked for (none: all) on one browser.
pub async fn run(lab: &mut Lab, only: &[&str]) -> Column {
    let mut verdicts = Vec::new();
    for line in lines::LINES {
        if !only.is_empty() && !only.contains(&line.id) {
            continue;
        }
        let mut findings = Findings::default();
        if let Err(error) = (line.check)(lab, &mut findings).await {
            findings.fault(error.to_string());
        }
        let Findings { faults, remarks } = findings;
        verdicts.push(Verdict { id: line.id, what: line.what, faults, remarks });
    }
    let (name, product) = lab.browser();
    Column { name, product, verdicts }
}

/// The table of the documentation, in Markdown.
pub fn table(columns: &[Column]) -> String {
    let mut out = String::new();
    let head: String = columns.iter().map(|c| format!(" {} |", c.name)).collect();
    let rule = "---|".repeat(columns.len());
    let _ = writeln!(out, "| line | |{head}\n|---|---|{rule}");
    let lines = columns.first().map(|c| c.verdicts.as_slice()).unwrap_or_default();
    for line in lines {
        let cell = |column: &Column| {
            let Some(verdict) = column.verdicts.iter().find(|v| v.id == line.id) else {
                return " not run |".into();
            };
            let word = if verdict.holds() { "holds" } else { "**fails**" };
            let more = [verdict.faults.as_slice(), verdict.remarks.as_slice()].concat().join("; ");
            match more.is_empty() {
                true => format!(" {word} |"),
                false => format!(" {word}: {} |", more.replace('|', "\\|").replace('\n', " ")),
            }
        };
        let cells: String = columns.iter().map(cell).collect();
        let _ = writeln!(out, "| {} | {} |{cells}", line.id, line.what);
    }
    for column in columns {
        let _ = writeln!(out, "\n{}: {}", column.name, column.product);
    }
    out
}

/// For a page to say that it is done, on a loaded machine.
const PAGE: Duration = Duration::from_secs(90);
