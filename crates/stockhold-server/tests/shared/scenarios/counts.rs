//! Scenario 14: less is counted than is promised.

use std::time::Duration;

use serde_json::json;
use stockhold_testkit::until;

use super::{N, TTL};
use crate::shop::Shop;

/// Ten on hand, holds of two each, and five are counted.
async fn short_shop(lives: [Duration; 4]) -> (Shop, Vec<String>) {
    let shop = Shop::open(N);
    shop.stock("MUG", 10).await;
    let mut holds = Vec::new();
    for (n, life) in lives.into_iter().enumerate() {
        holds.push(shop.keeper(n).place(&format!("{n}"), &[("MUG", 2)], life).await.id());
    }
    let count = json!({"count": 5, "reason": "counted"});
    let told = shop.keeper(1).post("/v1/stock/MUG/adjustments", &count, None).await;
    told.expect_status(201);
    for n in 0..N {
        assert_eq!(shop.units(n, "MUG").await, [5, 8, 0, -3]);
        let told = shop.keeper(n).place("late", &[("MUG", 1)], TTL).await;
        assert_eq!((told.status(), told.code()), (409, Some("insufficient_stock")));
    }
    (shop, holds)
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_14_a_count_below_what_is_held_grants_nothing_until_enough_is_given_back() {
    let (shop, holds) = short_shop([TTL, TTL, TTL, 2 * TTL]).await;
    for (n, hold) in holds[..2].iter().enumerate() {
        assert_eq!(shop.keeper(n).release(hold).await.status(), 200);
    }
    assert_eq!(shop.units(2, "MUG").await, [5, 4, 0, 1]);
    assert_eq!(shop.keeper(3).confirm(&holds[2]).await.status(), 200);
    shop.pass(2 * TTL);
    until(Duration::from_secs(10), "a sweep", || match shop.sql("SELECT sum(held) FROM stock") {
        held if held == "0" => Ok(()),
        held => Err(held),
    });
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 2, 3]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_14_all_that_is_held_can_still_be_confirmed() {
    let (shop, holds) = short_shop([TTL; 4]).await;
    for (n, hold) in holds.iter().enumerate() {
        assert_eq!(shop.keeper(n + 1).confirm(hold).await.status(), 200);
    }
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 8, -3]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_14_a_sweep_does_not_fail_in_a_shortfall() {
    let (shop, _) = short_shop([TTL; 4]).await;
    shop.pass(TTL);
    until(Duration::from_secs(10), "a sweep", || match shop.sql("SELECT sum(held) FROM stock") {
        held if held == "0" => Ok(()),
        held => Err(held),
    });
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 0, 5]);
    shop.expect_sound();
}
