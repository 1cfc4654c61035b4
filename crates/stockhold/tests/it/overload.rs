//! More is asked than the ledger can do: places are refused early, confirms go through.

use stockhold::{
    Settings,
    fault::{Fault, Gate},
};

use crate::{
    batcher::busy,
    fixture::Kind,
    shop::{MILLISECOND, Shop, all, done, number_of, settle, word},
};

on_each_ledger! { one_thread:
    a_place_is_refused_when_the_oldest_has_waited_too_long
    the_queues_are_bounded
    of_twenty_thousand_callers_none_is_left_waiting
}

async fn a_place_is_refused_when_the_oldest_has_waited_too_long(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 100).await;
    let (paid, left) = (shop.hold("a", &[("MUG", 1)]).await, shop.hold("b", &[("MUG", 1)]).await);
    let (gate, first) = busy(&shop).await;
    let place = |shop: Shop| async move { shop.place("x", &[("MUG", 1)]).await };
    let oldest = shop.meanwhile(place);
    settle().await;
    shop.clock.advance(250 * MILLISECOND);
    let in_time = shop.meanwhile(place);
    settle().await;
    assert!(!in_time.is_finished());
    shop.clock.advance(MILLISECOND);
    let refused = shop.place("x", &[("MUG", 1)]).await; // at once: the ledger stands still
    assert_eq!(word(&refused), "overloaded");
    let confirm = shop.meanwhile(move |shop| async move { word(&shop.confirm(paid).await) });
    let release = shop.meanwhile(move |shop| async move { word(&shop.release(left).await) });
    settle().await;
    gate.open();
    done(first).await;
    assert_eq!(all(vec![confirm, release]).await, ["ok", "ok"]);
    assert_eq!(number_of("ok", &all(vec![oldest, in_time]).await), 2);
    assert_eq!(word(&shop.place("x", &[("MUG", 1)]).await), "ok"); // over
    assert_eq!(shop.units("MUG").await, [100, 4, 1, 95]);
    shop.finish().await;
}

async fn the_queues_are_bounded(kind: Kind) {
    let settings = Settings { max_waiting: 10, ..Settings::default() };
    let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
    shop.create("MUG", 100).await;
    let paid = shop.hold("a", &[("MUG", 1)]).await;
    let (gate, first) = busy(&shop).await;
    let place = |shop: Shop| async move { word(&shop.place("x", &[("MUG", 1)]).await) };
    let confirm = move |shop: Shop| async move { word(&shop.confirm(paid).await) };
    let mut waiting: Vec<_> = (0..10).map(|_| shop.meanwhile(place)).collect();
    settle().await;
    assert_eq!(place(shop.clone()).await, "overloaded");
    waiting.extend((0..10).map(|_| shop.meanwhile(confirm))); // a queue of their own
    settle().await;
    assert_eq!(confirm(shop.clone()).await, "overloaded");
    gate.open();
    done(first).await;
    assert_eq!(all(waiting).await, ["ok"; 20]);
    shop.finish().await;
}

async fn of_twenty_thousand_callers_none_is_left_waiting(kind: Kind) {
    const CALLERS: usize = 10_000;
    let settings = Settings { lanes: 1, ..Settings::default() };
    let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
    shop.create("MUG", 20_000).await;
    let hold = |shop: Shop, _| async move { shop.hold("x", &[("MUG", 1)]).await };
    let holds = shop.at_once(500, hold).await;
    let (gate, first) = busy(&shop).await;
    let place = |_| shop.meanwhile(|shop| async move { shop.place("x", &[("MUG", 1)]).await });
    let waiting: Vec<_> = (0..CALLERS).map(place).collect();
    settle().await;
    shop.clock.advance(251 * MILLISECOND);
    let refused: Vec<_> = (0..CALLERS).map(place).collect();
    // The ledger has not done a thing yet, and they know already.
    assert_eq!(number_of("overloaded", &all(refused).await), CALLERS);
    let confirm = |id| shop.meanwhile(move |shop| async move { shop.confirm(id).await });
    let confirms: Vec<_> = holds.into_iter().map(confirm).collect();
    settle().await;
    // The batch after the next one never ends: all confirms are in the next.
    shop.ledger.next(Fault::None);
    let stuck = Gate::closed();
    shop.ledger.next(Fault::Delayed(stuck.clone()));
    gate.open();
    done(first).await;
    assert_eq!(number_of("ok", &all(confirms).await), 500);
    shop.seen(3).await;
    settle().await;
    // Who still waits then is told so at the deadline, in the batch or not.
    shop.clock.advance(Settings::default().command_deadline);
    let waited = all(waiting).await;
    let (granted, told) = (number_of("ok", &waited), number_of("unavailable", &waited));
    assert_eq!((granted, told), (500, CALLERS - 500));
    stuck.open();
    assert_eq!(word(&shop.place("x", &[("MUG", 1)]).await), "ok");
    assert_eq!(shop.units("MUG").await, [20_000, 1_502, 500, 17_998]);
    shop.finish().await;
}
