//! Matching of rows as multisets: a row recorded twice matches one row due.

use std::collections::HashMap;

use serde::Serialize;

use super::{Expected, Observed, Rows, Table};

/// Examples kept of what is missing or surplus.
const EXAMPLES: usize = 200;

/// How one table compares. Counts are rows; calls count one each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    pub expected: u64,
    pub matched: u64,
    pub observed: u64,
    /// Observed rows that are neither due nor allowed.
    pub surplus: u64,
    /// Up to 200 rows due and not observed, each with its count when above one.
    pub missing_rows: Vec<String>,
    /// Up to 200 rows observed and not due.
    pub surplus_rows: Vec<String>,
}

impl Score {
    /// `matched / expected`; 1 when nothing is due.
    pub fn recall(&self) -> f64 {
        ratio(self.matched, self.expected)
    }

    /// The share of observed rows that are due or allowed; 1 when nothing was observed.
    pub fn precision(&self) -> f64 {
        ratio(self.observed - self.surplus, self.observed)
    }

    /// Nothing missing and nothing surplus.
    pub fn is_exact(&self) -> bool {
        self.matched == self.expected && self.surplus == 0
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// A row due, or seen: the keys it may be known by, the most exact first, and how often.
struct Keyed {
    keys: Vec<String>,
    count: u64,
}

impl Keyed {
    fn one(keys: Vec<String>) -> Self {
        Self { keys, count: 1 }
    }
}

impl Expected {
    /// Compares one table with rows observed. A request that was given up before its answer is not surplus:
    /// neither side can know whether it arrived.
    pub fn score(&self, table: Table, observed: &Observed) -> Score {
        let mut seen: HashMap<String, u64> = HashMap::new();
        for row in keyed(table, observed) {
            if let Some(key) = row.keys.into_iter().next() {
                *seen.entry(key).or_default() += row.count;
            }
        }
        let mut score = Score { observed: seen.values().sum(), ..Score::default() };
        let mut due = keyed(table, &self.required);
        // Rows with fewer names choose first, so that a row of many names does not take theirs.
        due.sort_by_key(|row| row.keys.len());
        for row in due {
            let taken = take(&mut seen, &row);
            score.expected += row.count;
            score.matched += taken;
            if taken < row.count && score.missing_rows.len() < EXAMPLES {
                score.missing_rows.push(format!("{} x{}", row.keys[0], row.count - taken));
            }
        }
        for row in keyed(table, &self.optional) {
            take(&mut seen, &row);
        }
        if table == Table::HttpRequests {
            let given_up = observed.http_requests.iter().filter(|r| r.given_up).cloned().collect();
            for row in keyed(table, &Rows { http_requests: given_up, ..Rows::default() }) {
                take(&mut seen, &row);
            }
        }
        let mut surplus: Vec<_> = seen.into_iter().filter(|(_, count)| *count > 0).collect();
        surplus.sort();
        score.surplus = surplus.iter().map(|(_, count)| count).sum();
        score.surplus_rows = surplus.iter().take(EXAMPLES).map(|(key, n)| format!("{key} x{n}")).collect();
        score
    }

    /// `matched / expected` of one table.
    pub fn recall(&self, table: Table, observed: &Observed) -> f64 {
        self.score(table, observed).recall()
    }

    /// The share of observed rows that are due or allowed.
    pub fn precision(&self, table: Table, observed: &Observed) -> f64 {
        self.score(table, observed).precision()
    }
}

fn take(seen: &mut HashMap<String, u64>, row: &Keyed) -> u64 {
    let mut left = row.count;
    for key in &row.keys {
        if let Some(there) = seen.get_mut(key) {
            let taken = left.min(*there);
            *there -= taken;
            left -= taken;
        }
    }
    row.count - left
}

/// URLs of requests: without fragment, and a WebSocket handshake as the HTTP request it is.
fn request_url(url: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    match url.strip_prefix("ws://") {
        Some(rest) => format!("http://{rest}"),
        None => url.to_owned(),
    }
}

/// The exact key first where a detail is known, then the key without it.
fn with_detail(detail: Option<&String>, key: String) -> Vec<String> {
    detail.map(|detail| format!("{key} [{detail}]")).into_iter().chain([key]).collect()
}

fn keyed(table: Table, rows: &Rows) -> Vec<Keyed> {
    let url = request_url;
    let one = |key: String| Keyed::one(vec![key]);
    match table {
        Table::HttpRequests => {
            rows.http_requests.iter().map(|r| one(format!("{} {}", r.method, url(&r.url)))).collect()
        }
        Table::HttpResponses => {
            rows.http_responses.iter().map(|r| one(format!("{} {}", r.status, url(&r.url)))).collect()
        }
        Table::HttpRedirects => rows
            .http_redirects
            .iter()
            .map(|r| one(format!("{} {} -> {}", r.status, url(&r.old), url(&r.new))))
            .collect(),
        Table::HttpFailures => {
            rows.http_failures.iter().map(|r| one(format!("{:?} {}", r.class, url(&r.url)))).collect()
        }
        Table::Javascript => rows
            .javascript
            .iter()
            .map(|r| Keyed {
                keys: r.symbols.iter().map(|symbol| format!("{} {symbol}", r.operation)).collect(),
                count: r.count,
            })
            .collect(),
        Table::Navigations => {
            rows.navigations.iter().map(|r| Keyed::one(with_detail(r.kind.as_ref(), r.url.clone()))).collect()
        }
        Table::JavascriptCookies => rows
            .javascript_cookies
            .iter()
            .map(|r| {
                let host = r.host.trim_start_matches('.');
                let change = if r.deleted { "deleted" } else { "set" };
                Keyed::one(with_detail(r.how.as_ref(), format!("{change} {} {host}", r.name)))
            })
            .collect(),
        Table::WebsocketFrames => rows
            .websocket_frames
            .iter()
            .map(|r| one(format!("{} {} {}", r.direction, url(&r.url), r.payload)))
            .collect(),
        Table::Bodies => {
            rows.bodies.iter().map(|r| one(format!("{:.12} {}", r.sha256, url(&r.url)))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::{Calls, Navigation, Request};

    fn request(url: &str) -> Request {
        Request::sent("GET", url)
    }

    fn calls(symbols: &[&str], count: u64) -> Calls {
        Calls {
            symbols: symbols.iter().map(|s| (*s).to_owned()).collect(),
            operation: "call".into(),
            count,
            in_worker: false,
        }
    }

    #[test]
    fn rows_are_compared_as_a_multiset_and_allowed_rows_are_not_surplus() {
        let mut expected = Expected::default();
        expected.required.http_requests =
            vec![request("http://a/"), request("http://a/"), request("http://b/")];
        expected.optional.http_requests = vec![request("http://c/")];
        let observed = Rows {
            http_requests: ["http://a/", "http://a/#x", "http://c/", "http://d/"].map(request).to_vec(),
            ..Rows::default()
        };
        let score = expected.score(Table::HttpRequests, &observed);
        assert_eq!((score.expected, score.matched, score.observed, score.surplus), (3, 2, 4, 1));
        assert_eq!(score.missing_rows, ["GET http://b/ x1"]);
        assert_eq!(score.surplus_rows, ["GET http://d/ x1"]);
        assert!((score.recall() - 2.0 / 3.0).abs() < 1e-9 && (score.precision() - 0.75).abs() < 1e-9);
        assert!(!score.is_exact());
    }

    #[test]
    fn a_request_given_up_before_its_answer_may_have_reached_the_site_or_not() {
        let mut expected = Expected::default();
        let given_up = |url| Request { given_up: true, ..request(url) };
        let observed = Rows {
            http_requests: vec![given_up("http://a/"), given_up("http://b/"), request("http://b/")],
            ..Rows::default()
        };
        assert_eq!(expected.score(Table::HttpRequests, &observed).surplus, 1, "one of b is certain");
        expected.required.http_requests = vec![request("http://a/"), request("http://b/")];
        assert!(expected.score(Table::HttpRequests, &observed).is_exact());
    }

    #[test]
    fn a_call_counts_under_any_of_its_names_but_once() {
        let mut expected = Expected::default();
        expected.required.javascript =
            vec![calls(&["Gain.connect", "Node.connect"], 3), calls(&["Node.connect"], 2)];
        let observed = Rows {
            javascript: vec![calls(&["Node.connect"], 4), calls(&["Gain.connect"], 1)],
            ..Rows::default()
        };
        assert!(expected.score(Table::Javascript, &observed).is_exact());
    }

    #[test]
    fn a_kind_is_compared_only_where_it_was_recorded() {
        let navigation =
            |kind: Option<&str>| Navigation { url: "http://a/".into(), kind: kind.map(str::to_owned) };
        let mut expected = Expected::default();
        expected.required.navigations = vec![navigation(Some("document"))];
        for (kind, exact) in [(None, true), (Some("document"), true), (Some("history"), false)] {
            let observed = Rows { navigations: vec![navigation(kind)], ..Rows::default() };
            assert_eq!(expected.score(Table::Navigations, &observed).is_exact(), exact);
        }
    }
}
