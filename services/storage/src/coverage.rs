//! Which ordinals of a stream are on disk.

/// A set of ordinals as ranges: sorted, inclusive, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(Vec<(i64, i64)>);

impl Coverage {
    /// Adds `first..=last`; whether any of it was new.
    pub fn add(&mut self, first: i64, last: i64) -> bool {
        // The usual case: the next batch of a stream without gaps.
        if let Some(end) = self.0.last_mut()
            && first == end.1 + 1
        {
            end.1 = last;
            return true;
        }
        let from = self.0.partition_point(|range| range.1 + 1 < first);
        let to = self.0.partition_point(|range| range.0 <= last.saturating_add(1));
        if self.0[from..to].iter().any(|range| range.0 <= first && last <= range.1) {
            return false;
        }
        let merged = self.0[from..to].iter().fold((first, last), |all, r| (all.0.min(r.0), all.1.max(r.1)));
        self.0.splice(from..to, [merged]);
        true
    }

    /// The highest ordinal up to which, from 0, every one is there; -1 when 0 is not.
    pub fn through(&self) -> i64 {
        self.0.first().filter(|range| range.0 == 0).map_or(-1, |range| range.1)
    }

    /// The highest ordinal; -1 when there is none.
    pub fn last(&self) -> i64 {
        self.0.last().map_or(-1, |range| range.1)
    }

    /// How many ordinals.
    pub fn len(&self) -> i64 {
        self.0.iter().map(|range| range.1 - range.0 + 1).sum()
    }

    /// What is missing of `0..=last`.
    pub fn missing(&self, last: i64) -> Vec<(i64, i64)> {
        let mut next = 0;
        let mut gaps = Vec::new();
        for &(from, to) in &self.0 {
            if from > last {
                break;
            }
            if from > next {
                gaps.push((next, from - 1));
            }
            next = to + 1;
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// R3, R4, I16: against a plain set of ordinals, for any batches in any order.
        #[test]
        fn agrees_with_a_set(batches in prop::collection::vec((0i64..200, 1i64..30), 0..40), last in -1i64..250) {
            let mut coverage = Coverage::default();
            let mut set = BTreeSet::new();
            for (first, count) in batches {
                let before = set.len();
                set.extend(first..first + count);
                prop_assert_eq!(coverage.add(first, first + count - 1), set.len() > before);
            }
            prop_assert_eq!(coverage.len(), set.len() as i64);
            prop_assert_eq!(coverage.last(), set.last().copied().unwrap_or(-1));
            prop_assert_eq!(coverage.through(), (0..).find(|o| !set.contains(o)).expect("finite") - 1);
            let missing: Vec<i64> = coverage.missing(last).iter().flat_map(|r| r.0..=r.1).collect();
            let expected: Vec<i64> = (0..=last).filter(|o| !set.contains(o)).collect();
            prop_assert_eq!(missing, expected);
            prop_assert!(coverage.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{:?}", coverage.0);
        }
    }
}
