//! Holds die on time, and stay dead.

use std::time::Duration;

use stockhold::{Error, HoldState, Rejection};

use crate::{
    fixture::Kind,
    shop::{MILLISECOND, SECOND, Shop, lasting, rehold, request, word},
};

on_each_ledger! { parallel:
    a_hold_can_be_confirmed_until_its_deadline_and_not_at_it
    ten_thousand_holds_expire_together_and_once
    money_that_comes_late_takes_the_units_again_if_they_are_there
    money_that_comes_too_late_takes_nothing_from_anybody
    a_late_basket_is_taken_again_in_full_or_not_at_all
    extend_never_revives
    who_finds_too_little_expires_what_is_due
    no_extend_passes_the_longest_life
    an_outage_spares_the_holds_that_would_have_died_in_it
}

/// Scenario 8, its first half.
async fn a_hold_can_be_confirmed_until_its_deadline_and_not_at_it(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 2).await;
    let (early, late) = (shop.hold("a", &[("MUG", 1)]).await, shop.hold("b", &[("MUG", 1)]).await);
    shop.pass(29 * SECOND + 500 * MILLISECOND).await;
    assert_eq!(word(&shop.confirm(early).await), "ok");
    shop.pass(500 * MILLISECOND).await;
    assert_eq!(word(&shop.confirm(late).await), "hold_expired");
    assert_eq!(shop.units("MUG").await, [2, 0, 1, 1]);
    shop.finish().await;
}

/// Scenario 8, its second half.
async fn ten_thousand_holds_expire_together_and_once(kind: Kind) {
    const HOLDS: usize = 10_000;
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10_000).await;
    let hold = |shop: Shop, _| async move { shop.hold("cart", &[("MUG", 1)]).await };
    let holds = shop.at_once(HOLDS, hold).await;
    shop.pass(30 * SECOND - MILLISECOND).await;
    assert_eq!(shop.units("MUG").await, [10_000, 10_000, 0, 0]);
    shop.pass(MILLISECOND).await;
    let free = async || shop.units("MUG").await == [10_000, 0, 0, 10_000];
    shop.within_a_second("all is free", free).await;
    for id in holds {
        let hold = shop.view(id).await.hold;
        assert_eq!((hold.state, hold.steps), (HoldState::Expired, 1));
    }
    shop.finish().await;
}

/// Scenario 11 a.
async fn money_that_comes_late_takes_the_units_again_if_they_are_there(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    let x = shop.hold("x", &[("MUG", 1)]).await;
    shop.pass(31 * SECOND).await;
    assert_eq!(word(&shop.confirm(x).await), "hold_expired");
    let settled = shop.engine.confirm(x, rehold()).await.expect("it is confirmed");
    assert!(settled.reacquired);
    assert_eq!(settled.hold.hold.state, HoldState::Confirmed);
    assert_eq!(shop.units("MUG").await, [1, 0, 1, 0]);
    let again = shop.engine.confirm(x, rehold()).await.expect("it is confirmed");
    assert!(!again.reacquired);
    assert_eq!(shop.units("MUG").await, [1, 0, 1, 0]);
    shop.finish().await;
}

/// Scenario 11 b.
async fn money_that_comes_too_late_takes_nothing_from_anybody(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    let x = shop.hold("x", &[("MUG", 1)]).await;
    shop.pass(31 * SECOND).await;
    let y = shop.hold("y", &[("MUG", 1)]).await;
    let refused = shop.engine.confirm(x, rehold()).await;
    let Err(Error::Rejected { rejection, .. }) = refused else { panic!("{refused:?}") };
    let Rejection::HoldExpired { id, lines } = *rejection else { panic!("{rejection:?}") };
    assert_eq!((id, lines.len(), lines[0].available.get()), (x, 1, 0));
    assert_eq!(shop.state(y).await, HoldState::Active);
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    shop.finish().await;
}

/// Scenario 11 c.
async fn a_late_basket_is_taken_again_in_full_or_not_at_all(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("A", 1).await;
    shop.create("B", 1).await;
    let x = shop.hold("x", &[("A", 1), ("B", 1)]).await;
    shop.pass(31 * SECOND).await;
    shop.hold("y", &[("B", 1)]).await;
    assert_eq!(word(&shop.engine.confirm(x, rehold()).await), "hold_expired");
    assert_eq!(shop.units("A").await, [1, 0, 0, 1]);
    assert_eq!(shop.units("B").await, [1, 1, 0, 0]);
    shop.finish().await;
}

/// Scenario 12.
async fn extend_never_revives(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    let x = shop.hold("x", &[("MUG", 1)]).await;
    shop.pass(30 * SECOND).await;
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    assert_eq!(word(&shop.extend(x, 30_000).await), "hold_expired");
    let y = shop.hold("y", &[("MUG", 1)]).await;
    assert_eq!(word(&shop.extend(x, 30_000).await), "hold_expired");
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    assert_eq!(shop.view(y).await.hold.owner.as_str(), "y");
    shop.finish().await;
}

/// Scenario 12 b, where nobody has touched the dead hold before (R2).
async fn who_finds_too_little_expires_what_is_due(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 3).await;
    let place = |ttl| shop.engine.place(lasting(ttl, request("x", &[("MUG", 1)])));
    let dead = place(1_000).await.expect("granted").hold.hold.id;
    let alive = place(60_000).await.expect("granted").hold.hold.id;
    shop.pass(2 * SECOND).await;
    shop.hold("y", &[("MUG", 1)]).await; // the third unit: enough, nothing needs to die
    assert_eq!(shop.units("MUG").await, [3, 3, 0, 0]);
    shop.hold("z", &[("MUG", 1)]).await;
    assert_eq!(shop.units("MUG").await, [3, 3, 0, 0]);
    assert_eq!(shop.state(dead).await, HoldState::Expired);
    assert_eq!(shop.state(alive).await, HoldState::Active);
    assert_eq!(word(&shop.place("q", &[("MUG", 1)]).await), "insufficient_stock");
    shop.finish().await;
}

/// Scenario 12, the cap (R9).
async fn no_extend_passes_the_longest_life(kind: Kind) {
    const MINUTE: Duration = Duration::from_secs(60);
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1).await;
    let placed = shop.place("x", &[("MUG", 1)]).await.expect("granted");
    let (id, at) = (placed.hold.hold.id, placed.hold.hold.created_at);
    let lives = async |millis| shop.extend(id, millis).await.map(|s| s.hold.expires_at.since(at));
    assert_eq!(lives(100).await.expect("it never shortens"), 30 * SECOND);
    assert_eq!(lives(14 * 60_000 + 55_000).await.expect("extended"), 15 * MINUTE - 5 * SECOND);
    assert_eq!(lives(100).await.expect("it never shortens"), 15 * MINUTE - 5 * SECOND);
    shop.pass(15 * MINUTE - 10 * SECOND).await;
    assert_eq!(lives(30_000).await.expect("extended"), 15 * MINUTE);
    assert_eq!(word(&shop.extend(id, 30_000).await), "max_lifetime");
    assert_eq!(shop.view(id).await.expires_at.since(at), 15 * MINUTE);
    shop.pass(10 * SECOND).await;
    assert_eq!(word(&shop.confirm(id).await), "hold_expired");
    shop.finish().await;
}

/// R17.
async fn an_outage_spares_the_holds_that_would_have_died_in_it(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 2).await;
    let x = shop.hold("x", &[("MUG", 1)]).await;
    let y = shop.hold("y", &[("MUG", 1)]).await;
    shop.clock.advance(60 * SECOND);
    assert_eq!(word(&shop.place("z", &[("MUG", 1)]).await), "insufficient_stock");
    assert_eq!(word(&shop.confirm(x).await), "ok");
    shop.pass(10 * SECOND - MILLISECOND).await;
    assert_eq!(shop.state(y).await, HoldState::Active);
    shop.pass(MILLISECOND).await;
    assert_eq!(word(&shop.confirm(y).await), "hold_expired");
    shop.finish().await;
}

#[tokio::test]
async fn a_hold_that_an_outage_spares_never_shows_as_expired() {
    for kind in [Kind::Memory, Kind::Sqlite, Kind::Postgres] {
        let shop = Shop::without_sweeper(kind).await;
        shop.create("MUG", 1).await;
        let x = shop.hold("x", &[("MUG", 1)]).await;
        shop.clock.advance(60 * SECOND);
        let before = shop.state(x).await; // nobody has written yet
        shop.count("MUG", 1).await.expect("it is counted");
        assert_eq!((before, shop.state(x).await), (HoldState::Active, HoldState::Active));
        shop.finish().await;
    }
}
