//! Copies of stock items: who reads them, and how old they may be.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use stockhold::{
    Adjustment, CacheOptions, Engine, Error, FailureKind, IdempotencyKey, Load, LoadMode,
    PlaceRequest, Told,
    cache::Origin,
    clock::{Clock, SystemClock},
    conformance::ask::{self, item},
    ledger::{
        StockQuery,
        postgres::{PostgresLedger, PostgresOptions},
    },
    redis::Redis,
};
use stockhold_core::{HoldId, Rejection, StockView, Timestamp};
use stockhold_testkit::{PostgresServer, RedisServer};

use crate::{
    fixture::Kind,
    shop::{MILLISECOND, SECOND, Shop},
};

/// On hand, held, allocated and available units, as a copy has them.
async fn units(engine: &Engine, sku: &str) -> ([i64; 4], Origin) {
    let (told, view) = engine.stock_at_most(&item(sku), None).await.expect("it is there");
    let item = view.item;
    let units = [item.on_hand, item.held, item.allocated, item.available()];
    (units.map(|units| units.get()), told.origin)
}

on_each_ledger! { one_thread:
    who_has_changed_an_item_reads_no_older_copy
    a_copy_has_what_became_of_holds_that_died
    an_item_that_nobody_knows_is_not_found
    a_list_of_copies_has_what_was_done_here
}

async fn who_has_changed_an_item_reads_no_older_copy(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    for n in 0..5 {
        assert_eq!(units(&shop.engine, "MUG").await, ([10, n, 0, 10 - n], Origin::Source));
        assert_eq!(units(&shop.engine, "MUG").await, ([10, n, 0, 10 - n], Origin::L1));
        shop.hold("ann", &[("MUG", 1)]).await;
    }
    let hold = shop.hold("ben", &[("MUG", 5)]).await;
    assert_eq!(units(&shop.engine, "MUG").await.0, [10, 10, 0, 0]);
    shop.release(hold).await.expect("it is released");
    assert_eq!(units(&shop.engine, "MUG").await.0, [10, 5, 0, 5]);
    // What changes nothing takes nothing away.
    assert!(shop.place("eve", &[("MUG", 6)]).await.is_err());
    assert_eq!(units(&shop.engine, "MUG").await, ([10, 5, 0, 5], Origin::L1));
    shop.finish().await;
}

async fn a_copy_has_what_became_of_holds_that_died(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    shop.create("HAT", 1).await;
    shop.hold("ann", &[("MUG", 1), ("HAT", 1)]).await;
    assert_eq!(units(&shop.engine, "HAT").await.0, [1, 1, 0, 0]);
    shop.pass(31 * SECOND).await;
    // Ben's hold reclaims the mug, and so frees the hat.
    shop.hold("ben", &[("MUG", 1)]).await;
    assert_eq!(units(&shop.engine, "HAT").await.0, [1, 0, 0, 1]);
    shop.finish().await;
}

async fn an_item_that_nobody_knows_is_not_found(kind: Kind) {
    let shop = Shop::open(kind).await;
    let unknown = shop.engine.stock_at_most(&item("NO-SUCH-THING"), None).await;
    let unknown = unknown.expect_err("nobody knows it");
    assert!(
        matches!(unknown, Error::Rejected { rejection, .. } if matches!(*rejection, Rejection::UnknownSku { .. }))
    );
    shop.create("NO-SUCH-THING", 1).await;
    assert_eq!(units(&shop.engine, "NO-SUCH-THING").await.0, [1, 0, 0, 1]);
    shop.finish().await;
}

/// An instance over this Postgres, which shares copies by this Redis.
async fn instance(postgres: &PostgresServer, redis: Option<&RedisServer>) -> Engine {
    let ledger = PostgresLedger::connect(&postgres.url(), PostgresOptions::default()).await;
    let redis = redis
        .map(|server| Redis::new(&server.url().parse().expect("a URL")).expect("it can be used"));
    let is_shared = redis.is_some();
    let cache = CacheOptions { redis, ..CacheOptions::default() };
    let engine = Engine::builder(Arc::new(ledger.expect("it connects"))).cache(cache).start();
    let engine = engine.expect("it starts");
    while is_shared && !engine.cache().is_linked {
        SystemClock.sleep(MILLISECOND).await;
    }
    engine
}

async fn place(engine: &Engine, sku: &str) -> HoldId {
    let owner = stockhold::Owner::new("ann").expect("a name");
    let request = PlaceRequest::new(owner, ask::basket(&[(sku, 1)]));
    engine.place(request).await.expect("it is granted").hold.hold.id
}

async fn create(engine: &Engine, sku: &str, on_hand: i64) {
    engine.set_policy(&item(sku), Some(ask::units(on_hand)), None).await.expect("it is created");
}

/// Reads a copy until it has so many units held; how long that took.
async fn sees(engine: &Engine, sku: &str, held: i64) -> Duration {
    let begun = SystemClock.boot();
    while units(engine, sku).await.0[1] != held {
        SystemClock.sleep(MILLISECOND).await;
        assert!(SystemClock.boot() - begun < 10 * SECOND, "nobody has told");
    }
    SystemClock.boot() - begun
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_instance_changes_the_other_hears_of_by_redis() {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let ann = instance(&postgres, Some(&redis)).await;
    let ben = instance(&postgres, Some(&redis)).await;
    create(&ann, "MUG", 100).await;
    for held in 1..=20 {
        sees(&ben, "MUG", held - 1).await;
        place(&ann, "MUG").await;
        let took = sees(&ben, "MUG", held).await;
        assert!(took < 500 * MILLISECOND, "{took:?}");
    }
    ann.close().await.expect("it closes");
    ben.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_copy_is_a_second_old_at_most() {
    let postgres = PostgresServer::start();
    let (ann, ben) = (instance(&postgres, None).await, instance(&postgres, None).await);
    create(&ann, "MUG", 100).await;
    sees(&ben, "MUG", 0).await;
    place(&ann, "MUG").await;
    let took = sees(&ben, "MUG", 1).await;
    assert!(took < SECOND + 300 * MILLISECOND, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_on_the_age_is_kept_whoever_has_changed_the_item() {
    let postgres = PostgresServer::start();
    let (ann, ben) = (instance(&postgres, None).await, instance(&postgres, None).await);
    create(&ann, "MUG", 100).await;
    sees(&ben, "MUG", 0).await;
    for held in 1..=10 {
        place(&ann, "MUG").await;
        SystemClock.sleep(20 * MILLISECOND).await;
        let most = 15 * MILLISECOND;
        let (Told { age, .. }, view) =
            ben.stock_at_most(&item("MUG"), Some(most)).await.expect("it is there");
        assert!(age <= 500 * MILLISECOND && view.item.held.get() == held, "{age:?}: {view:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_away_copies_answer_unless_they_have_to_be_young() {
    let mut postgres = PostgresServer::start();
    let engine = instance(&postgres, None).await;
    create(&engine, "MUG", 100).await;
    assert_eq!(units(&engine, "MUG").await.0, [100, 0, 0, 100]);
    postgres.kill();
    // A second later they are past their time.
    SystemClock.sleep(SECOND + 100 * MILLISECOND).await;
    let (units, origin) = units(&engine, "MUG").await;
    assert!(units == [100, 0, 0, 100] && origin.is_stale(), "{origin:?}");
    let most = Some(500 * MILLISECOND);
    match engine.stock_at_most(&item("MUG"), most).await.expect_err("it is refused") {
        Error::Failed(failure) => assert_eq!(failure.kind, FailureKind::Unavailable),
        other @ Error::Rejected { .. } => panic!("{other}"),
    }
    postgres.restart();
    while engine.stock_at_most(&item("MUG"), most).await.is_err() {
        SystemClock.sleep(10 * MILLISECOND).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_whatever_redis_does_reads_and_holds_go_on() {
    let (postgres, mut redis) = (PostgresServer::start(), RedisServer::start());
    let ann = instance(&postgres, Some(&redis)).await;
    let ben = instance(&postgres, Some(&redis)).await;
    create(&ann, "MUG", 1_000).await;
    let mut held = 0;
    let faults: [fn(&mut RedisServer); 7] = [
        RedisServer::pause,
        RedisServer::resume,
        |redis| drop(redis.cli(&["FLUSHALL"])),
        |redis| drop(redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])),
        |redis| drop(redis.cli(&["CONFIG", "SET", "maxmemory", "1"])),
        RedisServer::kill,
        RedisServer::restart,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        fault(&mut redis);
        for _ in 0..5 {
            place(&ann, "MUG").await;
            held += 1;
            // Read after one's own write, and soon by the other.
            assert_eq!(units(&ann, "MUG").await.0[1], held);
            let took = sees(&ben, "MUG", held).await;
            assert!(took < 2 * SECOND, "{took:?} after fault {n}");
        }
    }
    let report = ann.verify().await.expect("it answers");
    assert!(report.is_clean(), "{:#?}", report.violations);
}

/// Over Postgres, and how a place was answered.
async fn place_keyed(
    engine: &Engine,
    key: Option<&str>,
    lines: &[(&str, i64)],
) -> Result<HoldId, Error> {
    let owner = stockhold::Owner::new("eve").expect("a name");
    let key = key.map(|key| IdempotencyKey::new(key).expect("a key"));
    let request = PlaceRequest { key, ..PlaceRequest::new(owner, ask::basket(lines)) };
    engine.place(request).await.map(|placed| placed.hold.hold.id)
}

/// How old a copy may be by which a place is refused.
const REFUSE_WITHIN: Duration = Duration::from_millis(250);

/// Asks until a copy refuses, which it may after the ledger did for the first time.
async fn refused_by_copy(
    engine: &Engine,
    key: Option<&str>,
    lines: &[(&str, i64)],
) -> (Rejection, Timestamp) {
    let begun = SystemClock.boot();
    loop {
        match place_keyed(engine, key, lines).await.expect_err("it is sold out") {
            Error::Rejected { rejection, as_of: Some(as_of) } => return (*rejection, as_of),
            Error::Rejected { rejection, .. } => {
                assert_eq!(rejection.code(), "insufficient_stock");
            }
            Error::Failed(failure) => panic!("{failure}"),
        }
        assert!(SystemClock.boot() - begun < 5 * SECOND, "only the ledger refuses");
    }
}

/// Asks until it is granted. Nobody is refused by a copy that may lack what was done by then.
async fn granted_soon(engine: &Engine, sku: &str, done: Duration) -> HoldId {
    loop {
        let asked = SystemClock.boot();
        match place_keyed(engine, None, &[(sku, 1)]).await {
            Ok(hold) => return hold,
            Err(Error::Rejected { as_of: Some(as_of), .. }) => {
                assert!(asked - done <= REFUSE_WITHIN, "by a copy of {as_of:?}");
            }
            Err(other) => panic!("{other}"),
        }
        SystemClock.sleep(MILLISECOND).await;
    }
}

async fn sold_out() -> (PostgresServer, RedisServer, Engine, HoldId) {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let engine = instance(&postgres, Some(&redis)).await;
    create(&engine, "MUG", 1).await;
    create(&engine, "HAT", 5).await;
    let hold = place_keyed(&engine, Some("ann"), &[("MUG", 1)]).await.expect("it is granted");
    (postgres, redis, engine, hold)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sold_out_item_is_refused_by_a_copy_in_the_words_of_the_ledger() {
    let (_postgres, _redis, engine, _) = sold_out().await;
    let lines = [("HAT", 2), ("MUG", 1)];
    let Err(Error::Rejected { rejection: by_ledger, as_of: None }) =
        place_keyed(&engine, None, &lines).await
    else {
        panic!("the ledger has not refused it");
    };
    let (by_copy, as_of) = refused_by_copy(&engine, None, &lines).await;
    assert_eq!(by_copy, *by_ledger);
    let age = SystemClock.wall().since(as_of);
    assert!(age <= 300 * MILLISECOND, "{age:?}");
    // Also with a key, if the ledger does not know it.
    refused_by_copy(&engine, Some("eve"), &lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_granted_is_answered_again_although_the_item_is_sold_out() {
    let (_postgres, _redis, engine, hold) = sold_out().await;
    refused_by_copy(&engine, Some("eve"), &[("MUG", 1)]).await;
    let owner = stockhold::Owner::new("eve").expect("a name");
    let request = PlaceRequest {
        key: Some(IdempotencyKey::new("ann").expect("a key")),
        ..PlaceRequest::new(owner, ask::basket(&[("MUG", 1)]))
    };
    let again = engine.place(request).await.expect("it was granted before");
    assert!(again.replayed && again.hold.hold.id == hold);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_are_given_back_are_on_offer_at_once_here_and_soon_elsewhere() {
    let (postgres, redis, ann, hold) = sold_out().await;
    let ben = instance(&postgres, Some(&redis)).await;
    refused_by_copy(&ann, None, &[("MUG", 1)]).await;
    refused_by_copy(&ben, None, &[("MUG", 1)]).await;
    // After a while of that its copy is kept.
    let begun = SystemClock.boot();
    while SystemClock.boot() - begun < 2 * REFUSE_WITHIN {
        refused_by_copy(&ann, None, &[("MUG", 1)]).await;
        SystemClock.sleep(MILLISECOND).await;
    }
    ann.release(hold, None, None).await.expect("it is released");
    let hold = granted_soon(&ben, "MUG", SystemClock.boot()).await;
    refused_by_copy(&ann, None, &[("MUG", 1)]).await;
    ann.release(hold, None, None).await.expect("it is released");
    place_keyed(&ann, None, &[("MUG", 1)]).await.expect("it is on offer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_copy_cannot_know_is_left_to_the_ledger() {
    let (_postgres, _redis, engine, hold) = sold_out().await;
    refused_by_copy(&engine, None, &[("MUG", 1)]).await;
    // An item that does not exist goes before one that is short.
    let unknown = place_keyed(&engine, None, &[("MUG", 1), ("NONE", 1)]).await;
    let unknown = unknown.expect_err("nobody knows it");
    assert!(
        matches!(unknown, Error::Rejected { rejection, .. } if rejection.code() == "unknown_sku")
    );
    // More than may be asked for is malformed.
    let too_large =
        place_keyed(&engine, None, &[("MUG", 2_000_000)]).await.expect_err("it is refused");
    assert!(
        matches!(too_large, Error::Rejected { rejection, .. } if rejection.code() == "quantity_too_large")
    );
    // One that gives its own hold back has enough.
    let owner = stockhold::Owner::new("eve").expect("a name");
    let request = PlaceRequest {
        replaces: Some(hold),
        ..PlaceRequest::new(owner, ask::basket(&[("MUG", 1)]))
    };
    engine.place(request).await.expect("it replaces its own hold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_refuses_nothing_once_a_hold_may_have_died() {
    let postgres = PostgresServer::start();
    let ledger = PostgresLedger::connect(&postgres.url(), PostgresOptions::default()).await;
    // Copies may be as old as they like, and nobody sweeps.
    let redis = RedisServer::start();
    let shared = Redis::new(&redis.url().parse().expect("a URL")).expect("it can be used");
    let refuse_within = Some(60 * SECOND);
    let cache = CacheOptions { refuse_within, redis: Some(shared), ..CacheOptions::default() };
    let engine = Engine::builder(Arc::new(ledger.expect("it connects"))).cache(cache);
    let engine = engine.without_sweeper().start().expect("it starts");
    create(&engine, "MUG", 1).await;
    let owner = stockhold::Owner::new("ann").expect("a name");
    let ttl = stockhold::Ttl::from_millis(1_000);
    let request = PlaceRequest { ttl, ..PlaceRequest::new(owner, ask::basket(&[("MUG", 1)])) };
    let held = engine.place(request).await.expect("it is granted").hold;
    refused_by_copy(&engine, None, &[("MUG", 1)]).await;
    let begun = SystemClock.boot();
    while place_keyed(&engine, None, &[("MUG", 1)]).await.is_err() {
        SystemClock.sleep(MILLISECOND).await;
        assert!(SystemClock.boot() - begun < 5 * SECOND, "the copy still refuses");
    }
    let late = SystemClock.wall().since(held.expires_at);
    assert!(late < 300 * MILLISECOND, "{late:?}");
}

/// Nothing but the deadline changes then; the item keeps its version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_whose_hold_was_extended_is_refused_by_copies_past_its_old_deadline() {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let engine = instance(&postgres, Some(&redis)).await;
    create(&engine, "MUG", 1).await;
    let owner = stockhold::Owner::new("ann").expect("a name");
    let ttl = stockhold::Ttl::from_millis(2_000);
    let request = PlaceRequest { ttl, ..PlaceRequest::new(owner, ask::basket(&[("MUG", 1)])) };
    let held = engine.place(request).await.expect("it is granted").hold;
    refused_by_copy(&engine, None, &[("MUG", 1)]).await;
    let longer = stockhold::Ttl::from_millis(60_000).expect("a time to live");
    engine.extend(held.hold.id, longer, None).await.expect("it is extended");
    while SystemClock.wall() <= held.expires_at {
        place_keyed(&engine, None, &[("MUG", 1)]).await.expect_err("it is sold out");
        SystemClock.sleep(20 * MILLISECOND).await;
    }
    refused_by_copy(&engine, None, &[("MUG", 1)]).await;
}

/// Each is asked for less often than its copy gets too old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_sold_out_items_are_refused_by_copies() {
    const ITEMS: usize = 3_000;
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let ann = instance(&postgres, Some(&redis)).await;
    let ben = instance(&postgres, Some(&redis)).await;
    let skus: Vec<_> = (0..ITEMS).map(|n| format!("SKU-{n}")).collect();
    count(&ann, &skus, 0).await;
    let mut by_copies = 0;
    let begun = SystemClock.boot();
    while by_copies < ITEMS * 9 / 10 {
        assert!(SystemClock.boot() - begun < 20 * SECOND, "copies refuse {by_copies}");
        SystemClock.sleep(REFUSE_WITHIN * 2).await;
        let asked = skus.iter().map(async |sku| place_keyed(&ben, None, &[(sku, 1)]).await);
        let told = join_all(asked).await;
        let is_by_copy = |no: &&_| matches!(no, Err(Error::Rejected { as_of: Some(_), .. }));
        by_copies = told.iter().filter(is_by_copy).count();
    }
    // What gets units elsewhere is on offer here, as soon as any other.
    count(&ann, &skus[7..8], 1).await;
    granted_soon(&ben, &skus[7], SystemClock.boot()).await;
}

/// There are so many of each.
async fn count(engine: &Engine, skus: &[String], units: i64) {
    let row =
        |sku: &String| Load { item: item(sku), on_hand: ask::units(units), safety_stock: None };
    let counted = engine.load(skus.iter().map(row).collect(), LoadMode::Count).await;
    assert!(counted.iter().all(Result::is_ok));
}

/// The SKUs and available units of a page, and how many of them copies have answered.
async fn page(engine: &Engine, age: Option<Duration>) -> (Vec<(String, i64)>, usize) {
    let page = engine.items_at_most(StockQuery::default(), age).await.expect("it answers");
    let copies = page.items.iter().filter(|(told, _)| told.origin == Origin::L1).count();
    let item = |(_, view): &(Told, StockView)| {
        (view.item.key.sku.to_string(), view.item.available().get())
    };
    (page.items.iter().map(item).collect(), copies)
}

async fn a_list_of_copies_has_what_was_done_here(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    shop.create("HAT", 5).await;
    let both = |hats, mugs| vec![("HAT".to_owned(), hats), ("MUG".to_owned(), mugs)];
    assert_eq!(page(&shop.engine, None).await, (both(5, 10), 0));
    assert_eq!(page(&shop.engine, None).await, (both(5, 10), 2));
    shop.hold("ann", &[("MUG", 3)]).await;
    assert_eq!(page(&shop.engine, None).await, (both(5, 7), 1));
    assert_eq!(page(&shop.engine, Some(60 * SECOND)).await, (both(5, 7), 2));
    assert_eq!(page(&shop.engine, Some(Duration::ZERO)).await, (both(5, 7), 0));
    shop.create("CAP", 1).await;
    let mut three = both(5, 7);
    three.insert(0, ("CAP".to_owned(), 1));
    assert_eq!(page(&shop.engine, None).await, (three, 2));
    let bad = StockQuery { limit: 0, ..StockQuery::default() };
    assert!(shop.engine.items_at_most(bad, None).await.is_err());
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_copies_is_as_young_as_it_has_to_be_and_outlives_the_ledger() {
    let mut postgres = PostgresServer::start();
    let (ann, ben) = (instance(&postgres, None).await, instance(&postgres, None).await);
    create(&ann, "MUG", 10).await;
    page(&ben, None).await;
    for n in 1..=10 {
        place(&ann, "MUG").await;
        create(&ann, &format!("SKU-{n}"), 1).await;
        SystemClock.sleep(20 * MILLISECOND).await;
        let (items, _) = page(&ben, Some(15 * MILLISECOND)).await;
        let mugs = items.iter().find(|(sku, _)| sku == "MUG").map(|(_, available)| *available);
        assert_eq!((items.len(), mugs), (1 + n, Some(10 - i64::try_from(n).expect("few"))));
    }
    let (before, _) = page(&ben, None).await;
    postgres.kill();
    let late = ben.items_at_most(StockQuery::default(), Some(MILLISECOND)).await;
    let Err(Error::Failed(failure)) = late else { panic!("{late:?}") };
    assert_eq!(failure.kind, FailureKind::Unavailable);
    let begun = SystemClock.boot();
    let mut stale = ben.items_at_most(StockQuery::default(), None).await.expect("it is there");
    while !stale.items.iter().all(|(told, _)| told.origin.is_stale()) {
        assert!(SystemClock.boot() - begun < 10 * SECOND, "{stale:?}");
        SystemClock.sleep(20 * MILLISECOND).await;
        stale = ben.items_at_most(StockQuery::default(), None).await.expect("it is there");
    }
    assert_eq!(stale.items.len(), before.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_tells_what_others_change_the_ledger_alone_refuses() {
    let postgres = PostgresServer::start();
    let (ann, ben) = (instance(&postgres, None).await, instance(&postgres, None).await);
    create(&ann, "MUG", 0).await;
    for _ in 0..20 {
        assert_eq!(units(&ben, "MUG").await.0[3], 0);
        let no = place_keyed(&ben, None, &[("MUG", 1)]).await.expect_err("it is sold out");
        assert!(matches!(no, Error::Rejected { as_of: None, .. }), "{no}");
    }
    let delivery = Adjustment::Receive { units: ask::units(1), reference: None };
    let key = IdempotencyKey::new("note-17").expect("a key");
    ann.adjust(&item("MUG"), delivery, Some(key)).await.expect("it is received");
    place_keyed(&ben, None, &[("MUG", 1)]).await.expect("it is on offer at once");
}
