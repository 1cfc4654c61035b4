//! Mistakes made on purpose: what the other stories check for is found when it is there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use stockhold::bug::Bug;
use stockhold_testkit::{PostgresServer, Proxy, Recorder, history::Rest, proxy::Direction};
use tokio::task::JoinSet;

use crate::{shop::Shop, shopper::Shopper};

const TTL: Duration = Duration::from_secs(30);

/// A shop behind a proxy, whose only instance makes a mistake.
fn shop_with(bug: Bug) -> (Shop, Proxy) {
    let mut shop = Shop::open_on(PostgresServer::start(), 0);
    let proxy = Proxy::start(shop.postgres.socket().as_path());
    shop.url = shop.postgres.url_at(proxy.address());
    shop.join(|command| {
        command.env("STOCKHOLD_BUG", bug.name());
    });
    (shop, proxy)
}

/// The rules that the shop has broken.
fn broken(shop: &Shop, recorder: &Recorder, supply: &[(&str, i64)]) -> BTreeSet<&'static str> {
    let found = recorder.history().check(&shop.account(supply), Rest::Busy);
    found.iter().map(|violation| violation.rule()).collect()
}

/// Places and confirms ten units one by one, while commits are lost on this way.
async fn buy_ten(shop: &Shop, proxy: &Proxy, way: Direction) -> Arc<Recorder> {
    shop.stock("MUG", 100).await;
    let recorder = Arc::new(Recorder::new("ann"));
    let mut ann = Shopper::recorded(shop.address(0), &recorder);
    for n in 0..10 {
        proxy.heal();
        let hold = ann.place(&format!("{n}"), &[("MUG", 1)], TTL).await.id();
        proxy.lose(way, b"COMMIT\0", 1);
        ann.confirm(&hold).await;
    }
    proxy.heal();
    recorder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_answers_before_its_commit_is_found_to_lose_sales() {
    let (shop, proxy) = shop_with(Bug::AckBeforeCommit);
    let recorder = buy_ten(&shop, &proxy, Direction::Requests).await;
    assert_eq!(broken(&shop, &recorder, &[("MUG", 100)]), BTreeSet::from(["C1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_tells_the_unknown_as_refused_is_found_to_sell_unasked() {
    let (shop, proxy) = shop_with(Bug::ForgetUnknown);
    let recorder = buy_ten(&shop, &proxy, Direction::Replies).await;
    assert_eq!(broken(&shop, &recorder, &[("MUG", 100)]), BTreeSet::from(["C1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_locks_nothing_is_found_to_oversell() {
    let mut shop = Shop::open(0);
    for _ in 0..4 {
        shop.join(|command| {
            command.env("STOCKHOLD_BUG", Bug::NoLock.name());
        });
    }
    shop.stock("MUG", 20).await;
    let recorder = Arc::new(Recorder::new("rush"));
    let mut rush = JoinSet::new();
    for n in 0..16 {
        let mut shopper = Shopper::recorded(shop.address(n), &recorder);
        rush.spawn(async move {
            for round in 0..20 {
                shopper.place(&format!("{n}-{round}"), &[("MUG", 1)], TTL).await;
            }
        });
    }
    rush.join_all().await;
    let broken = broken(&shop, &recorder, &[("MUG", 20)]);
    assert!(broken.contains("C2") && broken.contains("C6"), "{broken:?}");
    assert_eq!(shop.verify().status.code(), Some(5));
}
