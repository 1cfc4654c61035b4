//! Which active holds there are, newest first.

use std::collections::BTreeSet;

use super::Book;
use crate::{Hold, HoldId, HoldState, HoldView, Sku, StockItem, StockView, Timestamp};

impl Book {
    /// Up to `limit` of the holds that are active at `now`, newest first: of those with a line of
    /// `sku`, if it is given; with a lower id than `before`, if it is given; and `wanted`. A due
    /// hold is not active any more.
    ///
    /// Looks at every active hold in hand, or of the items of the SKU.
    #[must_use]
    pub fn newest_active(
        &self,
        sku: Option<&Sku>,
        before: Option<HoldId>,
        limit: usize,
        now: Timestamp,
        wanted: impl Fn(&Hold) -> bool,
    ) -> Vec<HoldView> {
        let is_before = |id: &HoldId| before.is_none_or(|before| *id < before);
        let view = |id| self.hold_view(id, now).filter(|v| v.hold.state == HoldState::Active);
        let is_wanted = |id: &HoldId| self.hold(*id).is_some_and(|hold| wanted(hold));
        let mut newest = BTreeSet::new();
        for id in self.active(sku).filter(is_before) {
            let is_older = newest.len() >= limit && newest.first().is_some_and(|last| id <= *last);
            if is_older || !is_wanted(&id) || view(id).is_none() {
                continue;
            }
            newest.insert(id);
            if newest.len() > limit {
                newest.pop_first();
            }
        }
        newest.into_iter().rev().filter_map(view).collect()
    }

    /// The active holds, due or not; one with two lines of the SKU comes twice. The latest deadline
    /// comes first: it is most often that of the newest hold, so that the others are passed over.
    fn active(&self, sku: Option<&Sku>) -> impl Iterator<Item = HoldId> {
        let all = sku.is_none().then_some(&self.due);
        let slots = self.items.iter().filter(move |(key, _)| sku == Some(&key.sku));
        let deadlines = all.into_iter().chain(slots.map(|(_, slot)| &slot.due));
        deadlines.flat_map(|due| due.iter().rev()).map(|(_, id)| *id)
    }

    /// An item as it is at `now`. One that is not in hand has no active hold.
    #[must_use]
    pub fn view_of_item(&self, item: StockItem, now: Timestamp) -> StockView {
        let slot = self.items.get(&item.key);
        let next_due_at = slot.and_then(|slot| self.next_deadline_in(&slot.due));
        let as_of = now.max(item.touched_at);
        StockView { item, next_due_at, as_of }
    }
}
