//! A million reads by three processes while everything is written: each is as young as it says.

use std::collections::BTreeMap;

use stockhold_testkit::Proxy;

use super::*;

/// So many keys are read and written.
const KEYS: usize = 8;
const READS: usize = 1_000_000;
const READERS: usize = 6;
const MILLISECOND: Duration = Duration::from_millis(1);

/// A database whose writes are known by when they were acknowledged.
#[derive(Debug, Default)]
struct Ledger {
    numbers: [AtomicU64; KEYS],
    acknowledged: [Mutex<Acknowledged>; KEYS],
    /// How often Redis was not there to be told.
    untold: AtomicU64,
}

/// Of each number that a key had, when it was acknowledged, on the clock of the wall and on that of the boot; if it was.
type Acknowledged = BTreeMap<u64, (Timestamp, Duration)>;

impl CacheKey for usize {
    fn name(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

#[async_trait]
impl Loader<usize, u64> for Ledger {
    async fn load(&self, keys: Vec<usize>) -> Result<Vec<Loaded<u64>>, Failure> {
        let as_of = SystemClock.wall();
        let number = |key: usize| self.numbers[key].load(Ordering::SeqCst);
        let loaded = keys.into_iter().map(number);
        Ok(loaded.map(|number| Loaded::new(number, number, as_of)).collect())
    }

    async fn unchanged(&self, known: &[(usize, u64)]) -> Result<Unchanged, Failure> {
        let as_of = SystemClock.wall();
        let is_same =
            |(key, known): &(usize, u64)| self.numbers[*key].load(Ordering::SeqCst) == *known;
        Ok(Unchanged { are_same: known.iter().map(is_same).collect(), as_of })
    }
}

impl Ledger {
    /// What was acknowledged before `as_of`, or longer ago than `age` when it was read, is in the read; whatever became of
    /// others that were written before.
    fn check(&self, key: usize, read: &Read<u64>, begun: Duration) {
        let since = begun.saturating_sub(read.age);
        let acknowledged = self.acknowledged[key].lock().unwrap();
        for (number, (at, boot)) in acknowledged.range(read.version + 1..) {
            assert!(
                *at >= read.as_of && *boot >= since,
                "{read:?} of {key}, read at {begun:?}, lacks {number} of {at:?}, {boot:?}"
            );
        }
    }
}

type Process = TieredCache<usize, u64>;

/// Three processes, one of which is cut off from Redis now and then; everything is written all the time.
async fn reads_are_as_young_as_they_say(writers_wait: bool) {
    let (server, ledger) = (RedisServer::start(), Arc::<Ledger>::default());
    let proxy = Proxy::start(server.socket().as_path());
    let urls = [server.url(), server.url(), server.url_at(proxy.address())];
    let policy = Policy { writers_wait, ttl: Duration::from_secs(1), ..Policy::default() };
    let caches = urls.map(|url| {
        let loader: Arc<dyn Loader<usize, u64>> = Arc::<Ledger>::clone(&ledger);
        let redis = redis_at(&url);
        TieredCache::builder("stockhold-test", loader).policy(policy.clone()).redis(redis).start()
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let writing = caches.clone().map(|cache| {
        let (ledger, is_over) = (Arc::clone(&ledger), Arc::clone(&is_over));
        tokio::spawn(async move { ledger.write(&cache, writers_wait, &is_over).await })
    });
    let keeping = caches.clone().map(|cache| tokio::spawn(keep_young(cache, Arc::clone(&is_over))));
    let cutting =
        tokio::spawn(cut_off_now_and_then(proxy, caches[2].clone(), Arc::clone(&is_over)));
    let reading = (0..READERS).map(|n| {
        let (cache, ledger) = (caches[n % caches.len()].clone(), Arc::clone(&ledger));
        tokio::spawn(async move { ledger.read(&cache, READS.div_ceil(READERS)).await })
    });
    for read in reading.collect::<Vec<_>>() {
        assert!(read.await.unwrap() > READS / READERS / 10, "hardly anything was kept");
    }
    is_over.store(true, Ordering::SeqCst);
    assert!(cutting.await.unwrap() > 1, "nobody was cut off");
    assert!(!writers_wait || ledger.untold.load(Ordering::SeqCst) > 0, "everybody was told");
    for ended in writing.into_iter().chain(keeping) {
        ended.await.unwrap();
    }
    let reads = caches.map(|cache| cache.reads());
    assert!(reads[0][0].1 > 100_000 && reads[0][1].1 > 100, "{reads:?}");
}

impl Ledger {
    async fn write(&self, cache: &Process, writers_wait: bool, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            let key = rand::random_range(0..KEYS);
            let (since, before) = (SystemClock.boot(), SystemClock.wall());
            let number = self.numbers[key].fetch_add(1, Ordering::SeqCst) + 1;
            if writers_wait {
                // Who cannot say so acknowledges nothing.
                while cache.invalidate(&key, number).await != Invalidated::Applied {
                    self.untold.fetch_add(1, Ordering::SeqCst);
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    SystemClock.sleep(MILLISECOND).await;
                }
            } else if number.is_multiple_of(3) {
                cache.publish(&key, Loaded::new(number, number, before), since).await;
            } else {
                cache.invalidate_soon(&key, number);
            }
            let now = (SystemClock.wall(), SystemClock.boot());
            self.acknowledged[key].lock().unwrap().insert(number, now);
            SystemClock.sleep(2 * MILLISECOND).await;
        }
    }

    /// Reads, looks and looks at what it keeps; says how often it had kept something.
    async fn read(&self, cache: &Process, reads: usize) -> usize {
        let (mut kept, mut looks): ([Option<Kept<u64>>; KEYS], usize) = Default::default();
        for turn in 0..reads {
            let key = rand::random_range(0..KEYS);
            let begun = SystemClock.boot();
            self.check(key, &cache.get(&key).await.unwrap(), begun);
            let now = SystemClock.boot();
            let from_kept = kept[key].as_ref().and_then(|kept| cache.look_at(kept, now, seen));
            if from_kept.is_none() {
                kept[key] = cache.keep(&key);
            }
            looks += usize::from(from_kept.is_some());
            for read in [cache.look(&key, now, seen), from_kept].iter().flatten() {
                self.check(key, read, now);
            }
            if turn % 64 == 0 {
                SystemClock.sleep(MILLISECOND).await;
            }
        }
        looks
    }
}

/// What was looked at, as if it had been read.
fn seen(number: &u64, age: Duration, as_of: Timestamp) -> Read<u64> {
    Read { value: Some(*number), version: *number, origin: Origin::L1, age, as_of }
}

async fn keep_young(cache: Process, is_over: Arc<AtomicBool>) {
    let keys: Vec<_> = (0..KEYS).collect();
    while !is_over.load(Ordering::SeqCst) {
        cache.confirm(&keys, NEVER).await.unwrap();
        SystemClock.sleep(5 * MILLISECOND).await;
    }
}

/// For less than it takes to notice, and until it has noticed, in turns: how often it has.
async fn cut_off_now_and_then(proxy: Proxy, cut: Process, is_over: Arc<AtomicBool>) -> u32 {
    let mut noticed = 0;
    while !is_over.load(Ordering::SeqCst) {
        SystemClock.sleep(700 * MILLISECOND).await;
        proxy.blackhole();
        SystemClock.sleep(700 * MILLISECOND).await;
        proxy.heal();
        SystemClock.sleep(700 * MILLISECOND).await;
        proxy.blackhole();
        let begun = SystemClock.boot();
        while cut.health().is_linked {
            assert!(SystemClock.boot() - begun < Duration::from_secs(3), "it does not notice");
            SystemClock.sleep(MILLISECOND).await;
        }
        noticed += 1;
        SystemClock.sleep(200 * MILLISECOND).await;
        proxy.heal();
    }
    noticed
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_read_has_what_was_acknowledged_before_its_moment() {
    reads_are_as_young_as_they_say(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_read_has_what_was_acknowledged_before_the_last_sign_of_life_if_writers_wait() {
    reads_are_as_young_as_they_say(true).await;
}
