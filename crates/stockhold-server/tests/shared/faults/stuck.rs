//! Row 20: Postgres is slow, or somebody else sits on a row.

use std::time::Duration;

use stockhold_testkit::{Proxy, proxy::Direction};

use super::crowd::Crowd;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_go_on_while_a_row_is_locked_for_5_s() {
    let shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(40);
    let lock = "BEGIN; SELECT FROM stock WHERE sku = 'MUG' FOR UPDATE; SELECT pg_sleep(5); COMMIT";
    std::thread::scope(|scope| {
        let locking = scope.spawn(|| shop.sql(lock));
        let sold = crowd.sold();
        crowd.wait_for_sales(10);
        assert!(
            !locking.is_finished(),
            "{} were sold, none of them meanwhile",
            crowd.sold() - sold
        );
    });
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
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
