//! The first level: values in this process, and who loads which.
//!
//! The race that most caches lose: a load begins, the value is invalidated, the load ends and stores what
//! it had read before. Here a load that is on its way carries a mark. Whoever invalidates marks it, lets
//! go of it and removes the value, all under one lock; whoever has loaded looks at the mark under the
//! same lock, and stores nothing if it is there.
//!
//! Whoever looks at a value again and again keeps it, and looks at a counter instead, without a lock. A change is two
//! writes for him: first the value is taken away, then its counter moves on. So whoever has read the new count cannot
//! find the old value any more.
//!
//! moka holds the values, and does nothing else: its own loading keeps a value that was invalidated
//! while it was loaded.

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use stockhold_core::Timestamp;
use tokio::sync::watch;

use super::{Origin, Read, link::Heard};
use crate::Failure;

/// The bytes of a key.
pub(super) type Name = Arc<[u8]>;

/// Keys are spread over so many locks.
const LOCKS: usize = 64;
/// And over so many counters of what was taken away.
const TURNS: usize = 4_096;

/// What is stored.
#[derive(Debug)]
pub(super) struct Entry<V> {
    /// None: the source has nothing under this key.
    pub(super) value: Option<V>,
    pub(super) version: u64,
    /// The moment of the value, on the source's clock.
    pub(super) as_of: Timestamp,
    /// When the source was asked, or earlier, on the boot clock: nothing that was changed before is missing
    /// from the value.
    pub(super) since: Duration,
    /// Up to when the source has said since that it has not changed.
    pub(super) confirmed: Confirmed,
    /// When it came here, on the boot clock.
    pub(super) stored: Duration,
    /// Until when it is served without a word.
    pub(super) fresh_until: Duration,
    /// How long it took to load.
    pub(super) cost: Duration,
    /// Which life of the link it was stored in.
    pub(super) life: u64,
    /// About how many bytes it has.
    pub(super) weight: u32,
    /// Where it came from.
    pub(super) origin: Origin,
    /// Whether it would be heard of if it changed: who changes it takes it from Redis, and that is heard if it
    /// is there.
    pub(super) is_told: bool,
    /// For those who have waited for it, and nobody after them.
    pub(super) is_outdated: bool,
}

/// The last moment of which it is known that a value still had its version; what the version does not count may have
/// changed. It moves on in place: an entry that is confirmed eight times a second is not made anew each time.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    /// On the boot clock, in nanoseconds; 0: never.
    since: AtomicU64,
    /// On the source's clock, in milliseconds.
    as_of: AtomicI64,
}

impl Confirmed {
    /// Never earlier than before. The later half is written first and read last: who reads in between takes the
    /// source's time to be later than it is, and a copy to be older.
    fn move_on(&self, since: Duration, as_of: Timestamp) {
        self.as_of.fetch_max(as_of.as_millis(), Ordering::Relaxed);
        let since = u64::try_from(since.as_nanos()).unwrap_or(0);
        self.since.fetch_max(since, Ordering::Release);
    }

    fn get(&self) -> Option<(Duration, Timestamp)> {
        let since = self.since.load(Ordering::Acquire);
        let as_of = Timestamp::from_millis(self.as_of.load(Ordering::Relaxed));
        (since > 0).then(|| (Duration::from_nanos(since), as_of))
    }
}

/// How a load ended.
pub(super) type Ended<V> = Result<Arc<Entry<V>>, Arc<Failure>>;

/// A load that is on its way. All who want the key wait for it.
#[derive(Debug)]
pub(super) struct Flight<V> {
    /// What it brings may be older than what was said meanwhile.
    is_poisoned: AtomicBool,
    pub(super) plan: Plan,
    ended: watch::Sender<Option<Ended<V>>>,
}

/// How a load begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// When, on the boot clock.
    pub(super) begun: Duration,
    /// In which life of the link.
    pub(super) life: u64,
    /// Whether the source is asked in any case.
    pub(super) is_straight: bool,
    /// Whether nobody else is told what it brings.
    pub(super) is_alone: bool,
}

impl<V: Clone> Entry<V> {
    /// How old it is: nothing that the source was told longer ago is missing from it.
    pub(super) fn age(&self, heard: Option<Heard>, now: Duration) -> Duration {
        let heard = heard.filter(|heard| heard.life == self.life);
        let since = heard.map_or(self.since, |heard| heard.until.max(self.since));
        now.saturating_sub(since)
    }

    pub(super) fn told(&self, origin: Origin, heard: Option<Heard>, now: Duration) -> Read<V> {
        let age = self.age(heard, now);
        // It was not younger than that when it came; what was heard later makes it so.
        let heard = heard.filter(|heard| heard.life == self.life);
        let younger = heard.map(|heard| heard.until.saturating_sub(self.stored));
        let (value, as_of) = (self.value.clone(), self.as_of.after(younger.unwrap_or_default()));
        Read { value, version: self.version, origin, age, as_of }
    }

    /// How long ago it is known to have had this version, and when that was on the source's clock.
    pub(super) fn confirmed_age(&self, now: Duration) -> (Duration, Timestamp) {
        let (since, as_of) = self.confirmed.get().unwrap_or((self.since, self.as_of));
        (now.saturating_sub(since.max(self.since)), as_of.max(self.as_of))
    }

    /// What it has, how long ago it is known to have had this version, and when that was on the source's clock.
    pub(super) fn seen<T>(
        &self,
        now: Duration,
        see: impl FnOnce(&V, Duration, Timestamp) -> T,
    ) -> Option<T> {
        let (age, as_of) = self.confirmed_age(now);
        Some(see(self.value.as_ref()?, age, as_of))
    }

    /// The source was asked at that moment of the boot clock, and has said that it still had this version at the
    /// other, on its own.
    pub(super) fn confirm(&self, since: Duration, as_of: Timestamp) {
        self.confirmed.move_on(since, as_of);
    }

    fn copy(&self) -> Self {
        // Whoever keeps it young confirms the copy as well.
        Self { value: self.value.clone(), confirmed: Confirmed::default(), ..*self }
    }

    /// The same, and it would be heard of if it changed.
    pub(super) fn told_of(&self) -> Self {
        Self { is_told: true, ..self.copy() }
    }

    /// The same, for those who have waited for it and nobody after them.
    pub(super) fn outdated(&self) -> Self {
        Self { is_outdated: true, ..self.copy() }
    }

    /// The same, served no more unless it may be stale.
    pub(super) fn past_its_time(&self) -> Self {
        Self { fresh_until: Duration::ZERO, ..self.copy() }
    }
}

/// What somebody keeps who need not look for it each time, as long as [`Shelf::has`] it.
pub(crate) struct Kept<V> {
    pub(super) entry: Arc<Entry<V>>,
    turn: Turn,
}

impl<V> fmt::Debug for Kept<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("version", &self.entry.version).finish_non_exhaustive()
    }
}

/// How often something was taken away or replaced that shares a counter with a key, and how often everything was.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    of: usize,
    count: u64,
    all: u64,
}

/// Values, and the loads that are on their way.
pub(super) struct Shelf<V> {
    values: Cache<Name, Arc<Entry<V>>, Hasher>,
    flights: Box<[Mutex<Flights<V>>]>,
    turns: Box<[AtomicU64]>,
    all_turns: AtomicU64,
    hasher: Hasher,
    poisoned: AtomicU64,
    /// Made not to look at the mark, to show that a test notices.
    ignores_poison: bool,
}

type Hasher = std::hash::RandomState;
/// The loads of each key, the latest last.
type Flights<V> = HashMap<Name, Vec<Arc<Flight<V>>>>;

/// Whoever asked to load.
pub(super) enum Boarding<V> {
    /// Loads, and says how it ended.
    Pilot(Arc<Flight<V>>),
    /// Waits for who does.
    Passenger(Arc<Flight<V>>),
}

impl<V: Clone + Send + Sync + 'static> Shelf<V> {
    /// Room for about so many bytes; a value is forgotten after `keep` in any case.
    pub(super) fn new(bytes: u64, keep: Duration) -> Self {
        let hasher = Hasher::default();
        let values = Cache::builder()
            .max_capacity(bytes)
            .weigher(|name: &Name, entry: &Arc<Entry<V>>| {
                let name = u32::try_from(name.len()).unwrap_or(u32::MAX);
                entry.weight.saturating_add(name).saturating_add(OVERHEAD)
            })
            .time_to_live(keep)
            .build_with_hasher(hasher.clone());
        let flights = (0..LOCKS).map(|_| Mutex::default()).collect();
        let turns = (0..TURNS).map(|_| AtomicU64::default()).collect();
        let (all_turns, poisoned) = Default::default();
        Self { values, flights, turns, all_turns, hasher, poisoned, ignores_poison: false }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<Arc<Entry<V>>> {
        self.values.get(name)
    }

    /// The turn of a key; what is found after that may be kept.
    pub(super) fn turn(&self, name: &[u8]) -> Turn {
        let of = self.counter_of(name);
        let count = self.turns[of].load(Ordering::Acquire);
        Turn { of, count, all: self.all_turns.load(Ordering::Acquire) }
    }

    /// What is there under a key, to be kept; the turn was asked for before.
    pub(super) fn keep_since(&self, turn: Turn, name: &[u8]) -> Option<Kept<V>> {
        Some(Kept { entry: self.get(name)?, turn })
    }

    /// Whether nothing that shares its counter was taken away or replaced since. moka may have let go of it; then nobody
    /// confirms it any more.
    pub(super) fn has(&self, kept: &Kept<V>) -> bool {
        let Turn { of, count, all } = kept.turn;
        self.turns[of].load(Ordering::Acquire) == count
            && self.all_turns.load(Ordering::Acquire) == all
    }

    /// Joins the latest load of this key if it `suits`; else begins another one beside it.
    pub(super) fn board(
        &self,
        name: &Name,
        plan: Plan,
        suits: impl FnOnce(&Flight<V>) -> bool,
    ) -> Boarding<V> {
        let mut flights = self.flights_of(name);
        let of_key = flights.entry(Arc::clone(name)).or_default();
        if let Some(flight) = of_key.last().filter(|flight| suits(flight)) {
            return Boarding::Passenger(Arc::clone(flight));
        }
        let (ended, _) = watch::channel(None);
        let is_poisoned = AtomicBool::new(false);
        let flight = Arc::new(Flight { is_poisoned, plan, ended });
        of_key.push(Arc::clone(&flight));
        Boarding::Pilot(flight)
    }

    /// Stores what a load has brought, unless it was marked; and tells all who wait.
    pub(super) fn land(&self, name: &Name, flight: &Arc<Flight<V>>, ended: Ended<V>) {
        let mut flights = self.flights_of(name);
        if let Ok(entry) = &ended
            && !entry.is_outdated
            && !self.is_poisoned(flight)
        {
            self.store(name, entry);
        }
        if let Some(of_key) = flights.get_mut(name) {
            of_key.retain(|other| !Arc::ptr_eq(other, flight));
            if of_key.is_empty() {
                flights.remove(name);
            }
        }
        drop(flights);
        flight.ended.send_replace(Some(ended));
    }

    /// Replaces an older value by one that comes from who has changed the source. Where there is none nothing is
    /// stored: this one may be older than what was taken away.
    pub(super) fn replace(&self, name: &Name, entry: &Arc<Entry<V>>) {
        let _flights = self.flights_of(name);
        if self.values.contains_key(name) {
            self.store(name, entry);
        }
    }

    /// Versions only move forward; of the same one, what was read later is kept. What is gone from the source has no
    /// version any more. The lock is held.
    fn store(&self, name: &Name, entry: &Arc<Entry<V>>) {
        let is_newer = |old: Arc<Entry<V>>| {
            let has_version = entry.value.is_some() && old.value.is_some();
            let [new, old_version] =
                [entry.version, old.version].map(|v| if has_version { v } else { 0 });
            (new, entry.since) >= (old_version, old.since) || entry.life > old.life
        };
        if self.values.get(name).is_none_or(is_newer) {
            self.values.insert(Arc::clone(name), Arc::clone(entry));
            self.next_turn(name);
        }
    }

    /// From when this returns, neither what is there is served nor what loads bring that began before.
    pub(super) fn invalidate(&self, name: &[u8]) {
        self.take_away(name);
        self.next_turn(name);
    }

    /// One half of that: whoever keeps it is not told yet.
    pub(super) fn take_away(&self, name: &[u8]) {
        let mut flights = self.flights_of(name);
        if let Some((_, of_key)) = flights.remove_entry(name) {
            of_key.iter().for_each(|flight| self.poison(flight));
            if self.ignores_poison {
                flights.insert(Arc::from(name), of_key);
            }
        }
        self.values.invalidate(name);
    }

    /// What was kept of this key is old from now on; also if nothing was there, since moka may have let go of what
    /// somebody keeps. Only after it was taken away or replaced: whoever reads the new count does not find it.
    pub(super) fn next_turn(&self, name: &[u8]) {
        self.turns[self.counter_of(name)].fetch_add(1, Ordering::Release);
    }

    /// The same for everything.
    pub(super) fn invalidate_all(&self) {
        // Whoever replaces a value holds one of the locks.
        let mut all: Vec<_> = self.flights.iter().map(locked).collect();
        for flight in
            all.iter_mut().flat_map(|flights| flights.drain()).flat_map(|(_, of_key)| of_key)
        {
            self.poison(&flight);
        }
        self.values.invalidate_all();
        self.all_turns.fetch_add(1, Ordering::Release);
    }

    fn poison(&self, flight: &Flight<V>) {
        flight.is_poisoned.store(true, Ordering::Relaxed);
        self.poisoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes a value older, so that the next reader looks for another one; it may still be served while
    /// there is none.
    pub(super) fn expire(&self, name: &Name) {
        let _flights = self.flights_of(name);
        if let Some(entry) = self.values.get(name) {
            self.values.insert(Arc::clone(name), Arc::new(entry.past_its_time()));
            self.next_turn(name);
        }
    }

    /// Whether what this load brings may be older than what was said meanwhile.
    pub(super) fn is_poisoned(&self, flight: &Flight<V>) -> bool {
        flight.is_poisoned.load(Ordering::Relaxed) && !self.ignores_poison
    }

    /// How many loads were marked so far.
    pub(super) fn poisoned(&self) -> u64 {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// How many values there are, about.
    pub(super) fn len(&self) -> u64 {
        self.values.entry_count()
    }

    fn flights_of(&self, name: &[u8]) -> MutexGuard<'_, Flights<V>> {
        locked(&self.flights[place(self.hasher.hash_one(name), LOCKS)])
    }

    fn counter_of(&self, name: &[u8]) -> usize {
        place(self.hasher.hash_one(name), TURNS)
    }
}

/// Which of so many a hash belongs to.
fn place(hash: u64, of: usize) -> usize {
    usize::try_from(hash % of as u64).unwrap_or(0)
}

fn locked<V>(flights: &Mutex<Flights<V>>) -> MutexGuard<'_, Flights<V>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an entry takes beside its name and its value.
const OVERHEAD: u32 = 160;

impl<V: Clone> Flight<V> {
    /// Waits until it has ended.
    pub(super) async fn ended(&self) -> Ended<V> {
        let mut ended = self.ended.subscribe();
        loop {
            if let Some(ended) = &*ended.borrow_and_update() {
                return ended.clone();
            }
            // The sender is in what this borrows.
            if ended.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
impl<V: Clone + Send + Sync + 'static> Shelf<V> {
    /// One that loses the race.
    pub(super) fn without_poison(bytes: u64, keep: Duration) -> Self {
        Self { ignores_poison: true, ..Self::new(bytes, keep) }
    }
}
