//! Stock items and movements as they are sent.

use std::time::Duration;

use serde::Serialize;
use stockhold::{Movement, StockMoved, StockView, Told, cache::Origin};
use utoipa::ToSchema;

use super::{
    field::{AnyUnits, LocationWord, NotNegative, ReasonWord, ReferenceWord, SkuWord, Units},
    moment::{Asked, Rfc3339, millis},
    schema::Sort,
};

/// A stock item as it was when the ledger was asked.
#[derive(Serialize, ToSchema)]
#[schema(as = StockItem)]
pub(crate) struct ItemBody<'a> {
    #[schema(value_type = SkuWord)]
    sku: &'a str,
    #[schema(value_type = LocationWord)]
    location: &'a str,
    /// What is physically there. Less than none when more was shipped than a count had found.
    on_hand: AnyUnits,
    /// Promised to holds that are neither paid nor expired.
    held: NotNegative,
    /// Confirmed, and neither shipped nor cancelled.
    allocated: NotNegative,
    lent: NotNegative,
    /// Kept back from sale.
    safety_stock: NotNegative,
    /// `on_hand - allocated - held - lent - safety_stock`. Less than none is a shortfall.
    available: AnyUnits,
    /// Counts up with every change of the item.
    #[schema(maximum = 9007199254740991_u64)]
    version: u64,
    /// The earliest deadline of an active hold on it.
    #[schema(required)]
    next_due_at: Option<Rfc3339>,
    /// Who answered: `ledger`, or a copy: `l1`, in this server; `l2`, in Redis.
    origin: &'a str,
    /// When the ledger was asked, by its clock.
    as_of: Rfc3339,
    /// Nothing that was done longer before the answer was written is missing from it.
    #[schema(maximum = 9007199254740991_u64)]
    age_ms: u64,
    /// A copy past its time, because the ledger does not answer, or not soon.
    stale: bool,
}

impl<'a> ItemBody<'a> {
    /// As it is, some time after it was asked for.
    pub(crate) fn since(view: &'a StockView, asked: Asked) -> Self {
        Self::aged(view, "ledger", asked.elapsed())
    }

    /// As it may still be.
    pub(crate) fn told(view: &'a StockView, Told { origin, age }: Told) -> Self {
        // Begun milliseconds count.
        let age = age.saturating_add(Duration::from_nanos(999_999));
        Self { stale: origin.is_stale(), ..Self::aged(view, who(origin), age) }
    }

    fn aged(view: &'a StockView, origin: &'a str, age: Duration) -> Self {
        let StockView { item, next_due_at, as_of } = view;
        Self {
            sku: item.key.sku.as_str(),
            location: item.key.location.as_str(),
            on_hand: Units(item.on_hand),
            held: Units(item.held),
            allocated: Units(item.allocated),
            lent: Units(item.lent),
            safety_stock: Units(item.safety_stock),
            available: Units(item.available()),
            version: item.version,
            next_due_at: next_due_at.map(Rfc3339),
            origin,
            as_of: Rfc3339(*as_of),
            age_ms: millis(age),
            stale: false,
        }
    }
}

/// Who answered.
pub(crate) const fn who(origin: Origin) -> &'static str {
    match origin {
        Origin::Source => "ledger",
        Origin::L2 => "l2",
        Origin::L1 | Origin::Stale(_) => "l1",
    }
}

/// One row of the stock history.
#[derive(Serialize, ToSchema)]
#[schema(as = Movement)]
pub(crate) struct MovementBody<'a> {
    /// Rises with every movement of the ledger.
    #[schema(minimum = 1, maximum = 9007199254740991_u64)]
    id: i64,
    #[schema(value_type = SkuWord)]
    sku: &'a str,
    #[schema(value_type = LocationWord)]
    location: &'a str,
    #[schema(value_type = Sort)]
    kind: &'a str,
    /// By how many units.
    delta: AnyUnits,
    on_hand_after: AnyUnits,
    #[schema(value_type = Option<ReasonWord>, required)]
    reason: Option<&'a str>,
    #[schema(value_type = Option<ReferenceWord>, required)]
    reference: Option<&'a str>,
    at: Rfc3339,
}

impl<'a> MovementBody<'a> {
    pub(crate) fn of(movement: &'a Movement) -> Self {
        Self {
            id: movement.id,
            sku: movement.item.sku.as_str(),
            location: movement.item.location.as_str(),
            kind: movement.kind.as_str(),
            delta: Units(movement.delta),
            on_hand_after: Units(movement.on_hand_after),
            reason: movement.reason.as_ref().map(|reason| reason.as_str()),
            reference: movement.reference.as_ref().map(|reference| reference.as_str()),
            at: Rfc3339(movement.at),
        }
    }
}

/// A movement, and its item as it now is.
#[derive(Serialize, ToSchema)]
#[schema(as = StockMoved)]
pub(crate) struct MovedBody<'a> {
    movement: MovementBody<'a>,
    item: ItemBody<'a>,
}

impl<'a> MovedBody<'a> {
    pub(crate) fn since(moved: &'a StockMoved, asked: Asked) -> Self {
        let item = ItemBody::since(&moved.item, asked);
        Self { movement: MovementBody::of(&moved.movement), item }
    }
}
