//! The invariants, recomputed from rows.
//!
//! A rule that is broken in [`crate::Book`] would be broken in a check built on it as well. So
//! nothing here is shared with the code that writes the rows: not the steps of a hold, not the
//! arithmetic, not even the words. Rows come in as plain numbers, in one pass, and only the stock
//! items are kept: six million holds need no more memory than one.

mod items;
mod lives;
mod overdue;
mod report;

use self::{items::Items, lives::Lives, overdue::Overdue, report::Findings};
use crate::HoldId;

pub use self::report::{Invariant, Report, Violation};

/// A stock item as a ledger has it. Quantities are units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRow {
    /// The ledger's own number of the item.
    pub item: i64,
    /// `SKU@location`, for messages.
    pub name: String,
    /// Units physically present.
    pub on_hand: i64,
    /// Units of active holds.
    pub held: i64,
    /// Units confirmed and neither shipped nor cancelled.
    pub allocated: i64,
    /// Units lent out to an escrow pool.
    pub lent: i64,
    /// Units kept back from sale.
    pub safety_stock: i64,
}

/// A line of a hold, as it was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRow {
    /// The ledger's own number of the item.
    pub item: i64,
    /// Units asked for.
    pub requested: i64,
}

/// A step of a hold's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitionRow {
    /// 1, 2, 3, ... within the hold.
    pub n: i64,
    /// `confirm`, `rehold`, `release`, `expire`, `revoke`, `ship` or `cancel`.
    pub step: String,
    /// When, in ms since 1970 on the ledger's clock.
    pub at: i64,
    /// Units by the index of their line, counted from 0; `None`: all that the step can move.
    pub lines: Option<Vec<(i64, i64)>>,
}

/// A hold with its lines and its history. Times are ms since 1970 on the ledger's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRow {
    /// Its number.
    pub id: HoldId,
    /// When it was placed.
    pub created_at: i64,
    /// Until when it is promised, before any grace.
    pub deadline: i64,
    /// The deadline that no extend can pass.
    pub max_deadline: i64,
    /// Its lines, in the order that [`TransitionRow::lines`] counts them.
    pub lines: Vec<LineRow>,
    /// Its history, sorted by [`TransitionRow::n`].
    pub transitions: Vec<TransitionRow>,
}

/// A line of an active hold, in a list that a ledger keeps of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedRow {
    /// The ledger's own number of the item.
    pub item: i64,
    /// The deadline of the hold, in ms since 1970 on the ledger's clock.
    pub deadline: i64,
    /// The index of the line, counted from 0.
    pub line: i64,
}

/// A row of the stock history. Quantities are units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovementRow {
    /// Rises with every movement of the ledger.
    pub id: i64,
    /// The ledger's own number of the item.
    pub item: i64,
    /// `create`, `receive`, `adjust`, `count` or `ship`.
    pub kind: String,
    /// By how many units the units on hand changed.
    pub delta: i64,
    /// Units on hand afterwards.
    pub on_hand_after: i64,
}

/// What removed holds have left behind of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarriedRow {
    /// The ledger's own number of the item.
    pub item: i64,
    /// Units that they have shipped.
    pub shipped: i64,
}

/// Takes the rows of a ledger, one by one, and says which invariants they break.
///
/// All rows must be of one committed state. It never panics, whatever stands in the rows.
///
/// ```
/// use stockhold_core::{HoldId, verify::*};
///
/// let mut verifier = Verifier::new();
/// verifier.item(ItemRow {
///     item: 1,
///     name: "TEE-RED-M@default".into(),
///     on_hand: 10,
///     held: 3, // damaged: the only hold is of two units
///     allocated: 0,
///     lent: 0,
///     safety_stock: 0,
/// });
/// verifier.hold(&HoldRow {
///     id: HoldId::from_bytes([1; 16]),
///     created_at: 1_000,
///     deadline: 31_000,
///     max_deadline: 901_000,
///     lines: vec![LineRow { item: 1, requested: 2 }],
///     transitions: vec![],
/// });
/// let kind = "receive".into();
/// verifier.movement(&MovementRow { id: 1, item: 1, kind, delta: 10, on_hand_after: 10 });
///
/// let report = verifier.finish(2_000);
/// assert!(!report.is_clean());
/// assert_eq!(report.violations[0].invariant, Invariant::I2);
/// assert_eq!(
///     report.violations[0].to_string(),
///     "I2: item TEE-RED-M@default: held is 3, but its active holds hold 2",
/// );
/// ```
#[derive(Debug, Default)]
pub struct Verifier {
    items: Items,
    lives: Lives,
    overdue: Overdue,
    findings: Findings,
    holds: u64,
    movements: u64,
    last_movement: Option<i64>,
    last_key: Option<[u8; 16]>,
}

impl Verifier {
    /// A verifier that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a stock item. All items come first: a line or movement of an item that has not been
    /// seen points nowhere.
    pub fn item(&mut self, row: ItemRow) {
        self.items.insert(row, &mut self.findings);
    }

    /// Takes a hold; each hold once, in any order.
    pub fn hold(&mut self, row: &HoldRow) {
        self.live(row);
    }

    /// Takes a hold of a ledger that keeps a list of the lines of active holds, and what that list
    /// has of it, sorted by [`ListedRow::line`]. A line that it lacks is never swept.
    pub fn listed_hold(&mut self, row: &HoldRow, listed: &[ListedRow]) {
        let is_active = self.live(row);
        let lines = (0..).zip(&row.lines);
        let expected = lines.map(|(line, LineRow { item, .. })| ListedRow {
            item: *item,
            deadline: row.deadline,
            line,
        });
        let expected: Vec<_> = expected.filter(|_| is_active).collect();
        if expected != listed {
            let detail = format_args!("is listed as active by {listed:?}, instead of {expected:?}");
            self.findings.rows(format_args!("hold {}", row.id), detail);
        }
    }

    /// Takes a row that belongs to a hold which is not there; `what` says which row it is.
    pub fn stray(&mut self, what: &str, hold: HoldId) {
        self.findings
            .rows(format_args!("{what}"), format_args!("is of hold {hold}, which is not there"));
    }

    /// Says whether the hold is active.
    fn live(&mut self, row: &HoldRow) -> bool {
        self.holds = self.holds.saturating_add(1);
        check_frame(row, &mut self.findings);
        let life = self.lives.live(row, &mut self.findings);
        let is_active = life.is_active;
        if is_active {
            self.overdue.watch(row.deadline, row.id);
        }
        for (index, (line, units)) in row.lines.iter().zip(life.lines).enumerate() {
            let Some(item) = self.items.get_mut(line.item) else {
                nowhere(row, index, line.item, &mut self.findings);
                continue;
            };
            if item.add(self.holds, units) {
                twice(row, index, &mut self.findings);
            }
        }
        is_active
    }

    /// Takes what removed holds have left behind; each item once.
    pub fn carried(&mut self, row: &CarriedRow) {
        self.items.carry(row, &mut self.findings);
    }

    /// Takes a movement, in order of [`MovementRow::id`].
    pub fn movement(&mut self, row: &MovementRow) {
        self.movements = self.movements.saturating_add(1);
        if let Some(last) = self.last_movement.replace(row.id).filter(|last| *last >= row.id) {
            let subject = format_args!("movement {}", row.id);
            self.findings.rows(subject, format_args!("comes after movement {last}"));
        }
        self.items.apply(row, &mut self.findings);
    }

    /// Takes a key of the idempotency store, in sorted order, so that a key that is there twice
    /// follows itself.
    pub fn key(&mut self, key: [u8; 16]) {
        if self.last_key.replace(key) == Some(key) {
            let number = u128::from_be_bytes(key);
            self.findings.rows(format_args!("key {number:032x}"), format_args!("is there twice"));
        }
    }

    /// Judges the sums. `now` is when the ledger was last alive, in ms since 1970 on its clock.
    ///
    /// A hold whose deadline fell into an outage is spared for a while after it, however long the
    /// outage was. So while graces are in force, `now` is the moment at which the earliest of their
    /// outages began: only holds that were overdue by then are to blame.
    #[must_use]
    pub fn finish(mut self, now: i64) -> Report {
        self.items.check(&mut self.findings);
        self.overdue.check(now, &mut self.findings);
        Report {
            items: self.items.len(),
            holds: self.holds,
            movements: self.movements,
            violations: self.findings.violations,
            violations_found: self.findings.violations_found,
            warnings: self.findings.warnings,
        }
    }
}

/// What a hold must be, whatever became of it.
fn check_frame(row: &HoldRow, findings: &mut Findings) {
    let HoldRow { id, deadline, max_deadline, .. } = row;
    if row.lines.is_empty() {
        findings.rows(format_args!("hold {id}"), format_args!("has no lines"));
    }
    if deadline > max_deadline {
        let detail = format_args!("deadline is {deadline}, but max_deadline is {max_deadline}");
        findings.rows(format_args!("hold {id}"), detail);
    }
}

fn twice(row: &HoldRow, index: usize, findings: &mut Findings) {
    let detail = format_args!("line {index} is of the same item as an earlier line");
    findings.rows(format_args!("hold {}", row.id), detail);
}

fn nowhere(row: &HoldRow, index: usize, item: i64, findings: &mut Findings) {
    let detail = format_args!("line {index} is of item {item}, which is not there");
    findings.rows(format_args!("hold {}", row.id), detail);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "hold 01010101-0101-0101-0101-010101010101";

    /// Words of steps, and what each of them names.
    type Steps<'a> = &'a [(&'a str, Option<&'a [(i64, i64)]>)];

    /// The rows of a small ledger.
    #[derive(Clone, Debug)]
    struct Rows {
        items: Vec<ItemRow>,
        holds: Vec<HoldRow>,
        movements: Vec<MovementRow>,
        carried: Vec<CarriedRow>,
        keys: Vec<[u8; 16]>,
        now: i64,
    }

    impl Rows {
        fn verify(&self) -> Report {
            let mut verifier = Verifier::new();
            self.items.iter().for_each(|row| verifier.item(row.clone()));
            self.holds.iter().for_each(|row| verifier.hold(row));
            self.carried.iter().for_each(|row| verifier.carried(row));
            self.movements.iter().for_each(|row| verifier.movement(row));
            self.keys.iter().for_each(|key| verifier.key(*key));
            verifier.finish(self.now)
        }

        #[track_caller]
        fn breaks(&self, expected: &[&str]) {
            let report = self.verify();
            let found: Vec<String> = report.violations.iter().map(Violation::to_string).collect();
            assert_eq!(found, expected);
            assert_eq!(report.is_clean(), expected.is_empty());
        }

        fn units(mut self, held: i64, allocated: i64) -> Self {
            self.items[0] = ItemRow { held, allocated, ..self.items[0].clone() };
            self
        }
    }

    /// Ten tees and ten caps came in; nothing else has happened.
    fn shop() -> Rows {
        let item = |item: i64, name: &str| ItemRow {
            item,
            name: format!("{name}@default"),
            on_hand: 10,
            held: 0,
            allocated: 0,
            lent: 0,
            safety_stock: 0,
        };
        Rows {
            items: vec![item(1, "TEE"), item(2, "CAP")],
            holds: vec![],
            movements: vec![movement(1, 1, "create", 10, 10), movement(2, 2, "receive", 10, 10)],
            carried: vec![],
            keys: vec![],
            now: 2_000,
        }
    }

    fn shop_with(holds: impl Into<Vec<HoldRow>>) -> Rows {
        Rows { holds: holds.into(), ..shop() }
    }

    fn movement(id: i64, item: i64, kind: &str, delta: i64, on_hand_after: i64) -> MovementRow {
        MovementRow { id, item, kind: kind.into(), delta, on_hand_after }
    }

    /// A hold of tees, and of caps if there is a second number.
    fn hold(requested: &[i64], steps: Steps<'_>) -> HoldRow {
        let lines = (1..).zip(requested).map(|(item, &requested)| LineRow { item, requested });
        let transitions = (1..).zip(steps).map(|(n, (step, lines))| TransitionRow {
            n,
            step: (*step).into(),
            at: 1_000,
            lines: lines.map(<[_]>::to_vec),
        });
        HoldRow {
            id: HoldId::from_bytes([1; 16]),
            created_at: 1_000,
            deadline: 31_000,
            max_deadline: 901_000,
            lines: lines.collect(),
            transitions: transitions.collect(),
        }
    }

    #[test]
    fn a_clean_history_is_clean() {
        let mut rows = shop_with([
            hold(&[1], &[]),
            hold(
                &[5, 2],
                &[("confirm", Some(&[(0, 4)])), ("ship", Some(&[(0, 1)])), ("cancel", None)],
            ),
            hold(&[2, 3], &[("expire", None), ("rehold", None), ("ship", Some(&[(1, 3)]))]),
            hold(&[2], &[("expire", None), ("rehold", Some(&[(0, 1)])), ("cancel", None)]),
            hold(&[9], &[("expire", None)]),
            hold(&[9], &[("release", None)]),
            hold(&[9], &[("revoke", None)]),
        ]);
        rows = rows.units(1, 2);
        rows.items[0].on_hand = 9;
        rows.items[1].on_hand = 7;
        rows.movements.push(movement(3, 1, "ship", -1, 9));
        rows.movements.push(movement(4, 2, "ship", -3, 7));
        rows.keys = vec![[1; 16], [2; 16]];
        let report = rows.verify();
        let (items, holds, movements) = (2, 7, 4);
        assert_eq!(report, Report { items, holds, movements, ..Report::default() });
    }

    #[test]
    fn a_list_of_active_holds_has_exactly_their_lines() {
        let listed = |line: i64| ListedRow { item: line + 1, deadline: 31_000, line };
        let violations = |row: &HoldRow, listed: &[ListedRow]| {
            let mut verifier = Verifier::new();
            shop().items.into_iter().for_each(|row| verifier.item(row));
            verifier.listed_hold(row, listed);
            let report = verifier.finish(2_000);
            report.violations.iter().filter(|v| v.invariant == Invariant::Rows).count()
        };
        let (active, over) = (hold(&[2, 3], &[]), hold(&[2, 3], &[("release", None)]));
        assert_eq!(violations(&active, &[listed(0), listed(1)]), 0);
        assert_eq!(violations(&over, &[]), 0);
        assert_eq!(violations(&active, &[listed(0)]), 1);
        assert_eq!(violations(&active, &[]), 1);
        assert_eq!(violations(&over, &[listed(1)]), 1);
        let late = ListedRow { deadline: 31_001, ..listed(1) };
        assert_eq!(violations(&active, &[listed(0), late]), 1);
    }

    #[test]
    fn a_row_of_a_hold_that_is_not_there_is_found() {
        let mut verifier = Verifier::new();
        verifier.stray("step 3", HoldId::from_bytes([1; 16]));
        let report = verifier.finish(2_000);
        let detail = "rows: step 3: is of hold 01010101-0101-0101-0101-010101010101, \
                      which is not there";
        assert_eq!(report.violations[0].to_string(), detail);
    }

    #[test]
    fn negative_counts_break_i1() {
        let mut rows = shop();
        rows.items[0].safety_stock = -4;
        rows.breaks(&["I1: item TEE@default: safety_stock is -4, below 0"]);
        shop().units(-1, -2).breaks(&[
            "I1: item TEE@default: held is -1, below 0",
            "I1: item TEE@default: allocated is -2, below 0",
            "I2: item TEE@default: held is -1, but its active holds hold 0",
            "I2: item TEE@default: allocated is -2, but its holds have 0 open",
        ]);
    }

    #[test]
    fn held_that_is_not_the_sum_of_active_holds_breaks_i2() {
        let holds = [hold(&[2], &[]), hold(&[3], &[("expire", None)])];
        shop_with(holds)
            .units(5, 0)
            .breaks(&["I2: item TEE@default: held is 5, but its active holds hold 2"]);
    }

    #[test]
    fn allocated_that_is_not_the_sum_of_open_units_breaks_i2() {
        let holds = [hold(&[5], &[("confirm", None), ("cancel", Some(&[(0, 2)]))])];
        shop_with(holds)
            .units(0, 5)
            .breaks(&["I2: item TEE@default: allocated is 5, but its holds have 3 open"]);
    }

    #[test]
    fn on_hand_that_is_not_the_sum_of_movements_breaks_i4() {
        let mut rows = shop();
        rows.items[0].on_hand = 11;
        rows.breaks(&["I4: item TEE@default: on_hand is 11, but its movements add up to 10"]);
    }

    #[test]
    fn a_movement_that_leads_elsewhere_breaks_i4() {
        let mut rows = shop();
        rows.movements.push(movement(3, 1, "count", 5, 14));
        rows.items[0].on_hand = 15;
        rows.breaks(&[
            "I4: item TEE@default: movement 3 leads to 14, but with it the movements add up to 15",
        ]);
    }

    #[test]
    fn a_step_that_moves_more_than_is_there_breaks_i5() {
        let confirm = hold(&[2], &[("confirm", Some(&[(0, 3)]))]);
        let detail = "step 1 (confirm) moves 3 units of line 0, but 2 are held";
        shop_with([confirm]).breaks(&[&format!("I5: {ID}: {detail}")]);

        let ship = hold(&[2], &[("confirm", Some(&[(0, 1)])), ("ship", Some(&[(0, 2)]))]);
        let detail = "step 2 (ship) moves 2 units of line 0, but 1 are open";
        shop_with([ship]).units(0, 1).breaks(&[&format!("I5: {ID}: {detail}")]);

        let rehold = hold(&[2], &[("expire", None), ("rehold", Some(&[(0, 9)]))]);
        let detail = "step 2 (rehold) moves 9 units of line 0, but 2 are expired";
        shop_with([rehold]).breaks(&[&format!("I5: {ID}: {detail}")]);
    }

    #[test]
    fn a_line_named_twice_cannot_move_its_units_twice() {
        let confirm = hold(&[2], &[("confirm", Some(&[(0, 2), (0, 1)]))]);
        let detail = "step 1 (confirm) moves 1 units of line 0, but 0 are held";
        shop_with([confirm]).units(0, 2).breaks(&[&format!("I5: {ID}: {detail}")]);
    }

    #[test]
    fn a_step_that_moves_units_backwards_breaks_i5() {
        let cancel = hold(&[2], &[("confirm", None), ("cancel", Some(&[(0, -1)]))]);
        let detail = "step 2 (cancel) moves -1 units of line 0, but 2 are open";
        shop_with([cancel]).units(0, 2).breaks(&[&format!("I5: {ID}: {detail}")]);
    }

    #[test]
    fn an_end_that_leaves_units_held_breaks_i5() {
        let release = hold(&[3], &[("release", Some(&[(0, 1)]))]);
        let detail = "step 1 (release) leaves 2 units of line 0 held";
        shop_with([release]).breaks(&[&format!("I5: {ID}: {detail}")]);
    }

    #[test]
    fn a_line_of_nothing_breaks_i5() {
        let detail = "line 0 requests 0 units; 1 is the least";
        shop_with([hold(&[0], &[])]).breaks(&[&format!("I5: {ID}: {detail}")]);
    }

    #[test]
    fn more_sold_than_ever_came_in_breaks_i6() {
        let shipped = hold(&[8], &[("confirm", None), ("ship", None)]);
        let confirmed = hold(&[4], &[("confirm", None), ("cancel", Some(&[(0, 1)]))]);
        let mut rows = shop_with([shipped, confirmed]).units(0, 3);
        rows.items[0].on_hand = 2;
        rows.movements.push(movement(3, 1, "ship", -8, 2));
        rows.breaks(&[
            "I6: item TEE@default: 11 units are sold and not cancelled, but only 10 ever came in",
        ]);
    }

    /// Two tees were shipped by a hold that is gone.
    fn shop_with_a_removed_hold() -> Rows {
        let mut rows = shop();
        rows.items[0].on_hand = 8;
        rows.movements.push(movement(3, 1, "ship", -2, 8));
        rows.carried.push(CarriedRow { item: 1, shipped: 2 });
        rows
    }

    #[test]
    fn what_removed_holds_have_shipped_is_carried() {
        shop_with_a_removed_hold().breaks(&[]);
    }

    #[test]
    fn units_shipped_by_no_hold_break_i4() {
        let mut rows = shop_with_a_removed_hold();
        rows.carried.clear();
        rows.breaks(&["I4: item TEE@default: its movements ship 2, but its holds have shipped 0"]);
    }

    #[test]
    fn units_that_a_hold_shipped_without_a_movement_break_i4() {
        let mut rows = shop_with_a_removed_hold();
        rows.holds.push(hold(&[3], &[("confirm", None), ("ship", None)]));
        rows.breaks(&["I4: item TEE@default: its movements ship 2, but its holds have shipped 5"]);
    }

    #[test]
    fn units_of_removed_holds_count_as_sold() {
        let mut rows = shop();
        rows.items[0].on_hand = -1;
        rows.movements.push(movement(3, 1, "ship", -11, -1));
        rows.carried.push(CarriedRow { item: 1, shipped: 11 });
        rows.breaks(&[
            "I6: item TEE@default: 11 units are sold and not cancelled, but only 10 ever came in",
        ]);
    }

    #[test]
    fn what_is_carried_wrongly_is_reported() {
        let mut rows = shop_with_a_removed_hold();
        rows.carried.push(CarriedRow { item: 7, shipped: 1 });
        rows.carried.push(CarriedRow { item: 2, shipped: -1 });
        rows.breaks(&[
            "rows: carried: is of item 7, which is not there",
            "rows: item CAP@default: -1 shipped units are carried; 0 is the least",
            "I4: item CAP@default: its movements ship 0, but its holds have shipped -1",
        ]);
    }

    #[test]
    fn a_gap_in_the_numbers_breaks_i7() {
        let mut damaged = hold(&[2], &[("confirm", None), ("cancel", None)]);
        damaged.transitions[1].n = 3;
        let detail = "step 3 (cancel) stands where step 2 is expected";
        shop_with([damaged]).breaks(&[&format!("I7: {ID}: {detail}")]);
    }

    #[test]
    fn a_number_that_is_there_twice_breaks_i7() {
        let mut damaged = hold(&[2], &[("confirm", None), ("cancel", None)]);
        damaged.transitions[1].n = 1;
        let detail = "step 1 (cancel) stands where step 2 is expected";
        shop_with([damaged]).breaks(&[&format!("I7: {ID}: {detail}")]);
    }

    #[test]
    fn units_that_were_never_confirmed_cannot_be_shipped() {
        let detail = "step 1 (ship) is from active, but only confirmed allows it";
        shop_with([hold(&[2], &[("ship", None)])])
            .units(2, 0)
            .breaks(&[&format!("I7: {ID}: {detail}")]);
    }

    #[test]
    fn an_expired_hold_is_confirmed_only_by_rehold() {
        let detail = "step 2 (confirm) is from expired, but only active allows it";
        let damaged = hold(&[2], &[("expire", None), ("confirm", None)]);
        shop_with([damaged]).breaks(&[&format!("I7: {ID}: {detail}")]);
    }

    #[test]
    fn nothing_may_follow_an_end() {
        let words = ["confirm", "rehold", "release", "expire", "revoke", "ship", "cancel"];
        let ends: [Steps<'_>; 4] = [
            &[("release", None)],
            &[("revoke", None)],
            &[("confirm", None), ("cancel", None)],
            &[("confirm", None), ("cancel", Some(&[(0, 1)])), ("ship", None)],
        ];
        for end in ends {
            for word in words {
                let mut rows = shop_with([hold(&[2], &[end, &[(word, None)]].concat())]);
                if end.iter().any(|(word, _)| *word == "ship") {
                    rows.items[0].on_hand = 9;
                    rows.movements.push(movement(3, 1, "ship", -1, 9));
                }
                let found = rows.verify().violations;
                assert_eq!(found.len(), 1, "{word} after {end:?}");
                assert_eq!(found[0].invariant, Invariant::I7);
            }
        }
    }

    #[test]
    fn a_hold_stays_confirmed_while_any_unit_is_open() {
        let steps: Steps<'_> = &[
            ("confirm", None),
            ("ship", Some(&[(0, 2)])),
            ("cancel", Some(&[(1, 1)])),
            ("ship", Some(&[(1, 1)])),
        ];
        let mut rows = shop_with([hold(&[2, 2], steps)]);
        rows.items[0].on_hand = 8;
        rows.items[1].on_hand = 9;
        rows.movements.push(movement(3, 1, "ship", -2, 8));
        rows.movements.push(movement(4, 2, "ship", -1, 9));
        rows.breaks(&[]);
    }

    #[test]
    fn time_that_runs_backwards_breaks_i7() {
        let mut damaged = hold(&[2], &[("confirm", None), ("cancel", None)]);
        damaged.transitions[0].at = 1_700;
        damaged.transitions[1].at = 1_600;
        let detail = "step 2 (cancel) is at 1600, but 1700 was before it";
        shop_with([damaged.clone()]).breaks(&[&format!("I7: {ID}: {detail}")]);

        damaged.transitions[0].at = 900;
        let detail = "step 1 (confirm) is at 900, but 1000 was before it";
        shop_with([damaged]).breaks(&[&format!("I7: {ID}: {detail}")]);
    }

    #[test]
    fn one_step_back_does_not_excuse_the_next() {
        let mut damaged = hold(&[2], &[("expire", None), ("rehold", None), ("cancel", None)]);
        let times = [1_700, 1_600, 1_650];
        damaged.transitions.iter_mut().zip(times).for_each(|(row, at)| row.at = at);
        shop_with([damaged]).breaks(&[
            &format!("I7: {ID}: step 2 (rehold) is at 1600, but 1700 was before it"),
            &format!("I7: {ID}: step 3 (cancel) is at 1650, but 1700 was before it"),
        ]);
    }

    #[test]
    fn units_lent_to_nobody_break_i8() {
        let mut rows = shop();
        rows.items[0].lent = -3;
        rows.breaks(&[
            "I1: item TEE@default: lent is -3, below 0",
            "I8: item TEE@default: lent is -3, but the escrow accounts add up to 0",
        ]);
        rows.items[0].lent = 3;
        rows.breaks(&["I8: item TEE@default: lent is 3, but the escrow accounts add up to 0"]);
    }

    #[test]
    fn a_hold_eleven_seconds_overdue_breaks_i9() {
        let mut rows = shop_with([hold(&[2], &[])]).units(2, 0);
        rows.now = 42_000;
        rows.breaks(&[]);
        rows.now = 42_001;
        let detail = "is active 11001 ms after its deadline 31000; 11000 ms is the most";
        rows.breaks(&[&format!("I9: {ID}: {detail}")]);
    }

    #[test]
    fn a_hold_that_is_over_is_never_overdue() {
        let mut rows = shop_with([hold(&[2], &[("expire", None)])]);
        rows.now = 42_001;
        rows.breaks(&[]);
    }

    #[test]
    fn of_many_overdue_holds_the_oldest_are_reported() {
        let overdue = |deadline: i64| HoldRow { deadline, ..hold(&[1], &[]) };
        let mut rows = shop_with((1..=1_002).rev().map(overdue).collect::<Vec<_>>());
        rows.items[0].held = 1_002;
        rows.now = 100_000;
        let report = rows.verify();
        assert_eq!(report.violations_found, 1_000);
        assert!(report.violations[0].detail.contains("99999 ms after its deadline 1;"));
        assert!(report.violations[999].detail.contains("99000 ms after its deadline 1000;"));
        let warning = "of the overdue holds only the 1000 oldest are counted".to_owned();
        assert!(report.warnings.contains(&warning));

        rows.now = 11_500;
        let report = rows.verify();
        assert_eq!(report.violations_found, 499);
        assert!(!report.warnings.contains(&warning));
    }

    #[test]
    fn rows_that_point_nowhere_are_reported() {
        let mut lost = hold(&[2], &[("confirm", Some(&[(0, 1), (1, 1), (-1, 1)]))]);
        lost.lines[0].item = 7;
        let mut rows = shop_with([lost]);
        rows.movements.push(movement(3, 8, "receive", 1, 1));
        rows.breaks(&[
            &format!("rows: {ID}: step 1 (confirm) names line 1, but it has 1"),
            &format!("rows: {ID}: step 1 (confirm) names line -1, but it has 1"),
            &format!("rows: {ID}: line 0 is of item 7, which is not there"),
            "rows: movement 3: is of item 8, which is not there",
        ]);
    }

    #[test]
    fn rows_that_are_there_twice_are_reported() {
        let mut twice = hold(&[2, 1], &[]);
        twice.lines[1].item = 1;
        let mut rows = shop_with([twice]).units(3, 0);
        rows.items.push(ItemRow { name: "MUG@default".into(), ..rows.items[1].clone() });
        rows.movements.push(movement(2, 1, "adjust", 0, 10));
        rows.keys = vec![[1; 16], [1; 16], [2; 16]];
        rows.breaks(&[
            "rows: item MUG@default: its number 2 is there twice",
            &format!("rows: {ID}: line 1 is of the same item as an earlier line"),
            "rows: movement 2: comes after movement 2",
            "rows: key 01010101010101010101010101010101: is there twice",
        ]);
    }

    #[test]
    fn unknown_words_are_reported() {
        let mut rows = shop_with([hold(&[2], &[("reserve", None)])]).units(2, 0);
        rows.movements.push(movement(3, 1, "steal", 0, 10));
        rows.breaks(&[
            &format!("rows: {ID}: step 1 is an unknown word, \"reserve\""),
            "rows: movement 3: is of an unknown kind, \"steal\"",
        ]);
    }

    #[test]
    fn a_hold_without_lines_is_reported() {
        shop_with([hold(&[], &[])]).breaks(&[&format!("rows: {ID}: has no lines")]);
    }

    #[test]
    fn a_deadline_beyond_the_longest_life_is_reported() {
        let late = HoldRow { deadline: 901_001, ..hold(&[1], &[("release", None)]) };
        let detail = "deadline is 901001, but max_deadline is 901000";
        shop_with([late.clone()]).breaks(&[&format!("rows: {ID}: {detail}")]);
        shop_with([HoldRow { deadline: 901_000, ..late }]).breaks(&[]);
    }

    #[test]
    fn a_shortfall_is_a_warning() {
        let mut rows = shop();
        rows.items[0].on_hand = -2;
        rows.items[0].safety_stock = 1;
        rows.holds.push(hold(&[5], &[("confirm", None), ("ship", None)]));
        rows.movements.push(movement(3, 1, "count", -7, 3));
        rows.movements.push(movement(4, 1, "ship", -5, -2));
        let report = rows.verify();
        assert!(report.is_clean());
        assert_eq!(
            report.warnings,
            [
                "item TEE@default: on_hand is -2: more was shipped after a count than was counted",
                "item TEE@default: available is -3: this is a shortfall",
            ]
        );
    }

    #[test]
    fn a_count_below_what_is_promised_is_a_warning() {
        let mut rows = shop_with([hold(&[3], &[]), hold(&[4], &[("confirm", None)])]).units(3, 4);
        rows.items[0].on_hand = 5;
        rows.movements.push(movement(3, 1, "count", -5, 5));
        rows.breaks(&[]);
        let warning = "item TEE@default: available is -2: this is a shortfall";
        assert_eq!(rows.verify().warnings, [warning]);
    }

    #[test]
    fn a_thousand_violations_are_kept_and_all_are_counted() {
        let mut rows = shop_with(vec![hold(&[0], &[("release", None)]); 1_500]);
        let short = |item: i64| ItemRow { item, safety_stock: 11, ..rows.items[0].clone() };
        rows.items.extend((3..1_503).map(short).collect::<Vec<_>>());
        let report = rows.verify();
        assert_eq!((report.violations.len(), report.violations_found), (1_000, 3_000));
        assert_eq!(report.warnings.len(), 1_000);
    }

    fn any_number() -> impl Strategy<Value = i64> {
        prop_oneof![Just(i64::MIN), -1..4_i64, Just(i64::MAX)]
    }

    fn any_word() -> impl Strategy<Value = String> {
        let words = ["confirm", "rehold", "release", "expire", "revoke", "ship", "cancel", "count"];
        proptest::sample::select(words.to_vec()).prop_map(Into::into)
    }

    fn any_transition() -> impl Strategy<Value = TransitionRow> {
        let pairs = prop::collection::vec((any_number(), any_number()), 0..3);
        (any_number(), any_word(), any_number(), prop::option::of(pairs))
            .prop_map(|(n, step, at, lines)| TransitionRow { n, step, at, lines })
    }

    fn any_hold() -> impl Strategy<Value = HoldRow> {
        let line = (any_number(), any_number());
        let line = line.prop_map(|(item, requested)| LineRow { item, requested });
        let lines = prop::collection::vec(line, 0..3);
        let times = (any_number(), any_number(), any_number());
        (times, lines, prop::collection::vec(any_transition(), 0..5)).prop_map(
            |((created_at, deadline, max_deadline), lines, transitions)| {
                let id = HoldId::from_bytes([1; 16]);
                HoldRow { id, created_at, deadline, max_deadline, lines, transitions }
            },
        )
    }

    fn any_item() -> impl Strategy<Value = ItemRow> {
        (any_number(), prop::array::uniform5(any_number())).prop_map(|(item, units)| {
            let [on_hand, held, allocated, lent, safety_stock] = units;
            ItemRow { item, name: "TEE".into(), on_hand, held, allocated, lent, safety_stock }
        })
    }

    fn any_movement() -> impl Strategy<Value = MovementRow> {
        (prop::array::uniform4(any_number()), any_word()).prop_map(
            |([id, item, delta, on_hand_after], kind)| MovementRow {
                id,
                item,
                kind,
                delta,
                on_hand_after,
            },
        )
    }

    proptest! {
        #[test]
        fn no_row_is_so_damaged_that_it_panics(
            items in prop::collection::vec(any_item(), 0..4),
            holds in prop::collection::vec(any_hold(), 0..6),
            movements in prop::collection::vec(any_movement(), 0..6),
            carried in prop::collection::vec((any_number(), any_number()), 0..4),
            now in any_number(),
        ) {
            let carried = carried.into_iter().map(|(item, shipped)| CarriedRow { item, shipped });
            let carried = carried.collect();
            let report = Rows { items, holds, movements, carried, keys: vec![], now }.verify();
            prop_assert_eq!(report.is_clean(), report.violations.is_empty());
        }
    }
}
