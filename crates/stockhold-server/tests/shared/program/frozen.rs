//! Redis stands still: what an operator sees of that, and what customers are told meanwhile.

use std::{collections::BTreeSet, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::RedisServer;
use tokio::task::JoinSet;

use super::copies::{LINK, errors, number, open, state, wait_for, wait_for_number};
use crate::shopper::Shopper;

const BREAKER: &str = "stockhold_redis_breaker_open";
/// A link that says nothing counts as down after 1.5 s.
const KNOWN: Duration = Duration::from_millis(2_500);
const SOON: Duration = Duration::from_secs(10);
/// More than failures in a row after which Redis is left alone.
const ITEMS: u64 = 12;
/// How long a copy is shown while nobody would say that it is old.
const LIFE: Duration = Duration::from_secs(1);
/// How long it may take to load: so much older it is from the first.
const LOAD: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_when_redis_stands_still_and_when_it_goes_on() {
    let mut redis = RedisServer::start();
    let shop = open(1, &redis);
    for n in 0..ITEMS {
        shop.stock(&format!("COLD-{n}"), 5).await;
    }
    wait_for(&shop, 0, "up").await;
    assert_eq!(number(&shop, 0, LINK).await, 1);
    let timeouts = number(&shop, 0, &errors("timeout")).await;
    redis.pause();
    wait_for_number(&shop, LINK, KNOWN, |is_up| is_up == 0).await;

    // Nobody has copies of these: for each of them Redis would be asked.
    let reading: JoinSet<_> = (0..ITEMS)
        .map(|n| {
            let mut client = shop.keeper(0);
            let path = format!("/v1/stock/COLD-{n}?consistency=cached");
            async move { client.get(&path).await.expect_status(200) }
        })
        .collect();
    for item in reading.join_all().await {
        assert!(item["origin"] == "ledger" && item["on_hand"] == 5, "{item}");
    }
    wait_for_number(&shop, BREAKER, KNOWN, |is_open| is_open == 1).await;
    wait_for_number(&shop, &errors("timeout"), KNOWN, |times| times >= timeouts + 5).await;
    assert_eq!(state(&shop, 0).await, "open");

    // By itself: nobody asks for anything.
    redis.resume();
    wait_for_number(&shop, LINK, SOON, |is_up| is_up == 1).await;
    wait_for_number(&shop, BREAKER, SOON, |is_open| is_open == 0).await;
    wait_for(&shop, 0, "up").await;
    shop.expect_sound();
}

/// What a reader is told who can do with a copy.
#[derive(Debug)]
struct Seen {
    age: Duration,
    is_stale: bool,
    as_of: String,
}

async fn look(reader: &mut Shopper) -> Seen {
    let item = reader.get("/v1/stock/MUG?consistency=cached").await.expect_status(200);
    Seen {
        age: Duration::from_millis(item["age_ms"].as_u64().unwrap()),
        is_stale: item["stale"].as_bool().unwrap(),
        as_of: item["as_of"].as_str().unwrap().to_owned(),
    }
}

/// While it is told of changes, it shows them for longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_shows_copies_for_a_second_while_it_knows_that_redis_stands_still() {
    let mut redis = RedisServer::start();
    let shop = open(1, &redis);
    shop.stock("MUG", 5).await;
    wait_for(&shop, 0, "up").await;
    let (mut ann, begun) = (shop.keeper(0), SystemClock.boot());
    while look(&mut ann).await.age <= LIFE + LOAD {
        assert!(SystemClock.boot() - begun < SOON, "its copies are as young without a fault");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    redis.pause();
    let paused = SystemClock.boot();
    while number(&shop, 0, LINK).await == 1 {
        look(&mut ann).await;
        assert!(SystemClock.boot() - paused < KNOWN, "it does not notice");
    }

    let (known, mut fresh, mut stale) = (SystemClock.boot(), Vec::new(), 0);
    while SystemClock.boot() - known < 2 * LIFE + LOAD {
        match look(&mut ann).await {
            // The next one takes long to load, and this is told.
            seen if seen.is_stale => stale += 1,
            seen => fresh.push(seen),
        }
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    assert!(fresh.len() > 2 * stale, "{stale} were stale of {}", fresh.len() + stale);
    let oldest = fresh.iter().max_by_key(|seen| seen.age).unwrap();
    assert!(oldest.age <= LIFE + LOAD, "{oldest:?}");
    let moments: BTreeSet<_> = fresh.iter().map(|seen| &seen.as_of).collect();
    assert!((2..10).contains(&moments.len()), "it does not keep them for a second: {moments:?}");
    redis.resume();
    wait_for_number(&shop, LINK, SOON, |is_up| is_up == 1).await;
    shop.expect_sound();
}
