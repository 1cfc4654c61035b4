//! What is sent again is done once.

use std::collections::BTreeSet;

use stockhold::{
    Adjustment, Error, HoldState, Owner, PlaceRequest, Reason, Reference, Rejection, Ttl,
    conformance::ask::{basket, item, units},
    fault::Fault,
};

use crate::{
    fixture::Kind,
    shop::{Dice, SECOND, Shop, key, keyed, request, word},
};

on_each_ledger! { parallel:
    fifty_requests_with_one_key_give_one_hold
    a_key_whose_hold_has_died_says_so
    a_key_belongs_to_one_request
    a_refused_place_leaves_its_key_free
    lost_replies_cost_nobody_a_unit
    a_receipt_that_is_sent_twice_arrives_once
    a_part_that_is_shipped_twice_leaves_once
}

/// Scenario 6, its first half.
async fn fifty_requests_with_one_key_give_one_hold(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    let place = |shop: Shop, _| async move {
        let place = keyed("8e03978e", request("ann", &[("MUG", 1)]));
        shop.engine.place(place).await.expect("it is granted")
    };
    let placed = shop.at_once(50, place).await;
    let ids: BTreeSet<_> = placed.iter().map(|placed| placed.hold.hold.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(placed.iter().filter(|placed| placed.replayed).count(), 49);
    assert_eq!(shop.units("MUG").await, [10, 1, 0, 9]);
    shop.finish().await;
}

/// Scenario 6, its second half (R11): a retry never looks like a promise that is gone.
async fn a_key_whose_hold_has_died_says_so(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    let place = keyed("8e03978e", request("ann", &[("MUG", 1)]));
    let first = shop.engine.place(place.clone()).await.expect("it is granted");
    shop.pass(30 * SECOND).await;
    let ended = shop.engine.place(place).await;
    let Err(Error::Rejected { rejection, .. }) = ended else { panic!("{ended:?}") };
    let Rejection::HoldEnded { hold } = *rejection else { panic!("{rejection:?}") };
    assert_eq!((hold.hold.id, hold.hold.state), (first.hold.hold.id, HoldState::Expired));
    assert_eq!(shop.units("MUG").await, [10, 0, 0, 10]);
    shop.finish().await;
}

/// R11: owner, life as sent, lines, what it replaces and reference make the request.
async fn a_key_belongs_to_one_request(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("A", 9).await;
    shop.create("B", 9).await;
    let old = shop.hold("ann", &[("A", 1)]).await;
    let sent = PlaceRequest {
        ttl: Ttl::from_millis(20_000),
        reference: Reference::new("order-1").ok(),
        ..keyed("k", request("ann", &[("A", 2), ("B", 1)]))
    };
    let first = shop.engine.place(sent.clone()).await.expect("it is granted");
    let other = |change: fn(&mut PlaceRequest)| {
        let mut other = sent.clone();
        change(&mut other);
        other
    };
    let mut replacing = sent.clone();
    replacing.replaces = Some(old);
    let others = [
        replacing,
        other(|place| place.owner = Owner::new("ben").expect("an owner")),
        other(|place| place.ttl = None),
        other(|place| place.ttl = Ttl::from_millis(20_001)),
        other(|place| place.lines = basket(&[("A", 2), ("B", 2)])),
        other(|place| place.lines = basket(&[("A", 2)])),
        other(|place| place.reference = None),
        other(|place| place.reference = Reference::new("order-2").ok()),
    ];
    for place in others {
        let said = format!("{place:?}");
        assert_eq!(word(&shop.engine.place(place).await), "idempotency_key_reused", "{said}");
    }
    let same = PlaceRequest { lines: basket(&[("B", 1), ("A", 1), ("A", 1)]), ..sent };
    let again = shop.engine.place(same).await.expect("it is the same");
    assert!(again.replayed && again.hold.hold.id == first.hold.hold.id);
    assert_eq!(shop.units("A").await, [9, 3, 0, 6]);
    shop.finish().await;
}

/// R11.
async fn a_refused_place_leaves_its_key_free(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 0).await;
    let place = |owner| keyed("k", request(owner, &[("MUG", 1)]));
    assert_eq!(word(&shop.engine.place(place("ann")).await), "insufficient_stock");
    shop.count("MUG", 1).await.expect("it is counted");
    let placed = shop.engine.place(place("ben")).await.expect("the key was never used");
    assert!(!placed.replayed);
    shop.finish().await;
}

/// Scenario 7, with the replies lost between ledger and engine (R15).
async fn lost_replies_cost_nobody_a_unit(kind: Kind) {
    const BUYERS: usize = 2_000;
    let shop = Shop::open(kind).await;
    shop.create("MUG", 2_000).await;
    let mut dice = Dice::new(7);
    for _ in 0..200 {
        shop.ledger.next(match dice.index(10) {
            0 => Fault::LostAfter,
            1 => Fault::LostBefore,
            2 => Fault::Unavailable,
            _ => Fault::None,
        });
    }
    shop.ledger.fail_landed(20); // so that even what is there is not always found
    let buy = |shop: Shop, n| async move {
        let place = keyed(&format!("place-{n}"), request("cart", &[("MUG", 1)]));
        let id = loop {
            match shop.engine.place(place.clone()).await {
                Ok(placed) => break placed.hold.hold.id,
                failure => assert_eq!(word(&failure), "unavailable"),
            }
        };
        while word(&shop.confirm(id).await) != "ok" {}
        id
    };
    let ids: BTreeSet<_> = shop.at_once(BUYERS, buy).await.into_iter().collect();
    assert_eq!(ids.len(), BUYERS);
    assert_eq!(shop.units("MUG").await, [2_000, 0, 2_000, 0]);
    assert_eq!(shop.engine.verify().await.expect("it answers").holds, 2_000);
    shop.finish().await;
}

/// Scenario 20, its first half (R19).
async fn a_receipt_that_is_sent_twice_arrives_once(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 0).await;
    let receive = || Adjustment::Receive { units: units(100), reference: None };
    let (mug, note) = (item("MUG"), key("note-17"));
    shop.ledger.next(Fault::LostAfter);
    shop.ledger.fail_landed(3);
    let lost = shop.engine.adjust(&mug, receive(), Some(note.clone())).await;
    assert_eq!(word(&lost), "unavailable");
    let again = shop.engine.adjust(&mug, receive(), Some(note.clone())).await.expect("received");
    assert!(again.replayed);
    assert_eq!((again.movement.delta, again.movement.on_hand_after), (units(100), units(100)));
    assert_eq!(shop.units("MUG").await, [100, 0, 0, 100]);
    let other = Adjustment::Receive { units: units(10), reference: None };
    let reused = shop.engine.adjust(&mug, other, Some(note)).await;
    assert_eq!(word(&reused), "idempotency_key_reused");
    let bare = shop.engine.adjust(&mug, receive(), None).await;
    assert_eq!(word(&bare), "idempotency_key_required");
    let (delta, reason) = (units(-1), Reason::new("broken").expect("a reason"));
    let delta = Adjustment::Delta { delta, reason, min_available: None };
    let bare = shop.engine.adjust(&mug, delta, None).await;
    assert_eq!(word(&bare), "idempotency_key_required");
    shop.finish().await;
}

/// Scenario 20, its second half.
async fn a_part_that_is_shipped_twice_leaves_once(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 5).await;
    let id = shop.hold("ann", &[("MUG", 5)]).await;
    shop.confirm(id).await.expect("it is confirmed");
    let two = Some(basket(&[("MUG", 2)]));
    let bare = shop.engine.ship(id, two.clone(), None).await;
    assert_eq!(word(&bare), "idempotency_key_required");
    for replayed in [false, true] {
        let shipped = shop.engine.ship(id, two.clone(), Some(key("parcel-1"))).await;
        assert_eq!(shipped.expect("it is shipped").replayed, replayed);
        assert_eq!(shop.units("MUG").await, [3, 0, 3, 0]);
    }
    assert_eq!(shop.state(id).await, HoldState::Confirmed);
    shop.engine.ship(id, None, None).await.expect("the rest is shipped");
    assert_eq!(shop.state(id).await, HoldState::Shipped);
    assert_eq!(shop.units("MUG").await, [0, 0, 0, 0]);
    shop.finish().await;
}
