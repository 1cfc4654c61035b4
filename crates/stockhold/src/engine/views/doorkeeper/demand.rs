//! What is asked for in vain, and so is read anew before its copies are too old to refuse by.
//!
//! Were each copy read anew by whoever finds it too old, a shop with many such items would never have young ones:
//! each would be asked for less often than it gets old. So whoever finds one that gets old says so once, and for a
//! while it is kept young, with all others of its sort: one question after the other, which of them have changed.
//! Their copies are kept as well: what is asked for a million times a second is not looked for in a cache.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use stockhold_core::{ItemKey, StockView};
use tokio::sync::Notify;

use crate::{
    cache::{Kept, TieredCache},
    clock::{Clock, SystemClock},
    redis::{millis, spread},
};

/// For how long an item is kept young after somebody has last said that it gets old.
const WANTED_FOR: Duration = Duration::from_secs(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// About so many at most: the others are told no by the ledger. To ask it for so many versions takes it some 20 ms.
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
    /// When somebody last said so, in milliseconds on the boot clock.
    at: AtomicU64,
    copy: Option<Kept<StockView>>,
}

/// What is to be kept young.
#[derive(Debug, Default)]
struct Round {
    items: Vec<ItemKey>,
    /// Those of which no copy is kept.
    unkept: Vec<ItemKey>,
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
        let now = millis(SystemClock.boot());
        let part = self.part(item);
        if let Some(wanted) = read(part).get(item) {
            wanted.at.store(now, Ordering::Relaxed);
            return false;
        }
        if self.count.load(Ordering::Relaxed) >= MOST {
            return false;
        }
        let wanted = Wanted { at: AtomicU64::new(now), copy: None };
        let is_new = {
            let mut part = write(part);
            let is_new = part.insert(item.clone(), wanted).is_none();
            self.count.fetch_add(usize::from(is_new), Ordering::Relaxed);
            is_new
        };
        self.wakes.notify_one();
        is_new
    }

    /// Looks at the copy of an item that is kept. A lock is held meanwhile.
    pub(super) fn look<T>(
        &self,
        item: &ItemKey,
        see: impl FnOnce(&Kept<StockView>) -> Option<T>,
    ) -> Option<T> {
        see(read(self.part(item)).get(item)?.copy.as_ref()?)
    }

    /// What is still in demand; what is said to be old is let go of.
    fn round(&self, cache: &TieredCache<ItemKey, StockView>) -> Round {
        let since = millis(SystemClock.boot().saturating_sub(WANTED_FOR));
        let mut round = Round::default();
        for part in &self.parts {
            let mut part = write(part);
            let before = part.len();
            part.retain(|_, wanted| *wanted.at.get_mut() >= since);
            self.count.fetch_sub(before - part.len(), Ordering::Relaxed);
            for (item, wanted) in part.iter_mut() {
                wanted.copy.take_if(|copy| !cache.has(copy));
                if wanted.copy.is_none() {
                    round.unkept.push(item.clone());
                }
                round.items.push(item.clone());
            }
        }
        round
    }

    /// Their copies are kept from now on until they are said to be old, as far as there are any.
    fn keep_copies(&self, items: &[ItemKey], cache: &TieredCache<ItemKey, StockView>) {
        for item in items {
            let copy = cache.keep(item);
            if let Some(wanted) = write(self.part(item)).get_mut(item) {
                wanted.copy = copy;
            }
        }
    }

    fn part(&self, item: &ItemKey) -> &RwLock<Part> {
        let ItemKey { sku, location } = item;
        let hash = spread(sku.as_str().as_bytes()) ^ spread(location.as_str().as_bytes());
        &self.parts[usize::try_from(hash % LOCKS as u64).unwrap_or(0)]
    }

    /// Keeps copies of what is in demand younger than that, until nobody has this any more.
    pub(super) async fn keep_young(
        demand: Weak<Self>,
        cache: TieredCache<ItemKey, StockView>,
        within: Duration,
    ) {
        while let Some(this) = demand.upgrade() {
            let Round { items, unkept } = this.round(&cache);
            if items.is_empty() {
                Self::wait(this).await;
                continue;
            }
            this.keep_copies(&unkept, &cache);
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

#[cfg(test)]
mod tests {
    use std::thread;

    use stockhold_core::Sku;

    use super::*;

    fn item(n: usize) -> ItemKey {
        ItemKey::at_default(Sku::new(format!("SKU-{n}")).unwrap())
    }

    #[test]
    fn what_is_wanted_by_many_at_once_is_news_once() {
        let demand = Demand::default();
        let news = thread::scope(|threads| {
            let noting: Vec<_> = (0..4)
                .map(|_| threads.spawn(|| (0..1_000).filter(|n| demand.note(&item(*n))).count()))
                .collect();
            noting.into_iter().map(|noted| noted.join().unwrap()).sum::<usize>()
        });
        assert_eq!((news, demand.count.load(Ordering::Relaxed)), (1_000, 1_000));
    }

    #[test]
    fn no_more_is_kept_young_than_the_ledger_can_be_asked_for() {
        let demand = Demand::default();
        assert!((0..MOST).all(|n| demand.note(&item(n))));
        assert!(!demand.note(&item(MOST)));
        assert!(demand.look(&item(MOST), |_| Some(())).is_none());
        let wanted: usize = demand.parts.iter().map(|part| read(part).len()).sum();
        assert_eq!(wanted, MOST);
    }
}
