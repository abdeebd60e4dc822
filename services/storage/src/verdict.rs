//! Whether an attempt's data are whole: what its producers declared, against what is on disk.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sonde_proto::record::v1::Producer;

use crate::coverage::Coverage;

/// One stream as the ingest log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub producer: Producer,
    /// "" for other producers than the extension.
    pub session: String,
    pub coverage: Coverage,
}

/// One stream as its producer declares it at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub stream: u32,
    pub producer: Producer,
    pub session: String,
    /// -1 when it carried nothing.
    pub last_ordinal: i64,
    /// "" when the producer lost nothing that it knows of.
    pub suspect: String,
}

/// What the seal says of the data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Why the data are not whole; "" when they are.
    pub reason: String,
    /// `visit_seals.streams`.
    pub streams: String,
    /// `incomplete_visits.ranges`, when something is missing.
    pub ranges: Option<String>,
}

/// Judges an attempt; `incomplete_reason` is what the caller knows besides ("" for nothing).
pub(crate) fn judge(
    stored: &BTreeMap<u32, Stream>,
    declared: &[Declared],
    incomplete_reason: &str,
) -> Verdict {
    let mut reasons: Vec<String> = Vec::new();
    let mut add = |reason: String| {
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    };
    add(incomplete_reason.to_owned());
    let declared: BTreeMap<u32, &Declared> = declared.iter().map(|d| (d.stream, d)).collect();
    let (mut streams, mut ranges) = (Vec::new(), Vec::new());
    let nothing = Coverage::default();
    for id in stored.keys().chain(declared.keys()).collect::<BTreeSet<_>>() {
        let (have, said) = (stored.get(id), declared.get(id));
        let coverage = have.map_or(&nothing, |s| &s.coverage);
        let last = said.map_or(coverage.last(), |d| d.last_ordinal.max(coverage.last()));
        let missing = coverage.missing(last);
        match said {
            None => add("undeclared_stream".into()),
            Some(d) => {
                if coverage.last() > d.last_ordinal {
                    add("beyond_declared_end".into());
                }
                if have.is_some_and(|s| s.producer != d.producer || s.session != d.session) {
                    add("producer_mismatch".into());
                }
                if !d.suspect.is_empty() {
                    add(format!("suspect: {}", d.suspect));
                }
            }
        }
        if !missing.is_empty() {
            add(if coverage.len() == 0 { "lost_stream" } else { "gap" }.into());
            ranges.push(json!({ "stream": id, "missing": missing }));
        }
        let producer = have.map(|s| s.producer).or(said.map(|d| d.producer));
        let session = have.map(|s| s.session.as_str()).or(said.map(|d| d.session.as_str())).unwrap_or("");
        streams.push(json!({
            "stream": id,
            "producer": producer.map(Producer::word),
            "extension_session_uuid": (!session.is_empty()).then_some(session),
            "last_ordinal": said.map(|d| d.last_ordinal),
            "stored": coverage.len(),
            "missing": missing,
        }));
    }
    Verdict {
        reason: reasons.join(", "),
        streams: json!(streams).to_string(),
        ranges: (!ranges.is_empty()).then(|| json!(ranges).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(ranges: &[(i64, i64)]) -> Stream {
        let mut coverage = Coverage::default();
        for (first, last) in ranges {
            coverage.add(*first, *last);
        }
        Stream { producer: Producer::Devtools, session: String::new(), coverage }
    }

    fn declared(stream: u32, last_ordinal: i64) -> Declared {
        Declared {
            stream,
            producer: Producer::Devtools,
            session: String::new(),
            last_ordinal,
            suspect: String::new(),
        }
    }

    /// R4, I16
    #[test]
    fn names_what_is_wrong() {
        let one = |ranges: &[(i64, i64)]| BTreeMap::from([(1, stored(ranges))]);
        let reason = |have: &BTreeMap<u32, Stream>, said: &[Declared]| judge(have, said, "").reason;
        assert_eq!(reason(&one(&[(0, 9)]), &[declared(1, 9)]), "");
        assert_eq!(reason(&BTreeMap::new(), &[declared(1, -1)]), "");
        assert_eq!(reason(&one(&[(0, 3), (6, 9)]), &[declared(1, 9)]), "gap");
        assert_eq!(reason(&one(&[(0, 3)]), &[declared(1, 9)]), "gap");
        assert_eq!(reason(&BTreeMap::new(), &[declared(1, 9)]), "lost_stream");
        assert_eq!(reason(&one(&[(0, 9)]), &[]), "undeclared_stream");
        assert_eq!(reason(&one(&[(0, 9)]), &[declared(1, 5)]), "beyond_declared_end");
        let other = Declared { producer: Producer::Service, ..declared(1, 9) };
        assert_eq!(reason(&one(&[(0, 9)]), &[other]), "producer_mismatch");
        let suspect = Declared { suspect: "queue overflow".into(), ..declared(1, 9) };
        assert_eq!(reason(&one(&[(0, 9)]), &[suspect]), "suspect: queue overflow");
        let both = judge(&one(&[(2, 3)]), &[declared(1, 3)], "lease_expired");
        assert_eq!(both.reason, "lease_expired, gap");
        assert_eq!(both.ranges.as_deref(), Some(r#"[{"missing":[[0,1]],"stream":1}]"#));
    }

    proptest! {
        /// R4: complete exactly when every ordinal of the declared end is there and nothing else.
        #[test]
        fn complete_only_without_a_gap(
            batches in prop::collection::vec((0i64..40, 1i64..10), 0..12), last in -1i64..45,
        ) {
            let ranges: Vec<_> = batches.iter().map(|(first, n)| (*first, first + n - 1)).collect();
            let there: BTreeSet<i64> = ranges.iter().flat_map(|r| r.0..=r.1).collect();
            let whole = there == (0..=last).collect::<BTreeSet<_>>();
            let verdict = judge(&BTreeMap::from([(1, stored(&ranges))]), &[declared(1, last)], "");
            prop_assert_eq!(verdict.reason.is_empty(), whole, "{:?}", verdict);
        }
    }
}
