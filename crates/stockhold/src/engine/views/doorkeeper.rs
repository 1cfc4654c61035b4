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
    Error, Failure,
    cache::{Loaded, Loader, TieredCache, gate::Gate},
    clock::{Clock, SystemClock, within},
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

    pub(super) async fn refusal(&self, request: &PlaceRequest) -> Option<Error> {
        if request.replaces.is_some() || !self.is_allowed(&request.lines) {
            return None;
        }
        let (refusal, age) = self.judge(&request.lines)?;
        let Some(key) = &request.key else { return Some(refusal) };
        // Whoever does not know in time need not be asked any more.
        let left = self.within.saturating_sub(age);
        let is_known = within(&SystemClock, left, self.knows(KeyId::of("place", key))).await;
        // Looking for the key has taken its time: a hold may have died, or units have come back.
        if is_known? { None } else { self.judge(&request.lines).map(|(refusal, _)| refusal) }
    }

    /// The ledger was short of these: the next who ask for them may be refused here.
    pub(super) fn learn(&self, short: &[Shortage]) {
        for Shortage { item, .. } in short {
            let is_new = self.demand.note(item);
            // Whoever keeps it young comes by later.
            if is_new || self.look(item, SystemClock.boot()).is_none() {
                self.cache.refresh(item);
            }
        }
    }

    /// Of this item a young copy is needed as well. One that nobody has heard of may not exist.
    fn want(&self, item: &ItemKey, sight: Option<Sight>) {
        match sight {
            Some(sight) if sight.age > self.within / 2 => {
                self.demand.note(item);
            }
            None if self.cache.peek(item).is_none() => self.cache.refresh(item),
            Some(_) | None => {}
        }
    }

    /// What asks for more than may be asked for is told so by the ledger.
    fn is_allowed(&self, lines: &Basket) -> bool {
        lines.len() <= self.limits.max_lines
            && lines.iter().all(|(_, units)| units <= self.limits.max_quantity)
    }

    /// Why not, and how old the oldest copy is that says so. None if there is enough by copies of whatever age: most
    /// places are none of our business; or if a copy is missing, too old, or outlived by a hold.
    fn judge(&self, lines: &Basket) -> Option<(Error, Duration)> {
        let now = SystemClock.boot();
        let sights: Vec<_> = lines.iter().map(|(item, _)| self.look(item, now)).collect();
        let short = shortages(lines, &sights);
        if short.is_empty() {
            return None;
        }
        lines.iter().zip(&sights).for_each(|((item, _), sight)| self.want(item, *sight));
        let is_sure = |sight: &Option<Sight>| sight.is_some_and(|sight| sight.is_sure(self.within));
        if !sights.iter().all(is_sure) {
            return None;
        }
        let Sight { age, as_of, .. } =
            sights.into_iter().flatten().max_by_key(|sight| sight.age)?;
        let rejection = Rejection::InsufficientStock { lines: short, of: lines.len() };
        let refusal = Error::Rejected { rejection: Box::new(rejection), as_of: Some(as_of) };
        Some((refusal, age))
    }

    fn look(&self, item: &ItemKey, now: Duration) -> Option<Sight> {
        let see = |view: &StockView, age, as_of| Sight {
            available: view.item.available(),
            next_due_at: view.next_due_at,
            age,
            as_of,
        };
        let kept = self.demand.look(item, |copy| self.cache.look_at(copy, now, see));
        kept.or_else(|| self.cache.look(item, now, see))
    }

    /// Whether something may have been done under this key.
    async fn knows(&self, key: KeyId) -> bool {
        self.keys.load(key).await.map_or(true, |found| found.value.is_some())
    }
}

/// What a copy says of an item.
#[derive(Clone, Copy, Debug)]
struct Sight {
    available: Quantity,
    next_due_at: Option<Timestamp>,
    age: Duration,
    /// Its moment, on the ledger's clock.
    as_of: Timestamp,
}

impl Sight {
    /// Whether it is young, and no units can have come back since because a hold has died.
    fn is_sure(&self, within: Duration) -> bool {
        // The latest that it can be now, on the ledger's clock, of which whole milliseconds are told.
        let now = self.as_of.after(self.age.saturating_add(Duration::from_millis(1)));
        self.age <= within && self.next_due_at.is_none_or(|due| due > now)
    }
}

fn shortages(lines: &Basket, sights: &[Option<Sight>]) -> Vec<Shortage> {
    let short = lines.iter().zip(sights).filter_map(|((item, requested), sight)| {
        let Sight { available, next_due_at, .. } = (*sight)?;
        let short = || Shortage { item: Arc::clone(item), requested, available, next_due_at };
        (available < requested).then(short)
    });
    short.collect()
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
