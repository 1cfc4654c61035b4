//! Rows of the ledger to values of the domain.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use stockhold_core::{
    Digest, Done, Grace, Hold, HoldId, HoldState, InvalidName, ItemKey, KeyId, KeyRecord, Line,
    Liveness, Location, Moved, Movement, MovementKind, Quantity, Sku, Step, StockItem, Timestamp,
    Transition,
};
use tokio_postgres::Row;
use uuid::Uuid;

/// The ledger's own number of a stock item.
pub(super) type ItemNumber = i64;

/// A row that does not say what it should, or rows that contradict each other, in words for the
/// operator. Only the command that meets them fails (R16).
#[derive(Debug)]
pub(super) struct Damaged(pub(super) String);

/// Values by the numbers of stock items.
pub(super) type Names = HashMap<ItemNumber, Arc<ItemKey>>;

pub(super) const STOCK_COLUMNS: &str = "stock.item, stock.sku, stock.location, stock.on_hand, \
    stock.held, stock.allocated, stock.lent, stock.safety_stock, stock.version, stock.touched_at";

/// A stock item by its number.
pub(super) type Numbered = (ItemNumber, StockItem);

/// Reads [`STOCK_COLUMNS`].
pub(super) fn stock_item(row: &Row) -> Result<Numbered, Damaged> {
    let mut values = [0; 7];
    for (value, at) in values.iter_mut().zip(3..) {
        *value = column(row, at)?;
    }
    Ok((column(row, 0)?, item_of(column(row, 1)?, column(row, 2)?, values)?))
}

/// Reads [`STOCK_COLUMNS`] of which each is a list.
pub(super) fn stock_items(
    row: &Row,
    first: usize,
) -> Result<Vec<Result<Numbered, Damaged>>, Damaged> {
    let numbers: Vec<ItemNumber> = list(row, first)?;
    let (skus, locations): (Vec<&str>, Vec<&str>) = (list(row, first + 1)?, list(row, first + 2)?);
    let mut values = vec![[0; 7]; numbers.len()];
    for n in 0..7 {
        let of_items: Vec<i64> = list(row, first + 3 + n)?;
        values.iter_mut().zip(of_items).for_each(|(values, value)| values[n] = value);
    }
    let items = numbers.into_iter().zip(skus.into_iter().zip(locations)).zip(values);
    let item = |((number, (sku, location)), values)| Ok((number, item_of(sku, location, values)?));
    Ok(items.map(item).collect())
}

/// The values are those from `on_hand` to `touched_at`.
fn item_of(sku: &str, location: &str, values: [i64; 7]) -> Result<StockItem, Damaged> {
    let [on_hand, held, allocated, lent, safety_stock, version, touched_at] = values;
    let quantity = |value| Quantity::new(value).map_err(damaged);
    Ok(StockItem {
        key: key_of(sku, location)?,
        on_hand: quantity(on_hand)?,
        held: quantity(held)?,
        allocated: quantity(allocated)?,
        lent: quantity(lent)?,
        safety_stock: quantity(safety_stock)?,
        version: u64::try_from(version).unwrap_or(0),
        touched_at: Timestamp::from_millis(touched_at),
    })
}

/// Reads SKU and location.
pub(super) fn item_key(row: &Row, first: usize) -> Result<Arc<ItemKey>, Damaged> {
    key_of(column(row, first)?, column(row, first + 1)?)
}

fn key_of(sku: &str, location: &str) -> Result<Arc<ItemKey>, Damaged> {
    let (sku, location) = (sku.parse().map_err(damaged)?, location.parse().map_err(damaged)?);
    Ok(Arc::new(ItemKey { sku, location }))
}

/// What the ledger remembers of its life: `alive_at`, `graces` (R17).
pub(super) fn liveness(row: &Row, first: usize) -> Result<Liveness, Damaged> {
    let graces: Vec<i64> = column(row, first + 1)?;
    let graces = graces.chunks_exact(3).map(|grace| {
        let [from, to, until] = [grace[0], grace[1], grace[2]].map(Timestamp::from_millis);
        Grace { from, to, until }
    });
    Ok(Liveness::new(timestamp(row, first)?, graces.collect()))
}

/// The graces as they are written.
pub(super) fn graces(liveness: &Liveness) -> Vec<i64> {
    let graces = liveness.graces().iter();
    graces.flat_map(|g| [g.from, g.to, g.until].map(Timestamp::as_millis)).collect()
}

pub(super) const HOLD_COLUMNS: &str = "hold.id, hold.owner, hold.reference, hold.created_at, \
    hold.deadline, hold.max_deadline, hold.replaced_by, hold.items, hold.units";

/// A hold as it was placed, before anything happened to it; and the numbers of its items.
pub(super) struct Placed {
    pub(super) hold: Hold,
    pub(super) items: Vec<ItemNumber>,
}

/// Reads [`HOLD_COLUMNS`]. An item without a name goes on under one that no item has, so that the
/// rules find the damage.
pub(super) fn placed(row: &Row, names: &Names) -> Result<Placed, Damaged> {
    let items: Vec<ItemNumber> = column(row, 7)?;
    let units: Vec<i64> = column(row, 8)?;
    let line = |(number, units): (&ItemNumber, &i64)| {
        let item =
            names.get(number).map_or_else(|| missing_item(*number), |key| Ok(key.clone()))?;
        Ok(Line::held(item, Quantity::new(*units).map_err(damaged)?))
    };
    let hold = Hold {
        id: hold_id(row, 0)?,
        owner: parsed(row, 1)?,
        reference: parsed_option(row, 2)?,
        state: HoldState::Active,
        created_at: timestamp(row, 3)?,
        deadline: timestamp(row, 4)?,
        max_deadline: timestamp(row, 5)?,
        lines: items.iter().zip(&units).map(line).collect::<Result<_, Damaged>>()?,
        steps: 0,
        replaced_by: column::<Option<Uuid>>(row, 6)?.map(HoldId::new),
    };
    Ok(Placed { hold, items })
}

pub(super) const TRANSITION_COLUMNS: &str = "transition.hold, transition.n, transition.step, \
    transition.at, transition.reference, transition.reason, transition.lines, transition.units";

/// Reads [`TRANSITION_COLUMNS`].
pub(super) fn transition(row: &Row) -> Result<(HoldId, Transition), Damaged> {
    let transition = Transition {
        n: u32::try_from(column::<i32>(row, 1)?).map_err(damaged)?,
        step: word(row, 2, Step::from_word)?,
        at: timestamp(row, 3)?,
        moved: moved(column(row, 6)?, column(row, 7)?)?,
        reference: parsed_option(row, 4)?,
        reason: parsed_option(row, 5)?,
    };
    Ok((hold_id(row, 0)?, transition))
}

fn moved(lines: Option<Vec<i64>>, units: Option<Vec<i64>>) -> Result<Moved, Damaged> {
    let (Some(lines), Some(units)) = (lines, units) else { return Ok(Moved::All) };
    let named = lines.into_iter().zip(units).map(|(line, units)| {
        let line = usize::try_from(line).map_err(damaged)?;
        Ok((line, Quantity::new(units).map_err(damaged)?))
    });
    Ok(Moved::Lines(named.collect::<Result<_, Damaged>>()?))
}

pub(super) const MOVEMENT_COLUMNS: &str = "movement.id, movement.item, movement.kind, \
    movement.delta, movement.on_hand_after, movement.reason, movement.reference, movement.at";

/// Reads [`MOVEMENT_COLUMNS`]; the item is known by its number.
pub(super) fn movement(row: &Row, names: &Names) -> Result<Movement, Damaged> {
    let number = column(row, 1)?;
    Ok(Movement {
        id: column(row, 0)?,
        item: names.get(&number).map_or_else(|| missing_item(number), |key| Ok(key.clone()))?,
        kind: word(row, 2, MovementKind::from_word)?,
        delta: quantity(row, 3)?,
        on_hand_after: quantity(row, 4)?,
        reason: parsed_option(row, 5)?,
        reference: parsed_option(row, 6)?,
        at: timestamp(row, 7)?,
    })
}

/// A key, and what its row says.
pub(super) type KeyRow = (KeyId, Result<KeyRecord, Damaged>);

/// Reads lists of keys, of their digests, and of the holds and the movements that they point at.
pub(super) fn keys(row: &Row, first: usize) -> Result<Vec<KeyRow>, Damaged> {
    let (keys, digests): (Vec<Uuid>, Vec<Uuid>) = (list(row, first)?, list(row, first + 1)?);
    let holds: Vec<Option<Uuid>> = list(row, first + 2)?;
    let movements: Vec<Option<i64>> = list(row, first + 3)?;
    let rows = keys.into_iter().zip(digests).zip(holds.into_iter().zip(movements));
    let record = |((key, digest), done): ((Uuid, Uuid), _)| {
        let (id, digest) =
            (KeyId::from_bytes(key.into_bytes()), Digest::from_bytes(digest.into_bytes()));
        let done = match done {
            (Some(hold), None) => Ok(Done::Hold(HoldId::new(hold))),
            (None, Some(movement)) => Ok(Done::Movement(movement)),
            _ => Err(Damaged(format!("idempotency key {key} points at nothing"))),
        };
        (id, done.map(|done| KeyRecord { id, digest, done }))
    };
    Ok(rows.map(record).collect())
}

/// The name under which a line goes on whose stock item is gone.
pub(super) fn missing_item(number: ItemNumber) -> Result<Arc<ItemKey>, Damaged> {
    let sku = Sku::new(format!("missing stock item {number}")).map_err(damaged)?;
    Ok(Arc::new(ItemKey { sku, location: Location::default() }))
}

pub(super) fn hold_id(row: &Row, at: usize) -> Result<HoldId, Damaged> {
    column(row, at).map(HoldId::new)
}

pub(super) fn uuid(id: HoldId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

pub(super) fn timestamp(row: &Row, at: usize) -> Result<Timestamp, Damaged> {
    column(row, at).map(Timestamp::from_millis)
}

/// A column of a row, or what is wrong with it.
pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T, Damaged> {
    row.try_get(at).map_err(damaged)
}

/// A list of values; of nothing there is none.
fn list<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<Vec<T>, Damaged> {
    Ok(column::<Option<Vec<T>>>(row, at)?.unwrap_or_default())
}

fn quantity(row: &Row, at: usize) -> Result<Quantity, Damaged> {
    Quantity::new(column(row, at)?).map_err(damaged)
}

fn parsed<T: FromStr<Err = InvalidName>>(row: &Row, at: usize) -> Result<T, Damaged> {
    column::<&str>(row, at)?.parse().map_err(damaged)
}

fn parsed_option<T: FromStr<Err = InvalidName>>(
    row: &Row,
    at: usize,
) -> Result<Option<T>, Damaged> {
    column::<Option<&str>>(row, at)?.map(|text| text.parse().map_err(damaged)).transpose()
}

fn word<T>(row: &Row, at: usize, from: fn(&str) -> Option<T>) -> Result<T, Damaged> {
    let text = column::<&str>(row, at)?;
    from(text).ok_or_else(|| Damaged(format!("unknown word {text:?}")))
}

pub(super) fn damaged(error: impl std::fmt::Display) -> Damaged {
    Damaged(error.to_string())
}
