//! How a value is read: what is at hand, else what Redis has, else what the source has, one load for all who want it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stockhold_core::Timestamp;
use tracing::warn;

use super::{
    CacheKey, CacheValue, Loaded, ORIGINS, Origin, Policy, Read, Reason, Shared,
    depot::{Depot, Filled, Found, Token, random_token},
    link::Heard,
    shelf::{Boarding, Confirmed, Ended, Entry, Flight, Name, Plan},
};
use crate::{
    Failure, FailureKind,
    clock::{Clock, SystemClock, within},
};

/// How a read is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By Redis, if it has a value.
    ByDepot,
    /// From the source.
    Straight,
    /// The same, and Redis is not told.
    Alone,
}

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    pub(super) async fn get(
        self: &Arc<Self>,
        key: &K,
        most: Option<Duration>,
    ) -> Result<Read<V>, Arc<Failure>> {
        let name = key.name();
        let read = match self.at_hand(key, &name, most) {
            Some(read) => read,
            None => self.fetch(key, &Name::from(name), most).await?,
        };
        self.count(&read);
        Ok(read)
    }

    /// What this process has, if that may be served without a word.
    fn at_hand(self: &Arc<Self>, key: &K, name: &[u8], most: Option<Duration>) -> Option<Read<V>> {
        // Before the look: what was heard of until then is not there any more.
        let (heard, now) = (self.heard(), SystemClock.boot());
        let entry = self.shelf.get(name)?;
        let is_young = most.is_none_or(|most| entry.age(heard, now) <= most);
        if !is_young || !self.is_fresh(&entry, now) {
            return None;
        }
        self.look_ahead(key, name, &entry, now);
        Some(entry.told(Origin::L1, heard, now))
    }

    /// What there is elsewhere, or what may be stale.
    async fn fetch(
        self: &Arc<Self>,
        key: &K,
        name: &Name,
        most: Option<Duration>,
    ) -> Result<Read<V>, Arc<Failure>> {
        // With a bound nothing stale is served.
        let known = if most.is_none() { self.shelf.get(name) } else { None };
        let stale = known.filter(|entry| self.may_be_stale(entry, SystemClock.boot()));
        let soft = stale.as_ref().map(|_| self.policy.soft_deadline);
        let limit = soft.unwrap_or(self.policy.hard_deadline);
        match within(&SystemClock, limit, self.bring_young(key, name, most)).await {
            Some(Ok(read)) => Ok(read),
            Some(Err(failure)) => self.or_stale(stale, Reason::Failed).ok_or(failure),
            None => self.or_stale(stale, Reason::Late).ok_or_else(|| Arc::new(late(limit))),
        }
    }

    /// Many at once: what is not at hand is fetched side by side.
    pub(super) async fn get_many(
        self: &Arc<Self>,
        keys: &[K],
        most: Option<Duration>,
    ) -> Vec<Result<Read<V>, Arc<Failure>>> {
        let reading = keys.iter().map(|key| match self.at_hand(key, &key.name(), most) {
            Some(read) => {
                self.count(&read);
                Ok(read)
            }
            None => {
                let (shared, key) = (Arc::clone(self), key.clone());
                Err(tokio::spawn(async move { shared.get(&key, most).await }))
            }
        });
        let mut reads = Vec::with_capacity(keys.len());
        for read in reading.collect::<Vec<_>>() {
            reads.push(match read {
                Ok(read) => Ok(read),
                Err(fetched) => fetched.await.unwrap_or_else(|_| Err(Arc::new(panicked()))),
            });
        }
        reads
    }

    fn count(&self, read: &Read<V>) {
        let place = ORIGINS.iter().position(|origin| *origin == read.origin.code());
        if let Some(count) = place.and_then(|place| self.reads.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What Redis has, or the source if that is too old by now. What the source answers need only have been young enough
    /// when this was called: it cannot be asked for anything younger.
    async fn bring_young(
        self: &Arc<Self>,
        key: &K,
        name: &Name,
        most: Option<Duration>,
    ) -> Result<Read<V>, Arc<Failure>> {
        // What was heard since says nothing: it may have been invalidated on its way.
        let told = |entry: &Entry<V>| entry.told(entry.origin, None, SystemClock.boot());
        let asked = SystemClock.boot();
        let entry = self.fly(key, name, Way::ByDepot, most).await?;
        let read = told(&entry);
        let age = if read.origin == Origin::Source { entry.age(None, asked) } else { read.age };
        if most.is_none_or(|most| age <= most) {
            return Ok(read);
        }
        Ok(told(&*self.fly(key, name, Way::Straight, most).await?))
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

    pub(super) fn plan(&self, begun: Duration, way: Way) -> Plan {
        Plan {
            begun,
            life: self.link.life(),
            is_straight: way != Way::ByDepot,
            is_alone: way == Way::Alone,
        }
    }

    /// Loads in a task of its own: whoever stops waiting does not stop it.
    pub(super) fn take_off(self: &Arc<Self>, key: &K, name: &Name, flight: &Arc<Flight<V>>) {
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
    pub(super) fn entry(
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
            confirmed: Confirmed::default(),
            stored,
            fresh_until: stored.saturating_add(ttl),
            cost,
            life,
            weight: loaded.value.as_ref().map_or(0, CacheValue::weight),
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

    pub(super) fn is_fresh(&self, entry: &Entry<V>, now: Duration) -> bool {
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
    fn look_ahead(self: &Arc<Self>, key: &K, name: &[u8], entry: &Entry<V>, now: Duration) {
        let left = entry.fresh_until.saturating_sub(now);
        // The negative logarithm of what is in (0, 1].
        let chance = -(1.0 - rand::random::<f64>()).ln();
        if entry.cost.mul_f64(chance) < left {
            return;
        }
        let (name, plan) = (Name::from(name), self.plan(now, Way::Straight));
        if let Boarding::Pilot(flight) = self.shelf.board(&name, plan, |_| true) {
            self.take_off(key, &name, &flight);
        }
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
pub(super) fn sealed<V: CacheValue>(loaded: &Loaded<V>) -> Option<Vec<u8>> {
    let value = loaded.value.as_ref()?.encode();
    Some([&loaded.as_of.as_millis().to_be_bytes()[..], &value].concat())
}

pub(super) fn late(limit: Duration) -> Failure {
    Failure::new(FailureKind::Unavailable, format!("the source has not answered within {limit:?}"))
}

fn panicked() -> Failure {
    Failure::new(FailureKind::Internal, "a read of a cache has panicked")
}
