//! How old a value is that somebody else has read: the source's time, seen from the clock of this machine.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use stockhold_core::Timestamp;

/// By how much two clocks may drift apart: a thousandth, more than any does.
const DRIFT: u32 = 1_000;
/// Moments are told in whole milliseconds, begun ones left out: how far apart two are is known to within one.
const GRAIN: Duration = Duration::from_millis(1);

/// What is known of the source's clock. Each load tells: the source's time was read after the question was
/// sent. So a value is never taken to be younger than it is.
#[derive(Debug, Default)]
pub(super) struct SourceClock {
    last: Mutex<Option<Sample>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    sent: Duration,
    as_of: Timestamp,
}

impl SourceClock {
    /// A question was sent at `sent`, on the boot clock, and answered as of a moment on the source's.
    pub(super) fn learn(&self, sent: Duration, as_of: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.sent <= sent) {
            *last = Some(Sample { sent, as_of });
        }
    }

    /// The latest moment on the boot clock of which it is sure that it is not after that moment on the
    /// source's. None as long as the source was not asked from here.
    pub(super) fn on_boot_clock(&self, as_of: Timestamp, now: Duration) -> Option<Duration> {
        let last = (*self.last.lock().unwrap_or_else(PoisonError::into_inner))?;
        let drift = now.saturating_sub(last.sent) / DRIFT;
        let sure = if as_of >= last.as_of {
            last.sent.saturating_add(as_of.since(last.as_of)).min(now)
        } else {
            last.sent.saturating_sub(last.as_of.since(as_of))
        };
        Some(sure.saturating_sub(drift).saturating_sub(GRAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn nothing_is_said_before_the_source_was_asked() {
        assert_eq!(SourceClock::default().on_boot_clock(at(5), s(100)), None);
    }

    #[test]
    fn a_value_is_never_taken_to_be_younger_than_it_is() {
        let clock = SourceClock::default();
        // The source's clock is 900 s behind; the answer took up to 2 s.
        clock.learn(s(1_000), at(102));
        for (as_of, now) in [(92, 1_000), (102, 1_000), (103, 1_010), (50, 1_010)] {
            let sure = clock.on_boot_clock(at(as_of), s(now)).unwrap();
            let truth = s(u64::try_from(as_of + 900).unwrap());
            assert!(sure <= truth && sure + s(3) > truth, "{as_of}: {sure:?}");
        }
    }

    #[test]
    fn what_is_known_gets_vaguer_until_the_source_is_asked_again() {
        let clock = SourceClock::default();
        clock.learn(s(1_000), at(100));
        assert_eq!(clock.on_boot_clock(at(100), s(2_000)), Some(s(999) - GRAIN));
        clock.learn(s(2_000), at(1_100));
        assert_eq!(clock.on_boot_clock(at(1_000), s(2_000)), Some(s(1_900) - GRAIN));
        // An older question does not count any more.
        clock.learn(s(1_500), at(900));
        assert_eq!(clock.on_boot_clock(at(1_000), s(2_000)), Some(s(1_900) - GRAIN));
    }

    #[test]
    fn what_was_read_within_one_millisecond_may_be_a_millisecond_apart() {
        let clock = SourceClock::default();
        // The source was asked at the end of the millisecond in which the value had been read.
        let (read, asked) = (Duration::from_micros(5_001), Duration::from_micros(5_999));
        let in_millis =
            |time: Duration| Timestamp::from_millis(time.as_millis().try_into().unwrap());
        clock.learn(asked, in_millis(asked));
        let sure = clock.on_boot_clock(in_millis(read), asked).unwrap();
        assert!(sure <= read, "{sure:?}");
    }
}
