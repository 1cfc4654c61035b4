//! A Redis that stands still, and then goes on as if nothing had happened.

use super::{
    guarded::{Writers, client, fences_of, overtake, write},
    *,
};

/// The last epoch in which anybody has written.
fn last_epoch(shop: &Shop) -> u64 {
    let last = format!(
        "SELECT coalesce(max(split_part(by, '.', 1)::bigint), 0) FROM written WHERE name = '{}'",
        Writers::LOCK
    );
    shop.postgres().psql(&last).parse().expect("a number")
}

#[tokio::test]
async fn slow_what_a_redis_remembers_that_stood_still_counts_no_more() {
    let mut shop = Shop::of(Grantor::Redis, 2).await;
    let (here, there) = (shop.locks_of(0).fenced(), shop.locks_of(1).fenced());
    let (a, b) = (had(&here, &name("a")).await, had(&there, &name("b")).await);
    let mut client = client(&shop).await;
    for lease in [&a, &b] {
        write(&mut client, lease).await.expect("nobody else has it");
    }
    let before = shop.rule();
    assert_eq!(before.0, "redis");
    let writers = Writers::begin(&shop, 4).await;
    until("some write", || last_epoch(&shop) == before.1).await;

    shop.redis_mut().pause();
    shop.until_granted_by("database").await;
    let meanwhile = shop.rule();
    let by_database = overtake(&shop, &there, &a).await;
    expect_lost(&a).await;
    until("they write on", || last_epoch(&shop) == meanwhile.1).await;

    shop.redis_mut().resume();
    assert_eq!(shop.rule(), meanwhile);
    assert!(remembers(shop.redis(), "a") && remembers(shop.redis(), "b"));
    assert!(matches!(a.renew().await, Err(LockError::Lost)), "it is not Redis that is asked");
    shop.until_granted_by("redis").await;
    let after = shop.rule();
    assert!(before.1 < meanwhile.1 && meanwhile.1 < after.1, "{before:?} {meanwhile:?} {after:?}");
    assert!(remembers(shop.redis(), "b"), "as of an earlier epoch");
    overtake(&shop, &here, &b).await;
    overtake(&shop, &there, &by_database).await;
    for stale in [&a, &b, &by_database] {
        expect_lost(stale).await;
    }
    until("they write on", || last_epoch(&shop) >= after.1).await;
    let (_, written) = writers.stop(&shop).await;
    assert!(written.iter().any(|fence| fence.epoch == meanwhile.1), "{written:?}");
    assert_eq!(["a", "b"].map(|lock| fences_of(&shop, lock).len()), [3, 2]);
    shop.finish().await;
}
