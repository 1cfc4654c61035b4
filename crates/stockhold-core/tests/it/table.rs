//! The table of states and verbs of the rules, word for word, and a walk over all its cells.

use stockhold_core::Limits;

use crate::scenario::check_with;

/// How a hold of 2 mugs gets into each state. Due: past its deadline, and nobody has noticed.
fn way_to(state: &str) -> &'static str {
    match state {
        "active" => "place X MUG:2 ttl=30s",
        "due" => "place X MUG:2 ttl=30s \n wait 30s",
        "expired" => "place X MUG:2 ttl=30s \n wait 30s \n sweep -> ok expired=1",
        "confirmed" => "place X MUG:2 \n confirm X",
        "shipped" => "place X MUG:2 \n confirm X \n ship X",
        "cancelled" => "place X MUG:2 \n confirm X \n cancel X",
        "released" => "place X MUG:2 \n release X",
        "revoked" => "place X MUG:2 \n revoke X",
        _ => panic!("no way to {state}"),
    }
}

/// What each verb answers in each state; after `ok` stands the state that the answer shows. The
/// confirm of 1 and that with another reference are not what was confirmed (R3). `expire` is the
/// sweeper's verb: it does what time asks for, no more.
#[rustfmt::skip]
const TABLE: &str = "\
                           | active               | due                     | expired                 | confirmed         | shipped           | cancelled         | released               | revoked
confirm X                  | ok confirmed         | hold_expired            | hold_expired            | ok confirmed      | ok shipped        | already_cancelled | already_released       | revoked
confirm X rehold           | ok confirmed         | ok reacquired confirmed | ok reacquired confirmed | ok confirmed      | ok shipped        | already_cancelled | already_released       | revoked
confirm X MUG:1            | ok confirmed         | hold_expired            | hold_expired            | already_confirmed | already_confirmed | already_cancelled | already_released       | revoked
confirm X rehold ref=other | ok confirmed         | ok reacquired confirmed | ok reacquired confirmed | already_confirmed | already_confirmed | already_cancelled | already_released       | revoked
release X                  | ok released          | ok expired              | ok expired              | already_confirmed | already_confirmed | already_confirmed | ok released            | ok revoked
extend X ttl=60s           | ok active            | hold_expired            | hold_expired            | already_confirmed | already_confirmed | already_confirmed | already_released       | revoked
ship X                     | not_confirmed active | not_confirmed expired   | not_confirmed expired   | ok shipped        | ok shipped        | already_cancelled | not_confirmed released | not_confirmed revoked
ship X MUG:1               | not_confirmed active | not_confirmed expired   | not_confirmed expired   | ok confirmed      | nothing_open      | already_cancelled | not_confirmed released | not_confirmed revoked
cancel X                   | not_confirmed active | not_confirmed expired   | not_confirmed expired   | ok cancelled      | already_shipped   | ok cancelled      | not_confirmed released | not_confirmed revoked
cancel X MUG:1             | not_confirmed active | not_confirmed expired   | not_confirmed expired   | ok confirmed      | already_shipped   | nothing_open      | not_confirmed released | not_confirmed revoked
revoke X                   | ok revoked           | ok expired              | ok expired              | already_confirmed | already_confirmed | already_confirmed | ok released            | ok revoked
expire X                   | ok active            | ok expired              | ok expired              | ok confirmed      | ok shipped        | ok cancelled      | ok released            | ok revoked
";

/// `verb, state, answer` of every cell.
fn cells() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut rows = TABLE.lines().map(|row| row.split('|').map(str::trim));
    let states: Vec<_> = rows.next().into_iter().flatten().skip(1).collect();
    let mut cells = Vec::new();
    for mut row in rows {
        let verb = row.next().unwrap_or_default();
        cells.extend(states.iter().zip(row).map(|(state, answer)| (verb, *state, answer)));
    }
    cells
}

/// What the stock item counts when nothing but the state has happened to its 5 mugs.
fn stock_in(state: &str) -> &'static str {
    match state {
        "active" => "on_hand=5 held=2 allocated=0 available=3",
        "confirmed" => "on_hand=5 held=0 allocated=2 available=3",
        "shipped" => "on_hand=3 held=0 allocated=0 available=3",
        _ => "on_hand=5 held=0 allocated=0 available=5",
    }
}

fn is_partial(verb: &str) -> bool {
    verb.contains("MUG:")
}

/// The state that the hold must be in afterwards: what the answer shows; after a refusal the old
/// one, but that what was due has died.
fn state_after<'a>(state: &'a str, answer: &'a str) -> &'a str {
    match (answer.strip_prefix("ok "), state) {
        (Some(shown), _) => shown.trim_start_matches("reacquired "),
        (None, "due") => "expired",
        (None, state) => state,
    }
}

#[test]
fn every_cell_of_the_table_is_as_it_is_written() {
    for (verb, state, answer) in cells() {
        let way = way_to(state);
        let after = state_after(state, answer);
        let mut text = format!("stock MUG 5\n{way}\n{verb} -> {answer}\nhold? X {after}\n");
        if !(is_partial(verb) && answer.starts_with("ok")) {
            text.push_str(&format!("stock? MUG {}\n", stock_in(after)));
        }
        check_with(&format!("{verb} of a hold that is {state}"), &Limits::default(), &text);
    }
}

#[test]
fn the_table_has_every_verb_in_every_state() {
    assert_eq!(cells().len(), 12 * 8);
}

#[test]
fn a_hold_that_nobody_placed_is_not_found_by_any_verb() {
    for verb in [
        "confirm ?",
        "confirm ? MUG:1",
        "confirm ? rehold",
        "release ?",
        "extend ? ttl=30s",
        "expire ?",
        "revoke ?",
        "ship ?",
        "ship ? MUG:1",
        "cancel ?",
        "cancel ? MUG:1",
        "place Y MUG:1 replaces=?",
    ] {
        let text = format!("stock MUG 5\n{verb} -> not_found\nstock? MUG held=0 available=5");
        check_with(verb, &Limits::default(), &text);
    }
}

#[test]
fn a_line_that_the_hold_lacks_is_not_in_hold() {
    let ways =
        [("confirm", ""), ("confirm", "wait 30s"), ("ship", "confirm X"), ("cancel", "confirm X")];
    for (verb, way) in ways {
        let rehold = if verb == "confirm" { "rehold" } else { "" };
        let text = format!(
            "stock MUG 5\nstock TEE 5\nplace X MUG:2\n{way}\n\
             {verb} X MUG:1 TEE:1 {rehold} -> not_in_hold TEE\nstock? TEE available=5"
        );
        check_with(verb, &Limits::default(), &text);
    }
}

#[test]
fn more_than_was_asked_for_cannot_be_confirmed() {
    for (way, rehold) in [("", ""), ("wait 30s", "rehold")] {
        let text = format!(
            "stock MUG 5\nplace X MUG:2\n{way}\n\
             confirm X MUG:3 {rehold} -> more_than_held MUG requested=3 held=2\n\
             stock? MUG allocated=0"
        );
        check_with(way, &Limits::default(), &text);
    }
}

#[test]
fn more_than_is_open_can_neither_be_shipped_nor_cancelled() {
    for verb in ["ship", "cancel"] {
        let text = format!(
            "stock MUG 5\nstock TEE 5\nplace X MUG:3 TEE:1\nconfirm X\nship X MUG:1\n\
             {verb} X MUG:3 -> more_than_open MUG requested=3 open=2\n\
             ship X MUG:2 -> ok confirmed\n\
             {verb} X MUG:1 -> more_than_open MUG requested=1 open=0\n\
             hold? X confirmed MUG shipped=3 cancelled=0 TEE shipped=0 cancelled=0"
        );
        check_with(verb, &Limits::default(), &text);
    }
}
