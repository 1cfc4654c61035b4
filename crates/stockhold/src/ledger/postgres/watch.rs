//! Watches the clock of the Postgres server: it is every instance's, and it may step.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold_core::Timestamp;

use crate::{
    Failure, FailureKind,
    clock::{Clock, SystemClock},
};

/// The server's time and ours may differ by that much in how fast they went.
const TOLERANCE: Duration = Duration::from_secs(2);
/// For so long nothing is swept after a step.
const PAUSE: Duration = Duration::from_secs(10);

/// Compares how far the server's wall clock went with how far our boot clock did.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Mutex<Option<(Timestamp, Duration)>>,
    /// In ms since boot; 0 if there was no step.
    paused_until: AtomicU64,
    steps: AtomicU64,
}

impl Watch {
    /// The server's clock was read, at this moment since boot.
    pub(super) fn note(&self, now: Timestamp, boot: Duration) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((then, then_boot)) = last.replace((now, boot)) else { return };
        drop(last);
        let (forth, back) = (now.since(then), then.since(now));
        let passed = boot.saturating_sub(then_boot);
        if back > TOLERANCE || forth.abs_diff(passed) > TOLERANCE {
            self.paused_until.store(millis(boot.saturating_add(PAUSE)), Ordering::Relaxed);
            self.steps.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                ?forth,
                ?back,
                ?passed,
                "the clock of the Postgres server has stepped: nothing is swept for 10 s; \
                 look at its time service"
            );
        }
    }

    /// How many steps were seen.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `Unavailable` for a while after a step.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.paused_until.load(Ordering::Relaxed) > millis(SystemClock.boot()) {
            let message =
                "the clock of the Postgres server has stepped: nothing is swept for a while";
            return Err(Failure::new(FailureKind::Unavailable, message));
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(seconds: [i64; 2]) -> Watch {
        let watch = Watch::default();
        for second in seconds {
            watch.note(Timestamp::from_millis(second * 1_000), SystemClock.boot());
        }
        watch
    }

    #[test]
    fn a_clock_that_goes_on_is_trusted() {
        let watch = noted([1_000, 1_001]);
        assert!(watch.check().is_ok() && watch.steps() == 0);
    }

    #[test]
    fn a_step_in_either_direction_stops_the_sweeping() {
        for seconds in [[1_000, 1_003], [1_000, 990]] {
            let watch = noted(seconds);
            assert!(watch.check().is_err() && watch.steps() == 1);
        }
    }
}
