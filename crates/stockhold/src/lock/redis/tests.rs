//! Each return code of each script, and what is behind a connection; against real servers.

use stockhold_testkit::{RedisServer, redis::RedisCluster};

use super::*;
use crate::lock::rule::Grantor;

const TTL: Duration = Duration::from_secs(10);

struct Shop {
    server: RedisServer,
    leases: RedisLeases,
    rule: Rule,
}

fn leases(server: &RedisServer) -> RedisLeases {
    leases_at(&server.url())
}

fn leases_at(url: &str) -> RedisLeases {
    RedisLeases::new(Redis::new(&url.parse().unwrap()).unwrap(), "stockhold*:1".to_owned())
}

async fn rule(leases: &RedisLeases, epoch: u64) -> Rule {
    Rule {
        grantor: Grantor::Redis,
        epoch,
        server: leases.server().await.unwrap(),
        is_open: true,
        age: Duration::ZERO,
        strict_in: Duration::ZERO,
    }
}

impl Shop {
    /// Open in epoch 7.
    async fn open() -> Self {
        let server = RedisServer::start();
        let leases = leases(&server);
        let rule = rule(&leases, 7).await;
        leases.open(&rule).await.unwrap();
        Self { server, leases, rule }
    }

    fn in_epoch(&self, epoch: u64) -> Rule {
        Rule { epoch, ..self.rule.clone() }
    }

    async fn acquire(&self, lock: &str, token: &Token) -> Option<Attempt> {
        self.leases.acquire(&self.rule, &name(lock), token, ttl()).await.unwrap()
    }

    async fn fence(&self, lock: &str, token: &Token) -> Fence {
        match self.acquire(lock, token).await {
            Some(Attempt::Granted { fence, .. }) => fence,
            other => panic!("{other:?}"),
        }
    }

    async fn renew(&self, lock: &str, token: &Token) -> Option<bool> {
        self.leases.renew(&self.rule, &name(lock), token, ttl()).await.unwrap()
    }

    async fn release(&self, lock: &str, token: &Token) -> Released {
        self.leases.release(&name(lock), token).await.unwrap()
    }

    fn key(&self, lock: &str) -> String {
        self.leases.keys(&name(lock))[0].clone()
    }

    /// As if its time had passed.
    fn expire(&self, lock: &str) {
        self.server.cli(&["DEL", &self.key(lock)]);
    }

    /// How long each lease lives on, in milliseconds.
    fn lives(&self) -> Vec<i64> {
        let keys = self.server.cli(&["KEYS", "lock*"]);
        let keys = keys.lines().filter(|key| !key.is_empty());
        keys.map(|key| self.server.cli(&["PTTL", key]).parse().unwrap()).collect()
    }
}

fn name(name: &str) -> LockName {
    LockName::new(name).unwrap()
}

fn ttl() -> LeaseTtl {
    LeaseTtl::new(TTL).unwrap()
}

#[tokio::test]
async fn acquire_says_granted_busy_or_epoch() {
    let shop = Shop::open().await;
    let (ann, ben) = (Token::random(), Token::random());
    let fence = shop.fence("n", &ann).await;
    assert_eq!(fence.epoch, 7);
    assert_eq!(shop.fence("n", &ann).await, fence, "the same attempt");
    let busy = shop.acquire("n", &ben).await;
    assert!(matches!(busy, Some(Attempt::Busy(left)) if left > TTL / 2 && left <= TTL), "{busy:?}");
    let other = shop.in_epoch(8);
    let told = shop.leases.acquire(&other, &name("n"), &ann, ttl()).await.unwrap();
    assert_eq!(told, None, "it knows of no epoch 8");
    shop.server.cli(&["FLUSHALL"]);
    assert_eq!(shop.acquire("n", &ben).await, None, "it knows of no epoch at all");
}

#[tokio::test]
async fn a_lease_that_is_granted_again_does_not_live_longer() {
    let shop = Shop::open().await;
    let ann = Token::random();
    shop.fence("n", &ann).await;
    shop.server.cli(&["PEXPIRE", &shop.key("n"), "5000"]);
    let again = shop.acquire("n", &ann).await;
    assert!(matches!(again, Some(Attempt::Granted { left, .. }) if left <= TTL / 2), "{again:?}");
}

#[tokio::test]
async fn fences_rise_also_when_a_clock_stands_behind() {
    let shop = Shop::open().await;
    let rule = shop.leases.keys(&name("n"))[1].clone();
    shop.server.cli(&["SET", &rule, "7 8000000000000000"]);
    let mut last = 8_000_000_000_000_000;
    for _ in 0..3 {
        let token = Token::random();
        let Fence { epoch, seq } = shop.fence("n", &token).await;
        assert_eq!((epoch, seq), (7, last + 1));
        assert_eq!(shop.release("n", &token).await, Released::Clean);
        last = seq;
    }
}

#[tokio::test]
async fn renew_says_renewed_lost_or_epoch() {
    let shop = Shop::open().await;
    let (ann, ben) = (Token::random(), Token::random());
    shop.fence("n", &ann).await;
    shop.server.cli(&["PEXPIRE", &shop.key("n"), "5000"]);
    assert_eq!(shop.renew("n", &ann).await, Some(true));
    assert!(shop.lives()[0] > 9_000);
    assert_eq!(shop.renew("n", &ben).await, Some(false), "it is not hers");
    shop.expire("n");
    assert_eq!(shop.renew("n", &ann).await, Some(false), "it is over");
    assert!(shop.lives().is_empty(), "and not made again");
    let other = shop.in_epoch(6);
    let told = shop.leases.renew(&other, &name("n"), &ann, ttl()).await.unwrap();
    assert_eq!(told, None);
}

#[tokio::test]
async fn release_says_clean_expired_or_superseded() {
    let shop = Shop::open().await;
    let (ann, ben) = (Token::random(), Token::random());
    shop.fence("n", &ann).await;
    assert_eq!(shop.release("n", &ben).await, Released::Superseded);
    assert_eq!(shop.release("n", &ann).await, Released::Clean);
    assert_eq!(shop.release("n", &ann).await, Released::Expired);
}

#[tokio::test]
async fn open_says_open_or_later() {
    let shop = Shop::open().await;
    let later = shop.leases.open(&shop.rule).await.unwrap_err();
    assert!(later.message.contains("later epoch"), "{later}");
    assert!(shop.leases.open(&shop.in_epoch(6)).await.is_err());
    shop.leases.open(&shop.in_epoch(8)).await.unwrap();
    assert_eq!(shop.acquire("n", &Token::random()).await, None, "7 is over");
}

#[tokio::test]
async fn what_was_granted_in_an_earlier_epoch_is_not_remembered() {
    let mut shop = Shop::open().await;
    let (ann, ben) = (Token::random(), Token::random());
    let old = shop.fence("n", &ann).await;
    shop.rule = shop.in_epoch(8);
    shop.leases.open(&shop.rule).await.unwrap();
    assert_eq!(shop.renew("n", &ann).await, Some(false));
    assert_eq!(shop.leases.inspect(&shop.rule, &name("n")).await.unwrap(), None);
    assert!(shop.fence("n", &ben).await > old);
    assert_eq!(shop.release("n", &ann).await, Released::Superseded);
}

#[tokio::test]
async fn inspect_says_who_has_it_or_nobody() {
    let shop = Shop::open().await;
    assert_eq!(shop.leases.inspect(&shop.rule, &name("n")).await.unwrap(), None);
    let fence = shop.fence("n", &Token::random()).await;
    let held = shop.leases.inspect(&shop.rule, &name("n")).await.unwrap().unwrap();
    assert_eq!((held.fence, held.name.as_str()), (fence, "n"));
    assert!(held.left <= TTL && held.left > TTL / 2);
    let since = SystemClock.wall().since(held.since.unwrap());
    assert!(since < Duration::from_secs(5), "{since:?}");
}

#[tokio::test]
async fn locks_are_listed_by_name_whatever_stands_in_it() {
    let shop = Shop::open().await;
    for lock in ["a/1", "a/2", "a*3", "b", "a[x]", "größe 42"] {
        shop.fence(lock, &Token::random()).await;
    }
    let listed = async |prefix, after: Option<&str>, limit| {
        let after = after.map(name);
        let held = shop.leases.list(&shop.rule, prefix, after.as_ref(), limit).await.unwrap();
        held.into_iter().map(|held| held.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed("", None, 10).await, ["a*3", "a/1", "a/2", "a[x]", "b", "größe 42"]);
    assert_eq!(listed("a*", None, 10).await, ["a*3"]);
    assert_eq!(listed("a[", None, 10).await, ["a[x]"]);
    assert_eq!(listed("", Some("a/1"), 2).await, ["a/2", "a[x]"]);
}

#[tokio::test]
async fn every_lease_has_an_end() {
    let shop = Shop::open().await;
    for lock in 0..50 {
        let token = Token::random();
        shop.fence(&format!("n{lock}"), &token).await;
        assert_eq!(shop.renew(&format!("n{lock}"), &token).await, Some(true));
    }
    let lives = shop.lives();
    assert!(lives.len() == 50 && lives.iter().all(|left| *left > 0), "{lives:?}");
}

#[tokio::test]
async fn a_redis_that_was_started_anew_is_another_one() {
    let mut shop = Shop::open().await;
    let token = Token::random();
    shop.fence("n", &token).await;
    // With its data on disk, it would know the epoch, and perhaps not the last leases.
    shop.server.cli(&["SAVE"]);
    shop.server.stop();
    shop.server.restart();
    let known = shop.server.cli(&["GET", &shop.leases.keys(&name("n"))[1]]);
    assert!(known.starts_with("7 "), "{known}");
    let refused = loop {
        match shop.leases.acquire(&shop.rule, &name("n"), &token, ttl()).await {
            Ok(told) => break told,
            Err(_) => SystemClock.sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(refused, None);
}

#[tokio::test]
async fn a_redis_that_evicts_keys_grants_no_locks() {
    for policy in ["allkeys-lru", "volatile-ttl", "allkeys-random", "volatile-lfu"] {
        let server = RedisServer::set_up().with("maxmemory-policy", policy).start();
        let refused = leases(&server).server().await.unwrap_err();
        assert!(refused.message.contains(policy), "{refused}");
        assert!(refused.message.contains("set it to noeviction"), "{refused}");
    }
}

#[tokio::test]
async fn where_nobody_may_ask_for_the_policy_locks_are_granted_all_the_same() {
    let server = RedisServer::set_up().with_tcp().start();
    server.cli(&["ACL", "SETUSER", "shop", "on", ">pw", "~*", "&*", "+@all", "-config"]);
    let address = server.address().unwrap();
    let leases = leases_at(&format!("redis://shop:pw@{address}"));
    let rule = rule(&leases, 3).await;
    leases.open(&rule).await.unwrap();
    let granted = leases.acquire(&rule, &name("n"), &Token::random(), ttl()).await.unwrap();
    assert!(matches!(granted, Some(Attempt::Granted { .. })));
    assert!(server.denied().is_some_and(|log| log.contains("config")));
    server.cli(&["ACL", "LOG", "RESET"]);
}

#[tokio::test]
async fn a_redis_without_memory_grants_nothing_and_forgets_nothing() {
    let shop = Shop::open().await;
    let (ann, ben) = (Token::random(), Token::random());
    let before = shop.fence("n", &ann).await;
    shop.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = shop.leases.acquire(&shop.rule, &name("m"), &ben, ttl()).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Unavailable);
    shop.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(shop.fence("n", &ann).await, before);
    shop.fence("m", &ben).await;
}

#[tokio::test]
async fn a_redis_that_stands_still_is_unavailable_within_a_quarter_of_a_second() {
    let mut shop = Shop::open().await;
    shop.fence("n", &Token::random()).await;
    shop.server.pause();
    let begun = SystemClock.boot();
    let refused = shop.leases.acquire(&shop.rule, &name("m"), &Token::random(), ttl()).await;
    let took = SystemClock.boot().saturating_sub(begun);
    assert!(refused.is_err() && took < Duration::from_millis(250), "{took:?}");
    shop.server.resume();
}

#[tokio::test]
async fn a_cluster_grants_locks_on_all_its_members_until_one_has_lost_what_it_had() {
    let cluster = RedisCluster::start(3);
    let leases = leases_at(&cluster.url());
    let rule = rule(&leases, 7).await;
    leases.open(&rule).await.unwrap();
    let names: Vec<_> = (0..50).map(|n| name(&format!("n{n}"))).collect();
    let (ann, ben) = (Token::random(), Token::random());
    for name in &names {
        let first = leases.acquire(&rule, name, &ann, ttl()).await.unwrap();
        assert!(matches!(first, Some(Attempt::Granted { .. })), "{first:?}");
        let second = leases.acquire(&rule, name, &ben, ttl()).await.unwrap();
        assert!(matches!(second, Some(Attempt::Busy(_))), "{second:?}");
    }
    assert_eq!(leases.list(&rule, "n", None, 100).await.unwrap().len(), names.len());
    let members = cluster.members().iter();
    let had: Vec<_> =
        members.map(|member| member.cli(&["KEYS", "lock*"]).lines().count()).collect();
    assert!(had.iter().all(|locks| *locks > 0), "{had:?}");
    cluster.members()[1].cli(&["FLUSHALL"]);
    let (mut forgotten, mut busy) = (0, 0);
    for name in &names {
        match leases.acquire(&rule, name, &ben, ttl()).await.unwrap() {
            None => forgotten += 1,
            Some(Attempt::Busy(_)) => busy += 1,
            Some(granted) => panic!("{name} is granted twice: {granted:?}"),
        }
    }
    assert_eq!((forgotten, busy), (had[1], had[0] + had[2]));
}

#[tokio::test]
async fn a_replica_grants_nothing_also_when_it_is_promoted_a_moment_later() {
    let primary = RedisServer::set_up().with_tcp().start();
    let replica = RedisServer::replica_of(&primary);
    let (first, second) = (leases(&primary), leases(&replica));
    let rule = rule(&first, 7).await;
    first.open(&rule).await.unwrap();
    primary.cli(&["WAIT", "1", "1000"]);
    let refused = second.server().await.unwrap_err();
    assert!(format!("{}", chain(&refused)).contains("replica"), "{refused:?}");
    assert!(second.is_gone().await);
    // It knows the epoch, and not what the primary grants from now on.
    replica.promote();
    let told = second.acquire(&rule, &name("n"), &Token::random(), ttl()).await;
    assert!(matches!(told, Ok(None) | Err(_)), "{told:?}");
}

#[tokio::test]
async fn a_redis_without_the_command_config_grants_locks_and_is_not_hung_up_on() {
    let server = RedisServer::set_up().with("rename-command", "CONFIG \"\"").start();
    let leases = leases(&server);
    let rule = rule(&leases, 3).await;
    leases.open(&rule).await.unwrap();
    let line = leases.redis.line(ANSWER).await.unwrap();
    for lock in ["n", "m"] {
        leases.check().await.unwrap();
        let granted = leases.acquire(&rule, &name(lock), &Token::random(), ttl()).await.unwrap();
        assert!(matches!(granted, Some(Attempt::Granted { .. })), "{granted:?}");
    }
    assert_eq!(leases.redis.line(ANSWER).await.unwrap(), line);
}

#[tokio::test]
async fn a_cluster_of_which_one_member_evicts_grants_no_locks() {
    let cluster = RedisCluster::start(3);
    cluster.members()[2].cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    for _ in 0..5 {
        let refused = leases_at(&cluster.url()).server().await.unwrap_err();
        assert!(refused.message.contains("allkeys-lru"), "{refused}");
    }
}

#[tokio::test]
async fn probe_says_well_and_leaves_nothing() {
    let shop = Shop::open().await;
    let said = shop.leases.redis.run(ANSWER, &shop.leases.probes()[0]).await.unwrap();
    assert_eq!(text(said).as_deref(), Some("well"));
    let begun = SystemClock.boot();
    while !shop.server.cli(&["KEYS", "*probe"]).is_empty() {
        assert!(SystemClock.boot() - begun < TTL);
    }
}

#[tokio::test]
async fn a_redis_that_answers_and_writes_nothing_is_as_good_as_gone() {
    let shop = Shop::open().await;
    assert!(!shop.leases.is_gone().await);
    for (setting, broken, whole) in [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")] {
        shop.server.cli(&["CONFIG", "SET", setting, broken]);
        shop.leases.server().await.unwrap_err();
        assert!(shop.leases.is_gone().await, "{setting}");
        shop.server.cli(&["CONFIG", "SET", setting, whole]);
        shop.leases.server().await.unwrap();
        assert!(!shop.leases.is_gone().await);
    }
}
