//! The verbs on stock: receive, adjust, count, the policy of an item, and lists of items.

use std::sync::Arc;

use super::{Book, Note, touched};
use crate::{
    ItemKey, LoadMode, Loaded, MovementKind, Outcome, PolicySet, Quantity, Reason, Reference,
    Rejection, StockItem, StockMoved, Timestamp,
};

impl Book {
    pub(super) fn receive(
        &mut self,
        item: &Arc<ItemKey>,
        units: Quantity,
        reference: Option<&Reference>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        if !units.is_positive() {
            return Err(Rejection::QuantityTooSmall { field: "receive", min: Quantity::ONE });
        }
        let item = self.known(item)?;
        let note = Note { reference, reason: None };
        self.moved(item, MovementKind::Receive, units, note, now)
    }

    /// A delta never takes on hand below nothing, nor available below what the caller allows.
    pub(super) fn adjust(
        &mut self,
        item: &Arc<ItemKey>,
        delta: Quantity,
        reason: &Reason,
        min_available: Option<Quantity>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let item = self.known(item)?;
        let below =
            |left, floor| Err(Rejection::WouldGoBelow { item: item.key.clone(), left, floor });
        let on_hand = item.on_hand.checked_add(delta)?;
        if delta.is_negative() && on_hand.is_negative() {
            return below(on_hand, Quantity::ZERO);
        }
        let available = item.available().checked_add(delta)?;
        if let Some(floor) = min_available.filter(|floor| available < *floor) {
            return below(available, floor);
        }
        let note = Note { reason: Some(reason), reference: None };
        self.moved(item, MovementKind::Adjust, delta, note, now)
    }

    /// A count is a fact: it is accepted even if less is there than is promised (R14).
    pub(super) fn count(
        &mut self,
        item: &Arc<ItemKey>,
        count: Quantity,
        reason: &Reason,
        if_on_hand: Option<Quantity>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        if count.is_negative() {
            return Err(Rejection::QuantityTooSmall { field: "count", min: Quantity::ZERO });
        }
        let item = self.known(item)?;
        if let Some(expected) = if_on_hand.filter(|expected| *expected != item.on_hand) {
            let (item, on_hand) = (item.key, item.on_hand);
            return Err(Rejection::OnHandDiffers { item, expected, on_hand });
        }
        let delta = count.checked_sub(item.on_hand)?;
        let note = Note { reason: Some(reason), reference: None };
        self.moved(item, MovementKind::Count, delta, note, now)
    }

    pub(super) fn set_policy(
        &mut self,
        key: &Arc<ItemKey>,
        on_hand: Option<Quantity>,
        safety_stock: Option<Quantity>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        not_negative(on_hand, safety_stock)?;
        let present = self.item(key).cloned();
        let created = present.is_none();
        match present {
            None => self.create(key, on_hand, safety_stock, now)?,
            Some(item) => self.change_policy(item, on_hand, safety_stock, now)?,
        }
        let item = self.stock_view(key, now)?;
        Ok(Outcome::PolicySet(Box::new(PolicySet { item, created })))
    }

    /// A row of a list. An item that is not there is created. One that is there is as the list
    /// says, or is refused; or, if somebody counted, is brought to it, which is a fact as any
    /// count is (R14).
    pub(super) fn load(
        &mut self,
        key: &Arc<ItemKey>,
        on_hand: Quantity,
        safety_stock: Option<Quantity>,
        mode: LoadMode,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        not_negative(Some(on_hand), safety_stock)?;
        let Some(item) = self.item(key).cloned() else {
            self.create(key, Some(on_hand), safety_stock, now)?;
            return Ok(Outcome::Loaded(Loaded::Created));
        };
        let safety_stock = safety_stock.unwrap_or(item.safety_stock);
        if (on_hand, safety_stock) == (item.on_hand, item.safety_stock) {
            return Ok(Outcome::Loaded(Loaded::Unchanged));
        }
        match mode {
            LoadMode::Create => Err(already_exists(item)),
            LoadMode::Count => {
                self.bring_to(StockItem { safety_stock, ..item }, on_hand, now)?;
                Ok(Outcome::Loaded(Loaded::Counted))
            }
        }
    }

    /// Writes a movement only if units on hand change.
    fn bring_to(
        &mut self,
        item: StockItem,
        on_hand: Quantity,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let delta = on_hand.checked_sub(item.on_hand)?;
        if delta.is_zero() {
            self.write_item(touched(item, now)?);
        } else {
            self.move_units(item, MovementKind::Count, delta, Note::default(), now)?;
        }
        Ok(())
    }

    fn create(
        &mut self,
        key: &Arc<ItemKey>,
        on_hand: Option<Quantity>,
        safety_stock: Option<Quantity>,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let safety_stock = safety_stock.unwrap_or_default();
        let item = StockItem { safety_stock, ..StockItem::empty(key.clone(), now) };
        match on_hand.filter(|units| units.is_positive()) {
            Some(units) => {
                self.move_units(item, MovementKind::Create, units, Note::default(), now)?;
            }
            None => self.write_item(touched(item, now)?),
        }
        Ok(())
    }

    fn change_policy(
        &mut self,
        mut item: StockItem,
        on_hand: Option<Quantity>,
        safety_stock: Option<Quantity>,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        if on_hand.is_some_and(|asked| asked != item.on_hand) {
            return Err(already_exists(item));
        }
        if let Some(safety_stock) = safety_stock.filter(|asked| *asked != item.safety_stock) {
            item.safety_stock = safety_stock;
            self.write_item(touched(item, now)?);
        }
        Ok(())
    }

    fn known(&self, item: &Arc<ItemKey>) -> Result<StockItem, Rejection> {
        let unknown = || Rejection::UnknownSku { items: vec![item.clone()] };
        self.item(item).cloned().ok_or_else(unknown)
    }

    fn moved(
        &mut self,
        item: StockItem,
        kind: MovementKind,
        delta: Quantity,
        note: Note<'_>,
        now: Timestamp,
    ) -> Result<Outcome, Rejection> {
        let movement = self.move_units(item, kind, delta, note, now)?;
        let item = self.stock_view(&movement.item, now)?;
        Ok(Outcome::StockMoved(Box::new(StockMoved { movement, item, replayed: false })))
    }
}

fn not_negative(
    on_hand: Option<Quantity>,
    safety_stock: Option<Quantity>,
) -> Result<(), Rejection> {
    let fields = [("on_hand", on_hand), ("safety_stock", safety_stock)];
    match fields.into_iter().find(|(_, units)| units.is_some_and(Quantity::is_negative)) {
        Some((field, _)) => Err(Rejection::QuantityTooSmall { field, min: Quantity::ZERO }),
        None => Ok(()),
    }
}

fn already_exists(item: StockItem) -> Rejection {
    let StockItem { key, on_hand, safety_stock, .. } = item;
    Rejection::AlreadyExists { item: key, on_hand, safety_stock }
}
