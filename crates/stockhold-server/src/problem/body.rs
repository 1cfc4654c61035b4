//! The JSON of a problem: what all of them say, then the numbers of this one.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap};
use stockhold::{ItemKey, Quantity, Rejection, Shortage, cache::Origin};
use utoipa::ToSchema;

use super::{Inner, Numbers, Row};
use crate::wire::{
    self, AnyUnits, HoldBody, LocationWord, NotNegative, Positive, Rfc3339, SkuWord, Units, Written,
};

/// Writes the body.
pub(super) fn write(problem: &Inner, request_id: &str) -> Vec<u8> {
    wire::write(&Members { problem, request_id }, 512)
}

struct Members<'a> {
    problem: &'a Inner,
    request_id: &'a str,
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Inner { kind, detail, field, numbers, .. } = self.problem;
        let Row { status, code, path, title, .. } = kind.row();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", path)?;
        map.serialize_entry("code", code)?;
        map.serialize_entry("title", title)?;
        map.serialize_entry("status", &status.as_u16())?;
        map.serialize_entry("detail", detail)?;
        map.serialize_entry("request_id", self.request_id)?;
        if let Some(field) = field {
            map.serialize_entry("field", field)?;
        }
        match numbers {
            Numbers::None => {}
            Numbers::Position { line, column } => {
                map.serialize_entry("line", line)?;
                map.serialize_entry("column", column)?;
            }
            Numbers::Dependency { name, state } => {
                map.serialize_entry("dependencies", &[wire::Dependency { name, state }])?;
            }
            Numbers::Lock(name) => map.serialize_entry("name", name.as_str())?,
            Numbers::BusyLock(name, left) => {
                map.serialize_entry("name", name.as_str())?;
                map.serialize_entry("expires_in_ms", &left.as_millis())?;
            }
            Numbers::Scope(scope) => map.serialize_entry("scope", scope.as_str())?,
            Numbers::Rejection(rejection) => write_rejection(&mut map, rejection)?,
            Numbers::ByCopy(rejection, as_of) => {
                write_rejection(&mut map, rejection)?;
                map.serialize_entry("origin", wire::who(Origin::L1))?;
                map.serialize_entry("as_of", &Rfc3339(*as_of))?;
            }
        }
        map.end()
    }
}

fn write_rejection<M: SerializeMap>(map: &mut M, rejection: &Rejection) -> Result<(), M::Error> {
    match rejection {
        Rejection::NotFound { id }
        | Rejection::AlreadyReleased { id }
        | Rejection::Revoked { id }
        | Rejection::AlreadyCancelled { id }
        | Rejection::AlreadyShipped { id }
        | Rejection::NothingOpen { id } => map.serialize_entry("id", &Written(id)),
        Rejection::NotConfirmed { id, state } => {
            map.serialize_entry("id", &Written(id))?;
            map.serialize_entry("state", state.as_str())
        }
        Rejection::MaxLifetime { id, max_expires_at } => {
            map.serialize_entry("id", &Written(id))?;
            map.serialize_entry("max_expires_at", &Rfc3339(*max_expires_at))
        }
        Rejection::UnknownSku { items } => {
            let names: Vec<_> = items.iter().map(|item| ItemName::of(item)).collect();
            map.serialize_entry("items", &names)
        }
        Rejection::InsufficientStock { lines, of: _ } => {
            map.serialize_entry("lines", &shortages(lines))
        }
        Rejection::HoldEnded { hold } => map.serialize_entry("hold", &HoldBody::at(hold)),
        Rejection::HoldExpired { id, lines } => {
            map.serialize_entry("id", &Written(id))?;
            map.serialize_entry("lines", &shortages(lines))
        }
        Rejection::AlreadyConfirmed { id, reference, confirmed } => {
            map.serialize_entry("id", &Written(id))?;
            map.serialize_entry("reference", &reference.as_ref().map(|r| r.as_str()))?;
            map.serialize_entry("confirmed", &confirmed_lines(confirmed))
        }
        Rejection::NotInHold { id, item } => {
            map.serialize_entry("id", &Written(id))?;
            write_item(map, item)
        }
        Rejection::MoreThanHeld { item, requested, held } => {
            write_numbers(map, item, [("requested", requested), ("held", held)])
        }
        Rejection::MoreThanOpen { item, requested, open } => {
            write_numbers(map, item, [("requested", requested), ("open", open)])
        }
        Rejection::AlreadyExists { item, on_hand, safety_stock } => {
            write_numbers(map, item, [("on_hand", on_hand), ("safety_stock", safety_stock)])
        }
        Rejection::WouldGoBelow { item, left, floor } => {
            write_numbers(map, item, [("left", left), ("floor", floor)])
        }
        Rejection::OnHandDiffers { item, expected, on_hand } => {
            write_numbers(map, item, [("expected", expected), ("on_hand", on_hand)])
        }
        Rejection::QuantityTooLarge { item, requested, max } => {
            write_numbers(map, item, [("requested", requested), ("max", max)])
        }
        Rejection::QuantityTooSmall { min, field: _ } => map.serialize_entry("min", &min.get()),
        Rejection::TooManyLines { lines, max } => {
            map.serialize_entry("requested", lines)?;
            map.serialize_entry("max", max)
        }
        Rejection::IdempotencyKeyRequired { verb } => map.serialize_entry("verb", verb),
        Rejection::IdempotencyKeyReused | Rejection::OutOfRange | Rejection::Damaged { .. } => {
            Ok(())
        }
    }
}

fn write_item<M: SerializeMap>(map: &mut M, item: &ItemKey) -> Result<(), M::Error> {
    map.serialize_entry("sku", item.sku.as_str())?;
    map.serialize_entry("location", item.location.as_str())
}

fn write_numbers<M: SerializeMap, const N: usize>(
    map: &mut M,
    item: &ItemKey,
    numbers: [(&'static str, &Quantity); N],
) -> Result<(), M::Error> {
    write_item(map, item)?;
    numbers.into_iter().try_for_each(|(name, units)| map.serialize_entry(name, &units.get()))
}

/// Which item.
#[derive(Serialize, ToSchema)]
pub(crate) struct ItemName<'a> {
    #[schema(value_type = SkuWord)]
    sku: &'a str,
    #[schema(value_type = LocationWord)]
    location: &'a str,
}

impl<'a> ItemName<'a> {
    fn of(item: &'a ItemKey) -> Self {
        Self { sku: item.sku.as_str(), location: item.location.as_str() }
    }
}

/// A line that cannot be held in full.
#[derive(Serialize, ToSchema)]
#[schema(as = Shortage)]
pub(crate) struct Short<'a> {
    #[schema(value_type = SkuWord)]
    sku: &'a str,
    #[schema(value_type = LocationWord)]
    location: &'a str,
    requested: Positive,
    available: AnyUnits,
    /// When the next hold on the item dies, if nobody confirms it.
    #[schema(required)]
    next_due_at: Option<Rfc3339>,
}

fn shortages(lines: &[Shortage]) -> Vec<Short<'_>> {
    lines.iter().map(Short::of).collect()
}

impl<'a> Short<'a> {
    fn of(line: &'a Shortage) -> Self {
        Self {
            sku: line.item.sku.as_str(),
            location: line.item.location.as_str(),
            requested: Units(line.requested),
            available: Units(line.available),
            next_due_at: line.next_due_at.map(Rfc3339),
        }
    }
}

/// Units that were confirmed of an item.
#[derive(Serialize, ToSchema)]
pub(crate) struct Confirmed<'a> {
    #[schema(value_type = SkuWord)]
    sku: &'a str,
    #[schema(value_type = LocationWord)]
    location: &'a str,
    quantity: NotNegative,
}

fn confirmed_lines<'a>(lines: &'a [(Arc<ItemKey>, Quantity)]) -> Vec<Confirmed<'a>> {
    let line = |(item, units): &'a (Arc<ItemKey>, Quantity)| Confirmed {
        sku: item.sku.as_str(),
        location: item.location.as_str(),
        quantity: Units(*units),
    };
    lines.iter().map(line).collect()
}
