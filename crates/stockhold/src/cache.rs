//! A read cache with two levels: this process, Redis, and behind them a source.
//!
//! Every read says how old it may be. Whatever was invalidated before a read began is not in it, also not
//! by a load that began before; versions only move forward; one load per key, in all processes together
//! while Redis is there; and nothing that the cache does makes a read fail while the source answers, or a
//! value is there that may be served.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use stockhold::{Failure, Timestamp, cache::*};
//!
//! #[derive(Debug)]
//! struct Prices;
//!
//! #[async_trait::async_trait]
//! impl Loader<String, u64> for Prices {
//!     async fn load(&self, skus: Vec<String>) -> Result<Vec<Loaded<u64>>, Failure> {
//!         let now = Timestamp::from_millis(1_790_000_000_000); // the source's own time
//!         Ok(skus.iter().map(|sku| Loaded::new(sku.len() as u64, 1, now)).collect())
//!     }
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let prices = TieredCache::builder("prices", Arc::new(Prices)).start();
//! let first = prices.get(&"MUG".to_owned()).await?;
//! assert_eq!((first.value, first.origin), (Some(3), Origin::Source));
//! let again = prices.get_at_most(&"MUG".to_owned(), Duration::from_secs(1)).await?;
//! assert_eq!(again.origin, Origin::L1);
//! # Ok(()) }
//! ```

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use stockhold_core::Timestamp;
use tokio::{sync::Notify, task::AbortHandle};

use self::{
    age::SourceClock,
    depot::{Depot, Filled},
    gate::Gate,
    link::Link,
    reading::{Way, late, sealed},
    shelf::{Boarding, Name, Shelf},
};
use crate::{
    Failure,
    clock::{Clock, SystemClock, within},
    redis::Redis,
};

mod age;
mod backlog;
mod depot;
pub(crate) mod gate;
mod link;
mod policy;
mod read;
mod reading;
mod shelf;
mod telling;

pub use crate::ledger::Unchanged;
pub use backlog::Invalidated;
pub use policy::Policy;
pub use read::{Origin, Read, Reason};

use backlog::Backlog;
pub(crate) use shelf::Kept;

/// What values are found by.
pub trait CacheKey: Clone + Send + Sync + 'static {
    /// Bytes that no other key has, the same in all processes.
    fn name(&self) -> Vec<u8>;
}

/// What is cached.
pub trait CacheValue: Clone + Send + Sync + 'static {
    /// For other processes.
    fn encode(&self) -> Vec<u8>;

    /// What another process has written; none if this one cannot read it.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// About how many bytes it takes in this process: as many as for other processes.
    fn weight(&self) -> u32 {
        u32::try_from(self.encode().len()).unwrap_or(u32::MAX)
    }
}

impl CacheKey for String {
    fn name(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl CacheValue for u64 {
    fn encode(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }

    fn weight(&self) -> u32 {
        Self::BITS / 8
    }
}

/// What a source has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<V> {
    /// None: nothing.
    pub value: Option<V>,
    /// Counts up with every change.
    pub version: u64,
    /// The moment, on the source's clock, at which it was so. Means nothing if there is nothing.
    pub as_of: Timestamp,
}

impl<V> Loaded<V> {
    /// There is something.
    pub const fn new(value: V, version: u64, as_of: Timestamp) -> Self {
        Self { value: Some(value), version, as_of }
    }

    /// There is nothing, and nobody says when.
    #[must_use]
    pub fn nothing() -> Self {
        Self { value: None, version: 0, as_of: Timestamp::default() }
    }
}

/// Asks the source.
#[async_trait]
pub trait Loader<K, V>: Send + Sync + 'static {
    /// What it has under these keys, one answer for each, in their order. What was changed before it is
    /// asked has to be in the answers.
    ///
    /// # Errors
    /// None of them can be read.
    async fn load(&self, keys: Vec<K>) -> Result<Vec<Loaded<V>>, Failure>;

    /// Which of these keys still have these versions. For sources that can say so for less than it takes to load
    /// them; any other says so of none.
    ///
    /// # Errors
    /// None of them can be read.
    async fn unchanged(&self, known: &[(K, u64)]) -> Result<Unchanged, Failure>
    where
        K: Sync,
    {
        Ok(Unchanged { are_same: vec![false; known.len()], as_of: Timestamp::default() })
    }
}

/// A cache; clones are handles on the same one. When the last one is dropped, its tasks end.
pub struct TieredCache<K, V> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    shelf: Shelf<V>,
    gate: Arc<Gate<K, V>>,
    depot: Option<Depot>,
    link: Arc<Link>,
    backlog: Backlog,
    owes: Notify,
    clock: SourceClock,
    policy: Policy,
    reads: [AtomicU64; ORIGINS.len()],
    tasks: Mutex<Vec<AbortHandle>>,
}

const ORIGINS: [&str; 4] = ["l1", "l2", "source", "stale"];

impl<K, V> Drop for Shared<K, V> {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl<K, V> Clone for TieredCache<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, V> fmt::Debug for TieredCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredCache").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}

/// What a cache is made of.
pub struct Builder<K, V> {
    namespace: String,
    loader: Arc<dyn Loader<K, V>>,
    bytes: u64,
    redis: Option<Redis>,
    policy: Policy,
}

impl<K, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// How a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it is told of what others change.
    pub is_linked: bool,
    /// How Redis is, if there is one: `up`; `down`, nobody would tell; `open`, so much has failed that it is
    /// not asked.
    pub redis: Option<&'static str>,
    /// Invalidations that Redis does not know of yet.
    pub queued: usize,
    /// Values in this process, about.
    pub values: u64,
    /// Loads whose value was thrown away, because it was invalidated meanwhile.
    pub poisoned: u64,
}

impl<K: CacheKey, V: CacheValue> Builder<K, V> {
    /// Room for values in this process, in bytes: 64 MiB.
    #[must_use]
    pub const fn l1_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Shares values with other processes.
    #[must_use]
    pub fn redis(mut self, redis: Redis) -> Self {
        self.redis = Some(redis);
        self
    }

    /// Behaves like this.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Starts it on the current tokio runtime.
    #[must_use]
    pub fn start(self) -> TieredCache<K, V> {
        let Self { namespace, loader, bytes, redis, policy } = self;
        let keep = policy.ttl.saturating_add(policy.stale_if_error);
        let depot = redis.clone();
        let depot = depot.map(|redis| Depot::new(redis, &namespace, policy.ttl, policy.lease));
        let shared = Arc::new(Shared {
            shelf: Shelf::new(bytes, keep),
            gate: Arc::new(Gate::new(loader, policy.loads, policy.keys_of_a_load)),
            depot,
            link: Arc::default(),
            backlog: Backlog::default(),
            owes: Notify::new(),
            clock: SourceClock::default(),
            policy,
            reads: Default::default(),
            tasks: Mutex::default(),
        });
        if let Some(redis) = redis {
            shared.listen(redis);
        }
        TieredCache { shared }
    }
}

impl<K: CacheKey, V: CacheValue> TieredCache<K, V> {
    /// A cache of what this loader loads, under a name that all processes share.
    #[must_use]
    pub fn builder(namespace: &str, loader: Arc<dyn Loader<K, V>>) -> Builder<K, V> {
        let (namespace, bytes) = (namespace.to_owned(), 64 << 20);
        Builder { namespace, loader, bytes, redis: None, policy: Policy::default() }
    }

    /// What is under this key.
    ///
    /// # Errors
    /// The source has failed, and there is no value that may be served all the same.
    pub async fn get(&self, key: &K) -> Result<Read<V>, Arc<Failure>> {
        self.read(key, None).await
    }

    /// The same, not older than that when it was asked for: else the source is asked.
    ///
    /// # Errors
    /// The source has failed.
    pub async fn get_at_most(&self, key: &K, age: Duration) -> Result<Read<V>, Arc<Failure>> {
        self.read(key, Some(age)).await
    }

    /// The same as [`get`](Self::get) for many keys at once, in their order.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Result<Read<V>, Arc<Failure>>> {
        self.read_many(keys, None).await
    }

    /// The same as [`get_at_most`](Self::get_at_most) for many keys at once, in their order.
    pub async fn get_many_at_most(
        &self,
        keys: &[K],
        age: Duration,
    ) -> Vec<Result<Read<V>, Arc<Failure>>> {
        self.read_many(keys, Some(age)).await
    }

    /// As [`get`](Self::get), or with a bound as [`get_at_most`](Self::get_at_most).
    pub(crate) async fn read(
        &self,
        key: &K,
        most: Option<Duration>,
    ) -> Result<Read<V>, Arc<Failure>> {
        self.shared.get(key, most).await
    }

    /// The same for many keys at once, in their order.
    pub(crate) async fn read_many(
        &self,
        keys: &[K],
        most: Option<Duration>,
    ) -> Vec<Result<Read<V>, Arc<Failure>>> {
        self.shared.get_many(keys, most).await
    }

    /// What this process has under a key, however old; nothing is loaded.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<Read<V>> {
        let entry = self.shared.shelf.get(&key.name())?;
        Some(entry.told(Origin::L1, None, SystemClock.boot()))
    }

    /// The same for whoever only looks at the value, and at how long ago it is known to have had this version: in
    /// between, what the version does not count may have changed. And when that was, on the source's clock.
    pub(crate) fn look<T>(
        &self,
        key: &K,
        now: Duration,
        see: impl FnOnce(&V, Duration, Timestamp) -> T,
    ) -> Option<T> {
        self.shared.shelf.get(&key.name())?.seen(now, see)
    }

    /// What this process has under a key, for whoever looks at it again and again.
    pub(crate) fn keep(&self, key: &K) -> Option<Kept<V>> {
        let (shelf, name) = (&self.shared.shelf, key.name());
        shelf.keep_since(shelf.turn(&name), &name)
    }

    /// Whether nobody has said since that it is old, here or to this process. It may be gone all the same; then it is not
    /// confirmed any more.
    pub(crate) fn has(&self, kept: &Kept<V>) -> bool {
        self.shared.shelf.has(kept)
    }

    /// The same as [`look`](Self::look), for a fraction of what looking for it costs. None as well if it may be
    /// something else by now.
    pub(crate) fn look_at<T>(
        &self,
        kept: &Kept<V>,
        now: Duration,
        see: impl FnOnce(&V, Duration, Timestamp) -> T,
    ) -> Option<T> {
        if self.has(kept) { kept.entry.seen(now, see) } else { None }
    }

    /// Makes sure of what this process has under these keys: the source is asked once which of it still has its
    /// version. What has not, and what `is_over` by now on the source's clock, is loaded without anybody waiting for it.
    /// For whoever has to know what is young, of so much that the source would have too much to do with loading it.
    ///
    /// # Errors
    /// The source has failed, or takes too long.
    pub(crate) async fn confirm(
        &self,
        keys: &[K],
        is_over: impl Fn(&V, Timestamp) -> bool,
    ) -> Result<(), Failure> {
        let (shared, since) = (&self.shared, SystemClock.boot());
        let (mut known, mut entries) = (Vec::new(), Vec::new());
        for key in keys {
            let Some(entry) = shared.shelf.get(&key.name()) else {
                self.refresh(key);
                continue;
            };
            let (age, as_of) = entry.confirmed_age(since);
            match &entry.value {
                Some(value) if !is_over(value, as_of.after(age)) => {
                    known.push((key.clone(), entry.version));
                    entries.push(entry);
                }
                None if shared.is_fresh(&entry, since) => {}
                _ => self.refresh(key),
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        let (since, limit) = (SystemClock.boot(), shared.policy.hard_deadline);
        let known = Arc::new(known);
        let asked = within(&SystemClock, limit, shared.gate.unchanged(&known)).await;
        let Unchanged { are_same, as_of } = asked.unwrap_or_else(|| Err(late(limit)))?;
        // Of an entry that is gone by now it is true as well.
        for (((key, _), entry), is_same) in known.iter().zip(&entries).zip(are_same) {
            if is_same {
                entry.confirm(since, as_of);
            } else {
                self.refresh(key);
            }
        }
        Ok(())
    }

    /// Loads it anew from the source, for this process alone, without anybody waiting for it; unless it is on its
    /// way.
    pub(crate) fn refresh(&self, key: &K) {
        let (shared, name) = (&self.shared, Name::from(key.name()));
        let plan = shared.plan(SystemClock.boot(), Way::Alone);
        if let Boarding::Pilot(flight) = shared.shelf.board(&name, plan, |_| true) {
            shared.take_off(key, &name, &flight);
        }
    }

    /// Hands in what somebody knows who has just changed the source, or read it, in place of what is older; where
    /// there is nothing, nothing is put. `since`: the source was asked after that moment of the boot clock.
    pub async fn publish(&self, key: &K, loaded: Loaded<V>, since: Duration) {
        let (shared, name) = (&self.shared, Name::from(key.name()));
        if loaded.value.is_some() {
            shared.clock.learn(since, loaded.as_of);
        }
        let life = shared.link.life();
        let entry = shared.entry(&loaded, life, since, Duration::ZERO);
        shared.shelf.replace(&name, &entry);
        let (Some(depot), Some(bytes)) = (&shared.depot, sealed(&loaded)) else { return };
        if shared.backlog.covers(&name) {
            return;
        }
        match depot.publish(&name, loaded.version, &bytes).await {
            Ok(Filled::Yes) => shared.shelf.replace(&name, &Arc::new(entry.told_of())),
            Ok(Filled::Gone | Filled::Foreign | Filled::Below) => {}
            Err(_) => drop(shared.backlog.add(&name, loaded.version)),
        }
    }

    /// From when this returns, nobody is given by this process what was there before; nor, if it is
    /// `Applied`, by any other that has heard of it. `version`: below it nothing is to be served.
    pub async fn invalidate(&self, key: &K, version: u64) -> Invalidated {
        let (shared, name) = (&self.shared, Name::from(key.name()));
        shared.shelf.invalidate(&name);
        let Some(depot) = &shared.depot else { return Invalidated::Applied };
        let told = depot.invalidate(&name, version).await;
        // Who began to read in between may have found the old one in Redis.
        let invalidated = match told {
            Ok(_) => Invalidated::Applied,
            Err(_) => shared.backlog.add(&name, version),
        };
        shared.shelf.invalidate(&name);
        invalidated
    }

    /// The same without waiting for Redis, which is told behind. Until it is, this process does not ask it for
    /// this key. What nobody has asked Redis for is not remembered there.
    pub fn invalidate_soon(&self, key: &K, version: u64) {
        let (shared, name) = (&self.shared, Name::from(key.name()));
        if shared.depot.is_some() {
            shared.backlog.add(&name, version);
            shared.owes.notify_one();
        }
        shared.shelf.invalidate(&name);
    }

    /// The value may still be served, marked as stale, while there is no other.
    pub fn expire(&self, key: &K) {
        self.shared.shelf.expire(&Name::from(key.name()));
    }

    /// Nobody is given by this process what is there now: for a cache that no other process shares.
    pub(crate) fn clear(&self) {
        self.shared.shelf.invalidate_all();
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        let Shared { shelf, link, backlog, depot, .. } = &*self.shared;
        Health {
            is_linked: link.is_up(),
            redis: depot.as_ref().map(|depot| match (depot.is_open(), link.is_up()) {
                (true, _) => "open",
                (false, true) => "up",
                (false, false) => "down",
            }),
            queued: backlog.len(),
            values: shelf.len(),
            poisoned: shelf.poisoned(),
        }
    }

    /// How many reads were answered from where, since the start.
    #[must_use]
    pub fn reads(&self) -> [(&'static str, u64); 4] {
        let count = |n: usize| self.shared.reads.get(n).map_or(0, |n| n.load(Ordering::Relaxed));
        std::array::from_fn(|n| (ORIGINS.get(n).copied().unwrap_or_default(), count(n)))
    }
}

#[cfg(test)]
mod tests;
