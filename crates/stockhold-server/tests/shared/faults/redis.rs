//! Rows 1 to 17, 26 and 32: Redis is killed, lied to, cut off, full, slow, or another one, while customers buy. None of
//! them is told anything of it: not one hold fails, and every answer comes.

use std::{process::Command, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{
    ClockShim, PostgresServer, Proxy, RedisServer, history::Outcome, proxy::Direction,
    redis::Sentinels, until,
};

use super::crowd::{Crowd, unanswered};
use crate::shop::Shop;

const CUSTOMERS: usize = 12;
const SOON: Duration = Duration::from_secs(10);

/// So many instances, each of which finds Redis at one of these addresses.
fn open(instances: usize, urls: &[String]) -> Shop {
    let mut shop = Shop::open_on(PostgresServer::start(), 0);
    for url in urls.iter().cycle().take(instances) {
        shop.join(|command: &mut Command| {
            command.args(["--redis", url]);
        });
    }
    shop
}

fn server() -> RedisServer {
    RedisServer::set_up().with_tcp().start()
}

fn url_of(server: &RedisServer) -> String {
    server.url_at(server.address().unwrap())
}

/// Nobody has noticed anything.
async fn leave_undisturbed(crowd: Crowd, shop: &Shop) {
    let judged = crowd.leave_all_well(shop).await;
    let odd = judged.history.events().iter().filter(|event| event.result == Outcome::Unknown);
    let odd: Vec<_> = odd.collect();
    assert_eq!(unanswered(&judged.history), 0, "{odd:#?}");
}

/// All instances hear of Redis again, by themselves.
async fn wait_for_links(shop: &Shop) {
    let end = SystemClock.boot() + SOON;
    for n in 0..shop.instances.len() {
        while !shop.keeper(n).text("/metrics").await.contains("stockhold_cache_link_up 1\n") {
            assert!(SystemClock.boot() < end, "the link of {n} does not come back");
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Rows 1, 2 and 7.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_redis_has_lost_its_data() {
    let mut redis = server();
    let shop = open(3, &[url_of(&redis)]);
    let crowd = Crowd::gather(&shop, CUSTOMERS).await;
    wait_for_links(&shop).await;
    crowd.wait_for_sales(100);

    redis.kill();
    crowd.wait_for_sales(100);
    redis.restart_empty();
    wait_for_links(&shop).await;
    crowd.wait_for_sales(100);

    redis.cli(&["SAVE"]);
    crowd.wait_for_sales(200);
    redis.kill();
    redis.restart(); // as it was a while ago
    wait_for_links(&shop).await;
    crowd.wait_for_sales(100);

    for command in ["FLUSHALL", "FLUSHDB", "SCRIPT FLUSH"] {
        redis.cli(&command.split(' ').collect::<Vec<_>>());
        crowd.wait_for_sales(50);
    }
    for key in redis.cli(&["KEYS", "*"]).lines().take(50) {
        redis.cli(&["DEL", key]);
    }
    crowd.wait_for_sales(50);
    leave_undisturbed(crowd, &shop).await;
}

/// Rows 6, 11, 12 and 13.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_redis_is_slow_or_says_nothing() {
    let mut redis = server();
    let proxy = Proxy::start(redis.address().unwrap());
    let through = redis.url_at(proxy.address());
    let shop = open(3, &[url_of(&redis), through]);
    let crowd = Crowd::gather(&shop, CUSTOMERS).await;
    wait_for_links(&shop).await;
    crowd.wait_for_sales(50);

    redis.pause();
    SystemClock.sleep(Duration::from_secs(2)).await;
    crowd.wait_for_sales(50);
    redis.resume();
    wait_for_links(&shop).await;

    let pause = redis.cli(&["CLIENT", "PAUSE", "1500", "ALL"]);
    assert_eq!(pause, "OK");
    crowd.wait_for_sales(50);
    SystemClock.sleep(Duration::from_millis(1_500)).await;
    wait_for_links(&shop).await;

    let busy = redis.try_cli(&["CONFIG", "SET", "lua-time-limit", "50"]);
    assert_eq!(busy.as_deref(), Ok("OK"));
    let address = redis.socket();
    let endless = std::thread::spawn(move || {
        let script = "while true do end";
        let eval = ["-s", address.to_str().unwrap(), "EVAL", script, "0"];
        Command::new("redis-cli").args(eval).output().unwrap()
    });
    crowd.wait_for_sales(100);
    SystemClock.sleep(Duration::from_secs(1)).await;
    until(SOON, "the end of the script", || redis.try_cli(&["SCRIPT", "KILL"]).map(drop));
    endless.join().unwrap();
    wait_for_links(&shop).await;

    for millis in [5, 50, 500] {
        proxy.delay(Direction::Replies, Duration::from_millis(millis));
        crowd.wait_for_sales(50);
    }
    proxy.heal();
    wait_for_links(&shop).await;
    proxy.blackhole();
    crowd.wait_for_sales(100);
    proxy.heal();
    wait_for_links(&shop).await;
    leave_undisturbed(crowd, &shop).await;
}

/// Rows 8, 9 and 10.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_redis_is_full_or_writes_nothing() {
    let set_up = RedisServer::set_up().with_tcp().with("enable-protected-configs", "yes");
    let set_up = set_up.with("enable-debug-command", "yes").with("key-load-delay", 100);
    let mut redis = set_up.with("loading-process-events-interval-bytes", 1_024).start();
    let shop = open(3, &[url_of(&redis)]);
    let crowd = Crowd::gather(&shop, CUSTOMERS).await;
    wait_for_links(&shop).await;
    crowd.wait_for_sales(50);
    let set =
        |name: &str, value: &str| assert_eq!(redis.cli(&["CONFIG", "SET", name, value]), "OK");

    set("maxmemory", "3mb");
    set("maxmemory-policy", "allkeys-random");
    for n in 0..40 {
        redis.cli(&["SETRANGE", &format!("filler-{n}"), "100000", "x"]);
    }
    crowd.wait_for_sales(100);
    set("maxmemory-policy", "noeviction");
    set("maxmemory", "1");
    crowd.wait_for_sales(100);
    set("maxmemory", "0");
    redis.cli(&["FLUSHALL"]);

    set("min-replicas-to-write", "1");
    crowd.wait_for_sales(100);
    set("min-replicas-to-write", "0");

    set("save", "3600 1");
    set("dbfilename", "none");
    // Even root cannot replace a folder by a file.
    std::fs::create_dir(redis.folder().join("none")).unwrap();
    redis.cli(&["BGSAVE"]);
    until(SOON, "a save that fails", || match redis.cli(&["INFO", "persistence"]) {
        info if info.contains("rdb_last_bgsave_status:err") => Ok(()),
        info => Err(info),
    });
    let refused = redis.try_cli(&["SET", "x", "1"]);
    assert!(format!("{refused:?}").contains("MISCONF"), "{refused:?}");
    crowd.wait_for_sales(100);
    set("save", "");
    set("dbfilename", "dump.rdb");

    // It is there, and reads its data for a while.
    redis.cli(&["DEBUG", "POPULATE", "20000"]);
    redis.cli(&["SAVE"]);
    redis.kill();
    redis.restart_without_waiting();
    crowd.wait_for_sales(100);
    wait_for_links(&shop).await;
    leave_undisturbed(crowd, &shop).await;
}

/// Rows 3 and 4.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_there_are_two_primaries() {
    let first = server();
    let second = RedisServer::replica_of(&first);
    let shop = open(4, &[url_of(&first), url_of(&second)]);
    let crowd = Crowd::gather(&shop, CUSTOMERS).await;
    crowd.wait_for_sales(100);
    second.promote();
    wait_for_links(&shop).await;
    crowd.wait_for_sales(200);
    // The old one comes back as a replica, and takes over again.
    first.follow(second.address().unwrap());
    crowd.wait_for_sales(100);
    first.promote();
    wait_for_links(&shop).await;
    crowd.wait_for_sales(100);
    leave_undisturbed(crowd, &shop).await;
}

/// Row 5.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_a_failover() {
    let mut first = server();
    let second = RedisServer::replica_of(&first);
    let sentinels = Sentinels::of(&first, Duration::from_millis(500));
    let hosts: Vec<_> = sentinels.addresses().iter().map(ToString::to_string).collect();
    let url = format!("redis+sentinel://{}/{}", hosts.join(","), sentinels.name());
    let shop = open(3, &[url]);
    let crowd = Crowd::gather(&shop, CUSTOMERS).await;
    wait_for_links(&shop).await;
    crowd.wait_for_sales(50);
    first.pause();
    let new = sentinels.wait_for_other_than(first.address().unwrap());
    assert_eq!(Some(new), second.address());
    wait_for_links(&shop).await;
    crowd.wait_for_sales(100);
    first.resume(); // it believes to be the primary for a moment
    crowd.wait_for_sales(100);
    wait_for_links(&shop).await;
    leave_undisturbed(crowd, &shop).await;
}

/// Rows 15 and 17.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_which_instances_reach_redis() {
    let redis = server();
    let links: Vec<_> = (0..4).map(|_| Proxy::start(redis.address().unwrap())).collect();
    let urls: Vec<_> = links.iter().map(|link| redis.url_at(link.address())).collect();
    let shop = open(4, &urls);
    let crowd = Crowd::gather(&shop, CUSTOMERS).await;
    wait_for_links(&shop).await;
    crowd.wait_for_sales(50);
    for link in &links[2..] {
        link.blackhole();
    }
    crowd.wait_for_sales(150);
    for link in &links {
        link.heal();
    }
    // One after the other, each in a way of its own, and back in another order.
    for (n, link) in links.iter().enumerate() {
        match n {
            0 => link.refuse(),
            1 => link.stall_one_way(Direction::Replies),
            2 => link.reset(),
            _ => link.swallow_replies(),
        }
        crowd.wait_for_sales(50);
    }
    for n in [2, 0, 3, 1] {
        links[n].heal();
        crowd.wait_for_sales(50);
    }
    wait_for_links(&shop).await;
    leave_undisturbed(crowd, &shop).await;
}

/// Row 16: who reaches Redis alone is told what the ledger's absence makes of it, and keeps its hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_alone_sells_nothing_and_lets_nothing_die() {
    let redis = server();
    let mut shop = open(2, &[url_of(&redis)]);
    shop.stock("MUG", 5).await;
    wait_for_links(&shop).await;
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], SOON).await.id();
    shop.keeper(1).get("/v1/stock/MUG?consistency=cached").await.expect_status(200);
    shop.postgres.stop();
    for n in 0..4 {
        let told = shop.keeper(n).place(&format!("ben-{n}"), &[("MUG", 1)], SOON).await;
        assert_eq!(told.status(), 503, "{told:?}");
        let item = shop.keeper(n).get("/v1/stock/MUG?consistency=cached").await;
        if item.status() == 200 {
            let item = item.expect_status(200);
            assert!(item["age_ms"].is_u64() && item["as_of"].is_string(), "{item}");
        }
    }
    shop.postgres.restart();
    let end = SystemClock.boot() + SOON;
    while shop.keeper(1).confirm(&hold).await.status() != 200 {
        assert!(SystemClock.boot() < end, "it cannot be confirmed");
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    shop.expect_sound();
}

/// Row 26.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_the_clock_of_redis_steps() {
    let shim = ClockShim::new();
    let mut set_up = RedisServer::set_up().with_tcp();
    for (name, value) in shim.variables() {
        set_up = set_up.with_variable(name, value);
    }
    let redis = set_up.start();
    let shop = open(3, &[url_of(&redis)]);
    let crowd = Crowd::gather(&shop, CUSTOMERS).await;
    wait_for_links(&shop).await;
    crowd.wait_for_sales(50);
    for ahead in [2, 3_600] {
        shim.set_ahead(Duration::from_secs(ahead));
        crowd.wait_for_sales(100);
        shim.set_ahead(Duration::ZERO);
        crowd.wait_for_sales(100);
    }
    leave_undisturbed(crowd, &shop).await;
}

/// Row 32.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_is_offered_again_within_a_quarter_of_a_second() {
    let redis = server();
    let shop = open(2, &[url_of(&redis)]);
    shop.stock("MUG", 1).await;
    wait_for_links(&shop).await;
    let life = Duration::from_secs(30);
    for round in 0..20 {
        let hold = shop.keeper(0).place(&format!("a-{round}"), &[("MUG", 1)], life).await.id();
        // The other one learns that there is nothing, and may refuse by that for a while.
        for n in 0..5 {
            let told = shop.keeper(1).place(&format!("b-{round}-{n}"), &[("MUG", 1)], life).await;
            assert_eq!(told.code(), Some("insufficient_stock"), "{told:?}");
        }
        shop.keeper(0).release(&hold).await.expect_status(200);
        let begun = SystemClock.boot();
        for n in 0.. {
            let told = shop.keeper(1).place(&format!("c-{round}-{n}"), &[("MUG", 1)], life).await;
            let took = SystemClock.boot() - begun;
            if told.status() == 201 {
                shop.keeper(0).release(&told.id()).await.expect_status(200);
                break;
            }
            assert!(took <= Duration::from_millis(250), "{took:?}: {told:?}");
        }
    }
    shop.expect_sound();
}
