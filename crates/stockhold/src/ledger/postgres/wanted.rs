//! What a batch names: the rows that have to be in hand before its commands are applied.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use stockhold_core::{Action, Command, HoldId, ItemKey, KeyId, OnExpired, Quantity, StockItem};

use super::{
    lines::Noted,
    rows::{ItemNumber, Names},
};

/// The rows that commands name.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Items by name, as far as their numbers are not known.
    pub(super) keys_of_items: BTreeSet<Arc<ItemKey>>,
    /// Items by name whose numbers are known.
    known: Vec<(Arc<ItemKey>, ItemNumber)>,
    /// Items by number: those of holds that are named, or were met.
    pub(super) items: BTreeSet<ItemNumber>,
    /// Of those, the ones that only due holds want, which are to be reclaimed.
    pub(super) reclaimed: BTreeSet<ItemNumber>,
    pub(super) holds: BTreeSet<HoldId>,
    /// Of the holds that were looked up.
    pub(super) items_of_holds: HashMap<HoldId, Vec<ItemNumber>>,
    /// Of the holds that are only to expire, those that are known as they were placed.
    pub(super) trusted: HashMap<HoldId, Noted>,
    /// What is known turned out to be wrong: everything is read.
    pub(super) trusts_nothing: bool,
    pub(super) idempotency: Vec<KeyId>,
    /// Units that places ask for, by item.
    asked: HashMap<Arc<ItemKey>, Quantity>,
    /// Of the holds, those whose answer may say what is available instead: not the sweeper's.
    pub(super) asked_about: BTreeSet<HoldId>,
    /// Holds that are reheld if they have died.
    pub(super) reholds: BTreeSet<HoldId>,
    /// Whether a movement may be written.
    pub(super) moves: bool,
    /// The batch waits beside the lane for a row that somebody else has locked.
    pub(super) is_beside: bool,
    /// Items of which fewer units may be there after one of the commands.
    shrinks: BTreeSet<Arc<ItemKey>>,
    /// Items that are shown whole in the answer.
    pub(super) shown: BTreeSet<Arc<ItemKey>>,
}

impl Wanted {
    pub(super) fn of(commands: &[Command]) -> Self {
        let mut wanted = Self::default();
        for command in commands {
            wanted.add(command);
        }
        wanted
    }

    fn add(&mut self, command: &Command) {
        let action = &command.action;
        self.keys_of_items.extend(action.items().cloned());
        self.holds.extend(action.hold());
        if !matches!(action, Action::Expire { .. }) {
            self.asked_about.extend(action.hold());
        }
        self.idempotency.extend(command.key.map(|(key, _)| key));
        match action {
            Action::Place(place) => {
                for (item, units) in place.lines.iter() {
                    self.ask(item, units);
                }
            }
            Action::Confirm { id, on_expired: OnExpired::Rehold, .. } => {
                self.reholds.insert(*id);
            }
            Action::Ship { .. } => self.moves = true,
            Action::Receive { item, .. }
            | Action::Adjust { item, .. }
            | Action::Count { item, .. }
            | Action::SetPolicy { item, .. } => {
                self.moves = true;
                self.shown.insert(Arc::clone(item));
                self.shrinks.insert(Arc::clone(item));
            }
            Action::Load { item, .. } => {
                self.moves = true;
                self.shrinks.insert(Arc::clone(item));
            }
            Action::Confirm { .. }
            | Action::Release { .. }
            | Action::Extend { .. }
            | Action::Expire { .. }
            | Action::Revoke { .. }
            | Action::Cancel { .. } => {}
        }
    }

    /// These items need not be looked up by their names.
    pub(super) fn know(&mut self, known: Vec<(Arc<ItemKey>, ItemNumber)>) {
        for (key, number) in &known {
            self.keys_of_items.remove(key);
            self.items.insert(*number);
        }
        self.known = known;
    }

    /// Items that were known by another number than they have: from now on they are looked up.
    pub(super) fn misnamed(&mut self, names: &Names) -> Vec<Arc<ItemKey>> {
        let is_right = |(key, number): &(Arc<ItemKey>, ItemNumber)| names.get(number) == Some(key);
        let wrong: Vec<_> = self.known.extract_if(.., |known| !is_right(known)).collect();
        for (key, number) in &wrong {
            self.keys_of_items.insert(Arc::clone(key));
            self.items.remove(number);
        }
        wrong.into_iter().map(|(key, _)| key).collect()
    }

    /// These are the items of a hold that is named.
    pub(super) fn meet(&mut self, hold: HoldId, items: Vec<ItemNumber>) {
        self.items.extend(items.iter().copied());
        self.items_of_holds.insert(hold, items);
    }

    /// These items have to be locked to reclaim due holds.
    pub(super) fn reclaim(&mut self, items: BTreeSet<ItemNumber>) {
        self.items.extend(&items);
        self.reclaimed.extend(items);
    }

    /// A hold that is only to expire need not be read, if it is known.
    pub(super) fn trust(&mut self, noted: Noted) {
        let id = noted.hold.id;
        if !self.trusts_nothing && !self.asked_about.contains(&id) {
            self.trusted.insert(id, noted);
        }
    }

    /// Everything is read from now on.
    pub(super) fn trust_nothing(&mut self) {
        self.trusts_nothing = true;
        self.trusted.clear();
    }

    /// Counts units that are asked for; too many to count are as many as can be.
    pub(super) fn ask(&mut self, item: &Arc<ItemKey>, units: Quantity) {
        let asked = self.asked.entry(Arc::clone(item)).or_default();
        *asked = asked.checked_add(units).unwrap_or(Quantity::MAX);
    }

    /// How many units places ask for.
    pub(super) fn asked_of(&self, item: &ItemKey) -> Quantity {
        self.asked.get(item).copied().unwrap_or_default()
    }

    /// Items of which more is asked for than is available, and how many units are short: as many
    /// holds at most have to die for them, because each has at least one.
    pub(super) fn short<'a>(
        &'a self,
        items: impl Iterator<Item = (ItemNumber, &'a StockItem)> + 'a,
    ) -> BTreeMap<ItemNumber, i64> {
        let short = |(number, item): (ItemNumber, &StockItem)| {
            let asked = self.asked.get(&item.key)?;
            let missing = asked.checked_sub(item.available()).unwrap_or(Quantity::MAX);
            let shrinks = self.shrinks.contains(&item.key);
            let missing = if shrinks { missing.max(*asked) } else { missing };
            missing.is_positive().then(|| (number, missing.get()))
        };
        items.filter_map(short).collect()
    }
}
