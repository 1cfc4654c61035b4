//! Who asks for what: the same for every row.
//!
//! Every hold has its own owner and its own random idempotency key, one line of one unit, and a
//! short life, so that expiry lies inside the measured time. A caller asks again as soon as it has
//! its answer.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use stockhold::{
    Basket, IdempotencyKey, ItemKey, Owner, PlaceRequest, Quantity, Sku, Ttl,
    clock::{Clock, SystemClock},
};

use super::{
    Doing, Fault,
    plan::{Items, MANY},
};

/// How long a caller waits that was told to come back later.
pub(super) const LATER: Duration = Duration::from_millis(5);

/// splitmix64, which costs next to nothing beside what is measured.
pub(super) struct Random(u64);

impl Random {
    /// Starts from a seed of its own.
    pub(super) fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        let below = self.next() % (end.max(1) as u64);
        usize::try_from(below).unwrap_or(0)
    }

    pub(super) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }

    pub(super) fn owner(&mut self) -> String {
        format!("cart_{:016x}", self.next())
    }

    pub(super) fn key(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

/// What callers of the engine ask for.
#[derive(Clone)]
pub(super) struct Wishes {
    items: Items,
    /// Made before, unless they are too many.
    baskets: Vec<Basket>,
    ttl: Option<Ttl>,
}

impl Wishes {
    pub(super) fn new(items: Items, ttl: Duration) -> Result<Self, Fault> {
        let made = if items.count() > MANY { 0 } else { items.count() };
        let baskets = (0..made).map(|n| basket(&items.sku(n))).collect::<Result<_, _>>()?;
        let ttl = Ttl::from_millis(millis(ttl));
        Ok(Self { items, baskets, ttl })
    }

    pub(super) fn next(&self, random: &mut Random) -> Result<PlaceRequest, Fault> {
        let owner = Owner::new(random.owner()).doing("an owner")?;
        let n = random.below(self.items.count());
        let lines = match self.baskets.get(n) {
            Some(made) => made.clone(),
            None => basket(&self.items.sku(n))?,
        };
        let key = IdempotencyKey::new(random.key()).doing("a key")?;
        let ttl = self.ttl;
        Ok(PlaceRequest { ttl, key: Some(key), ..PlaceRequest::new(owner, lines) })
    }
}

fn basket(sku: &str) -> Result<Basket, Fault> {
    let item = ItemKey::at_default(Sku::new(sku).doing("a SKU")?);
    Basket::new([(item, Quantity::ONE)]).doing("a basket")
}

/// What callers over HTTP ask for: the same, as bytes.
#[derive(Clone)]
pub(super) struct Bodies {
    skus: Vec<String>,
    ttl_ms: u64,
}

impl Bodies {
    pub(super) fn new(items: Items, ttl: Duration) -> Self {
        Self { skus: items.skus(), ttl_ms: millis(ttl) }
    }

    pub(super) fn next(&self, random: &mut Random) -> Bytes {
        let (owner, ttl_ms) = (random.owner(), self.ttl_ms);
        let sku = &self.skus[random.below(self.skus.len())];
        let lines = format_args!(r#"[{{"sku":"{sku}","quantity":1}}]"#);
        format!(r#"{{"owner":"{owner}","ttl_ms":{ttl_ms},"lines":{lines}}}"#).into()
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The measured time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    end: Duration,
    length: Duration,
}

impl Window {
    pub(super) fn open(length: Duration) -> Self {
        Self { end: SystemClock.boot().saturating_add(length), length }
    }

    pub(super) const fn length(&self) -> Duration {
        self.length
    }

    pub(super) fn is_open_at(&self, moment: Duration) -> bool {
        moment < self.end
    }
}

/// What one or more callers saw. Only what was answered inside the window counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Samples {
    pub(super) operations: u64,
    /// How often a caller was told to come back later.
    pub(super) shed: u64,
    /// How long each of the answers took.
    pub(super) micros: Vec<u32>,
}

impl Samples {
    /// Something that did so many operations at once took from `before` to `after`.
    pub(super) fn note(
        &mut self,
        window: &Window,
        operations: u64,
        before: Duration,
        after: Duration,
    ) {
        if window.is_open_at(after) {
            self.micros.push(micros(after.saturating_sub(before)));
            self.operations += operations;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.shed += other.shed;
        self.micros.extend(other.micros);
    }

    pub(super) fn percentiles(self) -> Option<(u32, u32)> {
        percentiles(self.micros)
    }
}

/// The median, and what 99 of 100 stay under, in microseconds.
pub(super) fn percentiles(mut micros: Vec<u32>) -> Option<(u32, u32)> {
    micros.sort_unstable();
    let last = micros.len().checked_sub(1)?;
    let at = |percent: usize| micros[last * percent / 100];
    Some((at(50), at(99)))
}

pub(super) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_after_the_window_does_not_count() {
        let window = Window { end: Duration::from_secs(10), length: Duration::from_secs(5) };
        let mut samples = Samples::default();
        let at = Duration::from_millis;
        samples.note(&window, 1, at(9_000), at(9_001));
        samples.note(&window, 1, at(9_999), at(10_001));
        assert_eq!((samples.operations, samples.micros.as_slice()), (1, &[1_000][..]));
    }

    #[test]
    fn percentiles_of_all_callers_together() {
        let mut all = Samples::default();
        for from in [1, 51] {
            all.add(Samples { operations: 50, shed: 1, micros: (from..from + 50).rev().collect() });
        }
        assert_eq!((all.operations, all.shed), (100, 2));
        assert_eq!(all.percentiles(), Some((50, 99)));
        assert_eq!(Samples::default().percentiles(), None);
    }

    #[test]
    fn engine_and_http_are_asked_for_the_same() {
        let ttl = Duration::from_secs(5);
        let mut random = Random::new();
        let wish = Wishes::new(Items::Many, ttl).unwrap().next(&mut random).unwrap();
        let body = Bodies::new(Items::Many, ttl).next(&mut random);
        let read: crate::wire::PlaceBody = crate::wire::parse(&body).unwrap();
        let read = read.request(wish.key.clone()).unwrap();
        assert_eq!((read.ttl, read.lines.len()), (wish.ttl, 1));
        assert_eq!(read.owner.as_str().len(), wish.owner.as_str().len());
    }

    #[test]
    fn owners_and_keys_are_not_repeated() {
        let (mut one, mut two) = (Random::new(), Random::new());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            assert!(seen.insert(one.key()) && seen.insert(two.key()));
            assert!(seen.insert(one.owner()) && seen.insert(two.owner()));
        }
    }
}
