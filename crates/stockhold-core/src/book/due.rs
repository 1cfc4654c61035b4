//! Which holds are due, and when the next one will be.

use super::{Book, Deadlines};
use crate::{HoldId, ItemKey, Timestamp};

impl Book {
    /// Up to `limit` holds that are due at `now`, oldest deadline first.
    #[must_use]
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<HoldId> {
        self.due_in(&self.due, now).take(limit).collect()
    }

    /// How many holds are active, due or not.
    #[must_use]
    pub fn active_holds(&self) -> usize {
        self.due.len()
    }

    /// When the next active hold dies, graces included.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next_deadline_in(&self.due)
    }

    /// The due holds of one item.
    pub(super) fn due_of(&self, item: &ItemKey, now: Timestamp) -> Vec<HoldId> {
        let slot = self.items.get(item);
        slot.map_or_else(Vec::new, |slot| self.due_in(&slot.due, now).collect())
    }

    fn due_in<'a>(
        &'a self,
        deadlines: &'a Deadlines,
        now: Timestamp,
    ) -> impl Iterator<Item = HoldId> + 'a {
        let ranges = self.liveness.due_ranges(now).into_iter();
        ranges.flat_map(|(after, upto)| between(deadlines, after, upto))
    }

    pub(super) fn next_deadline_in(&self, deadlines: &Deadlines) -> Option<Timestamp> {
        let marks = self.liveness.marks().into_iter();
        let candidates = marks.filter_map(|after| first_after(deadlines, after));
        candidates.map(|deadline| self.liveness.effective(deadline)).min()
    }
}

/// The holds with `after < deadline <= upto`.
fn between(
    deadlines: &Deadlines,
    after: Timestamp,
    upto: Timestamp,
) -> impl Iterator<Item = HoldId> + '_ {
    let later = deadlines.range(from_after(after)..);
    later.take_while(move |(deadline, _)| *deadline <= upto).map(|&(_, id)| id)
}

fn first_after(deadlines: &Deadlines, after: Timestamp) -> Option<Timestamp> {
    deadlines.range(from_after(after)..).next().map(|&(deadline, _)| deadline)
}

fn from_after(after: Timestamp) -> (Timestamp, HoldId) {
    let next = after.as_millis().saturating_add(1);
    (Timestamp::from_millis(next), HoldId::from_bytes([0; 16]))
}
