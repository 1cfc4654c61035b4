//! C5: a hold has one end.

use std::collections::BTreeMap;

use super::{Event, History, Ledger, Op, Violation, by_item};

pub(super) fn check(history: &History, ledger: &Ledger) -> Vec<Violation> {
    let grants = history.grants();
    let mut ends = BTreeMap::<&str, Vec<String>>::new();
    for event in history.events() {
        let grant = event.hold().and_then(|hold| grants.get(hold).copied());
        if let (Some(hold), Some(end)) = (event.hold(), end(event, grant)) {
            ends.entry(hold).or_default().push(end);
        }
    }
    for sale in &ledger.sales {
        if let Some(ends) = ends.get_mut(sale.hold.as_str()) {
            ends.push(format!("confirmed {:?}", by_item(&sale.lines)));
        }
    }
    ends.into_iter().filter_map(|(hold, ends)| two(hold, &ends)).collect()
}

/// The end that an answer claims. A release of what has expired ends nothing, and a hold that has
/// expired may be sold after all.
fn end(event: &Event, grant: Option<&Event>) -> Option<String> {
    let granted = event.granted()?;
    match &event.op {
        Op::Confirm { .. } if !event.lines.is_empty() => {
            Some(format!("confirmed {:?}", by_item(&event.lines)))
        }
        Op::Confirm { .. } => Some(format!("confirmed {:?}", by_item(&grant?.lines))),
        Op::Release { .. } if granted.state.as_deref() != Some("expired") => {
            Some("released".to_owned())
        }
        _ => None,
    }
}

fn two(hold: &str, ends: &[String]) -> Option<Violation> {
    let first = ends.first()?;
    let second = ends.iter().find(|end| *end != first)?;
    let (first, second) = (first.clone(), second.clone());
    Some(Violation::TwoEnds { hold: hold.to_owned(), first, second })
}
