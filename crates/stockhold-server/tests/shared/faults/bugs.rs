//! Mistakes made on purpose: what the other stories check for is found when it is there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use stockhold::bug::Bug;
use stockhold_testkit::{
    PostgresServer, Proxy, Recorder,
    history::{Rest, Violation},
    proxy::Direction,
    until,
};
use tokio::task::JoinSet;

use super::crowd::{Crowd, SUPPLY};
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
    rules(&recorder.history().check(&shop.account(supply), Rest::Busy))
}

fn rules(found: &[Violation]) -> BTreeSet<&'static str> {
    found.iter().map(Violation::rule).collect()
}

/// Places and confirms ten units one by one, while commits are lost on this way; fewer if the shop does
/// not go on.
async fn buy_ten(shop: &Shop, proxy: &Proxy, way: Direction) -> Arc<Recorder> {
    shop.stock("MUG", 100).await;
    let recorder = Arc::new(Recorder::new("ann"));
    let mut ann = Shopper::recorded(shop.address(0), &recorder);
    for n in 0..10 {
        proxy.heal();
        let placed = ann.place(&format!("{n}"), &[("MUG", 1)], TTL).await;
        if placed.is_unknown() {
            break;
        }
        proxy.lose(way, b"COMMIT\0", 1);
        ann.confirm(&placed.id()).await;
    }
    proxy.heal();
    recorder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_answers_before_its_commit_is_found_to_lose_sales() {
    let (shop, proxy) = shop_with(Bug::AckBeforeCommit);
    let recorder = buy_ten(&shop, &proxy, Direction::Requests).await;
    assert_eq!(broken(&shop, &recorder, &[("MUG", 100)]), BTreeSet::from(["C1"]));
    // It finds out by itself, when it connects again.
    until(Duration::from_secs(10), "an alarm", || {
        let log = shop.instances[0].log();
        if log.contains("Postgres has lost batches") { Ok(()) } else { Err(log) }
    });
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

/// Whatever breaks in the other stories: if two units too many are promised then, it is seen.
#[tokio::test(flavor = "multi_thread")]
async fn the_crowd_of_the_other_stories_notices_two_units_too_many() {
    let shop = Shop::open(2);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(40);
    // Other rules compare the history with the account, which is a moment younger.
    let is_oversold = || {
        let found = crowd.history().check(&shop.account(&SUPPLY), Rest::Busy);
        found.iter().any(|violation| violation.rule() == "C2")
    };
    assert!(!is_oversold());
    shop.sql("UPDATE stock SET on_hand = on_hand + 2, version = version + 1 WHERE sku = 'HOT'");
    until(Duration::from_secs(20), "an oversell", || is_oversold().then_some(()).ok_or("none"));
}
