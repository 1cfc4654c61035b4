//! The rules said a second time, as laws about what a command may answer and change. Nothing here
//! calls the code that decides; only the effective deadline is asked of the book's own liveness.

use std::{collections::BTreeMap, sync::Arc};

use stockhold_core::{
    Action, Book, Changes, Command, Hold, HoldId, HoldState, HoldView, ItemKey, Limits, Liveness,
    LoadMode, Loaded, OnExpired, Outcome, Place, Quantity, Rejection, Shortage, Step, StockItem,
    Timestamp,
};

use crate::{ledger::Answer, rows::Fault};

/// The rows before a command.
#[derive(Debug)]
pub(crate) struct Before {
    items: BTreeMap<Arc<ItemKey>, StockItem>,
    holds: BTreeMap<HoldId, Arc<Hold>>,
    liveness: Liveness,
    changes: Changes,
    now: Timestamp,
}

/// Units needed, by item.
type Need = Vec<(Arc<ItemKey>, i64)>;

impl Before {
    pub(crate) fn of(book: &Book, now: Timestamp) -> Self {
        Self {
            items: book.items().map(|item| (item.key.clone(), item.clone())).collect(),
            holds: book.holds().map(|hold| (hold.id, hold.clone())).collect(),
            liveness: book.liveness().clone(),
            changes: book.changes().clone(),
            now,
        }
    }

    /// Checks an answer, and what the command has changed, against the laws.
    pub(crate) fn judge(
        &self,
        command: &Command,
        answer: &Answer,
        after: &Book,
        limits: &Limits,
    ) -> Result<(), Fault> {
        self.nothing_dies_early(after)?;
        nothing_dead_is_shown_alive(answer)?;
        match (&command.action, answer) {
            (Action::Place(place), Ok(Outcome::Placed(placed))) if !placed.replayed => {
                self.place_was_covered(place, after)?;
            }
            (Action::Place(place), Err(Rejection::InsufficientStock { lines, .. })) => {
                self.place_was_short(place, lines)?;
            }
            (Action::Confirm { reference, .. }, Ok(Outcome::Settled(settled))) => {
                let recorded = settled.hold.hold.reference.as_ref();
                if reference.as_ref().is_some_and(|asked| Some(asked) != recorded) {
                    return Err(format!("R3: asked for {reference:?}, recorded {recorded:?}"));
                }
                if settled.reacquired {
                    self.rehold_was_covered(&settled.hold, after)?;
                }
            }
            (Action::Confirm { id, .. }, Err(Rejection::HoldExpired { .. })) => {
                self.rehold_was_short(*id, &command.action)?;
            }
            (Action::Extend { id, ttl }, Ok(Outcome::Settled(settled))) if !settled.replayed => {
                let moment = self.moment(&command.action);
                let asked = moment.after(limits.clamp(Some(*ttl)));
                self.never_shorter(*id, asked, &settled.hold)?;
            }
            (Action::Load { item, on_hand, safety_stock, mode }, answer) => {
                self.a_list_is_kept(item, *on_hand, *safety_stock, *mode, answer, after)?;
            }
            _ => {}
        }
        if answer.is_err() {
            self.refusal_changed_nothing(after)?;
        }
        Ok(())
    }

    /// R17: the ledger's time, unless the rows in hand are later.
    fn moment(&self, action: &Action) -> Timestamp {
        let hold = action.hold().and_then(|id| self.holds.get(&id));
        let of_hold = hold.into_iter().flat_map(|hold| hold.lines.iter().map(|line| &line.item));
        let touched = action.items().chain(of_hold).filter_map(|item| self.items.get(item));
        let created = hold.map_or(self.now, |hold| hold.created_at);
        touched.map(|item| item.touched_at).fold(self.now.max(created), Timestamp::max)
    }

    fn is_dead(&self, hold: &Hold, at: Timestamp) -> bool {
        hold.state == HoldState::Active && at >= self.liveness.effective(hold.deadline)
    }

    /// What is available once all that is due has died, and `freed` was given back.
    fn available(&self, item: &ItemKey, at: Timestamp, freed: Option<HoldId>) -> i64 {
        let Some(row) = self.items.get(item) else { return 0 };
        let mut available = row.on_hand.get() - row.safety_stock.get() - row.lent.get();
        for hold in self.holds.values() {
            let counts = !self.is_dead(hold, at) && Some(hold.id) != freed;
            for line in hold.lines.iter().filter(|line| *line.item == *item) {
                let held = if counts { line.held.get() } else { 0 };
                let open = line.confirmed.get() - line.shipped.get() - line.cancelled.get();
                available -= held + open;
            }
        }
        available
    }

    /// I3.
    fn covered(&self, need: &Need, at: Timestamp, freed: Option<HoldId>) -> Vec<(String, i64)> {
        let left = need.iter().map(|(item, units)| (item, units, self.available(item, at, freed)));
        left.filter(|(_, units, available)| available < units)
            .map(|(item, _, available)| (item.to_string(), available))
            .collect()
    }

    fn place_was_covered(&self, place: &Place, after: &Book) -> Result<(), Fault> {
        let old = place.replaces.and_then(|id| self.holds.get(&id));
        if old.is_some() != place.replaces.is_some()
            || old.is_some_and(|old| old.owner != place.owner || old.replaced_by.is_some())
        {
            return Err(format!("R13: {place:?} replaced {old:?}"));
        }
        let at = self.moment(&Action::Place(place.clone()));
        let need: Need = place.lines.iter().map(|(i, units)| (i.clone(), units.get())).collect();
        let short = self.covered(&need, at, place.replaces);
        if !short.is_empty() {
            return Err(format!("I3: granted, but {short:?} was all there was: {place:?}"));
        }
        nothing_is_oversold(&need, after)
    }

    fn place_was_short(&self, place: &Place, lines: &[Shortage]) -> Result<(), Fault> {
        let at = self.moment(&Action::Place(place.clone()));
        let need: Need = place.lines.iter().map(|(i, units)| (i.clone(), units.get())).collect();
        let short = self.covered(&need, at, place.replaces);
        let named: Vec<_> =
            lines.iter().map(|line| (line.item.to_string(), line.available.get())).collect();
        if short == named {
            Ok(())
        } else {
            Err(format!("refused for {named:?}, but short are {short:?}: {place:?}"))
        }
    }

    fn rehold_was_covered(&self, view: &HoldView, after: &Book) -> Result<(), Fault> {
        if view.hold.replaced_by.is_some() {
            return Err(format!("R13: a hold that was replaced was held again: {view:?}"));
        }
        let at = self.moment(&Action::Expire { id: view.hold.id });
        let lines = view.hold.lines.iter().filter(|line| line.confirmed.is_positive());
        let need: Need = lines.map(|line| (line.item.clone(), line.confirmed.get())).collect();
        let short = self.covered(&need, at, None);
        if !short.is_empty() {
            return Err(format!("I3: held again, but {short:?} was all there was: {view:?}"));
        }
        nothing_is_oversold(&need.into_iter().filter(|(_, units)| *units > 0).collect(), after)
    }

    fn rehold_was_short(&self, id: HoldId, action: &Action) -> Result<(), Fault> {
        let Action::Confirm { lines, on_expired: OnExpired::Rehold, .. } = action else {
            return Ok(());
        };
        let hold = self.holds.get(&id).ok_or("a hold that nobody placed has expired")?;
        let all = hold.lines.iter().map(|line| (line.item.clone(), line.requested.get()));
        let need: Need = match lines {
            None => all.collect(),
            Some(basket) => basket.iter().map(|(i, units)| (i.clone(), units.get())).collect(),
        };
        let short = self.covered(&need, self.moment(action), None);
        if short.is_empty() && hold.replaced_by.is_none() {
            return Err(format!("there was enough to hold {id} again"));
        }
        Ok(())
    }

    /// After a row was accepted the item is as it says, and the answer says what was done; only a
    /// count changes an item that is there.
    fn a_list_is_kept(
        &self,
        item: &ItemKey,
        on_hand: Quantity,
        safety_stock: Option<Quantity>,
        mode: LoadMode,
        answer: &Answer,
        after: &Book,
    ) -> Result<(), Fault> {
        let (old, new) = (self.items.get(item), after.item(item));
        let numbers = |item: &StockItem| (item.on_hand, item.safety_stock);
        let listed =
            (on_hand, safety_stock.or_else(|| old.map(|old| old.safety_stock)).unwrap_or_default());
        let is_right = match (answer, old) {
            (Ok(Outcome::Loaded(Loaded::Created)), old) => old.is_none(),
            (Ok(Outcome::Loaded(Loaded::Unchanged)), Some(old)) => Some(old) == new,
            (Ok(Outcome::Loaded(Loaded::Counted)), Some(old)) => {
                mode == LoadMode::Count && numbers(old) != listed
            }
            (Err(Rejection::AlreadyExists { .. }), Some(old)) => {
                mode == LoadMode::Create && numbers(old) != listed
            }
            (Err(Rejection::QuantityTooSmall { .. } | Rejection::OutOfRange), _) => true,
            _ => false,
        };
        let is_as_listed = answer.is_err() || new.map(numbers) == Some(listed);
        let fault = || format!("{item} was {old:?} and is {new:?}: {answer:?}");
        (is_right && is_as_listed).then_some(()).ok_or_else(fault)
    }

    /// R9.
    fn never_shorter(&self, id: HoldId, asked: Timestamp, view: &HoldView) -> Result<(), Fault> {
        let old = self.holds.get(&id).ok_or("a hold that nobody placed was extended")?;
        let least = self.liveness.effective(old.deadline).max(asked.min(old.max_deadline));
        if view.expires_at < least || view.hold.deadline > old.max_deadline {
            return Err(format!("extended to {:?}, not {least:?}", view.expires_at));
        }
        Ok(())
    }

    /// R2: units may come back later than the deadline, never earlier.
    fn nothing_dies_early(&self, after: &Book) -> Result<(), Fault> {
        let new = &after.changes().transitions[self.changes.transitions.len()..];
        for (id, transition) in new.iter().filter(|(_, t)| t.step == Step::Expire) {
            let hold = self.holds.get(id).ok_or("a hold that nobody placed has expired")?;
            if !self.is_dead(hold, transition.at) {
                return Err(format!("{id} expired at {:?}, too early", transition.at));
            }
        }
        Ok(())
    }

    /// A refusal changes no row, but for due holds that were expired.
    fn refusal_changed_nothing(&self, after: &Book) -> Result<(), Fault> {
        let changes = after.changes();
        let same = changes.placed.len() == self.changes.placed.len()
            && changes.edited.len() == self.changes.edited.len()
            && changes.movements.len() == self.changes.movements.len()
            && changes.keys.len() == self.changes.keys.len();
        let new = &changes.transitions[self.changes.transitions.len()..];
        let steps = new.iter().all(|(_, transition)| transition.step == Step::Expire);
        if !same || !steps || after.holds().count() != self.holds.len() {
            return Err(format!("a refusal wrote {changes:?}"));
        }
        self.only_the_dead_differ(after)
    }

    fn only_the_dead_differ(&self, after: &Book) -> Result<(), Fault> {
        let mut back: BTreeMap<&Arc<ItemKey>, i64> = BTreeMap::new();
        for hold in after.holds() {
            let old = self.holds.get(&hold.id).ok_or("a refusal placed a hold")?;
            if old == hold {
                continue;
            }
            if hold.state != HoldState::Expired || old.state != HoldState::Active {
                return Err(format!("a refusal changed {old:?} to {hold:?}"));
            }
            old.lines.iter().for_each(|l| *back.entry(&l.item).or_default() += l.held.get());
        }
        for item in after.items() {
            let old = self.items.get(&item.key).ok_or("a refusal created an item")?;
            let fewer = old.held.get() - item.held.get();
            let same = (old.on_hand, old.allocated, old.lent, old.safety_stock)
                == (item.on_hand, item.allocated, item.lent, item.safety_stock);
            if !same || fewer != back.get(&item.key).copied().unwrap_or(0) {
                return Err(format!("a refusal changed {old:?} to {item:?}"));
            }
        }
        Ok(())
    }
}

/// R2.
fn nothing_dead_is_shown_alive(answer: &Answer) -> Result<(), Fault> {
    let view = match answer {
        Ok(Outcome::Placed(placed)) => &placed.hold,
        Ok(Outcome::Settled(settled)) => &settled.hold,
        _ => return Ok(()),
    };
    if view.hold.state == HoldState::Active && view.as_of >= view.expires_at {
        return Err(format!("R2: shown as active: {view:?}"));
    }
    Ok(())
}

fn nothing_is_oversold(need: &Need, after: &Book) -> Result<(), Fault> {
    let available = |item: &ItemKey| after.item(item).map(|item| item.available().get());
    match need.iter().find(|(item, _)| available(item).is_none_or(|available| available < 0)) {
        Some((item, _)) => Err(format!("I3: {item} is oversold: {:?}", available(item))),
        None => Ok(()),
    }
}

/// R1: what the book says is due is what is due, and the next deadline is the next.
pub(crate) fn deadlines_are_known(book: &Book, now: Timestamp) -> Result<(), Fault> {
    let active = || book.holds().filter(|hold| hold.state == HoldState::Active);
    let effective = |hold: &Hold| book.liveness().effective(hold.deadline);
    let mut due: Vec<_> = active()
        .filter(|hold| now >= effective(hold))
        .map(|hold| (hold.deadline, hold.id))
        .collect();
    due.sort_unstable();
    let due: Vec<_> = due.into_iter().map(|(_, id)| id).collect();
    let said = book.due(now, usize::MAX);
    if said != due {
        return Err(format!("R1: due are {due:?}, not {said:?}"));
    }
    let next = active().map(|hold| effective(hold)).min();
    if book.next_deadline() != next {
        return Err(format!("the next deadline is {next:?}, not {:?}", book.next_deadline()));
    }
    Ok(())
}
