//! Baskets of several lines.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use stockhold::clock::{Clock, SystemClock};

use super::{Clients, N, TTL, at_once, patient, tally};
use crate::shop::Shop;

/// Scenario 3.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_03_a_basket_is_held_all_or_nothing() {
    let shop = Shop::open(N);
    shop.stock("A", 10).await;
    shop.stock("B", 0).await;
    for n in 0..N {
        let told = shop.keeper(n).place(&format!("{n}"), &[("A", 1), ("B", 1)], TTL).await;
        let problem = told.expect_status(409);
        assert_eq!(problem["code"], "insufficient_stock");
        let lines = problem["lines"].as_array().unwrap();
        let named: Vec<_> = lines.iter().map(|line| (&line["sku"], &line["available"])).collect();
        assert_eq!(named, [(&json!("B"), &json!(0))]);
        assert_eq!(shop.units(n + 1, "A").await, [10, 0, 0, 10]);
    }
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 0);
    assert_eq!(shop.count("SELECT count(*) FROM idempotency"), 0);
    shop.expect_sound();
}

/// Scenario 4.
#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_04_baskets_in_any_order_never_meet_in_a_deadlock() {
    const WORKERS: usize = 64;
    const FOR: Duration = Duration::from_secs(60);
    const ORDERS: [[&str; 3]; 6] = [
        ["A", "B", "C"],
        ["A", "C", "B"],
        ["B", "A", "C"],
        ["B", "C", "A"],
        ["C", "A", "B"],
        ["C", "B", "A"],
    ];
    let shop = Shop::open_with(N, patient);
    for sku in ORDERS[0] {
        shop.stock(sku, 100_000).await;
    }
    let (clients, end) = (Clients::new(), SystemClock.boot() + FOR);
    let done = at_once(WORKERS, |n| {
        let mut client = clients.nth(&shop, n);
        async move {
            let (mut told, mut waits) = (Vec::new(), Vec::new());
            for round in 0.. {
                let begun = SystemClock.boot();
                if begun >= end {
                    break;
                }
                // Without a pattern among workers, and the same in every run.
                let lines = ORDERS[(n * 31 + round * 17 + round / 5) % 6].map(|sku| (sku, 1));
                let placed = client.place(&format!("{n}-{round}"), &lines, TTL).await;
                waits.push(SystemClock.boot().saturating_sub(begun));
                told.push(("place", placed.status()));
                // Most are given back, for a fast machine would be sold out before the end.
                match round % 16 {
                    0 => told.push(("confirm", client.confirm(&placed.id()).await.status())),
                    1 => {}
                    _ => told.push(("release", client.release(&placed.id()).await.status())),
                }
            }
            (told, waits)
        }
    })
    .await;
    let (told, waits): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let (told, mut waits) = (tally(told.concat()), waits.concat());
    let of = |what| told.get(&what).copied().unwrap_or(0);
    let [placed, sold, released] = [("place", 201), ("confirm", 200), ("release", 200)].map(of);
    assert_eq!(told.len(), 3, "{told:?}");
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "{p99:?} of {placed}");
    assert_eq!(shop.count("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"), 0);
    let log = shop.postgres.log();
    assert!(!log.contains("deadlock detected") && !log.contains("lock timeout"), "{log}");

    shop.pass(TTL);
    stockhold_testkit::until(Duration::from_secs(60), "the end of the others", || {
        match shop.count("SELECT sum(held) FROM stock") {
            0 => Ok(()),
            held => Err(format!("{held} are held")),
        }
    });
    let sold = i64::try_from(sold).unwrap();
    for sku in ORDERS[0] {
        assert_eq!(shop.units(0, sku).await, [100_000, 0, sold, 100_000 - sold]);
    }
    let ends = "SELECT json_object_agg(step, n) FROM \
                (SELECT step, count(*) AS n FROM transition GROUP BY step) AS ends";
    let ends: BTreeMap<String, usize> = serde_json::from_str(&shop.sql(ends)).unwrap();
    let expired = placed - released - usize::try_from(sold).unwrap();
    let expected =
        [("confirm", placed - released - expired), ("expire", expired), ("release", released)];
    assert_eq!(ends, expected.map(|(step, n)| (step.to_owned(), n)).into());
    // Nobody was told anything after that.
    clients.expect_honest(&shop, &ORDERS[0].map(|sku| (sku, 100_000)), Duration::ZERO);
}

/// Scenario 5.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_05_the_same_sku_twice_in_one_basket_is_summed() {
    let shop = Shop::open(N);
    shop.stock("A", 3).await;
    let twice = [("A", 2), ("A", 2)];
    for n in 0..N {
        let problem = shop.keeper(n).place("ann", &twice, TTL).await.expect_status(409);
        assert_eq!(problem["code"], "insufficient_stock");
        let lines = problem["lines"].as_array().unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["requested"], &lines[0]["available"]), (&json!(4), &json!(3)));
    }
    shop.keeper(1).receive("A", 1, "one-more").await.expect_status(201);
    shop.keeper(2).place("ann", &twice, TTL).await.expect_status(201);
    assert_eq!(shop.units(3, "A").await, [4, 4, 0, 0]);
    shop.expect_sound();
}
