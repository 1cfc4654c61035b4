//! A ledger that forgets everything when it is dropped: for tests, and as the model of the others.
//! It is a [`Book`] that holds all rows.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use stockhold_core::{
    Book, Hold, HoldId, HoldState, HoldView, ItemKey, Limits, Liveness, Moved, Movement, StockItem,
    StockView, Timestamp, Transition,
    verify::{CarriedRow, HoldRow, ItemRow, LineRow, MovementRow, Report, TransitionRow, Verifier},
};

use super::{
    Applied, ApplyError, Batch, BatchId, Due, Granting, HoldQuery, Ledger, MovementQuery, Page,
    StockQuery,
    list::{Scan, active_page},
    retire::{Retired, Retirement},
};
use crate::{
    Failure, FailureKind,
    clock::{Clock, LedgerClock},
};

/// The reference ledger.
#[derive(Debug)]
pub struct MemoryLedger {
    clock: LedgerClock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    book: Book,
    transitions: HashMap<HoldId, Vec<Transition>>,
    movements: Vec<Movement>,
    /// What removed holds have shipped.
    carried: HashMap<Arc<ItemKey>, i64>,
    last_batch: Option<BatchId>,
    closed: bool,
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let clock = LedgerClock::start(clock, Timestamp::default());
        let mut book = Book::new(limits);
        book.set_liveness(Liveness::new(clock.now(), Vec::new()));
        let (transitions, movements, carried) = Default::default();
        let state =
            State { book, transitions, movements, carried, last_batch: None, closed: false };
        Self { clock, state: Mutex::new(state) }
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, Failure> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Failure::new(FailureKind::Closed, "the ledger is closed"));
        }
        Ok(state)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        let mut state = self.open().map_err(ApplyError::Unavailable)?;
        let now = self.clock.now();
        state.book.advance(now);
        let answers = batch.commands.iter().map(|command| state.book.apply(command, now)).collect();
        let applied = Applied::to(&state.book, answers, now);
        state.keep(&batch);
        Ok(applied)
    }

    async fn landed(&self, id: BatchId) -> Result<bool, Failure> {
        Ok(self.open()?.last_batch == Some(id))
    }

    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, Failure> {
        Ok(self.open()?.book.hold_view(id, self.clock.now()))
    }

    async fn stock(&self, key: &ItemKey) -> Result<Option<StockView>, Failure> {
        let key = Arc::new(key.clone());
        Ok(self.open()?.book.stock_view(&key, self.clock.now()).ok())
    }

    async fn holds(&self, query: HoldQuery) -> Result<Page<HoldView, HoldId>, Failure> {
        Ok(self.open()?.holds(&query, self.clock.now()))
    }

    async fn items(&self, query: StockQuery) -> Result<Page<StockView, ItemKey>, Failure> {
        Ok(self.open()?.items(&query, self.clock.now()))
    }

    async fn movements(&self, query: MovementQuery) -> Result<Page<Movement, i64>, Failure> {
        Ok(self.open()?.movements(&query))
    }

    async fn due(&self, limit: usize) -> Result<Due, Failure> {
        let (state, now) = (self.open()?, self.clock.now());
        let next_due = state.book.next_deadline().map(|at| at.since(now));
        Ok(Due { holds: state.book.due(now, limit), next_due })
    }

    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        let mut state = self.open()?;
        Ok(state.retire(Retirement { now: self.clock.now(), age }, after, limit))
    }

    async fn verify(&self) -> Result<Report, Failure> {
        Ok(self.open()?.verify())
    }

    fn granting(&self) -> Granting {
        Granting::Alone { epoch: 1, is_first: true }
    }

    async fn close(&self) -> Result<(), Failure> {
        self.open()?.closed = true;
        Ok(())
    }
}

impl State {
    fn keep(&mut self, batch: &Batch) {
        if self.book.is_changed() {
            self.last_batch = Some(batch.id);
        }
        for (id, transition) in &self.book.changes().transitions {
            self.transitions.entry(*id).or_default().push(transition.clone());
        }
        self.movements.extend(self.book.changes().movements.iter().cloned());
        self.book.commit();
    }

    fn holds(&self, query: &HoldQuery, now: Timestamp) -> Page<HoldView, HoldId> {
        if query.state == Some(HoldState::Active) {
            return active_page(&self.book, query, now);
        }
        let is_before = |id: &HoldId| query.before.is_none_or(|before| *id < before);
        let mut ids: Vec<_> = self.book.holds().map(|hold| hold.id).filter(is_before).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let view = |id| self.book.hold_view(id, now).filter(|view| query.admits(view));
        scan(ids.into_iter().map(|id| (id, view(id))), query.limit).page()
    }

    fn items(&self, query: &StockQuery, now: Timestamp) -> Page<StockView, ItemKey> {
        let place = |key: &ItemKey| (key.sku.as_str(), key.location.as_str()) > query.begin();
        let is_asked_for = |key: &ItemKey| place(key) && query.admits(key);
        let items = self.book.items().filter(|item| is_asked_for(&item.key));
        let mut items: Vec<_> = items.collect();
        items.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let view = |item: &StockItem| self.book.view_of_item(item.clone(), now);
        let views = items.into_iter().map(|item| ((*item.key).clone(), Some(view(item))));
        scan(views, query.limit).page()
    }

    fn movements(&self, query: &MovementQuery) -> Page<Movement, i64> {
        let later = self.movements.iter().filter(|movement| movement.id > query.after);
        let admitted = |movement: &&Movement| query.admits(&movement.item.sku);
        let rows = later.map(|movement| (movement.id, Some(movement).filter(admitted).cloned()));
        scan(rows, query.limit).page_after(query.after)
    }

    fn retire(&mut self, retirement: Retirement, after: Option<HoldId>, limit: usize) -> Retired {
        let is_after = |id: &HoldId| after.is_none_or(|after| *id > after);
        let mut ids: Vec<_> = self.book.holds().map(|hold| hold.id).filter(is_after).collect();
        ids.sort_unstable();
        ids.truncate(limit);
        let next = ids.last().copied().filter(|_| ids.len() == limit);
        let mut holds = 0;
        for id in ids {
            let Some(hold) = self.book.hold(id).map(Arc::clone) else { continue };
            if retirement.is_young(hold.created_at) {
                return Retired { holds, next: None };
            }
            let steps = self.transitions.get(&id).and_then(|steps| steps.last());
            if steps.is_some_and(|last| retirement.takes(&hold, last.at)) {
                self.remove(&hold);
                holds += 1;
            }
        }
        Retired { holds, next }
    }

    fn remove(&mut self, hold: &Hold) {
        for line in &hold.lines {
            let carried = self.carried.entry(Arc::clone(&line.item)).or_default();
            *carried = carried.saturating_add(line.shipped.get());
        }
        self.transitions.remove(&hold.id);
        self.book.forget_hold(hold.id);
    }

    fn verify(&self) -> Report {
        let mut verifier = Verifier::new();
        let mut numbers = HashMap::new();
        for (number, item) in (1..).zip(self.book.items()) {
            numbers.insert(item.key.clone(), number);
            verifier.item(ItemRow {
                item: number,
                name: item.key.to_string(),
                on_hand: item.on_hand.get(),
                held: item.held.get(),
                allocated: item.allocated.get(),
                lent: item.lent.get(),
                safety_stock: item.safety_stock.get(),
            });
        }
        let number = |item: &Arc<ItemKey>| numbers.get(item).copied().unwrap_or(0);
        for hold in self.book.holds() {
            let lines = hold.lines.iter();
            let steps = self.transitions.get(&hold.id).map_or(&[][..], Vec::as_slice);
            verifier.hold(&HoldRow {
                id: hold.id,
                created_at: hold.created_at.as_millis(),
                deadline: hold.deadline.as_millis(),
                max_deadline: hold.max_deadline.as_millis(),
                lines: lines
                    .map(|l| LineRow { item: number(&l.item), requested: l.requested.get() })
                    .collect(),
                transitions: steps.iter().map(transition_row).collect(),
            });
        }
        for (item, &shipped) in &self.carried {
            verifier.carried(&CarriedRow { item: number(item), shipped });
        }
        for movement in &self.movements {
            verifier.movement(&MovementRow {
                id: movement.id,
                item: number(&movement.item),
                kind: movement.kind.as_str().to_owned(),
                delta: movement.delta.get(),
                on_hand_after: movement.on_hand_after.get(),
            });
        }
        verifier.finish(self.book.liveness().swept_to().as_millis())
    }
}

/// Nothing is out of reach in memory: every row is looked at.
fn scan<T, C>(rows: impl Iterator<Item = (C, Option<T>)>, limit: usize) -> Scan<T, C> {
    let Ok(scan) = Scan::of(rows.map(Ok::<_, Infallible>), limit, usize::MAX);
    scan
}

fn transition_row(transition: &Transition) -> TransitionRow {
    let lines = match &transition.moved {
        Moved::All => None,
        Moved::Lines(named) => {
            let row = |&(index, units): &(usize, stockhold_core::Quantity)| {
                (i64::try_from(index).unwrap_or(i64::MAX), units.get())
            };
            Some(named.iter().map(row).collect())
        }
    };
    TransitionRow {
        n: i64::from(transition.n),
        step: transition.step.as_str().to_owned(),
        at: transition.at.as_millis(),
        lines,
    }
}
