//! The verbs on a hold: the table of states and verbs.

use std::sync::Arc;

use super::{Book, Note, touched};
use crate::{
    Basket, Hold, HoldId, HoldState, Line, Moved, MovementKind, OnExpired, Outcome, Quantity,
    Reason, Reference, Rejection, Settled, Step, StockItem, Timestamp, Transition, Ttl,
};

impl Book {
    pub(super) fn confirm(
        &mut self,
        id: HoldId,
        lines: Option<&Basket>,
        on_expired: OnExpired,
        reference: Option<&Reference>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let hold = self.touch(id, now)?;
        let note = Note { reference, reason: None };
        match (hold.state, on_expired) {
            (HoldState::Active, _) => {
                let moved = to_confirm(&hold, lines)?;
                let hold = self.step_with(&hold, Step::Confirm, moved, note, now)?;
                Ok(self.settled(hold, now))
            }
            (HoldState::Expired, OnExpired::Rehold) => self.rehold(&hold, lines, note, now),
            (HoldState::Expired, OnExpired::Fail) => Err(self.hold_expired(&hold)),
            (HoldState::Confirmed | HoldState::Shipped, _) => {
                if is_same_confirm(&hold, lines, reference) {
                    Ok(self.settled(hold, now))
                } else {
                    Err(confirmed_as(&hold))
                }
            }
            (HoldState::Cancelled, _) => Err(Rejection::AlreadyCancelled { id }),
            (HoldState::Released, _) => Err(Rejection::AlreadyReleased { id }),
            (HoldState::Revoked, _) => Err(Rejection::Revoked { id }),
        }
    }

    /// Takes the units of an expired hold again, all lines or none (R8); never those of a hold
    /// that another one has replaced (R13).
    fn rehold(
        &mut self,
        hold: &Arc<Hold>,
        lines: Option<&Basket>,
        note: Note<'_>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let moved = to_confirm(hold, lines)?;
        let wanted = basket_of(hold, lines)?;
        let short = self.shortages(&wanted, None, now);
        if hold.replaced_by.is_some() || !short.is_empty() {
            return Err(self.hold_expired(hold));
        }
        let hold = self.step_with(hold, Step::Rehold, moved, note, now)?;
        let hold = self.view_of(hold, now);
        Ok(Outcome::Settled(Settled { hold, replayed: false, reacquired: true }))
    }

    pub(super) fn release(
        &mut self,
        id: HoldId,
        reason: Option<&Reason>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        self.end(id, Step::Release, reason, now)
    }

    pub(super) fn revoke(
        &mut self,
        id: HoldId,
        reason: &Reason,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        self.end(id, Step::Revoke, Some(reason), now)
    }

    /// Gives the held units back. What is over already stays as it is (R5); what was sold is not
    /// given back this way (R6).
    fn end(
        &mut self,
        id: HoldId,
        step: Step,
        reason: Option<&Reason>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let hold = self.touch(id, now)?;
        match hold.state {
            HoldState::Active => {
                let note = Note { reason, reference: None };
                let hold = self.step_with(&hold, step, Moved::All, note, now)?;
                Ok(self.settled(hold, now))
            }
            HoldState::Expired | HoldState::Released | HoldState::Revoked => {
                Ok(self.settled(hold, now))
            }
            HoldState::Confirmed | HoldState::Shipped | HoldState::Cancelled => {
                Err(confirmed_as(&hold))
            }
        }
    }

    /// Moves the deadline (R9). A grace that spares the hold for longer is left as it is.
    pub(super) fn extend(
        &mut self,
        id: HoldId,
        ttl: Ttl,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let hold = self.touch(id, now)?;
        match hold.state {
            HoldState::Active => {}
            HoldState::Expired => return Err(self.hold_expired(&hold)),
            HoldState::Confirmed | HoldState::Shipped | HoldState::Cancelled => {
                return Err(confirmed_as(&hold));
            }
            HoldState::Released => return Err(Rejection::AlreadyReleased { id }),
            HoldState::Revoked => return Err(Rejection::Revoked { id }),
        }
        let present = self.liveness.effective(hold.deadline);
        let cap = hold.max_deadline;
        if present >= cap {
            return Err(Rejection::MaxLifetime { id, max_expires_at: cap });
        }
        let asked = now.after(self.limits.clamp(Some(ttl))).min(cap);
        if asked <= present {
            return Ok(self.settled(hold, now));
        }
        let extended = Arc::new(Hold { deadline: asked, ..Hold::clone(&hold) });
        self.changes.edited.push(id);
        self.write_hold(&extended);
        Ok(self.settled(extended, now))
    }

    pub(super) fn ship(
        &mut self,
        id: HoldId,
        lines: Option<&Basket>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let hold = self.touch(id, now)?;
        match hold.state {
            HoldState::Confirmed => self.close(&hold, Step::Ship, lines, now),
            HoldState::Shipped if lines.is_none() => Ok(self.settled(hold, now)),
            HoldState::Shipped => Err(Rejection::NothingOpen { id }),
            HoldState::Cancelled => Err(Rejection::AlreadyCancelled { id }),
            HoldState::Active | HoldState::Expired | HoldState::Released | HoldState::Revoked => {
                Err(Rejection::NotConfirmed { id, state: hold.state })
            }
        }
    }

    pub(super) fn cancel(
        &mut self,
        id: HoldId,
        lines: Option<&Basket>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let hold = self.touch(id, now)?;
        match hold.state {
            HoldState::Confirmed => self.close(&hold, Step::Cancel, lines, now),
            HoldState::Cancelled if lines.is_none() => Ok(self.settled(hold, now)),
            HoldState::Cancelled => Err(Rejection::NothingOpen { id }),
            HoldState::Shipped => Err(Rejection::AlreadyShipped { id }),
            HoldState::Active | HoldState::Expired | HoldState::Released | HoldState::Revoked => {
                Err(Rejection::NotConfirmed { id, state: hold.state })
            }
        }
    }

    fn close(
        &mut self,
        hold: &Arc<Hold>,
        step: Step,
        lines: Option<&Basket>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let moved = match lines {
            None => Moved::All,
            Some(basket) => Moved::Lines(to_close(hold, basket)?),
        };
        let hold = self.step_with(hold, step, moved, Note::default(), now)?;
        Ok(self.settled(hold, now))
    }

    /// The hold as it is after time had its say: one that is due dies now, in the same step as
    /// whatever touches it (R2).
    pub(super) fn touch(&mut self, id: HoldId, now: Timestamp) -> Result<Arc<Hold>, Rejection> {
        let hold = self.holds.get(&id).cloned().ok_or(Rejection::NotFound { id })?;
        if hold.state == HoldState::Active && self.liveness.is_due(hold.deadline, now) {
            let dead = self.step(&hold, Step::Expire, now)?;
            self.traffic.expired(now.since(self.liveness.effective(hold.deadline)));
            return Ok(dead);
        }
        Ok(hold)
    }

    pub(super) fn step(
        &mut self,
        hold: &Arc<Hold>,
        step: Step,
        now: Timestamp,
    ) -> Result<Arc<Hold>, Rejection> {
        self.step_with(hold, step, Moved::All, Note::default(), now)
    }

    /// Takes one step of a hold's life, and its stock items with it. Decides everything first and
    /// writes then, so that a damaged row leaves no half of a step behind.
    fn step_with(
        &mut self,
        hold: &Arc<Hold>,
        step: Step,
        moved: Moved,
        note: Note<'_>,
        now: Timestamp,
    ) -> Result<Arc<Hold>, Rejection> {
        let transition = Transition {
            n: hold.steps.checked_add(1).ok_or(Rejection::OutOfRange)?,
            step,
            at: now,
            moved,
            reference: note.reference.cloned(),
            reason: note.reason.cloned(),
        };
        let mut after = Hold::clone(hold);
        after.record(&transition)?;
        let items = self.items_after(hold, &after, now)?;
        let reference = after.reference.clone();
        let after = Arc::new(after);
        for (item, shipped) in items {
            if shipped.is_zero() {
                self.write_item(item);
            } else {
                let gone = Quantity::ZERO.checked_sub(shipped)?;
                let note = Note { reason: None, reference: reference.as_ref() };
                self.move_units(item, MovementKind::Ship, gone, note, now)?;
            }
        }
        for (old, new) in hold.lines.iter().zip(&after.lines) {
            self.traffic.stepped(step, old, new);
        }
        self.changes.transitions.push((hold.id, transition));
        self.write_hold(&after);
        Ok(after)
    }

    /// The stock items that differ after the step, with the units that left the house. Units on
    /// hand are not changed here: that is a movement.
    fn items_after(
        &self,
        before: &Hold,
        after: &Hold,
        now: Timestamp,
    ) -> Result<Vec<(StockItem, Quantity)>, Rejection> {
        let mut items = Vec::with_capacity(after.lines.len());
        for (old, new) in before.lines.iter().zip(&after.lines) {
            let missing = || Rejection::Damaged {
                what: format!("hold {}: stock item {} is missing", before.id, old.item),
            };
            let mut item = self.item(&old.item).cloned().ok_or_else(missing)?;
            if old == new {
                continue;
            }
            item.held = damaged_if_negative(
                item.held.checked_add(new.held)?.checked_sub(old.held)?,
                &item,
            )?;
            let open = item.allocated.checked_add(new.open()?)?.checked_sub(old.open()?)?;
            item.allocated = damaged_if_negative(open, &item)?;
            let shipped = new.shipped.checked_sub(old.shipped)?;
            let item = if shipped.is_zero() { touched(item, now)? } else { item };
            items.push((item, shipped));
        }
        Ok(items)
    }

    /// Says that a hold is dead, and what could be held of its items instead.
    pub(super) fn hold_expired(&self, hold: &Hold) -> Rejection {
        let lines = hold.lines.iter();
        let lines = lines.map(|line| {
            let available = self.available(&line.item, None);
            self.shortage(&line.item, line.requested, available)
        });
        Rejection::HoldExpired { id: hold.id, lines: lines.collect() }
    }
}

/// The hold as it is when it has died at `at`, without anything being written.
pub(super) fn expired(hold: &Arc<Hold>, at: Timestamp) -> Arc<Hold> {
    let mut dead = Hold::clone(hold);
    let transition = Transition {
        n: hold.steps.saturating_add(1),
        step: Step::Expire,
        at,
        moved: Moved::All,
        reference: None,
        reason: None,
    };
    match dead.record(&transition) {
        Ok(()) => Arc::new(dead),
        Err(_) => hold.clone(),
    }
}

pub(super) fn confirmed_as(hold: &Hold) -> Rejection {
    let confirmed = hold.lines.iter().map(|line| (line.item.clone(), line.confirmed)).collect();
    Rejection::AlreadyConfirmed { id: hold.id, reference: hold.reference.clone(), confirmed }
}

fn damaged_if_negative(units: Quantity, item: &StockItem) -> Result<Quantity, Rejection> {
    if units.is_negative() {
        let what = format!("stock item {} counts fewer units than its holds", item.key);
        return Err(Rejection::Damaged { what });
    }
    Ok(units)
}

/// The units to confirm, line by line (R10).
fn to_confirm(hold: &Hold, lines: Option<&Basket>) -> Result<Moved, Rejection> {
    let Some(basket) = lines else { return Ok(Moved::All) };
    Book::is_within(basket, hold)?;
    let mut named = Vec::with_capacity(basket.len());
    for (item, requested) in basket.iter() {
        let Some((index, line)) = hold.line_of(item) else { continue };
        if requested > line.requested {
            let (item, held) = (item.clone(), line.requested);
            return Err(Rejection::MoreThanHeld { item, requested, held });
        }
        named.push((index, requested));
    }
    Ok(Moved::Lines(named))
}

/// The units to ship or cancel, line by line.
fn to_close(hold: &Hold, basket: &Basket) -> Result<Vec<(usize, Quantity)>, Rejection> {
    Book::is_within(basket, hold)?;
    let mut named = Vec::with_capacity(basket.len());
    for (item, requested) in basket.iter() {
        let Some((index, line)) = hold.line_of(item) else { continue };
        let open = line.open()?;
        if requested > open {
            return Err(Rejection::MoreThanOpen { item: item.clone(), requested, open });
        }
        named.push((index, requested));
    }
    Ok(named)
}

/// What a rehold takes again.
fn basket_of(hold: &Hold, lines: Option<&Basket>) -> Result<Basket, Rejection> {
    if let Some(basket) = lines {
        return Ok(basket.clone());
    }
    let all = hold.lines.iter().map(|line| (line.item.as_ref().clone(), line.requested));
    Basket::new(all)
        .map_err(|_| Rejection::Damaged { what: format!("hold {} has no lines", hold.id) })
}

/// Whether a confirm asks for just what was confirmed (R3).
fn is_same_confirm(hold: &Hold, lines: Option<&Basket>, reference: Option<&Reference>) -> bool {
    let same_units = |line: &Line| match lines {
        None => line.confirmed == line.requested,
        Some(basket) => {
            let asked = basket.iter().find(|(item, _)| **item == line.item);
            asked.map_or(Quantity::ZERO, |(_, units)| units) == line.confirmed
        }
    };
    let same_reference = reference.is_none() || reference == hold.reference.as_ref();
    let within = lines.is_none_or(|basket| Book::is_within(basket, hold).is_ok());
    same_reference && within && hold.lines.iter().all(same_units)
}
