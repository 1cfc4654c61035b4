//! The rows that a ledger would have on disk: written from what the book says has to be written,
//! from nothing else, and verified by code that shares nothing with the rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use stockhold_core::{
    Book, Hold, HoldId, HoldState, ItemKey, Line, Moved, Movement, StockItem, Timestamp,
    Transition,
    verify::{HoldRow, ItemRow, LineRow, MovementRow, TransitionRow, Verifier},
};

/// What is wrong, for people.
pub(crate) type Fault = String;

#[derive(Debug, Default)]
pub(crate) struct Rows {
    items: BTreeMap<Arc<ItemKey>, StockItem>,
    numbers: BTreeMap<Arc<ItemKey>, i64>,
    holds: BTreeMap<HoldId, StoredHold>,
    movements: Vec<Movement>,
    keys: BTreeSet<[u8; 16]>,
}

/// A hold as it was placed (but for what may be edited), and its history.
#[derive(Debug)]
struct StoredHold {
    placed: Hold,
    transitions: Vec<Transition>,
}

impl Rows {
    /// Writes what the book has changed since its last commit.
    pub(crate) fn write(&mut self, book: &Book) -> Result<(), Fault> {
        for (item, is_new) in book.changed_items() {
            let known = self.items.insert(item.key.clone(), item.clone()).is_some();
            if known == is_new {
                return Err(format!("{} is said to be new: {is_new}", item.key));
            }
            let next = i64::try_from(self.numbers.len()).map_err(|e| e.to_string())? + 1;
            self.numbers.entry(item.key.clone()).or_insert(next);
        }
        let changes = book.changes();
        for id in &changes.placed {
            let placed = as_placed(book_hold(book, *id)?);
            self.holds.insert(*id, StoredHold { placed, transitions: Vec::new() });
        }
        for id in &changes.edited {
            let hold = book_hold(book, *id)?;
            let stored = self.holds.get_mut(id).ok_or("an unknown hold was edited")?;
            stored.placed.deadline = hold.deadline;
            stored.placed.replaced_by = hold.replaced_by;
        }
        for (id, transition) in &changes.transitions {
            let stored = self.holds.get_mut(id).ok_or("a step of an unknown hold")?;
            stored.transitions.push(transition.clone());
        }
        self.movements.extend(changes.movements.iter().cloned());
        for key in &changes.keys {
            if !self.keys.insert(key.id.to_bytes()) {
                return Err("the same key was written twice".into());
            }
        }
        Ok(())
    }

    /// The steps of a hold so far.
    pub(crate) fn steps(&self, id: HoldId) -> &[Transition] {
        self.holds.get(&id).map_or(&[], |stored| &stored.transitions)
    }

    /// The movements of an item, oldest first.
    pub(crate) fn movements_of(&self, item: &ItemKey) -> impl Iterator<Item = &Movement> {
        self.movements.iter().filter(move |movement| *movement.item == *item)
    }

    /// Whether the book is what a ledger would read back from the rows.
    pub(crate) fn compare(&self, book: &Book) -> Result<(), Fault> {
        let items: BTreeMap<_, _> =
            book.items().map(|item| (item.key.clone(), item.clone())).collect();
        if items != self.items {
            return Err(format!("items in hand {items:?}, rows {:?}", self.items));
        }
        if book.holds().count() != self.holds.len() {
            return Err("the book and the rows have different holds".into());
        }
        for (id, stored) in &self.holds {
            let read_back = stored.read_back()?;
            let in_hand = book_hold(book, *id)?;
            if read_back != **in_hand {
                return Err(format!("hold in hand {in_hand:?}, read back {read_back:?}"));
            }
        }
        Ok(())
    }

    /// Recomputes the invariants.
    pub(crate) fn verify(&self, now: Timestamp) -> Result<(), Fault> {
        let mut verifier = Verifier::new();
        for item in self.items.values() {
            verifier.item(self.item_row(item));
        }
        for (id, stored) in &self.holds {
            verifier.hold(&self.hold_row(*id, stored));
        }
        for movement in &self.movements {
            verifier.movement(&self.movement_row(movement));
        }
        for key in &self.keys {
            verifier.key(*key);
        }
        let report = verifier.finish(now.as_millis());
        if report.is_clean() { Ok(()) } else { Err(format!("{:?}", report.violations)) }
    }

    fn number(&self, item: &ItemKey) -> i64 {
        self.numbers.get(item).copied().unwrap_or(-1)
    }

    fn item_row(&self, item: &StockItem) -> ItemRow {
        ItemRow {
            item: self.number(&item.key),
            name: item.key.to_string(),
            on_hand: item.on_hand.get(),
            held: item.held.get(),
            allocated: item.allocated.get(),
            lent: item.lent.get(),
            safety_stock: item.safety_stock.get(),
        }
    }

    fn hold_row(&self, id: HoldId, stored: &StoredHold) -> HoldRow {
        let hold = &stored.placed;
        let lines = hold.lines.iter();
        let lines = lines
            .map(|line| LineRow { item: self.number(&line.item), requested: line.requested.get() });
        HoldRow {
            id,
            created_at: hold.created_at.as_millis(),
            deadline: hold.deadline.as_millis(),
            max_deadline: hold.max_deadline.as_millis(),
            lines: lines.collect(),
            transitions: stored.transitions.iter().map(transition_row).collect(),
        }
    }

    fn movement_row(&self, movement: &Movement) -> MovementRow {
        MovementRow {
            id: movement.id,
            item: self.number(&movement.item),
            kind: movement.kind.as_str().to_owned(),
            delta: movement.delta.get(),
            on_hand_after: movement.on_hand_after.get(),
        }
    }
}

impl StoredHold {
    fn read_back(&self) -> Result<Hold, Fault> {
        let mut hold = self.placed.clone();
        for transition in &self.transitions {
            hold.record(transition).map_err(|illegal| illegal.to_string())?;
        }
        Ok(hold)
    }
}

fn as_placed(hold: &Hold) -> Hold {
    let lines = hold.lines.iter();
    let lines = lines.map(|line| Line::held(line.item.clone(), line.requested)).collect();
    Hold { state: HoldState::Active, steps: 0, lines, ..hold.clone() }
}

fn transition_row(transition: &Transition) -> TransitionRow {
    let lines = match &transition.moved {
        Moved::All => None,
        Moved::Lines(named) => Some(
            named
                .iter()
                .map(|&(index, units)| (i64::try_from(index).unwrap_or(i64::MAX), units.get()))
                .collect(),
        ),
    };
    TransitionRow {
        n: i64::from(transition.n),
        step: transition.step.as_str().to_owned(),
        at: transition.at.as_millis(),
        lines,
    }
}

fn book_hold(book: &Book, id: HoldId) -> Result<&Arc<Hold>, Fault> {
    book.hold(id).ok_or_else(|| format!("hold {id} is not in hand"))
}
