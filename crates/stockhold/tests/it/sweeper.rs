//! The sweeper: what is due dies on time, and nothing that is broken stops it.

use stockhold::{EngineBuilder, HoldId, HoldState, fault::Fault};
use stockhold_core::{Action, Command};

use crate::{
    fixture::Kind,
    shop::{MILLISECOND, SECOND, Shop, eventually, lasting, request, settle},
};

on_each_ledger! { one_thread:
    a_hold_is_swept_at_its_deadline_and_not_before
    the_ledger_lives_while_holds_are_active
    nothing_to_do_is_nothing_done
    an_earlier_deadline_wakes_the_sweeper
    an_extended_hold_is_not_swept
    a_broken_hold_is_set_aside_and_the_others_are_swept
    a_broken_hold_lets_the_sweeper_sleep
    a_broken_hold_is_tried_again_after_a_minute
    a_ledger_that_is_away_is_asked_again
    a_sweep_that_is_lost_is_done_again
    it_stops_when_the_engine_closes
}

fn is_expire(command: &Command) -> bool {
    matches!(command.action, Action::Expire { .. })
}

/// How many holds the sweeper has tried to expire since this was last asked.
fn expires_seen(shop: &Shop) -> usize {
    let seen = shop.ledger.take_seen();
    seen.iter().flat_map(|batch| &batch.commands).filter(|command| is_expire(command)).count()
}

/// Lets a second pass, and waits until the sweeper has seen to it that the ledger lives.
async fn a_second_swept(shop: &Shop) {
    let before = shop.ledger.seen();
    shop.clock.advance(SECOND);
    shop.seen(before + 1).await;
    rest(shop).await;
}

/// Waits until the sweeper sleeps: everything it asks for is answered.
async fn rest(shop: &Shop) {
    for _ in 0..3 {
        settle().await;
        shop.ledger.inner().due(0).await.expect("the ledger answers");
        shop.engine.stock(&stockhold::conformance::ask::item("MUG")).await.expect("it is there");
    }
    settle().await;
}

async fn hold_for(shop: &Shop, millis: u64) -> HoldId {
    let place = lasting(millis, request("cart", &[("MUG", 1)]));
    let id = shop.engine.place(place).await.expect("it is granted").hold.hold.id;
    rest(shop).await;
    id
}

async fn a_hold_is_swept_at_its_deadline_and_not_before(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    let id = hold_for(&shop, 4_500).await;
    for _ in 0..4 {
        a_second_swept(&shop).await;
    }
    assert_eq!(expires_seen(&shop), 0);
    rest(&shop).await;
    assert_eq!(shop.ledger.seen(), 0); // it sleeps, until the deadline
    shop.clock.advance(499 * MILLISECOND);
    rest(&shop).await;
    assert_eq!(shop.ledger.seen(), 0);
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.clock.advance(MILLISECOND);
    eventually("it is swept", async || shop.units("MUG").await == [1, 0, 0, 1]).await;
    assert_eq!(expires_seen(&shop), 1);
    let hold = shop.view(id).await.hold;
    assert_eq!((hold.state, hold.steps), (HoldState::Expired, 1));
    shop.finish().await;
}

/// Nobody asks for anything for 20 s: without the sweeper's beats that would be an outage (R17).
async fn the_ledger_lives_while_holds_are_active(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    let id = hold_for(&shop, 20_000).await;
    let deadline = shop.view(id).await.expires_at;
    shop.ledger.take_seen();
    for _ in 0..19 {
        a_second_swept(&shop).await;
    }
    assert_eq!(shop.ledger.seen(), 19); // a beat a second, and no more
    assert_eq!(shop.view(id).await.expires_at, deadline);
    shop.clock.advance(SECOND);
    eventually("it is swept", async || shop.units("MUG").await == [1, 0, 0, 1]).await;
    shop.finish().await;
}

async fn nothing_to_do_is_nothing_done(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    let id = hold_for(&shop, 5_000).await;
    shop.release(id).await.expect("it is released");
    for _ in 0..3 {
        shop.clock.advance(SECOND); // it may be awake once more, and finds nothing
        rest(&shop).await;
    }
    shop.ledger.take_seen();
    for _ in 0..10 {
        shop.clock.advance(SECOND);
        rest(&shop).await;
    }
    assert_eq!(shop.ledger.seen(), 0);
    shop.finish().await;
}

async fn an_earlier_deadline_wakes_the_sweeper(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 2).await;
    hold_for(&shop, 30_000).await; // it sleeps for a second now, until the next beat
    let early = hold_for(&shop, 100).await;
    shop.clock.advance(99 * MILLISECOND);
    rest(&shop).await;
    assert_eq!(shop.units("MUG").await, [2, 2, 0, 0]);
    shop.clock.advance(MILLISECOND);
    eventually("it is swept", async || shop.units("MUG").await == [2, 1, 0, 1]).await;
    assert_eq!(shop.state(early).await, HoldState::Expired);
    shop.finish().await;
}

async fn an_extended_hold_is_not_swept(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    let id = hold_for(&shop, 2_000).await;
    a_second_swept(&shop).await;
    shop.extend(id, 3_000).await.expect("it is extended");
    rest(&shop).await;
    for _ in 0..2 {
        a_second_swept(&shop).await;
    }
    assert_eq!(expires_seen(&shop), 0);
    shop.clock.advance(SECOND);
    eventually("it is swept", async || shop.units("MUG").await == [1, 0, 0, 1]).await;
    shop.finish().await;
}

/// Places that many holds for a second; the first of them is broken.
async fn holds_one_of_them_broken(shop: &Shop, holds: usize) -> HoldId {
    let place = |shop: Shop, _| async move {
        let place = lasting(1_000, request("cart", &[("MUG", 1)]));
        shop.engine.place(place).await.expect("it is granted").hold.hold.id
    };
    let ids = shop.at_once(holds, place).await;
    let broken = ids[0];
    shop.ledger.poison(move |command| is_expire(command) && command.action.hold() == Some(broken));
    shop.ledger.take_seen();
    broken
}

/// R16.
async fn a_broken_hold_is_set_aside_and_the_others_are_swept(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10_001).await;
    let broken = holds_one_of_them_broken(&shop, 10_000).await;
    rest(&shop).await;
    shop.clock.advance(SECOND);
    let swept = async || shop.units("MUG").await == [10_001, 1, 0, 10_000];
    eventually("the others are swept", swept).await;
    rest(&shop).await;
    // It was among the oldest, so its batch was halved ten times; the others were tried once.
    let seen = expires_seen(&shop);
    assert!((10_000..13_000).contains(&seen), "{seen} tries");
    for _ in 0..5 {
        a_second_swept(&shop).await;
    }
    assert_eq!(expires_seen(&shop), 0);
    // What is due later is swept as ever.
    hold_for(&shop, 1_000).await;
    shop.clock.advance(SECOND);
    eventually("the next one is swept", swept).await;
    assert_eq!(shop.ledger.inner().due(10).await.expect("it answers").holds, [broken]);
    shop.engine.close().await.expect("it closes");
}

/// It is due for ever, and that is no reason to hurry.
async fn a_broken_hold_lets_the_sweeper_sleep(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 2).await;
    let broken = holds_one_of_them_broken(&shop, 2).await;
    rest(&shop).await;
    shop.clock.advance(SECOND);
    let one_left = async || shop.units("MUG").await == [2, 1, 0, 1];
    eventually("the other one is swept", one_left).await;
    rest(&shop).await;
    shop.ledger.take_seen();
    rest(&shop).await; // no time passes
    assert_eq!(shop.ledger.take_seen().len(), 0);
    for _ in 0..10 {
        a_second_swept(&shop).await;
    }
    assert_eq!(shop.ledger.seen(), 10); // a beat a second, and no more
    assert_eq!(shop.state(broken).await, HoldState::Expired);
    shop.engine.close().await.expect("it closes");
}

async fn a_broken_hold_is_tried_again_after_a_minute(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 2).await;
    holds_one_of_them_broken(&shop, 2).await;
    rest(&shop).await;
    shop.clock.advance(SECOND);
    let one_left = async || shop.units("MUG").await == [2, 1, 0, 1];
    eventually("the other one is swept", one_left).await;
    rest(&shop).await;
    shop.ledger.take_seen();
    shop.ledger.heal(); // somebody mends it
    for _ in 0..59 {
        a_second_swept(&shop).await;
    }
    assert_eq!(expires_seen(&shop), 0);
    shop.clock.advance(SECOND);
    eventually("it is swept", async || shop.units("MUG").await == [2, 0, 0, 2]).await;
    shop.finish().await;
}

async fn a_ledger_that_is_away_is_asked_again(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    hold_for(&shop, 500).await;
    shop.ledger.fail_due(2);
    shop.clock.advance(500 * MILLISECOND);
    rest(&shop).await;
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.clock.advance(250 * MILLISECOND);
    rest(&shop).await;
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.clock.advance(250 * MILLISECOND);
    eventually("it is swept", async || shop.units("MUG").await == [1, 0, 0, 1]).await;
    shop.finish().await;
}

/// It is not the hold's fault: it is not set aside for a minute.
async fn a_sweep_that_is_lost_is_done_again(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    hold_for(&shop, 500).await;
    shop.ledger.take_seen();
    shop.ledger.next(Fault::Unavailable);
    shop.clock.advance(500 * MILLISECOND);
    shop.seen(1).await;
    rest(&shop).await;
    assert_eq!(expires_seen(&shop), 1);
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.clock.advance(250 * MILLISECOND);
    eventually("it is swept", async || shop.units("MUG").await == [1, 0, 0, 1]).await;
    shop.finish().await;
}

async fn it_stops_when_the_engine_closes(kind: Kind) {
    let shop = Shop::open_with(kind, |builder: EngineBuilder| builder).await;
    shop.create("MUG", 1).await;
    hold_for(&shop, 30_000).await;
    a_second_swept(&shop).await;
    shop.engine.close().await.expect("it closes");
    shop.ledger.take_seen();
    for _ in 0..40 {
        shop.clock.advance(SECOND);
        settle().await;
    }
    assert_eq!(shop.ledger.seen(), 0);
}
