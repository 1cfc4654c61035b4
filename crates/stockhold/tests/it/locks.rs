//! Locks: what all who grant them promise, and what becomes of them when Redis is gone.

use std::{sync::Arc, time::Duration};

use stockhold::{
    CacheOptions, Engine, LockName,
    clock::{Clock, SystemClock},
    ledger::{
        Ledger,
        memory::MemoryLedger,
        postgres::{PostgresLedger, PostgresOptions},
    },
    lock::{Attempt, Fence, Lease, LeaseTtl, LockError, Locks, Mode, Released, Token},
    redis::Redis,
};
use stockhold_testkit::{PostgresServer, RedisServer};

use crate::shop::{MILLISECOND, SECOND};

mod dropped;
mod evicting;
mod frozen;
mod guarded;
mod lost;
mod model;
mod promoted;
mod rule;
mod stopped;
mod strict;
mod turns;
mod unanswered;

/// Instances over one ledger, and what they stand on.
struct Shop {
    instances: Vec<Engine>,
    postgres: Option<PostgresServer>,
    redis: Option<RedisServer>,
}

/// Who grants.
#[derive(Clone, Copy, Debug)]
enum Grantor {
    Process,
    Postgres,
    Redis,
}

impl Shop {
    /// Of an instance.
    async fn open(grantor: Grantor) -> Self {
        Self::of(grantor, 1).await
    }

    async fn of(grantor: Grantor, instances: usize) -> Self {
        let redis = || RedisServer::set_up().with_tcp().start();
        let (postgres, redis) = match grantor {
            Grantor::Process => (None, None),
            Grantor::Postgres => (Some(PostgresServer::start()), None),
            Grantor::Redis => (Some(PostgresServer::start()), Some(redis())),
        };
        let url = redis.as_ref().map(url_of);
        let shop = Self { instances: Vec::new(), postgres, redis };
        shop.with(instances, url.as_deref()).await
    }

    /// Over these, without an instance.
    fn over(postgres: PostgresServer, redis: RedisServer) -> Self {
        Self { instances: Vec::new(), postgres: Some(postgres), redis: Some(redis) }
    }

    /// With so many more, which find Redis there.
    async fn with(mut self, instances: usize, redis: Option<&str>) -> Self {
        for _ in 0..instances {
            let instance = self.instance(redis.map(str::to_owned)).await;
            self.instances.push(instance);
        }
        self
    }

    /// One more.
    async fn instance(&self, redis: Option<String>) -> Engine {
        let ledger: Arc<dyn Ledger> = match &self.postgres {
            None => {
                Arc::new(MemoryLedger::new(stockhold::Limits::default(), Arc::new(SystemClock)))
            }
            Some(server) => {
                let options = PostgresOptions::default();
                Arc::new(PostgresLedger::connect(&server.url(), options).await.expect("connected"))
            }
        };
        let redis = redis.map(|url| Redis::new(&url.parse().expect("a URL")).expect("usable"));
        let cache = CacheOptions { redis, ..CacheOptions::default() };
        Engine::builder(ledger).cache(cache).start().expect("it starts")
    }

    fn locks(&self) -> Locks {
        self.locks_of(0)
    }

    fn locks_of(&self, instance: usize) -> Locks {
        self.instances[instance].locks().clone()
    }

    fn postgres(&self) -> &PostgresServer {
        self.postgres.as_ref().expect("there is one")
    }

    fn postgres_mut(&mut self) -> &mut PostgresServer {
        self.postgres.as_mut().expect("there is one")
    }

    fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("there is one")
    }

    fn redis_mut(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("there is one")
    }

    /// Who grants now, and in which epoch, as the row says.
    fn rule(&self) -> (String, u64) {
        let row = self.postgres().psql("SELECT grantor || ' ' || epoch FROM lock_rule");
        let (grantor, epoch) = row.split_once(' ').expect("two words");
        (grantor.to_owned(), epoch.parse().expect("a number"))
    }

    /// Waits until this one grants; says for how long.
    async fn until_granted_by(&self, grantor: &str) -> Duration {
        until(&format!("locks of {grantor}"), || self.rule().0 == grantor).await
    }

    /// No lease is there without an end.
    fn expect_ends(&self) {
        let Some(redis) = &self.redis else { return };
        let keys = redis.cli(&["KEYS", "lock*"]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            let left: i64 = redis.cli(&["PTTL", key]).parse().expect("a number");
            assert!(left != -1, "{key}");
        }
    }

    async fn finish(self) {
        self.expect_ends();
        for instance in &self.instances {
            instance.close().await.expect("it closes");
        }
    }
}

fn url_of(server: &RedisServer) -> String {
    server.url_at(server.address().expect("it has a port"))
}

fn name(name: &str) -> LockName {
    LockName::new(name).expect("a name")
}

fn ttl(millis: u64) -> LeaseTtl {
    LeaseTtl::new(Duration::from_millis(millis)).expect("a life")
}

fn since(begun: Duration) -> Duration {
    SystemClock.boot().saturating_sub(begun)
}

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks now and then until it is so; says for how long.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = SystemClock.boot();
    while !is_so() {
        assert!(since(begun) < PATIENCE, "waited for in vain: {what}");
        SystemClock.sleep(50 * MILLISECOND).await;
    }
    since(begun)
}

/// Waits for a turn, and asks again for as long as nobody can say whose it is.
async fn had(locks: &Locks, lock: &LockName) -> Lease {
    let begun = SystemClock.boot();
    loop {
        match locks.acquire(lock, ttl(60_000), 5 * SECOND).await {
            Ok(lease) => return lease,
            Err(LockError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
        assert!(since(begun) < PATIENCE, "nobody grants");
        SystemClock.sleep(20 * MILLISECOND).await;
    }
}

/// Whoever renews it is told that it is lost, as soon as anybody can say so.
async fn expect_lost(lease: &Lease) {
    let begun = SystemClock.boot();
    loop {
        match lease.renew().await {
            Err(LockError::Lost) => break,
            Err(LockError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
        assert!(since(begun) < PATIENCE, "nobody can say");
        SystemClock.sleep(20 * MILLISECOND).await;
    }
    assert!(lease.left().is_zero());
}

/// Whether this server has a lease of this lock, of whichever epoch.
fn remembers(server: &RedisServer, lock: &str) -> bool {
    !server.cli(&["KEYS", &format!("lock*={lock}")]).is_empty()
}

/// Asks once, as somebody who keeps the token.
async fn ask(locks: &Locks, token: &Token, mode: Mode) -> Result<Attempt, LockError> {
    locks.backend().acquire(&name("n"), token, ttl(10_000), mode).await
}

fn granted(attempt: &Result<Attempt, LockError>) -> Fence {
    match attempt {
        Ok(Attempt::Granted { fence, .. }) => *fence,
        other => panic!("{other:?}"),
    }
}

macro_rules! by_each_grantor {
    ($($story:ident)+) => {
        mod process {
            $(#[tokio::test] async fn $story() { super::$story(super::Grantor::Process).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $story() { super::$story(super::Grantor::Postgres).await; })+
        }
        mod redis {
            $(#[tokio::test] async fn $story() { super::$story(super::Grantor::Redis).await; })+
        }
    };
}

by_each_grantor! {
    one_has_it_and_the_next_has_a_higher_fence
    a_lease_ends_by_itself_and_is_never_made_again
    a_lease_that_is_renewed_lives_on
    the_same_attempt_has_the_same_grant
    what_is_released_twice_is_somebody_elses_or_nobodys
    whoever_looks_sees_who_has_what
    who_waits_is_woken
    all_are_had_or_none
}

async fn one_has_it_and_the_next_has_a_higher_fence(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let (locks, mut last) = (shop.locks(), Fence { epoch: 0, seq: 0 });
    for _ in 0..20 {
        let lease = locks.try_acquire(&name("n"), ttl(10_000)).await.expect("it is free");
        let busy = locks.try_acquire(&name("n"), ttl(10_000)).await;
        assert!(matches!(busy, Err(LockError::Busy { left }) if left.as_secs() >= 5), "{busy:?}");
        assert!(lease.fence() > last);
        last = lease.fence();
        assert_eq!(lease.release().await, Released::Clean);
    }
    shop.finish().await;
}

async fn a_lease_ends_by_itself_and_is_never_made_again(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let locks = shop.locks();
    let lease = locks.try_acquire(&name("n"), ttl(150)).await.expect("it is free");
    let next = locks.acquire(&name("n"), ttl(10_000), Duration::from_secs(5)).await;
    let next = next.expect("it has ended");
    assert!(next.fence() > lease.fence());
    assert!(matches!(lease.renew().await, Err(LockError::Lost)));
    assert_eq!(lease.release().await, Released::Superseded);
    assert_eq!(next.release().await, Released::Clean);
    shop.finish().await;
}

async fn a_lease_that_is_renewed_lives_on(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let locks = shop.locks();
    let lease = locks.try_acquire(&name("n"), ttl(300)).await.expect("it is free");
    let alive = lease.keep_alive(Duration::from_secs(60));
    let waited = locks.acquire(&name("n"), ttl(300), Duration::from_secs(1)).await;
    assert!(matches!(waited, Err(LockError::Busy { .. })), "{waited:?}");
    drop(alive);
    assert_eq!(lease.release().await, Released::Clean);
    shop.finish().await;
}

async fn the_same_attempt_has_the_same_grant(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let (locks, token) = (shop.locks(), Token::random());
    let first = granted(&ask(&locks, &token, Mode::Strict).await);
    assert_eq!(granted(&ask(&locks, &token, Mode::Strict).await), first);
    shop.finish().await;
}

async fn what_is_released_twice_is_somebody_elses_or_nobodys(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let (locks, ann, ben) = (shop.locks(), Token::random(), Token::random());
    granted(&ask(&locks, &ann, Mode::Strict).await);
    let release = async |token| locks.backend().release(&name("n"), token).await.expect("answered");
    assert_eq!(release(&ben).await, Released::Superseded);
    assert_eq!(release(&ann).await, Released::Clean);
    assert_eq!(release(&ann).await, Released::Expired);
    granted(&ask(&locks, &ben, Mode::Strict).await);
    assert_eq!(release(&ann).await, Released::Superseded);
    shop.finish().await;
}

async fn whoever_looks_sees_who_has_what(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let (locks, backend) = (shop.locks(), Arc::clone(shop.locks().backend()));
    let names = ["a/1", "a/2", "b/1"].map(name);
    let leases = locks.lock_all(&names, ttl(20_000), Duration::from_secs(5)).await.expect("free");
    let held = backend.inspect(&name("a/2")).await.expect("answered").expect("it is held");
    assert_eq!((held.name, held.fence), (name("a/2"), leases[1].fence()));
    assert!(held.left > Duration::from_secs(10) && held.since.is_some());
    assert_eq!(backend.inspect(&name("c")).await.expect("answered"), None);
    let listed = async |prefix, after: Option<&str>, limit| {
        let held = backend.list(prefix, after.map(name).as_ref(), limit).await.expect("answered");
        held.into_iter().map(|held| held.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed("a/", None, 10).await, ["a/1", "a/2"]);
    assert_eq!(listed("", Some("a/1"), 1).await, ["a/2"]);
    for lease in leases {
        lease.release().await;
    }
    assert!(listed("a/", None, 10).await.is_empty());
    shop.finish().await;
}

async fn who_waits_is_woken(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let locks = shop.locks();
    let mut fences = Vec::new();
    for _ in 0..10 {
        let lease = locks.acquire(&name("n"), ttl(10_000), Duration::from_secs(5)).await;
        let lease = lease.expect("it is its turn");
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.acquire(&name("n"), ttl(10_000), Duration::from_secs(5)).await }
        });
        SystemClock.sleep(20 * MILLISECOND).await; // it waits now
        let begun = SystemClock.boot();
        fences.push(lease.fence());
        lease.release().await;
        let next = waiting.await.expect("no panic").expect("it is its turn");
        assert!(since(begun) < 200 * MILLISECOND, "{:?}", since(begun));
        fences.push(next.fence());
        next.release().await;
    }
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    shop.finish().await;
}

async fn all_are_had_or_none(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let locks = shop.locks();
    let names = |names: [&str; 2]| names.map(name);
    let held = locks.try_acquire(&name("b"), ttl(10_000)).await.expect("it is free");
    let refused = locks.lock_all(&names(["a", "b"]), ttl(10_000), 50 * MILLISECOND).await;
    assert!(matches!(refused, Err(LockError::Busy { .. })));
    held.release().await;
    let all = locks.lock_all(&names(["b", "a"]), ttl(10_000), Duration::from_secs(5)).await;
    assert_eq!(all.expect("both are free").len(), 2);
    shop.finish().await;
}
