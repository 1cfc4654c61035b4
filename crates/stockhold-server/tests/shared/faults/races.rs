//! Row 23: Postgres says that another transaction was first, though there was none.

use std::time::Duration;

use super::crowd::Crowd;
use crate::shop::Shop;

const TTL: Duration = Duration::from_secs(30);

/// Makes the writes of a batch fail with this state for which `when` is true. The sequence `tries`
/// counts them, also those that were undone.
fn fail(shop: &Shop, when: &str, sqlstate: &str) {
    shop.sql(&format!(
        "CREATE SEQUENCE IF NOT EXISTS tries; \
         CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('tries') {when} THEN \
                 RAISE EXCEPTION 'injected' USING ERRCODE = '{sqlstate}'; \
             END IF; \
             RETURN NEW; \
         END $$; \
         CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON batch FOR EACH ROW EXECUTE FUNCTION fail()"
    ));
}

/// What an instance counts.
async fn races(shop: &Shop, n: usize) -> u64 {
    let told = shop.keeper(n).text("/metrics").await;
    let line = told.lines().find(|line| line.starts_with("stockhold_races_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_notice_nothing_of_deadlocks_and_serialization_failures() {
    let shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    for sqlstate in ["40001", "40P01"] {
        fail(&shop, "% 3 = 0", sqlstate);
        crowd.wait_for_sales(60);
    }
    shop.sql("DROP TRIGGER fail ON batch");
    let mut counted = 0;
    for n in 0..3 {
        counted += races(&shop, n).await;
    }
    assert!(counted >= 20, "{counted} were counted");
    let account = crowd.leave_all_well(&shop).await;
    assert!(account.sales.len() >= 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_always_comes_second_is_given_up_after_eight_attempts() {
    let shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    fail(&shop, "> 0", "40001");
    let told = shop.keeper(0).place("ann", &[("MUG", 1)], TTL).await;
    assert_eq!((told.status(), told.code()), (503, Some("unavailable")));
    assert_eq!(shop.count("SELECT last_value FROM tries"), 8);
    shop.sql("DROP TRIGGER fail ON batch");
    assert_eq!(shop.keeper(0).place("ann", &[("MUG", 1)], TTL).await.status(), 201);
    assert_eq!(shop.units(0, "MUG").await, [5, 1, 0, 4]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_fails_twice_is_done_once_and_counted_twice() {
    let shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    fail(&shop, "< 3", "40P01");
    let before = races(&shop, 0).await;
    let told = shop.keeper(0).place("ann", &[("MUG", 1)], TTL).await;
    assert_eq!(told.status(), 201);
    assert_eq!(races(&shop, 0).await - before, 2);
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 1);
    shop.expect_sound();
}
