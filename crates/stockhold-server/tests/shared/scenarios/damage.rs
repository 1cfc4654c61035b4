//! Rows that somebody has damaged by hand: who meets them fails alone.

use std::time::Duration;

use serde_json::{Value, json};
use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::until;

use super::{LONG, N, at_once, patient, tally};
use crate::{shop::Shop, shopper::Shopper};

/// Scenario 19.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_19_a_hold_of_an_item_that_was_deleted_stops_nobody() {
    const HOLDS: i64 = 9_999;
    let shop = Shop::open_with(N, patient);
    shop.stock("MUG", HOLDS).await;
    shop.stock("GONE", 1).await;
    let broken = shop.keeper(0).place("broken", &[("GONE", 1)], LONG).await.id();
    at_once(11, |n| {
        let mut client = shop.keeper(n);
        async move { tally(statuses(&place_many(&mut client, &["MUG"; 909]).await)) }
    })
    .await;
    assert_eq!(shop.units(0, "MUG").await, [HOLDS, HOLDS, 0, 0]);
    shop.sql("CREATE TABLE aside AS SELECT * FROM stock WHERE sku = 'GONE'");
    shop.sql("DELETE FROM stock WHERE sku = 'GONE'");

    shop.pass(LONG);
    until(Duration::from_secs(30), "the others are swept", || {
        match shop.count("SELECT sum(held) FROM stock") {
            0 => Ok(()),
            held => Err(format!("{held} are held")),
        }
    });
    assert_eq!(shop.count("SELECT count(*) FROM transition WHERE step = 'expire'"), HOLDS);
    let flag = format!("cannot be expired; its rows are damaged hold={broken}");
    until(Duration::from_secs(5), "a flag", || {
        let logs: String =
            shop.instances.iter().map(stockhold_testkit::ServerProcess::log).collect();
        let flags: Vec<_> = logs.lines().filter(|line| line.contains("rows are damaged")).collect();
        assert!(flags.iter().all(|line| line.ends_with(&flag)), "{flags:?}");
        if flags.is_empty() { Err(logs) } else { Ok(()) }
    });
    for n in 0..N {
        let mut client = shop.keeper(n);
        let told = client.place(&format!("next-{n}"), &[("MUG", 1)], LONG).await;
        assert_eq!(told.status(), 201, "{told:?}");
        assert_eq!(client.place("none", &[("GONE", 1)], LONG).await.code(), Some("unknown_sku"));
        assert_eq!(client.confirm(&broken).await.code(), Some("internal"));
    }
    let report = shop.verify();
    let said = String::from_utf8_lossy(&report.stdout);
    assert_eq!(report.status.code(), Some(5), "{said}");
    assert!(said.contains(&broken), "{said}");

    shop.sql("INSERT INTO stock OVERRIDING SYSTEM VALUE SELECT * FROM aside");
    shop.expect_sound();
}

/// Scenario 22.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_22_a_row_that_cannot_be_written_fails_one_command_of_a_thousand() {
    let shop = Shop::open_with(N, patient);
    shop.stock("MUG", 10_000).await;
    shop.stock("BAD", 10_000).await;
    let mut client = shop.keeper(0);
    let mut skus = vec!["MUG"; 1_000];
    // The first one of a new shop is slow.
    place_a_thousand(&mut client).await;
    let usual = place_a_thousand(&mut client).await;

    // Rows that break it are there; new ones are not let in.
    shop.sql("ALTER TABLE stock DROP CONSTRAINT stock_safety_stock_check");
    shop.sql("UPDATE stock SET safety_stock = -5 WHERE sku = 'BAD'");
    shop.sql("ALTER TABLE stock ADD CONSTRAINT stock_safety_stock_check CHECK (safety_stock >= 0) NOT VALID");
    skus[637] = "BAD";
    let told = place_many(&mut client, &skus).await;
    assert_eq!(
        (&told[637]["status"], &told[637]["body"]["code"]),
        (&json!(500), &json!("internal"))
    );
    assert_eq!(tally(statuses(&told)), [(201, 999), (500, 1)].into());
    for n in 0..N {
        assert_eq!(shop.units(n, "MUG").await, [10_000, 2_999, 0, 7_001]);
    }

    let next = place_a_thousand(&mut client).await;
    assert!(next.0 <= usual.0 && next.1 < 3 * usual.1, "usually {usual:?}, then {next:?}");
    shop.sql("UPDATE stock SET safety_stock = 0 WHERE sku = 'BAD'");
    shop.expect_sound();
}

/// In how many batches, and how long it took.
async fn place_a_thousand(client: &mut Shopper) -> (u64, Duration) {
    let (before, begun) = (batches(client).await, SystemClock.boot());
    let told = place_many(client, &["MUG"; 1_000]).await;
    let took = SystemClock.boot().saturating_sub(begun);
    assert_eq!(tally(statuses(&told)), [(201, 1_000)].into());
    (batches(client).await - before, took)
}

/// One hold of one unit of each, in one request.
async fn place_many(client: &mut Shopper, skus: &[&str]) -> Vec<Value> {
    let place = |sku: &&str| {
        let lines = json!([{"sku": sku, "quantity": 1}]);
        json!({"op": "place", "owner": "cart", "ttl_ms": LONG.as_millis(), "lines": lines})
    };
    let body = json!({"items": skus.iter().map(place).collect::<Vec<_>>()});
    let told = client.post("/v1/batch", &body, None).await.expect_status(200);
    told["items"].as_array().unwrap().clone()
}

fn statuses(items: &[Value]) -> impl Iterator<Item = i64> {
    items.iter().map(|item| item["status"].as_i64().unwrap())
}

/// How many batches with commands this instance has done.
async fn batches(client: &mut Shopper) -> u64 {
    let metrics = client.text("/metrics").await;
    let line = metrics.lines().find_map(|l| l.strip_prefix("stockhold_batch_commands_count "));
    line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}
