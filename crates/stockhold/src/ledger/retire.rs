//! Which holds are kept no longer.

use std::time::Duration;

use stockhold_core::{Hold, HoldId, Timestamp};

/// What one step of a retirement came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// How many holds were removed.
    pub holds: usize,
    /// From where the next step goes on; none if no older hold is left to look at.
    pub next: Option<HoldId>,
}

/// How old a hold has to be, and what time it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retirement {
    pub(crate) now: Timestamp,
    pub(crate) age: Duration,
}

impl Retirement {
    /// Ids rise with time: behind a hold that is younger than that there is nothing to do yet. If
    /// a clock stepped back, that is only found out later.
    pub(crate) fn is_young(&self, created_at: Timestamp) -> bool {
        self.now.since(created_at) < self.age
    }

    /// Whether nothing can become of the hold any more, and its last step is long past.
    pub(crate) fn takes(&self, hold: &Hold, last_step: Timestamp) -> bool {
        hold.state.is_over() && self.now.since(last_step) >= self.age
    }
}
