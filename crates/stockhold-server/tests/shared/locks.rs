//! Locks that several servers grant, and a log in the database of who was inside.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::RedisServer;
use tokio_postgres::{Client, NoTls, types::Type};

use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

/// Servers that share a Redis, and a table that a lock guards.
struct Guarded {
    shop: Shop,
    redis: RedisServer,
    client: Arc<Client>,
}

impl Guarded {
    async fn open(instances: usize) -> Self {
        let redis = RedisServer::start();
        let shop = Shop::open_with(instances, |command| {
            command.args(["--redis", &redis.url()]);
        });
        shop.sql(
            "CREATE TABLE log (n bigserial, epoch bigint, seq bigint, begins boolean, \
             at timestamptz DEFAULT clock_timestamp())",
        );
        shop.wait_for_grantor("redis", SOON).await;
        let config: tokio_postgres::Config = shop.postgres.url().parse().unwrap();
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        Self { shop, redis, client: Arc::new(client) }
    }

    /// Takes the lock and gives it back until time is up: how often it had it.
    fn work(&self, n: usize, time: Duration) -> impl Future<Output = u64> + Send + use<> {
        let shopper = self.shop.keeper(n);
        let client = Arc::clone(&self.client);
        let until = SystemClock.boot() + time;
        async move {
            let (mut shopper, mut had, mut attempt) = (shopper, 0, 0);
            while SystemClock.boot() < until {
                attempt += 1;
                let token = format!("task-{n:04}-attempt-{attempt:08}");
                let Some((fence, ends)) = acquire(&mut shopper, &token).await else { continue };
                // A server that stands still may say so when the lease is over.
                if SystemClock.boot() + SECTION < ends {
                    log(&client, fence, true).await;
                    SystemClock.sleep(Duration::from_millis(1)).await;
                    log(&client, fence, false).await;
                    had += 1;
                }
                release(&mut shopper, &token).await;
            }
            had
        }
    }

    /// Nobody was inside with somebody else, and fences rose: how often somebody was.
    fn expect_order(&self) -> i64 {
        let count = |query: &str| self.shop.count(query);
        let sections = "SELECT epoch, seq, min(at) AS begin, max(at) AS end, \
            lead(min(at)) OVER by_begin AS next_begin, lead(epoch) OVER by_begin AS next_epoch, \
            lead(seq) OVER by_begin AS next_seq \
            FROM log GROUP BY epoch, seq WINDOW by_begin AS (ORDER BY min(at))";
        let of = |which: &str| format!("SELECT count(*) FROM ({sections}) AS s WHERE {which}");
        assert_eq!(count(&of("next_begin < \"end\"")), 0, "two were inside");
        assert_eq!(count(&of("(next_epoch, next_seq) <= (epoch, seq)")), 0, "a fence did not rise");
        let twice = "SELECT count(*) FROM (SELECT FROM log WHERE begins GROUP BY epoch, seq \
                     HAVING count(*) > 1) AS twice";
        assert_eq!(count(twice), 0, "a fence was given twice");
        count("SELECT count(*) FROM log WHERE begins")
    }

    /// Who grants, and in which epoch.
    fn rule(&self) -> String {
        self.shop.sql("SELECT grantor || ' ' || epoch FROM lock_rule")
    }

    /// All leases were granted by Redis, by the rule that was in force when they began to be.
    fn expect_granted_by_redis(&self, rule: &str) {
        assert!(rule.starts_with("redis "), "{rule}");
        assert_eq!(self.rule(), rule);
        let others = "SELECT count(*) FROM log WHERE epoch <> (SELECT epoch FROM lock_rule)";
        assert_eq!(self.shop.count(others), 0, "some were granted in another epoch");
        let rows = "SELECT count(*) FROM lease WHERE name = 'n'";
        assert_eq!(self.shop.count(rows), 0, "Postgres has granted one");
    }

    /// No lease is there without an end.
    fn expect_ends(&self) {
        let keys = self.redis.cli(&["KEYS", "lock*"]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            let left: i64 = self.redis.cli(&["PTTL", key]).parse().unwrap();
            assert!(left != -1, "{key}");
        }
    }
}

async fn log(client: &Client, (epoch, seq): (i64, i64), begins: bool) {
    let write = "INSERT INTO log (epoch, seq, begins) VALUES ($1, $2, $3)";
    let params = [(&epoch as _, Type::INT8), (&seq as _, Type::INT8), (&begins as _, Type::BOOL)];
    client.execute_typed(write, &params).await.unwrap();
}

const SOON: Duration = Duration::from_secs(20);
/// As long as nobody is inside.
const SECTION: Duration = Duration::from_millis(500);

/// The fence, and when the lease ends; none if it was not one's turn, or nobody says.
async fn acquire(shopper: &mut Shopper, token: &str) -> Option<((i64, i64), Duration)> {
    let asked = SystemClock.boot();
    let body = json!({"token": token, "ttl_ms": 2_000, "wait_ms": 5_000});
    let told = shopper.post("/v1/locks/n", &body, None).await;
    let Told::Answer(answer) = told else { return None };
    match answer.status {
        200 => {
            let part = |name: &str| answer.body["fence"][name].as_i64().unwrap();
            let millis = |name: &str| answer.body[name].as_u64().unwrap();
            let lives = Duration::from_millis(millis("waited_ms") + millis("expires_in_ms"));
            // Clocks drift apart by as much.
            Some(((part("epoch"), part("seq")), asked + lives - Duration::from_millis(22)))
        }
        409 | 503 => None,
        other => panic!("{other}: {}", answer.body),
    }
}

async fn release(shopper: &mut Shopper, token: &str) {
    let told = shopper.post("/v1/locks/n/release", &json!({"token": token}), None).await;
    if let Told::Answer(answer) = told {
        assert!([200, 409, 503].contains(&answer.status), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_sixty_four_who_want_one_lock_of_four_servers_take_turns_for_a_minute() {
    let guarded = Guarded::open(4).await;
    let (rule, time) = (guarded.rule(), Duration::from_secs(60));
    let working: Vec<_> = (0..64).map(|n| tokio::spawn(guarded.work(n, time))).collect();
    let mut had = 0;
    for worked in working {
        had += worked.await.unwrap();
    }
    assert_eq!(guarded.expect_order(), i64::try_from(had).unwrap());
    assert!(had > 1_000, "{had}");
    guarded.expect_granted_by_redis(&rule);
    guarded.expect_ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_servers_that_die_or_stand_still_let_nobody_in_twice() {
    let mut guarded = Guarded::open(4).await;
    let time = Duration::from_secs(12);
    let working: Vec<_> = (0..32).map(|n| tokio::spawn(guarded.work(n, time))).collect();
    SystemClock.sleep(Duration::from_secs(2)).await;
    guarded.shop.instances[1].kill();
    guarded.shop.instances[2].pause();
    SystemClock.sleep(Duration::from_secs(4)).await; // for longer than a lease lives
    guarded.shop.instances[2].resume();
    for worked in working {
        // Those whose server is dead are told nothing.
        worked.await.unwrap();
    }
    assert!(guarded.expect_order() > 100);
    guarded.expect_ends();
    let locks: Value = guarded.shop.keeper(0).get("/v1/locks?prefix=n").await.expect_status(200);
    assert!(locks["items"].as_array().unwrap().len() <= 1, "{locks}");
}

const ANN: &str = "ann-0123456789abcdef";
const BEN: &str = "ben-0123456789abcdef";
/// Longer than it takes Postgres to end and to begin again.
const LIFE: Duration = Duration::from_secs(5);

/// A server over Postgres alone. It takes a lock for itself when it begins, and no other for an hour.
async fn open_alone() -> Shop {
    let (shop, end) = (Shop::open(1), SystemClock.boot() + SOON);
    loop {
        let found = outcomes(&shop).await;
        if found == [1, 0, 0] {
            return shop;
        }
        assert!(SystemClock.boot() < end, "it has not taken its own, but {found:?}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// How often asking for a lock came to it that it was granted, busy, or that nobody could say.
async fn outcomes(shop: &Shop) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, outcome) in counts.iter_mut().zip(["granted", "busy", "unavailable"]) {
        let name = format!("stockhold_lock_acquire_seconds_count{{outcome=\"{outcome}\"}}");
        *count = shop.number(0, &name).await.unwrap_or(0);
    }
    counts
}

/// Asks for the lock, or for what is to be done with it, without waiting.
async fn ask(shop: &Shop, verb: &str, token: &str) -> Told {
    let body = match verb {
        "/release" => json!({"token": token}),
        _ => json!({"token": token, "ttl_ms": LIFE.as_secs() * 1_000}),
    };
    shop.keeper(0).post(&format!("/v1/locks/n{verb}"), &body, None).await
}

#[track_caller]
fn expect_unavailable(told: &Told) {
    assert_eq!((told.status(), told.code()), (503, Some("unavailable")), "{told:?}");
    assert!(told.answer().is_some_and(|answer| answer.retry_after.is_some()), "{told:?}");
}

/// An alarm of `docs/operations.md` looks at the last of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_each_wish_for_a_lock_is_counted() {
    let mut shop = open_alone().await;
    for (token, status, counts) in
        [(ANN, 200, [2, 0, 0]), (BEN, 409, [2, 1, 0]), (ANN, 200, [3, 1, 0])]
    {
        ask(&shop, "", token).await.expect_status(status);
        assert_eq!(outcomes(&shop).await, counts, "{token}");
    }
    shop.postgres.stop();
    for times in 1..=3 {
        expect_unavailable(&ask(&shop, "", BEN).await);
        assert_eq!(outcomes(&shop).await, [3, 1, times]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_an_outage_of_postgres_in_which_nobody_can_say_who_has_it() {
    let mut shop = open_alone().await;
    let asked = SystemClock.boot();
    let first = ask(&shop, "", ANN).await.expect_status(200);
    shop.postgres.stop();
    for (verb, token) in [("", BEN), ("/renew", ANN), ("/release", ANN)] {
        expect_unavailable(&ask(&shop, verb, token).await);
    }
    for path in ["/v1/locks/n", "/v1/locks?prefix=n"] {
        expect_unavailable(&shop.keeper(0).get(path).await);
    }
    shop.postgres.restart();
    let (mut was_busy, end) = (false, SystemClock.boot() + SOON);
    let second = loop {
        let told = ask(&shop, "", BEN).await;
        match told.expect_any(&[200, 409, 503]) {
            lease if told.status() == 200 => break lease,
            _ => was_busy |= told.code() == Some("lock_busy"),
        }
        assert!(SystemClock.boot() < end, "{told:?}");
        SystemClock.sleep(Duration::from_millis(20)).await;
    };
    let after = SystemClock.boot() - asked;
    assert!(was_busy && after >= LIFE, "it was granted after {after:?}: {second}");
    let fence = |lease: &Value| ["epoch", "seq"].map(|part| lease["fence"][part].as_u64().unwrap());
    assert!(fence(&second) > fence(&first), "{first} {second}");
}
