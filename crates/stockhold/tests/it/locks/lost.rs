//! Redis is killed, stands still, loses its data, or is another one.

use super::*;

/// Asks until it is answered; what is not answered is unavailable, and said so in time.
pub(super) async fn until_answered(
    locks: &Locks,
    token: &Token,
    mode: Mode,
) -> (Attempt, Duration) {
    let begun = SystemClock.boot();
    loop {
        let asked = SystemClock.boot();
        match ask(locks, token, mode).await {
            Ok(attempt) => return (attempt, since(begun)),
            Err(LockError::Unavailable(_)) => {
                assert!(since(asked) < 250 * MILLISECOND, "{:?}", since(asked));
            }
            Err(other) => panic!("{other}"),
        }
        assert!(since(begun) < PATIENCE, "nobody grants");
        SystemClock.sleep(20 * MILLISECOND).await;
    }
}

fn fence_of(attempt: Attempt) -> Fence {
    granted(&Ok(attempt))
}

#[tokio::test]
async fn slow_while_redis_is_gone_the_database_grants_and_afterwards_redis_again() {
    let mut shop = Shop::of(Grantor::Redis, 2).await;
    let (locks, token) = (shop.locks(), Token::random());
    let first = granted(&ask(&locks, &token, Mode::Strict).await);
    assert_eq!(shop.rule().0, "redis");

    shop.redis_mut().kill();
    let (told, took) = until_answered(&locks, &Token::random(), Mode::Fenced).await;
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    let second = fence_of(told);
    assert!(second.epoch > first.epoch);
    assert_eq!(shop.rule().0, "database");
    // Whoever checks no fence waits for the leases of Redis, which may be alive.
    let strict =
        locks.backend().acquire(&name("m"), &Token::random(), ttl(500), Mode::Strict).await;
    assert!(
        matches!(strict, Ok(Attempt::Busy(left)) if left > Duration::from_secs(50)),
        "{strict:?}"
    );
    // The other instance obeys the same row.
    let other = ask(&shop.locks_of(1), &Token::random(), Mode::Fenced).await;
    assert!(matches!(other, Ok(Attempt::Busy(_))), "{other:?}");
    let renewed = locks.backend().renew(&name("n"), &token, ttl(1_000)).await;
    assert!(matches!(renewed, Err(LockError::Lost)), "the lease of Redis is not renewed");

    shop.redis_mut().restart_empty();
    let took = shop.until_granted_by("redis").await;
    assert!(took > Duration::from_secs(4), "once it has been well for a while");
    let (told, _) = until_answered(&locks, &Token::random(), Mode::Fenced).await;
    assert!(fence_of(told).epoch > second.epoch);
    shop.finish().await;
}

#[tokio::test]
async fn a_redis_that_one_instance_sees_goes_on_granting() {
    let mut shop = Shop::of(Grantor::Redis, 1).await;
    let seeing = shop.locks();
    // Whoever comes first says who grants.
    drop(seeing.try_acquire(&name("warm"), ttl(1_000)).await.expect("it is free"));
    let blind = shop.instance(Some("redis://127.0.0.1:1".to_owned())).await;
    let busy = tokio::spawn({
        let seeing = seeing.clone();
        async move {
            for _ in 0..100 {
                let lease = seeing.acquire(&name("m"), ttl(1_000), Duration::from_secs(5)).await;
                lease.expect("it is its turn").release().await;
                SystemClock.sleep(40 * MILLISECOND).await;
            }
        }
    });
    let begun = SystemClock.boot();
    while since(begun) < Duration::from_secs(4) {
        let told = ask(blind.locks(), &Token::random(), Mode::Fenced).await;
        assert!(matches!(told, Err(LockError::Unavailable(_))), "{told:?}");
        SystemClock.sleep(100 * MILLISECOND).await;
    }
    assert_eq!(shop.rule().0, "redis");
    busy.await.expect("no panic");
    shop.instances.push(blind);
    shop.finish().await;
}

#[tokio::test]
async fn what_redis_grants_late_is_given_back() {
    let mut shop = Shop::of(Grantor::Redis, 1).await;
    let locks = shop.locks();
    drop(locks.try_acquire(&name("warm"), ttl(1_000)).await.expect("it is free"));
    shop.redis_mut().pause();
    let begun = SystemClock.boot();
    let late = locks.try_acquire(&name("n"), ttl(60_000)).await;
    assert!(matches!(late, Err(LockError::Unavailable(_))), "{late:?}");
    assert!(since(begun) < 250 * MILLISECOND, "{:?}", since(begun));
    shop.redis_mut().resume();
    // What it was asked while it stood still, it does now: it is granted, and released again.
    let lease = locks.acquire(&name("n"), ttl(1_000), Duration::from_secs(10)).await;
    let lease = match lease {
        Err(LockError::Unavailable(_)) => {
            let (told, _) = until_answered(&locks, &Token::random(), Mode::Fenced).await;
            fence_of(told)
        }
        other => other.expect("it is free long before a minute is over").fence(),
    };
    assert!(lease.epoch > 0);
    shop.finish().await;
}

#[tokio::test]
async fn a_redis_that_has_lost_its_data_gets_a_new_epoch() {
    let shop = Shop::of(Grantor::Redis, 2).await;
    let locks = shop.locks();
    let lease = locks.try_acquire(&name("n"), ttl(20_000)).await.expect("it is free");
    let before = shop.rule();
    shop.redis().cli(&["FLUSHALL"]);
    let strict = shop.locks_of(1).try_acquire(&name("n"), ttl(1_000)).await;
    assert!(
        matches!(strict, Err(LockError::Busy { left }) if left > Duration::from_secs(50)),
        "whoever checks no fence waits: {strict:?}"
    );
    assert!(matches!(lease.renew().await, Err(LockError::Lost)));
    assert!(lease.left().is_zero());
    let fence = granted(&ask(&shop.locks_of(1), &Token::random(), Mode::Fenced).await);
    assert!(fence > lease.fence());
    let after = shop.rule();
    assert!(after.0 == "redis" && after.1 > before.1, "{before:?} {after:?}");
    shop.finish().await;
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_as_if_all_were() {
    let shop = Shop::of(Grantor::Redis, 1).await;
    let first = granted(&ask(&shop.locks(), &Token::random(), Mode::Fenced).await);
    for key in shop.redis().cli(&["KEYS", "rule*"]).lines() {
        shop.redis().cli(&["DEL", key]);
    }
    let second = granted(&ask(&shop.locks(), &Token::random(), Mode::Fenced).await);
    assert!(second.epoch > first.epoch);
    shop.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_promoted_gets_a_new_epoch() {
    let mut shop = Shop::of(Grantor::Redis, 1).await;
    let replica = RedisServer::replica_of(shop.redis());
    let locks = shop.locks();
    let first = granted(&ask(&locks, &Token::random(), Mode::Fenced).await);
    shop.redis().cli(&["WAIT", "1", "1000"]);
    // It has the leases and the epoch, as far as it was told.
    shop.redis_mut().kill();
    replica.promote();
    let url = url_of(&replica);
    let other = shop.instance(Some(url)).await;
    let (told, _) = until_answered(other.locks(), &Token::random(), Mode::Fenced).await;
    // By the replica, or by the database: the first instance has lost its Redis.
    assert!(fence_of(told).epoch > first.epoch);
    shop.instances.push(other);
    shop.redis = Some(replica);
    shop.finish().await;
}

#[tokio::test]
async fn instances_that_see_two_primaries_are_granted_nothing_twice() {
    let shop = Shop::of(Grantor::Redis, 1).await;
    let replica = RedisServer::replica_of(shop.redis());
    let first = granted(&ask(&shop.locks(), &Token::random(), Mode::Strict).await);
    replica.promote(); // the old primary knows nothing of it
    let other = shop.instance(Some(url_of(&replica))).await;
    for _ in 0..5 {
        for locks in [other.locks(), &shop.locks()] {
            match ask(locks, &Token::random(), Mode::Strict).await {
                Ok(Attempt::Busy(_)) | Err(LockError::Unavailable(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(shop.rule().1 > first.epoch);
    other.close().await.expect("it closes");
}

#[tokio::test]
async fn without_the_database_no_lock_is_granted_and_none_kept() {
    let mut shop = Shop::of(Grantor::Redis, 1).await;
    let locks = shop.locks();
    let lease = locks.try_acquire(&name("n"), ttl(60_000)).await.expect("it is free");
    shop.postgres_mut().kill();
    SystemClock.sleep(Duration::from_millis(2_100)).await; // what was read of the rule counts no more
    let refused = locks.try_acquire(&name("m"), ttl(1_000)).await;
    assert!(matches!(refused, Err(LockError::Unavailable(_))), "{refused:?}");
    assert!(matches!(lease.renew().await, Err(LockError::Unavailable(_))));
    shop.expect_ends();
}

#[tokio::test]
async fn an_instance_that_was_not_told_of_redis_says_so() {
    let mut shop = Shop::of(Grantor::Redis, 1).await;
    granted(&ask(&shop.locks(), &Token::random(), Mode::Fenced).await);
    let other = shop.instance(None).await;
    let refused = ask(other.locks(), &Token::random(), Mode::Fenced).await;
    let Err(LockError::Unavailable(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.message.contains("--redis"), "{failure}");
    shop.instances.push(other);
    shop.finish().await;
}
