//! How long values are served, and how long anybody waits.

use std::time::Duration;

/// How a cache behaves. The defaults suit stock views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a value is served without a word, less up to a tenth of it by chance: 30 s.
    pub ttl: Duration,
    /// The same for *there is nothing under this key*: 2 s.
    pub negative_ttl: Duration,
    /// How long a value may be served, marked as stale, while the source fails: 5 min.
    pub stale_if_error: Duration,
    /// How long a value in this process is served while nobody would tell it of changes: 1 s.
    pub unlinked_ttl: Duration,
    /// How long whoever could have a stale value waits for a fresh one: 100 ms.
    pub soft_deadline: Duration,
    /// How long anybody waits: 2 s.
    pub hard_deadline: Duration,
    /// How long one process has the right to load what others wait for: 1 s. Less than the hard deadline,
    /// so that whoever waits for one that is gone has its turn.
    pub lease: Duration,
    /// The most loads at once: 64.
    pub loads: usize,
    /// The most keys of one load: 1,000.
    pub keys_of_a_load: usize,
    /// Whoever changes the source awaits [`invalidate`](super::TieredCache::invalidate) to be `Applied`
    /// before it says so to anybody. Then a value is as young as the last sign of life of the link. Stock
    /// views are not like that: no.
    pub writers_wait: bool,
    /// No other process writes to the source: what it changes itself is all there is to know. No.
    pub only_writer: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(2),
            stale_if_error: Duration::from_secs(300),
            unlinked_ttl: Duration::from_secs(1),
            soft_deadline: Duration::from_millis(100),
            hard_deadline: Duration::from_secs(2),
            lease: Duration::from_secs(1),
            loads: 64,
            keys_of_a_load: 1_000,
            writers_wait: false,
            only_writer: false,
        }
    }
}
