//! Row 24: an instance ends at every point of its work.

use std::time::Duration;

use stockhold::crash::Point;
use stockhold_testkit::{ServerProcess, until};

use crate::{shop::Shop, shopper::Shopper};

const TTL: Duration = Duration::from_secs(30);

/// Whether this instance has ended by itself.
pub(crate) fn wait_for_end(instance: &mut ServerProcess) {
    until(Duration::from_secs(10), "the end of an instance", || instance.ended().ok_or("it runs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_ends_at_the_point_that_its_variable_names() {
    let shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    let mut doomed = shop.doomed(Point::AfterCommit, 2);
    let mut ann = Shopper::new(doomed.address());
    assert_eq!(ann.place("first", &[("MUG", 1)], TTL).await.status(), 201);
    assert_eq!(ann.place("second", &[("MUG", 1)], TTL).await.status(), 0);
    wait_for_end(&mut doomed);
    assert_eq!(shop.units(0, "MUG").await, [5, 2, 0, 3]);
}

#[test]
#[should_panic(expected = "it is <point>[:<n>] of after-begin, after-locks")]
fn an_instance_with_an_unknown_point_does_not_start() {
    let mut shop = Shop::open(0);
    shop.join(|command| {
        command.env("STOCKHOLD_CRASH_AT", "somewhere");
    });
}
