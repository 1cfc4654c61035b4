//! The acceptance scenarios that need no server, with their numbers.

use stockhold_core::{
    Action, Basket, Command, HoldId, HoldState, ItemKey, Limits, OnExpired, Outcome, Place,
    Quantity, Rejection, Sku, Ttl,
};

use crate::{
    ledger::{Fate, Ledger},
    scenario::check,
};

#[test]
fn scenario_03_basket_all_or_nothing() {
    check(
        "stock A 10
         stock B 0
         place X A:1 B:1                           -> insufficient_stock short=1 of=2 B requested=1 available=0
         stock? A held=0 available=10
         confirm X                                 -> not_found",
    );
}

#[test]
fn scenario_05_same_sku_twice_in_one_basket() {
    check(
        "stock A 3
         place X A:2 A:2                           -> insufficient_stock A requested=4 available=3
         receive A 1
         place X A:2 A:2                           -> ok A held=4
         stock? A held=4 available=0",
    );
}

#[test]
fn scenario_06_idempotent_create() {
    let replays = "place X A:1 ttl=30s key=k -> ok replayed hold=X\n".repeat(49);
    check(&format!(
        "stock A 10
         place X A:1 ttl=30s key=k                 -> ok hold=X
         {replays}
         stock? A held=1
         place Y A:2 owner=X ttl=30s key=k         -> idempotency_key_reused
         wait 30s
         place X A:1 ttl=30s key=k                 -> hold_ended hold=X expired
         place X A:1 ttl=30s key=k                 -> hold_ended hold=X expired
         hold? X steps=expire
         stock? A held=0 available=10"
    ));
}

#[test]
fn scenario_08_expiry_on_time() {
    check(
        "stock A 10
         place X A:1 ttl=30s
         place Y A:1 ttl=30s
         wait 29.5s
         confirm X                                 -> ok confirmed
         wait 0.5s
         confirm Y                                 -> hold_expired",
    );
}

#[test]
fn scenario_08_ten_thousand_holds_expire_together_each_once() {
    let mut ledger = Ledger::new(Limits::default());
    let commit = |ledger: &mut Ledger, commands: &[Command]| {
        let apply = |book: &mut stockhold_core::Book, now| {
            let answers: Vec<_> = commands.iter().map(|command| book.apply(command, now)).collect();
            Ok(answers.iter().filter(|answer| answer.is_ok()).count())
        };
        ledger.transact(Fate::Commit, apply).unwrap();
    };
    let item = ItemKey::at_default(Sku::new("A").unwrap());
    let key = std::sync::Arc::new(item.clone());
    let on_hand = Some(Quantity::new(10_000).unwrap());
    commit(
        &mut ledger,
        &[Command::new(Action::SetPolicy { item: key.clone(), on_hand, safety_stock: None })],
    );
    let ids: Vec<_> = (0..10_000_u128).map(|n| HoldId::from_bytes(n.to_be_bytes())).collect();
    let places: Vec<_> = ids.iter().map(|id| place_one(*id, &item)).collect();
    commit(&mut ledger, &places);
    assert!(ledger.book.item(&key).unwrap().available().is_zero());

    ledger.wait(30_000);
    let due = ledger.book.due(ledger.now, usize::MAX);
    assert_eq!(due, ids);
    let expires: Vec<_> = due.iter().map(|id| Command::new(Action::Expire { id: *id })).collect();
    commit(&mut ledger, &expires);
    commit(&mut ledger, &expires);

    assert_eq!(ledger.book.item(&key).unwrap().available().get(), 10_000);
    assert!(ledger.book.holds().all(|hold| hold.state == HoldState::Expired && hold.steps == 1));
    assert_eq!(ledger.verify_swept(), Ok(()));
}

fn place_one(id: HoldId, item: &ItemKey) -> Command {
    Command::new(Action::Place(Place {
        id,
        owner: "cart".parse().expect("an owner"),
        ttl: Ttl::from_millis(30_000),
        lines: Basket::new([(item.clone(), Quantity::ONE)]).expect("a line"),
        replaces: None,
        reference: None,
    }))
}

#[test]
fn scenario_09_duplicate_confirm() {
    let confirms = "confirm X ref=order-7 -> ok confirmed A confirmed=3\n".repeat(20);
    check(&format!(
        "stock A 60
         place X A:3
         {confirms}
         stock? A held=0 allocated=3 available=57
         confirm X A:2 ref=order-7                 -> already_confirmed A confirmed=3
         confirm X ref=order-8                     -> already_confirmed ref=order-7"
    ));
}

#[test]
fn scenario_10_release_rules() {
    check(
        "stock A 10
         place X A:1 ttl=30s
         place Y A:2 ttl=30s
         place Z A:3 ttl=30s
         release X                                 -> ok released
         release X                                 -> ok released
         confirm Z                                 -> ok
         release Z                                 -> already_confirmed A confirmed=3
         stock? A allocated=3
         wait 30s
         release Y                                 -> ok expired
         stock? A held=0 allocated=3 available=7",
    );
}

#[test]
fn scenario_10_of_release_and_confirm_just_one_happens() {
    check(
        "stock A 10
         place X A:1
         place Y A:1
         release X                                 -> ok released
         confirm X                                 -> already_released
         confirm Y                                 -> ok confirmed
         release Y                                 -> already_confirmed
         hold? X steps=release
         hold? Y steps=confirm",
    );
}

#[test]
fn scenario_11_late_payment_and_nobody_else_came() {
    check(
        "stock A 1
         place X A:1 ttl=30s
         wait 60s
         confirm X rehold                          -> ok reacquired confirmed
         stock? A held=0 allocated=1 available=0",
    );
}

#[test]
fn scenario_11_late_payment_but_another_took_it() {
    check(
        "stock A 1
         place X A:1 ttl=30s
         wait 30s
         place Y A:1 ttl=30s
         confirm X rehold                          -> hold_expired A requested=1 available=0 next_due=60s
         hold? Y active A held=1
         confirm Y                                 -> ok",
    );
}

#[test]
fn scenario_11_late_payment_of_a_basket_of_which_one_line_is_left() {
    check(
        "stock A 1
         stock B 1
         place X A:1 B:1 ttl=30s
         wait 30s
         place Y B:1
         confirm X rehold                          -> hold_expired A available=1 B available=0
         stock? A held=0 allocated=0 available=1
         stock? B held=1 allocated=0
         hold? X expired steps=expire",
    );
}

#[test]
fn scenario_12_extend_never_revives() {
    check(
        "stock A 1
         place X A:1 ttl=30s
         wait 30s                                  # and no sweep
         extend X ttl=30s                          -> hold_expired
         place Y A:1                               -> ok active owner=Y
         extend X ttl=30s                          -> hold_expired A available=0
         stock? A held=1",
    );
}

#[test]
fn scenario_12_the_cap_is_met_exactly() {
    check(
        "stock A 1
         place X A:1 ttl=14m55s                    -> ok expires=14m55s
         at 14m50s extend X ttl=100ms              -> ok expires=14m55s
                   extend X ttl=30s                -> ok expires=15m
                   extend X ttl=30s                -> max_lifetime expires=15m
                   extend X ttl=100ms              -> max_lifetime expires=15m
         hold? X active expires=15m
         at 14m59s confirm X                       -> ok",
    );
}

#[test]
fn scenario_13_partial_confirm() {
    check(
        "stock A 10
         place X A:5
         stock? A held=5 available=5
         confirm X A:3                             -> ok A confirmed=3 released=2
         stock? A held=0 allocated=3 available=7
         confirm X A:2                             -> already_confirmed A confirmed=3",
    );
}

#[test]
fn scenario_14_count_below_held() {
    check(
        "stock A 10
         place W A:2 ttl=30s
         place X A:2 ttl=30s
         place Y A:2 ttl=60s
         place Z A:2 ttl=30s
         count A 5                                 -> ok delta=-5 on_hand=5
         stock? A on_hand=5 held=8 available=-3
         place N A:1                               -> insufficient_stock A available=-3
         release W                                 -> ok
         release X                                 -> ok
         stock? A available=1
         confirm Z                                 -> ok
         wait 30s
         sweep                                     -> ok expired=0
         wait 30s
         sweep                                     -> ok expired=1
         stock? A on_hand=5 held=0 allocated=2 available=3",
    );
}

#[test]
fn scenario_14_all_that_is_held_can_still_be_confirmed() {
    check(
        "stock A 10
         place X A:8
         count A 5
         confirm X                                 -> ok confirmed
         stock? A on_hand=5 held=0 allocated=8 available=-3
         ship X                                    -> ok shipped
         stock? A on_hand=-3 held=0 allocated=0 available=-3",
    );
}

#[test]
fn scenario_20_lost_reply_of_a_receive() {
    check(
        "stock A 0
         receive A 100 key=k                       -> ok on_hand=100
         receive A 100 key=k                       -> ok replayed on_hand=100
         stock? A on_hand=100
         receive A 100 key=-                       -> idempotency_key_required
         place X A:5
         confirm X
         ship X A:2 key=s                          -> ok A shipped=2
         ship X A:2 key=s                          -> ok replayed A shipped=2
         stock? A on_hand=98 allocated=3
         moves? A receive+100,ship-2",
    );
}

#[test]
fn scenario_21_replace() {
    check(
        "stock A 1
         place X A:1 owner=ann
         place S A:1 owner=bob replaces=X          -> not_found
         place Y A:1 owner=ann replaces=X          -> ok active
         hold? X released replaced_by=Y
         stock? A held=1
         place Z A:1 owner=ann replaces=X          -> already_released   # the other tab
         confirm X                                 -> already_released
         confirm X rehold                          -> already_released
         confirm Y                                 -> ok",
    );
}

#[test]
fn a_refused_hold_leaves_no_row_behind() {
    let mut ledger = Ledger::new(Limits::default());
    let item = ItemKey::at_default(Sku::new("A").unwrap());
    let id = HoldId::from_bytes([7; 16]);
    let answer = ledger.apply(&place_one(id, &item), Fate::Commit).unwrap();
    assert!(matches!(answer, Err(Rejection::UnknownSku { .. })));
    let confirm =
        Action::Confirm { id, lines: None, on_expired: OnExpired::Rehold, reference: None };
    let answer = ledger.apply(&Command::new(confirm), Fate::Commit).unwrap();
    assert_eq!(answer.map(|_: Outcome| ()), Err(Rejection::NotFound { id }));
    assert_eq!(ledger.book.holds().count(), 0);
}
