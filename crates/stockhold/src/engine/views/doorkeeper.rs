//! Refuses places by copies of the stock items, so that those who come too late in a rush do not reach the
//! ledger.
//!
//! A copy may be wrong about the present. So it refuses only if it is young, and if no hold on the item can
//! have died since: holds die without anybody hearing of it. Then units were really not available a moment
//! ago. It needs copies of all lines, knows nothing of items that do not exist, and leaves a place that
//! replaces a hold to the ledger, and one whose key the ledger knows: that was granted before.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::{
    Basket, ItemKey, KeyId, Limits, Quantity, Rejection, Shortage, StockView, Timestamp,
};

use super::super::PlaceRequest;
use crate::{
    ByCopy, Failure,
    cache::{Loaded, Loader, Origin, Read, TieredCache, gate::Gate},
    clock::{Clock, SystemClock},
    ledger::Ledger,
};

pub(super) struct Doorkeeper {
    cache: TieredCache<ItemKey, StockView>,
    keys: Arc<Gate<KeyId, ()>>,
    /// How old a copy may be.
    within: Duration,
    limits: Limits,
}

impl fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorkeeper").field("within", &self.within).finish_non_exhaustive()
    }
}

/// Look-ups of keys that may run at once, and how many keys one has.
const LOOKUPS: usize = 2;
const KEYS: usize = 1_000;

impl Doorkeeper {
    pub(super) fn new(
        cache: &TieredCache<ItemKey, StockView>,
        ledger: &Arc<dyn Ledger>,
        within: Duration,
        limits: Limits,
    ) -> Self {
        let loader = Arc::new(KnownKeys(Arc::clone(ledger)));
        let keys = Arc::new(Gate::new(loader, LOOKUPS, KEYS));
        Self { cache: cache.clone(), keys, within, limits }
    }

    pub(super) async fn refusal(&self, request: &PlaceRequest) -> Option<ByCopy> {
        if request.replaces.is_some() || !self.is_suspect(&request.lines) {
            return None;
        }
        let copies = Copies::read(&self.cache, &request.lines, self.within).await?;
        let short = copies.shortages(&request.lines);
        if short.is_empty() {
            return None;
        }
        if let Some(key) = &request.key
            && self.knows(KeyId::of("place", key)).await
        {
            return None;
        }
        // Looking for the key has taken its time.
        let is_young = SystemClock.boot().saturating_sub(copies.since) <= self.within;
        let rejection = Rejection::InsufficientStock { lines: short, of: request.lines.len() };
        is_young.then_some(ByCopy { rejection, origin: copies.origin, as_of: copies.as_of })
    }

    /// The ledger was short of these: the next who ask for them may be refused here.
    pub(super) fn learn(&self, short: &[Shortage]) {
        short.iter().for_each(|line| self.cache.warm(&line.item));
    }

    /// Whether a line looks short, by a copy of whatever age: most places are none of our business.
    fn is_suspect(&self, lines: &Basket) -> bool {
        let is_short = |(item, units): (&Arc<ItemKey>, Quantity)| {
            let view = self.cache.peek(item).and_then(|read| read.value);
            view.is_some_and(|view| view.item.available() < units)
        };
        let is_allowed = lines.len() <= self.limits.max_lines
            && lines.iter().all(|(_, units)| units <= self.limits.max_quantity);
        is_allowed && lines.iter().any(is_short)
    }

    /// Whether something may have been done under this key.
    async fn knows(&self, key: KeyId) -> bool {
        self.keys.load(key).await.map_or(true, |found| found.value.is_some())
    }
}

/// Copies of all lines of a basket, none of which can have got more units by a death since.
struct Copies {
    views: Vec<StockView>,
    /// Of the oldest: where it was, its moment on the ledger's clock, and on ours.
    origin: Origin,
    as_of: Timestamp,
    since: Duration,
}

impl Copies {
    async fn read(
        cache: &TieredCache<ItemKey, StockView>,
        lines: &Basket,
        within: Duration,
    ) -> Option<Self> {
        let mut views = Vec::with_capacity(lines.len());
        let mut oldest: Option<(Duration, Origin, Timestamp)> = None;
        for (item, _) in lines.iter() {
            let Read { value, origin, age, as_of, .. } =
                cache.get_at_most(item, within).await.ok()?;
            let view = value?;
            // The latest that it can be now, on the ledger's clock.
            let now = as_of.after(age);
            if view.next_due_at.is_some_and(|due| due <= now) {
                return None;
            }
            views.push(view);
            let since = SystemClock.boot().saturating_sub(age);
            if oldest.is_none_or(|(known, ..)| since < known) {
                oldest = Some((since, origin, as_of));
            }
        }
        let (since, origin, as_of) = oldest?;
        Some(Self { views, origin, as_of, since })
    }

    fn shortages(&self, lines: &Basket) -> Vec<Shortage> {
        let short = lines.iter().zip(&self.views).filter_map(|((item, requested), view)| {
            let available = view.item.available();
            let next_due_at = view.next_due_at;
            let short = Shortage { item: Arc::clone(item), requested, available, next_due_at };
            (available < requested).then_some(short)
        });
        short.collect()
    }
}

/// Which keys the ledger knows.
struct KnownKeys(Arc<dyn Ledger>);

#[async_trait]
impl Loader<KeyId, ()> for KnownKeys {
    async fn load(&self, keys: Vec<KeyId>) -> Result<Vec<Loaded<()>>, Failure> {
        let found = |is_known: bool| Loaded { value: is_known.then_some(()), ..Loaded::nothing() };
        Ok(self.0.knows(&keys).await?.into_iter().map(found).collect())
    }
}
