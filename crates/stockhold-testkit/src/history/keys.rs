//! C4: a key has one answer, and sells once.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, History, Ledger, Line, Op, Outcome, Violation, by_item};

pub(super) fn check(history: &History, ledger: &Ledger) -> Vec<Violation> {
    let mut uses = BTreeMap::<_, Vec<&Event>>::new();
    for event in history.events() {
        if let Some(key) = &event.key {
            uses.entry((verb(&event.op), key.as_str())).or_default().push(event);
        }
    }
    let of_keys = uses.into_iter().flat_map(|((_, key), uses)| check_key(key, &uses));
    of_keys.chain(sold_twice(ledger)).collect()
}

/// Keys have one space for each verb.
fn verb(op: &Op) -> &'static str {
    match op {
        Op::Place { .. } => "place",
        Op::Confirm { .. } => "confirm",
        Op::Release { .. } => "release",
        Op::Extend { .. } => "extend",
        Op::Cancel { .. } => "cancel",
        Op::Receive => "receive",
        Op::Acquire { .. } => "acquire",
        Op::Renew { .. } => "renew",
        Op::Unlock { .. } => "unlock",
        Op::Use { .. } => "use",
    }
}

/// A refused request stores nothing, so that only successes bind a key.
fn check_key(key: &str, uses: &[&Event]) -> Vec<Violation> {
    let successes = || uses.iter().copied().filter(|event| event.granted().is_some());
    let Some(first) = successes().min_by_key(|event| event.t_return) else { return Vec::new() };
    let mut found = Vec::new();
    for event in successes() {
        if !same_request(event, first) {
            found.push(Violation::KeyReused { key: key.to_owned(), at: event.t_invoke });
        } else if event.hold() != first.hold() {
            let [first, second] = [first, event].map(|e| e.hold().unwrap_or("-").to_owned());
            found.push(Violation::ChangedAnswer { key: key.to_owned(), first, second });
        }
    }
    let all_the_same = uses.iter().all(|event| same_request(event, first));
    let refused = uses.iter().filter(|event| all_the_same && is_refused_as_reused(event));
    let forgotten =
        |event: &&Event| Violation::KeyForgotten { key: key.to_owned(), at: event.t_invoke };
    found.extend(refused.map(forgotten));
    found
}

fn is_refused_as_reused(event: &Event) -> bool {
    matches!(&event.result, Outcome::Refused(code) if code == "idempotency_key_reused")
}

/// Lines count by what they add up to.
fn same_request(one: &Event, other: &Event) -> bool {
    let sums = |lines: &[Line]| -> BTreeMap<String, i64> {
        by_item(lines).into_iter().map(|(item, sum)| (item.to_owned(), sum)).collect()
    };
    one.op == other.op && sums(&one.lines) == sums(&other.lines)
}

fn sold_twice(ledger: &Ledger) -> impl Iterator<Item = Violation> {
    let mut holds = BTreeMap::<_, BTreeSet<_>>::new();
    for sale in &ledger.sales {
        if let Some(key) = &sale.key {
            holds.entry(key).or_default().insert(sale.hold.clone());
        }
    }
    holds.into_iter().filter(|(_, holds)| holds.len() > 1).map(|(key, holds)| {
        Violation::SoldTwice { key: key.clone(), holds: holds.into_iter().collect() }
    })
}
