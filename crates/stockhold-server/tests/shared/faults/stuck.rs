//! Row 20: Postgres is slow, or somebody else sits on a row.

use std::{process::Stdio, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{Proxy, proxy::Direction, until};

use super::crowd::{Crowd, timed};
use crate::shop::Shop;

/// Whoever holds a lock and sleeps.
const SLEEPING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
const SOON: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn slow_other_items_are_sold_while_a_row_is_locked_for_5_s() {
    let shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(40);
    let postgres = shop.postgres.url();
    let mut lock = std::process::Command::new("psql");
    lock.arg(postgres).args(["-qc", LOCK]).stdout(Stdio::null());
    let mut locking = lock.spawn().unwrap();
    until(SOON, "a lock", || match shop.count(SLEEPING) {
        1 => Ok(()),
        n => Err(format!("{n} sleep")),
    });
    let mut longest = Duration::ZERO;
    for n in 0..12 {
        longest = longest.max(buy_tee(&shop, &crowd, n).await);
    }
    assert!(locking.try_wait().unwrap().is_none(), "that took too long");
    assert!(longest < Duration::from_millis(1_500), "somebody waited for {longest:?}");
    assert!(locking.wait().unwrap().success());
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
}

const LOCK: &str =
    "BEGIN; SELECT FROM stock WHERE sku = 'MUG' FOR UPDATE; SELECT pg_sleep(5); COMMIT";

/// Places and confirms; the longer of the two took so long. A place that is too much for a lane that
/// waits for the lock is asked for again.
async fn buy_tee(shop: &Shop, crowd: &Crowd, n: usize) -> Duration {
    let mut ann = crowd.another(shop.address(n));
    let key = format!("ann-{n}");
    let place = async {
        loop {
            let told = ann.place(&key, &[("TEE", 1)], TTL).await;
            if told.code() != Some("overloaded") {
                return told;
            }
            SystemClock.sleep(Duration::from_millis(50)).await;
        }
    };
    let (placed, for_place) = timed(place).await;
    let hold = placed.id();
    let (confirmed, for_confirm) = timed(ann.confirm(&hold)).await;
    confirmed.expect_status(200);
    for_place.max(for_confirm)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_are_served_by_a_slow_postgres() {
    let mut shop = Shop::open(1);
    let proxy = Proxy::start(shop.postgres.socket().as_path());
    shop.url = shop.postgres.url_at(proxy.address());
    shop.join(|_| ());
    shop.join(|_| ());
    let crowd = Crowd::gather(&shop, 12).await;
    for delay in [5, 50, 300] {
        proxy.delay(Direction::Replies, Duration::from_millis(delay));
        crowd.wait_for_sales(30);
    }
    proxy.heal();
    crowd.wait_for_sales(30);
    crowd.leave_all_well(&shop).await;
}
