//! A ledger without a disk. It drives a [`Book`] as a real one does, on a clock that is moved by
//! hand, and after every transaction it verifies the rows.

use std::{collections::BTreeMap, sync::Arc};

use stockhold_core::{
    Book, Command, Hold, HoldId, ItemKey, Limits, Liveness, Outcome, Rejection, StockItem,
    Timestamp,
};

use crate::rows::{Fault, Rows};

pub(crate) type Answer = Result<Outcome, Rejection>;

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is written.
    Commit,
    /// The first attempt is lost; it is done again and written.
    RollBackFirst,
    /// It is lost.
    Abandon,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) book: Book,
    pub(crate) rows: Rows,
    pub(crate) now: Timestamp,
}

impl Ledger {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { book: Book::new(limits), rows: Rows::default(), now: Timestamp::from_millis(0) }
    }

    /// Does one command in one transaction.
    pub(crate) fn apply(&mut self, command: &Command, fate: Fate) -> Result<Answer, Fault> {
        let answer = self.transact(fate, |book, now| Ok(book.apply(command, now)))?;
        answer.ok_or_else(|| "the answer was lost".to_owned())
    }

    /// Does some work in one transaction, and returns its answer unless it was lost. What is done
    /// twice must be answered alike.
    pub(crate) fn transact<T: PartialEq + std::fmt::Debug>(
        &mut self,
        fate: Fate,
        mut work: impl FnMut(&mut Book, Timestamp) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let lost = match fate {
            Fate::Commit => None,
            Fate::RollBackFirst | Fate::Abandon => Some(self.attempt_in_vain(&mut work)?),
        };
        if fate == Fate::Abandon {
            return Ok(None);
        }
        self.book.advance(self.now);
        let answer = work(&mut self.book, self.now)?;
        if let Some(lost) = lost.filter(|lost| *lost != answer) {
            return Err(format!("answered {answer:?}, but {lost:?} before the rollback"));
        }
        self.commit()?;
        Ok(Some(answer))
    }

    fn attempt_in_vain<T>(
        &mut self,
        work: &mut impl FnMut(&mut Book, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let before = Snapshot::of(&self.book);
        self.book.advance(self.now);
        let answer = work(&mut self.book, self.now)?;
        self.book.rollback();
        let after = Snapshot::of(&self.book);
        if after != before {
            return Err(format!("a rollback left {after:?}\ninstead of {before:?}"));
        }
        Ok(answer)
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.rows.write(&self.book)?;
        self.book.commit();
        if self.book.is_changed() {
            return Err("there are changes right after a commit".into());
        }
        balance(&self.book)?;
        self.rows.compare(&self.book)?;
        self.rows.verify(self.idle_time())
    }

    /// I9 is about ledgers that stand still; in a test time moves on without a sweep. A moment
    /// before everything keeps the verifier from asking.
    fn idle_time(&self) -> Timestamp {
        let created = self.book.holds().map(|hold| hold.created_at);
        created.min().map_or(self.now, |first| first.min(self.now))
    }

    /// The ledger is alive for that long: a sign of life every second.
    pub(crate) fn wait(&mut self, millis: i64) {
        let end = self.now.as_millis() + millis;
        while self.now.as_millis() < end {
            let step = (end - self.now.as_millis()).min(1_000);
            self.be_alive_after(step);
        }
    }

    /// The ledger is away for that long, and is back then (R17). That it is back is not written
    /// at the first attempt.
    pub(crate) fn outage(&mut self, millis: i64) -> Result<(), Fault> {
        let (now, before) = (self.now, Snapshot::of(&self.book));
        self.now = Timestamp::from_millis(now.as_millis() + millis);
        self.book.advance(self.now);
        self.book.rollback();
        let after = Snapshot::of(&self.book);
        if after != before {
            return Err(format!("a rollback left {after:?}\ninstead of {before:?}"));
        }
        self.now = now;
        self.be_alive_after(millis);
        Ok(())
    }

    fn be_alive_after(&mut self, millis: i64) {
        self.now = Timestamp::from_millis(self.now.as_millis() + millis);
        self.book.advance(self.now);
        self.book.commit();
    }

    /// The clock steps back; nobody is told.
    pub(crate) fn step_back(&mut self, millis: i64) {
        self.now = Timestamp::from_millis(self.now.as_millis() - millis);
    }

    /// After a sweep nothing is overdue, so I9 can be asked for as well. While a grace is in
    /// force, it is asked for the moment at which the first of the outages began: one grace may
    /// prolong another.
    pub(crate) fn verify_swept(&self) -> Result<(), Fault> {
        let graces = self.book.liveness().graces();
        let is_any_in_force = graces.iter().any(|grace| grace.until > self.now);
        let first = graces.first().filter(|_| is_any_in_force);
        self.rows.verify(first.map_or(self.now, |grace| grace.from.min(self.now)))
    }
}

/// I1 and I2, from the book itself.
fn balance(book: &Book) -> Result<(), Fault> {
    let mut held: BTreeMap<&Arc<ItemKey>, i64> = BTreeMap::new();
    let mut open: BTreeMap<&Arc<ItemKey>, i64> = BTreeMap::new();
    for line in book.holds().flat_map(|hold| &hold.lines) {
        *held.entry(&line.item).or_default() += line.held.get();
        *open.entry(&line.item).or_default() +=
            line.confirmed.get() - line.shipped.get() - line.cancelled.get();
    }
    for item in book.items() {
        let counted = (item.held.get(), item.allocated.get());
        let sums = [&held, &open].map(|sums| sums.get(&item.key).copied().unwrap_or(0));
        if counted != (sums[0], sums[1]) {
            return Err(format!("I2: {item:?}, but its holds have {sums:?}"));
        }
        let parts = [item.held, item.allocated, item.lent, item.safety_stock];
        if parts.iter().any(|units| units.is_negative()) {
            return Err(format!("I1: {item:?}"));
        }
    }
    Ok(())
}

/// All that can be seen of a book.
#[derive(Debug, PartialEq)]
struct Snapshot {
    items: BTreeMap<Arc<ItemKey>, (StockItem, Option<Timestamp>)>,
    holds: BTreeMap<HoldId, Arc<Hold>>,
    deadlines: Vec<HoldId>,
    liveness: Liveness,
    is_changed: bool,
}

impl Snapshot {
    fn of(book: &Book) -> Self {
        let next_due = |item: &StockItem| {
            book.stock_view(&item.key, item.touched_at).ok().and_then(|view| view.next_due_at)
        };
        Self {
            items: book
                .items()
                .map(|item| (item.key.clone(), (item.clone(), next_due(item))))
                .collect(),
            holds: book.holds().map(|hold| (hold.id, hold.clone())).collect(),
            deadlines: book.due(Timestamp::from_millis(i64::MAX), usize::MAX),
            liveness: book.liveness().clone(),
            is_changed: book.is_changed(),
        }
    }
}
