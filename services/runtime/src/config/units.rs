//! Durations as `30s`, `500ms`, `1m30s`; sizes as `64MiB`.
//!
//! For plain fields: `#[serde(with = "sonde_runtime::config::duration")]` on a `std::time::Duration` and
//! `#[serde(with = "sonde_runtime::config::size")]` on a `u64` of bytes. Within `Option` or `Vec`: [`HumanDuration`]
//! and [`ByteSize`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnitError {
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HumanDuration(pub Duration);

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

const TIMES: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const SIZES: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// The leading digits, the letters after them, and the rest.
fn part(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, rest.trim_start()))
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError {
            message: format!(
                "`{text}` is no duration: give whole numbers with units, such as 30s, 500ms or 1m30s"
            ),
        };
        let mut rest = text.trim();
        let mut nanos: u128 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, unit, after) = part(rest).ok_or_else(wrong)?;
            let (_, scale) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            nanos += u128::from(number) * scale;
            rest = after;
        }
        let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| wrong())?;
        let below = u32::try_from(nanos % 1_000_000_000).map_err(|_| wrong())?;
        Ok(Self(Duration::new(seconds, below)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match TIMES.iter().find(|(_, scale)| nanos.is_multiple_of(*scale)) {
            Some((unit, scale)) if nanos > 0 => write!(f, "{}{unit}", nanos / scale),
            _ => f.write_str("0s"),
        }
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError {
            message: format!(
                "`{text}` is no size: give a whole number with a unit, such as 64MiB, 1GB or 512B"
            ),
        };
        let (number, unit, rest) = part(text.trim()).ok_or_else(wrong)?;
        let (_, scale) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if !rest.is_empty() {
            return Err(wrong());
        }
        number.checked_mul(*scale).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZES[..4].iter().find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale));
        match binary {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

struct Words<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = UnitError>> de::Visitor<'_> for Words<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string with a unit, such as \"30s\" for a duration or \"64MiB\" for a size")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! as_words {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Words(std::marker::PhantomData))
            }
        }
    };
}

as_words!(HumanDuration);
as_words!(ByteSize);

pub mod duration {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        HumanDuration(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        HumanDuration::deserialize(deserializer).map(|words| words.0)
    }
}

pub mod size {
    use super::*;

    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        ByteSize(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        ByteSize::deserialize(deserializer).map(|words| words.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, millis) in
            [("30s", 30_000), ("500ms", 500), ("1m30s", 90_000), ("2 h", 7_200_000), ("0s", 0)]
        {
            assert_eq!(text.parse(), Ok(HumanDuration(Duration::from_millis(millis))), "{text}");
        }
        for (millis, text) in
            [(90_000, "90s"), (500, "500ms"), (7_200_000, "2h"), (0, "0s"), (86_400_000, "1d")]
        {
            assert_eq!(HumanDuration(Duration::from_millis(millis)).to_string(), text);
        }
        for text in ["", "30", "s", "1.5s", "-3s", "30 seconds", "99999999999999999999s"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1GB", 1_000_000_000), ("512B", 512), ("0B", 0)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
        for text in ["", "64", "64mib", "1.5MiB", "1MiB2", "99999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
