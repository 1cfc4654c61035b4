//! A hold has one outcome.

use stockhold::{HoldId, HoldState};

use crate::{
    fixture::Kind,
    shop::{SECOND, Shop, all, done, for_order, number_of, part, rehold, replacing, request, word},
};

on_each_ledger! { parallel:
    twenty_confirms_at_once_sell_the_units_once
    release_says_what_is_true
    of_release_and_confirm_at_once_one_wins
    what_is_not_confirmed_goes_back_in_the_same_step
    a_count_below_what_is_promised_stands
    nothing_fails_in_a_shortfall_but_a_place
    a_hold_gives_way_to_the_one_that_replaces_it
    a_refused_replacement_leaves_the_old_hold_alone
    of_two_replacements_at_once_one_wins
    nobody_replaces_the_hold_of_another
    a_replaced_hold_is_not_taken_again
}

/// Scenario 9.
async fn twenty_confirms_at_once_sell_the_units_once(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 60).await;
    let id = shop.hold("ann", &[("MUG", 3)]).await;
    let confirm = move |shop: Shop, _| async move {
        shop.engine.confirm(id, for_order("order-1")).await.expect("it is confirmed")
    };
    for settled in shop.at_once(20, confirm).await {
        let line = &settled.hold.hold.lines[0];
        assert_eq!((line.confirmed.get(), line.held.get()), (3, 0));
        assert_eq!((settled.hold.hold.state, settled.hold.hold.steps), (HoldState::Confirmed, 1));
    }
    assert_eq!(shop.units("MUG").await, [60, 0, 3, 57]);
    let two = part(&[("MUG", 2)]);
    assert_eq!(word(&shop.engine.confirm(id, two).await), "already_confirmed");
    let other = for_order("order-2");
    assert_eq!(word(&shop.engine.confirm(id, other).await), "already_confirmed");
    assert_eq!(word(&shop.confirm(id).await), "ok"); // no reference: not compared
    assert_eq!(shop.units("MUG").await, [60, 0, 3, 57]);
    shop.finish().await;
}

/// Scenario 10, its first half.
async fn release_says_what_is_true(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 3).await;
    let released = shop.hold("a", &[("MUG", 1)]).await;
    let confirmed = shop.hold("b", &[("MUG", 1)]).await;
    let expired = shop.hold("c", &[("MUG", 1)]).await;
    for _ in 0..2 {
        let settled = shop.release(released).await.expect("it is released");
        assert_eq!((settled.hold.hold.state, settled.hold.hold.steps), (HoldState::Released, 1));
    }
    shop.confirm(confirmed).await.expect("it is confirmed");
    assert_eq!(word(&shop.release(confirmed).await), "already_confirmed");
    shop.pass(30 * SECOND).await;
    let settled = shop.release(expired).await.expect("it is gone anyway");
    assert_eq!(settled.hold.hold.state, HoldState::Expired);
    assert_eq!(word(&shop.confirm(released).await), "already_released");
    assert_eq!(word(&shop.release(HoldId::from_bytes([9; 16])).await), "not_found");
    assert_eq!(shop.units("MUG").await, [3, 0, 1, 2]);
    shop.finish().await;
}

/// Scenario 10, its second half.
async fn of_release_and_confirm_at_once_one_wins(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1_000).await;
    let hold = |shop: Shop, _| async move { shop.hold("cart", &[("MUG", 1)]).await };
    let holds = shop.at_once(1_000, hold).await;
    let mut pairs = Vec::new();
    for (n, id) in holds.iter().copied().enumerate() {
        let confirm = |shop: Shop| async move { word(&shop.confirm(id).await) };
        let release = |shop: Shop| async move { word(&shop.release(id).await) };
        // Half of the pairs start with the one, half with the other.
        let (confirm, release) = if n % 2 == 0 {
            let confirm = shop.meanwhile(confirm);
            (confirm, shop.meanwhile(release))
        } else {
            let release = shop.meanwhile(release);
            (shop.meanwhile(confirm), release)
        };
        pairs.push(tokio::spawn(async { (done(confirm).await, done(release).await) }));
    }
    let mut allocated = 0;
    for (id, answers) in holds.into_iter().zip(all(pairs).await) {
        let hold = shop.view(id).await.hold;
        assert_eq!(hold.steps, 1);
        match hold.state {
            HoldState::Confirmed => assert_eq!(answers, ("ok", "already_confirmed")),
            HoldState::Released => assert_eq!(answers, ("already_released", "ok")),
            other => panic!("{other:?}"),
        }
        allocated += i64::from(hold.state == HoldState::Confirmed);
    }
    assert!((1..1_000).contains(&allocated), "one side always won: {allocated}");
    assert_eq!(shop.units("MUG").await, [1_000, 0, allocated, 1_000 - allocated]);
    shop.finish().await;
}

/// Scenario 13.
async fn what_is_not_confirmed_goes_back_in_the_same_step(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 5).await;
    let id = shop.hold("ann", &[("MUG", 5)]).await;
    let settled = shop.engine.confirm(id, part(&[("MUG", 3)])).await.expect("it is confirmed");
    let hold = &settled.hold.hold;
    assert_eq!((hold.lines[0].confirmed.get(), hold.lines[0].released.get()), (3, 2));
    assert_eq!(hold.steps, 1);
    assert_eq!(shop.units("MUG").await, [5, 0, 3, 2]);
    let other_two = shop.engine.confirm(id, part(&[("MUG", 2)])).await;
    assert_eq!(word(&other_two), "already_confirmed");
    assert_eq!(word(&shop.confirm(id).await), "already_confirmed");
    shop.finish().await;
}

/// Scenario 14.
async fn a_count_below_what_is_promised_stands(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    let (x, y) = (shop.hold("x", &[("MUG", 4)]).await, shop.hold("y", &[("MUG", 4)]).await);
    shop.count("MUG", 5).await.expect("a count is a fact");
    assert_eq!(shop.units("MUG").await, [5, 8, 0, -3]);
    assert_eq!(word(&shop.place("z", &[("MUG", 1)]).await), "insufficient_stock");
    shop.release(x).await.expect("it is released");
    assert_eq!(shop.units("MUG").await, [5, 4, 0, 1]);
    shop.confirm(y).await.expect("what is held can be confirmed");
    assert_eq!(shop.units("MUG").await, [5, 0, 4, 1]);
    shop.finish().await;
}

/// Scenario 14: all eight are confirmed, shipped, released or swept.
async fn nothing_fails_in_a_shortfall_but_a_place(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    let (x, y) = (shop.hold("x", &[("MUG", 4)]).await, shop.hold("y", &[("MUG", 4)]).await);
    shop.count("MUG", 2).await.expect("a count is a fact");
    assert_eq!(shop.units("MUG").await, [2, 8, 0, -6]);
    shop.confirm(x).await.expect("what is held can be confirmed");
    shop.engine.ship(x, None, None).await.expect("somebody found four");
    assert_eq!(shop.units("MUG").await, [-2, 4, 0, -6]);
    shop.pass(31 * SECOND).await;
    let swept = async || shop.units("MUG").await == [-2, 0, 0, -2];
    shop.within_a_second("it is swept", swept).await;
    assert_eq!(shop.state(y).await, HoldState::Expired);
    shop.finish().await;
}

/// Scenario 21 (R13).
async fn a_hold_gives_way_to_the_one_that_replaces_it(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    let old = shop.hold("x", &[("MUG", 1)]).await;
    let place = replacing(old, request("x", &[("MUG", 1)]));
    let new = shop.engine.place(place).await.expect("as if the old one were gone").hold.hold.id;
    assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
    let hold = shop.view(old).await.hold;
    assert_eq!((hold.state, hold.replaced_by), (HoldState::Released, Some(new)));
    assert_eq!(word(&shop.confirm(old).await), "already_released");
    assert_eq!(word(&shop.confirm(new).await), "ok");
    let too_late = replacing(new, request("x", &[("MUG", 1)]));
    assert_eq!(word(&shop.engine.place(too_late).await), "already_confirmed");
    shop.finish().await;
}

/// R13: in one step, or not at all.
async fn a_refused_replacement_leaves_the_old_hold_alone(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("A", 2).await;
    shop.create("B", 0).await;
    let old = shop.hold("x", &[("A", 2)]).await;
    for lines in [&[("A", 3)][..], &[("A", 1), ("B", 1)], &[("A", 1), ("NO-SUCH-THING", 1)]] {
        let refused = shop.engine.place(replacing(old, request("x", lines))).await;
        assert_ne!(word(&refused), "ok");
        let hold = shop.view(old).await.hold;
        assert_eq!((hold.state, hold.replaced_by), (HoldState::Active, None));
        assert_eq!(shop.units("A").await, [2, 2, 0, 0]);
    }
    assert_eq!(word(&shop.confirm(old).await), "ok");
    shop.finish().await;
}

/// Scenario 21: two tabs.
async fn of_two_replacements_at_once_one_wins(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1).await;
    for _ in 0..50 {
        let old = shop.hold("x", &[("MUG", 1)]).await;
        let replace = move |shop: Shop, _| async move {
            shop.engine.place(replacing(old, request("x", &[("MUG", 1)]))).await
        };
        let mut answers = shop.at_once(2, replace).await;
        assert_eq!(number_of("ok", &answers), 1);
        assert_eq!(number_of("already_released", &answers), 1);
        assert_eq!(shop.units("MUG").await, [1, 1, 0, 0]);
        let winner = answers.remove(answers.iter().position(Result::is_ok).expect("one"));
        shop.release(winner.expect("it won").hold.hold.id).await.expect("it is released");
    }
    shop.finish().await;
}

/// Scenario 21: another owner's hold is not to be found.
async fn nobody_replaces_the_hold_of_another(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 5).await;
    let old = shop.hold("x", &[("MUG", 1)]).await;
    let theft = replacing(old, request("y", &[("MUG", 1)]));
    assert_eq!(word(&shop.engine.place(theft).await), "not_found");
    assert_eq!(shop.state(old).await, HoldState::Active);
    assert_eq!(shop.units("MUG").await, [5, 1, 0, 4]);
    shop.finish().await;
}

/// R13: the money of a hold that died and was replaced is not taken twice.
async fn a_replaced_hold_is_not_taken_again(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 5).await;
    let old = shop.hold("x", &[("MUG", 1)]).await;
    shop.pass(31 * SECOND).await;
    let place = replacing(old, request("x", &[("MUG", 1)]));
    shop.engine.place(place).await.expect("an expired hold can be replaced");
    assert_eq!(shop.state(old).await, HoldState::Expired);
    assert_eq!(word(&shop.engine.confirm(old, rehold()).await), "hold_expired");
    assert_eq!(shop.units("MUG").await, [5, 1, 0, 4]);
    shop.finish().await;
}
