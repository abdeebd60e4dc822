//! Finds what a user could click and clicks it, within guard-rails.

mod fingerprint;
mod policy;
mod rank;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sonde_proto::visit::v1::{EvaluationWorld, ExploreCommand, LoadPolicy, MouseButton};
use tokio::time::Instant;
use url::Url;

use self::fingerprint::fingerprint;
use self::policy::{Element, Policy};
use self::rank::{Selected, plan};
use super::input::clicks;
use super::script::{Refusal, Script, parameters};
use super::{NotLoaded as _, Page, Why, reported};
use crate::attempt::or;
use crate::engine::CommandReport;
use crate::engine::artifact::no_page;

const SCAN: &str = include_str!("scan.js");

/// Until the page is quiet after a click.
const SETTLE: Duration = Duration::from_secs(5);
/// Milliseconds without a change after which it is.
const QUIET_MS: u32 = 300;
/// Documents that one click may lead to, one after the other.
const HOPS: u32 = 5;
/// Until the mouse meets an element that was there a moment ago.
const AIM: Duration = Duration::from_secs(5);
/// For a scan.
const LOOK: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Scan {
    url: String,
    /// A password field is visible.
    password: bool,
    /// Keys of elements that another is over.
    obscured: Vec<String>,
    elements: Vec<Element>,
}

#[derive(Deserialize)]
struct Quiet {
    url: String,
}

/// Where an element is met, or why it is not.
#[derive(Deserialize)]
#[serde(untagged)]
enum Aim {
    At { element: Box<Element>, x: f64, y: f64 },
    Not { word: String },
}

/// Bounds of an exploration, with the contract's defaults.
struct Bounds {
    clicks: u32,
    depth: u32,
    end: Instant,
}

struct Explorer {
    bounds: Bounds,
    policy: Policy,
    password_stops: bool,
    began: Instant,
    /// Fingerprints of what was clicked, or tried.
    tried: HashSet<String>,
    /// URLs without fragments, in order.
    urls: Vec<String>,
    depth: u32,
    clicks: u32,
    actions: Vec<Value>,
    /// Rule -> fingerprints.
    skipped: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Runs the command.
pub(super) async fn explore(
    page: &mut impl Page,
    asked: &ExploreCommand,
    deadline: Instant,
) -> CommandReport {
    if !page.loaded() {
        return no_page("explore");
    }
    let or_default = |value: u32, default: u32| if value == 0 { default } else { value };
    let began = Instant::now();
    let bounds = Bounds {
        clicks: or_default(asked.max_clicks, 10),
        depth: or_default(asked.max_depth, 3),
        end: began + or(asked.max_runtime, Duration::from_secs(300)),
    };
    let start = page.url();
    let mut explorer = Explorer {
        bounds,
        policy: Policy::new(&start, &asked.blocked_words),
        password_stops: !asked.allow_password_fields,
        began,
        tried: HashSet::new(),
        urls: vec![plain(&start)],
        depth: 0,
        clicks: 0,
        actions: Vec::new(),
        skipped: BTreeMap::new(),
    };
    let stopped = explorer.run(page, deadline).await;
    let value = stopped.map(|reason| explorer.value(reason).to_string());
    reported(page, "explore", value, deadline).await
}

impl Explorer {
    /// Scans, ranks and clicks until a bound is met; gives the reason of its end.
    async fn run<P: Page>(
        &mut self,
        page: &mut P,
        deadline: Instant,
    ) -> Result<&'static str, Why<P::NotLoaded>> {
        let last = deadline.min(self.bounds.end);
        loop {
            match self.round(page, last).await {
                Ok(Some(reason)) => return Ok(reason),
                Ok(None) => {}
                // Its own time is over before that of the command.
                Err(Why::NotLoaded(why)) if why.timeout().is_some() && self.is_late() => {
                    return Ok("MAX_RUNTIME");
                }
                Err(Why::Refused(why)) if why.word == "timeout" && self.is_late() => {
                    return Ok("MAX_RUNTIME");
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// One scan and what comes of it; gives the reason of the end.
    async fn round<P: Page>(
        &mut self,
        page: &mut P,
        last: Instant,
    ) -> Result<Option<&'static str>, Why<P::NotLoaded>> {
        if let Some(reason) = self.over() {
            return Ok(Some(reason));
        }
        page.progress().detail(format!("looking for what to click ({} so far)", self.clicks));
        let scan: Scan = ask(page, "scan", Map::new(), last.min(Instant::now() + LOOK)).await?;
        if let Some(reason) = self.policy.ends_at(&scan.url) {
            return Ok(Some(reason));
        }
        if scan.password && self.password_stops {
            return Ok(Some("AUTH_PAGE"));
        }
        for key in &scan.obscured {
            self.skip("obscured", fingerprint(key));
        }
        let allowed = self.allowed(&scan.elements);
        let visited: HashSet<String> = self.urls.iter().cloned().collect();
        let planned = plan(&allowed, &visited);
        let Some(best) = planned.first() else { return Ok(Some("NO_ELEMENTS")) };
        let (element, fingerprint) = (best.element.element, best.element.fingerprint.clone());
        self.tried.insert(fingerprint.clone());
        let result = self.click(page, &element.key, last).await?;
        self.actions.push(json!({
            "selector": element.selector,
            "action": "click",
            "priority": best.priority,
            "reason": best.reason,
            "fingerprint": fingerprint,
            "text": element.text,
            "url": scan.url,
            "result": result,
        }));
        let here = self.urls.last().cloned().unwrap_or_default();
        Ok(self.policy.ends_at(&here))
    }

    /// What was not tried and no rule forbids.
    fn allowed<'a>(&mut self, elements: &'a [Element]) -> Vec<Selected<'a>> {
        let mut allowed = Vec::new();
        for element in elements {
            let fingerprint = fingerprint(&element.key);
            if self.tried.contains(&fingerprint) {
                continue;
            }
            match self.policy.forbids(element) {
                Some((rule, _)) => self.skip(rule, fingerprint),
                None => allowed.push(Selected { element, fingerprint }),
            }
        }
        allowed
    }

    /// Clicks what has this key now, if it still may be, and waits until the page is quiet; gives what came of it.
    async fn click<P: Page>(
        &mut self,
        page: &mut P,
        key: &str,
        last: Instant,
    ) -> Result<String, Why<P::NotLoaded>> {
        let within = last.min(Instant::now() + AIM);
        let wanted = Map::from_iter([("key".to_owned(), json!(key))]);
        let (x, y) = match ask(page, "aim", wanted, within).await? {
            Aim::Not { word } => return Ok(word),
            Aim::At { element, x, y } => match self.policy.forbids(&element) {
                // It has become something else since it was ranked.
                Some((rule, _)) => {
                    self.skip(rule, fingerprint(key));
                    return Ok(rule.to_owned());
                }
                None => (x, y),
            },
        };
        page.act(&clicks(x, y, MouseButton::Left, 1, &[]), last).await.map_err(Why::NotLoaded)?;
        self.clicks += 1;
        page.progress().detail("waiting for the page to be quiet");
        let url = plain(&settle(page, last).await?);
        if self.urls.last() == Some(&url) {
            return Ok("clicked".to_owned());
        }
        self.depth += 1;
        self.urls.push(url);
        Ok("navigated".to_owned())
    }

    fn skip(&mut self, rule: &'static str, fingerprint: String) {
        self.skipped.entry(rule).or_default().insert(fingerprint);
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.bounds.end
    }

    fn over(&self) -> Option<&'static str> {
        if self.is_late() {
            return Some("MAX_RUNTIME");
        }
        if self.clicks >= self.bounds.clicks {
            return Some("MAX_CLICKS");
        }
        (self.depth >= self.bounds.depth).then_some("MAX_DEPTH")
    }

    fn value(&self, reason: &str) -> Value {
        let mut seen = HashSet::new();
        let visited: Vec<&String> = self.urls.iter().filter(|url| seen.insert(*url)).collect();
        let skipped: BTreeMap<_, _> = self.skipped.iter().map(|(rule, all)| (rule, all.len())).collect();
        json!({
            "state": "complete",
            "clicks": self.clicks,
            "depth": self.depth,
            "visited_urls": visited,
            "runtime": (self.began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            "stop_reason": reason,
            "actions": self.actions,
            "skipped": skipped,
        })
    }
}

/// Waits, within a bound, until nothing changes, no navigation is under way and the network is idle; gives the URL.
async fn settle<P: Page>(page: &mut P, last: Instant) -> Result<String, Why<P::NotLoaded>> {
    let mut url = String::new();
    for _ in 0..HOPS {
        let within = last.min(Instant::now() + SETTLE);
        let wanted = Map::from_iter([("quiet".to_owned(), json!(QUIET_MS))]);
        let quiet: Quiet = ask(page, "quiet", wanted, within).await?;
        let committed = page.committed_at();
        match arrived(page, committed, within).await {
            Err(why) if why.timeout().is_none() => return Err(Why::NotLoaded(why)),
            // A page that never rests is taken as it is.
            Ok(()) | Err(_) => url = quiet.url,
        }
        // Another document has come meanwhile: it is to be quiet, too.
        if page.committed_at() == committed {
            break;
        }
    }
    Ok(url)
}

async fn arrived<P: Page>(
    page: &mut P,
    committed: Option<Instant>,
    deadline: Instant,
) -> Result<(), P::NotLoaded> {
    page.arrive(committed, deadline).await?;
    page.reach_load(LoadPolicy::NetworkIdle, deadline).await
}

/// A task of `scan.js`.
async fn ask<P: Page, T: DeserializeOwned>(
    page: &mut P,
    task: &str,
    fields: Map<String, Value>,
    deadline: Instant,
) -> Result<T, Why<P::NotLoaded>> {
    let text = format!("{}({})", SCAN.trim_end(), parameters(task, fields, deadline));
    let script = Script { text, world: EvaluationWorld::Isolated, again: true };
    let answer = super::interact::ask(page, script, deadline).await?;
    serde_json::from_str(&answer)
        .map_err(|error| Refusal::new("script_error", format!("the scan cannot be read: {error}")).into())
}

/// Without its fragment.
fn plain(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return url.to_owned() };
    url.set_fragment(None);
    url.into()
}
