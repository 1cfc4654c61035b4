//! I9: holds that should have been expired.

use std::collections::BinaryHeap;

use super::report::{Findings, Invariant, MOST_KEPT};
use crate::HoldId;

/// A hold may be active for this many ms after its deadline: 10 s of grace, and 1 s for whoever
/// expires it.
const TOLERATED: i64 = 11_000;

/// The active holds with the earliest deadlines. Which of them are overdue is known only at the
/// end, and keeping all of them would need memory for every hold.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    earliest: BinaryHeap<(i64, HoldId)>,
    is_full: bool,
}

impl Overdue {
    pub(super) fn watch(&mut self, deadline: i64, id: HoldId) {
        if self.earliest.len() < MOST_KEPT {
            self.earliest.push((deadline, id));
            return;
        }
        self.is_full = true;
        if let Some(mut latest) = self.earliest.peek_mut()
            && deadline < latest.0
        {
            *latest = (deadline, id);
        }
    }

    pub(super) fn check(self, now: i64, findings: &mut Findings) {
        let lateness = |deadline: i64| now.saturating_sub(deadline);
        let is_late = |deadline| lateness(deadline) > TOLERATED;
        if self.is_full && self.earliest.peek().is_some_and(|latest| is_late(latest.0)) {
            findings.warning(format_args!(
                "of the overdue holds only the {MOST_KEPT} oldest are counted"
            ));
        }
        let earliest = self.earliest.into_sorted_vec();
        for (deadline, id) in earliest.into_iter().filter(|(deadline, _)| is_late(*deadline)) {
            let late = lateness(deadline);
            let detail = format_args!(
                "is active {late} ms after its deadline {deadline}; {TOLERATED} ms is the most"
            );
            findings.violation(Invariant::I9, format_args!("hold {id}"), detail);
        }
    }
}
