//! Many want what there is little of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stockhold::{
    Error, HoldId, Rejection,
    clock::{Clock, SystemClock},
    conformance::ask,
};

use crate::{
    fixture::Kind,
    shop::{Dice, SECOND, Shop, number_of, request, word},
};

on_each_ledger! { parallel:
    the_last_unit_goes_to_one_of_500
    a_thousand_units_are_sold_exactly
    baskets_in_any_order_wait_for_nobody
    a_basket_is_held_in_full_or_not_at_all
    the_same_sku_twice_in_a_basket_is_summed
}

/// Scenario 1.
async fn the_last_unit_goes_to_one_of_500(kind: Kind) {
    let shop = Shop::open(kind).await;
    for round in 0..50 {
        let sku: Arc<str> = format!("LAST-{round}").into();
        shop.create(&sku, 1).await;
        let place = |shop: Shop, n: usize| {
            let sku = Arc::clone(&sku);
            async move { shop.place(&format!("cart-{n}"), &[(&sku, 1)]).await }
        };
        let answers = shop.at_once(500, place).await;
        assert_eq!(number_of("ok", &answers), 1);
        assert_eq!(number_of("insufficient_stock", &answers), 499);
        assert_eq!(shop.units(&sku).await, [1, 1, 0, 0]);
    }
    shop.finish().await;
}

/// Scenario 2.
async fn a_thousand_units_are_sold_exactly(kind: Kind) {
    const ATTEMPTS: usize = 10_000;
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1_000).await;
    let begun = Arc::new(AtomicUsize::new(0));
    let buy = |shop: Shop, _| {
        let begun = Arc::clone(&begun);
        async move {
            let (mut confirmed, mut refused) = (0, 0);
            while begun.fetch_add(1, Ordering::Relaxed) < ATTEMPTS {
                match shop.place("cart", &[("MUG", 1)]).await {
                    Ok(placed) => {
                        shop.confirm(placed.hold.hold.id).await.expect("it is confirmed");
                        confirmed += 1;
                    }
                    refusal => {
                        assert_eq!(word(&refusal), "insufficient_stock");
                        refused += 1;
                    }
                }
            }
            (confirmed, refused)
        }
    };
    let sums = shop.at_once(64, buy).await;
    assert_eq!(sums.iter().map(|sum| sum.0).sum::<usize>(), 1_000);
    assert_eq!(sums.iter().map(|sum| sum.1).sum::<usize>(), 9_000);
    assert_eq!(shop.units("MUG").await, [1_000, 0, 1_000, 0]);
    shop.finish().await;
}

/// Scenario 3.
async fn a_basket_is_held_in_full_or_not_at_all(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("A", 10).await;
    shop.create("B", 0).await;
    let refused = shop.place("ann", &[("A", 1), ("B", 1)]).await;
    let Err(Error::Rejected { rejection, .. }) = refused else { panic!("{refused:?}") };
    let Rejection::InsufficientStock { lines, of } = *rejection else { panic!("{rejection:?}") };
    assert_eq!((lines.len(), of), (1, 2));
    assert_eq!(*lines[0].item, ask::item("B"));
    assert_eq!((lines[0].requested, lines[0].available), (ask::units(1), ask::units(0)));
    assert_eq!(shop.units("A").await, [10, 0, 0, 10]);
    assert_eq!(shop.engine.verify().await.expect("it answers").holds, 0);
    shop.finish().await;
}

/// Scenario 5.
async fn the_same_sku_twice_in_a_basket_is_summed(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("A", 3).await;
    let twice = [("A", 2), ("A", 2)];
    assert_eq!(word(&shop.place("ann", &twice).await), "insufficient_stock");
    shop.count("A", 4).await.expect("it is counted");
    let placed = shop.place("ann", &twice).await.expect("it is granted");
    assert_eq!(placed.hold.hold.lines.len(), 1);
    assert_eq!(shop.units("A").await, [4, 4, 0, 0]);
    shop.finish().await;
}

/// Scenario 4, for a short while.
async fn baskets_in_any_order_wait_for_nobody(kind: Kind) {
    sell_baskets_in_any_order(kind, 2 * SECOND).await;
}

/// Scenario 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_baskets_in_any_order_wait_for_nobody() {
    sell_baskets_in_any_order(Kind::Sqlite, 60 * SECOND).await;
}

async fn sell_baskets_in_any_order(kind: Kind, time: Duration) {
    let shop = Shop::open(kind).await;
    for sku in ["A", "B", "C"] {
        shop.create(sku, 100_000).await;
    }
    let end = SystemClock.boot() + time;
    let workers = shop.at_once(64, |shop, n| work(shop, n, end)).await;
    let sum = |of: fn(&Worker) -> i64| workers.iter().map(of).sum::<i64>();
    let (held, allocated) = (sum(|worker| worker.held), sum(|worker| worker.allocated));
    for sku in ["A", "B", "C"] {
        let left = 100_000 - held - allocated;
        assert_eq!(shop.units(sku).await, [100_000, held, allocated, left]);
    }
    let mut waits: Vec<_> = workers.into_iter().flat_map(|worker| worker.waits).collect();
    waits.sort_unstable();
    assert!(waits.len() > 1_000, "only {} places", waits.len());
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 < SECOND, "p99 is {p99:?} of {} places", waits.len());
    shop.finish().await;
}

/// Someone who keeps on holding A, B and C in random order; what it left held and allocated, and
/// how long its places took.
#[derive(Default)]
struct Worker {
    held: i64,
    allocated: i64,
    waits: Vec<Duration>,
}

async fn work(shop: Shop, n: usize, end: Duration) -> Worker {
    let mut dice = Dice::new(n);
    let mut worker = Worker::default();
    while SystemClock.boot() < end {
        let mut lines = [("A", 1), ("B", 1), ("C", 1)];
        lines.swap(0, dice.index(3));
        lines.swap(1, 1 + dice.index(2));
        let begun = SystemClock.boot();
        let placed = shop.engine.place(request("cart", &lines)).await.expect("it is granted");
        worker.waits.push(SystemClock.boot() - begun);
        match dice.index(100) {
            0 => worker.held += 1,
            1 => worker.allocated += paid(&shop, placed.hold.hold.id).await,
            _ => drop(shop.release(placed.hold.hold.id).await.expect("it is released")),
        }
    }
    worker
}

async fn paid(shop: &Shop, id: HoldId) -> i64 {
    shop.confirm(id).await.expect("it is confirmed");
    1
}
