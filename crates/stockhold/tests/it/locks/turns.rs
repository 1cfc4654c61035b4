//! Many who want the same lock, through several instances.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// How many scripts Redis has run.
fn scripts(server: &RedisServer) -> usize {
    let said = server.cli(&["INFO", "commandstats"]);
    let calls = said
        .lines()
        .filter(|line| line.starts_with("cmdstat_eval"))
        .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<usize>().ok());
    calls.sum()
}

#[tokio::test]
async fn who_waits_without_being_woken_asks_five_times_a_second_at_most() {
    let shop = Shop::of(Grantor::Redis, 2).await;
    let lease = shop.locks().try_acquire(&name("n"), ttl(20_000)).await.expect("it is free");
    let (locks, asked) = (shop.locks_of(1), Arc::new(AtomicUsize::new(0)));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (locks, asked) = (locks.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                let waited = locks.acquire(&name("n"), ttl(1_000), Duration::from_secs(3)).await;
                assert!(matches!(waited, Err(LockError::Busy { .. })), "{waited:?}");
                asked.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    SystemClock.sleep(500 * MILLISECOND).await; // all of them wait
    let (before, begun) = (scripts(shop.redis()), SystemClock.boot());
    SystemClock.sleep(Duration::from_secs(2)).await;
    let (asked_meanwhile, took) = (scripts(shop.redis()) - before, since(begun).as_secs_f64());
    assert!(asked_meanwhile as f64 <= 5.0 * took + 1.0, "{asked_meanwhile} in {took} s");
    for waited in waiting {
        waited.await.expect("no panic");
    }
    assert_eq!(lease.release().await, Released::Clean);
    shop.finish().await;
}

#[tokio::test]
async fn who_is_not_told_looks_again_within_a_quarter_of_a_second() {
    let shop = Shop::of(Grantor::Redis, 2).await;
    let (here, there) = (shop.locks_of(0), shop.locks_of(1));
    for _ in 0..3 {
        let lease = here.acquire(&name("n"), ttl(10_000), Duration::from_secs(5)).await;
        let lease = lease.expect("it is its turn");
        let waiting = tokio::spawn({
            let there = there.clone();
            async move { there.acquire(&name("n"), ttl(10_000), Duration::from_secs(5)).await }
        });
        SystemClock.sleep(100 * MILLISECOND).await; // it waits, and listens
        // Its own connection for that is gone, and so is the next one.
        shop.redis().cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let begun = SystemClock.boot();
        assert_eq!(lease.release().await, Released::Clean);
        let next = waiting.await.expect("no panic").expect("it is its turn");
        assert!(since(begun) < 300 * MILLISECOND, "{:?}", since(begun));
        next.release().await;
    }
    shop.finish().await;
}

#[tokio::test]
async fn who_stops_at_any_await_leaves_nothing_behind() {
    let shop = Shop::open(Grantor::Redis).await;
    let locks = shop.locks();
    drop(locks.try_acquire(&name("warm"), ttl(1_000)).await.expect("it is free"));
    for polls in 0..12 {
        let lock = name(&format!("n{polls}"));
        let mut left = polls;
        let mut acquire = Box::pin(locks.acquire(&lock, ttl(30_000), Duration::from_secs(5)));
        let stopped = std::future::poll_fn(|cx| {
            if left == 0 {
                return std::task::Poll::Ready(None);
            }
            left -= 1;
            acquire.as_mut().poll(cx).map(Some)
        })
        .await;
        drop(acquire);
        // Given back in the background, whether it was had or not.
        drop(stopped.map(|lease| lease.expect("it is free")));
        let next = locks.acquire(&lock, ttl(1_000), Duration::from_secs(5)).await;
        assert_eq!(next.expect("it is free").release().await, Released::Clean);
    }
    shop.finish().await;
}
