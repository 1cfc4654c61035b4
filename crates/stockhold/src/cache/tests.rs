//! Against a source that a test drives, and real Redis servers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicBool, AtomicUsize},
    thread,
};

use stockhold_testkit::{Proxy, RedisServer, redis::RedisCluster};
use tokio::sync::Semaphore;

use super::{
    depot::random_token,
    shelf::{Confirmed, Entry, Flight, Plan, Turn},
    *,
};
use crate::FailureKind;

mod orders;
mod young;

const SOON: Duration = Duration::from_secs(10);

impl CacheKey for &'static str {
    fn name(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

/// A database with one number per key, which is its version as well.
#[derive(Debug)]
struct Source {
    numbers: Mutex<HashMap<&'static str, u64>>,
    loads: AtomicUsize,
    /// How often it was asked what has changed.
    questions: AtomicUsize,
    /// Each load and each question takes one, after it has read.
    permits: Semaphore,
    fails: AtomicBool,
    panics: AtomicBool,
}

impl Source {
    fn with(numbers: &[(&'static str, u64)]) -> Arc<Self> {
        Arc::new(Self {
            numbers: Mutex::new(numbers.iter().copied().collect()),
            loads: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        })
    }

    /// Its loads do not end before they are let.
    fn holding(numbers: &[(&'static str, u64)]) -> Arc<Self> {
        let source = Self::with(numbers);
        source.permits.forget_permits(Semaphore::MAX_PERMITS);
        source
    }

    fn set(&self, key: &'static str, number: u64) {
        self.numbers.lock().unwrap().insert(key, number);
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    async fn has_begun(&self, loads: usize) {
        while self.loads() < loads {
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
    }

    fn let_end(&self, loads: usize) {
        self.permits.add_permits(loads);
    }
}

#[async_trait]
impl Loader<&'static str, u64> for Source {
    async fn load(&self, keys: Vec<&'static str>) -> Result<Vec<Loaded<u64>>, Failure> {
        let as_of = SystemClock.wall();
        let read: Vec<_> = {
            let numbers = self.numbers.lock().unwrap();
            keys.iter().map(|key| numbers.get(key).copied()).collect()
        };
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        assert!(!self.panics.load(Ordering::SeqCst), "the loader");
        if self.fails.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureKind::Unavailable, "the source is away"));
        }
        let loaded = read.into_iter().map(|number| match number {
            Some(number) => Loaded::new(number, number, as_of),
            None => Loaded::nothing(),
        });
        Ok(loaded.collect())
    }

    async fn unchanged(&self, known: &[(&'static str, u64)]) -> Result<Unchanged, Failure> {
        let as_of = SystemClock.wall();
        let are_same = {
            let numbers = self.numbers.lock().unwrap();
            known.iter().map(|(key, number)| numbers.get(key) == Some(number)).collect()
        };
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        if self.fails.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureKind::Unavailable, "the source is away"));
        }
        Ok(Unchanged { are_same, as_of })
    }
}

type TestCache = TieredCache<&'static str, u64>;

fn alone(source: &Arc<Source>) -> TestCache {
    alone_with(source, Policy { only_writer: true, ..Policy::default() })
}

fn alone_with(source: &Arc<Source>, policy: Policy) -> TestCache {
    let source: Arc<dyn Loader<_, _>> = Arc::<Source>::clone(source);
    TieredCache::builder("stockhold-test", source).policy(policy).start()
}

/// A process that shares a Redis with others, and hears from it.
async fn linked(source: &Arc<Source>, server: &RedisServer) -> TestCache {
    let policy = Policy { unlinked_ttl: 6 * SOON, ttl: 6 * SOON, ..Policy::default() };
    let cache = linked_soon(source, server, policy);
    is_linked(&cache).await;
    cache
}

fn linked_soon(source: &Arc<Source>, server: &RedisServer, policy: Policy) -> TestCache {
    let source: Arc<dyn Loader<_, _>> = Arc::<Source>::clone(source);
    let redis = Redis::new(&server.url().parse().unwrap()).unwrap();
    TieredCache::builder("stockhold-test", source).policy(policy).redis(redis).start()
}

async fn is_linked(cache: &TestCache) {
    while !cache.health().is_linked {
        SystemClock.sleep(Duration::from_millis(1)).await;
    }
}

async fn value(cache: &TestCache, key: &'static str) -> (Option<u64>, Origin) {
    let read = cache.get(&key).await.unwrap();
    (read.value, read.origin)
}

/// The same in a task of its own.
fn reading(cache: &TestCache, key: &'static str) -> tokio::task::JoinHandle<(Option<u64>, Origin)> {
    let cache = cache.clone();
    tokio::spawn(async move { value(&cache, key).await })
}

/// Reads until it is so: what others were told takes its way.
async fn reads_soon(cache: &TestCache, key: &'static str, number: u64) {
    let begun = SystemClock.boot();
    loop {
        let (value, _) = value(cache, key).await;
        if value == Some(number) {
            return;
        }
        assert!(SystemClock.boot() - begun < SOON, "{value:?}");
        SystemClock.sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_value_is_loaded_once_and_then_there() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Source));
    for _ in 0..10 {
        assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::L1));
    }
    assert_eq!(
        (source.loads(), cache.reads()),
        (1, [("l1", 10), ("l2", 0), ("source", 1), ("stale", 0)])
    );
}

#[tokio::test]
async fn that_there_is_nothing_is_remembered_as_well() {
    let source = Source::with(&[]);
    let cache = alone(&source);
    assert_eq!(value(&cache, "HAT").await, (None, Origin::Source));
    assert_eq!(value(&cache, "HAT").await, (None, Origin::L1));
}

#[tokio::test]
async fn a_thousand_who_want_the_same_are_one_load() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let asking = (0..1_000).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move { value(&cache, "MUG").await })
    });
    let asking: Vec<_> = asking.collect();
    source.has_begun(1).await;
    source.let_end(1);
    for asked in asking {
        assert_eq!(asked.await.unwrap().0, Some(5));
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn who_stops_waiting_does_not_stop_the_load_of_others() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let first = reading(&cache, "MUG");
    source.has_begun(1).await;
    let second = reading(&cache, "MUG");
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    source.let_end(1);
    assert_eq!(second.await.unwrap().0, Some(5));
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn what_was_loaded_before_an_invalidation_is_not_kept() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let before = reading(&cache, "MUG");
    source.has_begun(1).await;
    source.set("MUG", 6);
    assert_eq!(cache.invalidate(&"MUG", 6).await, Invalidated::Applied);
    let after = reading(&cache, "MUG");
    source.has_begun(2).await;
    source.let_end(2);
    // It began before.
    assert_eq!(before.await.unwrap().0, Some(5));
    assert_eq!(after.await.unwrap().0, Some(6));
    assert_eq!(value(&cache, "MUG").await, (Some(6), Origin::L1));
    assert_eq!(cache.health().poisoned, 1);
}

#[tokio::test]
async fn a_panic_of_the_loader_is_an_error_for_who_waits_and_nobody_else() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    source.panics.store(true, Ordering::SeqCst);
    let failure = cache.get(&"MUG").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Internal);
    source.panics.store(false, Ordering::SeqCst);
    assert_eq!(value(&cache, "MUG").await.0, Some(5));
}

#[tokio::test]
async fn what_fails_is_answered_by_what_was_there_if_that_may_be() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    assert_eq!(value(&cache, "MUG").await.0, Some(5));
    source.fails.store(true, Ordering::SeqCst);
    cache.expire(&"MUG");
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Stale(Reason::Failed)));
    // Not for who needs it to be young,
    let failure = cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap_err();
    assert_eq!(failure.message, "the source is away");
    // and never after it was invalidated.
    cache.invalidate(&"MUG", 6).await;
    assert!(cache.get(&"MUG").await.is_err());
}

#[tokio::test]
async fn a_source_that_is_late_is_not_waited_for_if_there_is_something() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    source.let_end(1);
    assert_eq!(value(&cache, "MUG").await.0, Some(5));
    cache.expire(&"MUG");
    let begun = SystemClock.boot();
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Stale(Reason::Late)));
    let waited = SystemClock.boot() - begun;
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_secs(1), "{waited:?}");
    // What came late is there for the next.
    source.let_end(1);
    while value(&cache, "MUG").await.1 != Origin::L1 {}
}

#[tokio::test]
async fn nobody_waits_for_longer_than_two_seconds() {
    let source = Source::holding(&[("MUG", 5)]);
    let policy = Policy { hard_deadline: Duration::from_millis(50), ..Policy::default() };
    let cache = alone_with(&source, policy);
    let failure = cache.get(&"MUG").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(Policy::default().hard_deadline, Duration::from_secs(2));
}

#[tokio::test]
async fn a_bound_on_the_age_is_kept_by_asking_the_source() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    value(&cache, "MUG").await;
    SystemClock.sleep(Duration::from_millis(20)).await;
    let read = cache.get_at_most(&"MUG", Duration::from_secs(5)).await.unwrap();
    assert!(read.origin == Origin::L1 && read.age >= Duration::from_millis(20), "{read:?}");
    let read = cache.get_at_most(&"MUG", Duration::from_millis(10)).await.unwrap();
    assert!(read.origin == Origin::Source && read.age <= Duration::from_millis(100), "{read:?}");
    assert_eq!(cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap().origin, Origin::Source);
}

/// What this process has, and how long ago it is known to have been so.
fn at_hand(cache: &TestCache, key: &'static str) -> Option<(u64, Duration)> {
    cache.look(&key, SystemClock.boot(), |number, age, _| (*number, age))
}

const NEVER: fn(&u64, Timestamp) -> bool = |_, _| false;

#[tokio::test]
async fn what_has_not_changed_is_confirmed_and_the_rest_is_loaded() {
    let source = Source::with(&[("MUG", 5), ("HAT", 6), ("CAP", 7), ("OVER", 9)]);
    let cache = alone(&source);
    for key in ["MUG", "HAT", "OVER"] {
        value(&cache, key).await;
    }
    SystemClock.sleep(Duration::from_millis(20)).await;
    source.set("HAT", 8);
    let (asked, loads) = (SystemClock.boot(), source.loads());
    let as_of = |cache: &TestCache| cache.look(&"MUG", asked, |_, _, as_of| as_of).unwrap();
    let (before, is_over) = (as_of(&cache), |number: &u64, _| *number == 9);
    cache.confirm(&["MUG", "HAT", "CAP", "NONE", "OVER"], is_over).await.unwrap();
    let (mug, age) = at_hand(&cache, "MUG").unwrap();
    assert!(mug == 5 && age <= SystemClock.boot() - asked && as_of(&cache) > before, "{age:?}");
    // Whoever asks for a young one is not content with that: the version does not count everything.
    assert!(cache.peek(&"MUG").unwrap().age >= Duration::from_millis(20));
    let is_loaded = |key, number, since: Duration| {
        let age = at_hand(&cache, key).filter(|(found, _)| *found == number).map(|(_, age)| age);
        age.is_some_and(|age| age <= SystemClock.boot() - since)
    };
    while !["HAT", "CAP", "OVER"].into_iter().zip([8, 7, 9]).all(|(k, n)| is_loaded(k, n, asked)) {
        assert!(SystemClock.boot() - asked < SOON);
        SystemClock.sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(source.questions.load(Ordering::SeqCst), 1);
    assert!(source.loads() > loads && at_hand(&cache, "NONE").is_none());
}

#[tokio::test]
async fn a_load_that_was_overtaken_is_kept_until_the_other_one_ends() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let first = reading(&cache, "MUG");
    source.has_begun(1).await;
    let second = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap().value }
    });
    source.has_begun(2).await;
    source.let_end(1);
    assert_eq!(first.await.unwrap().0, Some(5));
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::L1));
    source.let_end(1);
    assert_eq!(second.await.unwrap(), Some(5));
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn what_is_invalidated_while_the_source_is_asked_does_not_come_back() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    source.let_end(1);
    value(&cache, "MUG").await;
    let asking = tokio::spawn({
        let cache = cache.clone();
        async move { cache.confirm(&["MUG"], NEVER).await }
    });
    while source.questions.load(Ordering::SeqCst) == 0 {
        SystemClock.sleep(Duration::from_millis(1)).await;
    }
    source.set("MUG", 6);
    cache.invalidate(&"MUG", 6).await;
    source.let_end(1);
    asking.await.unwrap().unwrap();
    assert_eq!(at_hand(&cache, "MUG"), None);
    source.let_end(1);
    assert_eq!(value(&cache, "MUG").await.0, Some(6));
}

#[tokio::test]
async fn what_is_kept_at_hand_is_not_seen_any_more_once_it_is_said_to_be_old() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    let seen = |kept: &Kept<u64>| cache.look_at(kept, SystemClock.boot(), |number, _, _| *number);
    assert!(cache.keep(&"MUG").is_none());
    let changes: [&dyn Fn(); 3] =
        [&|| cache.invalidate_soon(&"MUG", 6), &|| cache.expire(&"MUG"), &|| cache.clear()];
    for (n, change) in changes.into_iter().enumerate() {
        value(&cache, "MUG").await;
        let kept = cache.keep(&"MUG").unwrap();
        assert_eq!(seen(&kept), Some(5));
        change();
        assert_eq!(seen(&kept), None, "after change {n}");
    }
    value(&cache, "MUG").await;
    let kept = cache.keep(&"MUG").unwrap();
    source.set("MUG", 6);
    cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap();
    assert_eq!(seen(&kept), None);
    assert_eq!(seen(&cache.keep(&"MUG").unwrap()), Some(6));
}

#[tokio::test]
async fn a_source_that_does_not_say_what_has_changed_confirms_nothing() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    value(&cache, "MUG").await;
    SystemClock.sleep(Duration::from_millis(20)).await;
    source.fails.store(true, Ordering::SeqCst);
    let failure = cache.confirm(&["MUG"], NEVER).await.unwrap_err();
    assert_eq!(failure.message, "the source is away");
    assert!(at_hand(&cache, "MUG").unwrap().1 >= Duration::from_millis(20));
}

#[tokio::test]
async fn what_comes_from_who_has_changed_the_source_only_moves_forward() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    value(&cache, "MUG").await;
    let publish = async |number| {
        let since = SystemClock.boot();
        let loaded = Loaded::new(number, number, SystemClock.wall());
        cache.publish(&"MUG", loaded, since).await;
        value(&cache, "MUG").await.0
    };
    assert_eq!(publish(7).await, Some(7));
    assert_eq!(publish(6).await, Some(7));
    assert_eq!(publish(8).await, Some(8));
    // What comes late does not undo what was said since.
    source.set("MUG", 10);
    cache.invalidate(&"MUG", 10).await;
    assert_eq!(publish(9).await, Some(10));
}

#[tokio::test]
async fn nobody_serves_for_long_what_nobody_would_be_told_of() {
    let source = Source::with(&[("MUG", 5)]);
    let policy = Policy { unlinked_ttl: Duration::from_millis(50), ..Policy::default() };
    let cache = alone_with(&source, policy);
    value(&cache, "MUG").await;
    source.set("MUG", 6);
    let begun = SystemClock.boot();
    reads_soon(&cache, "MUG", 6).await;
    assert!(SystemClock.boot() - begun < Duration::from_millis(200));
}

#[tokio::test]
async fn keys_that_wait_share_a_load() {
    let source = Source::holding(&[("MUG", 5), ("HAT", 6), ("CAP", 7)]);
    let cache = alone_with(&source, Policy { loads: 1, ..Policy::default() });
    let get = |key| {
        let cache = cache.clone();
        tokio::spawn(async move { value(&cache, key).await.0 })
    };
    let first = get("MUG");
    source.has_begun(1).await;
    let rest = [get("HAT"), get("CAP")];
    SystemClock.sleep(Duration::from_millis(20)).await;
    source.let_end(2);
    assert_eq!(first.await.unwrap(), Some(5));
    let [hat, cap] = rest;
    assert_eq!((hat.await.unwrap(), cap.await.unwrap()), (Some(6), Some(7)));
    assert_eq!(source.loads(), 2);
    let many = cache.get_many(&["CAP", "MUG", "HAT"]).await;
    let many: Vec<_> = many.into_iter().map(|read| read.unwrap().value.unwrap()).collect();
    assert_eq!(many, [7, 5, 6]);
}

#[tokio::test]
async fn processes_load_a_key_once_in_all() {
    let (server, source) = (RedisServer::start(), Source::holding(&[("MUG", 5)]));
    let mut caches = Vec::new();
    for _ in 0..8 {
        caches.push(linked(&source, &server).await);
    }
    let asking: Vec<_> = (0..1_000)
        .map(|n| {
            let cache = caches[n % 8].clone();
            tokio::spawn(async move { value(&cache, "MUG").await.0 })
        })
        .collect();
    source.has_begun(1).await;
    SystemClock.sleep(Duration::from_millis(30)).await;
    source.let_end(1);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Some(5));
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_process_whose_loader_is_gone_is_not_waited_for_longer_than_its_lease() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let policy = Policy { lease: Duration::from_millis(300), ..Policy::default() };
    let cache = linked_soon(&source, &server, policy);
    is_linked(&cache).await;
    let redis = Redis::new(&server.url().parse().unwrap()).unwrap();
    let gone = Depot::new(redis, "stockhold-test", SOON, Duration::from_millis(300));
    gone.get_or_lease(b"MUG", &random_token()).await.unwrap();
    let begun = SystemClock.boot();
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Source));
    let waited = SystemClock.boot() - begun;
    assert!(
        waited > Duration::from_millis(200) && waited < Duration::from_millis(600),
        "{waited:?}"
    );
}

#[tokio::test]
async fn what_one_process_invalidates_no_other_serves() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    reads_soon(&ann, "MUG", 5).await;
    reads_soon(&ben, "MUG", 5).await;
    source.set("MUG", 6);
    assert_eq!(ann.invalidate(&"MUG", 6).await, Invalidated::Applied);
    assert_eq!(value(&ann, "MUG").await.0, Some(6));
    // It is told: by itself it would look again after a minute.
    reads_soon(&ben, "MUG", 6).await;
}

#[tokio::test]
async fn what_one_process_publishes_others_read_from_redis() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5), ("HAT", 1)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    value(&ann, "MUG").await;
    source.set("MUG", 6);
    let loads = source.loads();
    ann.publish(&"MUG", Loaded::new(6, 6, SystemClock.wall()), SystemClock.boot()).await;
    reads_soon(&ben, "MUG", 6).await;
    assert_eq!((source.loads(), ben.reads()[1]), (loads, ("l2", 1)));
    // It has not asked the source yet, so it cannot tell how old that is, but for a bound.
    let read = ben.get(&"MUG").await.unwrap();
    assert!(read.age >= Duration::from_secs(3) && read.age < Duration::from_secs(5), "{read:?}");
    value(&ben, "HAT").await;
    let read = ann.get(&"MUG").await.unwrap();
    assert!(read.age < Duration::from_secs(2), "{read:?}");
}

#[tokio::test]
async fn without_redis_reads_go_on_and_afterwards_with_it() {
    let mut server = RedisServer::start();
    let source = Source::with(&[("MUG", 5)]);
    server.kill();
    let cache = linked_soon(&source, &server, Policy::default());
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Source));
    assert!(!cache.health().is_linked);
    server.restart();
    is_linked(&cache).await;
    reads_soon(&cache, "MUG", 5).await;
    let begun = SystemClock.boot();
    while server.cli(&["KEYS", "{stockhold-test/*=MUG"]).is_empty() {
        reads_soon(&cache, "MUG", 5).await;
        assert!(SystemClock.boot() - begun < SOON);
    }
}

#[tokio::test]
async fn an_invalidation_that_redis_missed_is_made_up_for() {
    let (mut server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let cache = linked(&source, &server).await;
    value(&cache, "MUG").await;
    assert!(!server.cli(&["KEYS", "{stockhold-test/*=MUG"]).is_empty());
    server.pause();
    source.set("MUG", 6);
    assert_eq!(cache.invalidate(&"MUG", 6).await, Invalidated::Queued);
    // Redis still has the old one.
    assert_eq!(value(&cache, "MUG").await.0, Some(6));
    server.resume();
    until_told(&cache).await;
    reads_soon(&cache, "MUG", 6).await;
    let other = linked(&source, &server).await;
    assert_eq!(value(&other, "MUG").await.0, Some(6));
}

#[tokio::test]
async fn processes_share_a_cluster_as_they_share_a_server() {
    let cluster = RedisCluster::start(3);
    let keys = ["MUG", "HAT", "CAP", "TEE", "BAG", "PEN", "TOY", "MAP"];
    let source = Source::with(&keys.map(|key| (key, 5)));
    let redises = [0, 1].map(|_| Redis::new(&cluster.url().parse().unwrap()).unwrap());
    let caches = redises.clone().map(|redis| {
        let loader: Arc<dyn Loader<_, _>> = Arc::<Source>::clone(&source);
        let policy = Policy { unlinked_ttl: 6 * SOON, ttl: 6 * SOON, ..Policy::default() };
        TestCache::builder("stockhold-test", loader).policy(policy).redis(redis).start()
    });
    for (redis, cache) in redises.iter().zip(&caches) {
        redis.ping().await.unwrap();
        is_linked(cache).await;
    }
    let [ann, ben] = caches;
    for key in keys {
        reads_soon(&ann, key, 5).await;
        reads_soon(&ben, key, 5).await;
    }
    // Whoever is not answered in time asks the source.
    let unanswered = redises.iter().flat_map(Redis::troubles).map(|(_, count)| count).sum::<u64>();
    let most = keys.len() + usize::try_from(unanswered).unwrap();
    assert!((keys.len()..=most).contains(&source.loads()), "{} of {most}", source.loads());
    for key in keys {
        source.set(key, 6);
        ann.invalidate(&key, 6).await;
        until_told(&ann).await;
        reads_soon(&ben, key, 6).await;
    }
    let used = cluster.members().iter().filter(|member| member.cli(&["DBSIZE"]) != "0");
    assert!(used.count() > 1, "all keys lie on one member");
}

async fn until_told(cache: &TestCache) {
    let begun = SystemClock.boot();
    while cache.health().queued > 0 {
        assert!(SystemClock.boot() - begun < SOON);
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_was_missed_while_nobody_told_is_looked_up_again() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    reads_soon(&ben, "MUG", 5).await;
    for number in 6..10 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        source.set("MUG", number);
        ann.invalidate(&"MUG", number).await;
        until_told(&ann).await;
        is_linked(&ben).await;
        assert_eq!(value(&ben, "MUG").await.0, Some(number));
    }
}

#[tokio::test]
async fn a_redis_that_forgets_everything_makes_nobody_serve_what_is_old() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 0)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    for number in 1..20 {
        reads_soon(&ben, "MUG", number - 1).await;
        server.cli(&["FLUSHALL"]);
        source.set("MUG", number);
        ann.invalidate(&"MUG", number).await;
        until_told(&ann).await;
        assert_eq!(value(&ann, "MUG").await.0, Some(number));
    }
}

/// A writer, a reader and somebody who keeps what he finds, of a few keys, as fast as they can. In how many of a million
/// looks there was a value from before an invalidation that had been acknowledged, or was kept.
fn stale_in_a_million(shelf: &Shelf<u64>) -> usize {
    const KEYS: usize = 8;
    const ROUNDS: usize = 1_000_000;
    let source: [AtomicU64; KEYS] = Default::default();
    let names: [Name; KEYS] = std::array::from_fn(|n| Name::from([u8::try_from(n).unwrap()]));
    let (is_over, stale) = (AtomicBool::new(false), AtomicUsize::new(0));
    let plan = Plan { begun: Duration::ZERO, life: 0, is_straight: false, is_alone: false };
    let load = |n: usize| {
        if shelf.get(&names[n]).is_some() {
            return;
        }
        if let Boarding::Pilot(flight) = shelf.board(&names[n], plan, |_| true) {
            let number = source[n].load(Ordering::SeqCst);
            if number.is_multiple_of(64) {
                thread::yield_now();
            }
            shelf.land(&names[n], &flight, Ok(Arc::new(entry(number))));
        }
    };
    let kept: [Mutex<Option<Kept<u64>>>; KEYS] = Default::default();
    let keep = |n: usize| {
        let mut kept = kept[n].lock().unwrap();
        if !kept.as_ref().is_some_and(|kept| shelf.has(kept)) {
            *kept = shelf.keep_since(shelf.turn(&names[n]), &names[n]);
        }
    };
    let write = |n: usize| {
        // All that was written until now was acknowledged.
        let number = source[n].load(Ordering::SeqCst);
        let is_old = |kept: &Kept<u64>| kept.entry.version < number && shelf.has(kept);
        if shelf.get(&names[n]).is_some_and(|entry| entry.version < number)
            || kept[n].lock().unwrap().as_ref().is_some_and(is_old)
        {
            stale.fetch_add(1, Ordering::SeqCst);
        }
        source[n].store(number + 1, Ordering::SeqCst);
        shelf.invalidate(&names[n]);
    };
    thread::scope(|threads| {
        threads.spawn(|| {
            (0..ROUNDS).for_each(|round| write(round % KEYS));
            is_over.store(true, Ordering::SeqCst);
        });
        threads.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                (0..KEYS).for_each(load);
            }
        });
        threads.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                (0..KEYS).for_each(keep);
            }
        });
    });
    stale.into_inner()
}

/// What was loaded.
fn entry(number: u64) -> Entry<u64> {
    Entry {
        value: Some(number),
        version: number,
        as_of: Timestamp::default(),
        since: Duration::ZERO,
        confirmed: Confirmed::default(),
        stored: Duration::ZERO,
        fresh_until: Duration::MAX,
        cost: Duration::ZERO,
        life: 0,
        weight: 8,
        origin: Origin::Source,
        is_told: true,
        is_outdated: false,
    }
}

#[test]
fn no_load_undoes_an_invalidation_in_a_million_rounds() {
    let shelf = Shelf::new(1 << 20, SOON);
    assert_eq!(stale_in_a_million(&shelf), 0);
    assert!(shelf.poisoned() > 0);
}

#[test]
fn without_the_mark_loads_undo_invalidations() {
    assert!(stale_in_a_million(&Shelf::without_poison(1 << 20, SOON)) > 0);
}
