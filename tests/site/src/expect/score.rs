//! Matching of rows as multisets: a row recorded twice matches one row due.

use std::collections::HashMap;

use serde::Serialize;

use super::keys::{Keyed, keyed, of};
use super::{Expected, Message, Observed, Rows, Stack, Table};

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

impl Expected {
    /// Compares one table with rows observed. A request that was given up before its answer is not surplus:
    /// neither side can know whether it arrived.
    pub fn score(&self, table: Table, observed: &Observed) -> Score {
        if table == Table::RequestHeaderOrder && self.unordered {
            return Score::default();
        }
        let required = self.with_wire_of(observed);
        let mut seen: HashMap<String, u64> = HashMap::new();
        for row in keyed(table, &self.of_interest(observed)) {
            if let Some(key) = row.keys.into_iter().next() {
                *seen.entry(key).or_default() += row.count;
            }
        }
        let mut score = Score { observed: seen.values().sum(), ..Score::default() };
        let mut due = keyed(table, &required);
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
        for row in keyed(table, &given_up(observed)) {
            take(&mut seen, &row);
        }
        let mut surplus: Vec<_> = seen.into_iter().filter(|(_, count)| *count > 0).collect();
        surplus.sort();
        score.surplus = surplus.iter().map(|(_, count)| count).sum();
        score.surplus_rows = surplus.iter().take(EXAMPLES).map(|(key, n)| format!("{key} x{n}")).collect();
        score
    }

    /// Of messages whose headers on the wire were not seen no more is due than that they should have been.
    fn with_wire_of(&self, observed: &Observed) -> Rows {
        let mut required = self.required.clone();
        let sides = [
            (&observed.request_headers, &mut required.request_headers),
            (&observed.response_headers, &mut required.response_headers),
        ];
        for (seen, due) in sides {
            for unseen in seen.iter().filter(|message| !message.on_the_wire) {
                let whose = of(unseen);
                let same = |message: &&mut Message| of(message) == whose && !message.headers.is_empty();
                if let Some(message) = due.iter_mut().find(same) {
                    message.headers.clear();
                }
            }
        }
        required
    }

    /// Without headers that reached nobody, and without the stacks that no page told anything about but for those in
    /// which we ourselves are.
    fn of_interest(&self, observed: &Observed) -> Observed {
        let told = |due: &[Stack], seen: &[Stack]| {
            let wanted =
                |row: &&Stack| due.iter().any(|due| due.of == row.of) || row.frames.contains("-extension:");
            seen.iter().filter(wanted).cloned().collect()
        };
        let unreached = |message: &&Message| {
            let (_, url) = message.of.split_once(' ').unwrap_or_default();
            !self.unreached.iter().any(|known| known == url)
        };
        Observed {
            request_headers: observed.request_headers.iter().filter(unreached).cloned().collect(),
            callstacks: told(&self.required.callstacks, &observed.callstacks),
            call_sites: told(&self.required.call_sites, &observed.call_sites),
            ..observed.clone()
        }
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

fn given_up(observed: &Observed) -> Rows {
    Rows {
        http_requests: observed.http_requests.iter().filter(|r| r.given_up).cloned().collect(),
        request_headers: observed.request_headers.iter().filter(|r| r.given_up).cloned().collect(),
        ..Rows::default()
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
