//! Row 14: what Postgres replies is lost, and nobody knows what was done.

use std::time::Duration;

use stockhold_testkit::{
    PostgresServer, Proxy, Recorder, ServerProcess, history::Rest, proxy::Direction, until,
};

use super::crowd::{Crowd, expect_plain_refusals, fill, settle, unanswered};
use crate::{shop::Shop, shopper::Shopper};

const TTL: Duration = Duration::from_secs(30);
/// As it stands in both directions: the whole request, and the tag of its reply.
const COMMIT: &[u8] = b"COMMIT\0";
const TRIES: usize = 20;
/// A sweeper may ask for something just then, and lose its own commit.
const MOST: usize = 15;

/// A shop whose only instance reaches Postgres by a proxy.
fn shop_behind_a_proxy() -> (Shop, Proxy) {
    let (mut shop, proxy) = shop_beside_a_proxy(0);
    shop.url = shop.postgres.url_at(proxy.address());
    shop.join(|_| ());
    (shop, proxy)
}

/// A shop with so many instances that do not need the proxy.
fn shop_beside_a_proxy(instances: usize) -> (Shop, Proxy) {
    let shop = Shop::open_on(PostgresServer::start(), instances);
    let proxy = Proxy::start(shop.postgres.socket().as_path());
    (shop, proxy)
}

/// Loses the nth such piece, and returns when it is lost.
fn lose(proxy: &Proxy, way: Direction, what: &[u8], nth: u32) {
    proxy.lose(way, what, nth);
    until(Duration::from_secs(10), "a loss", || proxy.has_lost().then_some(()).ok_or("not yet"));
}

/// How often a batch had to be looked up.
fn lookups(instance: &ServerProcess) -> usize {
    instance.log().matches("the outcome of a batch is unknown").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_reply_is_lost_is_found_and_answered() {
    let (shop, proxy) = shop_behind_a_proxy();
    shop.stock("MUG", 100).await;
    let recorder = std::sync::Arc::new(Recorder::new("ann"));
    let mut ann = Shopper::recorded(shop.address(0), &recorder);
    for n in 0..TRIES {
        proxy.lose(Direction::Replies, COMMIT, 1);
        assert_eq!(ann.place(&format!("{n}"), &[("MUG", 1)], TTL).await.status(), 201);
    }
    let lookups = lookups(&shop.instances[0]);
    assert!((MOST..=TRIES).contains(&lookups), "{lookups} replies were lost");
    proxy.heal();
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 20);
    recorder.history().expect_clean(&shop.account(&[("MUG", 100)]), Rest::Busy);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_arrives_is_told_as_unknown_and_done_once_under_its_key() {
    let (shop, proxy) = shop_behind_a_proxy();
    shop.stock("MUG", 100).await;
    let recorder = std::sync::Arc::new(Recorder::new("ann"));
    let mut ann = Shopper::recorded(shop.address(0), &recorder);
    let mut unknown = 0;
    for n in 0..TRIES {
        proxy.lose(Direction::Requests, COMMIT, 1);
        let told = ann.place(&format!("{n}"), &[("MUG", 1)], TTL).await;
        proxy.heal();
        if told.status() == 503 {
            unknown += 1;
            let again = ann.place(&format!("{n}"), &[("MUG", 1)], TTL).await;
            assert_eq!(again.expect_status(201)["state"], "active");
        } else {
            assert_eq!(told.status(), 201);
        }
    }
    assert!((MOST..=TRIES).contains(&unknown), "{unknown} commits were lost");
    assert_eq!(shop.count("SELECT count(*) FROM hold"), 20);
    recorder.history().expect_clean(&shop.account(&[("MUG", 100)]), Rest::Busy);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_who_lose_replies_get_what_they_bought_once() {
    let (mut shop, proxy) = shop_beside_a_proxy(1);
    shop.url = shop.postgres.url_at(proxy.address());
    shop.join(|_| ());
    let crowd = Crowd::gather(&shop, 12).await;
    for n in [1, 3, 7, 12, 20] {
        for way in [Direction::Replies, Direction::Requests] {
            crowd.wait_for_sales(30);
            lose(&proxy, way, COMMIT, n);
        }
    }
    for _ in 0..2 {
        proxy.swallow_replies();
        crowd.wait_for_sales(30);
        shop.keeper(1).get("/readyz").await.expect_status(503);
        proxy.heal();
        crowd.wait_for_sales(30);
    }
    crowd.leave_all_well(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_the_shop_that_is_lost_is_told_again_under_the_same_key() {
    let shop = Shop::open(1);
    fill(&shop).await;
    let address: std::net::SocketAddr = shop.address(0).parse().unwrap();
    let proxy = Proxy::start(address);
    let crowd = Crowd::at(vec![proxy.address().to_string()], 8);
    for _ in 0..8 {
        crowd.wait_for_sales(10);
        lose(&proxy, Direction::Replies, b"\"state\"", 5);
    }
    crowd.wait_for_sales(10);
    let history = crowd.leave().await;
    assert!(unanswered(&history) >= 8);
    settle(&shop);
    history.expect_clean(&shop.account(&super::crowd::SUPPLY), Rest::Settled);
    expect_plain_refusals(&history);
    shop.expect_sound();
}
