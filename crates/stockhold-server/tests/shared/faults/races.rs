//! Row 23: Postgres says that another transaction was first, though there was none; or there was one.

use std::time::Duration;

use stockhold_testkit::{PostgresServer, until};
use tokio::runtime::Handle;

use super::crowd::Crowd;
use crate::shop::Shop;

const SOON: Duration = Duration::from_secs(10);
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
    let judged = crowd.leave_all_well(&shop).await;
    assert!(judged.account.sales.len() >= 120);
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
async fn a_place_that_fails_twice_is_done_once_under_one_id_and_counted_twice() {
    let shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    fail(&shop, "< 3", "40P01");
    tell_holds(&shop);
    let before = races(&shop, 0).await;
    let told = shop.keeper(0).place("ann", &[("MUG", 1)], TTL).await;
    assert_eq!(told.status(), 201);
    assert_eq!(races(&shop, 0).await - before, 2);
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 1);
    assert_eq!(told_holds(&shop), [told.id(), told.id(), told.id()]);
    shop.expect_sound();
}

/// Lets Postgres log every hold that is written, also those that are undone.
fn tell_holds(shop: &Shop) {
    shop.sql(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE LOG 'a hold: %', NEW.id; \
             RETURN NEW; \
         END $$; \
         CREATE TRIGGER tell BEFORE INSERT ON hold FOR EACH ROW EXECUTE FUNCTION tell()",
    );
}

fn told_holds(shop: &Shop) -> Vec<String> {
    let log = shop.postgres.log();
    log.lines().filter_map(|line| Some(line.split_once("a hold: ")?.1.to_owned())).collect()
}

/// Somebody locks the rows of a basket by hand, in the other order. Whoever has waited for 50 ms looks
/// whether the other one waits as well; the one by hand does so much later.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_in_a_deadlock_is_done_once_and_counted() {
    const BY_HAND: &str = "BEGIN; SET LOCAL deadlock_timeout = '10s'; \
        SELECT FROM stock WHERE sku = 'B' FOR UPDATE; \
        DO $$ BEGIN \
            WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP \
                PERFORM pg_sleep(0.001); \
            END LOOP; \
        END $$; \
        SELECT FROM stock WHERE sku = 'A' FOR UPDATE; COMMIT";
    let server = PostgresServer::set_up().with("deadlock_timeout", "50ms");
    let shop = Shop::open_on(server.start(), 1);
    shop.stock("A", 5).await;
    shop.stock("B", 5).await;
    let (before, mut ann) = (races(&shop, 0).await, shop.keeper(0));
    let told = std::thread::scope(|scope| {
        let by_hand = scope.spawn(|| shop.sql(BY_HAND));
        let locks =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; SET LOCAL dead%'";
        until(SOON, "a lock by hand", || (shop.count(locks) == 1).then_some(()).ok_or("none"));
        let place = ann.place("ann", &[("A", 1), ("B", 1)], TTL);
        let told = tokio::task::block_in_place(|| Handle::current().block_on(place));
        by_hand.join().unwrap();
        told
    });
    assert_eq!(told.status(), 201, "{told:?}");
    assert_eq!(shop.postgres.log().matches("deadlock detected").count(), 1);
    assert_eq!(races(&shop, 0).await - before, 1);
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 1);
    for sku in ["A", "B"] {
        assert_eq!(shop.units(0, sku).await, [5, 1, 0, 4]);
    }
    shop.expect_sound();
}
