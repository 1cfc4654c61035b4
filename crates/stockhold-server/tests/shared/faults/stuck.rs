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
/// As long as somebody may be held up by a lock that is not known yet.
const WAIT: Duration = Duration::from_millis(1_500);
/// As long as most take.
const QUICK: Duration = Duration::from_millis(250);

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
    let begun = SystemClock.boot();
    let mut buys = Vec::new();
    while locking.try_wait().unwrap().is_none() {
        buys.push(buy_tee(&shop, &crowd, buys.len()).await);
    }
    assert!(locking.wait().unwrap().success());
    let shed: Vec<_> = buys.iter().filter(|buy| buy.shed).map(|buy| buy.at - begun).collect();
    let places: Vec<_> = buys.iter().map(|buy| buy.for_place).collect();
    let confirms: Vec<_> = buys.iter().filter_map(|buy| buy.for_confirm).collect();
    // Before an instance knows of the lock, a lane waits for it once; what comes meanwhile is sent away.
    assert!(shed.iter().all(|after| *after < WAIT), "{shed:?}");
    for (what, times) in [("place", places), ("confirm", confirms)] {
        assert!(times.len() > 100, "{} of {what} prove nothing", times.len());
        let (p99, longest) = p99_and_longest(times);
        assert!(p99 < QUICK && longest < WAIT, "{what}: p99 {p99:?}, longest {longest:?}");
    }
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
}

const LOCK: &str =
    "BEGIN; SELECT FROM stock WHERE sku = 'MUG' FOR UPDATE; SELECT pg_sleep(5); COMMIT";

struct Buy {
    at: Duration,
    shed: bool,
    for_place: Duration,
    for_confirm: Option<Duration>,
}

/// Places and confirms, unless it is sent away because a lane waits for the lock.
async fn buy_tee(shop: &Shop, crowd: &Crowd, n: usize) -> Buy {
    let (at, mut ann) = (SystemClock.boot(), crowd.another(shop.address(n)));
    let (placed, for_place) = timed(ann.place(&format!("ann-{n}"), &[("TEE", 1)], TTL)).await;
    if placed.code() == Some("overloaded") {
        return Buy { at, shed: true, for_place, for_confirm: None };
    }
    let (confirmed, for_confirm) = timed(ann.confirm(&placed.id())).await;
    confirmed.expect_status(200);
    Buy { at, shed: false, for_place, for_confirm: Some(for_confirm) }
}

fn p99_and_longest(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() * 99 / 100], times[times.len() - 1])
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
