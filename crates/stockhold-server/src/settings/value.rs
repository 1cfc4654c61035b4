//! Values that know their range: what is outside cannot be read, and the complaint says what is
//! allowed.

use std::{fmt, time::Duration};

use jiff::{Span, SpanRelativeTo};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number, as the length of something.
    #[must_use]
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(CountVisitor::<MIN, MAX>)
    }
}

struct CountVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Visitor<'_> for CountVisitor<MIN, MAX> {
    type Value = Count<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        let count = u32::try_from(number).ok().filter(|count| (MIN..=MAX).contains(count));
        count.map(Count).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Count<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// Values that are read from a text, and written as one.
pub(crate) mod text {
    use std::{borrow::Cow, fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    pub(crate) fn serialize<T, S>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Display,
        S: Serializer,
    {
        serializer.collect_str(value)
    }
}

/// A duration from `MIN` to `MAX` milliseconds, written as `"30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting<const MIN: u64, const MAX: u64>(Duration);

/// Milliseconds in a second.
pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

impl<const MIN: u64, const MAX: u64> Lasting<MIN, MAX> {
    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Lasting<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(LastingVisitor::<MIN, MAX>)
    }
}

struct LastingVisitor<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Visitor<'_> for LastingVisitor<MIN, MAX> {
    type Value = Lasting<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a duration from \"{}\" to \"{}\"", written(MIN), written(MAX))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let range = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        let duration = parse(text).filter(|duration| range.contains(duration));
        duration.map(Lasting).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Lasting<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // No setting is longer than its MAX.
        serializer.serialize_str(&written(u64::try_from(self.0.as_millis()).unwrap_or(MAX)))
    }
}

/// A day has 24 hours here.
fn parse(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

/// In the largest unit of which it is a whole number.
fn written(millis: u64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")];
    let whole = |(unit, _): &(u64, &str)| millis >= *unit && millis.is_multiple_of(*unit);
    match units.into_iter().find(whole) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Result<u32, String> {
        #[derive(Deserialize)]
        struct One {
            n: Count<3, 1_000>,
        }
        let one: Result<One, _> = toml::from_str(&format!("n = {text}"));
        one.map(|one| one.n.get()).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_count_is_within_its_range() {
        assert_eq!((count("3"), count("1_000")), (Ok(3), Ok(1_000)));
        for wrong in ["2", "1001", "-5", "9223372036854775807", "3.5", "\"3\"", "true", "[]"] {
            let complaint = count(wrong).unwrap_err();
            assert!(complaint.ends_with("expected a whole number from 3 to 1000"), "{complaint}");
        }
    }

    fn lasting(text: &str) -> Result<Duration, String> {
        #[derive(Deserialize)]
        struct One {
            t: Lasting<100, { 30 * DAY }>,
        }
        let one: Result<One, _> = toml::from_str(&format!("t = {text}"));
        one.map(|one| one.t.get()).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("100ms", 100),
            ("30s", 30_000),
            ("15m", 900_000),
            ("1h 30m", 5_400_000),
            ("24h", DAY),
            ("30d", 30 * DAY),
        ] {
            assert_eq!(lasting(&format!("{text:?}")), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_in_its_range_is_refused_with_it() {
        for wrong in ["99ms", "31d", "30", "-5s", "1 month", "", "soon", "1y"] {
            let complaint = lasting(&format!("{wrong:?}")).unwrap_err();
            assert!(complaint.ends_with("from \"100ms\" to \"30d\""), "{wrong}: {complaint}");
        }
        assert!(lasting("30").is_err());
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for millis in [0, 1, 999, SECOND, 90 * SECOND, HOUR, 36 * HOUR, 7 * DAY] {
            assert_eq!(parse(&written(millis)), Some(Duration::from_millis(millis)), "{millis}");
        }
        assert_eq!((written(DAY), written(90 * SECOND)), ("1d".to_owned(), "90s".to_owned()));
    }
}
