//! The laws that every ledger keeps: a function for each line under *Behavior* in
//! [`crate::ledger`], of the same name.
//!
//! A ledger joins by a [`Fixture`] and one line, [`suite!`]; each law becomes a test of its own:
//!
//! ```
//! use std::sync::Arc;
//! use stockhold::{
//!     Limits,
//!     clock::ManualClock,
//!     conformance::{self, Fixture},
//!     ledger::{Ledger, memory::MemoryLedger},
//! };
//!
//! #[derive(Default)]
//! struct Memory(ManualClock);
//!
//! #[async_trait::async_trait]
//! impl Fixture for Memory {
//!     fn clock(&self) -> &ManualClock {
//!         &self.0
//!     }
//!     fn durable(&self) -> bool {
//!         false
//!     }
//!     async fn open(&self, limits: Limits) -> Arc<dyn Ledger> {
//!         Arc::new(MemoryLedger::new(limits, Arc::new(self.0.clone())))
//!     }
//! }
//!
//! conformance::suite!(memory, Memory::default());
//! # #[tokio::main] async fn main() { conformance::answers_in_order(&Memory::default()).await }
//! ```
//!
//! Time moves by hand. A law that waits does so in steps of a second with an empty batch in each,
//! because a silence of more than three is an outage and gives the grace of R17.

use std::{future, sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::{
    Command, HoldState, IdempotencyKey, KeyId, Limits, Outcome, Rejection, Timestamp,
};

use crate::{
    FailureKind,
    clock::{Clock, ManualClock, SystemClock},
    ledger::{
        Applied, BatchId, ChangedItem, Granting, HoldQuery, Ledger, MovementQuery, StockQuery,
    },
};

pub mod ask;
mod desk;
mod lists;
mod retire;

pub use crate::conformance_suite as suite;
pub use desk::Desk;
pub use lists::*;
pub use retire::*;

/// A home for one ledger under test. Every law gets a new one.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The clock that the ledger runs on.
    fn clock(&self) -> &ManualClock;

    /// Whether what was applied is there after the ledger was closed and opened again. If not, an
    /// opened ledger is empty, and a law says so where it would otherwise look for what was there.
    fn durable(&self) -> bool;

    /// Opens the ledger: an empty one at first, later the same one again.
    async fn open(&self, limits: Limits) -> Arc<dyn Ledger>;
}

/// Makes a module of that name with one test for each law. The expression makes a [`Fixture`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_suite {
    ($suite:ident, $fixture:expr) => {
        $crate::conformance_suite! { $suite, $fixture,
            answers_in_order a_rejection_spoils_nothing a_batch_tells_what_it_changed
            applied_is_durable commands_see_each_other
            a_sign_of_life an_outage_gives_grace ledger_time_never_goes_back runs_to_its_end
            landed_finds_the_last_batch landed_denies_what_it_never_saw
            reads_see_what_was_answered a_due_hold_shows_as_expired
            an_item_knows_its_next_deadline many_items_are_read_as_one_is
            an_item_that_has_changed_is_told_from_others a_known_key_is_known
            holds_come_newest_first holds_are_found_by_owner_and_state
            active_holds_are_found_by_sku
            items_come_in_the_order_of_their_bytes items_are_found_by_prefix
            listed_items_know_their_next_deadline
            movements_come_oldest_first movements_go_on_where_they_ended
            due_finds_the_oldest_first due_knows_the_next_deadline
            retire_removes_what_is_over retire_spares_what_is_open retire_goes_in_steps
            what_was_retired_still_verifies a_key_of_a_retired_hold_is_not_found
            a_history_verifies_clean lock_epochs_rise close_lets_another_open
        }
    };
    ($suite:ident, $fixture:expr, $($law:ident)+) => {
        mod $suite {
            #[allow(unused_imports, reason = "the fixture may be named by its full path")]
            use super::*;
            $(
                #[tokio::test]
                async fn $law() {
                    $crate::conformance::$law(&$fixture).await;
                }
            )+
        }
    };
}

const SECOND: Duration = Duration::from_secs(1);

/// There is one answer for each command, in the order of the commands.
pub async fn answers_in_order(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 1_000)]).await;
    let sku = |n: u64| if n.is_multiple_of(7) { "NO-SUCH-THING" } else { "MUG" };
    let answers = desk.answers((1..=1_000).map(|n| ask::place(n, &[(sku(n), 1)]))).await;
    assert_eq!(answers.len(), 1_000);
    for (n, answer) in (1..).zip(answers) {
        match answer {
            Ok(Outcome::Placed(placed)) => assert_eq!(placed.hold.hold.id, ask::id(n)),
            Err(Rejection::UnknownSku { .. }) => assert_eq!(sku(n), "NO-SUCH-THING"),
            other => panic!("answer {n} is {other:?}"),
        }
    }
    let mixed = [ask::confirm(2), ask::confirm(7), ask::receive("MUG", 1), ask::count("MUG", 5)];
    let words = desk.words(mixed).await;
    assert_eq!(words, ["ok", "not_found", "idempotency_key_required", "ok"]);
}

/// A refused command changes nothing; its neighbours are applied.
pub async fn a_rejection_spoils_nothing(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("A", 10), ask::create("B", 0)]).await;
    let refused = ask::keyed("again", ask::place(2, &[("A", 1), ("B", 1)]));
    let batch = [ask::place(1, &[("A", 4)]), refused.clone(), ask::place(3, &[("A", 5)])];
    assert_eq!(desk.words(batch).await, ["ok", "insufficient_stock", "ok"]);
    assert_eq!(desk.units("A").await, [10, 9, 0, 1]);
    assert_eq!(desk.find(ask::id(2)).await, None);
    // Nothing was stored under its key either.
    let granted = [ask::keyed("in", ask::receive("B", 1)), refused];
    assert_eq!(desk.words(granted).await, ["ok", "ok"]);
    assert_eq!(desk.units("A").await, [10, 10, 0, 0]);
    desk.verify().await;
}

/// Each stock item that is not as it was, with its version; also those of holds that died on the way.
pub async fn a_batch_tells_what_it_changed(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let changed = async |commands: &[Command]| {
        let applied = desk.applied(commands.iter().cloned()).await;
        let mut skus = Vec::new();
        for ChangedItem { key, version, is_new } in &applied.changed {
            let view = desk.ledger().stock(key).await.expect("the ledger answers");
            assert_eq!(view.map(|view| view.item.version), Some(*version));
            skus.push(format!("{}{}", if *is_new { "new " } else { "" }, key.sku));
        }
        skus.sort_unstable();
        skus
    };
    let all = ["MUG", "HAT", "CAP"].map(|sku| ask::create(sku, 1));
    assert_eq!(changed(&all).await, ["new CAP", "new HAT", "new MUG"]);
    let both = ask::place_for(1_000, 1, &[("MUG", 1), ("HAT", 1)]);
    assert_eq!(changed(&[both]).await, ["HAT", "MUG"]);
    assert!(changed(&[ask::place(2, &[("MUG", 1)]), ask::confirm(9)]).await.is_empty());
    assert!(changed(&[]).await.is_empty());
    desk.pass(2 * SECOND).await;
    // The first one gives its hat back as well.
    assert_eq!(changed(&[ask::place(3, &[("MUG", 1)])]).await, ["HAT", "MUG"]);
}

/// What was answered is there after the ledger is opened again.
pub async fn applied_is_durable(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    let place = ask::keyed("mine", ask::place(1, &[("A", 2), ("B", 3)]));
    let receive = ask::keyed("in", ask::receive("B", 9));
    desk.answers([ask::create("A", 5), ask::create("B", 5), place.clone(), receive.clone()]).await;
    desk.answers([ask::place(2, &[("A", 1)]), ask::confirm_part(1, &[("A", 1), ("B", 3)])]).await;
    let (holds, stock) =
        ([desk.hold(1).await, desk.hold(2).await], [desk.stock("A").await, desk.stock("B").await]);
    desk.reopen().await;
    if !fixture.durable() {
        assert_eq!(desk.find(ask::id(1)).await, None);
        assert_eq!(desk.ledger().verify().await.expect("the ledger answers").items, 0);
        return;
    }
    assert_eq!([desk.hold(1).await, desk.hold(2).await], holds);
    assert_eq!([desk.stock("A").await, desk.stock("B").await], stock);
    let answers = desk.answers([place, receive]).await;
    assert!(matches!(&answers[0], Ok(Outcome::Placed(placed)) if placed.replayed));
    assert!(matches!(&answers[1], Ok(Outcome::StockMoved(moved)) if moved.replayed));
    assert_eq!(desk.units("B").await, [14, 0, 3, 11]);
    let report = desk.ledger().verify().await.expect("the ledger answers");
    assert_eq!((report.items, report.holds, report.movements), (2, 2, 3));
    desk.verify().await;
}

/// A command meets the rows as the one before it left them.
pub async fn commands_see_each_other(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let keyed = ask::keyed("mine", ask::place(3, &[("MUG", 1)]));
    let answers = desk
        .answers([
            ask::create("MUG", 1),
            ask::place(1, &[("MUG", 1)]),
            ask::place(2, &[("MUG", 1)]),
            ask::release(1),
            keyed.clone(),
            ask::keyed("mine", ask::place(4, &[("MUG", 1)])),
            ask::confirm(3),
            ask::ship(3),
        ])
        .await;
    assert!(matches!(&answers[2], Err(Rejection::InsufficientStock { .. })));
    let Ok(Outcome::Placed(again)) = &answers[5] else { panic!("{:?}", answers[5]) };
    assert!(again.replayed && again.hold.hold.id == ask::id(3));
    let Ok(Outcome::Settled(shipped)) = &answers[7] else { panic!("{:?}", answers[7]) };
    assert_eq!(shipped.hold.hold.state, HoldState::Shipped);
    assert_eq!(desk.units("MUG").await, [0, 0, 0, 0]);
    desk.verify().await;
}

/// An empty batch counts as a sign of life of the ledger (R17).
pub async fn a_sign_of_life(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 1), ask::place_for(10_000, 1, &[("MUG", 1)])]).await;
    for _ in 0..5 {
        desk.pass_silently(SECOND);
        let answers = desk.answers([]).await;
        assert!(answers.is_empty());
        desk.pass_silently(SECOND);
        desk.answers([]).await;
    }
    // Ten seconds, and never three in silence: no grace.
    assert_eq!(desk.words([ask::confirm(1)]).await, ["hold_expired"]);
}

/// Before anything expires after an outage, its grace is given.
pub async fn an_outage_gives_grace(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    let shortly = |n| ask::place_for(2_000, n, &[("MUG", 1)]);
    let places = [shortly(1), shortly(2), ask::place_for(40_000, 3, &[("MUG", 1)])];
    desk.answers([ask::create("MUG", 3)].into_iter().chain(places)).await;
    let placed_at = desk.hold(1).await.hold.created_at;
    desk.pass_silently(30 * SECOND);
    // In the first batch after it: nobody may take the units, nothing dies, and confirm works.
    let first = [ask::place(4, &[("MUG", 1)]), ask::expire(1), ask::confirm(1)];
    assert_eq!(desk.words(first).await, ["insufficient_stock", "ok", "ok"]);
    assert_eq!(desk.state(1).await, HoldState::Confirmed);
    assert_eq!(desk.hold(2).await.expires_at, placed_at.after(40 * SECOND));
    assert_eq!(desk.hold(3).await.expires_at, placed_at.after(40 * SECOND));
    desk.verify().await;
    desk.pass(9 * SECOND).await;
    if fixture.durable() {
        desk.reopen().await;
    }
    assert_eq!(desk.state(2).await, HoldState::Active);
    desk.pass(SECOND).await;
    assert_eq!(desk.words([ask::confirm(2)]).await, ["hold_expired"]);
    if fixture.durable() {
        an_outage_between_two_lives_gives_grace(&mut desk).await;
    }
}

async fn an_outage_between_two_lives_gives_grace(desk: &mut Desk<'_>) {
    desk.answers([ask::create("CUP", 1), ask::place_for(1_000, 11, &[("CUP", 1)])]).await;
    let placed_at = desk.hold(11).await.hold.created_at;
    desk.ledger().close().await.expect("the ledger closes");
    desk.pass_silently(5 * SECOND);
    desk.open_again().await;
    assert_eq!(desk.words([ask::expire(11)]).await, ["ok"]);
    assert_eq!(desk.hold(11).await.expires_at, placed_at.after(10 * SECOND));
    assert_eq!(desk.words([ask::confirm(11)]).await, ["ok"]);
}

/// A ledger that one process uses at a time has a higher epoch of locks each time that one opens it.
pub async fn lock_epochs_rise(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    let mut last = None;
    for _ in 0..3 {
        let Granting::Alone { epoch, is_first } = desk.ledger().granting() else { return };
        assert_eq!(is_first, last.is_none() || !fixture.durable());
        if fixture.durable() {
            assert!(Some(epoch) > last, "{epoch} behind {last:?}");
        }
        last = Some(epoch);
        desk.reopen().await;
    }
}

/// A wall clock that steps back makes no hold live longer; one that steps forth, no shorter.
pub async fn ledger_time_never_goes_back(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    let (clock, hour) = (fixture.clock(), 3_600 * SECOND);
    let step_back =
        || clock.step_wall_to(Timestamp::from_millis(clock.wall().as_millis() - 3_600_000));
    let places = [1, 2].map(|n| ask::place_for(10_000, n, &[("MUG", 1)]));
    desk.answers([ask::create("MUG", 3)].into_iter().chain(places)).await;
    let placed_at = desk.hold(1).await.hold.created_at;
    step_back();
    desk.pass(4 * SECOND).await;
    if fixture.durable() {
        desk.reopen().await;
    }
    desk.pass(5 * SECOND).await;
    assert_eq!(desk.hold(1).await.as_of, placed_at.after(9 * SECOND));
    assert_eq!(desk.words([ask::confirm(1)]).await, ["ok"]);
    desk.pass(SECOND).await;
    assert_eq!(desk.words([ask::confirm(2)]).await, ["hold_expired"]);

    desk.answers([ask::place_for(10_000, 3, &[("MUG", 1)])]).await;
    clock.step_wall_to(clock.wall().after(hour).after(hour));
    desk.pass(9 * SECOND).await;
    assert_eq!(desk.words([ask::confirm(3)]).await, ["ok"]);
}

/// A batch that was begun is applied even if the caller stops waiting.
pub async fn runs_to_its_end(fixture: &dyn Fixture) {
    const BATCHES: u64 = 50;
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 1_000)]).await;
    for n in 1..=BATCHES {
        let batch = desk.batch([ask::place(n, &[("MUG", 1)])]);
        tokio::select! {
            biased;
            _ = desk.ledger().apply(batch) => {}
            () = future::ready(()) => {} // polled once, and dropped
        }
    }
    eventually("all batches are applied", async || desk.units("MUG").await[1] == 50).await;
    assert_eq!(desk.state(BATCHES).await, HoldState::Active);
    desk.verify().await;
}

/// True for the last batch that changed anything, at least until the next one is applied.
pub async fn landed_finds_the_last_batch(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 100)]).await;
    for n in 1..=10 {
        let batch = desk.batch([ask::place(n, &[("MUG", 1)])]);
        desk.ledger().apply(Arc::clone(&batch)).await.expect("applied");
        assert!(desk.landed(batch.id).await);
    }
    let last = desk.batch([ask::confirm(1)]);
    desk.ledger().apply(Arc::clone(&last)).await.expect("applied");
    if fixture.durable() {
        desk.reopen().await;
    }
    assert!(desk.landed(last.id).await);
}

/// False for a number that it never saw.
pub async fn landed_denies_what_it_never_saw(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let never = BatchId([0xff; 16]);
    assert!(!desk.landed(never).await);
    desk.answers([ask::create("MUG", 1)]).await;
    assert!(!desk.landed(never).await);
    assert!(!desk.landed(BatchId([0; 16])).await);
}

/// Whatever was answered before the read began is in it.
pub async fn reads_see_what_was_answered(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    assert_eq!(desk.find(ask::id(1)).await, None);
    assert_eq!(desk.ledger().stock(&ask::item("MUG")).await.expect("answers"), None);
    desk.answers([ask::create("MUG", 100)]).await;
    for (n, held) in (1..=50).zip(1..) {
        let answers = desk.answers([ask::place(n, &[("MUG", 1)])]).await;
        let Ok(Outcome::Placed(placed)) = &answers[0] else { panic!("{answers:?}") };
        assert_eq!(desk.hold(n).await, placed.hold);
        assert_eq!(desk.units("MUG").await, [100, held, 0, 100 - held]);
    }
    for (n, confirmed) in (1..=50).zip(1..) {
        desk.answers([ask::confirm(n)]).await;
        assert_eq!(desk.state(n).await, HoldState::Confirmed);
        assert_eq!(desk.units("MUG").await, [100, 50 - confirmed, confirmed, 50]);
    }
}

/// A due hold shows as expired, also if nobody has expired it yet (R2).
pub async fn a_due_hold_shows_as_expired(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 2), ask::place_for(10_000, 1, &[("MUG", 2)])]).await;
    desk.pass(9 * SECOND).await;
    desk.pass(Duration::from_millis(999)).await;
    assert_eq!(desk.state(1).await, HoldState::Active);
    desk.pass(Duration::from_millis(1)).await;
    let view = desk.hold(1).await;
    assert_eq!(view.hold.state, HoldState::Expired);
    assert_eq!(
        (view.hold.lines[0].held, view.hold.lines[0].expired),
        (ask::units(0), ask::units(2))
    );
    assert_eq!(view.expires_in(), Duration::ZERO);
    // Time frees nothing: the units are still held, until a command comes.
    assert_eq!(desk.units("MUG").await, [2, 2, 0, 0]);
    desk.answers([ask::expire(1)]).await;
    assert_eq!(desk.units("MUG").await, [2, 0, 0, 2]);
    assert_eq!(desk.state(1).await, HoldState::Expired);
}

/// `next_due_at` is the earliest deadline of an active hold on the item.
pub async fn an_item_knows_its_next_deadline(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("A", 9), ask::create("B", 9), ask::create("C", 9)]).await;
    let lines: [&[_]; 3] = [&[("A", 1)], &[("A", 1), ("B", 1)], &[("A", 1)]];
    let places = [(30_000, 1), (10_000, 2), (20_000, 3)].into_iter().zip(lines);
    desk.answers(places.map(|((millis, n), lines)| ask::place_for(millis, n, lines))).await;
    let now = desk.hold(1).await.as_of;
    let next = async |sku| desk.stock(sku).await.next_due_at.map(|at| at.since(now));
    assert_eq!(next("A").await, Some(10 * SECOND));
    assert_eq!(next("B").await, Some(10 * SECOND));
    assert_eq!(next("C").await, None);
    desk.answers([ask::extend(2, 25_000)]).await;
    assert_eq!(next("A").await, Some(20 * SECOND));
    assert_eq!(next("B").await, Some(25 * SECOND));
    desk.answers([ask::release(2), ask::confirm(3)]).await;
    assert_eq!(next("A").await, Some(30 * SECOND));
    assert_eq!(next("B").await, None);
    // An outage moves it: that is when the hold really dies.
    desk.pass_silently(32 * SECOND);
    desk.answers([]).await;
    assert_eq!(next("A").await, Some(42 * SECOND));
}

/// Every key under which something was answered; one that was refused may be known or not.
pub async fn a_known_key_is_known(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let keys = ["place", "receive", "never"].map(|key| {
        let verb = if key == "receive" { "receive" } else { "place" };
        KeyId::of(verb, &IdempotencyKey::new(key).expect("a key"))
    });
    let known = async || desk.ledger().knows(&keys).await.expect("the ledger answers");
    assert_eq!(known().await.len(), 3);
    desk.answers([
        ask::create("MUG", 5),
        ask::keyed("place", ask::place(1, &[("MUG", 1)])),
        ask::keyed("receive", ask::receive("MUG", 1)),
    ])
    .await;
    assert_eq!(known().await[..2], [true, true]);
    desk.answers([ask::release(1)]).await;
    assert_eq!(known().await[..2], [true, true]);
    assert!(desk.ledger().knows(&[]).await.expect("the ledger answers").is_empty());
}

/// As by [`Ledger::stock`], each, and in the order in which they were asked for.
pub async fn many_items_are_read_as_one_is(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 5), ask::create("HAT", 1), ask::create("CAP", 0)]).await;
    desk.answers([ask::place(1, &[("MUG", 2)]), ask::place(2, &[("MUG", 1), ("HAT", 1)])]).await;
    let keys = ["HAT", "NO-SUCH-THING", "MUG", "CAP", "MUG"].map(ask::item);
    let many = desk.ledger().stock_of(&keys).await.expect("the ledger answers");
    for (key, view) in keys.iter().zip(&many) {
        assert_eq!(*view, desk.ledger().stock(key).await.expect("the ledger answers"));
    }
    let units = |n: usize| many[n].as_ref().map(|view| view.item.available().get());
    assert_eq!([0, 1, 2, 3, 4].map(units), [Some(0), None, Some(2), Some(0), Some(2)]);
    assert!(desk.ledger().stock_of(&[]).await.expect("the ledger answers").is_empty());
}

/// Whether an item still has a version: also of one that there is not, and of one that is named twice.
pub async fn an_item_that_has_changed_is_told_from_others(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 5), ask::create("HAT", 1)]).await;
    let versions = async || {
        let views = desk.ledger().stock_of(&["MUG", "HAT"].map(ask::item)).await;
        let views = views.expect("the ledger answers");
        views.into_iter().flatten().map(|view| view.item.version).collect::<Vec<_>>()
    };
    let same = async |known: &[(&str, u64)]| {
        let known: Vec<_> = known.iter().map(|(sku, version)| (ask::item(sku), *version)).collect();
        let unchanged = desk.ledger().unchanged(&known).await.expect("the ledger answers");
        let now = desk.ledger().stock(&ask::item("MUG")).await.expect("the ledger answers");
        assert!(now.is_some_and(|now| now.as_of >= unchanged.as_of));
        unchanged.are_same
    };
    let before = versions().await;
    let all = [("HAT", before[1]), ("NONE", 1), ("MUG", before[0]), ("HAT", before[1])];
    assert_eq!(same(&all).await, [true, false, true, true]);
    desk.answers([ask::place(1, &[("MUG", 2)])]).await;
    assert_eq!(same(&all).await, [true, false, false, true]);
    let after = versions().await;
    assert_eq!(
        same(&[("MUG", after[0]), ("HAT", 0), ("HAT", u64::MAX)]).await,
        [true, false, false]
    );
    assert!(same(&[]).await.is_empty());
}

/// Due holds come in order of their deadlines, and only active ones.
pub async fn due_finds_the_oldest_first(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 100)]).await;
    // Hold 1 dies last: 20 s, 19 s, ...
    let places = (1..=20).map(|n| ask::place_for((21 - n) * 1_000, n, &[("MUG", 1)]));
    desk.answers(places).await;
    desk.answers([ask::release(20), ask::confirm(19), ask::extend(18, 60_000)]).await;
    assert_eq!(desk.due(100).await, []);
    desk.pass(10 * SECOND).await;
    let ids = |numbers: &[u64]| numbers.iter().map(|n| ask::id(*n)).collect::<Vec<_>>();
    assert_eq!(desk.due(100).await, ids(&[17, 16, 15, 14, 13, 12, 11]));
    assert_eq!(desk.due(3).await, ids(&[17, 16, 15]));
    desk.answers([ask::expire(17), ask::expire(16), ask::expire(1)]).await;
    assert_eq!(desk.due(3).await, ids(&[15, 14, 13]));
    // A grace turns the order round: who would have died in the outage outlives the others.
    desk.answers([15, 14, 13, 12, 11].map(ask::expire)).await;
    desk.pass_silently(Duration::from_millis(4_500));
    desk.answers([]).await;
    assert_eq!(desk.due(100).await, []);
    desk.pass(Duration::from_millis(4_499)).await;
    assert_eq!(desk.due(100).await, ids(&[6, 5, 4, 3]));
    desk.pass(Duration::from_millis(1)).await;
    assert_eq!(desk.due(100).await, ids(&[10, 9, 8, 7, 6, 5, 4, 3, 2]));
}

/// `next_due` is in how long the next one dies.
pub async fn due_knows_the_next_deadline(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    // A shared ledger need not know of holds that the batch has not placed.
    let is_shared = desk.ledger().is_shared();
    let told = |applied: Applied, next_due| {
        applied.next_due == next_due || is_shared && applied.next_due.is_none()
    };
    assert_eq!(desk.next_due().await, None);
    assert_eq!(desk.applied([ask::create("MUG", 9)]).await.next_due, None);
    let places = [(30_000, 1), (10_000, 2)].map(|(ms, n)| ask::place_for(ms, n, &[("MUG", 1)]));
    assert_eq!(desk.applied(places).await.next_due, Some(10 * SECOND));
    assert_eq!(desk.next_due().await, Some(10 * SECOND));
    desk.pass(4 * SECOND).await;
    assert_eq!(desk.next_due().await, Some(6 * SECOND));
    assert!(told(desk.applied([]).await, Some(6 * SECOND)));
    desk.pass(7 * SECOND).await;
    assert_eq!(desk.next_due().await, Some(Duration::ZERO));
    assert!(told(desk.applied([ask::expire(2)]).await, Some(19 * SECOND)));
    assert_eq!(desk.applied([ask::confirm(1)]).await.next_due, None);
    assert_eq!(desk.next_due().await, None);
}

/// The invariants hold, whatever was done through [`Ledger::apply`].
pub async fn a_history_verifies_clean(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    desk.verify().await;
    desk.answers([ask::create("A", 50), ask::create("B", 20)]).await;
    desk.answers((1..=9).map(|n| ask::place_for(n * 1_000, n, &[("A", 2), ("B", 1)]))).await;
    desk.answers([ask::confirm(9), ask::confirm_part(8, &[("A", 1)]), ask::release(7)]).await;
    desk.answers([ask::revoke(6), ask::extend(5, 60_000), ask::replace(4, 10, &[("A", 3)])]).await;
    desk.verify().await;
    desk.pass(4 * SECOND).await;
    desk.answers([ask::expire(1), ask::rehold(2), ask::confirm(3)]).await;
    let later: [Command; 6] = [
        ask::ship(9),
        ask::keyed("back", ask::cancel_part(2, &[("A", 1)])),
        ask::keyed("in", ask::receive("B", 5)),
        ask::keyed("gone", ask::adjust("B", -1)),
        ask::count("A", 3), // fewer than are promised
        ask::ship(2),
    ];
    assert_eq!(desk.words(later).await, ["ok"; 6]);
    desk.verify().await;
    desk.pass_silently(40 * SECOND);
    desk.answers([]).await;
    desk.verify().await; // hold 10 is spared, not overdue
    desk.pass(12 * SECOND).await;
    desk.answers([ask::expire(10), ask::expire(5)]).await;
    desk.verify().await;
    assert_eq!(desk.units("A").await, [2, 2, 1, -1]);
    if fixture.durable() {
        desk.reopen().await;
        desk.verify().await;
    }
}

/// The ledger can be opened again at once, and later calls of the closed one fail as `Closed`.
pub async fn close_lets_another_open(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 1)]).await;
    for _ in 0..5 {
        let closed = Arc::clone(desk.ledger());
        let active = HoldQuery { state: Some(HoldState::Active), ..HoldQuery::default() };
        desk.reopen().await;
        let failures = [
            closed.landed(BatchId([0; 16])).await.map(drop),
            closed.hold(ask::id(1)).await.map(drop),
            closed.stock(&ask::item("MUG")).await.map(drop),
            closed.holds(HoldQuery::default()).await.map(drop),
            closed.holds(active).await.map(drop),
            closed.items(StockQuery::default()).await.map(drop),
            closed.movements(MovementQuery::default()).await.map(drop),
            closed.due(1).await.map(drop),
            closed.retire(SECOND, None, 1).await.map(drop),
            closed.verify().await.map(drop),
            closed.close().await,
        ];
        for failure in failures {
            assert_eq!(failure.expect_err("it is closed").kind, FailureKind::Closed);
        }
        let refused = closed.apply(desk.batch([])).await;
        let Err(crate::ledger::ApplyError::Unavailable(failure)) = refused else {
            panic!("a closed ledger said {refused:?}")
        };
        assert_eq!(failure.kind, FailureKind::Closed);
    }
    let again = desk.words([ask::create("CUP", 1)]).await;
    assert_eq!(again, ["ok"]);
}

/// Waits until something is so, by letting the other tasks run; panics if it never is.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(20);
    let begun = SystemClock.boot();
    while !is_so().await {
        let waited = SystemClock.boot().saturating_sub(begun);
        assert!(waited < PATIENCE, "waited for in vain: {what}");
        tokio::task::yield_now().await;
    }
}
