//! What is in hand for one batch: rows that are locked, or belong to rows that are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use stockhold_core::{
    Book, Command, Done, Hold, HoldId, HoldState, ItemKey, KeyId, KeyRecord, Limits, Liveness,
    Outcome, Rejection, StockItem, Timestamp, Transition,
};
use tokio_postgres::Row;

use super::{
    lines::Noted,
    opening::Opened,
    rows::{self, Damaged, ItemNumber, Names, Placed},
    wanted::Wanted,
};

/// The rows of a batch, as a [`Book`], and what is known of them beside it.
pub(super) struct Hand {
    pub(super) book: Book,
    pub(super) now: Timestamp,
    pub(super) names: Names,
    pub(super) numbers: HashMap<Arc<ItemKey>, ItemNumber>,
    /// Holds that were active when they were read: their deadline then.
    pub(super) active: HashMap<HoldId, Timestamp>,
    /// Some holds were not read, because they are known.
    pub(super) trusts: bool,
    /// The records of keys that were found.
    found: Vec<KeyRecord>,
    /// Holds that cannot be read, and why.
    damaged: HashMap<HoldId, String>,
    damaged_keys: HashMap<KeyId, String>,
    /// Items that have to be locked as well, the next time.
    pub(super) missing: BTreeSet<ItemNumber>,
    /// Items of due holds that were left alone, because they were not locked.
    pub(super) left_alone: BTreeSet<ItemNumber>,
}

impl Hand {
    pub(super) fn new(limits: Limits, liveness: Liveness, now: Timestamp) -> Self {
        let mut book = Book::new(limits);
        book.set_liveness(liveness);
        book.advance(now);
        Self {
            book,
            now,
            names: Names::new(),
            numbers: HashMap::new(),
            active: HashMap::new(),
            trusts: false,
            found: Vec::new(),
            damaged: HashMap::new(),
            damaged_keys: HashMap::new(),
            missing: BTreeSet::new(),
            left_alone: BTreeSet::new(),
        }
    }

    /// What a batch begins with. An item that cannot be read is not put in hand: for the
    /// rules it is not there.
    pub(super) fn put_opened(&mut self, opened: &Opened) -> Result<(), Damaged> {
        if let Some(last) = opened.last_movement()? {
            self.book.set_last_movement(last);
        }
        for item in opened.stock()? {
            match item {
                Ok((number, item)) => self.put_item(number, item),
                Err(Damaged(what)) => tracing::error!(what, "a stock item cannot be read"),
            }
        }
        for (key, record) in opened.keys()? {
            match record {
                Ok(record) => {
                    self.book.put_key(record);
                    self.found.push(record);
                }
                Err(Damaged(what)) => drop(self.damaged_keys.insert(key, what)),
            }
        }
        Ok(())
    }

    fn put_item(&mut self, number: ItemNumber, item: StockItem) {
        self.names.insert(number, item.key.clone());
        self.numbers.insert(item.key.clone(), number);
        self.book.put_item(item);
    }

    /// Holds that keys point at.
    pub(super) fn holds_of_keys(&self) -> impl Iterator<Item = HoldId> {
        self.found.iter().filter_map(|record| match record.done {
            Done::Hold(id) => Some(id),
            Done::Movement(_) => None,
        })
    }

    /// Movements that keys point at.
    pub(super) fn movements_of_keys(&self) -> Vec<i64> {
        let movements = self.found.iter().filter_map(|record| match record.done {
            Done::Movement(id) => Some(id),
            Done::Hold(_) => None,
        });
        movements.collect()
    }

    pub(super) fn put_movements(&mut self, movements: &[Row]) {
        for row in movements {
            match rows::movement(row, &self.names) {
                Ok(movement) => self.book.put_movement(movement),
                Err(Damaged(what)) => tracing::error!(what, "a movement cannot be read"),
            }
        }
    }

    /// Holds that the batch names. Whoever changes one has all its items locked; so those that are
    /// not are wanted the next time.
    pub(super) fn put_named(
        &mut self,
        holds: &[Row],
        transitions: &[Row],
        wanted: &Wanted,
    ) -> Result<(), Damaged> {
        for (hold, items) in self.read_holds(holds, transitions)? {
            let not_locked: Vec<_> = self.not_locked(&items, wanted).collect();
            self.missing.extend(not_locked);
            self.put_hold(hold);
        }
        Ok(())
    }

    /// Holds that are known and need not be read: which ones. They are due, so that they are going to
    /// be written, and that finds out whether they still are what they were. Whatever an item that is
    /// not there may mean, its hold is read.
    pub(super) fn put_trusted(&mut self, wanted: &Wanted) -> BTreeSet<HoldId> {
        let of_keys: BTreeSet<HoldId> = self.holds_of_keys().collect();
        let mut trusted = BTreeSet::new();
        for (id, noted) in &wanted.trusted {
            let is_there = noted.items.iter().all(|number| self.names.contains_key(number));
            let is_due = self.book.liveness().is_due(noted.hold.deadline, self.now);
            if is_there && is_due && !of_keys.contains(id) {
                trusted.insert(*id);
                self.put_hold(Hold::clone(&noted.hold));
            }
        }
        self.trusts = !trusted.is_empty();
        trusted
    }

    /// Due holds of items that run short. One with an item that is not locked is left alone.
    pub(super) fn put_due(
        &mut self,
        holds: &[Row],
        transitions: &[Row],
        wanted: &Wanted,
    ) -> Result<(), Damaged> {
        for (hold, items) in self.read_holds(holds, transitions)? {
            let not_locked: Vec<_> = self.not_locked(&items, wanted).collect();
            if not_locked.is_empty() {
                self.put_hold(hold);
            } else {
                self.left_alone.extend(not_locked);
            }
        }
        Ok(())
    }

    fn not_locked<'a>(
        &'a self,
        items: &'a [ItemNumber],
        wanted: &'a Wanted,
    ) -> impl Iterator<Item = ItemNumber> + 'a {
        let is_locked = |number: &ItemNumber| self.names.contains_key(number);
        // One that was asked for, and is not there, will not be there the next time either.
        let numbers = items.iter().copied();
        numbers.filter(move |number| !is_locked(number) && !wanted.items.contains(number))
    }

    fn put_hold(&mut self, hold: Hold) {
        if hold.state == HoldState::Active {
            self.active.insert(hold.id, hold.deadline);
        }
        self.book.put_hold(hold);
    }

    fn read_holds(
        &mut self,
        holds: &[Row],
        transitions: &[Row],
    ) -> Result<Vec<(Hold, Vec<ItemNumber>)>, Damaged> {
        let mut steps = Steps::of(transitions)?;
        let mut read = Vec::with_capacity(holds.len());
        for row in holds {
            let id = rows::hold_id(row, 0)?;
            match rows::placed(row, &self.names).and_then(|placed| steps.lived(placed)) {
                Ok(placed) => read.push((placed.hold, placed.items)),
                Err(Damaged(what)) => drop(self.damaged.insert(id, what)),
            }
        }
        Ok(read)
    }

    /// When the next holds of an item die: rows of item, deadline, hold.
    pub(super) fn put_deadlines(&mut self, deadlines: &[Row]) -> Result<(), Damaged> {
        for row in deadlines {
            let number: ItemNumber = rows::column(row, 0)?;
            if let Some(key) = self.names.get(&number) {
                let (deadline, hold) = (rows::timestamp(row, 1)?, rows::hold_id(row, 2)?);
                // A hold in hand has its say by itself.
                if self.book.hold(hold).is_none() {
                    self.book.put_deadline(key, deadline, hold);
                }
            }
        }
        Ok(())
    }

    /// What is known of holds that are new, or were given more time, once this is committed. If it
    /// never is, nobody asks for them.
    pub(super) fn noted(&self) -> impl Iterator<Item = Noted> {
        let changes = self.book.changes();
        let changed = changes.placed.iter().chain(&changes.edited);
        let active = changed
            .filter_map(|id| self.book.hold(*id))
            .filter(|hold| hold.state == HoldState::Active);
        active.map(|hold| {
            let items = hold.lines.iter().filter_map(|line| self.numbers.get(&line.item));
            Noted { items: items.copied().collect(), hold: Arc::clone(hold) }
        })
    }

    pub(super) fn items(&self) -> impl Iterator<Item = (ItemNumber, &StockItem)> {
        let item =
            |(number, key): (&ItemNumber, &Arc<ItemKey>)| Some((*number, self.book.item(key)?));
        self.names.iter().filter_map(item)
    }

    /// Items whose next deadline an answer may name: those that are short, those that are shown, and
    /// those of holds that are asked about and have died.
    pub(super) fn told(
        &self,
        wanted: &Wanted,
        short: &BTreeMap<ItemNumber, i64>,
    ) -> BTreeSet<ItemNumber> {
        let shown = wanted.shown.iter().filter_map(|key| self.numbers.get(key)).copied();
        let mut told: BTreeSet<_> = short.keys().copied().chain(shown).collect();
        for hold in wanted.asked_about.iter().filter_map(|id| self.book.hold(*id)) {
            let is_due = self.book.liveness().is_due(hold.deadline, self.now);
            if is_due || hold.state == HoldState::Expired {
                let items = hold.lines.iter().filter_map(|line| self.numbers.get(&line.item));
                told.extend(items.copied());
            }
        }
        told
    }

    /// Applies a command, unless what it names cannot be read.
    pub(super) fn answer(&mut self, command: &Command) -> Result<Outcome, Rejection> {
        let damaged = command.action.hold().and_then(|id| self.damaged.get(&id));
        let damaged = damaged.or_else(|| {
            let (key, _) = command.key?;
            self.damaged_keys.get(&key).or_else(|| match self.book.key(key)?.done {
                Done::Hold(id) => self.damaged.get(&id),
                Done::Movement(_) => None,
            })
        });
        match damaged {
            Some(what) => Err(Rejection::Damaged { what: what.clone() }),
            None => self.book.apply(command, self.now),
        }
    }
}

/// Transitions by their holds.
pub(super) struct Steps(HashMap<HoldId, Vec<Result<Transition, Damaged>>>);

impl Steps {
    pub(super) fn of(transitions: &[Row]) -> Result<Self, Damaged> {
        let mut steps: HashMap<HoldId, Vec<_>> = HashMap::new();
        for row in transitions {
            let step = rows::transition(row).map(|(_, transition)| transition);
            steps.entry(rows::hold_id(row, 0)?).or_default().push(step);
        }
        Ok(Self(steps))
    }

    /// The hold as its steps left it.
    pub(super) fn lived(&mut self, mut placed: Placed) -> Result<Placed, Damaged> {
        for step in self.0.remove(&placed.hold.id).into_iter().flatten() {
            placed.hold.record(&step?).map_err(|illegal| Damaged(illegal.to_string()))?;
        }
        Ok(placed)
    }
}
