//! The stock items, and what holds and movements add up to for each: I1, I2, I4, I6, I8.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt, mem,
};

use super::{
    CarriedRow, ItemRow, MovementRow,
    lives::Units,
    report::{Findings, Invariant},
};

const SHIP: &str = "ship";
const KINDS: [&str; 5] = ["create", "receive", "adjust", "count", SHIP];

/// The items in the order in which they came, so that a report reads the same every time.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: Vec<Item>,
    by_number: HashMap<i64, usize>,
}

/// An item, and its sums. No number of `i64` rows that fits a disk overflows an `i128`.
#[derive(Debug)]
pub(super) struct Item {
    row: ItemRow,
    held: i128,
    open: i128,
    sold: i128,
    on_hand: i128,
    came_in: i128,
    /// By its holds, also those that were removed ...
    shipped: i128,
    /// ... and by its movements.
    moved_out: i128,
    /// The ordinal of the last hold with a line of this item: it finds a hold with two, without
    /// a set of items for every hold.
    last_hold: u64,
}

impl Items {
    pub(super) fn insert(&mut self, row: ItemRow, findings: &mut Findings) {
        match self.by_number.entry(row.item) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.items.len());
                self.items.push(Item::new(row));
            }
            Entry::Occupied(_) => {
                let detail = format_args!("its number {} is there twice", row.item);
                findings.rows(format_args!("item {}", row.name), detail);
            }
        }
    }

    pub(super) fn get_mut(&mut self, number: i64) -> Option<&mut Item> {
        let index = self.by_number.get(&number)?;
        self.items.get_mut(*index)
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.items.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn apply(&mut self, row: &MovementRow, findings: &mut Findings) {
        let MovementRow { id, item, kind, .. } = row;
        if !KINDS.contains(&kind.as_str()) {
            let detail = format_args!("is of an unknown kind, {kind:?}");
            findings.rows(format_args!("movement {id}"), detail);
        }
        match self.get_mut(*item) {
            Some(item) => item.apply(row, findings),
            None => {
                let detail = format_args!("is of item {item}, which is not there");
                findings.rows(format_args!("movement {id}"), detail);
            }
        }
    }

    /// A hold that is removed has nothing open: what it has sold, it has shipped.
    pub(super) fn carry(&mut self, row: &CarriedRow, findings: &mut Findings) {
        let CarriedRow { item, shipped } = row;
        let Some(item) = self.get_mut(*item) else {
            let detail = format_args!("is of item {item}, which is not there");
            return findings.rows(format_args!("carried"), detail);
        };
        if *shipped < 0 {
            let detail = format_args!("{shipped} shipped units are carried; 0 is the least");
            item.violation(Invariant::Rows, detail, findings);
        }
        item.sold = plus(item.sold, *shipped);
        item.shipped = plus(item.shipped, *shipped);
    }

    pub(super) fn check(&self, findings: &mut Findings) {
        for item in &self.items {
            item.check_signs(findings);
            item.check_sums(findings);
            item.warn(findings);
        }
    }
}

impl Item {
    fn new(row: ItemRow) -> Self {
        let (held, open, sold, on_hand, came_in, shipped, moved_out) = Default::default();
        Self { row, held, open, sold, on_hand, came_in, shipped, moved_out, last_hold: 0 }
    }

    /// Adds a line of the hold with this ordinal, counted from 1, and says whether an earlier
    /// line of the same hold was of this item too.
    pub(super) fn add(&mut self, hold: u64, units: &Units) -> bool {
        self.held = plus(self.held, units.held());
        self.open = plus(self.open, units.open());
        self.sold = plus(self.sold, units.sold());
        self.shipped = plus(self.shipped, units.shipped());
        mem::replace(&mut self.last_hold, hold) == hold
    }

    fn apply(&mut self, movement: &MovementRow, findings: &mut Findings) {
        let MovementRow { id, delta, on_hand_after, .. } = movement;
        self.on_hand = plus(self.on_hand, *delta);
        self.came_in = plus(self.came_in, *delta.max(&0));
        if movement.kind == SHIP {
            self.moved_out = self.moved_out.saturating_sub(i128::from(*delta));
        }
        if i128::from(*on_hand_after) != self.on_hand {
            let sum = self.on_hand;
            let detail = format_args!(
                "movement {id} leads to {on_hand_after}, but with it the movements add up to {sum}"
            );
            self.violation(Invariant::I4, detail, findings);
        }
    }

    /// I1 and I8.
    fn check_signs(&self, findings: &mut Findings) {
        let ItemRow { held, allocated, lent, safety_stock, .. } = self.row;
        let never_negative = [
            ("held", held),
            ("allocated", allocated),
            ("lent", lent),
            ("safety_stock", safety_stock),
        ];
        for (what, units) in never_negative.into_iter().filter(|(_, units)| *units < 0) {
            self.violation(Invariant::I1, format_args!("{what} is {units}, below 0"), findings);
        }
        if lent != 0 {
            let detail = format_args!("lent is {lent}, but the escrow accounts add up to 0");
            self.violation(Invariant::I8, detail, findings);
        }
    }

    /// I2, I4 and I6.
    fn check_sums(&self, findings: &mut Findings) {
        let Self { held, open, sold, on_hand, came_in, shipped, moved_out, .. } = self;
        if i128::from(self.row.held) != *held {
            let found = self.row.held;
            let detail = format_args!("held is {found}, but its active holds hold {held}");
            self.violation(Invariant::I2, detail, findings);
        }
        if i128::from(self.row.allocated) != *open {
            let found = self.row.allocated;
            let detail = format_args!("allocated is {found}, but its holds have {open} open");
            self.violation(Invariant::I2, detail, findings);
        }
        if i128::from(self.row.on_hand) != *on_hand {
            let found = self.row.on_hand;
            let detail = format_args!("on_hand is {found}, but its movements add up to {on_hand}");
            self.violation(Invariant::I4, detail, findings);
        }
        if shipped != moved_out {
            let detail = format_args!(
                "its movements ship {moved_out}, but its holds have shipped {shipped}"
            );
            self.violation(Invariant::I4, detail, findings);
        }
        if sold > came_in {
            let detail = format_args!(
                "{sold} units are sold and not cancelled, but only {came_in} ever came in"
            );
            self.violation(Invariant::I6, detail, findings);
        }
    }

    fn warn(&self, findings: &mut Findings) {
        let ItemRow { name, on_hand, held, allocated, lent, safety_stock, .. } = &self.row;
        if *on_hand < 0 {
            findings.warning(format_args!(
                "item {name}: on_hand is {on_hand}: more was shipped after a count than was counted"
            ));
        }
        let promised = [*allocated, *held, *lent, *safety_stock].into_iter().fold(0, plus);
        let available = i128::from(*on_hand).saturating_sub(promised);
        if available < 0 {
            findings.warning(format_args!(
                "item {name}: available is {available}: this is a shortfall"
            ));
        }
    }

    fn violation(&self, invariant: Invariant, detail: fmt::Arguments<'_>, findings: &mut Findings) {
        findings.violation(invariant, format_args!("item {}", self.row.name), detail);
    }
}

fn plus(sum: i128, units: i64) -> i128 {
    sum.saturating_add(i128::from(units))
}
