//! C1: what was confirmed is sold, what is sold was confirmed, and no more than there was.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, History, Ledger, Op, Sale, Violation, by_item, overlap::supply};

pub(super) fn check(history: &History, ledger: &Ledger) -> Vec<Violation> {
    let sales: BTreeMap<_, _> = ledger.sales.iter().map(|s| (s.hold.as_str(), s)).collect();
    let mut found = Vec::new();
    let mut possible = BTreeSet::new();
    let grants = history.grants();
    for (event, hold) in confirms(history) {
        if !event.is_refused() {
            possible.insert(hold);
        }
        if event.granted().is_none() {
            continue;
        }
        match sales.get(hold) {
            None => found.push(lost(event, hold)),
            Some(sale) => found.extend(wrong(event, grants.get(hold).copied(), sale)),
        }
    }
    let phantoms = sales.keys().filter(|hold| !possible.contains(*hold));
    found.extend(phantoms.map(|hold| Violation::PhantomSale { hold: (*hold).to_owned() }));
    found.extend(too_much(history, ledger));
    found
}

fn confirms(history: &History) -> impl Iterator<Item = (&Event, &str)> {
    history.events().iter().filter_map(|event| match &event.op {
        Op::Confirm { hold } => Some((event, hold.as_str())),
        _ => None,
    })
}

fn lost(event: &Event, hold: &str) -> Violation {
    Violation::LostConfirm { hold: hold.to_owned(), answered_at: event.t_return }
}

/// Where other quantities are sold than were confirmed.
fn wrong(event: &Event, grant: Option<&Event>, sale: &Sale) -> Vec<Violation> {
    let lines = match (event.lines.is_empty(), grant) {
        (false, _) => &event.lines,
        (true, Some(grant)) => &grant.lines,
        (true, None) => return Vec::new(),
    };
    let (answered, sold) = (by_item(lines), by_item(&sale.lines));
    let items: BTreeSet<_> = answered.keys().chain(sold.keys()).collect();
    let quantity = |of: &BTreeMap<&str, i64>, item: &str| of.get(item).copied().unwrap_or(0);
    let differ = items.into_iter().filter_map(|item| {
        let (answered, sold) = (quantity(&answered, item), quantity(&sold, item));
        let (hold, item) = (sale.hold.clone(), (*item).to_owned());
        (answered != sold).then_some(Violation::WrongSale { hold, item, answered, sold })
    });
    differ.collect()
}

/// Cancelled units may be sold again, so that only what was not given back is counted.
fn too_much(history: &History, ledger: &Ledger) -> Vec<Violation> {
    let mut sold = by_item(ledger.sales.iter().flat_map(|sale| &sale.lines));
    let cancels = history.events().iter().filter(|e| matches!(e.op, Op::Cancel { .. }));
    if cancels.clone().any(|cancel| !cancel.is_refused()) {
        let gone = by_item(ledger.sales.iter().flat_map(|sale| &sale.gone));
        for (item, units) in gone {
            let sold = sold.entry(item).or_default();
            *sold = sold.saturating_sub(units);
        }
    }
    let sold = sold.into_iter();
    let too_much = sold.filter_map(|(item, sold)| {
        let supply = supply(history, ledger, item, u64::MAX);
        let item = item.to_owned();
        (sold > supply).then_some(Violation::SoldTooMuch { item, sold, supply })
    });
    too_much.collect()
}
