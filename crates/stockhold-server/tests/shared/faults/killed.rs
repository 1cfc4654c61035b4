//! Row 18: Postgres is killed while customers buy.

use std::time::Duration;

use stockhold_testkit::until;

use super::crowd::Crowd;
use crate::shop::Shop;

/// A server process of one of the instances.
const A_BACKEND: &str = "SELECT pid FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid LIMIT 1";

fn wait_for_postgres(shop: &Shop) {
    until(Duration::from_secs(30), "Postgres to answer", || shop.postgres.try_psql("SELECT 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_nothing_that_was_answered_is_lost_when_postgres_is_killed() {
    let mut shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    for _ in 0..3 {
        crowd.wait_for_sales(40);
        shop.postgres.kill();
        shop.postgres.restart();
    }
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_nothing_that_was_answered_is_lost_when_a_backend_is_killed() {
    let shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    for _ in 0..4 {
        crowd.wait_for_sales(40);
        let pid = shop.count(A_BACKEND);
        shop.postgres.kill_backend(pid.try_into().unwrap());
        wait_for_postgres(&shop);
    }
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
}
