//! Several processes over Redis.

use stockhold_testkit::redis::RedisCluster;

use super::*;

#[tokio::test]
async fn processes_load_a_key_once_in_all() {
    let (server, source) = (RedisServer::start(), Source::holding(&[("MUG", 5)]));
    let mut caches = Vec::new();
    for _ in 0..8 {
        caches.push(linked(&source, &server).await);
    }
    let asking: Vec<_> = (0..1_000).map(|n| reading(&caches[n % 8], "MUG")).collect();
    source.has_begun(1).await;
    SystemClock.sleep(Duration::from_millis(30)).await;
    source.let_end(1);
    for asked in asking {
        assert_eq!(asked.await.unwrap().0, Some(5));
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_process_whose_loader_is_gone_is_not_waited_for_longer_than_its_lease() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let policy = Policy { lease: Duration::from_millis(300), ..Policy::default() };
    let cache = linked_soon(&source, redis_at(&server.url()), policy);
    is_linked(&cache).await;
    let redis = redis_at(&server.url());
    let gone = Depot::new(redis, "stockhold-test", SOON, Duration::from_millis(300));
    gone.get_or_lease(b"MUG", &random_token()).await.unwrap();
    let begun = SystemClock.boot();
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Source));
    let waited = SystemClock.boot() - begun;
    assert!(
        waited > Duration::from_millis(200) && waited < Duration::from_millis(600),
        "{waited:?}"
    );
}

#[tokio::test]
async fn what_one_process_invalidates_no_other_serves() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    reads_soon(&ann, "MUG", 5).await;
    reads_soon(&ben, "MUG", 5).await;
    source.set("MUG", 6);
    assert_eq!(ann.invalidate(&"MUG", 6).await, Invalidated::Applied);
    assert_eq!(value(&ann, "MUG").await.0, Some(6));
    // It is told: by itself it would look again after a minute.
    reads_soon(&ben, "MUG", 6).await;
}

#[tokio::test]
async fn what_one_process_publishes_others_read_from_redis() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5), ("HAT", 1)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    value(&ann, "MUG").await;
    source.set("MUG", 6);
    let loads = source.loads();
    ann.publish(&"MUG", Loaded::new(6, 6, SystemClock.wall()), SystemClock.boot()).await;
    reads_soon(&ben, "MUG", 6).await;
    assert_eq!((source.loads(), ben.reads()[1]), (loads, ("l2", 1)));
    // It has not asked the source yet, so it cannot tell how old that is, but for a bound.
    let read = ben.get(&"MUG").await.unwrap();
    assert!(read.age >= Duration::from_secs(3) && read.age < Duration::from_secs(5), "{read:?}");
    value(&ben, "HAT").await;
    let read = ann.get(&"MUG").await.unwrap();
    assert!(read.age < Duration::from_secs(2), "{read:?}");
}

#[tokio::test]
async fn without_redis_reads_go_on_and_afterwards_with_it() {
    let mut server = RedisServer::start();
    let source = Source::with(&[("MUG", 5)]);
    server.kill();
    let cache = linked_soon(&source, redis_at(&server.url()), Policy::default());
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Source));
    assert!(!cache.health().is_linked);
    server.restart();
    is_linked(&cache).await;
    reads_soon(&cache, "MUG", 5).await;
    let begun = SystemClock.boot();
    while server.cli(&["KEYS", "{stockhold-test/*=MUG"]).is_empty() {
        reads_soon(&cache, "MUG", 5).await;
        assert!(SystemClock.boot() - begun < SOON);
    }
}

#[tokio::test]
async fn an_invalidation_that_redis_missed_is_made_up_for() {
    let (mut server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let cache = linked(&source, &server).await;
    value(&cache, "MUG").await;
    assert!(!server.cli(&["KEYS", "{stockhold-test/*=MUG"]).is_empty());
    server.pause();
    source.set("MUG", 6);
    assert_eq!(cache.invalidate(&"MUG", 6).await, Invalidated::Queued);
    // Redis still has the old one.
    assert_eq!(value(&cache, "MUG").await.0, Some(6));
    server.resume();
    until_told(&cache).await;
    reads_soon(&cache, "MUG", 6).await;
    let other = linked(&source, &server).await;
    assert_eq!(value(&other, "MUG").await.0, Some(6));
}

#[tokio::test]
async fn processes_share_a_cluster_as_they_share_a_server() {
    let cluster = RedisCluster::start(3);
    let keys = ["MUG", "HAT", "CAP", "TEE", "BAG", "PEN", "TOY", "MAP"];
    let source = Source::with(&keys.map(|key| (key, 5)));
    let redises = [0, 1].map(|_| redis_at(&cluster.url()));
    let caches = redises.clone().map(|redis| linked_soon(&source, redis, looks_seldom()));
    for (redis, cache) in redises.iter().zip(&caches) {
        redis.ping().await.unwrap();
        is_linked(cache).await;
    }
    let [ann, ben] = caches;
    for key in keys {
        reads_soon(&ann, key, 5).await;
        reads_soon(&ben, key, 5).await;
    }
    // Whoever is not answered in time asks the source.
    let unanswered = redises.iter().flat_map(Redis::troubles).map(|(_, count)| count).sum::<u64>();
    let most = keys.len() + usize::try_from(unanswered).unwrap();
    assert!((keys.len()..=most).contains(&source.loads()), "{} of {most}", source.loads());
    for key in keys {
        source.set(key, 6);
        ann.invalidate(&key, 6).await;
        until_told(&ann).await;
        reads_soon(&ben, key, 6).await;
    }
    let used = cluster.members().iter().filter(|member| member.cli(&["DBSIZE"]) != "0");
    assert!(used.count() > 1, "all keys lie on one member");
}

#[tokio::test]
async fn what_was_missed_while_nobody_told_is_looked_up_again() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 5)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    reads_soon(&ben, "MUG", 5).await;
    for number in 6..10 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        source.set("MUG", number);
        ann.invalidate(&"MUG", number).await;
        until_told(&ann).await;
        is_linked(&ben).await;
        assert_eq!(value(&ben, "MUG").await.0, Some(number));
    }
}

#[tokio::test]
async fn a_redis_that_forgets_everything_makes_nobody_serve_what_is_old() {
    let (server, source) = (RedisServer::start(), Source::with(&[("MUG", 0)]));
    let (ann, ben) = (linked(&source, &server).await, linked(&source, &server).await);
    for number in 1..20 {
        reads_soon(&ben, "MUG", number - 1).await;
        server.cli(&["FLUSHALL"]);
        source.set("MUG", number);
        ann.invalidate(&"MUG", number).await;
        until_told(&ann).await;
        assert_eq!(value(&ann, "MUG").await.0, Some(number));
    }
}
