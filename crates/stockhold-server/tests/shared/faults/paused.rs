//! Row 25: an instance stands still for longer than holds live, and then goes on as if nothing had
//! happened.

use std::{sync::Arc, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, Proxy, Recorder, history::Rest, proxy::Direction, until};

use super::crowd::Crowd;
use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

const SOON: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(1);

/// A shop whose last instance reaches Postgres by a proxy.
fn shop_with_a_proxy(instances: usize) -> (Shop, Proxy) {
    let mut shop = Shop::open_on(PostgresServer::start(), instances - 1);
    let proxy = Proxy::start(shop.postgres.socket().as_path());
    shop.url = shop.postgres.url_at(proxy.address());
    shop.join(|_| ());
    (shop, proxy)
}

/// The last instance stands still when it has placed a hold and nobody was told of it. What it says
/// when it goes on.
async fn become_a_zombie(
    shop: &mut Shop,
    proxy: &Proxy,
    mut zombie: Shopper,
) -> tokio::task::JoinHandle<Told> {
    // Nothing that it asks for is answered as fast as it is done.
    proxy.delay(Direction::Replies, Duration::from_millis(300));
    let asked = tokio::spawn(async move { zombie.place("zombie", &[("MUG", 1)], TTL).await });
    until(SOON, "a hold", || {
        match shop.count("SELECT count(*) FROM hold WHERE owner = 'zombie'") {
            1 => Ok(()),
            n => Err(format!("{n}")),
        }
    });
    shop.instances.last_mut().unwrap().pause();
    proxy.heal();
    asked
}

fn expect_no_grant(told: &Told) {
    assert!(matches!(told.code(), Some("hold_ended" | "unavailable")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_does_not_tell_of_a_grant_that_is_over() {
    let (mut shop, proxy) = shop_with_a_proxy(2);
    shop.stock("MUG", 1).await;
    let recorder = Arc::new(Recorder::new("two"));
    let [mut ben, ann] = [0, 1].map(|n| Shopper::recorded(shop.address(n), &recorder));
    let asked = become_a_zombie(&mut shop, &proxy, ann).await;
    let end = SystemClock.boot() + SOON;
    for n in 0.. {
        if ben.place(&format!("ben-{n}"), &[("MUG", 1)], SOON * 10).await.status() == 201 {
            break;
        }
        assert!(SystemClock.boot() < end, "the hold of the zombie does not die");
    }
    shop.instances[1].resume();
    expect_no_grant(&asked.await.unwrap());
    assert_eq!(shop.units(0, "MUG").await, [1, 1, 0, 0]);
    recorder.history().expect_clean(&shop.account(&[("MUG", 1)]), Rest::Busy);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_are_told_no_lies_by_an_instance_that_stands_still_for_40_s() {
    let (mut shop, proxy) = shop_with_a_proxy(3);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(20);
    let ann = crowd.another(shop.address(2));
    let asked = become_a_zombie(&mut shop, &proxy, ann).await;
    let end = SystemClock.boot() + Duration::from_secs(40);
    crowd.wait_for_sales(40);
    SystemClock.sleep(end.saturating_sub(SystemClock.boot())).await;
    shop.instances[2].resume();
    expect_no_grant(&asked.await.unwrap());
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_are_told_no_lies_by_instances_that_stand_still_now_and_then() {
    let mut shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    for n in [0, 1, 2, 0] {
        crowd.wait_for_sales(20);
        shop.instances[n].pause();
        // Longer than a hold of these customers lives.
        SystemClock.sleep(super::crowd::TTL + Duration::from_millis(300)).await;
        shop.instances[n].resume();
    }
    crowd.wait_for_sales(20);
    crowd.leave_all_well(&shop).await;
}
