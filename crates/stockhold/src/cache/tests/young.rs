//! A million reads by three processes while everything is written: each is as young as it says.

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
    /// Of each key and number, when it was acknowledged.
    acknowledged: Mutex<HashMap<(usize, u64), Timestamp>>,
}

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
    /// What was acknowledged before `as_of` is in the read.
    fn check(&self, key: usize, read: &Read<u64>) {
        let next = (key, read.version + 1);
        let acknowledged = self.acknowledged.lock().unwrap().get(&next).copied();
        assert!(
            acknowledged.is_none_or(|at| at >= read.as_of),
            "{read:?} of {key} lacks what was acknowledged at {acknowledged:?}"
        );
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
        let redis = Redis::new(&url.parse().unwrap()).unwrap();
        TieredCache::builder("stockhold-test", loader).policy(policy.clone()).redis(redis).start()
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let writing = caches.clone().map(|cache| {
        let (ledger, is_over) = (Arc::clone(&ledger), Arc::clone(&is_over));
        tokio::spawn(async move { ledger.write(&cache, writers_wait, &is_over).await })
    });
    let keeping = caches.clone().map(|cache| tokio::spawn(keep_young(cache, Arc::clone(&is_over))));
    let cutting = tokio::spawn(cut_off_now_and_then(proxy, Arc::clone(&is_over)));
    let reading = (0..READERS).map(|n| {
        let (cache, ledger) = (caches[n % caches.len()].clone(), Arc::clone(&ledger));
        tokio::spawn(async move { ledger.read(&cache, READS / READERS).await })
    });
    for read in reading.collect::<Vec<_>>() {
        assert!(read.await.unwrap() > READS / READERS / 10, "hardly anything was at hand");
    }
    is_over.store(true, Ordering::SeqCst);
    cutting.await.unwrap();
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
            let number = self.numbers[key].fetch_add(1, Ordering::SeqCst) + 1;
            if writers_wait {
                // Who cannot say so acknowledges nothing.
                while cache.invalidate(&key, number).await != Invalidated::Applied {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    SystemClock.sleep(MILLISECOND).await;
                }
            } else {
                cache.invalidate_soon(&key, number);
            }
            let now = SystemClock.wall();
            self.acknowledged.lock().unwrap().insert((key, number), now);
            SystemClock.sleep(2 * MILLISECOND).await;
        }
    }

    /// Reads, looks and looks at what it keeps; says how often it had kept something.
    async fn read(&self, cache: &Process, reads: usize) -> usize {
        let (mut kept, mut looks): ([Option<Kept<u64>>; KEYS], usize) = Default::default();
        for turn in 0..reads {
            let key = rand::random_range(0..KEYS);
            self.check(key, &cache.get(&key).await.unwrap());
            let now = SystemClock.boot();
            let at_hand = kept[key].as_ref().and_then(|kept| cache.look_at(kept, now, seen));
            if at_hand.is_none() {
                kept[key] = cache.keep(&key);
            }
            looks += usize::from(at_hand.is_some());
            for read in [cache.look(&key, now, seen), at_hand].iter().flatten() {
                self.check(key, read);
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

async fn cut_off_now_and_then(proxy: Proxy, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::SeqCst) {
        SystemClock.sleep(700 * MILLISECOND).await;
        proxy.blackhole();
        SystemClock.sleep(700 * MILLISECOND).await;
        proxy.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_read_has_what_was_acknowledged_before_its_moment() {
    reads_are_as_young_as_they_say(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_read_has_what_was_acknowledged_before_the_last_sign_of_life_if_writers_wait() {
    reads_are_as_young_as_they_say(true).await;
}
