//! Row 19: a standby takes the place of Postgres, while customers buy.

use std::{sync::Arc, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{
    History, PostgresServer, Recorder,
    history::{Outcome, Rest},
    postgres::Replication,
    until,
};

use super::crowd::{Crowd, TTL};
use crate::{shop::Shop, shopper::Shopper};

/// A shop with a standby, whose instances look for whichever of the two may be written.
fn shop_with_standby(replication: Replication, instances: usize) -> (Shop, PostgresServer) {
    let mut primary = PostgresServer::set_up().with_tcp().start();
    let standby = PostgresServer::standby_of(&mut primary, replication);
    let [one, other] = [&primary, &standby].map(|server| server.address().unwrap());
    let mut shop = Shop::open_on(primary, 0);
    shop.url =
        format!("postgres://postgres@{one},{other}/postgres?target_session_attrs=read-write");
    for _ in 0..instances {
        shop.join(|_| ());
    }
    (shop, standby)
}

/// The primary stands still, and the standby takes over. The old one is kept, or it would go on.
fn fail_over(shop: &mut Shop, standby: PostgresServer) -> PostgresServer {
    shop.postgres.pause();
    standby.promote();
    std::mem::replace(&mut shop.postgres, standby)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_failover_to_a_synchronous_standby_loses_nothing_that_was_answered() {
    let (mut shop, standby) = shop_with_standby(Replication::Synchronous, 3);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(60);
    let _old = fail_over(&mut shop, standby);
    crowd.wait_for_sales(60);
    crowd.leave_all_well(&shop).await;
    for instance in &shop.instances {
        assert!(!instance.log().contains("has lost batches"), "{}", instance.log());
    }
}

/// Who waits for the standby now, and what for.
const WAITING: &str = "SELECT pid, query FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
/// Nobody waits for it any more.
const CANCEL: &str = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
    WHERE wait_event = 'SyncRep'";

fn wait_for_a_wait(shop: &Shop, what_for: &str) {
    until(Duration::from_secs(10), "a commit that waits", || match shop.sql(WAITING) {
        waiting if waiting.contains(what_for) => Ok(()),
        waiting => Err(waiting),
    });
}

/// Postgres has committed it by itself then: whether a standby has it is not known before what looks
/// it up was waited for.
#[tokio::test(flavor = "multi_thread")]
async fn slow_a_commit_whose_wait_for_the_standby_is_cancelled_is_not_answered_before_it_has_it() {
    let (shop, mut standby) = shop_with_standby(Replication::Synchronous, 1);
    shop.stock("MUG", 5).await;
    let recorder = Arc::new(Recorder::new("ann"));
    let asked = |key: &'static str| {
        let mut ann = Shopper::recorded(shop.address(0), &recorder);
        tokio::spawn(async move { ann.place(key, &[("MUG", 1)], TTL * 100).await })
    };

    standby.pause();
    let first = asked("first");
    wait_for_a_wait(&shop, "COMMIT");
    shop.sql(CANCEL);
    wait_for_a_wait(&shop, "UPDATE batch");
    assert!(!first.is_finished(), "it was answered before the standby had it");
    standby.resume();
    assert_eq!(first.await.unwrap().status(), 201);
    assert!(shop.instances[0].log().contains("a commit did not wait for the standby"));

    standby.pause();
    let second = asked("second");
    wait_for_a_wait(&shop, "COMMIT");
    while !second.is_finished() {
        shop.sql(CANCEL);
    }
    let told = second.await.unwrap();
    assert_eq!((told.status(), told.code()), (503, Some("unavailable")));
    let metrics = shop.keeper(0).text("/metrics").await;
    let mut lines = metrics.lines();
    let counted = lines.find_map(|l| l.strip_prefix("stockhold_unconfirmed_commits_total "));
    assert!(counted.unwrap().parse::<u64>().unwrap() >= 2, "{metrics}");
    standby.resume();
    let again = asked("second").await.unwrap();
    assert_eq!((again.status(), again.is_replayed()), (200, true), "{again:?}");
    assert_eq!(shop.units(0, "MUG").await, [5, 2, 0, 3]);
    recorder.history().expect_clean(&shop.account(&[("MUG", 5)]), Rest::Busy);
    shop.expect_sound();
}

/// A shop that has sold what its new primary does not know of, and what was recorded of it.
async fn shop_that_has_lost_a_sale() -> (Shop, PostgresServer, Recorder) {
    let (mut shop, mut standby) = shop_with_standby(Replication::Asynchronous, 2);
    shop.stock("MUG", 5).await;
    let recorder = Arc::new(Recorder::new("ann"));
    let mut ann = Shopper::recorded(shop.address(0), &recorder);
    let kept = ann.place("kept", &[("MUG", 1)], TTL * 100).await.id();
    ann.confirm(&kept).await.expect_status(200);
    until(Duration::from_secs(5), "a standby that has it", || {
        match standby.try_psql("SELECT count(*) FROM transition") {
            Ok(one) if one == "1" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    standby.reload_with("primary_conninfo", "");
    until(Duration::from_secs(5), "a standby that follows no more", || {
        match shop.count("SELECT count(*) FROM pg_stat_replication") {
            0 => Ok(()),
            n => Err(format!("{n} follow")),
        }
    });
    let lost = ann.place("lost", &[("MUG", 1)], TTL * 100).await.id();
    ann.confirm(&lost).await.expect_status(200);
    let old = fail_over(&mut shop, standby);
    drop(ann);
    (shop, old, Arc::into_inner(recorder).unwrap())
}

fn lost_sales(shop: &Shop, history: &History) -> usize {
    let found = history.check(&shop.account(&[("MUG", 5)]), Rest::Busy);
    found.iter().filter(|violation| violation.rule() == "C1").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_an_instance_notices_that_a_failover_has_lost_what_it_answered_and_sells_no_more() {
    let (mut shop, _old, recorder) = shop_that_has_lost_a_sale().await;
    assert_eq!(lost_sales(&shop, &recorder.history()), 1, "this test would prove nothing");
    until(Duration::from_secs(20), "an alarm", || {
        if shop.instances[0].log().contains("Postgres has lost batches") {
            Ok(())
        } else {
            Err("none")
        }
    });
    let mut ann = shop.keeper(0);
    let told = ann.place("more", &[("MUG", 1)], TTL).await;
    assert_eq!((told.status(), told.code()), (503, Some("unavailable")));
    let ready = ann.get("/readyz").await.expect_status(503);
    assert_eq!(ready["dependencies"][0]["state"], "lost", "{ready}");
    let metrics = ann.text("/metrics").await;
    let lost = metrics.lines().find_map(|line| line.strip_prefix("stockhold_lost_batches "));
    assert!(lost.is_some_and(|lost| lost != "0"), "{metrics}");

    // The other one has answered nothing that is lost.
    let mut ben = shop.keeper(1);
    let end = SystemClock.boot() + Duration::from_secs(20);
    while ben.get("/readyz").await.status() != 200 {
        assert!(SystemClock.boot() < end, "the other one is not ready");
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ben.place("other", &[("MUG", 1)], TTL).await.status(), 201);

    // Somebody has looked at it, and starts the instance again.
    shop.instances[0].stop();
    shop.join(|_| ());
    assert_eq!(shop.keeper(2).place("again", &[("MUG", 1)], TTL).await.status(), 201);
    assert!(recorder.history().events().iter().all(|event| event.result != Outcome::Unknown));
    shop.expect_sound();
}
