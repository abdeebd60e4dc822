//! From what pages tell of their code to rows: scripts that ran, and stacks.

use std::collections::HashMap;

use super::{Rows, Script, Stack};
use crate::log::{Hit, sha256_hex};
use crate::truth::{TruthScript, TruthStack};

/// How scripts came that came by a request of their own, whatever asked for it.
pub(super) const FETCHED: &str = "fetched";

/// What requests for code say in `Sec-Fetch-Dest`.
const CODE: [&str; 5] = ["script", "worker", "sharedworker", "serviceworker", "audioworklet"];

/// The script that an answer brings, or those in the page that it is.
pub(super) fn fetched(hit: &Hit, rows: &mut Rows) {
    if hit.header("sec-fetch-mode") == Some("navigate") {
        let inline = |source: &String| inline("inline", source);
        rows.scripts.extend(hit.inline_scripts.iter().map(inline));
    }
    if !hit.header("sec-fetch-dest").is_some_and(|destination| CODE.contains(&destination)) {
        return;
    }
    let Some(body) = hit.response_body.as_ref().filter(|body| body.complete && hit.status == Some(200))
    else {
        return;
    };
    rows.scripts.push(Script::fetched(&hit.url, &body.sha256));
}

impl Script {
    /// One that came by a request.
    pub(super) fn fetched(url: &str, sha256: &str) -> Self {
        Self { how: FETCHED.to_owned(), url: Some(url.to_owned()), sha256: sha256.to_owned() }
    }
}

/// A script is known by the URL that was asked for first.
pub(super) fn redirected(hits: &[Hit], scripts: &mut [Script]) {
    let hops: HashMap<&str, &str> =
        hits.iter().filter_map(|hit| Some((hit.location.as_deref()?, hit.url.as_str()))).collect();
    for script in scripts {
        // A loop brings no script.
        while let Some(first) = script.url.as_deref().and_then(|url| hops.get(url)) {
            script.url = Some((*first).to_owned());
        }
    }
}

/// A script that a page told of.
pub(super) fn told(script: TruthScript) -> Script {
    inline(&script.how, &script.source)
}

fn inline(how: &str, source: &str) -> Script {
    Script { how: how.to_owned(), url: None, sha256: sha256_hex(source.as_bytes()) }
}

/// Stack and call site of a call that a page made from the very place where it made an `Error` before.
pub(super) fn stacks(told: &TruthStack, rows: &mut Rows) {
    let frames = frames(&told.stack);
    let site = frames.first().and_then(|frame| site(frame));
    let of = told.of.clone();
    if told.request {
        rows.callstacks.extend(site.map(|frames| Stack { of, frames }));
        return;
    }
    rows.call_sites.extend(site.map(|frames| Stack { of: of.clone(), frames }));
    rows.call_sites.push(Stack { of, frames: frames.join(" < ") });
}

/// The frames of `Error.stack` without that of the stand-in that made it, as they are in the column.
fn frames(stack: &str) -> Vec<&str> {
    let v8 = stack.contains("\n    at ");
    let lines = stack.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = match v8 {
        true => lines.filter_map(|line| line.strip_prefix("at ")).collect(),
        false => lines.collect(),
    };
    lines.into_iter().skip(1).collect()
}

/// `name@url:line:column` of a frame of either engine; `None` of a frame in eval code, whose place is told otherwise.
fn site(frame: &str) -> Option<String> {
    if frame.contains("eval at ") || frame.contains(" > ") {
        return None;
    }
    if let Some((name, place)) = frame.split_once('@') {
        let name = name.rsplit('*').next().unwrap_or(name);
        return Some(format!("{name}@{place}"));
    }
    match frame.strip_suffix(')').and_then(|frame| frame.split_once(" (")) {
        Some((name, place)) => {
            let name = name.trim_start_matches("async ").trim_start_matches("new ");
            let name = name.split(" [as ").next().unwrap_or(name);
            Some(format!("{}@{place}", if name == "<anonymous>" { "" } else { name }))
        }
        None => Some(format!("@{}", frame.trim_start_matches("async "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_both_engines_give_sites_and_frames() {
        let v8 = "Error\n    at get encoding [as encoding] (http://h/probe.js:1:2)\n    at new Made (http://h/p:3:4)\n    at http://h/p:5:6";
        let gecko = "get encoding@http://h/probe.js:1:2\nMade@http://h/p:3:4\nasync*@http://h/p:5:6\n";
        for (stack, last) in [(v8, "@http://h/p:5:6"), (gecko, "@http://h/p:5:6")] {
            let frames = frames(stack);
            assert_eq!(frames.len(), 2);
            assert_eq!(site(frames[0]).unwrap(), "Made@http://h/p:3:4");
            assert_eq!(site(frames[1]).unwrap(), last);
        }
        assert_eq!(site("eval (eval at f (http://h/p:1:2), <anonymous>:1:1)"), None);
        assert_eq!(site("f@http://h/p line 3 > eval:1:1"), None);
    }
}
