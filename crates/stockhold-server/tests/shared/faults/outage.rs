//! Postgres is away for a while.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::until;

use super::crowd::{Crowd, timed};
use crate::{shop::Shop, shopper::Shopper};

const AT_ONCE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(10);

async fn ready(shop: &Shop, n: usize) -> u16 {
    shop.keeper(n).get("/readyz").await.status()
}

/// Every instance has noticed that Postgres is there again.
async fn wait_until_ready(shop: &Shop) {
    for n in 0..shop.instances.len() {
        while ready(shop, n).await != 200 {
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_everybody_is_told_so_at_once() {
    let mut shop = Shop::open(2);
    shop.stock("MUG", 5).await;
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], SOON).await.id();
    shop.postgres.stop();
    for n in 0..20 {
        let mut ann = Shopper::new(shop.address(n));
        let (placed, for_place) = timed(ann.place(&format!("{n}"), &[("MUG", 1)], SOON)).await;
        let (confirmed, for_confirm) = timed(ann.confirm(&hold)).await;
        for told in [placed, confirmed] {
            assert_eq!((told.status(), told.code()), (503, Some("unavailable")));
            assert!(told.answer().is_some_and(|answer| answer.retry_after.is_some()), "{told:?}");
        }
        assert!(for_place < AT_ONCE && for_confirm < AT_ONCE, "{for_place:?}, {for_confirm:?}");
    }
    shop.postgres.restart();
    wait_until_ready(&shop).await;
    assert_eq!(shop.keeper(1).confirm(&hold).await.status(), 200);
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 1, 4]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_ledger_is_away_lives_and_is_not_ready() {
    let mut shop = Shop::open(1);
    assert_eq!(ready(&shop, 0).await, 200);
    shop.postgres.stop();
    let told = shop.keeper(0).get("/readyz").await.expect_status(503);
    assert_eq!(told["dependencies"][0]["state"], "down", "{told}");
    assert_eq!(shop.keeper(0).get("/livez").await.status(), 200);
    shop.postgres.restart();
    until(SOON, "a connection", || match shop.instances[0].ended() {
        None => Ok(()),
        Some(status) => Err(format!("{status}")),
    });
    wait_until_ready(&shop).await;
}

/// TTL 12 s: the hold dies in the outage. It takes a while to make the gap longer than 10 s.
#[tokio::test(flavor = "multi_thread")]
async fn slow_what_dies_in_an_outage_of_20_s_lives_10_s_longer_for_all_instances() {
    let mut shop = Shop::open(3);
    shop.stock("MUG", 5).await;
    let ttl = Duration::from_secs(12);
    let [first, second] = {
        let mut ann = shop.keeper(0);
        [
            ann.place("first", &[("MUG", 1)], ttl).await,
            ann.place("second", &[("MUG", 2)], ttl).await,
        ]
    }
    .map(|told| told.id());
    shop.postgres.stop();
    SystemClock.sleep(Duration::from_secs(20)).await;
    shop.postgres.restart();
    wait_until_ready(&shop).await;
    assert_eq!(shop.units(0, "MUG").await, [5, 3, 0, 2]);
    assert_eq!(shop.keeper(1).confirm(&first).await.status(), 200);
    assert_eq!(shop.count("SELECT cardinality(graces) / 3 FROM ledger"), 1);
    assert_eq!(shop.count("SELECT graces[3] - graces[2] FROM ledger"), 10_000);

    let mut until_when = Vec::new();
    for n in 0..3 {
        let hold = shop.keeper(n).get(&format!("/v1/holds/{second}")).await.expect_status(200);
        until_when.push(hold["expires_at"].clone());
    }
    assert!(until_when.iter().all(|at| at == &until_when[0]), "{until_when:?}");
    shop.pass(Duration::from_secs(10));
    assert_eq!(shop.keeper(2).confirm(&second).await.code(), Some("hold_expired"));
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 1, 4]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_go_on_by_themselves_after_an_outage() {
    let mut shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    for seconds in [1, 5] {
        crowd.wait_for_sales(40);
        shop.postgres.stop();
        SystemClock.sleep(Duration::from_secs(seconds)).await;
        shop.postgres.restart();
    }
    crowd.wait_for_sales(40);
    assert_eq!(shop.count("SELECT cardinality(graces) / 3 FROM ledger"), 1);
    crowd.leave_all_well(&shop).await;
}
