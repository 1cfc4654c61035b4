//! The second level: values in Redis, for all processes.
//!
//! An entry is a value, or the memory of an invalidation (a tombstone). Beside it may lie the right of one
//! reader to fill it in (a lease). Only who holds the lease fills an entry, so a load that began before an
//! invalidation finds its lease gone. Nothing here is ever needed: what Redis forgets is loaded again; and
//! `FLUSHALL` takes the leases with it.
//!
//! Nishtala et al., *Scaling Memcache at Facebook* (NSDI 2013), section 3.2.1, has leases for the same
//! two reasons: no stale fill, and one load per key.

use std::{sync::LazyLock, time::Duration};

use ::redis::{FromRedisValue, Value};

use crate::redis::{ANSWER, Redis, Script, Trouble, duration, millis, spread, text};

static GET_OR_LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/get_or_lease.lua")));
static FILL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/fill.lua")));
static INVALIDATE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/invalidate.lua")));

static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/leave.lua")));

/// Entries are spread over so many buckets; in a Cluster, each has one home.
const BUCKETS: u64 = 64;

/// Entries under one prefix.
#[derive(Debug)]
pub(super) struct Depot {
    redis: Redis,
    namespace: String,
    /// How long an entry is kept.
    keep: Duration,
    /// How long a reader has the right to fill one.
    lease: Duration,
}

/// What is there of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Value {
        version: u64,
        left: Duration,
        bytes: Vec<u8>,
    },
    /// It may be filled in by who asked.
    Lease {
        floor: u64,
    },
    /// Somebody else may, for so long.
    Wait(Duration),
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    Yes,
    /// There is no entry to fill, or it was invalidated.
    Gone,
    /// The right is somebody else's by now.
    Foreign,
    /// Newer ones are known.
    Below,
}

/// Tells one reader from another.
pub(super) type Token = [u8; 32];

impl Depot {
    pub(super) fn new(redis: Redis, namespace: &str, keep: Duration, lease: Duration) -> Self {
        Self { redis, namespace: namespace.to_owned(), keep, lease }
    }

    pub(super) async fn get_or_lease(&self, name: &[u8], token: &Token) -> Result<Found, Trouble> {
        let keys = self.keys(name);
        let run = GET_OR_LEASE.on(&keys).arg(random_mark()).arg(&token[..]).arg(millis(self.lease));
        let answer = self.redis.run(ANSWER, &run).await?;
        found(answer).ok_or_else(|| Trouble::odd("get_or_lease was answered with something else"))
    }

    /// Fills in what the holder of the lease has loaded.
    pub(super) async fn fill(
        &self,
        name: &[u8],
        token: &Token,
        version: u64,
        bytes: &[u8],
    ) -> Result<Filled, Trouble> {
        self.write(name, token, version, bytes).await
    }

    /// Fills in what somebody knows who has changed the source, over what is older. Where there is nothing,
    /// nothing is made.
    pub(super) async fn publish(
        &self,
        name: &[u8],
        version: u64,
        bytes: &[u8],
    ) -> Result<Filled, Trouble> {
        self.write(name, &[], version, bytes).await
    }

    async fn write(
        &self,
        name: &[u8],
        token: &[u8],
        version: u64,
        bytes: &[u8],
    ) -> Result<Filled, Trouble> {
        let keys = self.keys(name);
        let run = FILL.on(&keys).arg(token).arg(digits(version)).arg(bytes).arg(millis(self.keep));
        match text(self.redis.run(ANSWER, &run).await?).as_deref() {
            Some("filled") => Ok(Filled::Yes),
            Some("gone") => Ok(Filled::Gone),
            Some("foreign") => Ok(Filled::Foreign),
            Some("below") => Ok(Filled::Below),
            _ => Err(Trouble::odd("fill was answered with something else")),
        }
    }

    /// Gives the right to fill an entry back: whether it was still there.
    pub(super) async fn leave(&self, name: &[u8], token: &Token) -> Result<bool, Trouble> {
        let [_, _, lease] = self.keys(name);
        let answer = self.redis.run(ANSWER, &LEAVE.on(&[lease]).arg(&token[..])).await?;
        Ok(answer == Value::Int(1))
    }

    /// From when this returns nobody is given what was there, and nothing is filled in that was loaded
    /// before. Answers with the version below which nothing is.
    pub(super) async fn invalidate(&self, name: &[u8], floor: u64) -> Result<u64, Trouble> {
        self.take_away(name, floor, "always").await
    }

    /// The same, but the floor is not remembered: for a source that never answers with what is old.
    pub(super) async fn forget(&self, name: &[u8], floor: u64) -> Result<(), Trouble> {
        self.take_away(name, floor, "known").await.map(drop)
    }

    async fn take_away(&self, name: &[u8], floor: u64, which: &str) -> Result<u64, Trouble> {
        let keys = self.keys(name);
        let run = INVALIDATE
            .on(&keys)
            .arg(random_mark())
            .arg(digits(floor))
            .arg(millis(self.keep))
            .arg(which);
        let floor = text(self.redis.run(ANSWER, &run).await?).and_then(|floor| floor.parse().ok());
        floor.ok_or_else(|| Trouble::odd("invalidate was answered with something else"))
    }

    /// The same for all entries.
    pub(super) async fn invalidate_all(&self) -> Result<(), Trouble> {
        for bucket in 0..BUCKETS {
            self.remark(&self.mark_of(bucket)).await?;
        }
        // Whoever listens hears of this one.
        self.remark(&format!("{}all}}", self.prefix())).await
    }

    async fn remark(&self, key: &str) -> Result<(), Trouble> {
        let mut set = ::redis::cmd("SET");
        set.arg(key).arg(random_mark()).arg("PX").arg(DAY_MS);
        self.redis.call_within(ANSWER, &set).await.map(drop)
    }

    /// Whether Redis is left alone, because so much has failed.
    pub(super) fn is_open(&self) -> bool {
        self.redis.is_open()
    }

    /// What the keys begin with of which one wants to hear.
    pub(super) fn prefix(&self) -> String {
        format!("{{{}/", self.namespace)
    }

    /// The name of an entry, by its key; none if it stands for all of them.
    pub(super) fn name_of<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let behind = key.iter().position(|byte| *byte == b'}')?.saturating_add(1);
        match key.get(behind..)? {
            [b'=', name @ ..] => Some(name),
            _ => None,
        }
    }

    /// The mark, the entry and the lease, which lie together in a Cluster. Only the entry begins with the
    /// prefix: whoever listens hears of values alone.
    fn keys(&self, name: &[u8]) -> [Vec<u8>; 3] {
        let (namespace, bucket) = (&self.namespace, bucket_of(name));
        let entry = [format!("{{{namespace}/{bucket}}}=").as_bytes(), name].concat();
        let lease = [format!("lease{{{namespace}/{bucket}}}=").as_bytes(), name].concat();
        [self.mark_of(bucket).into_bytes(), entry, lease]
    }

    fn mark_of(&self, bucket: u64) -> String {
        format!("mark{{{}/{bucket}}}", self.namespace)
    }
}

fn bucket_of(name: &[u8]) -> u64 {
    spread(name) % BUCKETS
}

const DAY_MS: u64 = 86_400_000;

fn found(answer: Value) -> Option<Found> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    match text(parts.next()?)?.as_str() {
        "V" => Some(Found::Value {
            version: text(parts.next()?)?.parse().ok()?,
            left: duration(parts.next()?)?,
            bytes: Vec::<u8>::from_redis_value(parts.next()?).ok()?,
        }),
        "L" => Some(Found::Lease { floor: text(parts.next()?)?.parse().ok()? }),
        "W" => Some(Found::Wait(duration(parts.next()?)?)),
        _ => None,
    }
}

/// Numbers in Lua are doubles; these are compared as texts.
fn digits(version: u64) -> String {
    format!("{version:020}")
}

fn random_mark() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A token that nobody else has.
pub(super) fn random_token() -> Token {
    let mut token = Token::default();
    let digits = format!("{:032x}", rand::random::<u128>());
    token.copy_from_slice(digits.as_bytes());
    token
}

#[cfg(test)]
mod tests {
    use stockhold_testkit::RedisServer;

    use super::*;

    const KEEP: Duration = Duration::from_secs(30);
    const LEASE: Duration = Duration::from_secs(2);
    const ANN: Token = [b'a'; 32];
    const BEN: Token = [b'b'; 32];

    struct Shop {
        server: RedisServer,
        depot: Depot,
    }

    impl Shop {
        fn open() -> Self {
            Self::with_lease(LEASE)
        }

        fn with_lease(lease: Duration) -> Self {
            let server = RedisServer::start();
            let redis = Redis::new(&server.url().parse().unwrap()).unwrap();
            Self { server, depot: Depot::new(redis, "stockhold", KEEP, lease) }
        }

        async fn get(&self, token: &Token) -> Found {
            self.depot.get_or_lease(b"MUG", token).await.unwrap()
        }

        async fn fill(&self, token: &Token, version: u64) -> Filled {
            self.depot.fill(b"MUG", token, version, b"five").await.unwrap()
        }

        async fn publish(&self, version: u64) -> Filled {
            self.depot.publish(b"MUG", version, b"four").await.unwrap()
        }

        async fn version(&self) -> u64 {
            match self.get(&ANN).await {
                Found::Value { version, .. } => version,
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn who_finds_nothing_may_fill_it_in_and_others_wait() {
        let shop = Shop::open();
        assert_eq!(shop.get(&ANN).await, Found::Lease { floor: 0 });
        assert!(matches!(shop.get(&BEN).await, Found::Wait(left) if left <= LEASE));
        // The reply was lost: asked again, it is the same.
        assert_eq!(shop.get(&ANN).await, Found::Lease { floor: 0 });
        assert_eq!(shop.fill(&ANN, 7).await, Filled::Yes);
        let Found::Value { version, left, bytes } = shop.get(&BEN).await else { panic!() };
        assert_eq!((version, &bytes[..]), (7, &b"five"[..]));
        assert!(left <= KEEP && left > KEEP / 2);
    }

    #[tokio::test]
    async fn a_lease_that_is_over_is_given_to_the_next() {
        let shop = Shop::with_lease(Duration::from_millis(300));
        assert_eq!(shop.get(&ANN).await, Found::Lease { floor: 0 });
        while shop.get(&BEN).await != (Found::Lease { floor: 0 }) {}
        assert_eq!(shop.fill(&ANN, 7).await, Filled::Foreign);
        assert_eq!(shop.fill(&BEN, 7).await, Filled::Yes);
        assert_eq!(shop.fill(&BEN, 8).await, Filled::Gone);
    }

    #[tokio::test]
    async fn who_cannot_fill_it_in_lets_the_next_try() {
        let shop = Shop::open();
        shop.get(&ANN).await;
        assert!(!shop.depot.leave(b"MUG", &BEN).await.unwrap());
        assert!(matches!(shop.get(&BEN).await, Found::Wait(_)));
        assert!(shop.depot.leave(b"MUG", &ANN).await.unwrap());
        assert_eq!(shop.get(&BEN).await, Found::Lease { floor: 0 });
    }

    #[tokio::test]
    async fn what_was_loaded_before_an_invalidation_is_not_filled_in() {
        let shop = Shop::open();
        shop.get(&ANN).await;
        assert_eq!(shop.depot.invalidate(b"MUG", 8).await.unwrap(), 8);
        assert_eq!(shop.fill(&ANN, 7).await, Filled::Gone);
        assert_eq!(shop.get(&BEN).await, Found::Lease { floor: 8 });
        assert_eq!(shop.fill(&ANN, 9).await, Filled::Foreign);
        assert_eq!(shop.fill(&BEN, 7).await, Filled::Below);
        assert_eq!(shop.fill(&BEN, 8).await, Filled::Yes);
    }

    #[tokio::test]
    async fn versions_only_move_forward() {
        let shop = Shop::open();
        shop.get(&ANN).await;
        assert_eq!(shop.fill(&ANN, u64::MAX - 1).await, Filled::Yes);
        assert_eq!(shop.publish(u64::MAX - 2).await, Filled::Below);
        assert_eq!(shop.publish(u64::MAX).await, Filled::Yes);
        assert_eq!(shop.version().await, u64::MAX);
        assert_eq!(shop.depot.invalidate(b"MUG", 3).await.unwrap(), u64::MAX);
        assert_eq!(shop.publish(9).await, Filled::Below);
    }

    #[tokio::test]
    async fn who_has_changed_the_source_goes_before_who_has_read_it() {
        let shop = Shop::open();
        shop.depot.invalidate(b"MUG", 8).await.unwrap();
        shop.get(&ANN).await;
        assert_eq!(shop.publish(8).await, Filled::Yes);
        assert_eq!(shop.fill(&ANN, 9).await, Filled::Gone);
        assert_eq!(shop.version().await, 8);
    }

    #[tokio::test]
    async fn what_comes_late_is_not_filled_in_where_nobody_knows_any_more_what_is_older() {
        let shop = Shop::open();
        shop.get(&ANN).await;
        assert_eq!(shop.publish(7).await, Filled::Gone);
        assert_eq!(shop.fill(&ANN, 8).await, Filled::Yes);
    }

    #[tokio::test]
    async fn nothing_is_filled_in_where_nobody_has_asked_or_redis_has_forgotten() {
        let shop = Shop::open();
        assert_eq!(shop.publish(8).await, Filled::Gone);
        shop.get(&ANN).await;
        shop.server.cli(&["FLUSHALL"]);
        assert_eq!(shop.fill(&ANN, 7).await, Filled::Gone);
        assert_eq!(shop.server.cli(&["DBSIZE"]), "0");
    }

    #[tokio::test]
    async fn what_nobody_has_asked_for_need_not_be_forgotten() {
        let shop = Shop::open();
        let forget = async |floor| shop.depot.forget(b"MUG", floor).await.unwrap();
        forget(7).await;
        assert_eq!(shop.server.cli(&["DBSIZE"]), "0");
        // Somebody is about to fill it in.
        shop.get(&ANN).await;
        forget(8).await;
        assert_eq!(shop.fill(&ANN, 7).await, Filled::Gone);
        assert_eq!(shop.get(&BEN).await, Found::Lease { floor: 0 });
        assert_eq!(shop.fill(&BEN, 8).await, Filled::Yes);
        forget(9).await;
        assert_eq!(shop.get(&BEN).await, Found::Lease { floor: 0 });
    }

    #[tokio::test]
    async fn what_is_old_is_taken_away_also_when_there_is_no_memory_left() {
        let shop = Shop::open();
        for n in 0..2 {
            shop.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
            shop.get(&ANN).await;
            assert_eq!(shop.fill(&ANN, 7 + n).await, Filled::Yes);
            shop.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
            if n == 0 {
                shop.depot.forget(b"MUG", 8).await.unwrap();
            } else {
                shop.depot.invalidate(b"MUG", 9).await.unwrap();
            }
            assert_eq!(shop.server.cli(&["KEYS", "{stockhold/*=MUG"]), "");
        }
    }

    #[tokio::test]
    async fn everything_is_invalidated_at_once() {
        let shop = Shop::open();
        shop.get(&ANN).await;
        shop.fill(&ANN, 7).await;
        shop.depot.invalidate_all().await.unwrap();
        assert_eq!(shop.publish(9).await, Filled::Gone);
        assert_eq!(shop.get(&BEN).await, Found::Lease { floor: 0 });
        shop.depot.invalidate_all().await.unwrap();
        assert_eq!(shop.fill(&BEN, 9).await, Filled::Gone);
    }

    #[tokio::test]
    async fn whatever_is_written_is_forgotten_some_day() {
        let shop = Shop::open();
        shop.get(&ANN).await;
        shop.fill(&ANN, 7).await;
        shop.depot.get_or_lease(b"HAT", &ANN).await.unwrap();
        shop.depot.invalidate(b"CAP", 7).await.unwrap();
        shop.depot.invalidate_all().await.unwrap();
        for key in shop.server.cli(&["KEYS", "*"]).lines() {
            let left: i64 = shop.server.cli(&["PTTL", key]).parse().unwrap();
            assert!(left > 0, "{key} lives for {left} ms");
        }
    }

    #[test]
    fn the_name_of_an_entry_is_told_from_its_key() {
        let redis = Redis::new(&"redis://127.0.0.1:1".parse().unwrap()).unwrap();
        let depot = Depot::new(redis, "stockhold", KEEP, LEASE);
        let [mark, entry, lease] = depot.keys(b"a}=b");
        assert_eq!(depot.name_of(&entry), Some(&b"a}=b"[..]));
        assert_eq!(depot.name_of(b"{stockhold/all}"), None);
        let is_heard = |key: &[u8]| key.starts_with(depot.prefix().as_bytes());
        assert!(is_heard(&entry) && is_heard(b"{stockhold/all}"));
        assert!(!is_heard(&lease) && !is_heard(&mark));
    }
}
