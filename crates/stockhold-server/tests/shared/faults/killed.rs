//! Row 18: Postgres is killed while customers buy.

use std::time::Duration;

use stockhold_testkit::{PostgresServer, ServerProcess, until};

use super::crowd::{Crowd, Judged, unanswered};
use crate::shop::Shop;

/// A server process of one of the instances.
const A_BACKEND: &str = "SELECT pid FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid LIMIT 1";

fn wait_for_postgres(shop: &Shop) {
    until(Duration::from_secs(30), "Postgres to answer", || shop.postgres.try_psql("SELECT 1"));
}

/// Whether something is killed while a batch commits is chance: it is killed again until it was.
const MOST: usize = 30;

/// How many batches had to be looked up.
fn in_doubt(shop: &Shop) -> usize {
    let logs = shop.instances.iter().map(ServerProcess::log);
    logs.map(|log| log.matches("the outcome of a batch is unknown").count()).sum()
}

/// Postgres was killed in the middle of something: a batch had to be looked up, and somebody was told
/// that nobody knows.
fn expect_in_doubt(shop: &Shop, judged: &Judged) {
    let (in_doubt, unanswered) = (in_doubt(shop), unanswered(&judged.history));
    assert!(in_doubt > 0 && unanswered > 0, "{in_doubt} batches, {unanswered} questions");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_nothing_that_was_answered_is_lost_when_postgres_is_killed() {
    let mut shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    let kills = [PostgresServer::kill, PostgresServer::kill_postmaster, PostgresServer::kill];
    for (n, kill) in kills.into_iter().cycle().take(MOST).enumerate() {
        if n >= kills.len() && in_doubt(&shop) > 0 {
            break;
        }
        crowd.wait_for_sales(40);
        kill(&mut shop.postgres);
        shop.postgres.restart();
    }
    crowd.wait_for_sales(40);
    expect_in_doubt(&shop, &crowd.leave_all_well(&shop).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_nothing_that_was_answered_is_lost_when_a_backend_is_killed() {
    let shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    for n in 0..MOST {
        if n >= 4 && in_doubt(&shop) > 0 {
            break;
        }
        crowd.wait_for_sales(40);
        let pid = shop.count(A_BACKEND);
        shop.postgres.kill_backend(pid.try_into().unwrap());
        wait_for_postgres(&shop);
    }
    crowd.wait_for_sales(40);
    expect_in_doubt(&shop, &crowd.leave_all_well(&shop).await);
}
