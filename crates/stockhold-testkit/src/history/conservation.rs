//! C6: nothing leaks.

use std::collections::BTreeSet;

use super::{History, Item, Ledger, Op, Outcome, Rest, Sale, Violation, by_item, overlap::supply};

pub(super) fn check(history: &History, ledger: &Ledger, rest: Rest) -> Vec<Violation> {
    ledger.items.iter().flat_map(|item| check_item(history, ledger, rest, item)).collect()
}

fn check_item(history: &History, ledger: &Ledger, rest: Rest, item: &Item) -> Vec<Violation> {
    let mut found = Vec::new();
    let name = || item.item.clone();
    let live = sum(&ledger.live, item, |hold| &hold.lines);
    if item.held != live {
        found.push(Violation::Leak { item: name(), held: item.held, live });
    }
    if rest == Rest::Settled && (item.held != 0 || item.lent != 0) {
        found.push(Violation::NotSettled { item: name(), held: item.held, lent: item.lent });
    }
    let confirmed = sum(&ledger.sales, item, |sale| &sale.lines);
    let gone = sum(&ledger.sales, item, |sale| &sale.gone);
    let taken = [item.held, item.allocated, item.lent, item.safety_stock];
    let free = taken.into_iter().fold(item.on_hand, i64::saturating_sub);
    let mut sums = vec![
        ("allocated", item.allocated, confirmed.saturating_sub(gone)),
        ("available", item.available, free),
    ];
    if gone == 0 && supply_is_known(history) {
        sums.push(("on_hand", item.on_hand, supply(history, ledger, &item.item, u64::MAX)));
    }
    let wrong = sums.into_iter().filter(|(_, is, expected)| is != expected);
    found.extend(wrong.map(|(what, is, expected)| Violation::DoesNotAddUp {
        item: name(),
        what,
        is,
        expected,
    }));
    found
}

fn sum(holds: &[Sale], item: &Item, lines: fn(&Sale) -> &Vec<super::Line>) -> i64 {
    by_item(holds.iter().flat_map(lines)).get(item.item.as_str()).copied().unwrap_or(0)
}

/// Whether it is known what came, and nothing went. A try without an answer is known by another
/// under the same key.
fn supply_is_known(history: &History) -> bool {
    let mut receives = history.events().iter().filter(|event| event.op == Op::Receive);
    let answered: BTreeSet<_> =
        receives.clone().filter(|e| e.granted().is_some()).filter_map(|e| e.key.as_ref()).collect();
    receives.all(|event| {
        let is_known = event.result != Outcome::Unknown
            || event.key.as_ref().is_some_and(|key| answered.contains(key));
        is_known && event.lines.iter().all(|line| line.quantity >= 0)
    })
}
