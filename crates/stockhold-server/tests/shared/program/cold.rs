//! Items of which no server has a copy: of all who want one, one server loads it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, RedisServer, until};
use tokio::task::JoinSet;

use super::copies::{LINK, errors, held, number, wait_for};
use crate::{shop::Shop, shopper::Shopper};

const SOON: Duration = Duration::from_secs(10);

/// So many servers that find Redis there, over a Postgres that logs what it is asked.
async fn watched(instances: usize, redis: &str) -> Shop {
    let postgres = PostgresServer::set_up().with("log_statement", "all").start();
    let mut shop = Shop::open_on(postgres, 0);
    for _ in 0..instances {
        shop.join(|command| {
            command.args(["--redis", redis]);
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
    shop.sql("DROP TABLE IF EXISTS let_go");
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

/// How often a server had to do without its Redis.
async fn unanswered(shop: &Shop) -> u64 {
    let mut times = 0;
    for n in 0..shop.instances.len() {
        for kind in ["timeout", "open", "lost", "refused"] {
            times += number(shop, n, &errors(kind)).await;
        }
    }
    times
}

/// How many servers Redis would tell of what others change.
async fn linked(shop: &Shop) -> usize {
    let mut linked = 0;
    for n in 0..shop.instances.len() {
        linked += usize::from(number(shop, n, LINK).await == 1);
    }
    linked
}

const SERVERS: usize = 8;
const READERS: usize = 1_000;
/// So often they are asked for something else, until a round is fair.
const ROUNDS: usize = 5;
/// Whoever may load has a second for that, and then another one may: this leaves time for the load itself.
const IN_TIME: Duration = Duration::from_millis(800);

/// What came of it that everybody asked for one item.
#[derive(Debug)]
struct Round {
    loads: usize,
    /// How many readers had asked by the time the ledger answered.
    readers: usize,
    /// And how many servers had asked Redis.
    servers: usize,
    /// How many servers believe what is in Redis.
    linked: usize,
    /// How often a server had to do without Redis.
    unanswered: u64,
    /// When the ledger answered.
    answered: Duration,
}

impl Round {
    /// All of them wanted it while one had the right to load it, and nobody had a reason not to wait for that one.
    fn is_fair(&self) -> bool {
        let all_ask = (self.readers, self.servers) == (READERS, SERVERS);
        let all_wait = (self.linked, self.unanswered) == (SERVERS, 0);
        all_ask && all_wait && self.answered < IN_TIME
    }
}

/// How many servers have asked Redis for an item, by their connections. Its log of slow commands has all of them.
fn askers(redis: &RedisServer, sku: &str) -> usize {
    let log = redis.cli(&["SLOWLOG", "GET", "100000"]);
    let lines: Vec<_> = log.lines().collect();
    let name = format!("}}={sku}\0default");
    // Behind the key of the lease come a mark, a token, and a time; then who has asked.
    let asks = lines.windows(5).filter(|lines| lines[0].starts_with("lease{"));
    let asks = asks.filter(|lines| lines[0].ends_with(&*name));
    let who = asks.filter_map(|lines| lines[4].parse::<SocketAddr>().ok());
    who.collect::<BTreeSet<_>>().len()
}

/// All ask for an item that no server has; the ledger answers when Redis was asked by each of them.
async fn ask_at_once(
    shop: &Shop,
    redis: &RedisServer,
    clients: &mut Vec<Shopper>,
    sku: &str,
) -> Round {
    let (loads_before, unanswered_before) = (loads(shop), unanswered(shop).await);
    redis.cli(&["SLOWLOG", "RESET"]);
    let hindering = hinder_reads(shop);
    let (begun, asked) = (SystemClock.boot(), Arc::new(AtomicUsize::new(0)));
    let asking: JoinSet<_> = (0_u32..)
        .zip(clients.drain(..))
        .map(|(n, mut client)| {
            let path = format!("/v1/stock/{sku}?consistency=cached");
            let asked = Arc::clone(&asked);
            async move {
                // Were it in one moment, servers would have no time left to hear what Redis answers.
                SystemClock.sleep(Duration::from_micros(150) * n).await;
                asked.fetch_add(1, Ordering::Relaxed);
                let item = client.get(&path).await.expect_status(200);
                (client, item)
            }
        })
        .collect();
    let (mut readers, mut servers) = (0, 0);
    while (readers, servers) != (READERS, SERVERS) && SystemClock.boot() - begun < IN_TIME {
        SystemClock.sleep(Duration::from_millis(5)).await;
        (readers, servers) = (asked.load(Ordering::Relaxed), askers(redis, sku));
    }
    sees(shop, "a load", LOADING);
    let_read(shop, hindering);
    let answered = SystemClock.boot() - begun;
    for (client, item) in asking.join_all().await {
        assert_eq!(item["on_hand"], 100, "{item}");
        clients.push(client);
    }
    let (linked, unanswered) = (linked(shop).await, unanswered(shop).await - unanswered_before);
    Round { loads: loads(shop) - loads_before, readers, servers, linked, unanswered, answered }
}

/// Whoever is not answered by Redis in time asks the ledger itself: a round in which that happens proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_ask_eight_servers_for_a_cold_item_are_one_load() {
    let set_up = RedisServer::set_up().with_tcp().with("slowlog-log-slower-than", 0);
    let redis = set_up.with("slowlog-max-len", 100_000).start();
    let shop = watched(SERVERS, &redis.url_at(redis.address().unwrap())).await;
    let cold = |round: usize| format!("COLD-{round}");
    for round in 0..ROUNDS {
        shop.stock(&cold(round), 100).await;
    }
    let mut clients: Vec<_> = (0..READERS).map(|n| shop.keeper(n)).collect();
    for client in &mut clients {
        client.get("/livez").await.expect_status(200);
    }
    let mut unfair = Vec::new();
    for round in 0..ROUNDS {
        let round = ask_at_once(&shop, &redis, &mut clients, &cold(round)).await;
        if round.is_fair() {
            assert_eq!(round.loads, 1, "{round:?}");
            shop.expect_sound();
            return;
        }
        assert!(round.loads > 0, "{round:?}");
        unfair.push(round);
    }
    panic!("no round was fair: {unfair:#?}");
}

/// Were the lease not over by itself, nobody would be answered within 2 s.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_was_to_load_that_was_killed_another_loads_within_the_lease() {
    let redis = RedisServer::start();
    let mut shop = watched(2, &redis.url()).await;
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
