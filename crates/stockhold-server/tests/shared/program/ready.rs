//! `/readyz`, and what a customer is told meanwhile.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};

use crate::shop::Shop;

const TTL: Duration = Duration::from_secs(30);
const AT_ONCE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(10);

/// Waits for an answer of `/readyz` with this status.
async fn wait_for(shop: &Shop, status: u16) {
    let asking = async {
        while shop.keeper(0).get("/readyz").await.status() != status {
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, asking).await.unwrap();
}

/// 503, at once, and when to come again.
async fn expect_refused(shop: &Shop, key: &str) {
    let mut ann = shop.keeper(0);
    ann.get("/livez").await.expect_status(200); // so that a connection is there
    let asked = SystemClock.boot();
    let told = ann.place(key, &[("MUG", 1)], TTL).await;
    let took = SystemClock.boot() - asked;
    assert_eq!((told.status(), told.code()), (503, Some("unavailable")), "{told:?}");
    assert!(told.answer().unwrap().retry_after.is_some(), "{told:?}");
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_ready_again_by_itself_when_postgres_is_back() {
    let mut shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    wait_for(&shop, 200).await;
    shop.postgres.stop();
    let told = shop.keeper(0).get("/readyz").await.expect_status(503);
    assert_eq!(told["dependencies"][0]["name"], "ledger", "{told}");
    assert_eq!(told["dependencies"][0]["state"], "down", "{told}");
    assert_eq!(told["detail"], "the ledger cannot be read", "{told}");
    expect_refused(&shop, "away").await;
    shop.postgres.restart();
    wait_for(&shop, 200).await;
    assert_eq!(shop.keeper(0).place("back", &[("MUG", 1)], TTL).await.status(), 201);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_ledger_stands_still_says_that_it_is_silent() {
    let mut shop = Shop::open(1);
    wait_for(&shop, 200).await;
    shop.postgres.pause();
    let told = shop.keeper(0).get("/readyz").await.expect_status(503);
    assert_eq!(told["dependencies"][0]["state"], "silent", "{told}");
    shop.postgres.resume();
    wait_for(&shop, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_the_log_is_not_told_so_at_each_attempt_to_sweep() {
    let mut shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    shop.keeper(0).place("held", &[("MUG", 1)], TTL).await.id();
    shop.postgres.stop();
    SystemClock.sleep(Duration::from_secs(2)).await;
    let log = shop.instances[0].log();
    assert_eq!(log.matches("cannot ask for due holds").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_ledger_is_sealed_is_not_ready_until_it_is_opened() {
    let shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    shop.sql("UPDATE ledger SET sealed = 'this shop has moved to sqlite:/next.db'");
    let told = shop.keeper(0).get("/readyz").await.expect_status(503);
    assert_eq!(told["dependencies"][0]["state"], "sealed", "{told}");
    assert!(told["detail"].as_str().unwrap().contains("sealed"), "{told}");
    // Where to is for the operator.
    assert!(!told.to_string().contains("next.db"), "{told}");
    expect_refused(&shop, "sealed").await;
    let log = shop.instances[0].log();
    assert!(log.contains("has moved to sqlite:/next.db"), "{log}");
    // What is there can still be read.
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 0, 5]);
    shop.sql("UPDATE ledger SET sealed = NULL");
    wait_for(&shop, 200).await;
    assert_eq!(shop.keeper(0).place("open", &[("MUG", 1)], TTL).await.status(), 201);
    shop.expect_sound();
}
