//! How long locks are waited for.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::Label;

/// By what became of it: `granted`, `busy`, or `unavailable`.
#[derive(Clone, Debug)]
pub(crate) struct LockTimes(Family<[Label; 1], Histogram, fn() -> Histogram>);

impl Default for LockTimes {
    fn default() -> Self {
        // From the quarter of a millisecond of a lock that is free to the minutes of a turn.
        Self(Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_25, 3.0, 13))
        }))
    }
}

impl LockTimes {
    pub(crate) fn note(&self, outcome: &'static str, took: Duration) {
        self.0.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }

    /// Each outcome is there before it comes for the first time.
    pub(super) fn begin_at_nothing(&self) {
        for outcome in ["granted", "busy", "unavailable"] {
            drop(self.0.get_or_create(&[("outcome", outcome)]));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "How long a lock was waited for, by what became of that";
        registry.register("stockhold_lock_acquire_seconds", help, self.0.clone());
    }
}
