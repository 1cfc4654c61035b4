//! The rules R1 to R19, each as a story.

use std::sync::Arc;

use stockhold_core::{
    Action, Basket, Book, Command, Hold, HoldId, HoldState, ItemKey, Limits, Line, Place, Quantity,
    Sku, StockItem, Timestamp,
};

use crate::scenario::{check, check_with};

#[test]
fn r01_a_hold_is_dead_at_its_deadline_and_not_a_millisecond_before() {
    check(
        "stock MUG 10
         at 1s place X MUG:1 ttl=30s               -> ok expires=31s expires_in=30s
               place Y MUG:1 ttl=30s
               place Z MUG:1 ttl=30s
         at 30s
         wait 999ms
               confirm X                           -> ok confirmed
               extend Y ttl=100ms                  -> ok expires=31099ms
         wait 1ms
               confirm Z                           -> hold_expired
               hold? Y active expires_in=99ms",
    );
}

#[test]
fn r02_a_due_hold_is_never_revived() {
    check(
        "stock MUG 1
         place X MUG:1 ttl=30s
         wait 30s
         extend X ttl=30s                          -> hold_expired MUG requested=1 available=1
         confirm X                                 -> hold_expired MUG available=1
         extend X ttl=30s                          -> hold_expired
         hold? X expired steps=expire MUG held=0 expired=1",
    );
}

#[test]
fn r02_a_place_that_finds_too_little_expires_the_due_holds_of_the_item() {
    check(
        "stock MUG 5
         stock TEE 5
         place X MUG:4 TEE:4 ttl=30s
         wait 30s
         stock? MUG held=4 available=1
         place Y MUG:1                             -> ok   # enough: X is left alone
         stock? MUG held=5
         place Z MUG:4 TEE:1                       -> ok
         hold? X expired steps=expire
         stock? MUG held=5 available=0
         stock? TEE held=1 available=4",
    );
}

#[test]
fn r02_a_due_hold_shows_as_expired_before_anybody_has_expired_it() {
    check(
        "stock MUG 5
         place X MUG:2 ttl=30s
         wait 30s
         hold? X expired steps= expires=30s expires_in=0ms MUG held=0 expired=2
         stock? MUG held=2",
    );
}

#[test]
fn r02_a_place_that_is_refused_all_the_same_has_expired_what_was_due() {
    check(
        "stock MUG 5
         place X MUG:2 ttl=30s
         place Y MUG:1 ttl=60s
         wait 30s
         place Z MUG:5                             -> insufficient_stock MUG requested=5 available=4 next_due=60s
         hold? X steps=expire
         confirm Z                                 -> not_found",
    );
}

#[test]
fn r03_the_same_confirm_again_is_answered_with_the_hold_and_moves_nothing() {
    check(
        "stock MUG 5
         place X MUG:3 ref=cart-1
         confirm X ref=order-7                     -> ok confirmed ref=order-7
         confirm X ref=order-7                     -> ok confirmed ref=order-7
         confirm X                                 -> ok confirmed ref=order-7
         confirm X MUG:3                           -> ok confirmed
         confirm X rehold                          -> ok confirmed
         hold? X steps=confirm MUG confirmed=3
         stock? MUG allocated=3",
    );
}

#[test]
fn r03_another_confirm_is_refused_with_the_one_that_is_recorded() {
    check(
        "stock MUG 5
         place X MUG:3
         confirm X MUG:2 ref=order-7
         confirm X                                 -> already_confirmed ref=order-7 MUG confirmed=2
         confirm X MUG:1                           -> already_confirmed MUG confirmed=2
         confirm X MUG:2 ref=order-8               -> already_confirmed ref=order-7
         confirm X MUG:2 ref=order-7               -> ok
         stock? MUG allocated=2",
    );
}

#[test]
fn r03_the_reference_of_the_place_stands_if_confirm_gives_none() {
    check(
        "stock MUG 5
         place X MUG:1 ref=cart-1
         confirm X                                 -> ok ref=cart-1
         confirm X ref=cart-1                      -> ok ref=cart-1
         confirm X ref=order-7                     -> already_confirmed ref=cart-1",
    );
}

#[test]
fn r04_of_two_confirms_one_writes() {
    check(
        "stock MUG 5
         place X MUG:3
         confirm X                                 -> ok
         confirm X                                 -> ok
         hold? X steps=confirm
         stock? MUG on_hand=5 allocated=3",
    );
}

#[test]
fn r05_a_release_of_what_is_over_shows_the_true_state() {
    check(
        "stock MUG 5
         place X MUG:1
         place Y MUG:1 ttl=30s
         place Z MUG:1
         release X                                 -> ok released
         release X                                 -> ok released
         revoke Z                                  -> ok revoked
         release Z                                 -> ok revoked
         wait 30s
         release Y                                 -> ok expired
         release Y                                 -> ok expired
         hold? X steps=release
         hold? Y steps=expire
         stock? MUG available=5",
    );
}

#[test]
fn r06_a_confirmed_hold_is_given_back_by_cancel_not_by_release() {
    check(
        "stock MUG 5
         place X MUG:2
         confirm X ref=order-7
         release X                                 -> already_confirmed ref=order-7 MUG confirmed=2
         stock? MUG allocated=2
         cancel X                                  -> ok cancelled
         stock? MUG on_hand=5 allocated=0 available=5
         release X                                 -> already_confirmed",
    );
}

#[test]
fn r07_released_and_revoked_holds_cannot_be_confirmed() {
    check(
        "stock MUG 5
         place X MUG:1
         place Y MUG:1
         release X
         revoke Y
         confirm X                                 -> already_released
         confirm X rehold                          -> already_released
         confirm Y                                 -> revoked
         confirm Y rehold                          -> revoked
         stock? MUG allocated=0",
    );
}

#[test]
fn r08_money_arrives_late() {
    check(
        "stock MUG 3
         place X MUG:2 ttl=30s
         wait 40s
         confirm X rehold ref=order-7              -> ok reacquired confirmed hold=X ref=order-7 MUG confirmed=2 expired=0
         confirm X                                 -> ok confirmed
         hold? X steps=expire,rehold
         stock? MUG held=0 allocated=2 available=1",
    );
}

#[test]
fn r08_a_partial_rehold_takes_just_what_it_confirms() {
    check(
        "stock MUG 3
         stock TEE 3
         place X MUG:3 TEE:1 ttl=30s
         wait 30s
         place Y MUG:1
         confirm X rehold                          -> hold_expired MUG requested=3 available=2 TEE available=3
         confirm X MUG:2 rehold                    -> ok reacquired MUG confirmed=2 expired=1 TEE confirmed=0 expired=1
         stock? MUG held=1 allocated=2 available=0
         stock? TEE allocated=0 available=3",
    );
}

#[test]
fn r08_a_rehold_expires_what_is_in_its_way() {
    check(
        "stock MUG 1
         place X MUG:1 ttl=10s
         wait 10s
         place Y MUG:1 ttl=10s
         wait 10s
         confirm X rehold                          -> ok reacquired
         confirm Y rehold                          -> hold_expired MUG available=0
         hold? Y expired",
    );
}

#[test]
fn r08_a_hold_in_time_needs_no_rehold() {
    check(
        "stock MUG 1
         place X MUG:1
         confirm X rehold                          -> ok confirmed
         hold? X steps=confirm",
    );
}

#[test]
fn r09_an_extend_moves_the_deadline_but_never_forward_in_time() {
    check(
        "stock MUG 1
         place X MUG:1 ttl=30s                     -> ok expires=30s
         at 10s extend X ttl=60s                   -> ok expires=70s
         at 20s extend X ttl=10s                   -> ok expires=70s
         at 69s confirm X                          -> ok",
    );
}

#[test]
fn r09_an_extend_stops_at_the_longest_lifetime() {
    check(
        "stock MUG 1
         at 5s place X MUG:1 ttl=15m               -> ok expires=15m5s
         extend X ttl=15m                          -> max_lifetime expires=15m5s
         hold? X active expires=15m5s",
    );
}

#[test]
fn r10_a_partial_confirm_releases_the_rest() {
    check(
        "stock MUG 5
         stock TEE 5
         place X MUG:3 TEE:2
         confirm X MUG:1                           -> ok confirmed MUG confirmed=1 released=2 TEE confirmed=0 released=2
         stock? MUG held=0 allocated=1 available=4
         stock? TEE held=0 allocated=0 available=5
         ship X                                    -> ok shipped MUG shipped=1 TEE shipped=0",
    );
}

#[test]
fn r11_the_same_place_again_is_answered_with_the_same_hold() {
    check(
        "stock MUG 5
         stock TEE 5
         place X MUG:2 TEE:1 owner=ann ref=c ttl=30s key=k -> ok hold=X
         wait 1s
         place X TEE:1 MUG:1 MUG:1 owner=ann ref=c ttl=30s key=k -> ok replayed hold=X expires=30s
         confirm X
         place X MUG:2 TEE:1 owner=ann ref=c ttl=30s key=k -> ok replayed hold=X confirmed
         ship X
         place X MUG:2 TEE:1 owner=ann ref=c ttl=30s key=k -> ok replayed hold=X shipped
         stock? MUG on_hand=3 held=0",
    );
}

#[test]
fn r11_another_request_under_the_same_key_is_refused() {
    for other in [
        "place Y MUG:2 owner=ann ref=c ttl=31s key=k",
        "place Y MUG:2 owner=ann ref=c key=k",
        "place Y MUG:3 owner=ann ref=c ttl=30s key=k",
        "place Y TEE:2 owner=ann ref=c ttl=30s key=k",
        "place Y MUG@north:2 owner=ann ref=c ttl=30s key=k",
        "place Y MUG:2 owner=bob ref=c ttl=30s key=k",
        "place Y MUG:2 owner=ann ref=d ttl=30s key=k",
        "place Y MUG:2 owner=ann ttl=30s key=k",
        "place Y MUG:2 owner=ann ref=c ttl=30s replaces=X key=k",
    ] {
        let text = format!(
            "stock MUG 9\nstock TEE 9\nstock MUG@north 9\n\
             place X MUG:2 owner=ann ref=c ttl=30s key=k\n\
             {other} -> idempotency_key_reused\n\
             hold? X active\nstock? MUG held=2\nconfirm Y -> not_found"
        );
        check(&text);
    }
}

#[test]
fn r11_a_replay_never_looks_like_a_promise_that_is_gone() {
    for (end, state) in [
        ("release X", "released"),
        ("revoke X", "revoked"),
        ("wait 30s", "expired"),
        ("confirm X \n cancel X", "cancelled"),
    ] {
        let text = format!(
            "stock MUG 5\nplace X MUG:2 ttl=30s key=k\n{end}\n\
             place X MUG:2 ttl=30s key=k -> hold_ended hold=X {state}\n\
             stock? MUG held=0 available=5"
        );
        check(&text);
    }
}

#[test]
fn r11_a_refused_place_stores_nothing() {
    check(
        "stock MUG 1
         place X MUG:2 key=k                       -> insufficient_stock
         receive MUG 1
         place X MUG:2 key=k                       -> ok active",
    );
}

#[test]
fn r12_the_same_item_twice_is_summed_before_anything_is_checked() {
    let limits = Limits { max_lines: 1, ..Limits::default() };
    check_with(
        "r12",
        &limits,
        "stock MUG 2000000
         place X MUG:2 MUG:3                       -> ok MUG requested=5 held=5
         place Y MUG:500001 MUG:500000             -> quantity_too_large MUG requested=1000001 max=1000000
         place Z MUG:1 MUG@north:1                 -> too_many_lines lines=2 max=1
         confirm X MUG:2 MUG:2 MUG:2               -> more_than_held MUG requested=6 held=5
         confirm X MUG:2 MUG:2                     -> ok MUG confirmed=4 released=1",
    );
}

#[test]
fn r12_the_same_sku_at_two_locations_is_two_items() {
    check(
        "stock MUG 1
         stock MUG@north 1
         place X MUG:1 MUG@north:1                 -> ok MUG held=1 MUG@north held=1
         place Y MUG@north:1                       -> insufficient_stock MUG@north available=0",
    );
}

#[test]
fn r13_a_place_that_replaces_needs_no_more_than_the_difference() {
    check(
        "stock MUG 5
         place X MUG:3 owner=ann
         place Y MUG:5 owner=ann replaces=X        -> ok active MUG held=5
         hold? X released replaced_by=Y steps=release
         stock? MUG held=5 available=0",
    );
}

#[test]
fn r13_a_refused_replacement_leaves_the_old_hold_as_it_was() {
    check(
        "stock MUG 5
         stock TEE 1
         place X MUG:3 owner=ann
         place Y MUG:6 owner=ann replaces=X        -> insufficient_stock MUG requested=6 available=5
         place Y MUG:3 TEE:2 owner=ann replaces=X  -> insufficient_stock TEE available=1
         place Y CUP:1 owner=ann replaces=X        -> unknown_sku CUP
         hold? X active replaced_by=none steps= MUG held=3
         confirm X                                 -> ok",
    );
}

#[test]
fn r13_an_expired_hold_can_be_replaced_and_is_never_reheld_then() {
    check(
        "stock MUG 5
         place X MUG:3 owner=ann ttl=30s
         wait 30s
         place Y MUG:1 owner=ann replaces=X        -> ok
         hold? X expired replaced_by=Y
         confirm X rehold                          -> hold_expired MUG requested=3 available=4
         place Z MUG:1 owner=ann replaces=X        -> hold_expired
         stock? MUG held=1 allocated=0",
    );
}

#[test]
fn r13_a_hold_that_is_over_cannot_be_replaced() {
    for (end, code) in [
        ("release X", "already_released"),
        ("revoke X", "revoked"),
        ("confirm X", "already_confirmed"),
        ("confirm X \n ship X", "already_confirmed"),
        ("confirm X \n cancel X", "already_cancelled"),
    ] {
        let text = format!(
            "stock MUG 9\nplace X MUG:2 owner=ann\n{end}\n\
             place Y MUG:1 owner=ann replaces=X -> {code}\n\
             stock? MUG held=0\nconfirm Y -> not_found"
        );
        check(&text);
    }
}

#[test]
fn r13_the_hold_of_another_owner_is_not_found() {
    check(
        "stock MUG 5
         place X MUG:3 owner=ann
         place Y MUG:1 owner=bob replaces=X        -> not_found
         hold? X active replaced_by=none",
    );
}

#[test]
fn r14_a_count_is_a_fact() {
    check(
        "stock MUG 10
         place X MUG:3 ttl=30s
         place Y MUG:3 ttl=30s
         place Z MUG:3 ttl=30s
         confirm X
         count MUG 0                               -> ok delta=-10 on_hand=0
         stock? MUG on_hand=0 held=6 allocated=3 available=-9
         place A MUG:1                             -> insufficient_stock MUG available=-9
         ship X                                    -> ok shipped
         stock? MUG on_hand=-3 available=-9
         release Y                                 -> ok released
         wait 30s
         sweep                                     -> ok expired=1
         stock? MUG on_hand=-3 held=0 available=-3
         moves? MUG create+10,count-10,ship-3",
    );
}

#[test]
fn r14_a_delta_and_a_count_may_be_conditional() {
    check(
        "stock MUG 10
         place X MUG:6
         adjust MUG -1 min_available=4             -> would_go_below MUG left=3 floor=4
         adjust MUG -1 min_available=3             -> ok delta=-1 on_hand=9
         adjust MUG -9                             -> ok on_hand=0
         adjust MUG -1                             -> would_go_below MUG left=-1 floor=0
         count MUG 7 if_on_hand=1                  -> on_hand_differs MUG expected=1 on_hand=0
         count MUG 7 if_on_hand=0                  -> ok delta=7 on_hand=7
         count MUG -1                              -> quantity_too_small
         stock? MUG on_hand=7 held=6 available=1",
    );
}

#[test]
fn r14_safety_stock_is_not_sold() {
    check(
        "stock MUG 10 safety=8                     -> ok created
         place X MUG:3                             -> insufficient_stock MUG available=2
         policy MUG safety=7                       -> ok
         place X MUG:3                             -> ok
         policy MUG safety=9
         stock? MUG on_hand=10 held=3 safety_stock=9 available=-2
         confirm X                                 -> ok
         policy MUG on_hand=11                     -> already_exists MUG on_hand=10",
    );
}

#[test]
fn r14_a_list_creates_what_is_not_there_and_finds_what_is() {
    check(
        "load MUG 10 safety=2                      -> ok created
         stock? MUG on_hand=10 safety_stock=2 available=8
         load MUG 10 safety=2                      -> ok unchanged
         load MUG 10                               -> ok unchanged
         load MUG 11                               -> already_exists MUG on_hand=10 safety_stock=2
         load MUG 10 safety=3                      -> already_exists MUG on_hand=10 safety_stock=2
         load TEE 0                                -> ok created
         load TEE 0 count                          -> ok unchanged
         load CUP -1                               -> quantity_too_small
         load CUP 1 safety=-1 count                -> quantity_too_small
         stock? CUP                                -> unknown_sku CUP
         moves? MUG create+10
         moves? TEE",
    );
}

#[test]
fn r14_a_list_of_what_was_counted_is_a_fact() {
    check(
        "load MUG 10 count                         -> ok created
         place X MUG:6
         load MUG 4 count                          -> ok counted
         stock? MUG on_hand=4 held=6 available=-2
         load MUG 4 count                          -> ok unchanged
         load MUG 4 safety=1 count                 -> ok counted
         load MUG 4 count                          -> ok unchanged
         stock? MUG on_hand=4 safety_stock=1
         load MUG 7 safety=0 count                 -> ok counted
         stock? MUG on_hand=7 held=6 safety_stock=0 available=1
         moves? MUG create+10,count-6,count+3",
    );
}

#[test]
fn r15_nothing_of_a_batch_that_was_not_written_remains() {
    // Every line of every scenario is rolled back once; this is the shortest of them all.
    check(
        "stock MUG 5
         place X MUG:5 key=k                       -> ok hold=X
         place X MUG:5 key=k                       -> ok replayed hold=X
         receive MUG 2 key=r                       -> ok on_hand=7
         receive MUG 2 key=r                       -> ok replayed on_hand=7
         moves? MUG create+5,receive+2",
    );
}

#[test]
fn r16_a_damaged_hold_fails_alone() {
    let mut book = Book::new(Limits::default());
    book.put_item(StockItem { held: Quantity::new(2).unwrap(), ..one_held("MUG") });
    book.put_hold(one_of(1, &["MUG", "GONE"])); // there is no such item
    book.put_hold(one_of(2, &["MUG"]));
    assert_eq!(book.due(at(30), 9), [id(1), id(2)]);
    let expire = |number| Command::new(Action::Expire { id: id(number) });
    assert_eq!(book.apply(&expire(1), at(30)).unwrap_err().code(), "internal");
    assert!(!book.is_changed());
    book.apply(&expire(2), at(30)).unwrap();
    assert_eq!(book.hold(id(2)).unwrap().state, HoldState::Expired);
}

#[test]
fn r16_a_damaged_hold_does_not_spoil_the_place_of_a_stranger() {
    let mut book = Book::new(Limits::default());
    let two = Quantity::new(2).unwrap();
    book.put_item(StockItem { on_hand: two, held: two, ..one_held("MUG") });
    book.put_hold(one_of(1, &["MUG", "GONE"]));
    book.put_hold(one_of(2, &["MUG"]));
    let place = |number: u8| {
        Command::new(Action::Place(Place {
            id: id(number),
            owner: "bob".parse().unwrap(),
            ttl: None,
            lines: Basket::new([(ItemKey::clone(&one_held("MUG").key), Quantity::ONE)]).unwrap(),
            replaces: None,
            reference: None,
        }))
    };
    book.apply(&place(3), at(30)).unwrap();
    assert_eq!(book.hold(id(1)).unwrap().state, HoldState::Active);
    assert_eq!(book.hold(id(2)).unwrap().state, HoldState::Expired);
    assert_eq!(book.apply(&place(4), at(30)).unwrap_err().code(), "insufficient_stock");
}

#[test]
fn r17_a_hold_whose_deadline_fell_into_an_outage_is_spared() {
    check(
        "stock MUG 9
         place X MUG:1 ttl=10s
         place Y MUG:1 ttl=10s
         wait 5s
         outage 20s                                # until 25 s: 10 s of grace
         hold? X active expires=35s
         place Z MUG:8                             -> insufficient_stock MUG available=7 next_due=35s
         sweep                                     -> ok expired=0
         at 34s
         wait 999ms
         confirm X                                 -> ok
         wait 1ms
         confirm Y                                 -> hold_expired
         hold? Y expired steps=expire",
    );
}

#[test]
fn r17_the_grace_is_no_longer_than_the_outage() {
    check(
        "stock MUG 9
         place X MUG:1 ttl=10s
         place Y MUG:1 ttl=10s
         at 8s
         outage 4s                                 # until 12 s
         hold? X active expires=16s
         at 15s
         wait 999ms
         confirm X                                 -> ok
         wait 1ms
         confirm Y                                 -> hold_expired",
    );
}

#[test]
fn r17_three_seconds_without_a_sign_of_life_are_no_outage() {
    check(
        "stock MUG 9
         place X MUG:1 ttl=10s
         at 8s
         outage 3s
         confirm X                                 -> hold_expired",
    );
}

#[test]
fn r17_an_outage_spares_only_the_deadlines_that_fell_into_it() {
    check(
        "stock MUG 9
         place BEFORE MUG:1 ttl=5s
         place FIRST MUG:1 ttl=5.1s
         place LAST MUG:1 ttl=25s
         place AFTER MUG:1 ttl=25.1s
         at 5s
         outage 20s
         hold? BEFORE expired expires=5s
         hold? FIRST active expires=35s
         hold? LAST active expires=35s
         hold? AFTER active expires=25100ms
         sweep                                     -> ok expired=1
         wait 100ms
         sweep                                     -> ok expired=1
         hold? AFTER expired
         at 35s sweep                              -> ok expired=2",
    );
}

#[test]
fn r17_a_second_outage_within_the_grace_spares_the_hold_again() {
    check(
        "stock MUG 9
         place X MUG:1 ttl=10s
         at 5s
         outage 20s                                # until 25 s, grace until 35 s
         at 30s
         outage 100s                               # until 130 s
         hold? X active expires=140s
         confirm X                                 -> ok",
    );
}

#[test]
fn r17_an_extend_within_a_grace_never_shortens_it() {
    check(
        "stock MUG 9
         place X MUG:1 ttl=10s
         at 5s
         outage 20s
         extend X ttl=1s                           -> ok expires=35s
         extend X ttl=60s                          -> ok expires=85s",
    );
}

#[test]
fn r17_a_clock_that_steps_back_makes_no_hold_younger_or_older() {
    check(
        "stock MUG 9
         stock TEE 9
         at 100s
         place X MUG:1 ttl=30s                     -> ok created=100s expires=130s
         clock back 60s
         place Y MUG:1 ttl=30s                     -> ok created=100s expires=130s expires_in=30s
         place Z TEE:1 ttl=30s                     -> ok created=40s expires=70s
         extend X ttl=50s                          -> ok expires=150s
         hold? X expires_in=50s
         at 129s
         confirm Y                                 -> ok",
    );
}

#[test]
fn r17_nothing_happens_to_a_hold_before_it_was_placed() {
    let mut book = Book::new(Limits::default());
    book.put_item(one_held("MUG"));
    book.put_hold(Hold { created_at: at(100), deadline: at(130), ..one_of(1, &["MUG"]) });
    let release = Action::Release { id: id(1), reason: None };
    book.apply(&Command::new(release), at(40)).unwrap();
    assert_eq!(book.changes().transitions[0].1.at, at(100));
}

#[test]
fn r17_a_grace_that_prolongs_another_lasts_to_its_end() {
    check(
        "stock MUG 9
         place X MUG:1 ttl=10s
         at 5s
         outage 20s                                # until 25 s, grace until 35 s
         at 30s
         outage 100s                               # until 130 s, grace until 140 s
         hold? X active expires=140s
         wait 1s
         hold? X active expires=140s
         confirm X                                 -> ok",
    );
}

#[test]
fn r17_a_hold_is_not_due_before_its_deadline_though_the_clock_went_back() {
    check(
        "stock MUG 9
         place X MUG:1 ttl=15s
         at 20s
         outage 20s                                # until 40 s, grace until 50 s
         clock back 30s
         hold? X active expires=15s expires_in=5s
         sweep                                     -> ok expired=0",
    );
}

#[test]
fn r17_a_row_never_looks_older_than_it_was() {
    check(
        "stock MUG 1
         stock TEE 5
         place X MUG:1 TEE:1 ttl=30s
         at 100s receive TEE 1
         stock? TEE touched=100s
         clock back 50s
         place Y MUG:1                             -> ok   # expires X
         stock? TEE held=0 touched=100s
         place Z TEE:1                             -> ok created=100s",
    );
}

#[test]
fn r18_an_unknown_hold_is_never_a_success() {
    check(
        "stock MUG 9
         release ?                                 -> not_found
         confirm ? rehold                          -> not_found
         expire ?                                  -> not_found",
    );
}

#[test]
fn r18_unknown_items_are_named_all_together() {
    check(
        "stock MUG 9
         place X MUG:1 CAP:1 TEE:1                 -> unknown_sku CAP TEE
         receive CUP 1                             -> unknown_sku CUP
         adjust CUP 1                              -> unknown_sku CUP
         count CUP 1                               -> unknown_sku CUP
         stock? MUG held=0",
    );
}

#[test]
fn r19_what_would_be_done_twice_needs_a_key() {
    check(
        "stock MUG 9
         place X MUG:2
         confirm X
         receive MUG 1 key=-                       -> idempotency_key_required
         adjust MUG 1 key=-                        -> idempotency_key_required
         ship X MUG:1 key=-                        -> idempotency_key_required
         cancel X MUG:1 key=-                      -> idempotency_key_required
         stock? MUG on_hand=9 allocated=2
         count MUG 9 key=-                         -> ok delta=0
         ship X key=-                              -> ok shipped",
    );
}

#[test]
fn r19_every_verb_is_done_once_under_one_key() {
    check(
        "stock MUG 20
         place X MUG:5 key=k
         extend X ttl=60s key=k                    -> ok expires=60s
         wait 5s
         extend X ttl=60s key=k                    -> ok replayed expires=60s
         confirm X key=k                           -> ok confirmed
         confirm X key=k                           -> ok replayed confirmed
         ship X MUG:2 key=k                        -> ok MUG shipped=2
         ship X MUG:2 key=k                        -> ok replayed MUG shipped=2
         cancel X MUG:1 key=k                      -> ok MUG cancelled=1
         cancel X MUG:1 key=k                      -> ok replayed MUG cancelled=1
         adjust MUG -3 key=k                       -> ok on_hand=15
         adjust MUG -3 key=k                       -> ok replayed delta=-3 on_hand=15
         count MUG 30 key=k                        -> ok delta=15 on_hand=30
         count MUG 30 key=k                        -> ok replayed delta=15 on_hand=30
         hold? X steps=confirm,ship,cancel
         moves? MUG create+20,ship-2,adjust-3,count+15",
    );
}

#[test]
fn r19_a_replay_shows_the_hold_as_it_is_now() {
    check(
        "stock MUG 5
         place X MUG:1 ttl=30s
         extend X ttl=20s key=k                    -> ok active
         wait 30s
         extend X ttl=20s key=k                    -> ok replayed expired
         stock? MUG held=0",
    );
}

#[test]
fn r19_another_request_under_the_key_of_a_verb_is_refused() {
    check(
        "stock MUG 9
         place X MUG:5
         place Y MUG:1
         confirm X key=k
         confirm Y key=k                           -> idempotency_key_reused
         confirm X MUG:5 key=k                     -> idempotency_key_reused
         ship X MUG:1 key=s
         ship X MUG:2 key=s                        -> idempotency_key_reused
         receive MUG 1 key=r
         receive MUG 2 key=r                       -> idempotency_key_reused
         hold? Y active
         stock? MUG on_hand=9 held=1 allocated=4",
    );
}

#[test]
fn a_quantity_that_cannot_be_said_is_refused_and_nothing_has_changed() {
    check(
        "stock MUG 0
         receive MUG max                           -> ok on_hand=9007199254740991
         receive MUG max                           -> out_of_range
         receive MUG 1                             -> out_of_range
         stock? MUG on_hand=max held=0 allocated=0 available=max
         moves? MUG receive+9007199254740991
         count MUG 0
         policy MUG safety=max
         stock? MUG available=-9007199254740991
         place X MUG:1                             -> insufficient_stock MUG available=-9007199254740991
         adjust MUG -1                             -> would_go_below MUG left=-1",
    );
}

#[test]
fn limits_are_checked_before_stock() {
    check(
        "stock MUG 1
         place X MUG:1000001                       -> quantity_too_large MUG requested=1000001 max=1000000
         place X CUP:max                           -> quantity_too_large CUP max=1000000
         place X MUG:1 ttl=1ms                     -> ok expires=100ms
         wait 100ms
         place Y MUG:1 ttl=60m                     -> ok expires_in=15m",
    );
}

#[test]
fn a_hold_is_shipped_if_any_unit_was_and_cancelled_if_none_was() {
    check(
        "stock MUG 9
         place X MUG:2
         confirm X
         ship X MUG:1                              -> ok confirmed
         cancel X                                  -> ok shipped MUG shipped=1 cancelled=1
         place Y MUG:2
         confirm Y
         cancel Y MUG:1                            -> ok confirmed
         cancel Y MUG:1                            -> ok cancelled MUG shipped=0 cancelled=2
         stock? MUG on_hand=8 held=0 allocated=0 available=8",
    );
}

/// A row as a ledger would put it in hand: one unit of an item, and it is held.
fn one_held(sku: &str) -> StockItem {
    let key = Arc::new(ItemKey::at_default(Sku::new(sku).expect("a SKU")));
    StockItem { on_hand: Quantity::ONE, held: Quantity::ONE, ..StockItem::empty(key, at(0)) }
}

/// A row of a hold of one unit of each item, until 30 s.
fn one_of(number: u8, skus: &[&str]) -> Hold {
    Hold {
        id: id(number),
        owner: "ann".parse().expect("an owner"),
        reference: None,
        state: HoldState::Active,
        created_at: at(0),
        deadline: at(30),
        max_deadline: at(900),
        lines: skus.iter().map(|sku| Line::held(one_held(sku).key, Quantity::ONE)).collect(),
        steps: 0,
        replaced_by: None,
    }
}

const fn id(number: u8) -> HoldId {
    HoldId::from_bytes([number; 16])
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}
