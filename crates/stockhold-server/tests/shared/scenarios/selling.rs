//! The last unit, and all of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use stockhold_testkit::RedisServer;
use tokio::sync::Barrier;

use super::{Clients, LONG, N, at_once, patient, tally};
use crate::shop::{LINKED, Shop};

/// Scenario 1.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_01_of_500_who_want_the_last_unit_one_gets_it_fifty_times() {
    sell_the_last_unit_fifty_times(Shop::open_with(5, patient)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_01_of_500_who_want_the_last_unit_one_gets_it_fifty_times_with_redis() {
    let redis = RedisServer::start();
    let shop = Shop::open_with(5, |command| {
        patient(command.args(["--redis", &redis.url()]));
    });
    shop.all_say(LINKED).await;
    let by_copies = sell_the_last_unit_fifty_times(shop).await;
    assert!(by_copies > 100, "only the ledger refused, but for {by_copies}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_01_of_500_who_want_the_last_unit_one_gets_it_fifty_times_while_redis_is_down()
 {
    let mut redis = RedisServer::start();
    let shop = Shop::open_with(5, |command| {
        patient(command.args(["--redis", &redis.url()]));
    });
    redis.kill();
    sell_the_last_unit_fifty_times(shop).await;
}

/// How many were refused by copies.
async fn sell_the_last_unit_fifty_times(shop: Shop) -> usize {
    const CLIENTS: usize = 500;
    const ROUNDS: usize = 50;
    let skus: Arc<Vec<_>> = Arc::new((0..ROUNDS).map(|round| format!("LAST-{round}")).collect());
    for sku in &*skus {
        shop.stock(sku, 1).await;
    }
    let (clients, start) = (Clients::new(), Arc::new(Barrier::new(CLIENTS)));
    let told = at_once(CLIENTS, |n| {
        let mut client = clients.nth(&shop, n);
        let (skus, start) = (Arc::clone(&skus), Arc::clone(&start));
        async move {
            let mut told = Vec::new();
            for sku in &*skus {
                start.wait().await;
                let key = format!("{n}-{sku}");
                let placed = client.place(&key, &[(sku, 1)], LONG).await;
                let is_by_copy = placed.answer().is_some_and(|a| a.body["origin"] == "l1");
                told.push((placed.status(), is_by_copy));
            }
            told
        }
    })
    .await;
    for (round, sku) in skus.iter().enumerate() {
        let told = tally(told.iter().map(|of_client| of_client[round].0));
        assert_eq!(told, BTreeMap::from([(201, 1), (409, 499)]), "round {round}");
        assert_eq!(shop.units(round, sku).await, [1, 1, 0, 0], "round {round}");
    }
    let supply: Vec<_> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
    clients.expect_honest(&shop, &supply, Duration::ZERO);
    told.iter().flatten().filter(|(_, is_by_copy)| *is_by_copy).count()
}

/// Scenario 2.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_02_ten_thousand_attempts_sell_a_thousand_units_exactly() {
    const ATTEMPTS: usize = 10_000;
    const AT_ONCE: usize = 64;
    let shop = Shop::open_with(N, patient);
    shop.stock("HOT", 1_000).await;
    let clients = Clients::new();
    let told = at_once(AT_ONCE, |n| {
        let mut client = clients.nth(&shop, n);
        async move {
            let mut told = Vec::new();
            for attempt in (n..ATTEMPTS).step_by(AT_ONCE) {
                let placed = client.place(&format!("buyer-{attempt}"), &[("HOT", 1)], LONG).await;
                told.push(("place", placed.status()));
                if placed.status() == 201 {
                    told.push(("confirm", client.confirm(&placed.id()).await.status()));
                }
            }
            told
        }
    })
    .await;
    let expected = BTreeMap::from([
        (("place", 201), 1_000),
        (("place", 409), 9_000),
        (("confirm", 200), 1_000),
    ]);
    assert_eq!(tally(told.concat()), expected);
    assert_eq!(shop.units(0, "HOT").await, [1_000, 0, 1_000, 0]);
    let ever_confirmed =
        "SELECT sum(hold.units[1]) FROM hold JOIN transition ON hold = id WHERE step = 'confirm'";
    let ever_came = "SELECT sum(delta) FROM movement WHERE delta > 0";
    assert_eq!([shop.count(ever_confirmed), shop.count(ever_came)], [1_000, 1_000]);
    clients.expect_honest(&shop, &[("HOT", 1_000)], Duration::ZERO);
}
