//! What a key is compared by: every field of a request counts, but for the number of a new hold.

use std::{collections::HashMap, sync::Arc};

use proptest::prelude::*;
use stockhold_core::{
    Action, Basket, Digest, HoldId, ItemKey, LoadMode, Location, OnExpired, Place, Quantity,
    Reason, Reference, Sku, Ttl,
};

use crate::history::actions;

#[test]
fn each_field_of_a_request_counts_in_its_digest() {
    let mut seen: HashMap<Digest, Action> = HashMap::new();
    for action in places().into_iter().chain(verbs()).chain(stock_verbs()) {
        if let Some(other) = seen.insert(Digest::of(&action), action.clone()) {
            panic!("one digest for {action:?} and {other:?}");
        }
    }
}

proptest! {
    #[test]
    fn different_actions_have_different_digests(one in actions(), other in actions()) {
        let same = Digest::of(&one) == Digest::of(&other);
        prop_assert_eq!(same, without_id(&one) == without_id(&other), "{:?} {:?}", one, other);
    }

    #[test]
    fn the_number_of_a_new_hold_does_not_count_in_its_digest(
        action in actions(), id in any::<[u8; 16]>(),
    ) {
        if let Action::Place(place) = &action {
            let again = Action::Place(Place { id: HoldId::from_bytes(id), ..place.clone() });
            prop_assert_eq!(Digest::of(&action), Digest::of(&again));
        }
    }

    #[test]
    fn texts_cannot_run_into_each_other(
        text in "[a-c]{3,6}", one in 1_usize..3, other in 1_usize..3,
    ) {
        let split = |at: usize| receive(&text[..at], &text[at..], None);
        let same = Digest::of(&split(one)) == Digest::of(&split(other));
        prop_assert_eq!(same, one == other);
    }
}

/// Places that differ in one field from the first.
fn places() -> Vec<Action> {
    let first = Place {
        id: id(1),
        owner: "ann".parse().expect("an owner"),
        ttl: Ttl::from_millis(30_000),
        lines: basket(&[("MUG", 1), ("TEE", 2)]),
        replaces: None,
        reference: None,
    };
    let others = [
        Place { owner: "bob".parse().expect("an owner"), ..first.clone() },
        Place { ttl: Ttl::from_millis(30_001), ..first.clone() },
        Place { ttl: None, ..first.clone() },
        Place { lines: basket(&[("MUG", 2), ("TEE", 1)]), ..first.clone() },
        Place { lines: basket(&[("MUG", 1)]), ..first.clone() },
        Place { replaces: Some(id(2)), ..first.clone() },
        Place { replaces: Some(id(3)), ..first.clone() },
        Place { reference: reference("a"), ..first.clone() },
        Place { reference: reference(""), ..first.clone() },
    ];
    others.into_iter().chain([first]).map(Action::Place).collect()
}

/// Verbs on a hold, each with every field changed once.
fn verbs() -> Vec<Action> {
    let confirm = |number, lines, on_expired, reference| Action::Confirm {
        id: id(number),
        lines,
        on_expired,
        reference,
    };
    let some = || Some(basket(&[("MUG", 1)]));
    let release = |number, reason| Action::Release { id: id(number), reason };
    let revoke = |number, text| Action::Revoke { id: id(number), reason: reason(text) };
    let extend =
        |number, ttl| Ttl::from_millis(ttl).map(|ttl| Action::Extend { id: id(number), ttl });
    let mut all = vec![
        confirm(1, None, OnExpired::Fail, None),
        confirm(2, None, OnExpired::Fail, None),
        confirm(1, some(), OnExpired::Fail, None),
        confirm(1, Some(basket(&[("MUG", 2)])), OnExpired::Fail, None),
        confirm(1, None, OnExpired::Rehold, None),
        confirm(1, None, OnExpired::Fail, reference("a")),
        confirm(1, None, OnExpired::Fail, reference("")),
        release(1, None),
        release(2, None),
        release(1, Some(reason("a"))),
        revoke(1, "a"),
        revoke(2, "a"),
        revoke(1, "b"),
        Action::Expire { id: id(1) },
        Action::Expire { id: id(2) },
    ];
    all.extend([extend(1, 1), extend(2, 1), extend(1, 2)].into_iter().flatten());
    for (number, lines) in [(1, None), (2, None), (1, some()), (1, Some(basket(&[("TEE", 1)])))] {
        all.push(Action::Ship { id: id(number), lines: lines.clone() });
        all.push(Action::Cancel { id: id(number), lines });
    }
    all
}

/// Verbs on stock, each with every field changed once.
fn stock_verbs() -> Vec<Action> {
    let adjust = |sku, delta, text, floor: Option<i64>| Action::Adjust {
        item: item(sku, "here"),
        delta: units(delta),
        reason: reason(text),
        min_available: floor.map(units),
    };
    let count = |sku, count, text, expected: Option<i64>| Action::Count {
        item: item(sku, "here"),
        count: units(count),
        reason: reason(text),
        if_on_hand: expected.map(units),
    };
    let policy = |sku, on_hand: Option<i64>, safety: Option<i64>| Action::SetPolicy {
        item: item(sku, "here"),
        on_hand: on_hand.map(units),
        safety_stock: safety.map(units),
    };
    let load = |sku, on_hand, safety: Option<i64>, mode| Action::Load {
        item: item(sku, "here"),
        on_hand: units(on_hand),
        safety_stock: safety.map(units),
        mode,
    };
    let changed = [("MUG", 1, "a", None), ("TEE", 1, "a", None), ("MUG", 2, "a", None)];
    let changed = changed.into_iter().chain([("MUG", 1, "b", None), ("MUG", 1, "a", Some(0))]);
    let mut all: Vec<_> = changed
        .flat_map(|(sku, n, text, bound)| [adjust(sku, n, text, bound), count(sku, n, text, bound)])
        .collect();
    all.extend([
        receive("MUG", "here", None),
        receive("TEE", "here", None),
        receive("MUG", "there", None),
        receive("MUG", "here", reference("a")),
        policy("MUG", None, None),
        policy("TEE", None, None),
        policy("MUG", Some(0), None),
        policy("MUG", None, Some(0)),
        policy("MUG", None, Some(1)),
        load("MUG", 0, None, LoadMode::Create),
        load("TEE", 0, None, LoadMode::Create),
        load("MUG", 1, None, LoadMode::Create),
        load("MUG", 0, Some(0), LoadMode::Create),
        load("MUG", 0, None, LoadMode::Count),
    ]);
    all
}

fn receive(sku: &str, location: &str, reference: Option<Reference>) -> Action {
    Action::Receive { item: item(sku, location), units: Quantity::ONE, reference }
}

/// The action as a digest sees it.
fn without_id(action: &Action) -> Action {
    match action {
        Action::Place(place) => Action::Place(Place { id: id(0), ..place.clone() }),
        other => other.clone(),
    }
}

const fn id(number: u8) -> HoldId {
    HoldId::from_bytes([number; 16])
}

fn item(sku: &str, location: &str) -> Arc<ItemKey> {
    let location: Location = location.parse().expect("a location");
    Arc::new(ItemKey { sku: Sku::new(sku).expect("a SKU"), location })
}

fn basket(lines: &[(&str, i64)]) -> Basket {
    let lines = lines.iter().map(|(sku, n)| (ItemKey::clone(&item(sku, "here")), units(*n)));
    Basket::new(lines).expect("lines")
}

fn units(units: i64) -> Quantity {
    Quantity::new(units).expect("a quantity")
}

fn reason(text: &str) -> Reason {
    Reason::new(text).expect("a reason")
}

fn reference(text: &str) -> Option<Reference> {
    Some(Reference::new(text).expect("a reference"))
}
