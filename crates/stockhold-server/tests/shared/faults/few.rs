//! Row 22: few connections, and sessions that change under one's hands.

use stockhold_testkit::{PgBouncer, PostgresServer};

use super::crowd::Crowd;
use crate::shop::Shop;

/// Who may not have the connections that are kept for administrators.
const ROLE: &str = "CREATE ROLE clerk LOGIN; GRANT CREATE ON SCHEMA public TO clerk";

#[tokio::test(flavor = "multi_thread")]
async fn slow_four_instances_share_seven_connections() {
    let postgres = PostgresServer::set_up().with("max_connections", 10);
    let mut shop = Shop::open_on(postgres.with("superuser_reserved_connections", 3).start(), 0);
    shop.sql(ROLE);
    shop.url = shop.url.replace("postgres@", "clerk@");
    for _ in 0..4 {
        shop.join(|command| {
            command.env("STOCKHOLD_LEDGER_CONNECTIONS", "3");
        });
    }
    let crowd = Crowd::gather(&shop, 40).await;
    crowd.wait_for_sales(200);
    let log = shop.postgres.log();
    assert!(log.contains("remaining connection slots are reserved"), "there were enough");
    crowd.leave_all_well(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_work_through_a_pooler_in_transaction_mode() {
    let mut shop = Shop::open(0);
    let pooler = PgBouncer::start(&shop.postgres, 2);
    shop.url = shop.postgres.url_at(pooler.address());
    for _ in 0..3 {
        shop.join(|_| ());
    }
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(100);
    let sessions = "SELECT count(*) FROM pg_stat_activity \
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert!(shop.count(sessions) <= 2);
    crowd.leave_all_well(&shop).await;
}
