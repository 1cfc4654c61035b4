//! What is asked for in vain, and so is read anew before its copies are too old to refuse by.
//!
//! Were each copy read anew by whoever finds it too old, a shop with many such items would never have young ones:
//! each would be asked for less often than it gets old. So whoever finds one that gets old says so once, and for a
//! while it is kept young, with all others of its sort: one question after the other, which of them have changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use stockhold_core::{ItemKey, StockView};
use tokio::sync::Notify;

use crate::{
    cache::TieredCache,
    clock::{Clock, SystemClock},
};

/// For how long an item is kept young after somebody has last said that it gets old.
const KEPT: Duration = Duration::from_secs(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Not more than so many: the others are told no by the ledger. To ask it for so many versions takes it some 20 ms.
const MOST: usize = 10_000;

/// Items in demand, by when somebody last said so.
#[derive(Debug, Default)]
pub(super) struct Demand {
    items: Mutex<HashMap<ItemKey, Duration>>,
    wakes: Notify,
}

impl Demand {
    /// Somebody wants it, and its copy gets old. Says whether that is news.
    pub(super) fn note(&self, item: &ItemKey) -> bool {
        let now = SystemClock.boot();
        let mut items = self.items();
        if let Some(at) = items.get_mut(item) {
            *at = now;
            return false;
        }
        let has_room = items.len() < MOST;
        if has_room {
            items.insert(item.clone(), now);
            drop(items);
            self.wakes.notify_one();
        }
        has_room
    }

    /// Those that are still in demand.
    fn now(&self) -> Vec<ItemKey> {
        let now = SystemClock.boot();
        let mut items = self.items();
        items.retain(|_, at| now.saturating_sub(*at) < KEPT);
        items.keys().cloned().collect()
    }

    fn items(&self) -> MutexGuard<'_, HashMap<ItemKey, Duration>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps copies of what is in demand younger than that, until nobody has this any more.
    pub(super) async fn keep_young(
        demand: Weak<Self>,
        cache: TieredCache<ItemKey, StockView>,
        within: Duration,
    ) {
        while let Some(this) = demand.upgrade() {
            let items = this.now();
            if items.is_empty() {
                Self::wait(this).await;
                continue;
            }
            drop(this);
            let begun = SystemClock.boot();
            // When a hold was to die, the next deadline is another one: also if it was extended, and nothing else has
            // changed. A ledger that does not answer says nothing, and copies get too old.
            let is_over = |view: &StockView, now| view.next_due_at.is_some_and(|due| due <= now);
            let _ = cache.confirm(&items, is_over).await;
            let next = begun.saturating_add(within / 2);
            // Nor is it asked without a pause, however long it takes.
            let pause = next.saturating_sub(SystemClock.boot()).max(within / 8).max(SHORTEST_PAUSE);
            SystemClock.sleep(pause).await;
        }
    }

    /// Until something is in demand; not for ever, since nobody may be there to say so.
    async fn wait(this: Arc<Self>) {
        const LOOK_AGAIN: Duration = Duration::from_secs(1);
        let _ = crate::clock::within(&SystemClock, LOOK_AGAIN, this.wakes.notified()).await;
    }
}
