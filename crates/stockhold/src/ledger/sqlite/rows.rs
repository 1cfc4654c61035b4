//! Rows of the ledger to values of the domain, and back.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params, types::Type};
use stockhold_core::{
    Book, Grace, Hold, HoldId, HoldState, ItemKey, Line, Liveness, Location, Moved, Movement,
    MovementKind, Owner, Quantity, Reason, Reference, Sku, Step, StockItem, Timestamp, Transition,
};

use super::failure;

/// The ledger's own number of a stock item.
pub(super) type ItemNumber = i64;

/// Rows that contradict each other, in words for the operator. Only the command that meets them
/// fails (R16).
#[derive(Debug)]
pub(super) struct Damaged(pub(super) String);

pub(super) const STOCK_COLUMNS: &str = "item, sku, location, on_hand, held, allocated, lent, \
                                        safety_stock, version, touched_at";

/// Reads [`STOCK_COLUMNS`].
pub(super) fn stock_item(row: &Row<'_>) -> rusqlite::Result<(ItemNumber, StockItem)> {
    let key = Arc::new(ItemKey { sku: parsed(row, 1)?, location: parsed(row, 2)? });
    let item = StockItem {
        key,
        on_hand: quantity(row, 3)?,
        held: quantity(row, 4)?,
        allocated: quantity(row, 5)?,
        lent: quantity(row, 6)?,
        safety_stock: quantity(row, 7)?,
        version: u64::try_from(row.get::<_, i64>(8)?).unwrap_or(0),
        touched_at: timestamp(row, 9)?,
    };
    Ok((row.get(0)?, item))
}

/// The stock item of this number.
pub(super) fn numbered_item(
    conn: &Connection,
    number: ItemNumber,
) -> rusqlite::Result<Option<StockItem>> {
    let read = format!("SELECT {STOCK_COLUMNS} FROM stock WHERE item = ?1");
    let found = conn.prepare_cached(&read)?.query_row([number], stock_item).optional()?;
    Ok(found.map(|(_, item)| item))
}

/// What the ledger remembers of its life (R17).
pub(super) fn liveness(conn: &Connection) -> rusqlite::Result<Liveness> {
    let alive_at = "SELECT alive_at FROM ledger";
    let alive_at = conn.prepare_cached(alive_at)?.query_row([], |row| timestamp(row, 0))?;
    let graces = "SELECT from_at, to_at, until_at FROM grace ORDER BY from_at";
    let mut graces = conn.prepare_cached(graces)?;
    let graces = graces.query_map([], |row| {
        Ok(Grace { from: timestamp(row, 0)?, to: timestamp(row, 1)?, until: timestamp(row, 2)? })
    })?;
    Ok(Liveness::new(alive_at, graces.collect::<rusqlite::Result<_>>()?))
}

/// A hold as its rows tell. `name_of` gives the key of a stock item by its number.
pub(super) fn hold(
    conn: &Connection,
    id: HoldId,
    name_of: &mut dyn FnMut(ItemNumber) -> rusqlite::Result<Arc<ItemKey>>,
) -> rusqlite::Result<Option<Result<Hold, Damaged>>> {
    let read = "SELECT owner, reference, created_at, deadline, max_deadline, replaced_by \
                FROM hold WHERE id = ?1";
    let header = |row: &Row<'_>| hold_header(id, row);
    let Some(mut hold) =
        conn.prepare_cached(read)?.query_row([id.to_bytes()], header).optional()?
    else {
        return Ok(None);
    };
    hold.lines = lines(conn, id, name_of)?;
    for transition in transitions(conn, id)? {
        if let Err(illegal) = hold.record(&transition) {
            return Ok(Some(Err(Damaged(illegal.to_string()))));
        }
    }
    Ok(Some(Ok(hold)))
}

/// What was read of one hold, for whoever goes through many: one that cannot be read is told to
/// the operator, and passed over (R16).
pub(super) fn sound<T>(
    id: HoldId,
    read: rusqlite::Result<Option<Result<T, Damaged>>>,
) -> rusqlite::Result<Option<T>> {
    let what = match read.map(Option::transpose) {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(Damaged(what))) => what,
        Err(error) if failure::is_about_rows(&error) => error.to_string(),
        Err(error) => return Err(error),
    };
    tracing::error!(hold = %id, what, "a hold cannot be read, and is passed over");
    Ok(None)
}

fn hold_header(id: HoldId, row: &Row<'_>) -> rusqlite::Result<Hold> {
    let replaced_by: Option<[u8; 16]> = row.get(5)?;
    Ok(Hold {
        id,
        owner: parsed::<Owner>(row, 0)?,
        reference: parsed_option::<Reference>(row, 1)?,
        state: HoldState::Active,
        created_at: timestamp(row, 2)?,
        deadline: timestamp(row, 3)?,
        max_deadline: timestamp(row, 4)?,
        lines: Vec::new(),
        steps: 0,
        replaced_by: replaced_by.map(HoldId::from_bytes),
    })
}

fn lines(
    conn: &Connection,
    id: HoldId,
    name_of: &mut dyn FnMut(ItemNumber) -> rusqlite::Result<Arc<ItemKey>>,
) -> rusqlite::Result<Vec<Line>> {
    let read = "SELECT item, requested FROM line WHERE hold = ?1 ORDER BY n";
    let mut read = conn.prepare_cached(read)?;
    let mut rows = read.query([id.to_bytes()])?;
    let mut lines = Vec::with_capacity(1);
    while let Some(row) = rows.next()? {
        lines.push(Line::held(name_of(row.get(0)?)?, quantity(row, 1)?));
    }
    Ok(lines)
}

fn transitions(conn: &Connection, id: HoldId) -> rusqlite::Result<Vec<Transition>> {
    let read = "SELECT n, step, at, reference, reason FROM transition WHERE hold = ?1 ORDER BY n";
    let mut read = conn.prepare_cached(read)?;
    let mut rows = read.query([id.to_bytes()])?;
    let mut transitions = Vec::new();
    while let Some(row) = rows.next()? {
        let n: u32 = row.get(0)?;
        transitions.push(Transition {
            n,
            step: word(row, 1, Step::from_word)?,
            at: timestamp(row, 2)?,
            moved: moved(conn, id, n)?,
            reference: parsed_option::<Reference>(row, 3)?,
            reason: parsed_option::<Reason>(row, 4)?,
        });
    }
    Ok(transitions)
}

fn moved(conn: &Connection, id: HoldId, n: u32) -> rusqlite::Result<Moved> {
    let read = "SELECT line, units FROM transition_line WHERE hold = ?1 AND n = ?2 ORDER BY line";
    let mut read = conn.prepare_cached(read)?;
    let named = read.query_map(params![id.to_bytes(), n], |row| {
        let line: u32 = row.get(0)?;
        Ok((usize::try_from(line).unwrap_or(usize::MAX), quantity(row, 1)?))
    })?;
    let named: Vec<_> = named.collect::<rusqlite::Result<_>>()?;
    Ok(if named.is_empty() { Moved::All } else { Moved::Lines(named) })
}

pub(super) const MOVEMENT_COLUMNS: &str =
    "movement.id, item, kind, delta, on_hand_after, reason, reference, at";

/// Reads [`MOVEMENT_COLUMNS`]; the item is known by its number.
pub(super) fn movement(row: &Row<'_>, item: Arc<ItemKey>) -> rusqlite::Result<Movement> {
    Ok(Movement {
        id: row.get(0)?,
        item,
        kind: word(row, 2, MovementKind::from_word)?,
        delta: quantity(row, 3)?,
        on_hand_after: quantity(row, 4)?,
        reason: parsed_option::<Reason>(row, 5)?,
        reference: parsed_option::<Reference>(row, 6)?,
        at: timestamp(row, 7)?,
    })
}

/// Writes the changes of a book. The items among them have their numbers in `numbers`.
pub(super) struct WriteBack<'a> {
    pub(super) conn: &'a Connection,
    pub(super) book: &'a Book,
    pub(super) numbers: &'a HashMap<Arc<ItemKey>, ItemNumber>,
}

impl WriteBack<'_> {
    pub(super) fn run(&self) -> rusqlite::Result<()> {
        self.stock()?;
        self.placed()?;
        self.edited()?;
        self.transitions()?;
        self.movements()
    }

    fn stock(&self) -> rusqlite::Result<()> {
        let insert = "INSERT INTO stock VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let update = "UPDATE stock SET on_hand = ?4, held = ?5, allocated = ?6, lent = ?7, \
                      safety_stock = ?8, version = ?9, touched_at = ?10 \
                      WHERE item = ?1 AND sku = ?2 AND location = ?3";
        let mut insert = self.conn.prepare_cached(insert)?;
        let mut update = self.conn.prepare_cached(update)?;
        // In the order in which they lie in the file, so that each page is looked up once.
        let changed = self.book.changed_items();
        let mut changed: Vec<_> =
            changed.map(|(item, is_new)| (self.number(&item.key), item, is_new)).collect();
        changed.sort_unstable_by_key(|(number, ..)| *number);
        for (number, item, is_new) in changed {
            let statement = if is_new { &mut insert } else { &mut update };
            write_stock(statement, number, item)?;
        }
        Ok(())
    }

    fn placed(&self) -> rusqlite::Result<()> {
        let mut hold =
            self.conn.prepare_cached("INSERT INTO hold VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        let mut line = self.conn.prepare_cached("INSERT INTO line VALUES (?1, ?2, ?3, ?4)")?;
        for placed in self.book.changes().placed.iter().filter_map(|id| self.book.hold(*id)) {
            let id = placed.id.to_bytes();
            hold.execute(params![
                id,
                placed.owner.as_str(),
                placed.reference.as_ref().map(Reference::as_str),
                placed.created_at.as_millis(),
                placed.deadline.as_millis(),
                placed.max_deadline.as_millis(),
                placed.replaced_by.map(HoldId::to_bytes),
            ])?;
            for (n, one) in (0_i64..).zip(&placed.lines) {
                line.execute(params![id, n, self.number(&one.item), one.requested.get()])?;
            }
        }
        Ok(())
    }

    fn edited(&self) -> rusqlite::Result<()> {
        let update = "UPDATE hold SET deadline = ?2, replaced_by = ?3 WHERE id = ?1";
        let mut update = self.conn.prepare_cached(update)?;
        for hold in self.book.changes().edited.iter().filter_map(|id| self.book.hold(*id)) {
            update.execute(params![
                hold.id.to_bytes(),
                hold.deadline.as_millis(),
                hold.replaced_by.map(HoldId::to_bytes),
            ])?;
        }
        Ok(())
    }

    fn transitions(&self) -> rusqlite::Result<()> {
        let insert = "INSERT INTO transition VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = self.conn.prepare_cached(insert)?;
        for (id, transition) in &self.book.changes().transitions {
            insert.execute(params![
                id.to_bytes(),
                transition.n,
                transition.step.as_str(),
                transition.at.as_millis(),
                transition.reference.as_ref().map(Reference::as_str),
                transition.reason.as_ref().map(Reason::as_str),
            ])?;
            if let Moved::Lines(named) = &transition.moved {
                self.transition_lines(*id, transition.n, named)?;
            }
        }
        Ok(())
    }

    fn transition_lines(
        &self,
        id: HoldId,
        n: u32,
        named: &[(usize, Quantity)],
    ) -> rusqlite::Result<()> {
        let insert = "INSERT INTO transition_line VALUES (?1, ?2, ?3, ?4)";
        let mut insert = self.conn.prepare_cached(insert)?;
        for (line, units) in named {
            let line = i64::try_from(*line).unwrap_or(i64::MAX);
            insert.execute(params![id.to_bytes(), n, line, units.get()])?;
        }
        Ok(())
    }

    fn movements(&self) -> rusqlite::Result<()> {
        let insert = "INSERT INTO movement VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let mut insert = self.conn.prepare_cached(insert)?;
        for movement in &self.book.changes().movements {
            insert.execute(params![
                movement.id,
                self.number(&movement.item),
                movement.kind.as_str(),
                movement.delta.get(),
                movement.on_hand_after.get(),
                movement.reason.as_ref().map(Reason::as_str),
                movement.reference.as_ref().map(Reference::as_str),
                movement.at.as_millis(),
            ])?;
        }
        Ok(())
    }

    /// A number that no item has makes the foreign keys refuse the row.
    fn number(&self, item: &ItemKey) -> ItemNumber {
        self.numbers.get(item).copied().unwrap_or(-1)
    }
}

fn write_stock(
    statement: &mut CachedStatement<'_>,
    number: ItemNumber,
    item: &StockItem,
) -> rusqlite::Result<()> {
    let written = statement.execute(params![
        number,
        item.key.sku.as_str(),
        item.key.location.as_str(),
        item.on_hand.get(),
        item.held.get(),
        item.allocated.get(),
        item.lent.get(),
        item.safety_stock.get(),
        i64::try_from(item.version).unwrap_or(i64::MAX),
        item.touched_at.as_millis(),
    ])?;
    if written == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(written)) }
}

/// The name under which a line goes on whose stock item is gone: no item has it, so the rules
/// find the damage.
pub(super) fn missing_item(number: ItemNumber) -> rusqlite::Result<Arc<ItemKey>> {
    let sku = Sku::new(format!("missing stock item {number}"));
    let sku = sku.map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    Ok(Arc::new(ItemKey { sku, location: Location::default() }))
}

pub(super) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

fn quantity(row: &Row<'_>, column: usize) -> rusqlite::Result<Quantity> {
    let units: i64 = row.get(column)?;
    Quantity::new(units).map_err(|e| unreadable(column, Type::Integer, e))
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err = stockhold_core::InvalidName>,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|e| unreadable(column, Type::Text, e))
}

fn parsed_option<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr<Err = stockhold_core::InvalidName>,
{
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => text.parse().map(Some).map_err(|e| unreadable(column, Type::Text, e)),
        None => Ok(None),
    }
}

fn word<T>(row: &Row<'_>, column: usize, from: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    let unknown = || unreadable(column, Type::Text, format!("unknown word {text:?}"));
    from(text).ok_or_else(unknown)
}

fn unreadable(
    column: usize,
    kind: Type,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, error.into())
}
