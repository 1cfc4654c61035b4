//! Nobody who could renew a lease, or take it back, answers.

use stockhold::lock::LeaseLost;
use tokio::sync::oneshot;

use super::*;

/// Work under a lease that was renewed until nobody answered any more.
async fn ends_at_the_deadline(silence: impl FnOnce(&mut Shop)) -> Shop {
    let mut shop = Shop::open(Grantor::Redis).await;
    let lease = shop.locks().try_acquire(&name("n"), ttl(2_000)).await.expect("it is free");
    let (lease, (dropped, is_dropped)) = (Arc::new(lease), oneshot::channel::<()>());
    let working = tokio::spawn({
        let lease = Arc::clone(&lease);
        async move {
            let _alive = lease.keep_alive(Duration::from_secs(60));
            let work = async move {
                let _dropped = dropped;
                loop {
                    SystemClock.sleep(5 * MILLISECOND).await;
                }
            };
            let ended: Result<(), _> = lease.run(work).await;
            (ended, SystemClock.boot())
        }
    });
    let mut last = lease.left();
    let is_renewed = || {
        let before = std::mem::replace(&mut last, lease.left());
        before < last
    };
    until("a renewal", is_renewed).await;

    silence(&mut shop);
    let (begun, left) = (SystemClock.boot(), lease.left());
    assert!(left > SECOND, "{left:?}");
    let (ended, at) = working.await.expect("no panic");
    let took = at.saturating_sub(begun);
    assert_eq!(ended, Err(LeaseLost { name: name("n") }));
    assert!(is_dropped.await.is_err(), "the work is not there any more");
    assert!(took >= left && took < left + 300 * MILLISECOND, "{took:?} of {left:?}");
    let lease = Arc::into_inner(lease).expect("nobody works under it");
    assert_eq!(lease.release().await, Released::Unknown);
    shop
}

#[tokio::test]
async fn work_is_dropped_at_its_deadline_when_all_are_gone_who_could_renew_its_lease() {
    ends_at_the_deadline(|shop| {
        shop.redis_mut().kill();
        shop.postgres_mut().kill();
    })
    .await;
}

#[tokio::test]
async fn work_is_dropped_at_its_deadline_when_all_stand_still_who_could_renew_its_lease() {
    let silence = |shop: &mut Shop| {
        shop.redis_mut().pause();
        shop.postgres_mut().pause();
    };
    let mut shop = ends_at_the_deadline(silence).await;
    shop.redis_mut().resume();
    shop.postgres_mut().resume();
    shop.expect_ends();
}

#[tokio::test]
async fn who_gives_back_to_a_redis_that_says_nothing_does_not_know_what_becomes_of_it() {
    let mut shop = Shop::open(Grantor::Redis).await;
    let locks = shop.locks();
    let lease = locks.try_acquire(&name("n"), ttl(1_000)).await.expect("it is free");
    shop.redis_mut().pause();
    let begun = SystemClock.boot();
    assert_eq!(lease.release().await, Released::Unknown);
    assert!(since(begun) < 250 * MILLISECOND, "{:?}", since(begun));
    shop.redis_mut().resume();
    // Redis hears of it late, or its time is over.
    let next = had(&locks, &name("n")).await;
    assert_eq!(next.release().await, Released::Clean);
    shop.finish().await;
}
