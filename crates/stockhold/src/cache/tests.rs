//! Against a source that a test drives, and real Redis servers.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use stockhold_testkit::RedisServer;

use self::source::Source;
use super::{
    depot::random_token,
    shelf::{Confirmed, Entry, Flight, Plan, Turn},
    *,
};
use crate::FailureKind;

mod alone;
mod confirming;
mod linked;
mod orders;
mod race;
mod source;
mod young;

const SOON: Duration = Duration::from_secs(10);
const NEVER: fn(&u64, Timestamp) -> bool = |_, _| false;

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
    let cache = linked_soon(source, redis_at(&server.url()), looks_seldom());
    is_linked(&cache).await;
    cache
}

/// The same, and it may not hear from it yet.
fn linked_soon(source: &Arc<Source>, redis: Redis, policy: Policy) -> TestCache {
    let source: Arc<dyn Loader<_, _>> = Arc::<Source>::clone(source);
    TieredCache::builder("stockhold-test", source).policy(policy).redis(redis).start()
}

fn redis_at(url: &str) -> Redis {
    Redis::new(&url.parse().unwrap()).unwrap()
}

/// By itself it looks again after a minute: of what has changed it has to be told.
fn looks_seldom() -> Policy {
    Policy { unlinked_ttl: 6 * SOON, ttl: 6 * SOON, ..Policy::default() }
}

async fn is_linked(cache: &TestCache) {
    until("it is linked", || cache.health().is_linked).await;
}

async fn until_told(cache: &TestCache) {
    until("Redis is told", || cache.health().queued == 0).await;
}

/// Waits until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = SystemClock.boot();
    while !is_so() {
        assert!(SystemClock.boot() - begun < SOON, "not so for {SOON:?}: {what}");
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
