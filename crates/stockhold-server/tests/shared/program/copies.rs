//! Servers that share copies of stock by Redis.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, RedisServer};

use crate::shop::{Shop, stockhold};

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

pub(super) fn open(instances: usize, redis: &RedisServer) -> Shop {
    Shop::open_with(instances, |command| {
        command.args(["--redis", &redis.url()]);
    })
}

/// The state of Redis, as the nth instance says; the instance is ready in any case.
pub(super) async fn state(shop: &Shop, n: usize) -> String {
    let told = shop.keeper(n).get("/readyz").await.expect_status(200);
    assert_eq!(told["dependencies"][1]["name"], "redis", "{told}");
    told["dependencies"][1]["state"].as_str().unwrap().to_owned()
}

pub(super) async fn wait_for(shop: &Shop, n: usize, wanted: &str) {
    let begun = SystemClock.boot();
    while state(shop, n).await != wanted {
        assert!(SystemClock.boot() - begun < SOON, "it is never {wanted}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// What the nth instance counts under a name that it has.
pub(super) async fn number(shop: &Shop, n: usize, name: &str) -> u64 {
    shop.number(n, name).await.unwrap_or_else(|| panic!("there is no {name}"))
}

/// Waits until the first instance counts so.
pub(super) async fn wait_for_number(
    shop: &Shop,
    name: &str,
    limit: Duration,
    is_so: impl Fn(u64) -> bool,
) {
    let begun = SystemClock.boot();
    loop {
        let found = number(shop, 0, name).await;
        if is_so(found) {
            return;
        }
        assert!(SystemClock.boot() - begun < limit, "{name} is still {found} after {limit:?}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// Whether Redis would tell an instance of what others change.
pub(super) const LINK: &str = "stockhold_cache_link_up";

/// Under which name it is counted what Redis did not do for this reason.
pub(super) fn errors(kind: &str) -> String {
    format!("stockhold_redis_errors_total{{kind=\"{kind}\"}}")
}

pub(super) async fn held(shop: &Shop, n: usize) -> (i64, String) {
    let path = "/v1/stock/MUG?consistency=cached";
    let item = shop.keeper(n).get(path).await.expect_status(200);
    (item["held"].as_i64().unwrap(), item["origin"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_does_the_other_shows_soon_with_redis_and_without() {
    let mut redis = RedisServer::start();
    let shop = open(2, &redis);
    shop.stock("MUG", 100).await;
    for n in 0..2 {
        wait_for(&shop, n, "up").await;
    }
    let place_and_see = async |number: i64, limit: Duration| {
        shop.keeper(0).place(&format!("ann-{number}"), &[("MUG", 1)], TTL).await.expect_status(201);
        assert_eq!(held(&shop, 0).await.0, number);
        let begun = SystemClock.boot();
        while held(&shop, 1).await.0 != number {
            assert!(SystemClock.boot() - begun < limit, "it is not seen within {limit:?}");
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
    };
    for number in 1..=5 {
        place_and_see(number, Duration::from_millis(500)).await;
    }
    redis.kill();
    for number in 6..=8 {
        place_and_see(number, Duration::from_secs(2)).await;
    }
    assert_ne!(state(&shop, 1).await, "up");
    redis.restart();
    for n in 0..2 {
        wait_for(&shop, n, "up").await;
    }
    place_and_see(9, Duration::from_millis(500)).await;
    let metrics = shop.keeper(0).text("/metrics").await;
    for line in [
        "stockhold_cache_reads_total{origin=\"source\"} ",
        "stockhold_cache_link_up 1\n",
        "stockhold_redis_breaker_open 0\n",
        "stockhold_redis_errors_total{kind=\"refused\"} ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    shop.expect_sound();
}

/// What the doctor says of Redis: its verdict, what it found, and what to do.
fn doctor(ledger: &str, redis: &str) -> [String; 3] {
    let mut command = stockhold(&["doctor", "--json", "--ledger", ledger]);
    let output = command.env("STOCKHOLD_REDIS", redis).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = told["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "redis").unwrap();
    ["verdict", "found", "next"].map(|part| check[part].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_doctor_looks_at_redis_and_says_what_to_do() {
    let (postgres, mut redis) = (PostgresServer::start(), RedisServer::start());
    let [verdict, found, _] = doctor(&postgres.url(), &redis.url());
    assert!(verdict == "ok" && found.contains("version "), "{verdict} {found}");
    let [verdict, found, next] = doctor("memory:", &redis.url());
    assert!(
        verdict == "warn" && found.contains("of no use") && next.contains("redis.url"),
        "{next}"
    );
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    let [verdict, found, next] = doctor(&postgres.url(), &redis.url());
    assert!(
        verdict == "warn" && found.contains("volatile-lru") && next.contains("noeviction"),
        "{found} {next}"
    );
    redis.stop();
    let [verdict, found, next] = doctor(&postgres.url(), &redis.url());
    assert_eq!(verdict, "warn");
    assert!(
        found.contains("no connection") && next.contains("see whether Redis runs"),
        "{found} {next}"
    );
}

#[test]
fn the_doctor_says_that_it_was_not_let_look_whether_keys_are_evicted() {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::set_up().with_tcp().start());
    redis.cli(&["ACL", "SETUSER", "shop", "on", ">pw", "~*", "&*", "+@all", "-config"]);
    let url = format!("redis://shop:pw@{}", redis.address().unwrap());
    let [verdict, found, next] = doctor(&postgres.url(), &url);
    assert!(verdict == "warn" && found.contains("is not known"), "{verdict} {found}");
    assert!(next.contains("+config|get"), "{next}");
    redis.cli(&["ACL", "LOG", "RESET"]); // it was to be denied
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_without_its_redis_and_finds_it_later() {
    let mut redis = RedisServer::start();
    redis.stop();
    let shop = open(1, &redis);
    shop.stock("MUG", 100).await;
    assert_eq!(state(&shop, 0).await, "down");
    assert_eq!(held(&shop, 0).await, (0, "ledger".to_owned()));
    redis.restart();
    wait_for(&shop, 0, "up").await;
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_acl_file_are_enough_and_no_secret_is_in_a_log() {
    const TOKENS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];
    let redis = RedisServer::set_up().with_tcp().start();
    let url = redis.url_at(redis.address().unwrap());
    let shop = Shop::open_with(2, |command| {
        command.args(["--redis", &url, "--log", "debug"]);
    });
    shop.stock("MUG", 100).await;
    for n in 0..2 {
        wait_for(&shop, n, "up").await;
    }
    shop.keeper(0).place("ann", &[("MUG", 1)], TTL).await.expect_status(201);
    for n in 0..4 {
        held(&shop, n).await;
    }
    for token in TOKENS {
        let lock = |n: usize, verb: &'static str, body: serde_json::Value| {
            let mut keeper = shop.keeper(n);
            async move { keeper.post(&format!("/v1/locks/n{verb}"), &body, None).await }
        };
        let lease = serde_json::json!({"token": token, "ttl_ms": 5_000, "wait_ms": 2_000});
        lock(0, "", lease).await.expect_status(200);
        let renew = serde_json::json!({"token": token, "ttl_ms": 5_000});
        lock(1, "/renew", renew).await.expect_status(200);
        let listed = shop.keeper(1).get("/v1/locks?prefix=n").await.expect_status(200);
        assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
        lock(1, "/release", serde_json::json!({"token": token})).await.expect_status(200);
    }
    assert_eq!(shop.sql("SELECT grantor FROM lock_rule"), "redis");
    for (n, instance) in shop.instances.iter().enumerate() {
        let metrics = shop.keeper(n).text("/metrics").await;
        assert!(metrics.contains("stockhold_redis_errors_total{kind=\"denied\"} 0\n"), "{metrics}");
        let log = instance.log();
        for secret in TOKENS.into_iter().chain([RedisServer::PASSWORD]) {
            assert!(!log.contains(secret), "{secret} is told: {log}");
        }
    }
    assert_eq!(redis.denied(), None);
    shop.expect_sound();
}
