//! Lost replies, and keys that make them harmless.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use stockhold_testkit::{Proxy, proxy::Direction};

use super::{Clients, LONG, N, TTL, at_once, patient, tally};
use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
    swallower::Swallower,
};

/// Scenario 6.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_fifty_requests_under_one_key_are_one_hold() {
    let shop = Shop::open_with(N, patient);
    shop.stock("MUG", 10).await;
    let clients = Clients::new();
    let told = at_once(50, |n| {
        let mut client = clients.nth(&shop, n);
        async move { client.place("key", &[("MUG", 1)], TTL).await }
    })
    .await;
    let answers = tally(told.iter().map(|told| (told.status(), told.is_replayed())));
    assert_eq!(answers, BTreeMap::from([((201, false), 1), ((200, true), 49)]));
    let ids = tally(told.iter().map(Told::id));
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(shop.units(1, "MUG").await, [10, 1, 0, 9]);
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 1);

    let other = clients.nth(&shop, 2).place("key", &[("MUG", 2)], TTL).await;
    assert_eq!((other.status(), other.code()), (422, Some("idempotency_key_reused")));
    clients.expect_honest(&shop, &[("MUG", 10)], Duration::ZERO);

    shop.pass(TTL);
    for n in 0..N {
        let again = clients.nth(&shop, n).place("key", &[("MUG", 1)], TTL).await;
        let problem = again.expect_status(410);
        assert_eq!(problem["code"], "hold_ended");
        assert_eq!(
            (&problem["hold"]["id"], &problem["hold"]["state"]),
            (&json!(told[0].id()), &json!("expired"))
        );
        assert_eq!(shop.units(n, "MUG").await, [10, 0, 0, 10]);
    }
    clients.expect_honest(&shop, &[("MUG", 10)], TTL);
}

/// Scenario 7.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_07_lost_replies_sell_nothing_twice() {
    const BUYERS: usize = 2_000;
    const AT_ONCE: usize = 64;
    let shop = Shop::open_with(N, patient);
    shop.stock("HOT", 2_000).await;
    let mut networks = Vec::new();
    for n in 0..N {
        networks.push(Swallower::start(shop.address(n)).await);
    }
    let clients = Clients::new();
    at_once(AT_ONCE, |n| {
        let mut client = clients.at(&networks[n % N].address);
        async move {
            for buyer in (n..BUYERS).step_by(AT_ONCE) {
                buy(&mut client, &format!("buyer-{buyer}")).await;
            }
        }
    })
    .await;
    assert_eq!(shop.units(0, "HOT").await, [2_000, 0, 2_000, 0]);
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 2_000);
    assert_eq!(shop.count("SELECT count(*) FROM transition"), 2_000);
    for network in networks {
        let (swallowed, replies) = network.swallowed();
        let percent = swallowed * 100 / replies;
        assert!((28..=32).contains(&percent), "{swallowed} of {replies} replies were lost");
    }
    clients.expect_honest(&shop, &[("HOT", 2_000)], Duration::ZERO);
}

/// Asks until there is an answer.
async fn buy(client: &mut Shopper, key: &str) {
    let hold = loop {
        let told = client.place(key, &[("HOT", 1)], LONG).await;
        if told.answer().is_some() {
            break told.id();
        }
    };
    loop {
        let told = client.confirm_with(&hold, &json!({}), Some(key)).await;
        if told.answer().is_some() {
            assert_eq!(told.expect_status(200)["state"], "confirmed");
            return;
        }
    }
}

/// Scenario 20.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_20_a_receive_whose_reply_was_lost_is_done_once() {
    let shop = Shop::open(N);
    shop.stock("MUG", 0).await;
    let address: std::net::SocketAddr = shop.address(0).parse().unwrap();
    let (proxy, clients) = (Proxy::start(address), Clients::new());
    proxy.lose(Direction::Replies, b"on_hand_after", 1);
    let lost = clients.at(&proxy.address().to_string()).receive("MUG", 100, "delivery").await;
    assert_eq!((lost.status(), proxy.has_lost()), (0, true), "{lost:?}");
    for n in 1..N {
        let again = clients.nth(&shop, n).receive("MUG", 100, "delivery").await;
        assert!(again.is_replayed(), "{again:?}");
        assert_eq!(again.expect_any(&[200, 201])["movement"]["on_hand_after"], 100);
        assert_eq!(shop.units(n, "MUG").await, [100, 0, 0, 100]);
    }
    let path = "/v1/stock/MUG/adjustments";
    let unkeyed = shop.keeper(1).post(path, &json!({"receive": 100}), None).await;
    assert_eq!((unkeyed.status(), unkeyed.code()), (400, Some("idempotency_key_required")));

    let hold = clients.nth(&shop, 2).place("ann", &[("MUG", 5)], TTL).await.id();
    clients.nth(&shop, 3).confirm(&hold).await.expect_status(200);
    let two = json!({"lines": [{"sku": "MUG", "quantity": 2}]});
    for n in 0..N {
        let path = format!("/v1/holds/{hold}/ship");
        let told = shop.keeper(n).post(&path, &two, Some("parcel")).await;
        assert_eq!((told.status(), told.is_replayed()), (200, n > 0), "{told:?}");
        assert_eq!(told.expect_status(200)["lines"][0]["shipped"], 2);
    }
    assert_eq!(shop.units(0, "MUG").await, [98, 0, 3, 95]);
    let moved = "SELECT string_agg(kind || delta, ' ' ORDER BY id) FROM movement WHERE delta <> 0";
    assert_eq!(shop.sql(moved), "receive100 ship-2");
    clients.expect_honest(&shop, &[("MUG", 0)], Duration::ZERO);
}
