//! Servers that share copies of stock by Redis.

use std::{thread::JoinHandle, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, RedisServer, until};
use tokio::task::JoinSet;

use crate::shop::{Shop, stockhold};

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

fn open(instances: usize, redis: &RedisServer) -> Shop {
    Shop::open_with(instances, |command| {
        command.args(["--redis", &redis.url()]);
    })
}

/// The state of Redis, as the nth instance says; the instance is ready in any case.
async fn state(shop: &Shop, n: usize) -> String {
    let told = shop.keeper(n).get("/readyz").await.expect_status(200);
    assert_eq!(told["dependencies"][1]["name"], "redis", "{told}");
    told["dependencies"][1]["state"].as_str().unwrap().to_owned()
}

async fn wait_for(shop: &Shop, n: usize, wanted: &str) {
    let begun = SystemClock.boot();
    while state(shop, n).await != wanted {
        assert!(SystemClock.boot() - begun < SOON, "it is never {wanted}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

async fn held(shop: &Shop, n: usize) -> (i64, String) {
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

/// So many servers, over a Postgres that logs what it is asked.
async fn watched(instances: usize, redis: &RedisServer) -> Shop {
    let postgres = PostgresServer::set_up().with("log_statement", "all").start();
    let mut shop = Shop::open_on(postgres, 0);
    for _ in 0..instances {
        shop.join(|command| {
            command.args(["--redis", &redis.url()]);
        });
    }
    shop.stock("MUG", 100).await;
    for n in 0..instances {
        wait_for(&shop, n, "up").await;
    }
    shop
}

/// How often Postgres was asked for stock items to make copies of.
fn loads(shop: &Shop) -> usize {
    let log = shop.postgres.log();
    let is_load = |line: &&str| line.contains("AS wanted (sku") && line.contains("on_hand");
    log.lines().filter(is_load).count()
}

/// Nobody reads stock items until they are let.
fn hinder_reads(shop: &Shop) -> JoinHandle<()> {
    let until_let = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'let_go') \
        LOOP PERFORM pg_sleep(0.01); END LOOP; END $$";
    let hinder = format!("BEGIN; LOCK TABLE stock; {until_let}; COMMIT");
    let hindering = shop.postgres.psql_beside(hinder);
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
        AND relation = 'stock'::regclass";
    sees(shop, "the table to be locked", locked);
    hindering
}

fn let_read(shop: &Shop, hindering: JoinHandle<()>) {
    shop.sql("CREATE TABLE let_go ()");
    hindering.join().unwrap();
}

/// Waits until a query counts something.
fn sees(shop: &Shop, what: &str, query: &str) {
    until(SOON, what, || match shop.count(query) {
        0 => Err("there is none"),
        _ => Ok(()),
    });
}

/// A load that waits for the table.
const LOADING: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE wait_event_type = 'Lock' AND query LIKE '%AS wanted (sku%'";

/// How often a server was not answered by its Redis in time.
async fn unanswered(shop: &Shop, n: usize) -> usize {
    let metrics = shop.keeper(n).text("/metrics").await;
    let of = |kind: &str| {
        let name = format!("stockhold_redis_errors_total{{kind=\"{kind}\"}} ");
        let mut counts = metrics.lines().filter_map(|line| line.strip_prefix(&name));
        counts.next().map_or(0, |count| count.parse().unwrap())
    };
    of("timeout") + of("open")
}

/// Whoever is not answered by Redis in time asks the ledger: then there may be a load more.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_ask_eight_servers_for_a_cold_item_are_one_load() {
    let redis = RedisServer::start();
    let shop = watched(8, &redis).await;
    let mut clients: Vec<_> = (0..1_000).map(|n| shop.keeper(n)).collect();
    for client in &mut clients {
        client.get("/livez").await.expect_status(200);
    }
    let before = loads(&shop);
    let hindering = hinder_reads(&shop);
    let asking: JoinSet<_> = clients
        .into_iter()
        .map(async |mut client| {
            client.get("/v1/stock/MUG?consistency=cached").await.expect_status(200)
        })
        .collect();
    sees(&shop, "a load", LOADING);
    let_read(&shop, hindering);
    for item in asking.join_all().await {
        assert_eq!(item["on_hand"], 100);
    }
    let mut most = 1;
    for n in 0..8 {
        most += unanswered(&shop, n).await;
    }
    assert!((1..=most).contains(&(loads(&shop) - before)), "{} of {most}", loads(&shop) - before);
    shop.expect_sound();
}

/// Were the lease not over by itself, nobody would be answered within 2 s.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_was_to_load_that_was_killed_another_loads_within_the_lease() {
    let redis = RedisServer::start();
    let mut shop = watched(2, &redis).await;
    let before = loads(&shop);
    let hindering = hinder_reads(&shop);
    let mut client = shop.keeper(0);
    let asked = tokio::spawn(async move { client.get("/v1/stock/MUG?consistency=cached").await });
    sees(&shop, "a load", LOADING);
    assert!(!redis.cli(&["KEYS", "lease{stockhold*"]).is_empty());
    shop.instances[0].kill();
    let_read(&shop, hindering);
    let (held, origin) = held(&shop, 1).await;
    assert_eq!((held, origin.as_str(), loads(&shop) - before), (0, "ledger", 2));
    assert!(asked.await.unwrap().is_unknown());
    shop.instances.remove(0);
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
    redis.stop();
    let [verdict, found, next] = doctor(&postgres.url(), &redis.url());
    assert_eq!(verdict, "warn");
    assert!(
        found.contains("no connection") && next.contains("see whether Redis runs"),
        "{found} {next}"
    );
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
async fn the_rights_of_the_acl_file_are_enough_and_the_password_is_in_no_log() {
    const PASSWORD: &str = RedisServer::PASSWORD;
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
    for token in ["0123456789abcdef", "fedcba9876543210"] {
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
        assert!(!instance.log().contains(PASSWORD), "{}", instance.log());
    }
    assert_eq!(redis.denied(), None);
    shop.expect_sound();
}
