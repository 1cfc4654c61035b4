//! The one place that reads time.
//!
//! Three clocks matter. The **wall** clock says what time it is, and may step. The **boot** clock
//! only goes forward, and goes on while the machine is suspended (`CLOCK_BOOTTIME`). A
//! [`LedgerClock`] starts from the wall clock once and is driven by the boot clock from then on,
//! so that a step of the wall clock makes no hold older or younger than promised (R17).
#![expect(clippy::disallowed_methods, reason = "this is the file that may read time")]

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use rustix::time::{ClockId, clock_gettime};
use stockhold_core::Timestamp;

/// Where time comes from. Handed to whoever needs it, so that a test can move it by hand.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// What time it is. May step in either direction.
    fn wall(&self) -> Timestamp;

    /// Time since the machine was started, suspends included. Never goes back.
    fn boot(&self) -> Duration;

    /// Returns when that much time has passed on the boot clock.
    async fn sleep(&self, duration: Duration);
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(0).after(since)
    }

    fn boot(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Ledger time of one process: from the wall clock at the start, but never from before what the
/// ledger has seen, and from then on as fast as the boot clock.
#[derive(Clone, Debug)]
pub struct LedgerClock {
    clock: Arc<dyn Clock>,
    start: Timestamp,
    booted: Duration,
}

impl LedgerClock {
    /// Starts ledger time at `max(wall, high_water)`.
    #[must_use]
    pub fn start(clock: Arc<dyn Clock>, high_water: Timestamp) -> Self {
        let (start, booted) = (clock.wall().max(high_water), clock.boot());
        Self { clock, start, booted }
    }

    /// Ledger time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.start.after(self.clock.boot().saturating_sub(self.booted))
    }
}

/// Waits for the future, but not for longer than `limit`.
pub(crate) async fn within<F: Future>(
    clock: &dyn Clock,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = clock.sleep(limit) => None,
    }
}

#[cfg(any(test, feature = "conformance"))]
mod manual {
    use super::{Arc, Clock, Duration, Timestamp, async_trait};
    use std::sync::Mutex;
    use tokio::sync::watch;

    /// A clock that a test moves by hand; clones show the same time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockhold::clock::{Clock, ManualClock};
    /// let clock = ManualClock::default();
    /// let before = clock.wall();
    /// clock.advance(Duration::from_secs(30));
    /// assert_eq!(clock.wall().since(before), Duration::from_secs(30));
    /// ```
    #[derive(Clone, Debug)]
    pub struct ManualClock {
        wall: Arc<Mutex<Timestamp>>,
        boot: watch::Sender<Duration>,
    }

    impl Default for ManualClock {
        /// Some moment in 2026, an hour after boot.
        fn default() -> Self {
            let wall = Timestamp::from_millis(1_790_000_000_000);
            let (boot, _) = watch::channel(Duration::from_secs(3_600));
            Self { wall: Arc::new(Mutex::new(wall)), boot }
        }
    }

    impl ManualClock {
        /// Lets time pass. Sleepers whose time has come wake up.
        pub fn advance(&self, duration: Duration) {
            self.step_wall_to(self.wall().after(duration));
            self.boot.send_modify(|boot| *boot = boot.saturating_add(duration));
        }

        /// Sets the wall clock, as an operator or NTP might; no time passes.
        pub fn step_wall_to(&self, wall: Timestamp) {
            let mut guard = self.wall.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *guard = wall;
        }
    }

    #[async_trait]
    impl Clock for ManualClock {
        fn wall(&self) -> Timestamp {
            *self.wall.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        fn boot(&self) -> Duration {
            *self.boot.borrow()
        }

        async fn sleep(&self, duration: Duration) {
            let mut boot = self.boot.subscribe();
            let until = boot.borrow().saturating_add(duration);
            // The sender lives as long as `self`, so this only ends when time has come.
            let _ = boot.wait_for(|now| *now >= until).await;
        }
    }
}

#[cfg(any(test, feature = "conformance"))]
pub use manual::ManualClock;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_time_ignores_steps_of_the_wall_clock() {
        let clock = ManualClock::default();
        let start = clock.wall();
        let ledger = LedgerClock::start(Arc::new(clock.clone()), Timestamp::default());
        clock.step_wall_to(Timestamp::from_millis(0));
        clock.advance(Duration::from_secs(5));
        assert_eq!(ledger.now(), start.after(Duration::from_secs(5)));
    }

    #[test]
    fn ledger_time_starts_at_the_high_water_if_the_wall_clock_is_behind() {
        let clock = ManualClock::default();
        let seen = clock.wall().after(Duration::from_secs(3_600));
        let ledger = LedgerClock::start(Arc::new(clock), seen);
        assert_eq!(ledger.now(), seen);
    }

    #[test]
    fn the_boot_clock_goes_forward() {
        let (first, second) = (SystemClock.boot(), SystemClock.boot());
        assert!(first <= second && first > Duration::ZERO);
    }
}
