//! C2: at no instant was more promised than there was.
//!
//! Only what lived *for sure* is counted: a hold from its answer until its deadline or until
//! anybody asked for its end, a sale from its answer until anybody asked for its cancellation. So
//! an alarm is never false. Units that come count from when that was asked.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, History, Ledger, Line, Op, Outcome, Violation};

pub(super) fn check(history: &History, ledger: &Ledger) -> Vec<Violation> {
    let mut steps = BTreeMap::<&str, Vec<Step<'_>>>::new();
    for (item, units) in &ledger.supply {
        steps.entry(item).or_default().push(Step::supply(0, *units));
    }
    for (at, line) in received(history) {
        steps.entry(&line.item).or_default().push(Step::supply(at, line.quantity));
    }
    for interval in promises(history) {
        for line in interval.lines {
            let of_item = steps.entry(&line.item).or_default();
            of_item.push(Step::begin(&interval, line.quantity));
            of_item.push(Step::end(&interval, line.quantity));
        }
    }
    steps.into_iter().filter_map(|(item, steps)| sweep(item, steps)).collect()
}

/// Units of an item that may have come until then.
pub(super) fn supply(history: &History, ledger: &Ledger, item: &str, until: u64) -> i64 {
    let first = ledger.supply.get(item).copied().unwrap_or(0);
    let received = received(history).filter(|(at, line)| *at <= until && line.item == item);
    received.fold(first, |sum, (_, line)| sum.saturating_add(line.quantity))
}

/// Units that came, or may have come, and when that was asked. Those that went do not count: what
/// was promised before they did still stands.
fn received(history: &History) -> impl Iterator<Item = (u64, &Line)> {
    let receives = receives(history).into_iter();
    let lines = receives.flat_map(|event| event.lines.iter().map(|line| (event.t_invoke, line)));
    lines.filter(|(_, line)| line.quantity > 0)
}

/// What may have been done, once for each key: with its answer, if any try got one.
pub(super) fn receives(history: &History) -> Vec<&Event> {
    let (mut unkeyed, mut keyed) = (Vec::new(), BTreeMap::<_, &Event>::new());
    for event in history.events().iter().filter(|e| e.op == Op::Receive && !e.is_refused()) {
        match &event.key {
            None => unkeyed.push(event),
            Some(key) => drop(keyed.entry(key).or_insert(event)),
        }
    }
    unkeyed.extend(keyed.into_values());
    unkeyed
}

/// A time in which lines were promised for sure.
struct Interval<'a> {
    hold: &'a str,
    from: u64,
    until: u64,
    lines: &'a [Line],
}

fn promises(history: &History) -> Vec<Interval<'_>> {
    let (grants, deadlines, ends) = (history.grants(), history.deadlines(), history.first_ends());
    let held = grants.iter().filter_map(|(hold, grant)| {
        let deadline = deadlines.get(hold)?;
        let until = ends.get(hold).map_or(*deadline, |end| *deadline.min(end));
        Some(Interval { hold, from: grant.t_return, until, lines: &grant.lines })
    });
    let sold = sold(history, &grants);
    held.chain(sold).filter(|interval| interval.from < interval.until).collect()
}

/// The first answer to a confirm of each hold.
fn sold<'a>(history: &'a History, grants: &BTreeMap<&'a str, &'a Event>) -> Vec<Interval<'a>> {
    let mut cancelled = BTreeMap::new();
    for event in history.events() {
        if let (Op::Cancel { hold }, false) = (&event.op, event.is_refused()) {
            cancelled.entry(hold.as_str()).or_insert(event.t_invoke);
        }
    }
    let mut sales = BTreeMap::<_, Interval<'_>>::new();
    for event in history.events() {
        let (Op::Confirm { hold }, Outcome::Ok(_)) = (&event.op, &event.result) else { continue };
        let hold = hold.as_str();
        let lines = match grants.get(hold) {
            Some(grant) if event.lines.is_empty() => &grant.lines,
            _ => &event.lines,
        };
        let until = cancelled.get(hold).copied().unwrap_or(u64::MAX);
        let from = event.t_return;
        let sale = sales.entry(hold).or_insert(Interval { hold, from, until, lines });
        sale.from = from.min(sale.from);
    }
    sales.into_values().collect()
}

/// Something that changes what is promised of an item, or what there is.
struct Step<'a> {
    at: u64,
    /// At the same instant: units come, promises end, promises begin.
    order: u8,
    supply: i64,
    promised: i64,
    hold: &'a str,
}

impl<'a> Step<'a> {
    fn supply(at: u64, units: i64) -> Self {
        Self { at, order: 0, supply: units, promised: 0, hold: "" }
    }

    fn end(of: &Interval<'a>, units: i64) -> Self {
        let promised = 0_i64.saturating_sub(units);
        Self { at: of.until, order: 1, supply: 0, promised, hold: of.hold }
    }

    fn begin(of: &Interval<'a>, units: i64) -> Self {
        Self { at: of.from, order: 2, supply: 0, promised: units, hold: of.hold }
    }
}

/// The first instant at which too much is promised.
fn sweep(item: &str, mut steps: Vec<Step<'_>>) -> Option<Violation> {
    steps.sort_by_key(|step| (step.at, step.order));
    let (mut supply, mut promised, mut holds) = (0_i64, 0_i64, BTreeSet::new());
    for step in steps {
        supply = supply.saturating_add(step.supply);
        promised = promised.saturating_add(step.promised);
        match step.order {
            1 => drop(holds.remove(step.hold)),
            2 => drop(holds.insert(step.hold)),
            _ => {}
        }
        if promised > supply {
            let holds = holds.into_iter().take(NAMED).map(str::to_owned).collect();
            let item = item.to_owned();
            return Some(Violation::Oversold { item, at: step.at, promised, supply, holds });
        }
    }
    None
}

/// So many holds are named.
const NAMED: usize = 20;
