//! I5: the code that ran, and where it is stored.

use sonde_proto::visit::v1::BrowserKind;

use super::Findings;
use super::lab::{Lab, LabError, Visited};
use crate::checker::{read_blob, stored_blobs};

pub(super) async fn executed(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let kind = lab.kind();
    let visited = lab.watch("integrity-code", "").await?;
    let missing = visited.note("missing")?;
    if missing.as_array().is_none_or(|missing| !missing.is_empty()) {
        findings.fault(format!("code that did not run: {missing}"));
    }
    let words = visited.note("words")?;
    let stored = texts(&visited)?;
    let mut found = 0;
    for pair in words.as_array().into_iter().flatten() {
        let (way, word) = (pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
        // The page's own text has the words in parts, so that only the code made of them holds them whole.
        match stored.iter().any(|text| text.contains(word)) {
            true => found += 1,
            false if kind == BrowserKind::Firefox => {
                findings.remark(format!("{way}: only what it was made of is stored"))
            }
            false => findings.fault(format!("{way}: the code that ran is not stored")),
        }
    }
    findings.remark(format!("{found} ways stored as they ran"));
    let fetched = stored.iter().any(|text| text.contains("executed_NAME_text"));
    findings.equal("a fetched text that is run later is stored", &fetched, &true);
    Ok(())
}

/// Every stored text that a row of the visit refers to.
fn texts(visited: &Visited) -> Result<Vec<String>, LabError> {
    let mut hashes: Vec<String> = Vec::new();
    for table in ["http_responses", "scripts"] {
        let sql = format!(
            "SELECT DISTINCT content_hash FROM {table} WHERE visit_id = ?1 AND content_hash IS NOT NULL"
        );
        hashes.extend(visited.all::<String>(&sql)?);
    }
    let stored = stored_blobs(&visited.data.join("blobs"))?;
    let paths = hashes.iter().filter_map(|hash| stored.get(hash));
    paths.map(|path| Ok(String::from_utf8_lossy(&read_blob(path)?).into_owned())).collect()
}
