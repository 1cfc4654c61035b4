//! Moments and durations, as people write and read them.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;
use stockhold::{Ttl, lock::LeaseTtl};

/// A moment as a server writes it; shown in the time zone of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Moment(Timestamp);

impl Moment {
    /// How much later than `earlier` this is; nothing if it is not later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or_default()
    }
}

impl TryFrom<String> for Moment {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

/// RFC 3339 with the offset of this machine.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = TimeZone::system().to_offset(self.0);
        write!(f, "{:.0}", self.0.display_with_offset(offset))
    }
}

/// A duration to the precision that anybody wants to know: `0.4 s`, `29 s`, `14 min 30 s`, `3 h 5
/// min`, `12 d`.
pub(super) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7_200 => pair(seconds, (60, "min"), (1, "s")),
        7_200..172_800 => pair(seconds, (3_600, "h"), (60, "min")),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn pair(seconds: u64, (large, first): (u64, &str), (small, second): (u64, &str)) -> String {
    match seconds % large / small {
        0 => format!("{} {first}", seconds / large),
        rest => format!("{} {first} {rest} {second}", seconds / large),
    }
}

/// Reads `30s`, `1m 30s`, `2 hours`: for how long a hold is to live.
pub(super) fn ttl(text: &str) -> Result<Ttl, String> {
    let millis = u64::try_from(duration(text)?.as_millis()).unwrap_or(u64::MAX);
    Ttl::from_millis(millis).ok_or_else(|| "from 1 ms on".to_owned())
}

/// Reads how long to wait for somebody.
pub(super) fn patience(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(3_600);
    let duration = duration(text)?;
    if duration.is_zero() || duration > LONGEST {
        return Err("above 0 and at most 1h".to_owned());
    }
    Ok(duration)
}

/// Reads how long to wait for somebody, perhaps not at all.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);
    Some(duration(text)?).filter(|wait| *wait <= LONGEST).ok_or_else(|| "at most 720h".to_owned())
}

/// Reads for how long a lock lives if nobody renews it.
pub(super) fn lease_ttl(text: &str) -> Result<LeaseTtl, String> {
    LeaseTtl::new(duration(text)?).map_err(|failure| failure.message)
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = "a duration is a number and its unit: 500ms, 30s, 15m, 1h 30m";
    let duration = SignedDuration::from_str(text).map_err(|_| wrong.to_owned())?;
    Duration::try_from(duration).map_err(|_| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_said_as_precisely_as_it_is_long() {
        for (millis, words) in [
            (0, "0.0 s"),
            (420, "0.4 s"),
            (29_987, "29 s"),
            (120_000, "2 min"),
            (870_000, "14 min 30 s"),
            (11_100_000, "3 h 5 min"),
            (1_036_800_000, "12 d"),
        ] {
            assert_eq!(in_words(Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn a_ttl_has_a_unit() {
        for (text, millis) in
            [("30s", 30_000), ("500ms", 500), ("1m 30s", 90_000), ("2 h", 7_200_000)]
        {
            assert_eq!(ttl(text).unwrap().as_millis(), millis, "{text}");
        }
        for text in ["30", "", "-3s", "0s", "soon"] {
            assert!(ttl(text).is_err(), "{text}");
        }
        assert!(patience("2h").is_err() && patience("10s").is_ok());
    }

    #[test]
    fn a_moment_is_shown_to_the_second_and_with_its_offset() {
        let moment = Moment::try_from("2026-09-21T14:13:20.120Z".to_owned()).unwrap();
        let shown = moment.to_string();
        assert_eq!(shown.parse::<Timestamp>().unwrap().to_string(), "2026-09-21T14:13:20Z");
        assert!(!shown.contains('.') && !shown.ends_with('Z'), "{shown}");
    }
}
