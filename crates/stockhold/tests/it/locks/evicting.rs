//! A Redis that evicts keys when it is full, and locks with them.

use super::*;

fn set_policy(shop: &Shop, policy: &str) {
    assert_eq!(shop.redis().cli(&["CONFIG", "SET", "maxmemory-policy", policy]), "OK");
}

/// Asks until it is granted in a later epoch than this one. In this one it is granted for a second more, if at all.
async fn granted_after(epoch: u64, locks: &Locks, token: &Token) -> Fence {
    let begun = SystemClock.boot();
    loop {
        match ask(locks, token, Mode::Fenced).await {
            Ok(Attempt::Granted { fence, .. }) if fence.epoch > epoch => return fence,
            Ok(Attempt::Granted { fence, .. }) => {
                assert!(since(begun) < 1_500 * MILLISECOND, "{fence} after {:?}", since(begun));
            }
            Err(LockError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
        assert!(since(begun) < PATIENCE, "nobody else grants");
        SystemClock.sleep(20 * MILLISECOND).await;
    }
}

#[tokio::test]
async fn a_redis_that_evicts_keys_is_not_asked_for_locks() {
    let mut shop = Shop::of(Grantor::Postgres, 0).await;
    let redis = RedisServer::set_up().with_tcp().with("maxmemory-policy", "allkeys-lru").start();
    let engine = shop.instance(Some(url_of(&redis))).await;
    let token = Token::random();
    granted(&ask(engine.locks(), &token, Mode::Strict).await);
    assert_eq!(shop.rule().0, "database");
    shop.instances.push(engine);
    shop.finish().await;
}

#[tokio::test]
async fn slow_a_redis_grants_no_locks_from_when_it_begins_to_evict_until_it_ends() {
    let shop = Shop::open(Grantor::Redis).await;
    let (locks, token) = (shop.locks(), Token::random());
    let first = granted(&ask(&locks, &token, Mode::Fenced).await);
    assert_eq!(shop.rule(), ("redis".to_owned(), first.epoch));

    set_policy(&shop, "allkeys-lru");
    let by_database = granted_after(first.epoch, &locks, &token).await;
    assert_eq!(shop.rule(), ("database".to_owned(), by_database.epoch));

    set_policy(&shop, "noeviction");
    shop.until_granted_by("redis").await;
    let last = granted_after(by_database.epoch, &locks, &token).await;
    assert_eq!(shop.rule(), ("redis".to_owned(), last.epoch));
    shop.finish().await;
}

/// Whoever is granted nothing gives back what it may have been granted, and that Redis answers.
#[tokio::test]
async fn a_redis_that_takes_back_but_does_not_grant_is_not_well() {
    let shop = Shop::open(Grantor::Redis).await;
    let (locks, token) = (shop.locks(), Token::random());
    let first = granted(&ask(&locks, &token, Mode::Fenced).await);
    set_policy(&shop, "allkeys-lru");
    let asking = tokio::spawn({
        let locks = locks.fenced();
        async move {
            for _ in 0..400 {
                drop(locks.try_acquire(&name("m"), ttl(1_000)).await);
                SystemClock.sleep(50 * MILLISECOND).await;
            }
        }
    });
    let by_database = granted_after(first.epoch, &locks, &token).await;
    assert!(!asking.is_finished(), "somebody asks on");
    asking.abort();
    assert_eq!(shop.rule(), ("database".to_owned(), by_database.epoch));
    shop.finish().await;
}

/// Who has a lock already may still be looked at, and that Redis answers.
#[tokio::test]
async fn a_redis_that_says_who_waits_but_does_not_grant_is_not_well() {
    let shop = Shop::open(Grantor::Redis).await;
    let locks = shop.locks().fenced();
    let lease = locks.try_acquire(&name("n"), ttl(60_000)).await.expect("it is free");
    let waiting = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire(&name("n"), ttl(1_000), 60 * SECOND).await.map(drop) }
    });
    assert_eq!(shop.redis().cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    let other = had(&locks, &name("m")).await;
    assert_eq!(shop.rule(), ("database".to_owned(), other.fence().epoch));
    assert!(other.fence() > lease.fence());
    waiting.abort();
    shop.redis().cli(&["CONFIG", "SET", "maxmemory", "0"]);
    shop.finish().await;
}
