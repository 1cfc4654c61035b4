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
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use stockhold_core::Timestamp;
use tokio::{sync::Notify, task::AbortHandle};
use tracing::warn;

use self::{
    age::SourceClock,
    depot::{Depot, Filled, Found, Token, random_token},
    gate::Gate,
    link::{Heard, Link, Listener},
    shelf::{Boarding, Ended, Entry, Flight, Name, Plan, Shelf},
};
use crate::{
    Failure, FailureKind,
    clock::{Clock, SystemClock, within},
    redis::{Redis, Trouble},
};

mod age;
mod backlog;
mod depot;
pub(crate) mod gate;
mod link;
mod policy;
mod read;
mod shelf;

pub use backlog::Invalidated;
pub use policy::Policy;
pub use read::{Origin, Read, Reason};

use backlog::{Backlog, Owing};

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
        self.shared.get(key, None).await
    }

    /// The same, not older than that when it was asked for: else the source is asked.
    ///
    /// # Errors
    /// The source has failed.
    pub async fn get_at_most(&self, key: &K, age: Duration) -> Result<Read<V>, Arc<Failure>> {
        self.shared.get(key, Some(age)).await
    }

    /// The same for many keys at once, in their order.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Result<Read<V>, Arc<Failure>>> {
        let reading = keys.iter().map(|key| {
            let (shared, key) = (Arc::clone(&self.shared), key.clone());
            tokio::spawn(async move { shared.get(&key, None).await })
        });
        let mut reads = Vec::with_capacity(keys.len());
        for read in reading.collect::<Vec<_>>() {
            reads.push(read.await.unwrap_or_else(|_| Err(Arc::new(panicked()))));
        }
        reads
    }

    /// What this process has under a key, however old; nothing is loaded.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<Read<V>> {
        let entry = self.shared.shelf.get(&key.name())?;
        Some(entry.told(Origin::L1, None, SystemClock.boot()))
    }

    /// Loads it anew from the source, for this process alone, without anybody waiting for it; unless it is on its
    /// way. For whoever has to know what is young, of so much that Redis would have more to do with it than the
    /// source.
    pub(crate) fn refresh(&self, key: &K) {
        let (shared, name) = (&self.shared, Name::from(key.name()));
        let plan = shared.plan(SystemClock.boot(), Way::Alone);
        if let Boarding::Pilot(flight) = shared.shelf.board(&name, plan, |_| true) {
            shared.take_off(key, &name, &flight);
        }
    }

    /// Loads what this process does not have, without anybody waiting for it.
    pub fn warm(&self, key: &K) {
        let (shared, name) = (&self.shared, Name::from(key.name()));
        if shared.shelf.get(&name).is_none() {
            let plan = shared.plan(SystemClock.boot(), Way::ByDepot);
            if let Boarding::Pilot(flight) = shared.shelf.board(&name, plan, |_| true) {
                shared.take_off(key, &name, &flight);
            }
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

/// How a read is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By Redis, if it has a value.
    ByDepot,
    /// From the source.
    Straight,
    /// The same, and Redis is not told.
    Alone,
}

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    async fn get(
        self: &Arc<Self>,
        key: &K,
        most: Option<Duration>,
    ) -> Result<Read<V>, Arc<Failure>> {
        let read = self.read(key, most).await;
        if let Ok(read) = &read {
            let place = ORIGINS.iter().position(|origin| *origin == read.origin.code());
            if let Some(count) = place.and_then(|place| self.reads.get(place)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        read
    }

    async fn read(
        self: &Arc<Self>,
        key: &K,
        most: Option<Duration>,
    ) -> Result<Read<V>, Arc<Failure>> {
        let name = Name::from(key.name());
        // Before the look: what was heard of until then is not there any more.
        let (heard, now) = (self.heard(), SystemClock.boot());
        let known = self.shelf.get(&name);
        if let Some(entry) = &known
            && self.is_fresh(entry, now)
            && most.is_none_or(|most| entry.age(heard, now) <= most)
        {
            self.look_ahead(key, &name, entry, now);
            return Ok(entry.told(Origin::L1, heard, now));
        }
        // With a bound nothing stale is served.
        let stale = known.filter(|entry| most.is_none() && self.may_be_stale(entry, now));
        let soft = stale.as_ref().map(|_| self.policy.soft_deadline);
        let limit = soft.unwrap_or(self.policy.hard_deadline);
        match within(&SystemClock, limit, self.bring_young(key, &name, most)).await {
            // What was heard since says nothing: it may have been invalidated on its way.
            Some(Ok(entry)) => Ok(entry.told(entry.origin, None, SystemClock.boot())),
            Some(Err(failure)) => self.or_stale(stale, Reason::Failed).ok_or(failure),
            None => self.or_stale(stale, Reason::Late).ok_or_else(|| Arc::new(late(limit))),
        }
    }

    /// What Redis has, or the source if that is too old. What the source answers is young enough: no load is
    /// joined that began earlier than that.
    async fn bring_young(
        self: &Arc<Self>,
        key: &K,
        name: &Name,
        most: Option<Duration>,
    ) -> Ended<V> {
        let asked = SystemClock.boot();
        let entry = self.fly(key, name, Way::ByDepot, most).await?;
        if most.is_none_or(|most| entry.age(None, asked) <= most) {
            return Ok(entry);
        }
        self.fly(key, name, Way::Straight, most).await
    }

    /// Waits for the load of this key; begins one if there is none that is good enough.
    async fn fly(
        self: &Arc<Self>,
        key: &K,
        name: &Name,
        way: Way,
        most: Option<Duration>,
    ) -> Ended<V> {
        let now = SystemClock.boot();
        let suits = |flight: &Flight<V>| {
            let is_straight = flight.plan.is_straight || way == Way::ByDepot;
            is_straight && most.is_none_or(|most| now.saturating_sub(flight.plan.begun) <= most)
        };
        match self.shelf.board(name, self.plan(now, way), suits) {
            Boarding::Passenger(flight) => flight.ended().await,
            Boarding::Pilot(flight) => {
                self.take_off(key, name, &flight);
                flight.ended().await
            }
        }
    }

    fn plan(&self, begun: Duration, way: Way) -> Plan {
        Plan {
            begun,
            life: self.link.life(),
            is_straight: way != Way::ByDepot,
            is_alone: way == Way::Alone,
        }
    }

    /// Loads in a task of its own: whoever stops waiting does not stop it.
    fn take_off(self: &Arc<Self>, key: &K, name: &Name, flight: &Arc<Flight<V>>) {
        let (shared, key, name) = (Arc::clone(self), key.clone(), Name::clone(name));
        let flight = Arc::clone(flight);
        tokio::spawn(async move {
            let limit = shared.policy.hard_deadline;
            let loading = shared.load(&key, &name, &flight);
            let ended = within(&SystemClock, limit, loading).await;
            let ended = ended.unwrap_or_else(|| Err(Arc::new(late(limit))));
            shared.shelf.land(&name, &flight, ended);
        });
    }

    async fn load(self: &Arc<Self>, key: &K, name: &Name, flight: &Flight<V>) -> Ended<V> {
        let shares = !flight.plan.is_alone && !self.backlog.covers(name);
        let Some(depot) = self.depot.as_ref().filter(|_| shares) else {
            return self.ask_source(key, flight).await.map(|(entry, _)| entry);
        };
        if flight.plan.is_straight {
            let (entry, loaded) = self.ask_source(key, flight).await?;
            let Some(bytes) = sealed(&loaded).filter(|_| !self.shelf.is_poisoned(flight)) else {
                return Ok(entry);
            };
            let published = depot.publish(name, loaded.version, &bytes).await;
            let is_told = matches!(published, Ok(Filled::Yes));
            return Ok(if is_told { Arc::new(entry.told_of()) } else { entry });
        }
        let token = random_token();
        match self.find(depot, name, flight, &token).await {
            Some(Find::Entry(entry)) => Ok(entry),
            Some(Find::Lease(floor)) => self.fill(depot, key, name, flight, &token, floor).await,
            None => self.ask_source(key, flight).await.map(|(entry, _)| entry),
        }
    }

    /// Asks Redis until it has a value, or gives the right to load one. None: it cannot be asked.
    async fn find(
        &self,
        depot: &Depot,
        name: &Name,
        flight: &Flight<V>,
        token: &Token,
    ) -> Option<Find<V>> {
        let mut pause = SHORT;
        loop {
            match depot.get_or_lease(name, token).await.ok()? {
                Found::Value { version, left, bytes } => {
                    // What this version cannot read, and what may be old, is loaded.
                    let entry = self.unsealed(flight, version, left, &bytes);
                    return entry.filter(|entry| self.is_sure(entry)).map(Find::Entry);
                }
                Found::Lease { floor } => return Some(Find::Lease(floor)),
                Found::Wait(left) => {
                    SystemClock.sleep(pause.min(left)).await;
                    pause = pause.saturating_mul(2).min(LONG);
                }
            }
        }
    }

    async fn fill(
        &self,
        depot: &Depot,
        key: &K,
        name: &Name,
        flight: &Flight<V>,
        token: &Token,
        floor: u64,
    ) -> Ended<V> {
        let asked = self.ask_source(key, flight).await;
        let sealed = asked.as_ref().ok().and_then(|(_, loaded)| sealed(loaded));
        let Some(bytes) = sealed.filter(|_| !self.shelf.is_poisoned(flight)) else {
            // Others need not wait until its time is over.
            let _ = depot.leave(name, token).await;
            return asked.map(|(entry, _)| entry);
        };
        let (entry, Loaded { version, .. }) = asked?;
        match depot.fill(name, token, version, &bytes).await {
            Ok(Filled::Yes) => Ok(Arc::new(entry.told_of())),
            Err(_) => Ok(entry),
            // Somebody has invalidated it since. Who has waited for it may have it; nobody after.
            Ok(Filled::Gone | Filled::Foreign) => Ok(Arc::new(entry.outdated())),
            Ok(Filled::Below) => {
                warn!(version, floor, "a source has answered with what is too old");
                Ok(Arc::new(entry.outdated()))
            }
        }
    }

    async fn ask_source(
        &self,
        key: &K,
        flight: &Flight<V>,
    ) -> Result<(Arc<Entry<V>>, Loaded<V>), Arc<Failure>> {
        let since = SystemClock.boot();
        let loaded = self.gate.load(key.clone()).await?;
        if loaded.value.is_some() {
            self.clock.learn(since, loaded.as_of);
        }
        let cost = SystemClock.boot().saturating_sub(since);
        Ok((self.entry(&loaded, flight.plan.life, since, cost), loaded))
    }

    /// As it is stored. `life` is that of the link when the value was asked for.
    fn entry(
        &self,
        loaded: &Loaded<V>,
        life: u64,
        since: Duration,
        cost: Duration,
    ) -> Arc<Entry<V>> {
        let stored = SystemClock.boot();
        let Policy { ttl, negative_ttl, .. } = self.policy;
        let ttl = if loaded.value.is_some() { ttl } else { negative_ttl };
        // Up to a tenth less, so that what came together does not go together.
        let ttl = ttl.mul_f64(rand::random::<f64>().mul_add(-0.1, 1.0));
        Arc::new(Entry {
            value: loaded.value.clone(),
            version: loaded.version,
            as_of: loaded.as_of,
            since,
            stored,
            fresh_until: stored.saturating_add(ttl),
            cost,
            life,
            weight: loaded.value.as_ref().map_or(0, weight),
            origin: Origin::Source,
            is_told: self.policy.only_writer,
            is_outdated: false,
        })
    }

    /// What another process has written.
    fn unsealed(
        &self,
        flight: &Flight<V>,
        version: u64,
        left: Duration,
        bytes: &[u8],
    ) -> Option<Arc<Entry<V>>> {
        let (as_of, value) = bytes.split_first_chunk::<8>()?;
        let as_of = Timestamp::from_millis(i64::from_be_bytes(*as_of));
        let now = SystemClock.boot();
        let since = self.clock.on_boot_clock(as_of, now);
        let since = since.unwrap_or_else(|| now.saturating_sub(self.oldest(left)));
        let loaded = Loaded { value: Some(V::decode(value)?), version, as_of };
        let entry = self.entry(&loaded, flight.plan.life, since, Duration::ZERO);
        let entry = Arc::into_inner(entry)?;
        let fresh_until = entry.fresh_until.min(entry.stored.saturating_add(left));
        Some(Arc::new(Entry { fresh_until, origin: Origin::L2, is_told: true, ..entry }))
    }

    /// Whether somebody would have told if it were old: while nobody can tell this process, perhaps nobody can
    /// tell Redis either.
    fn is_sure(&self, entry: &Entry<V>) -> bool {
        self.link.is_up() || entry.age(None, SystemClock.boot()) <= self.policy.unlinked_ttl
    }

    /// How old a value in Redis is at most that lives on for so long: it was put there by somebody who had not
    /// waited for longer than anybody does.
    fn oldest(&self, left: Duration) -> Duration {
        const SLACK: Duration = Duration::from_secs(1);
        let Policy { ttl, hard_deadline, .. } = self.policy;
        ttl.saturating_sub(left).saturating_add(hard_deadline).saturating_add(SLACK)
    }

    fn is_fresh(&self, entry: &Entry<V>, now: Duration) -> bool {
        let until = if self.policy.only_writer || entry.is_told && self.link.is_up() {
            entry.fresh_until
        } else {
            entry.fresh_until.min(entry.stored.saturating_add(self.policy.unlinked_ttl))
        };
        entry.life == self.link.life() && now < until
    }

    fn may_be_stale(&self, entry: &Entry<V>, now: Duration) -> bool {
        let Policy { ttl, stale_if_error, .. } = self.policy;
        now < entry.stored.saturating_add(ttl).saturating_add(stale_if_error)
    }

    fn or_stale(&self, stale: Option<Arc<Entry<V>>>, reason: Reason) -> Option<Read<V>> {
        stale.map(|entry| entry.told(Origin::Stale(reason), None, SystemClock.boot()))
    }

    /// Until when everything that was said was heard of, if that makes a value younger.
    fn heard(&self) -> Option<Heard> {
        self.link.heard().filter(|_| self.policy.writers_wait)
    }

    /// Loads a value that is in demand before its time has come, the sooner the longer that takes: each
    /// reader by itself, by chance, so that seldom more than one does.
    ///
    /// A. Vattani, F. Chierichetti, K. Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*
    /// (VLDB 2015).
    fn look_ahead(self: &Arc<Self>, key: &K, name: &Name, entry: &Entry<V>, now: Duration) {
        let left = entry.fresh_until.saturating_sub(now);
        // The negative logarithm of what is in (0, 1].
        let chance = -(1.0 - rand::random::<f64>()).ln();
        if entry.cost.mul_f64(chance) < left {
            return;
        }
        let plan = self.plan(now, Way::Straight);
        if let Boarding::Pilot(flight) = self.shelf.board(name, plan, |_| true) {
            self.take_off(key, name, &flight);
        }
    }
}

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    /// Hears what others change, and tells them what they have not heard of yet.
    fn listen(self: &Arc<Self>, redis: Redis) {
        let listener = Arc::downgrade(self);
        let prefix = self.depot.as_ref().map_or_else(String::new, Depot::prefix);
        let listening = tokio::spawn(Arc::clone(&self.link).run(redis, prefix, listener));
        let telling = tokio::spawn(tell(Arc::downgrade(self)));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.extend([listening.abort_handle(), telling.abort_handle()]);
    }
}

impl<K: CacheKey, V: CacheValue> Listener for Shared<K, V> {
    fn changed(&self, keys: Option<&[&[u8]]>) {
        let Some(depot) = &self.depot else { return };
        for key in keys.unwrap_or_default() {
            match depot.name_of(key) {
                Some(name) => self.shelf.invalidate(name),
                None => self.shelf.invalidate_all(),
            }
        }
        if keys.is_none() {
            self.shelf.invalidate_all();
        }
    }
}

/// Works off what Redis is owed, as soon as it can be told.
async fn tell<K: CacheKey, V: CacheValue>(shared: Weak<Shared<K, V>>) {
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            // What Redis could not be told is tried again after a while.
            within(&SystemClock, AGAIN, shared.owes.notified()).await;
        }
        while let Some(shared) = shared.upgrade() {
            let next = shared.backlog.next(AT_ONCE);
            if next.is_nothing() || shared.tell(&next).await.is_err() {
                break;
            }
            shared.backlog.done(&next);
        }
    }
}

/// So many invalidations are on their way to Redis at once.
const AT_ONCE: usize = 256;
const AGAIN: Duration = Duration::from_millis(100);

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    async fn tell(&self, owed: &Owing) -> Result<(), Trouble> {
        let Some(depot) = &self.depot else { return Ok(()) };
        match owed {
            Owing::Some(floors) => {
                let telling = floors.iter().map(|(name, floor)| depot.forget(name, *floor));
                for told in join_all(telling).await {
                    told?;
                }
                // Whoever reads from now on may find in Redis what was filled in since.
                floors.iter().for_each(|(name, _)| self.shelf.invalidate(name));
            }
            Owing::Everything(_) => {
                depot.invalidate_all().await?;
                self.shelf.invalidate_all();
            }
        }
        Ok(())
    }
}

/// What is in Redis, or may be put there.
enum Find<V> {
    Entry(Arc<Entry<V>>),
    Lease(u64),
}

/// Between two looks at what somebody else loads, at first and at most.
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_millis(25);

/// For other processes: when it was so, and what. Nothing is not told.
fn sealed<V: CacheValue>(loaded: &Loaded<V>) -> Option<Vec<u8>> {
    let value = loaded.value.as_ref()?.encode();
    Some([&loaded.as_of.as_millis().to_be_bytes()[..], &value].concat())
}

fn weight<V: CacheValue>(value: &V) -> u32 {
    u32::try_from(value.encode().len()).unwrap_or(u32::MAX)
}

fn late(limit: Duration) -> Failure {
    Failure::new(FailureKind::Unavailable, format!("the source has not answered within {limit:?}"))
}

fn panicked() -> Failure {
    Failure::new(FailureKind::Internal, "a read of a cache has panicked")
}

#[cfg(test)]
mod tests;
