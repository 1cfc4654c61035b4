//! Moments and durations as they are sent.

use std::time::Duration;

use serde::{Serialize, Serializer};
use stockhold::{
    Timestamp,
    clock::{Clock, SystemClock},
};

/// When a request was taken up.
///
/// The ledger says at what time of its own it decided. The answer is written later, by at most
/// the time that the request has taken so far; that is added, so that an answer never promises
/// more life than a hold has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(Duration);

impl Asked {
    pub(crate) fn now() -> Self {
        Self(SystemClock.boot())
    }

    pub(super) fn elapsed(self) -> Duration {
        SystemClock.boot().saturating_sub(self.0)
    }
}

/// A moment as RFC 3339 has it, in UTC with milliseconds.
pub(crate) struct Rfc3339(pub(crate) Timestamp);

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        // Beyond the year 9999 there is only the end of time.
        let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        serializer.collect_str(&format_args!("{moment:.3}"))
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(millis: i64) -> String {
        serde_json::to_string(&Rfc3339(Timestamp::from_millis(millis))).unwrap()
    }

    #[test]
    fn moments_have_milliseconds_always() {
        assert_eq!(written(0), "\"1970-01-01T00:00:00.000Z\"");
        assert_eq!(written(1_790_000_000_120), "\"2026-09-21T14:13:20.120Z\"");
    }

    #[test]
    fn the_end_of_time_can_be_written() {
        assert_eq!(written(i64::MAX), "\"9999-12-30T22:00:00.999Z\"");
    }
}
