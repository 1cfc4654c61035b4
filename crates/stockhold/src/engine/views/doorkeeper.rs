//! Refuses places by copies of the stock items, so that those who come too late in a rush do not reach the
//! ledger.
//!
//! A copy may be wrong about the present. So it refuses only if it is young, and if no hold on the item can
//! have died since: holds die without anybody hearing of it. Then units were really not available a moment
//! ago. It needs copies of all lines, knows nothing of items that do not exist, and leaves a place that
//! replaces a hold to the ledger, and one whose key the ledger knows: that was granted before.
//!
//! Nobody waits for a copy. What is in demand is kept young; whoever finds none that is young enough goes to the
//! ledger, which gathers as well.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::{
    Basket, ItemKey, KeyId, Limits, Quantity, Rejection, Shortage, StockView, Timestamp,
};

use self::demand::Demand;
use super::super::PlaceRequest;
use crate::{
    ByCopy, Failure,
    cache::{Loaded, Loader, Origin, Read, TieredCache, gate::Gate},
    clock::{Clock, SystemClock},
    ledger::Ledger,
};

mod demand;

pub(super) struct Doorkeeper {
    cache: TieredCache<ItemKey, StockView>,
    keys: Arc<Gate<KeyId, ()>>,
    demand: Arc<Demand>,
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
        let demand = Arc::<Demand>::default();
        tokio::spawn(Demand::keep_young(Arc::downgrade(&demand), cache.clone(), within));
        Self { cache: cache.clone(), keys, demand, within, limits }
    }

    pub(super) async fn refusal(&self, request: &PlaceRequest) -> Option<ByCopy> {
        if request.replaces.is_some() || !self.is_allowed(&request.lines) {
            return None;
        }
        let copies = self.copies(&request.lines)?;
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
        short.iter().for_each(|line| self.want(&line.item));
    }

    /// A young copy is wanted, from now on and for a while.
    fn want(&self, item: &ItemKey) {
        // Whoever keeps it young comes by later.
        if self.demand.note(item) || self.cache.peek(item).is_none() {
            self.cache.refresh(item);
        }
    }

    /// What asks for more than may be asked for is told so by the ledger.
    fn is_allowed(&self, lines: &Basket) -> bool {
        lines.len() <= self.limits.max_lines
            && lines.iter().all(|(_, units)| units <= self.limits.max_quantity)
    }

    /// Copies of all lines, if one of them looks short, by a copy of whatever age: most places are none of our
    /// business. None if one of them is too old, or may have got more units by a death since.
    fn copies(&self, lines: &Basket) -> Option<Copies> {
        let reads: Vec<_> = lines.iter().map(|(item, _)| self.cache.peek(item)).collect();
        let is_short = |(read, (_, units)): (&Option<Read<StockView>>, (_, Quantity))| {
            let view = read.as_ref().and_then(|read| read.value.as_ref());
            view.is_some_and(|view| view.item.available() < units)
        };
        if !reads.iter().zip(lines.iter()).any(is_short) {
            return None;
        }
        // Of the others a copy is needed as well.
        for (read, (item, _)) in reads.iter().zip(lines.iter()) {
            if read.as_ref().is_none_or(|read| read.age > self.within / 2) {
                self.want(item);
            }
        }
        let reads = reads.into_iter().collect::<Option<Vec<_>>>()?;
        Copies::of(reads, self.within)
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
    fn of(reads: Vec<Read<StockView>>, within: Duration) -> Option<Self> {
        let now = SystemClock.boot();
        let mut views = Vec::with_capacity(reads.len());
        let mut oldest: Option<(Duration, Origin, Timestamp)> = None;
        for Read { value, origin, age, as_of, .. } in reads {
            let view = value.filter(|_| age <= within)?;
            // The latest that it can be now, on the ledger's clock.
            let on_its_clock = as_of.after(age);
            if view.next_due_at.is_some_and(|due| due <= on_its_clock) {
                return None;
            }
            views.push(view);
            let since = now.saturating_sub(age);
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
