//! Ids as types of their own, so that one cannot stand where another belongs.
use std::{fmt, str::FromStr};

/// An id that is out of its range or form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {value} is not valid: {expected}")]
pub struct InvalidId {
    /// Which id.
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// What it must be.
    pub expected: &'static str,
}

const MAX_VISIT_ID: i64 = (1 << 53) - 1;

/// An attempt's id: 1 to 2^53 - 1, random, safe in JavaScript numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VisitId(i64);

impl VisitId {
    /// What OpenWPM and we write for records that belong to no visit.
    pub const NONE: i64 = -1;

    /// Draws an id.
    pub fn random() -> Self {
        Self(rand::random_range(1..=MAX_VISIT_ID))
    }

    /// As stored and sent.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for VisitId {
    type Error = InvalidId;
    fn try_from(value: i64) -> Result<Self, InvalidId> {
        if (1..=MAX_VISIT_ID).contains(&value) {
            Ok(Self(value))
        } else {
            Err(InvalidId { what: "visit_id", value: value.to_string(), expected: "1 to 2^53 - 1" })
        }
    }
}

impl fmt::Display for VisitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a browser slot, kept over restarts of its browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrowserId(pub u32);

impl BrowserId {
    /// Draws an id.
    pub fn random() -> Self {
        Self(rand::random_range(1..=u32::MAX))
    }
}

impl fmt::Display for BrowserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Grows with every lease; writers with a lower one than the highest seen are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(i64);

impl Fence {
    /// As stored and sent.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Fence {
    type Error = InvalidId;
    fn try_from(value: i64) -> Result<Self, InvalidId> {
        if value > 0 {
            Ok(Self(value))
        } else {
            Err(InvalidId { what: "fence", value: value.to_string(), expected: "1 or more" })
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stream of an attempt's records: contiguous ordinals from one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl StreamId {
    /// Records of the services themselves.
    pub const SERVICE: Self = Self(0);
    /// Records of the DevTools session.
    pub const DEVTOOLS: Self = Self(1);
    /// The first of the extension's sessions; each further one takes the next.
    pub const EXTENSION: Self = Self(2);
}

/// A crawl's id: a UUID of version 7, so that they sort by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrawlId(uuid::Uuid);

impl CrawlId {
    /// Makes an id of now.
    pub fn new_now() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl FromStr for CrawlId {
    type Err = InvalidId;
    fn from_str(value: &str) -> Result<Self, InvalidId> {
        value.parse().map(Self).map_err(|_| InvalidId {
            what: "crawl_id",
            value: value.to_owned(),
            expected: "a UUID, as CreateCrawl or ListCrawls gives it",
        })
    }
}

impl fmt::Display for CrawlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M03
    #[test]
    fn visit_ids_are_53_bit_and_never_zero() {
        for _ in 0..10_000 {
            assert!(VisitId::try_from(VisitId::random().get()).is_ok());
        }
        for wrong in [0, -1, 1 << 53] {
            assert!(VisitId::try_from(wrong).is_err());
        }
    }

    #[test]
    fn crawl_ids_are_parsed_with_advice() {
        assert!("not a uuid".parse::<CrawlId>().expect_err("refused").to_string().contains("ListCrawls"));
        let id = CrawlId::new_now();
        assert_eq!(id.to_string().parse::<CrawlId>(), Ok(id));
    }
}
