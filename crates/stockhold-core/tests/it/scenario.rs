//! A small language for stories about stock, so that the next test costs ten lines.
//!
//! ```text
//! stock MUG 10                                  # create an item
//! at 1s  place X MUG:2 TEE:1 ttl=30s key=k1     -> ok expires=31s
//!        place Y MUG:9                          -> insufficient_stock MUG available=8
//! wait 29s
//!        confirm X MUG:1 ref=order-7            -> ok confirmed
//! stock? MUG on_hand=10 held=0 allocated=1 available=9
//! hold?  X confirmed steps=confirm MUG confirmed=1 released=1
//! ```
//!
//! | line | what it does |
//! |---|---|
//! | `stock ITEM N`, `policy ITEM [on_hand=N] [safety=N]` | create an item, or set how it is sold |
//! | `load ITEM N [safety=N] [count]` | a row of a list; `count`: somebody counted |
//! | `receive ITEM N`, `adjust ITEM N [min_available=N]`, `count ITEM N [if_on_hand=N]` | move stock |
//! | `place NAME LINES [ttl= owner= replaces= ref=]` | the owner is the name unless it is said |
//! | `confirm NAME [LINES] [rehold] [ref=]`, `release NAME`, `extend NAME ttl=`, `revoke NAME`, `ship NAME [LINES]`, `cancel NAME [LINES]`, `expire NAME` | the verbs on a hold; `?` is a hold that nobody placed |
//! | `sweep` | expire all that is due |
//! | `at T ...`, `wait T`, `outage T`, `clock back T` | move the clock; in an outage the ledger gives no sign of life |
//! | `stock? ITEM ...`, `hold? NAME ...`, `moves? ITEM ...` | compare |
//!
//! Every verb takes `key=`. One that needs a key and has none is given a fresh one; `key=-` leaves
//! it out. Quantities may be `max`, `2^53 - 1`.
//!
//! After `->` stands what is expected: first `ok` or the code of the refusal; then any of the
//! facts that the answer has, in any order. Facts after an item's name are about that item. What
//! is not mentioned is not compared, with two exceptions: `replayed` and `reacquired` must be
//! mentioned, and if one item is, all must be. No `->` means `-> ok`.
//!
//! After every line the rows are verified. Every scenario runs twice, the second time so that
//! each command is applied, rolled back, and applied again.

use stockhold_core::Limits;

use crate::ledger::Fate;

mod facts;
mod parse;
mod stage;

use facts::Facts;
use stage::Stage;

/// Runs a scenario with the default limits.
#[track_caller]
pub(crate) fn check(text: &str) {
    check_with("scenario", &Limits::default(), text);
}

/// Runs a scenario under a title, with these limits.
#[track_caller]
pub(crate) fn check_with(title: &str, limits: &Limits, text: &str) {
    let straight = play(title, limits, Fate::Commit, text);
    let repeated = play(title, limits, Fate::RollBackFirst, text);
    assert_eq!(straight, repeated, "{title}: a rollback was not without consequences");
}

/// Plays all lines; returns what was answered.
#[track_caller]
fn play(title: &str, limits: &Limits, fate: Fate, text: &str) -> Vec<Facts> {
    let mut stage = Stage::new(limits.clone(), fate);
    let mut answers = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{title}, line {} ({fate:?}): {}", index + 1, line.trim());
        let Some((ask, expected)) = parse::split(line) else { continue };
        let (answer, asked) = match stage.play(ask) {
            Ok(answered) => answered,
            Err(fault) => panic!("{}\n   fault: {fault}", place()),
        };
        let expected = Facts::parse(expected.or(asked).unwrap_or("ok"));
        if let Err(why) = answer.compare(&expected) {
            panic!("{}\nexpected: {expected}\n     got: {answer}\n     why: {why}", place());
        }
        answers.push(answer);
    }
    answers
}

/// The language itself: a scenario that lies must fail.
mod tests {
    use super::check;

    #[test]
    fn a_true_story_passes() {
        check("stock MUG 10 \n place X MUG:2 -> ok active MUG held=2 \n stock? MUG available=8");
    }

    #[test]
    #[should_panic(expected = "line 2")]
    fn a_wrong_number_is_noticed() {
        check("stock MUG 10 \n stock? MUG available=9");
    }

    #[test]
    #[should_panic(expected = "insufficient_stock")]
    fn a_refusal_that_was_not_expected_is_noticed() {
        check("stock MUG 10 \n place X MUG:11");
    }

    #[test]
    #[should_panic(expected = "expected: insufficient_stock")]
    fn a_success_that_was_not_expected_is_noticed() {
        check("stock MUG 10 \n place X MUG:10 -> insufficient_stock");
    }

    #[test]
    #[should_panic(expected = "TEE is not mentioned")]
    fn an_item_that_is_not_mentioned_is_noticed() {
        check("stock MUG 0 \n stock TEE 0 \n place X MUG:1 TEE:1 -> insufficient_stock MUG");
    }

    #[test]
    #[should_panic(expected = "replayed is not mentioned")]
    fn a_replay_that_is_not_mentioned_is_noticed() {
        check("stock MUG 5 \n place X MUG:1 key=k \n place X MUG:1 key=k -> ok");
    }

    #[test]
    #[should_panic(expected = "unknown word")]
    fn a_word_that_means_nothing_is_noticed() {
        check("stock MUG 5 \n place X MUG:1 tll=30s");
    }
}
