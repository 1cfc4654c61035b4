//! The ledger does not answer, or not what became of a batch (R15).

use std::time::Duration;

use stockhold::{
    Settings,
    fault::{Fault, Gate},
};

use crate::{
    batcher::busy,
    fixture::Kind,
    shop::{MILLISECOND, SECOND, Shop, all, done, keyed, number_of, request, settle, word},
};

on_each_ledger! { one_thread:
    an_unknown_outcome_that_is_found_is_the_answer
    an_unknown_outcome_that_is_found_late_is_the_answer
    an_unknown_outcome_that_is_not_found_is_no_refusal
    an_unknown_outcome_that_cannot_be_looked_up_is_no_refusal
    a_ledger_that_is_away_has_refused_nobody
    nobody_waits_for_longer_than_the_deadline
    what_a_silent_ledger_did_is_found_by_its_key
}

async fn an_unknown_outcome_that_is_found_is_the_answer(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    shop.ledger.next(Fault::LostAfter);
    let placed = shop.place("ann", &[("MUG", 1)]).await.expect("it is in the ledger");
    assert_eq!(shop.view(placed.hold.hold.id).await, placed.hold);
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.finish().await;
}

async fn an_unknown_outcome_that_is_found_late_is_the_answer(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    shop.ledger.next(Fault::LostAfter);
    shop.ledger.fail_landed(2);
    assert_eq!(word(&shop.place("ann", &[("MUG", 1)]).await), "ok");
    shop.finish().await;
}

/// *Not found* is not *failed*: the old commit may still arrive.
async fn an_unknown_outcome_that_is_not_found_is_no_refusal(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    let place = keyed("k", request("ann", &[("MUG", 1)]));
    shop.ledger.next(Fault::LostBefore);
    assert_eq!(word(&shop.engine.place(place.clone()).await), "unavailable");
    let again = shop.engine.place(place).await.expect("it is granted");
    assert!(!again.replayed);
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.finish().await;
}

async fn an_unknown_outcome_that_cannot_be_looked_up_is_no_refusal(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    let place = keyed("k", request("ann", &[("MUG", 1)]));
    shop.ledger.next(Fault::LostAfter);
    shop.ledger.fail_landed(3);
    assert_eq!(word(&shop.engine.place(place.clone()).await), "unavailable");
    let again = shop.engine.place(place).await.expect("it was done");
    assert!(again.replayed);
    assert_eq!(shop.engine.verify().await.expect("it answers").holds, 1);
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.finish().await;
}

async fn a_ledger_that_is_away_has_refused_nobody(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 100).await;
    let (gate, first) = busy(&shop).await;
    shop.ledger.next(Fault::Unavailable);
    let place = |_| shop.meanwhile(|shop| async move { shop.place("x", &[("MUG", 1)]).await });
    let waiting: Vec<_> = (0..50).map(place).collect();
    settle().await;
    gate.open();
    done(first).await;
    assert_eq!(number_of("unavailable", &all(waiting).await), 50);
    assert_eq!(shop.ledger.take_seen().len(), 2); // nobody is to blame: it is not taken apart
    assert_eq!(shop.units("MUG").await, [100, 1, 0, 99]);
    shop.hold("later", &[("MUG", 1)]).await;
    shop.finish().await;
}

async fn nobody_waits_for_longer_than_the_deadline(kind: Kind) {
    let command_deadline = Duration::from_secs(2);
    let settings = Settings { command_deadline, ..Settings::default() };
    let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
    shop.create("MUG", 100).await;
    let gate = Gate::closed();
    shop.ledger.take_seen();
    shop.ledger.next(Fault::Delayed(gate.clone()));
    let place = |shop: Shop| async move { shop.place("x", &[("MUG", 1)]).await };
    let taken = shop.meanwhile(place);
    shop.seen(1).await;
    let waiting = shop.meanwhile(place);
    settle().await;
    shop.clock.advance(command_deadline - MILLISECOND);
    settle().await;
    assert!(!taken.is_finished() && !waiting.is_finished());
    shop.clock.advance(MILLISECOND);
    assert_eq!(number_of("unavailable", &all(vec![taken, waiting]).await), 2);
    // It goes on being silent: who comes now waits no longer either.
    let late = shop.meanwhile(place);
    settle().await;
    shop.clock.advance(command_deadline);
    assert_eq!(word(&done(late).await), "unavailable");
    // It is back. What it was handed is done, what waited was taken back.
    gate.open();
    shop.hold("next", &[("MUG", 1)]).await;
    assert_eq!(shop.units("MUG").await, [100, 2, 0, 98]);
    shop.finish().await;
}

async fn what_a_silent_ledger_did_is_found_by_its_key(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    let gate = Gate::closed();
    shop.ledger.take_seen();
    shop.ledger.next(Fault::Late(gate.clone()));
    let place = keyed("k", request("ann", &[("MUG", 1)]));
    let first = place.clone();
    let first = shop.meanwhile(|shop| async move { shop.engine.place(first).await });
    shop.seen(1).await;
    settle().await;
    shop.clock.advance(5 * SECOND);
    assert_eq!(word(&done(first).await), "unavailable");
    gate.open();
    let again = shop.engine.place(place).await.expect("it was done");
    assert!(again.replayed);
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.finish().await;
}
