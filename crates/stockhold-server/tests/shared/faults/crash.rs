//! Row 24: an instance ends at every point of its work. Never is more promised than there is, and
//! what its end has left behind is free again when its time is over.

use std::{io::Write, time::Duration};

use stockhold::crash::Point;
use stockhold_testkit::{ServerProcess, until};

use super::crowd::Crowd;
use crate::{
    shop::{Shop, stockhold},
    shopper::Shopper,
};

const TTL: Duration = Duration::from_secs(30);

/// The points on the way of a place, in their order.
const WAY: [Point; 7] = [
    Point::AfterBegin,
    Point::AfterLocks,
    Point::BeforeWrite,
    Point::AfterWrite,
    Point::BeforeCommit,
    Point::AfterCommit,
    Point::BeforeReply,
];

/// It ends by itself.
fn wait_for_end(instance: &mut ServerProcess) {
    until(Duration::from_secs(20), "the end of an instance", || instance.ended().ok_or("it runs"));
}

#[test]
#[should_panic(expected = "it is <point>[:<n>] of after-begin, after-locks")]
fn an_instance_with_an_unknown_point_does_not_start() {
    let mut shop = Shop::open(0);
    shop.join(|command| {
        command.env("STOCKHOLD_CRASH_AT", "somewhere");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_whose_instance_ends_at_any_point_is_done_once_by_a_retry() {
    let shop = Shop::open(1);
    for point in WAY {
        let sku = point.name();
        shop.stock(sku, 5).await;
        let mut doomed = shop.doomed(point, 1);
        let mut ann = Shopper::new(doomed.address());
        assert_eq!(ann.place(sku, &[(sku, 1)], TTL).await.status(), 0, "{sku}");
        wait_for_end(&mut doomed);

        let was_done = matches!(point, Point::AfterCommit | Point::BeforeReply);
        let held = if was_done { [5, 1, 0, 4] } else { [5, 0, 0, 5] };
        assert_eq!(shop.units(0, sku).await, held, "{sku}");
        ann.turn_to(shop.address(0));
        let again = ann.place(sku, &[(sku, 1)], TTL).await;
        assert_eq!(again.answer().map(|answer| answer.replayed), Some(was_done), "{sku}");
        assert_eq!(shop.units(0, sku).await, [5, 1, 0, 4], "{sku}");
    }
    shop.pass(TTL);
    until(Duration::from_secs(10), "all to be free", || {
        match shop.count("SELECT sum(held) FROM stock") {
            0 => Ok(()),
            held => Err(format!("{held} are held")),
        }
    });
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_lose_nothing_when_instances_end_at_every_point() {
    let mut shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    let points = WAY.into_iter().chain([Point::InSweep]);
    for (n, point) in points.enumerate() {
        let mut doomed = shop.doomed(point, 1 + u32::try_from(n).unwrap() * 3);
        crowd.moved(0, doomed.address());
        // Whoever asks there asks elsewhere now.
        shop.instances[0].kill();
        wait_for_end(&mut doomed);
        shop.instances[0] = doomed;
    }
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_whose_note_is_cut_short_is_noted_by_the_next_instance() {
    let mut shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    let ttl = Duration::from_secs(5);
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], ttl).await.id();
    let mut doomed = shop.doomed(Point::InOutage, 1);
    shop.instances[0].kill();
    // Time passes without a sign of life.
    shop.sql("UPDATE test_clock SET ahead = ahead + 9000");
    wait_for_end(&mut doomed);
    assert_eq!(shop.count("SELECT cardinality(graces) FROM ledger"), 0);
    shop.join(|_| ());
    assert_eq!(shop.keeper(1).confirm(&hold).await.status(), 200);
    assert_eq!(shop.count("SELECT cardinality(graces) / 3 FROM ledger"), 1);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_cut_short_is_completed_by_doing_it_again() {
    let shop = Shop::open(1);
    let mut doomed = shop.doomed(Point::InImport, 2);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for n in 0..1_700 {
        writeln!(file, "{{\"sku\":\"S{n}\",\"on_hand\":7}}").unwrap();
    }
    let import = |address: &str| {
        let url = format!("http://{address}");
        let path = file.path().to_str().unwrap();
        stockhold(&["stock", "import", path, "--url", &url]).output().unwrap()
    };
    assert!(!import(doomed.address()).status.success());
    wait_for_end(&mut doomed);
    assert_eq!(shop.count("SELECT count(*) FROM stock"), 1_000);
    let done = import(shop.address(0));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(shop.count("SELECT count(*) FROM stock WHERE on_hand = 7 AND version = 1"), 1_700);
    shop.expect_sound();
}
