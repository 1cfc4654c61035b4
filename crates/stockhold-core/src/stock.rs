//! A stock item: what is there of one SKU at one location, and what of it is promised.

use std::sync::Arc;

use crate::{ItemKey, OutOfRange, Quantity, Timestamp};

/// One SKU at one location, with its quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockItem {
    /// Which item it is.
    pub key: Arc<ItemKey>,
    /// Physically present. Changed only by receive, adjust, count and ship.
    pub on_hand: Quantity,
    /// Sum of the lines of active holds, also of those past their deadline and not yet expired.
    pub held: Quantity,
    /// Confirmed and neither shipped nor cancelled.
    pub allocated: Quantity,
    /// Lent out to an escrow pool; 0 as long as there is none.
    pub lent: Quantity,
    /// Kept back from sale.
    pub safety_stock: Quantity,
    /// Counts up with every change of the item.
    pub version: u64,
    /// The ledger's time of the last change.
    pub touched_at: Timestamp,
}

impl StockItem {
    /// An item without any units.
    #[must_use]
    pub const fn empty(key: Arc<ItemKey>, touched_at: Timestamp) -> Self {
        Self {
            key,
            on_hand: Quantity::ZERO,
            held: Quantity::ZERO,
            allocated: Quantity::ZERO,
            lent: Quantity::ZERO,
            safety_stock: Quantity::ZERO,
            version: 0,
            touched_at,
        }
    }

    /// `on_hand - allocated - held - lent - safety_stock`: what can still be held. Negative after
    /// a count that found less than is promised: a shortfall (R14).
    ///
    /// # Errors
    /// [`OutOfRange`] if it cannot be said.
    pub fn checked_available(&self) -> Result<Quantity, OutOfRange> {
        self.on_hand
            .checked_sub(self.allocated)?
            .checked_sub(self.held)?
            .checked_sub(self.lent)?
            .checked_sub(self.safety_stock)
    }

    /// [`StockItem::checked_available`] of a stored item. Every change that would take it out of
    /// range is refused, so a stored item always has one; a damaged one has nothing to sell.
    #[must_use]
    pub fn available(&self) -> Quantity {
        self.checked_available().unwrap_or(Quantity::MIN)
    }
}
