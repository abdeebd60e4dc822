//! Forged rows, strings that act, arguments that run code, and helpers that lie.

use serde_json::Value;
use sonde_site::expect::Table;

use super::Findings;
use super::lab::{Lab, LabError};

pub(super) async fn forged(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let visited = lab.watch("hostile-forge", "").await?;
    visited.score(&[Table::Javascript, Table::JavascriptCookies, Table::Navigations], findings)?;
    let sql = "SELECT count(*) FROM javascript WHERE visit_id = ?1 AND (symbol LIKE '%forged%' OR value LIKE '%forged%')";
    findings.equal("forged rows", &visited.one::<i64>(sql)?, &0);
    if !visited.truth().notes.contains(&"leaked 0".to_owned()) {
        findings.fault(format!("the page saw a port of ours: {:?}", visited.truth().notes));
    }
    let lies = lab.watch("integrity-lies", "").await?;
    lies.score(&[Table::Javascript, Table::Navigations], findings)?;
    let sql = "SELECT count(*) FROM javascript WHERE visit_id = ?1 AND (coalesce(document_url, '') LIKE '%liar%' OR coalesce(top_level_url, '') LIKE '%liar%' OR top_level_url IS NULL)";
    findings.equal("rows that repeat the page's lies about where it is", &lies.one::<i64>(sql)?, &0);
    let outside = "SELECT count(*) FROM javascript j JOIN visit_seals s USING (visit_id) WHERE visit_id = ?1 \
                   AND (julianday(j.time_stamp) - julianday('now')) * 86400 NOT BETWEEN -600 AND 5";
    findings.equal("rows at a time the page made up", &lies.one::<i64>(outside)?, &0);
    Ok(())
}

pub(super) async fn strings(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let visited = lab.watch("integrity-strings", "").await?;
    visited.score(&[Table::Javascript], findings)?;
    let hostile = visited.note("hostile")?;
    let due: Vec<String> = hostile
        .as_array()
        .into_iter()
        .flatten()
        .map(|text| {
            // What JSON.parse makes of a lone surrogate is no text in Rust: both sides are compared as JSON.
            text.to_string()
        })
        .collect();
    // The notes lose lone surrogates on their way here (UTF-8): those are compared by their escapes below.
    let sql = "SELECT arguments FROM javascript WHERE visit_id = ?1 AND symbol LIKE '%.setItem' ORDER BY page_scoped_event_ordinal";
    let stored: Vec<String> = visited.all(sql)?;
    if stored.len() != due.len() + 1 {
        findings.fault(format!("{} of {} writes recorded", stored.len(), due.len() + 1));
        return Ok(());
    }
    for (place, (stored, due)) in stored.iter().zip(&due).enumerate() {
        let lone =
            [(7, "\\ud800 lone high"), (8, "lone low \\udc00")].into_iter().find(|(at, _)| *at == place);
        if let Some((_, text)) = lone {
            if !stored.to_ascii_lowercase().contains(text) {
                findings.fault(format!("a lone surrogate became {stored:?}"));
            }
            continue;
        }
        let value = serde_json::from_str::<Value>(stored).map(|args| args[1].to_string());
        match value {
            Ok(value) if value == *due => {}
            other => findings.fault(format!("string {place}: {due} became {other:?}")),
        }
    }
    let long = format!("[\"hostile\",\"{}\"]", "é".repeat(1024 * 1024));
    let last = stored.last().map(String::as_str).unwrap_or_default();
    if last != long {
        findings.fault(format!("of 2 MiB {} bytes were stored", last.len()));
    }
    let intact: String = visited.db.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    findings.equal("the database", &intact.as_str(), &"ok");
    Ok(())
}

pub(super) async fn arguments(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let vanilla = lab
        .visit("integrity-arguments", "", sonde_proto::visit::v1::Instruments::default())
        .await?
        .note("ran")?;
    let visited = lab.watch("integrity-arguments", "").await?;
    let (mut ran, mut due) = (visited.note("ran")?, vanilla);
    // Nothing in the language tells a Proxy from other objects without asking it; another world can see it.
    let asks = lab.browser().0 != "firefox exported";
    if let (Some(ran), Some(due)) = (ran.as_object_mut(), due.as_object_mut()) {
        let (traps, allowed) = (ran.remove("trap"), due.remove("trap"));
        if traps != allowed {
            let looks =
                format!("a Proxy among the arguments sees {} more look(s) at it", traps.unwrap_or_default());
            if asks { findings.remark(looks) } else { findings.fault(looks) }
        }
    }
    findings.equal("page code that ran", &ran, &due);
    visited.score(&[Table::Javascript], findings)
}

pub(super) async fn poisoned(lab: &mut Lab, findings: &mut Findings) -> Result<(), LabError> {
    let visited = lab.watch("integrity-poisoned", "").await?;
    visited.score(&[Table::Javascript], findings)?;
    let arguments = |symbol: &str| {
        visited.all::<Option<String>>(&format!(
            "SELECT arguments FROM javascript WHERE visit_id = ?1 AND symbol LIKE '{symbol}'"
        ))
    };
    findings.equal(
        "arguments of setItem",
        &arguments("%.setItem")?,
        &vec![Some(r#"["poisoned","true value"]"#.to_owned())],
    );
    findings.equal(
        "arguments of fillText",
        &arguments("%.fillText")?,
        &vec![Some(r#"["true text",1,2]"#.to_owned())],
    );
    let agent = visited.all::<Option<String>>(
        "SELECT value FROM javascript WHERE visit_id = ?1 AND symbol LIKE '%.userAgent'",
    )?;
    if !agent.iter().flatten().all(|value| value.starts_with("Mozilla/")) {
        findings.fault(format!("value of userAgent: {agent:?}"));
    }
    let outside = "SELECT count(*) FROM javascript WHERE visit_id = ?1 AND (julianday(time_stamp) - julianday('now')) * 86400 NOT BETWEEN -600 AND 5";
    findings.equal("rows at a time that was made up", &visited.one::<i64>(outside)?, &0);
    Ok(())
}
