//! What is asked for in vain, and so is read anew before its copies are too old to refuse by.
//!
//! Were each copy read anew by whoever finds it too old, a shop with many such items would never have young ones:
//! each would be asked for less often than it gets old. So whoever finds one that gets old says so once, and for a
//! while it is kept young, with all others of its sort: one question after the other, which of them have changed.
//! Their copies are kept at hand as well: what is asked for a million times a second is not looked for in a cache.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stockhold_core::{ItemKey, StockView};
use tokio::sync::Notify;

use crate::{
    cache::{Kept, TieredCache},
    clock::{Clock, SystemClock},
    redis::spread,
};

/// For how long an item is kept young after somebody has last said that it gets old.
const KEPT: Duration = Duration::from_secs(2);
/// Whoever says so again before that is not listened to.
const HEARD: Duration = Duration::from_millis(500);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// About not more than so many: the others are told no by the ledger. To ask it for so many versions takes it some 20 ms.
const MOST: usize = 10_000;
/// Items are spread over so many locks.
const LOCKS: usize = 64;

/// Items in demand.
#[derive(Debug)]
pub(super) struct Demand {
    parts: [RwLock<Part>; LOCKS],
    count: AtomicUsize,
    wakes: Notify,
}

type Part = HashMap<ItemKey, Wanted>;

#[derive(Debug)]
struct Wanted {
    /// When somebody last said so.
    at: Duration,
    copy: Option<Kept<StockView>>,
}

impl Default for Demand {
    fn default() -> Self {
        let parts = std::array::from_fn(|_| RwLock::default());
        Self { parts, count: AtomicUsize::new(0), wakes: Notify::new() }
    }
}

impl Demand {
    /// Somebody wants it, and its copy gets old. Says whether that is news.
    pub(super) fn note(&self, item: &ItemKey) -> bool {
        let now = SystemClock.boot();
        let part = self.part(item);
        if read(part).get(item).is_some_and(|wanted| now.saturating_sub(wanted.at) < HEARD) {
            return false;
        }
        let mut part = write(part);
        if let Some(wanted) = part.get_mut(item) {
            wanted.at = now;
            return false;
        }
        let has_room = self.count.load(Ordering::Relaxed) < MOST;
        if has_room {
            part.insert(item.clone(), Wanted { at: now, copy: None });
            drop(part);
            self.count.fetch_add(1, Ordering::Relaxed);
            self.wakes.notify_one();
        }
        has_room
    }

    /// Looks at the copy of an item that is at hand.
    pub(super) fn look<T>(
        &self,
        item: &ItemKey,
        see: impl FnOnce(&Kept<StockView>) -> Option<T>,
    ) -> Option<T> {
        see(read(self.part(item)).get(item)?.copy.as_ref()?)
    }

    /// Those that are still in demand.
    fn now(&self) -> Vec<ItemKey> {
        let now = SystemClock.boot();
        let mut items = Vec::with_capacity(self.count.load(Ordering::Relaxed));
        for part in &self.parts {
            let mut part = write(part);
            part.retain(|_, wanted| now.saturating_sub(wanted.at) < KEPT);
            items.extend(part.keys().cloned());
        }
        self.count.store(items.len(), Ordering::Relaxed);
        items
    }

    /// From now on their copies are at hand, as far as there are any.
    fn take(&self, items: &[ItemKey], cache: &TieredCache<ItemKey, StockView>) {
        for item in items {
            if self.look(item, |copy| cache.has(copy).then_some(())).is_none()
                && let copy @ Some(_) = cache.keep(item)
                && let Some(wanted) = write(self.part(item)).get_mut(item)
            {
                wanted.copy = copy;
            }
        }
    }

    fn part(&self, item: &ItemKey) -> &RwLock<Part> {
        let place = spread(item.sku.as_str().as_bytes()) % LOCKS as u64;
        &self.parts[usize::try_from(place).unwrap_or(0)]
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
            this.take(&items, &cache);
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

fn read(part: &RwLock<Part>) -> RwLockReadGuard<'_, Part> {
    part.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(part: &RwLock<Part>) -> RwLockWriteGuard<'_, Part> {
    part.write().unwrap_or_else(PoisonError::into_inner)
}
