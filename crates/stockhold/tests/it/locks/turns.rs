//! Many who want the same lock, through several instances.

use std::sync::atomic::{AtomicBool, Ordering};

use stockhold_testkit::Proxy;

use super::*;

async fn take_turns(grantor: Grantor) {
    let shop = Shop::of(grantor, 3).await;
    let none = Fence { epoch: 0, seq: 0 };
    let (is_inside, last) =
        (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(none)));
    let mut working = Vec::new();
    for n in 0..24 {
        let (locks, is_inside, last) =
            (shop.locks_of(n % 3), Arc::clone(&is_inside), Arc::clone(&last));
        working.push(tokio::spawn(async move {
            for _ in 0..5 {
                let lease = locks.acquire(&name("n"), ttl(10_000), Duration::from_secs(60)).await;
                let lease = lease.expect("it is its turn");
                assert!(!is_inside.swap(true, Ordering::SeqCst), "two are inside");
                let before = std::mem::replace(&mut *last.lock().expect("no panic"), lease.fence());
                assert!(lease.fence() > before, "{before} {}", lease.fence());
                SystemClock.sleep(MILLISECOND).await;
                assert!(is_inside.swap(false, Ordering::SeqCst));
                assert_eq!(lease.release().await, Released::Clean);
            }
        }));
    }
    for worked in working {
        worked.await.expect("no panic");
    }
    shop.finish().await;
}

#[tokio::test]
async fn instances_over_redis_take_turns() {
    take_turns(Grantor::Redis).await;
}

#[tokio::test]
async fn instances_over_postgres_take_turns() {
    take_turns(Grantor::Postgres).await;
}

/// How often Redis was asked for one of these.
fn calls(server: &RedisServer, commands: &[&str]) -> usize {
    let said = server.cli(&["INFO", "commandstats"]);
    let calls = said.lines().filter_map(|line| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next().unwrap_or(rest);
        commands.contains(&command).then(|| calls.parse::<usize>().expect("a number"))
    });
    calls.sum()
}

/// What instances ask for locks with, and not what scripts do then.
const ASKED: [&str; 2] = ["evalsha", "eval"];

/// How much more of this Redis is asked for in two seconds, per second.
async fn per_second(server: &RedisServer, commands: &[&str]) -> f64 {
    let (before, begun) = (calls(server, commands), SystemClock.boot());
    SystemClock.sleep(2 * SECOND).await;
    (calls(server, commands) - before) as f64 / since(begun).as_secs_f64()
}

#[tokio::test]
async fn who_waits_without_being_woken_asks_five_times_a_second_at_most() {
    let shop = Shop::of(Grantor::Redis, 2).await;
    let lease = shop.locks().try_acquire(&name("n"), ttl(20_000)).await.expect("it is free");
    let locks = shop.locks_of(1);
    let wait = |patience| {
        let locks = locks.clone();
        tokio::spawn(async move {
            let waited = locks.acquire(&name("n"), ttl(1_000), patience).await;
            assert!(matches!(waited, Err(LockError::Busy { .. })), "{waited:?}");
        })
    };
    wait(SECOND).await.expect("no panic");
    // Each instance asks now and then whether Redis could grant, also while nobody waits.
    let idle = per_second(shop.redis(), &ASKED).await;
    let waiting: Vec<_> = (0..8).map(|_| wait(4 * SECOND)).collect();
    SystemClock.sleep(500 * MILLISECOND).await; // all of them wait
    let asked = per_second(shop.redis(), &ASKED).await;
    assert!(asked > idle + 1.0 && asked <= idle + 5.5, "{asked} a second, {idle} without them");
    for waited in waiting {
        waited.await.expect("no panic");
    }
    assert_eq!(lease.release().await, Released::Clean);
    shop.finish().await;
}

/// Connections on which somebody listens.
fn listeners(server: &RedisServer) -> usize {
    let listening = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    listening.lines().filter(|line| !line.is_empty()).count()
}

#[tokio::test]
async fn who_is_not_told_looks_again_within_a_quarter_of_a_second() {
    let shop = Shop::open(Grantor::Redis).await;
    let proxy = Proxy::start(shop.redis().address().expect("it has a port"));
    let through = shop.redis().url_at(proxy.address());
    let shop = shop.with(1, Some(through.as_str())).await;
    let (here, deaf) = (shop.locks_of(0), shop.locks_of(1));
    let mine = async |locks: &Locks| {
        let lease = locks.acquire(&name("n"), ttl(10_000), 5 * SECOND).await;
        lease.expect("it is its turn")
    };
    for locks in [&here, &deaf] {
        mine(locks).await.release().await;
    }
    until("both listen", || listeners(shop.redis()) == 2).await;
    // It keeps its connection for commands. That on which it listens is gone, and it gets no other one.
    proxy.refuse();
    assert_eq!(shop.redis().cli(&["CLIENT", "KILL", "TYPE", "pubsub"]), "2");
    until("the other one listens", || listeners(shop.redis()) == 1).await;
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let lease = mine(&here).await;
        let waiting = tokio::spawn({
            let deaf = deaf.clone();
            async move { deaf.acquire(&name("n"), ttl(10_000), 5 * SECOND).await }
        });
        SystemClock.sleep(100 * MILLISECOND).await; // it has asked, and waits
        let begun = SystemClock.boot();
        assert_eq!(lease.release().await, Released::Clean);
        let next = waiting.await.expect("no panic").expect("it is its turn");
        longest = longest.max(since(begun));
        next.release().await;
    }
    assert!(longest > 20 * MILLISECOND, "somebody has told it: {longest:?}");
    assert!(longest < 300 * MILLISECOND, "{longest:?}");
    assert_eq!(listeners(shop.redis()), 1);
    shop.finish().await;
}
