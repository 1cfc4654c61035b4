//! The laws of retirement.

use std::time::Duration;

use stockhold_core::{HoldId, Outcome};

use super::{Desk, Fixture, SECOND, ask};
use crate::ledger::Retired;

const HOUR: Duration = Duration::from_secs(3_600);

/// Removes in one step all that has been over for that long.
async fn retire(desk: &Desk<'_>, age: Duration) -> usize {
    let retired = desk.ledger().retire(age, None, 1_000).await.expect("the ledger answers");
    assert_eq!(retired.next, None);
    retired.holds
}

async fn there(desk: &Desk<'_>, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut there = Vec::new();
    for n in numbers {
        if desk.find(ask::id(n)).await.is_some() {
            there.push(n);
        }
    }
    there
}

/// By the time of the last step, on the ledger's clock.
pub async fn retire_removes_what_is_over(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    assert_eq!(retire(&desk, Duration::ZERO).await, 0);
    desk.answers([ask::create("MUG", 100)]).await;
    desk.answers((1..=6).map(|n| ask::place_for(10_000, n, &[("MUG", 2)]))).await;
    desk.answers([ask::release(1), ask::revoke(2), ask::confirm(3), ask::confirm(4)]).await;
    desk.pass(5 * SECOND).await;
    desk.answers([ask::ship(3), ask::keyed("k", ask::cancel_part(4, &[("MUG", 2)]))]).await;
    desk.pass(5 * SECOND).await;
    desk.answers([ask::expire(5)]).await;
    let before = desk.units("MUG").await;
    desk.pass_silently(HOUR - 10 * SECOND - Duration::from_millis(1));
    assert_eq!(retire(&desk, HOUR).await, 0);
    desk.pass_silently(Duration::from_millis(1));
    assert_eq!(retire(&desk, HOUR).await, 2);
    assert_eq!(there(&desk, 1..=6).await, [3, 4, 5, 6]);
    desk.pass_silently(5 * SECOND);
    assert_eq!(retire(&desk, HOUR).await, 2);
    assert_eq!(there(&desk, 1..=6).await, [5, 6]);
    desk.pass_silently(5 * SECOND);
    assert_eq!(retire(&desk, HOUR).await, 1);
    assert_eq!(there(&desk, 1..=6).await, [6]);
    assert_eq!(desk.words([ask::release(1), ask::ship(3)]).await, ["not_found"; 2]);
    assert_eq!(desk.units("MUG").await, before);
}

/// Active holds, and those with units to ship or cancel.
pub async fn retire_spares_what_is_open(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 100)]).await;
    desk.answers((1..=4).map(|n| ask::place_for(10_000, n, &[("MUG", 2)]))).await;
    desk.answers([ask::confirm(2), ask::confirm(3)]).await;
    desk.answers([ask::keyed("k", ask::cancel_part(3, &[("MUG", 1)]))]).await;
    desk.pass(20 * SECOND).await; // nobody has expired 1 and 4
    desk.pass_silently(1_000 * HOUR);
    assert_eq!(retire(&desk, Duration::ZERO).await, 0);
    assert_eq!(there(&desk, 1..=4).await, [1, 2, 3, 4]);
    assert_eq!(desk.units("MUG").await, [100, 4, 3, 93]);
    desk.answers([]).await;
    desk.pass(10 * SECOND).await;
    desk.answers([ask::expire(1), ask::ship(2), ask::ship(3)]).await;
    desk.answers([ask::expire(4)]).await;
    assert_eq!(retire(&desk, Duration::ZERO).await, 4);
    assert_eq!(desk.units("MUG").await, [97, 0, 0, 97]);
    desk.verify().await;
}

/// Each looks at no more holds than it was allowed to.
pub async fn retire_goes_in_steps(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 100)]).await;
    desk.answers((1..=10).map(|n| ask::place(n, &[("MUG", 1)]))).await;
    desk.answers([1, 2, 4, 7, 8, 9].map(ask::release)).await;
    desk.pass(2 * SECOND).await;
    desk.answers([ask::place(11, &[("MUG", 1)]), ask::place(12, &[("MUG", 1)])]).await;
    desk.answers([ask::release(11), ask::release(12)]).await;
    let step = async |after: Option<u64>| {
        let retired = desk.ledger().retire(SECOND, after.map(ask::id), 3).await;
        let Retired { holds, next } = retired.expect("the ledger answers");
        (holds, next.map(ask::number))
    };
    assert_eq!(step(None).await, (2, Some(3)));
    assert_eq!(step(Some(3)).await, (1, Some(6)));
    assert_eq!(step(Some(6)).await, (3, Some(9)));
    assert_eq!(step(Some(9)).await, (0, None)); // behind 10 all are young
    assert_eq!(there(&desk, 1..=12).await, [3, 5, 6, 10, 11, 12]);
    assert_eq!(step(Some(12)).await, (0, None));
    desk.verify().await;
}

/// Also after the ledger was opened again.
pub async fn what_was_retired_still_verifies(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    desk.answers([ask::create("A", 50), ask::create("B", 20)]).await;
    desk.answers((1..=9).map(|n| ask::place(n, &[("A", 3), ("B", 1)]))).await;
    desk.answers([ask::confirm(1), ask::confirm_part(2, &[("A", 2)]), ask::confirm(3)]).await;
    desk.answers([ask::ship(1), ask::ship(2), ask::keyed("k", ask::cancel_part(3, &[("A", 1)]))])
        .await;
    desk.answers([ask::ship(3), ask::release(4)]).await;
    assert_eq!(retire(&desk, Duration::ZERO).await, 4);
    desk.verify().await;
    desk.answers([ask::confirm(5), ask::ship(5), ask::replace(6, 10, &[("B", 2)])]).await;
    assert_eq!(retire(&desk, Duration::ZERO).await, 2);
    desk.verify().await;
    let report = desk.ledger().verify().await.expect("the ledger answers");
    assert_eq!((report.holds, report.movements), (4, 2 + 2 + 1 + 2 + 2));
    assert_eq!(desk.units("A").await, [50 - 3 - 2 - 2 - 3, 9, 0, 31]);
    if fixture.durable() {
        desk.reopen().await;
        desk.verify().await;
        assert_eq!(there(&desk, 1..=10).await, [7, 8, 9, 10]);
    }
    let words = desk.words([ask::confirm(10), ask::ship(10), ask::place(11, &[("A", 1)])]).await;
    assert_eq!(words, ["ok"; 3]);
    desk.verify().await;
}

/// It is neither granted again nor damaged.
pub async fn a_key_of_a_retired_hold_is_not_found(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 5)]).await;
    let place = |n| ask::keyed("place", ask::place(n, &[("MUG", 2)]));
    let release = ask::keyed("release", ask::release(1));
    assert_eq!(desk.words([place(1), release.clone()]).await, ["ok"; 2]);
    assert_eq!(retire(&desk, Duration::ZERO).await, 1);
    if fixture.durable() {
        desk.reopen().await;
    }
    let id: HoldId = ask::id(1);
    for answer in desk.answers([place(2), release]).await {
        let refused = answer.map(drop::<Outcome>).expect_err("it is gone");
        assert_eq!(refused, stockhold_core::Rejection::NotFound { id });
    }
    assert_eq!(desk.units("MUG").await, [5, 0, 0, 5]);
    desk.verify().await;
}
