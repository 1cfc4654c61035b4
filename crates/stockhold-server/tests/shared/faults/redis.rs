//! Rows 1 to 17, 26 and 32: Redis is killed, lied to, cut off, full, slow, or another one, while customers buy, copies
//! are read and locks are taken. Nobody is told anything of it: not one hold fails, every answer comes, no copy is older
//! than it says, and no lock has two holders.

mod street;

use std::{process::Command, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{ClockShim, Proxy, RedisServer, proxy::Direction, redis::Sentinels, until};

use self::street::{ASKED, LEFT_ALONE, Street, UNLINKED, has_keys, open, url_of};
use crate::shop::LINKED;

const SOON: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn server() -> RedisServer {
    RedisServer::set_up().with_tcp().start()
}

const DELETE_HALF: &str = "local gone = 0 \
    for n, key in ipairs(redis.call('KEYS', ARGV[1])) do \
        if n % 2 == 1 then gone = gone + redis.call('DEL', key) end \
    end \
    return gone";

/// Rows 1, 2 and 7.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_redis_has_lost_its_data() {
    let mut redis = server();
    let street = Street::gather(open(3, &[url_of(&redis)]), &redis).await;

    // What locks are counted by, and copies.
    for pattern in ["rule*", "{stockhold*"] {
        // Copies come and go.
        until(SOON, pattern, || match redis.cli(&["EVAL", DELETE_HALF, "0", pattern]) {
            gone if gone == "0" => Err("nothing was there to be taken away"),
            _ => Ok(()),
        });
        street.wait_for_sales(20);
    }
    redis.kill();
    street.all_say(UNLINKED).await;
    street.wait_for_sales(100);
    redis.restart_empty();
    street.all_say(LINKED).await;
    street.wait_for_sales(100);

    assert!(has_keys(&redis), "there is nothing to save");
    redis.cli(&["SAVE"]);
    street.wait_for_sales(200);
    redis.kill();
    street.all_say(UNLINKED).await;
    redis.restart(); // as it was a while ago
    assert!(has_keys(&redis), "it was not restored");
    street.all_say(LINKED).await;
    street.wait_for_sales(100);

    for command in ["FLUSHALL", "FLUSHDB"] {
        assert!(has_keys(&redis), "there is nothing to flush");
        redis.cli(&[command]);
        street.wait_for_sales(50);
    }
    street.meets(0, "no_script", || drop(redis.cli(&["SCRIPT", "FLUSH"]))).await;
    street.leave_undisturbed().await;
}

/// Rows 6, 11, 12 and 13.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_redis_is_slow_or_says_nothing() {
    let mut redis = server();
    let proxy = Proxy::start(redis.address().unwrap());
    let through = redis.url_at(proxy.address());
    let street = Street::gather(open(2, &[url_of(&redis), through]), &redis).await;

    redis.pause();
    street.all_say(UNLINKED).await;
    street.all_say(LEFT_ALONE).await;
    street.wait_for_sales(50);
    redis.resume();
    street.all_say(LINKED).await;
    street.all_say(ASKED).await;

    let pause = || assert_eq!(redis.cli(&["CLIENT", "PAUSE", "1000", "ALL"]), "OK");
    street.meets(0, "timeout", pause).await;
    street.wait_for_sales(50);
    SystemClock.sleep(SECOND).await;
    street.all_say(LINKED).await;

    let set = redis.cli(&["CONFIG", "SET", "lua-time-limit", "50"]);
    assert_eq!(set, "OK");
    let address = redis.socket();
    let endless = || {
        std::thread::spawn(move || {
            let script = "while true do end";
            let eval = ["-s", address.to_str().unwrap(), "EVAL", script, "0"];
            Command::new("redis-cli").args(eval).output().unwrap()
        })
    };
    let mut running = None;
    street.meets(0, "busy", || running = Some(endless())).await;
    street.says(0, LEFT_ALONE).await;
    street.wait_for_sales(100);
    until(SOON, "the end of the script", || redis.try_cli(&["SCRIPT", "KILL"]).map(drop));
    running.unwrap().join().unwrap();
    street.all_say(ASKED).await;
    street.all_say(LINKED).await;

    for millis in [5, 50] {
        proxy.delay(Direction::Replies, Duration::from_millis(millis));
        street.wait_for_sales(50);
    }
    let delay = || proxy.delay(Direction::Replies, Duration::from_millis(500));
    street.meets(1, "timeout", delay).await;
    street.wait_for_sales(50);
    proxy.heal();
    street.all_say(LINKED).await;
    street.all_say(ASKED).await;

    // Nobody is told that the other end is gone.
    let noticed = street.meets(1, "timeout", || proxy.blackhole()).await;
    assert!(noticed < SECOND, "it takes {noticed:?} to notice");
    street.says(1, UNLINKED).await;
    street.wait_for_sales(100);
    proxy.heal();
    street.all_say(LINKED).await;
    street.leave_undisturbed().await;
}

/// Row 6: for so long that locks are granted by the database, and by Redis again.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_redis_stands_still_for_a_minute() {
    let mut redis = server();
    let street = Street::gather(open(2, &[url_of(&redis)]), &redis).await;
    for seconds in [10, 60] {
        street.locks_are_granted_by("redis").await;
        redis.pause();
        let resumed = SystemClock.boot() + SECOND * seconds;
        street.all_say(UNLINKED).await;
        street.locks_are_granted_by("database").await;
        street.wait_for_sales(100);
        SystemClock.sleep(resumed.saturating_sub(SystemClock.boot())).await;
        redis.resume();
        street.all_say(LINKED).await;
    }
    street.locks_are_granted_by("redis").await;
    street.wait_for_leases(20);
    street.leave_undisturbed().await;
}

/// Rows 8, 9 and 10.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_redis_is_full_or_writes_nothing() {
    let set_up = RedisServer::set_up().with_tcp().with("enable-protected-configs", "yes");
    let set_up = set_up.with("enable-debug-command", "yes").with("key-load-delay", 100);
    let mut redis = set_up.with("loading-process-events-interval-bytes", 1_024).start();
    let street = Street::gather(open(3, &[url_of(&redis)]), &redis).await;
    let set =
        |name: &str, value: &str| assert_eq!(redis.cli(&["CONFIG", "SET", name, value]), "OK");

    set("maxmemory", "3mb");
    set("maxmemory-policy", "allkeys-random");
    for n in 0..40 {
        redis.cli(&["SETRANGE", &format!("filler-{n}"), "100000", "x"]);
    }
    let stats = redis.cli(&["INFO", "stats"]);
    let evicted = stats.lines().find_map(|line| line.strip_prefix("evicted_keys:"));
    assert!(evicted.is_some_and(|keys| keys != "0"), "nothing was evicted: {stats}");
    street.wait_for_sales(100);
    street.locks_are_granted_by("database").await;
    set("maxmemory-policy", "noeviction");
    street.meets(0, "full", || set("maxmemory", "1")).await;
    street.wait_for_sales(100);
    set("maxmemory", "0");
    redis.cli(&["FLUSHALL"]);

    street.meets(0, "misconfigured", || set("min-replicas-to-write", "1")).await;
    street.wait_for_sales(100);
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
    street.meets(0, "misconfigured", || ()).await;
    street.wait_for_sales(100);
    set("save", "");
    set("dbfilename", "dump.rdb");

    // It is there, and reads its data for a while.
    redis.cli(&["DEBUG", "POPULATE", "20000"]);
    redis.cli(&["SAVE"]);
    redis.kill();
    street.meets(0, "loading", || redis.restart_without_waiting()).await;
    street.wait_for_sales(100);
    street.all_say(LINKED).await;
    street.leave_undisturbed().await;
}

/// Rows 3 and 4.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_there_are_two_primaries() {
    let first = server();
    let second = RedisServer::replica_of(&first);
    let street = Street::gather(open(4, &[url_of(&first), url_of(&second)]), &first).await;
    assert!(street.troubles(1, "read_only").await > 0, "the second one is no replica");
    street.wait_for_sales(100);
    second.promote();
    street.all_say(LINKED).await;
    street.wait_for_sales(200);
    // The old one comes back as a replica, and takes over again.
    let demote = || first.follow(second.address().unwrap());
    street.meets(0, "read_only", demote).await;
    street.wait_for_sales(100);
    first.promote();
    street.all_say(LINKED).await;
    street.wait_for_sales(100);
    street.leave_undisturbed().await;
}

/// Row 5.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_a_failover() {
    let mut first = server();
    let second = RedisServer::replica_of(&first);
    let sentinels = Sentinels::of(&first, Duration::from_millis(500));
    let hosts: Vec<_> = sentinels.addresses().iter().map(ToString::to_string).collect();
    let login = format!("stockhold:{}", RedisServer::PASSWORD);
    let url = format!("redis+sentinel://{login}@{}/{}", hosts.join(","), sentinels.name());
    let street = Street::gather(open(3, &[url]), &first).await;
    first.pause();
    let resumed = SystemClock.boot() + 15 * SECOND;
    let new = sentinels.wait_for_other_than(first.address().unwrap());
    assert_eq!(Some(new), second.address());
    street.all_say(LINKED).await;
    street.wait_for_sales(100);
    SystemClock.sleep(resumed.saturating_sub(SystemClock.boot())).await;
    first.resume(); // it believes to be the primary for a moment
    street.wait_for_sales(100);
    street.all_say(LINKED).await;
    street.leave_undisturbed().await;
}

/// Rows 15 and 17.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_which_instances_reach_redis() {
    let redis = server();
    let links: Vec<_> = (0..4).map(|_| Proxy::start(redis.address().unwrap())).collect();
    let urls: Vec<_> = links.iter().map(|link| redis.url_at(link.address())).collect();
    let street = Street::gather(open(4, &urls), &redis).await;
    for link in &links[2..] {
        link.blackhole();
    }
    street.says(2, UNLINKED).await;
    street.says(3, UNLINKED).await;
    street.wait_for_sales(150);
    for link in &links {
        link.heal();
    }
    street.all_say(LINKED).await;
    // One after the other, each in a way of its own, and back in another order.
    for (n, link) in links.iter().enumerate() {
        match n {
            0 => link.stall(),
            1 => link.stall_one_way(Direction::Replies),
            2 => {
                link.refuse();
                link.reset();
            }
            _ => link.swallow_replies(),
        }
        street.says(n, UNLINKED).await;
        street.wait_for_sales(50);
    }
    for n in [2, 0, 3, 1] {
        links[n].heal();
        street.says(n, LINKED).await;
        street.wait_for_sales(50);
    }
    street.leave_undisturbed().await;
}

/// Row 16: who reaches Redis alone is told what the ledger's absence makes of it, and keeps its hold, also when it should
/// have died meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_alone_sells_nothing_and_lets_nothing_die() {
    const LIFE: Duration = Duration::from_secs(2);
    let redis = server();
    let mut shop = open(2, &[url_of(&redis)]);
    shop.stock("MUG", 5).await;
    let (mut ann, mut ben) = (shop.keeper(0), shop.keeper(1));
    let hold = ann.place("ann", &[("MUG", 1)], LIFE).await.id();
    let dies = SystemClock.boot() + LIFE;
    ben.get("/v1/stock/MUG?consistency=cached").await.expect_status(200);
    shop.postgres.stop();
    let mut refused = 0;
    while SystemClock.boot() < dies + SECOND {
        for (n, asked) in [&mut ann, &mut ben].into_iter().enumerate() {
            let told = asked.place(&format!("{n}-{refused}"), &[("MUG", 1)], LIFE).await;
            assert_eq!(told.status(), 503, "{told:?}");
            refused += 1;
        }
        let item = ben.get("/v1/stock/MUG?consistency=cached").await.expect_status(200);
        assert_eq!((&item["held"], &item["available"]), (&1.into(), &4.into()), "{item}");
    }
    assert!(refused > 4, "{refused}");
    // Nor does Redis grant locks: nobody says that it still may.
    let told = ann.acquire("till", "nobody-grants-this", SECOND).await;
    assert_eq!(told.status(), 503, "{told:?}");
    shop.postgres.restart();
    let end = SystemClock.boot() + SOON;
    while ben.confirm(&hold).await.status() != 200 {
        assert!(SystemClock.boot() < end, "it cannot be confirmed");
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    shop.expect_sound();
}

/// Row 26. No locks: leases die early when the clock of Redis steps forth, which is what their fences are for.
#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_do_not_notice_that_the_clock_of_redis_steps() {
    let shim = ClockShim::new();
    let mut set_up = RedisServer::set_up().with_tcp();
    for (name, value) in shim.variables() {
        set_up = set_up.with_variable(name, value);
    }
    let redis = set_up.start();
    let now = || redis.cli(&["TIME"]).lines().next().unwrap().parse::<u64>().unwrap();
    let street = Street::without_locks(open(3, &[url_of(&redis)])).await;
    for ahead in [2, 3_600] {
        let before = now();
        shim.set_ahead(SECOND * ahead);
        assert!(now() >= before + u64::from(ahead), "its clock has not stepped");
        street.wait_for_sales(100);
        shim.set_ahead(Duration::ZERO);
        street.wait_for_sales(100);
    }
    street.leave_undisturbed().await;
}

/// Row 32.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_is_offered_again_within_a_quarter_of_a_second() {
    let redis = server();
    let shop = open(2, &[url_of(&redis)]);
    shop.stock("MUG", 1).await;
    shop.all_say(LINKED).await;
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
