//! The lines of the suite, and those about calls.

use std::collections::BTreeMap;
use std::pin::Pin;

use sonde_proto::visit::v1::{BrowserKind, Instruments};
use sonde_site::expect::Table;

use super::lab::{Lab, LabError};
use super::{Findings, code, network, vectors, words};

type Judged<'a> = Pin<Box<dyn Future<Output = Result<(), LabError>> + 'a>>;

/// One line of `requirements/5-integrity.md`.
pub struct Line {
    pub id: &'static str,
    pub what: &'static str,
    pub check: for<'a> fn(&'a mut Lab, &'a mut Findings) -> Judged<'a>,
}

macro_rules! lines {
    ($($id:literal $what:literal $check:path;)*) => {
        pub const LINES: &[Line] = &[$(Line { id: $id, what: $what, check: |lab, findings| Box::pin($check(lab, findings)) }),*];
    };
}

lines! {
    "I1" "a page cannot suppress records" suppressed;
    "I2" "a page cannot forge records" words::forged;
    "I3" "calls in new realms are seen" realms;
    "I4" "strict policies are kept and instrumented" policies;
    "I5" "executed code is stored whatever way it came" code::executed;
    "I6" "no footprint in the document" footprint;
    "I7" "functions are like the browser's own" functions;
    "I8" "the environment is honest and recorded" environment;
    "I9" "recorded strings never act" words::strings;
    "I10" "HTTP rows agree with the site's log" network::log;
    "I11" "serialising runs no page code" words::arguments;
    "I12" "floods are counted exactly" floods;
    "I13" "poisoned helpers change nothing" words::poisoned;
    "I14" "late records never reach the next visit" network::late;
    "I15" "bodies that begin alike are two" network::alike;
    "I16" "ordinals are contiguous" network::ordinals;
    "I17" "every response says what became of its body" network::outcomes;
    "I18" "calls until the very end are delivered" endings;
}

const CALLS: &[Table] = &[Table::Javascript];

async fn suppressed(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    for page in ["hostile-control", "hostile-suppress-before", "hostile-suppress-after"] {
        lab.watch(page, "").await?.score(CALLS, findings)?;
    }
    Ok(())
}

async fn realms(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let mut kinds = 1;
    let mut index = 0;
    let mut silent = Vec::new();
    while index < kinds {
        let visited = lab.watch("integrity-realms", &format!("&n={index}")).await?;
        let truth = visited.truth();
        let note = truth.notes.first().cloned().unwrap_or_default();
        let mut words = note.split(' ').skip(1);
        let name = words.next().unwrap_or_default().to_owned();
        kinds = words.last().and_then(|n| n.parse().ok()).unwrap_or(0);
        if kinds == 0 {
            findings.fault(format!("kind {index} told nothing of itself: {note:?}"));
            return Ok(());
        }
        let made = truth.calls.get("get window.navigator.userAgent").copied().unwrap_or(0);
        let sql = "SELECT count(*) FROM javascript WHERE visit_id = ?1 AND symbol = 'window.navigator.userAgent' AND operation = 'get'";
        let recorded = visited.one::<i64>(sql)?;
        if made == 0 {
            silent.push(name);
        } else if recorded != i64::try_from(made).unwrap_or(i64::MAX) {
            findings.fault(format!("{name}: {recorded} of {made} calls recorded"));
        }
        index += 1;
    }
    findings.remark(format!("{kinds} ways to a realm"));
    unseen(lab, findings).await?;
    if !silent.is_empty() {
        findings.remark(format!("no realm to be had by {}", silent.join(", ")));
    }
    Ok(())
}

/// Symbols that the engine saw used and no row tells of; where that was not compared, why. The first documents of popups
/// are marked by their URLs.
const MARKED: &str = "SELECT subject FROM truncations WHERE visit_id = ?1 AND table_name = 'javascript' \
                      AND (reason = 'bypass_possible' AND subject NOT LIKE '%:%' OR reason = 'feature_use_unchecked') \
                      ORDER BY subject";

/// What no recorder sees is told by the engine, where that can tell.
async fn unseen(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let visited = lab.audit("integrity-unseen").await?;
    let sql = "SELECT count(*) FROM javascript WHERE visit_id = ?1 \
               AND symbol IN ('window.navigator.platform', 'window.navigator.hardwareConcurrency')";
    let recorded = visited.one::<i64>(sql)?;
    let marked = visited.all::<String>(MARKED)?;
    match (lab.kind(), recorded) {
        (BrowserKind::Chromium, 0) => {
            let due =
                ["window.navigator.hardwareConcurrency", "window.navigator.platform"].map(str::to_owned);
            findings.equal("calls in a worker that go unseen: marked", &marked, &due.to_vec());
            findings.remark("unseen calls in a worker are marked");
        }
        (_, 5) => findings.equal("calls in a worker that are seen: marked", &marked, &Vec::new()),
        _ => findings.fault(format!("{recorded} of 5 calls in a worker are recorded")),
    }
    Ok(())
}

async fn policies(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    for page in ["csp-strict", "csp-sandbox", "csp-control"] {
        let visited = lab.watch(page, "").await?;
        visited.score(CALLS, findings)?;
        let reports = visited.site.csp_reports(&visited.token).len();
        findings.equal(&format!("{page}: policy reports"), &reports, &visited.expected().csp_reports);
    }
    Ok(())
}

/// Groups that are about the document and not about a function.
fn of_document(group: &str) -> bool {
    group.starts_with("document.")
}

/// Groups that are about functions. Those of times are for the table only.
fn of_functions(group: &str) -> bool {
    !of_document(group) && !group.starts_with("time.")
}

/// The groups that differ, after a control: two visits that nobody watches must not differ.
async fn compared(
    lab: &mut Lab,
    findings: &mut Findings,
    keep: fn(&str) -> bool,
) -> Result<(usize, Vec<vectors::Difference>), LabError> {
    let asked = lab.vectors().await?;
    let vectors::Asked { vanilla, again, watched } = asked.as_ref();
    let unstable: Vec<_> =
        vectors::differences(vanilla, again).into_iter().filter(|d| keep(&d.group)).collect();
    for d in &unstable {
        findings.fault(format!(
            "control: {} differs between two visits that nobody watches: {:?} {:?}",
            d.group, d.vanilla, d.watched
        ));
    }
    let time =
        |answers: &vectors::Answers| answers.get("time.getter_nanoseconds").cloned().unwrap_or_default();
    if keep("document.") {
        let (ours, theirs) = (time(watched), time(vanilla));
        findings.remark(format!("a getter takes {ours} ns, unwatched {theirs}"));
    }
    let differing: Vec<_> =
        vectors::differences(vanilla, watched).into_iter().filter(|d| keep(&d.group)).collect();
    if std::env::var_os("SONDE_INTEGRITY_DETAILS").is_some() {
        for d in &differing {
            eprintln!("{}\n  vanilla {:?}\n  watched {:?}", d.group, d.vanilla, d.watched);
        }
    }
    Ok((vanilla.keys().filter(|g| keep(g)).count(), differing))
}

fn named(differing: &[vectors::Difference]) -> String {
    let names: Vec<&str> = differing.iter().map(|d| d.group.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

async fn footprint(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let (groups, differing) = compared(lab, findings, of_document).await?;
    match promise(lab) {
        Promise::AtMost(_) => {
            for d in &differing {
                findings.fault(format!("{}: {:?} instead of {:?}", d.group, d.watched, d.vanilla));
            }
        }
        Promise::AllBut(known) => only_known(&differing, known, findings),
        Promise::Nothing => findings.remark("this mode does not hide"),
    }
    if !differing.is_empty() {
        findings.remark(format!("differ: {}", named(&differing)));
    }
    findings.remark(format!("{groups} groups"));
    Ok(())
}

/// What a capture mode promises of the vectors.
enum Promise {
    /// So many groups of functions may differ, and none of the document's.
    AtMost(usize),
    /// None differs but these.
    AllBut(&'static [&'static str]),
    Nothing,
}

/// What functions that another world lends cannot hide; docs/integrity.md says why of each.
const EXPORTED: &[&str] = &[
    "callback.caller",
    "depth.through_argument",
    "document.first_look",
    "document.globals_of_frame",
    "realm.own_keys_order",
];

fn promise(lab: &Lab) -> Promise {
    match lab.browser().0.as_str() {
        "firefox exported" => Promise::AllBut(EXPORTED),
        "chromium stealth" => Promise::AtMost(2),
        "chromium wrapped" => Promise::AtMost(12),
        _ => Promise::Nothing,
    }
}

fn only_known(differing: &[vectors::Difference], known: &[&str], findings: &mut Findings) {
    for d in differing.iter().filter(|d| !known.contains(&d.group.as_str())) {
        findings.fault(format!("{}: {:?} instead of {:?}", d.group, d.watched, d.vanilla));
    }
}

/// Groups that make a suite.
const GROUPS: usize = 120;

async fn functions(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let (groups, differing) = compared(lab, findings, of_functions).await?;
    if groups < GROUPS {
        findings.fault(format!("only {groups} groups answered"));
    }
    match promise(lab) {
        Promise::AtMost(most) if differing.len() > most => {
            findings.fault(format!("{} groups differ, at most {most} may", differing.len()));
        }
        Promise::AtMost(_) => {}
        Promise::AllBut(known) => only_known(&differing, known, findings),
        Promise::Nothing => findings.remark("this mode does not hide"),
    }
    findings.remark(format!("{} of {groups} groups differ: {}", differing.len(), named(&differing)));
    Ok(())
}

async fn environment(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let vanilla =
        lab.visit("integrity-environment", "", Instruments::default()).await?.note("environment")?;
    let watched = lab.watch("integrity-environment", "").await?;
    findings.equal("what the browser says of itself", &watched.note("environment")?, &vanilla);
    if lab.provenance()["presentation"] != "honest" {
        findings.fault("the provenance does not say presentation: honest");
    }
    findings.remark(format!("navigator.webdriver is {}", vanilla["webdriver"]));
    Ok(())
}

async fn floods(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    lab.watch("js-flood", "&n=100000").await?.score(CALLS, findings)?;
    let limited = Instruments { javascript_limit: 1000, ..Lab::everything() };
    let visited = lab.visit("js-flood", "&n=30000", limited).await?;
    let counts = |sql: &str| -> Result<BTreeMap<String, i64>, LabError> {
        let mut statement = visited.db.prepare(sql)?;
        let rows = statement.query_map([visited.visit_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let rows = counts(
        "SELECT symbol, count(*) FROM javascript WHERE visit_id = ?1 AND operation = 'get' GROUP BY 1",
    )?;
    let dropped = counts(
        "SELECT subject, sum(dropped_rows) FROM truncations WHERE visit_id = ?1 AND reason = 'symbol_limit' GROUP BY 1",
    )?;
    for symbol in ["window.navigator.userAgent", "window.navigator.hardwareConcurrency"] {
        let found = (rows.get(symbol).copied(), dropped.get(symbol).copied());
        findings.equal(
            &format!("{symbol} with a limit of 1000 (rows, counted as dropped)"),
            &found,
            &(Some(1000), Some(29_000)),
        );
    }
    Ok(())
}

async fn endings(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    for page in ["js-unload", "integrity-steady"] {
        lab.watch(page, "").await?.score(CALLS, findings)?;
    }
    Ok(())
}
