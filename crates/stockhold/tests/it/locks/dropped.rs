//! Whoever stops waiting, wherever that is, keeps nobody else waiting.

use std::{future::poll_fn, task::Poll};

use super::*;

/// Where a future is dropped: after so many polls,
#[derive(Clone, Copy, Debug)]
struct Stop {
    polls: usize,
    moment: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// at once,
    Now,
    /// when all others have had their turn, so that what it sends is on its way,
    Sent,
    /// or when it is woken, and would be polled once more.
    Woken,
}

impl Stop {
    /// Everywhere, in turn.
    fn everywhere() -> impl Iterator<Item = Self> {
        let moments = [Moment::Now, Moment::Sent, Moment::Woken];
        (0..).flat_map(move |polls| moments.map(|moment| Self { polls, moment }))
    }

    /// Lets it go so far: what it came to, if it was ready by then.
    async fn of<F: Future>(self, future: F) -> Option<F::Output> {
        let (mut future, mut left) = (Box::pin(future), self.polls);
        poll_fn(move |cx| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if left == 0 && self.moment == Moment::Now {
                return Poll::Ready(None);
            }
            if left == 0 && self.moment == Moment::Sent {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }
}

/// Long before it would have ended by itself.
const SOON: Duration = Duration::from_secs(2);

async fn free(locks: &Locks, lock: &LockName) -> Lease {
    let lease = locks.acquire(lock, ttl(10_000), SOON).await;
    lease.expect("whoever has had it, or may have, has given it back")
}

async fn who_stops_giving_it_back(grantor: Grantor) {
    let shop = Shop::open(grantor).await;
    let (locks, lock) = (shop.locks(), name("n"));
    for stop in Stop::everywhere() {
        let lease = free(&locks, &lock).await;
        let released = stop.of(lease.release()).await;
        let next = free(&locks, &lock).await;
        assert!(shop.redis.as_ref().is_none_or(|redis| remembers(redis, "n")));
        shop.expect_ends();
        assert_eq!(next.release().await, Released::Clean);
        if let Some(released) = released {
            assert_eq!(released, Released::Clean);
            assert!(stop.polls > 1, "{stop:?}");
            break;
        }
    }
    shop.finish().await;
}

#[tokio::test]
async fn who_stops_giving_it_back_to_redis_has_given_it_back() {
    who_stops_giving_it_back(Grantor::Redis).await;
}

#[tokio::test]
async fn who_stops_giving_it_back_to_postgres_has_given_it_back() {
    who_stops_giving_it_back(Grantor::Postgres).await;
}

#[tokio::test]
async fn who_stops_at_any_await_leaves_nothing_behind() {
    let shop = Shop::open(Grantor::Redis).await;
    let (locks, lock) = (shop.locks(), name("n"));
    drop(free(&locks, &lock).await);
    for stop in Stop::everywhere() {
        let next = free(&locks, &lock).await;
        assert_eq!(next.release().await, Released::Clean);
        let asked = stop.of(locks.acquire(&lock, ttl(10_000), SOON)).await;
        let is_over = asked.is_some();
        // Given back in the background, whether it was had or not.
        drop(asked.map(|lease| lease.expect("it is free")));
        if is_over {
            assert!(stop.polls > 1, "{stop:?}");
            break;
        }
    }
    let last = free(&locks, &lock).await;
    assert_eq!(last.release().await, Released::Clean);
    shop.finish().await;
}

/// One has it, another one stops waiting for it, and a third one has it as soon as it is given back. Whether the second
/// one has waited until it was told that it is busy.
async fn is_told(stop: Stop, [holder, waiter, next]: [&Locks; 3]) -> bool {
    let lock = name("n");
    let held = free(holder, &lock).await;
    let waited = stop.of(waiter.acquire(&lock, ttl(10_000), 100 * MILLISECOND)).await;
    assert!(matches!(waited, None | Some(Err(LockError::Busy { .. }))), "{waited:?}");
    assert_eq!(held.release().await, Released::Clean);
    let begun = SystemClock.boot();
    let lease = free(next, &lock).await;
    assert!(since(begun) < 500 * MILLISECOND, "{stop:?}: {:?}", since(begun));
    assert_eq!(lease.release().await, Released::Clean);
    waited.is_some()
}

#[tokio::test]
async fn who_stops_waiting_is_not_granted_what_is_given_back() {
    let shop = Shop::of(Grantor::Redis, 2).await;
    let (here, there) = (shop.locks_of(0), shop.locks_of(1));
    drop(free(&there, &name("warm")).await);
    for stop in Stop::everywhere() {
        let mut is_over = true;
        // Also another instance, and the one behind in the same line.
        for next in [&here, &there] {
            is_over &= is_told(stop, [&here, &there, next]).await;
        }
        if is_over {
            // It has asked, waited, and asked again.
            assert!(stop.polls > 3, "{stop:?}");
            break;
        }
    }
    shop.finish().await;
}

#[tokio::test]
async fn who_stops_taking_several_leaves_none_behind() {
    let shop = Shop::open(Grantor::Redis).await;
    let (locks, names) = (shop.locks(), ["a", "b"].map(name));
    drop(free(&locks, &name("warm")).await);
    for stop in Stop::everywhere() {
        let asked = stop.of(locks.lock_all(&names, ttl(10_000), SOON)).await;
        let is_over = asked.is_some();
        drop(asked.map(|leases| leases.expect("both are free")));
        let next = locks.lock_all(&names, ttl(10_000), SOON).await;
        for lease in next.expect("both are free again") {
            assert_eq!(lease.release().await, Released::Clean);
        }
        if is_over {
            // It has asked for each, and renewed each.
            assert!(stop.polls > 4, "{stop:?}");
            break;
        }
    }
    shop.finish().await;
}
