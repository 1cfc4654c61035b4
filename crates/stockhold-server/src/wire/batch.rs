//! The JSON of a batch: many verbs in one body, each read by itself, so that one that is wrong
//! spoils no other.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
        value::MapAccessDeserializer,
    },
};
use serde_json::value::RawValue;
use stockhold::{HoldId, IdempotencyKey, ItemKey, Operation};

use super::{
    AdjustmentBody, ConfirmBody, ExtendBody, OpenLinesBody, PlaceBody, PolicyBody, ReleaseBody,
    RevokeBody,
    field::{HoldIdWord, KeyWord, LocationWord, SkuWord, parse, parse_with},
};
use crate::{access::Scope, problem::Problem};

/// The most items of a batch.
pub(super) const MOST: usize = 1_000;

/// The body of `POST /v1/batch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchBody {
    items: Vec<Box<RawValue>>,
}

impl BatchBody {
    /// The items, not yet read.
    pub(crate) fn items(self) -> Result<Vec<Box<RawValue>>, Problem> {
        if self.items.len() > MOST {
            return Err(Problem::field("items", format_args!("must have at most {MOST} items")));
        }
        Ok(self.items)
    }
}

/// The verbs of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Op {
    Place,
    Confirm,
    Release,
    Extend,
    Ship,
    Cancel,
    Revoke,
    Adjust,
    SetPolicy,
}

impl Op {
    pub(super) const ALL: [Self; 9] = [
        Self::Place,
        Self::Confirm,
        Self::Release,
        Self::Extend,
        Self::Ship,
        Self::Cancel,
        Self::Revoke,
        Self::Adjust,
        Self::SetPolicy,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Confirm => "confirm",
            Self::Release => "release",
            Self::Extend => "extend",
            Self::Ship => "ship",
            Self::Cancel => "cancel",
            Self::Revoke => "revoke",
            Self::Adjust => "adjust",
            Self::SetPolicy => "set_policy",
        }
    }

    /// What it takes to ask for it, as for the route of the same verb.
    pub(crate) const fn scope(self) -> Scope {
        match self {
            Self::Place | Self::Confirm | Self::Release | Self::Extend => Scope::Holds,
            Self::Ship | Self::Cancel | Self::Adjust | Self::SetPolicy => Scope::Stock,
            Self::Revoke => Scope::Admin,
        }
    }

    /// Whose fields an item has besides those of its body.
    pub(super) const fn address(self) -> Address {
        match self {
            Self::Place => Address::None,
            Self::Confirm
            | Self::Release
            | Self::Extend
            | Self::Ship
            | Self::Cancel
            | Self::Revoke => Address::Hold,
            Self::Adjust | Self::SetPolicy => Address::Item,
        }
    }

    /// Whether it takes an idempotency key.
    pub(super) const fn is_keyed(self) -> bool {
        !matches!(self, Self::SetPolicy)
    }
}

impl TryFrom<String> for Op {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|op| op.as_str() == word);
        named.ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// What an item names: what stands in the path of its route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    None,
    Hold,
    Item,
}

/// Which verb an item wants.
pub(crate) fn op(item: &RawValue) -> Result<Op, Problem> {
    #[derive(Deserialize)]
    struct Wanted {
        op: Op,
    }
    parse::<Wanted>(item.get().as_bytes()).map(|wanted| wanted.op)
}

/// Reads an item whose verb is known.
pub(crate) fn operation(op: Op, item: &RawValue) -> Result<Operation, Problem> {
    Ok(match op {
        Op::Place => {
            let Read { around, body } = read::<PlaceBody>(op, item)?;
            Operation::Place(body.request(around.key())?)
        }
        Op::Confirm => {
            let Read { around, body } = read::<ConfirmBody>(op, item)?;
            let id = around.hold()?;
            Operation::Confirm { id, request: body.request(around.key())? }
        }
        Op::Release => {
            let Read { around, body } = read::<ReleaseBody>(op, item)?;
            Operation::Release { id: around.hold()?, reason: body.reason(), key: around.key() }
        }
        Op::Extend => {
            let Read { around, body } = read::<ExtendBody>(op, item)?;
            Operation::Extend { id: around.hold()?, ttl: body.ttl(), key: around.key() }
        }
        Op::Ship => {
            let Read { around, body } = read::<OpenLinesBody>(op, item)?;
            Operation::Ship { id: around.hold()?, lines: body.lines()?, key: around.key() }
        }
        Op::Cancel => {
            let Read { around, body } = read::<OpenLinesBody>(op, item)?;
            Operation::Cancel { id: around.hold()?, lines: body.lines()?, key: around.key() }
        }
        Op::Revoke => {
            let Read { around, body } = read::<RevokeBody>(op, item)?;
            Operation::Revoke { id: around.hold()?, reason: body.reason(), key: around.key() }
        }
        Op::Adjust => {
            let Read { around, body } = read::<AdjustmentBody>(op, item)?;
            let (item, key) = (around.item()?, around.key());
            Operation::Adjust { item, adjustment: body.adjustment()?, key }
        }
        Op::SetPolicy => {
            let Read { around, body } = read::<PolicyBody>(op, item)?;
            let (on_hand, safety_stock) = body.quantities();
            Operation::SetPolicy { item: around.item()?, on_hand, safety_stock }
        }
    })
}

/// An item, taken apart: its body, and what stands around it.
struct Read<T> {
    around: Around,
    body: T,
}

#[derive(Default)]
struct Around {
    op: Option<IgnoredAny>,
    key: Option<Option<KeyWord>>,
    id: Option<Option<HoldIdWord>>,
    sku: Option<Option<SkuWord>>,
    location: Option<Option<LocationWord>>,
}

impl Around {
    fn key(&self) -> Option<IdempotencyKey> {
        self.key.as_ref()?.as_ref().map(|key| key.0.clone())
    }

    fn hold(&self) -> Result<HoldId, Problem> {
        let id = self.id.as_ref().and_then(Option::as_ref);
        id.map(|id| id.0).ok_or_else(|| Problem::field("id", "must be given"))
    }

    fn item(&self) -> Result<ItemKey, Problem> {
        let sku = self.sku.as_ref().and_then(Option::as_ref);
        let sku = sku.ok_or_else(|| Problem::field("sku", "must be given"))?.0.clone();
        let location = self.location.as_ref().and_then(Option::as_ref);
        Ok(ItemKey { sku, location: location.map(|word| word.0.clone()).unwrap_or_default() })
    }
}

fn read<T: DeserializeOwned>(op: Op, item: &RawValue) -> Result<Read<T>, Problem> {
    parse_with(Item { op, body: PhantomData }, item.get().as_bytes())
}

/// Reads an item: hands the fields of its body on, and keeps the others.
struct Item<T> {
    op: Op,
    body: PhantomData<T>,
}

impl<T> Clone for Item<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Item<T> {}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Item<T> {
    type Value = Read<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read<T>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Item<T> {
    type Value = Read<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Read<T>, A::Error> {
        let mut around = Around::default();
        let body = Body { op: self.op, map, around: &mut around };
        let body = T::deserialize(MapAccessDeserializer::new(body))?;
        Ok(Read { around, body })
    }
}

/// The fields of the body only.
struct Body<'a, A> {
    op: Op,
    map: A,
    around: &'a mut Around,
}

impl<'de, A: MapAccess<'de>> Body<'_, A> {
    /// Keeps the value of a field that stands around the body; false if it is none of those.
    fn keep(&mut self, name: &str) -> Result<bool, A::Error> {
        let (address, around) = (self.op.address(), &mut *self.around);
        match name {
            "op" => once(&mut around.op, "op", &mut self.map)?,
            "idempotency_key" if self.op.is_keyed() => {
                once(&mut around.key, "idempotency_key", &mut self.map)?;
            }
            "id" if address == Address::Hold => once(&mut around.id, "id", &mut self.map)?,
            "sku" if address == Address::Item => once(&mut around.sku, "sku", &mut self.map)?,
            "location" if address == Address::Item => {
                once(&mut around.location, "location", &mut self.map)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Body<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            if !self.keep(&name)? {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
