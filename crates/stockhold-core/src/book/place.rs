//! Place, and what else takes units that are available.

use std::{collections::BTreeSet, sync::Arc};

use super::Book;
use crate::{
    Basket, Hold, HoldId, HoldState, ItemKey, Line, Outcome, Owner, Place, Placed, Quantity,
    Rejection, Shortage, Step, Timestamp,
};

impl Book {
    pub(super) fn place(&mut self, place: &Place, now: Timestamp) -> Result<Outcome, Rejection> {
        self.within_limits(&place.lines)?;
        let old = place.replaces.map(|id| self.replaceable(id, &place.owner, now)).transpose()?;
        self.all_known(&place.lines)?;
        let freed = old.as_deref().filter(|old| old.state == HoldState::Active);
        let short = self.shortages(&place.lines, freed, now);
        if !short.is_empty() {
            return Err(Rejection::InsufficientStock { lines: short, of: place.lines.len() });
        }
        if self.holds.contains_key(&place.id) {
            return Err(Rejection::Damaged { what: format!("hold {} is there twice", place.id) });
        }
        if let Some(old) = old {
            self.give_way(old, place.id, now)?;
        }
        self.grant(place, now)
    }

    fn within_limits(&self, lines: &Basket) -> Result<(), Rejection> {
        let max = self.limits.max_lines;
        if lines.len() > max {
            return Err(Rejection::TooManyLines { lines: lines.len(), max });
        }
        let max = self.limits.max_quantity;
        match lines.iter().find(|(_, units)| *units > max) {
            Some((item, requested)) => {
                Err(Rejection::QuantityTooLarge { item: item.clone(), requested, max })
            }
            None => Ok(()),
        }
    }

    /// The hold that a place replaces: the same owner's, active or expired (R13).
    fn replaceable(
        &mut self,
        id: HoldId,
        owner: &Owner,
        now: Timestamp,
    ) -> Result<Arc<Hold>, Rejection> {
        if self.holds.get(&id).is_none_or(|old| old.owner != *owner) {
            return Err(Rejection::NotFound { id });
        }
        let old = self.touch(id, now)?;
        match old.state {
            HoldState::Active => Ok(old),
            HoldState::Expired if old.replaced_by.is_none() => Ok(old),
            HoldState::Expired => Err(self.hold_expired(&old)),
            HoldState::Confirmed | HoldState::Shipped => Err(super::settle::confirmed_as(&old)),
            HoldState::Cancelled => Err(Rejection::AlreadyCancelled { id }),
            HoldState::Released => Err(Rejection::AlreadyReleased { id }),
            HoldState::Revoked => Err(Rejection::Revoked { id }),
        }
    }

    fn all_known(&self, lines: &Basket) -> Result<(), Rejection> {
        let unknown = lines.iter().map(|(item, _)| item).filter(|item| self.item(item).is_none());
        let items: Vec<_> = unknown.cloned().collect();
        if items.is_empty() { Ok(()) } else { Err(Rejection::UnknownSku { items }) }
    }

    /// The lines that cannot be held in full, as if `freed` had given its units back. Before a
    /// line counts as short, the due holds of its item are expired (R2).
    pub(super) fn shortages(
        &mut self,
        lines: &Basket,
        freed: Option<&Hold>,
        now: Timestamp,
    ) -> Vec<Shortage> {
        let mut short = Vec::new();
        for (item, requested) in lines.iter() {
            if self.available(item, freed) >= requested {
                continue;
            }
            self.reclaim(item, now);
            let available = self.available(item, freed);
            if available < requested {
                short.push(self.shortage(item, requested, available));
            }
        }
        short
    }

    pub(super) fn shortage(
        &self,
        item: &Arc<ItemKey>,
        requested: Quantity,
        available: Quantity,
    ) -> Shortage {
        let slot = self.items.get(item);
        let next_due_at = slot.and_then(|slot| self.next_deadline_in(&slot.due));
        Shortage { item: item.clone(), requested, available, next_due_at }
    }

    pub(super) fn available(&self, item: &ItemKey, freed: Option<&Hold>) -> Quantity {
        let available = self.item(item).map_or(Quantity::ZERO, crate::StockItem::available);
        let line = freed.and_then(|hold| hold.line_of(item));
        line.map_or(available, |(_, line)| available.checked_add(line.held).unwrap_or(available))
    }

    /// Expires the due holds of an item. One whose rows are damaged is left to the sweeper, which
    /// counts it: it must not spoil a stranger's place (R16).
    fn reclaim(&mut self, item: &ItemKey, now: Timestamp) {
        for id in self.due_of(item, now) {
            let _skipped_if_damaged = self.touch(id, now);
        }
    }

    /// The old hold makes room for the new one.
    fn give_way(&mut self, old: Arc<Hold>, by: HoldId, now: Timestamp) -> Result<(), Rejection> {
        let old = match old.state {
            HoldState::Active => self.step(&old, Step::Release, now)?,
            HoldState::Confirmed
            | HoldState::Released
            | HoldState::Expired
            | HoldState::Revoked
            | HoldState::Shipped
            | HoldState::Cancelled => old,
        };
        let replaced = Hold { replaced_by: Some(by), ..Hold::clone(&old) };
        self.changes.edited.push(old.id);
        self.write_hold(&Arc::new(replaced));
        Ok(())
    }

    fn grant(&mut self, place: &Place, now: Timestamp) -> Result<Outcome, Rejection> {
        for (item, units) in place.lines.iter() {
            let unknown = || Rejection::UnknownSku { items: vec![item.clone()] };
            let mut item = self.item(item).cloned().ok_or_else(unknown)?;
            item.held = item.held.checked_add(units)?;
            self.write_item(super::touched(item, now)?);
            self.traffic.placed(units);
        }
        let max_deadline = now.after(self.limits.max_lifetime);
        let hold = Arc::new(Hold {
            id: place.id,
            owner: place.owner.clone(),
            reference: place.reference.clone(),
            state: HoldState::Active,
            created_at: now,
            deadline: now.after(self.limits.clamp(place.ttl)).min(max_deadline),
            max_deadline,
            lines: self.lines_of(&place.lines),
            steps: 0,
            replaced_by: None,
        });
        self.changes.placed.push(hold.id);
        self.write_hold(&hold);
        Ok(Outcome::Placed(Placed { hold: self.view_of(hold, now), replayed: false }))
    }

    /// The lines share the key of the item in hand, so that a thousand holds of one item do not
    /// keep its name a thousand times.
    fn lines_of(&self, basket: &Basket) -> Vec<Line> {
        let shared = |item: &Arc<ItemKey>| {
            self.item(item).map_or_else(|| item.clone(), |known| known.key.clone())
        };
        basket.iter().map(|(item, units)| Line::held(shared(item), units)).collect()
    }

    /// Whether the hold has a line of every item of the basket.
    pub(super) fn is_within(basket: &Basket, hold: &Hold) -> Result<(), Rejection> {
        let known: BTreeSet<&ItemKey> = hold.lines.iter().map(|line| &*line.item).collect();
        match basket.iter().find(|(item, _)| !known.contains(&***item)) {
            Some((item, _)) => Err(Rejection::NotInHold { id: hold.id, item: item.clone() }),
            None => Ok(()),
        }
    }
}
