//! The rules: what each command does to the rows in hand.
//!
//! A [`Book`] is a working set. A ledger puts the rows into it that a batch of commands names,
//! applies the commands one after the other, and writes [`Book::changes`] back in one transaction.
//! Then it says [`Book::commit`], or [`Book::rollback`] if nothing was written.
//!
//! The book never asks for a row: what it was not given does not exist. It must be given every
//! stock item that a command or its hold names, that hold itself, the record of its key with what
//! the record points at, and the due holds (with all their items) of items that may run short.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;

use crate::{
    Action, Command, Digest, Done, Hold, HoldId, HoldState, HoldView, ItemKey, KeyId, KeyRecord,
    Limits, Liveness, Movement, MovementKind, Outcome, Placed, Quantity, Reason, Reference,
    Rejection, Settled, StockItem, StockMoved, StockView, Timestamp, Traffic, Transition,
};

mod due;
mod list;
mod place;
mod settle;
mod stock;

/// The rows in hand, and the rules that change them.
///
/// ```
/// use std::sync::Arc;
/// use stockhold_core::{Action, Book, Command, ItemKey, Limits, Outcome, Quantity, Sku, Timestamp};
///
/// let mut book = Book::new(Limits::default());
/// let mug = Arc::new(ItemKey::at_default(Sku::new("MUG")?));
/// let create = Action::SetPolicy {
///     item: mug.clone(),
///     on_hand: Some(Quantity::new(5)?),
///     safety_stock: None,
/// };
/// let outcome = book.apply(&Command::new(create), Timestamp::from_millis(0))?;
/// assert!(matches!(outcome, Outcome::PolicySet(set) if set.created));
/// assert_eq!(book.item(&mug).map(|item| item.available().get()), Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Book {
    limits: Limits,
    liveness: Liveness,
    items: Map<Arc<ItemKey>, Slot>,
    holds: Map<HoldId, Arc<Hold>>,
    due: Deadlines,
    keys: Map<KeyId, KeyRecord>,
    movements: Map<i64, Movement>,
    last_movement: i64,
    changes: Changes,
    undo: Undo,
    /// What was moved since the last commit.
    traffic: Traffic,
    /// Holds that came in hand ended, or ended here, since the last `forget_settled`.
    settled: Vec<HoldId>,
}

/// A place looks up an item about ten times; this hash is five times as fast as the standard one,
/// and seeded like it.
type Map<K, V> = HashMap<K, V, RandomState>;

/// Active holds by their stored deadline.
type Deadlines = BTreeSet<(Timestamp, HoldId)>;

/// An item, and the active holds that have a line of it.
#[derive(Debug)]
struct Slot {
    item: StockItem,
    due: Deadlines,
}

/// What has to be written so that the ledger is as the book is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Holds that are new, as they are now; each once, in the order of their places.
    pub placed: Vec<HoldId>,
    /// Older holds whose deadline or `replaced_by` changed; an id may occur twice.
    pub edited: Vec<HoldId>,
    /// New rows of the holds' histories, in order.
    pub transitions: Vec<(HoldId, Transition)>,
    /// New rows of the stock history, in order.
    pub movements: Vec<Movement>,
    /// New rows of the key store, in order.
    pub keys: Vec<KeyRecord>,
}

impl Changes {
    fn clear(&mut self) {
        self.placed.clear();
        self.edited.clear();
        self.transitions.clear();
        self.movements.clear();
        self.keys.clear();
    }
}

/// What a [`Book::rollback`] puts back.
#[derive(Debug, Default)]
struct Undo {
    items: Map<Arc<ItemKey>, Option<StockItem>>,
    holds: Vec<(HoldId, Option<Arc<Hold>>)>,
    liveness: Option<Liveness>,
}

impl Book {
    /// A book without any rows.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            liveness: Liveness::default(),
            items: Map::default(),
            holds: Map::default(),
            due: Deadlines::new(),
            keys: Map::default(),
            movements: Map::default(),
            last_movement: 0,
            changes: Changes::default(),
            undo: Undo::default(),
            traffic: Traffic::default(),
            settled: Vec::new(),
        }
    }

    /// Does what the command asks, or says why not. A refusal changes nothing but this: due holds
    /// that stood in the way were expired.
    ///
    /// `now` is the ledger's time; it is never taken to be earlier than the rows in hand (R17).
    ///
    /// # Errors
    /// The [`Rejection`] names the rule that said no.
    pub fn apply(&mut self, command: &Command, now: Timestamp) -> Result<Outcome, Rejection> {
        let action = &command.action;
        if action.needs_key() && command.key.is_none() {
            return Err(Rejection::IdempotencyKeyRequired { verb: action.verb() });
        }
        let recorded = command.key.and_then(|(id, digest)| Some((self.keys.get(&id)?, digest)));
        if let Some((&record, digest)) = recorded {
            return self.replay(action, record, digest, now);
        }
        let outcome = self.decide(action, self.moment(action, now))?;
        if let (Some((id, digest)), Some(done)) = (command.key, outcome.done()) {
            self.remember(KeyRecord { id, digest, done });
        }
        Ok(outcome)
    }

    fn decide(&mut self, action: &Action, now: Timestamp) -> Result<Outcome, Rejection> {
        match action {
            Action::Place(place) => self.place(place, now),
            Action::Confirm { id, lines, on_expired, reference } => {
                self.confirm(*id, lines.as_ref(), *on_expired, reference.as_ref(), now)
            }
            Action::Release { id, reason } => self.release(*id, reason.as_ref(), now),
            Action::Extend { id, ttl } => self.extend(*id, *ttl, now),
            Action::Expire { id } => self.touch(*id, now).map(|hold| self.settled(hold, now)),
            Action::Revoke { id, reason } => self.revoke(*id, reason, now),
            Action::Ship { id, lines } => self.ship(*id, lines.as_ref(), now),
            Action::Cancel { id, lines } => self.cancel(*id, lines.as_ref(), now),
            Action::Receive { item, units, reference } => {
                self.receive(item, *units, reference.as_ref(), now)
            }
            Action::Adjust { item, delta, reason, min_available } => {
                self.adjust(item, *delta, reason, *min_available, now)
            }
            Action::Count { item, count, reason, if_on_hand } => {
                self.count(item, *count, reason, *if_on_hand, now)
            }
            Action::SetPolicy { item, on_hand, safety_stock } => {
                self.set_policy(item, *on_hand, *safety_stock, now)
            }
            Action::Load { item, on_hand, safety_stock, mode } => {
                self.load(item, *on_hand, *safety_stock, *mode, now)
            }
        }
    }

    /// Answers a command whose key is known: with the hold as it is now, or the movement as it
    /// was recorded (R11, R19).
    fn replay(
        &mut self,
        action: &Action,
        record: KeyRecord,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        if record.digest != digest {
            return Err(Rejection::IdempotencyKeyReused);
        }
        match record.done {
            Done::Hold(id) => {
                let now = self.moment_of(id, now);
                let hold = self.touch(id, now)?;
                let view = self.view_of(hold, now);
                if matches!(action, Action::Place(_)) {
                    replayed_place(view)
                } else {
                    Ok(Outcome::Settled(Settled { hold: view, replayed: true, reacquired: false }))
                }
            }
            Done::Movement(id) => {
                let damaged = || Rejection::Damaged { what: format!("movement {id} is missing") };
                let movement = self.movements.get(&id).cloned().ok_or_else(damaged)?;
                let item = self.stock_view(&movement.item, now)?;
                Ok(Outcome::StockMoved(Box::new(StockMoved { movement, item, replayed: true })))
            }
        }
    }

    fn remember(&mut self, record: KeyRecord) {
        self.keys.insert(record.id, record);
        self.changes.keys.push(record);
    }

    /// The ledger's time, or that of the latest row in hand if the ledger's clock went back (R17).
    fn moment(&self, action: &Action, now: Timestamp) -> Timestamp {
        let now = action.hold().map_or(now, |id| self.moment_of(id, now));
        action.items().filter_map(|item| self.item(item)).fold(now, latest)
    }

    fn moment_of(&self, id: HoldId, now: Timestamp) -> Timestamp {
        let Some(hold) = self.holds.get(&id) else { return now };
        let items = hold.lines.iter().filter_map(|line| self.item(&line.item));
        items.fold(now.max(hold.created_at), latest)
    }

    fn view_of(&self, hold: Arc<Hold>, now: Timestamp) -> HoldView {
        let expires_at = self.liveness.effective(hold.deadline);
        HoldView { hold, expires_at, as_of: now }
    }

    fn settled(&self, hold: Arc<Hold>, now: Timestamp) -> Outcome {
        Outcome::Settled(Settled {
            hold: self.view_of(hold, now),
            replayed: false,
            reacquired: false,
        })
    }
}

/// The rows in hand: what a ledger puts in, looks at and takes out.
impl Book {
    /// Puts a stock item in hand, as the ledger has it.
    pub fn put_item(&mut self, item: StockItem) {
        match self.items.entry(item.key.clone()) {
            Entry::Occupied(mut slot) => slot.get_mut().item = item,
            Entry::Vacant(slot) => {
                slot.insert(Slot { item, due: Deadlines::new() });
            }
        }
    }

    /// Puts a hold in hand, as the ledger has it; its items should be in hand before.
    pub fn put_hold(&mut self, hold: Hold) {
        self.replace_hold(hold.id, Some(&Arc::new(hold)));
    }

    /// Notes the deadline of an active hold of an item in hand, without the hold itself: so that it
    /// is known when the next hold of the item dies. Its units cannot be reclaimed.
    pub fn put_deadline(&mut self, item: &ItemKey, deadline: Timestamp, hold: HoldId) {
        if let Some(slot) = self.items.get_mut(item) {
            slot.due.insert((deadline, hold));
        }
    }

    /// Puts the record of a key in hand.
    pub fn put_key(&mut self, record: KeyRecord) {
        self.keys.insert(record.id, record);
    }

    /// Puts a movement in hand that the record of a key points at.
    pub fn put_movement(&mut self, movement: Movement) {
        self.movements.insert(movement.id, movement);
    }

    /// Says which movement was the last, so that the next ones are counted on from it.
    pub const fn set_last_movement(&mut self, id: i64) {
        self.last_movement = id;
    }

    /// Says when the ledger was last alive, as it remembers it.
    pub fn set_liveness(&mut self, liveness: Liveness) {
        self.liveness = liveness;
    }

    /// The ledger is alive `now`; to be called before the first command of a transaction (R17).
    pub fn advance(&mut self, now: Timestamp) {
        if self.undo.liveness.is_none() {
            self.undo.liveness = Some(self.liveness.clone());
        }
        self.liveness.advance(now);
    }

    /// When the ledger was last alive, and the graces in force.
    #[must_use]
    pub const fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// A stock item in hand.
    #[must_use]
    pub fn item(&self, key: &ItemKey) -> Option<&StockItem> {
        self.items.get(key).map(|slot| &slot.item)
    }

    /// A hold in hand.
    #[must_use]
    pub fn hold(&self, id: HoldId) -> Option<&Arc<Hold>> {
        self.holds.get(&id)
    }

    /// The record of a key in hand.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&KeyRecord> {
        self.keys.get(&id)
    }

    /// A movement in hand.
    #[must_use]
    pub fn movement(&self, id: i64) -> Option<&Movement> {
        self.movements.get(&id)
    }

    /// Every stock item in hand.
    pub fn items(&self) -> impl Iterator<Item = &StockItem> {
        self.items.values().map(|slot| &slot.item)
    }

    /// Every hold in hand.
    pub fn holds(&self) -> impl Iterator<Item = &Arc<Hold>> {
        self.holds.values()
    }

    /// A hold as it is at `now`; see [`HoldView::at`].
    #[must_use]
    pub fn hold_view(&self, id: HoldId, now: Timestamp) -> Option<HoldView> {
        let hold = self.holds.get(&id)?.clone();
        Some(HoldView::at(self.moment_of(id, now), hold, self.liveness.clone()))
    }

    /// A stock item as it is at `now`.
    ///
    /// # Errors
    /// [`Rejection::UnknownSku`] if it is not in hand.
    pub fn stock_view(&self, key: &Arc<ItemKey>, now: Timestamp) -> Result<StockView, Rejection> {
        let slot = self.items.get(key);
        let slot = slot.ok_or_else(|| Rejection::UnknownSku { items: vec![key.clone()] })?;
        Ok(self.view_of_item(slot.item.clone(), now))
    }

    /// What has to be written since the last commit, beside [`Book::changed_items`] and
    /// [`Book::liveness`].
    #[must_use]
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The stock items that have to be written, as they are now, and whether each is new.
    pub fn changed_items(&self) -> impl Iterator<Item = (&StockItem, bool)> {
        self.undo.items.iter().filter_map(|(key, before)| Some((self.item(key)?, before.is_none())))
    }

    /// Whether a command changed anything since the last commit.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.undo.items.is_empty() || !self.undo.holds.is_empty() || !self.changes.keys.is_empty()
    }

    /// What was moved since the last commit.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The changes were written.
    pub fn commit(&mut self) {
        self.changes.clear();
        self.undo.items.clear();
        self.undo.holds.clear();
        self.undo.liveness = None;
        self.traffic = Traffic::default();
    }

    /// The changes were not written: puts every row back as it was at the last commit.
    pub fn rollback(&mut self) {
        let undo = std::mem::take(&mut self.undo);
        for (id, before) in undo.holds.into_iter().rev() {
            self.replace_hold(id, before.as_ref());
        }
        for (key, before) in undo.items {
            match before {
                Some(item) => self.put_item(item),
                None => drop(self.items.remove(&key)),
            }
        }
        for record in &self.changes.keys {
            self.keys.remove(&record.id);
        }
        for movement in &self.changes.movements {
            self.movements.remove(&movement.id);
        }
        if let Some(first) = self.changes.movements.first() {
            self.last_movement = first.id.saturating_sub(1);
        }
        if let Some(liveness) = undo.liveness {
            self.liveness = liveness;
        }
        self.changes.clear();
        self.traffic = Traffic::default();
    }

    /// Puts away the holds that have ended, the records of keys and the movements: no deadline
    /// depends on them. For a ledger that can read them again; only between a commit or rollback
    /// and the next command.
    pub fn forget_settled(&mut self) {
        for id in self.settled.drain(..) {
            if let Entry::Occupied(hold) = self.holds.entry(id)
                && hold.get().state != HoldState::Active
            {
                hold.remove();
            }
        }
        self.keys.clear();
        self.movements.clear();
    }

    /// Puts away a hold that is over, and was removed from the ledger. One that is not over stays.
    pub fn forget_hold(&mut self, id: HoldId) {
        if let Entry::Occupied(hold) = self.holds.entry(id)
            && hold.get().state.is_over()
        {
            hold.remove();
        }
    }

    /// Puts away the items without an active hold, as [`Book::forget_settled`] does with holds.
    /// Looks at every item in hand.
    pub fn forget_idle_items(&mut self) {
        self.items.retain(|_, slot| !slot.due.is_empty());
    }
}

/// The only ways in which the rules change rows; each remembers what was there before.
impl Book {
    fn write_item(&mut self, item: StockItem) {
        let key = item.key.clone();
        let before = match self.items.get_mut(&key) {
            Some(slot) => Some(std::mem::replace(&mut slot.item, item)),
            None => {
                self.put_item(item);
                None
            }
        };
        self.undo.items.entry(key).or_insert(before);
    }

    fn write_hold(&mut self, hold: &Arc<Hold>) {
        let before = self.replace_hold(hold.id, Some(hold));
        self.undo.holds.push((hold.id, before));
    }

    /// Swaps a hold and keeps the deadlines of active holds with it.
    fn replace_hold(&mut self, id: HoldId, hold: Option<&Arc<Hold>>) -> Option<Arc<Hold>> {
        let new_deadline = hold.and_then(|hold| active_deadline(hold));
        if hold.is_some() && new_deadline.is_none() {
            self.settled.push(id);
        }
        let before = match hold {
            Some(hold) => self.holds.insert(id, Arc::clone(hold)),
            None => self.holds.remove(&id),
        };
        let old_deadline = before.as_deref().and_then(active_deadline);
        if old_deadline != new_deadline {
            if let (Some(deadline), Some(hold)) = (old_deadline, &before) {
                self.forget_deadline(deadline, hold);
            }
            if let (Some(deadline), Some(hold)) = (new_deadline, hold) {
                self.note_deadline(deadline, hold);
            }
        }
        before
    }

    fn note_deadline(&mut self, deadline: Timestamp, hold: &Hold) {
        self.due.insert((deadline, hold.id));
        for line in &hold.lines {
            if let Some(slot) = self.items.get_mut(&line.item) {
                slot.due.insert((deadline, hold.id));
            }
        }
    }

    fn forget_deadline(&mut self, deadline: Timestamp, hold: &Hold) {
        self.due.remove(&(deadline, hold.id));
        for line in &hold.lines {
            if let Some(slot) = self.items.get_mut(&line.item) {
                slot.due.remove(&(deadline, hold.id));
            }
        }
    }

    fn write_movement(&mut self, movement: Movement) -> Movement {
        self.last_movement = movement.id;
        self.movements.insert(movement.id, movement.clone());
        self.changes.movements.push(movement.clone());
        movement
    }

    /// Changes the units on hand and writes the row of history that says so (I4).
    fn move_units(
        &mut self,
        mut item: StockItem,
        kind: MovementKind,
        delta: Quantity,
        note: Note<'_>,
        now: Timestamp,
    ) -> Result<Movement, Rejection> {
        let id = self.last_movement.checked_add(1).ok_or(Rejection::OutOfRange)?;
        item.on_hand = item.on_hand.checked_add(delta)?;
        let item = touched(item, now)?;
        let movement = Movement {
            id,
            item: item.key.clone(),
            kind,
            delta,
            on_hand_after: item.on_hand,
            reason: note.reason.cloned(),
            reference: note.reference.cloned(),
            at: now,
        };
        self.write_item(item);
        Ok(self.write_movement(movement))
    }
}

/// What people and the shop say about a change.
#[derive(Clone, Copy, Default)]
struct Note<'a> {
    reason: Option<&'a Reason>,
    reference: Option<&'a Reference>,
}

/// The item with its version counted up, if it can still be said what is available of it.
fn touched(mut item: StockItem, now: Timestamp) -> Result<StockItem, Rejection> {
    item.checked_available()?;
    item.version = item.version.checked_add(1).ok_or(Rejection::OutOfRange)?;
    item.touched_at = item.touched_at.max(now);
    Ok(item)
}

fn latest(now: Timestamp, item: &StockItem) -> Timestamp {
    now.max(item.touched_at)
}

fn active_deadline(hold: &Hold) -> Option<Timestamp> {
    (hold.state == HoldState::Active).then_some(hold.deadline)
}

fn replayed_place(view: HoldView) -> Result<Outcome, Rejection> {
    match view.hold.state {
        HoldState::Active | HoldState::Confirmed | HoldState::Shipped => {
            Ok(Outcome::Placed(Placed { hold: view, replayed: true }))
        }
        HoldState::Released | HoldState::Expired | HoldState::Revoked | HoldState::Cancelled => {
            Err(Rejection::HoldEnded { hold: Box::new(view) })
        }
    }
}

impl HoldView {
    /// The hold as it is at `now`: one that is due shows as expired, though nobody has expired it
    /// yet (R2); one that an outage spares does not, though no transaction has noted the outage
    /// yet (R17).
    #[must_use]
    pub fn at(now: Timestamp, hold: Arc<Hold>, mut liveness: Liveness) -> Self {
        liveness.advance(now);
        let expires_at = liveness.effective(hold.deadline);
        let is_due = hold.state == HoldState::Active && liveness.is_due(hold.deadline, now);
        let hold = if is_due { settle::expired(&hold, expires_at) } else { hold };
        Self { hold, expires_at, as_of: now }
    }

    /// The same hold so much later, if nothing has happened to it: one that is due by then shows as
    /// expired.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        let as_of = self.as_of.after(by);
        let is_due = self.hold.state == HoldState::Active && self.expires_at <= as_of;
        let hold = if is_due { settle::expired(&self.hold, self.expires_at) } else { self.hold };
        Self { hold, as_of, ..self }
    }

    /// How long it still lives; nothing if it is dead.
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.expires_at.since(self.as_of)
    }
}

impl Outcome {
    /// What a key points at. Policies and lists take none: to set them twice is to set them once.
    fn done(&self) -> Option<Done> {
        match self {
            Self::Placed(placed) => Some(Done::Hold(placed.hold.hold.id)),
            Self::Settled(settled) => Some(Done::Hold(settled.hold.hold.id)),
            Self::StockMoved(moved) => Some(Done::Movement(moved.movement.id)),
            Self::PolicySet(_) | Self::Loaded(_) => None,
        }
    }
}
