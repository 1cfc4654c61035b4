//! Row 25: an instance stands still for longer than holds live, and then goes on as if nothing had
//! happened.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{Proxy, proxy::Direction, until};

use super::crowd::Crowd;
use crate::{shop::Shop, shopper::Told};

const SOON: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(1);

/// A hold whose grant nobody was told of, because its instance stood still: what that instance says
/// when it goes on.
async fn answer_of_a_zombie(pause: Duration) -> (Shop, Told) {
    let mut shop = Shop::open(1);
    shop.stock("MUG", 1).await;
    let proxy = Proxy::start(shop.postgres.socket().as_path());
    shop.url = shop.postgres.url_at(proxy.address());
    shop.join(|_| ());
    // Nothing that the zombie asks for is answered as fast as it is done.
    proxy.delay(Direction::Replies, Duration::from_millis(300));
    let mut zombie = shop.keeper(1);
    let asked = tokio::spawn(async move { zombie.place("ann", &[("MUG", 1)], TTL).await });
    until(SOON, "a hold", || match shop.count("SELECT count(*) FROM hold") {
        1 => Ok(()),
        n => Err(format!("{n}")),
    });
    shop.instances[1].pause();
    proxy.heal();
    let begun = SystemClock.boot();
    let mut ben = shop.keeper(0);
    let mut tries = 0;
    while ben.place(&format!("ben-{tries}"), &[("MUG", 1)], SOON * 10).await.status() != 201 {
        tries += 1;
    }
    SystemClock.sleep(pause.saturating_sub(SystemClock.boot().saturating_sub(begun))).await;
    shop.instances[1].resume();
    (shop, asked.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_does_not_tell_of_a_grant_that_is_over() {
    let (shop, told) = answer_of_a_zombie(Duration::ZERO).await;
    assert!(matches!(told.code(), Some("hold_ended" | "unavailable")), "{told:?}");
    assert_eq!(shop.units(0, "MUG").await, [1, 1, 0, 0]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_zombie_does_not_tell_of_a_grant_that_is_over_for_40_s() {
    let (shop, told) = answer_of_a_zombie(Duration::from_secs(40)).await;
    assert!(matches!(told.code(), Some("hold_ended" | "unavailable")), "{told:?}");
    assert_eq!(shop.units(0, "MUG").await, [1, 1, 0, 0]);
    shop.expect_sound();
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
