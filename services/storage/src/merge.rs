//! One total order of an attempt's rows: by time of capture, each stream keeping its own order.

/// The rows of one stream, in order; `None` at its end.
pub(crate) trait Source {
    type Item;
    type Error;
    fn next(&mut self) -> Result<Option<Self::Item>, Self::Error>;
    /// Microseconds since the epoch.
    fn captured_at(item: &Self::Item) -> i64;
}

struct Head<S: Source> {
    source: S,
    item: Option<S::Item>,
    /// Time of capture, raised where the stream's clock went back, so that the stream's order stays.
    at: i64,
}

impl<S: Source> Head<S> {
    fn advance(&mut self) -> Result<Option<S::Item>, S::Error> {
        let next = self.source.next()?;
        if let Some(item) = &next {
            self.at = self.at.max(S::captured_at(item));
        }
        Ok(std::mem::replace(&mut self.item, next))
    }
}

/// Merges streams, holding one item of each. Of equal times the earlier source comes first.
pub(crate) struct Merge<S: Source>(Vec<Head<S>>);

impl<S: Source> Merge<S> {
    pub fn new(sources: impl IntoIterator<Item = S>) -> Result<Self, S::Error> {
        let mut heads = Vec::new();
        for source in sources {
            let mut head = Head { source, item: None, at: i64::MIN };
            head.advance()?;
            heads.push(head);
        }
        Ok(Self(heads))
    }

    /// The next item and the index of its source.
    pub fn next(&mut self) -> Result<Option<(usize, S::Item)>, S::Error> {
        // An attempt has a handful of streams: a scan beats a heap.
        let first = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, head)| head.item.is_some())
            .min_by_key(|(_, head)| head.at)
            .map(|(index, _)| index);
        let Some(index) = first else { return Ok(None) };
        Ok(self.0[index].advance()?.map(|item| (index, item)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    struct Times(std::vec::IntoIter<i64>);

    impl Source for Times {
        type Item = i64;
        type Error = Infallible;
        fn next(&mut self) -> Result<Option<i64>, Infallible> {
            Ok(self.0.next())
        }
        fn captured_at(item: &i64) -> i64 {
            *item
        }
    }

    proptest! {
        /// M07: every row once, each stream in its own order, and in order of capture where no clock went back.
        #[test]
        fn one_order_consistent_with_each_stream_and_with_time(
            streams in prop::collection::vec(prop::collection::vec(-50i64..50, 0..30), 0..5),
        ) {
            let sources = streams.iter().map(|times| Times(times.clone().into_iter()));
            let Ok(mut merge) = Merge::new(sources);
            let mut merged = Vec::new();
            while let Ok(Some(item)) = merge.next() {
                merged.push(item);
            }
            for (index, times) in streams.iter().enumerate() {
                let own: Vec<i64> = merged.iter().filter(|m| m.0 == index).map(|m| m.1).collect();
                prop_assert_eq!(&own, times);
            }
            let mut raised = vec![i64::MIN; streams.len()];
            let mut last = i64::MIN;
            for (index, at) in merged {
                raised[index] = raised[index].max(at);
                prop_assert!(raised[index] >= last);
                last = raised[index];
            }
        }
    }
}
