//! Writes what a batch changed, and commits: one function for each table, all called by one statement.

use std::collections::BTreeSet;

use stockhold_core::{
    Done, Hold, HoldId, HoldState, ItemKey, Moved, Reason, Reference, Step, StockItem, Timestamp,
};
use tokio_postgres::{
    Client, Error,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    failure::Trouble,
    hand::Hand,
    life::{self, Sign},
    link::Connection,
    rows::{self, ItemNumber},
};
use crate::{
    bug::Bug,
    clock::{Clock, SystemClock},
    ledger::BatchId,
};

type Params<'a> = Vec<(&'a (dyn ToSql + Sync), Type)>;

/// Numbers the items that are new. Sorted by name, so that two instances that make the same ones
/// wait for each other in one order.
pub(super) async fn new_items(
    connection: &mut Connection<'_>,
    hand: &mut Hand,
) -> Result<(), Trouble> {
    let new = hand.book.changed_items().filter(|(_, is_new)| *is_new).map(|(item, _)| item);
    let mut new: Vec<&StockItem> = new.collect();
    if new.is_empty() {
        return Ok(());
    }
    new.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let items = Items::of(new.iter().map(|item| (0, *item)));
    let insert = "INSERT INTO stock (sku, location, on_hand, held, allocated, lent, safety_stock, \
            version, touched_at) \
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING item, sku, location";
    let params = items.named();
    let inserted =
        connection.trip(async |client| client.query_typed(insert, &params).await).await?;
    for row in &inserted {
        let (sku, location): (&str, &str) = (rows::column(row, 1)?, rows::column(row, 2)?);
        let (sku, location) = (sku.parse(), location.parse());
        if let (Ok(sku), Ok(location)) = (sku, location) {
            let key = ItemKey { sku, location };
            hand.numbers.insert(std::sync::Arc::new(key), rows::column(row, 0)?);
        }
    }
    Ok(())
}

/// What is left to be done of a batch when it is decided: its rows, and the commit.
pub(super) struct Transaction<'a> {
    rows: Option<&'a Columns<'a>>,
    sign: Option<&'a Sign>,
}

/// Why nothing was committed, as far as that is known.
pub(super) enum Uncommitted {
    /// What was to be written was refused, so nothing was done.
    Refused(Error),
    /// The commit was on its way already.
    InDoubt(Error),
}

impl<'a> Transaction<'a> {
    /// The rows, if there are any; and the sign of life, if one is due.
    pub(super) const fn new(rows: Option<&'a Columns<'a>>, sign: Option<&'a Sign>) -> Self {
        Self { rows, sign }
    }

    /// Writes and commits in one trip. What is not as it should be spoils the transaction, whose `COMMIT`
    /// is then answered like any other and does nothing: so the answers are looked at in their order.
    pub(super) async fn finish(&self, client: &Client) -> Result<(), Uncommitted> {
        tokio::try_join!(biased; self.write(client), self.commit(client))?;
        Ok(())
    }

    pub(super) async fn write(&self, client: &Client) -> Result<(), Uncommitted> {
        let written = tokio::try_join!(biased; self.write_rows(client), self.give_sign(client));
        match written {
            Ok(_) => Ok(()),
            Err(error) if error.as_db_error().is_some() => Err(Uncommitted::Refused(error)),
            Err(error) => Err(Uncommitted::InDoubt(error)),
        }
    }

    pub(super) async fn commit(&self, client: &Client) -> Result<(), Uncommitted> {
        client.batch_execute("COMMIT").await.map_err(Uncommitted::InDoubt)
    }

    async fn write_rows(&self, client: &Client) -> Result<(), Error> {
        if let Some(rows) = self.rows {
            rows.calls().make(client).await?;
        }
        Ok(())
    }

    async fn give_sign(&self, client: &Client) -> Result<(), Error> {
        if let Some(sign) = self.sign {
            life::sign(client, sign).await?;
        }
        Ok(())
    }
}

/// All that changed, as the columns of tables.
pub(super) struct Columns<'a> {
    stock: Items<'a>,
    placed: Holds<'a>,
    edited: Edited,
    steps: Steps<'a>,
    dead: Actives,
    alive: Actives,
    movements: Movements<'a>,
    keys: Keys,
    instance: i32,
    batch: Uuid,
    now: i64,
}

impl<'a> Columns<'a> {
    pub(super) fn of(hand: &'a Hand, batch: BatchId, instance: i32) -> Self {
        let stock = hand.book.changed_items().filter(|(_, is_new)| !*is_new).map(|(item, _)| item);
        let mut stock: Vec<_> = stock.map(|item| (number(hand, &item.key), item)).collect();
        stock.sort_unstable_by_key(|(number, _)| *number);
        Self {
            stock: Items::of(stock.into_iter()),
            placed: Holds::placed(hand),
            edited: Edited::of(hand),
            steps: Steps::of(hand),
            dead: Actives::dead(hand),
            alive: Actives::alive(hand),
            movements: Movements::of(hand),
            keys: Keys::of(hand),
            instance,
            batch: Uuid::from_bytes(batch.0),
            now: hand.now.as_millis(),
        }
    }

    fn calls(&self) -> Calls<'_> {
        let mut calls = Calls::default();
        calls.add("write_stock", self.stock.numbers.len(), self.stock.changed());
        calls.add("write_holds", self.placed.ids.len(), self.placed.params());
        calls.add("edit_holds", self.edited.ids.len(), self.edited.params());
        calls.add("write_transitions", self.steps.holds.len(), self.steps.params());
        calls.add("remove_active", self.dead.holds.len(), self.dead.params());
        calls.add("write_active", self.alive.holds.len(), self.alive.placed_by(&self.instance));
        calls.add("write_movements", self.movements.ids.len(), self.movements.params());
        calls.add("write_keys", self.keys.ids.len(), self.keys.params(&self.now));
        calls.add("note_batch", 1, vec![(&self.batch, Type::UUID), (&self.now, Type::INT8)]);
        calls
    }
}

/// The functions that write rows, called by one statement. One more statement would cost a batch of one
/// hold more than what it writes.
#[derive(Default)]
struct Calls<'a> {
    functions: Vec<String>,
    params: Params<'a>,
}

impl<'a> Calls<'a> {
    fn add(&mut self, function: &'static str, rows: usize, params: Params<'a>) {
        if rows == 0 {
            return;
        }
        let first = self.params.len() + 1;
        self.params.extend(params);
        let places: Vec<_> = (first..=self.params.len()).map(|n| format!("${n}")).collect();
        self.functions.push(format!("{function}({})", places.join(", ")));
    }

    async fn make(&self, client: &Client) -> Result<u64, Error> {
        let calls = format!("SELECT {}", self.functions.join(", "));
        client.execute_typed(&calls, &self.params).await
    }
}

/// A number that no item has makes the row one that `verify` finds.
fn number(hand: &Hand, item: &ItemKey) -> ItemNumber {
    hand.numbers.get(item).copied().unwrap_or(-1)
}

/// Whoever has not locked a row is found out by its version, unless versions are made up as well.
fn version(item: &StockItem) -> i64 {
    let made_up = Bug::NoLock.is_made().then(|| SystemClock.boot().as_nanos());
    let version = made_up.unwrap_or_else(|| u128::from(item.version));
    i64::try_from(version).unwrap_or(i64::MAX)
}

#[derive(Default)]
struct Items<'a> {
    numbers: Vec<ItemNumber>,
    skus: Vec<&'a str>,
    locations: Vec<&'a str>,
    /// In the order of the columns, from `on_hand` to `touched_at`.
    values: [Vec<i64>; 7],
}

impl<'a> Items<'a> {
    fn of(items: impl Iterator<Item = (ItemNumber, &'a StockItem)>) -> Self {
        let mut all = Self::default();
        for (number, item) in items {
            all.numbers.push(number);
            all.skus.push(item.key.sku.as_str());
            all.locations.push(item.key.location.as_str());
            let values = [
                item.on_hand.get(),
                item.held.get(),
                item.allocated.get(),
                item.lent.get(),
                item.safety_stock.get(),
                version(item),
                item.touched_at.as_millis(),
            ];
            for (column, value) in all.values.iter_mut().zip(values) {
                column.push(value);
            }
        }
        all
    }

    fn named(&self) -> Params<'_> {
        let names: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.skus, Type::TEXT_ARRAY), (&self.locations, Type::TEXT_ARRAY)];
        names.into_iter().chain(self.values()).collect()
    }

    fn values(&self) -> impl Iterator<Item = (&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|column| (column as &(dyn ToSql + Sync), Type::INT8_ARRAY))
    }

    fn changed(&self) -> Params<'_> {
        let number: (&(dyn ToSql + Sync), Type) = (&self.numbers, Type::INT8_ARRAY);
        [number].into_iter().chain(self.values()).collect()
    }
}

/// Lists of different lengths, one behind the other, and where each lies: from 1 on, as Postgres
/// counts.
#[derive(Default)]
struct Slices {
    first: Vec<i64>,
    second: Vec<i64>,
    from: Vec<i32>,
    to: Vec<i32>,
}

impl Slices {
    fn push(&mut self, pairs: impl Iterator<Item = (i64, i64)>) {
        let from = self.first.len().saturating_add(1);
        for (first, second) in pairs {
            self.first.push(first);
            self.second.push(second);
        }
        self.from.push(i32::try_from(from).unwrap_or(i32::MAX));
        self.to.push(i32::try_from(self.first.len()).unwrap_or(i32::MAX));
    }
}

#[derive(Default)]
struct Holds<'a> {
    ids: Vec<Uuid>,
    owners: Vec<&'a str>,
    references: Vec<Option<&'a str>>,
    created: Vec<i64>,
    deadlines: Vec<i64>,
    max_deadlines: Vec<i64>,
    replaced_by: Vec<Option<Uuid>>,
    lines: Slices,
}

impl<'a> Holds<'a> {
    fn placed(hand: &'a Hand) -> Self {
        let mut all = Self::default();
        let placed = hand.book.changes().placed.iter().filter_map(|id| hand.book.hold(*id));
        for hold in placed {
            all.ids.push(rows::uuid(hold.id));
            all.owners.push(hold.owner.as_str());
            all.references.push(hold.reference.as_ref().map(Reference::as_str));
            all.created.push(hold.created_at.as_millis());
            all.deadlines.push(hold.deadline.as_millis());
            all.max_deadlines.push(hold.max_deadline.as_millis());
            all.replaced_by.push(hold.replaced_by.map(rows::uuid));
            let lines = hold.lines.iter();
            all.lines.push(lines.map(|line| (number(hand, &line.item), line.requested.get())));
        }
        all
    }

    fn params(&self) -> Params<'_> {
        vec![
            (&self.ids, Type::UUID_ARRAY),
            (&self.owners, Type::TEXT_ARRAY),
            (&self.references, Type::TEXT_ARRAY),
            (&self.created, Type::INT8_ARRAY),
            (&self.deadlines, Type::INT8_ARRAY),
            (&self.max_deadlines, Type::INT8_ARRAY),
            (&self.replaced_by, Type::UUID_ARRAY),
            (&self.lines.first, Type::INT8_ARRAY),
            (&self.lines.second, Type::INT8_ARRAY),
            (&self.lines.from, Type::INT4_ARRAY),
            (&self.lines.to, Type::INT4_ARRAY),
        ]
    }
}

/// Older holds whose deadline changed, that were replaced, or that were reheld: an expired one may be
/// removed at the same time, by somebody who locks its row.
#[derive(Default)]
struct Edited {
    ids: Vec<Uuid>,
    deadlines: Vec<i64>,
    replaced_by: Vec<Option<Uuid>>,
}

impl Edited {
    fn of(hand: &Hand) -> Self {
        let placed: BTreeSet<HoldId> = hand.book.changes().placed.iter().copied().collect();
        let changes = hand.book.changes();
        let reheld = changes.transitions.iter().filter(|(_, step)| step.step == Step::Rehold);
        let edited = changes.edited.iter().chain(reheld.map(|(id, _)| id));
        let edited: BTreeSet<HoldId> = edited.copied().collect();
        let mut all = Self::default();
        for hold in edited.difference(&placed).filter_map(|id| hand.book.hold(*id)) {
            all.ids.push(rows::uuid(hold.id));
            all.deadlines.push(hold.deadline.as_millis());
            all.replaced_by.push(hold.replaced_by.map(rows::uuid));
        }
        all
    }

    fn params(&self) -> Params<'_> {
        vec![
            (&self.ids, Type::UUID_ARRAY),
            (&self.deadlines, Type::INT8_ARRAY),
            (&self.replaced_by, Type::UUID_ARRAY),
        ]
    }
}

#[derive(Default)]
struct Steps<'a> {
    holds: Vec<Uuid>,
    numbers: Vec<i32>,
    steps: Vec<&'a str>,
    at: Vec<i64>,
    references: Vec<Option<&'a str>>,
    reasons: Vec<Option<&'a str>>,
    lines: Slices,
}

impl<'a> Steps<'a> {
    fn of(hand: &'a Hand) -> Self {
        let mut all = Self::default();
        for (id, step) in &hand.book.changes().transitions {
            all.holds.push(rows::uuid(*id));
            all.numbers.push(i32::try_from(step.n).unwrap_or(i32::MAX));
            all.steps.push(step.step.as_str());
            all.at.push(step.at.as_millis());
            all.references.push(step.reference.as_ref().map(Reference::as_str));
            all.reasons.push(step.reason.as_ref().map(Reason::as_str));
            let named = match &step.moved {
                Moved::All => &[][..],
                Moved::Lines(named) => named,
            };
            let line = |line: usize| i64::try_from(line).unwrap_or(i64::MAX);
            all.lines.push(named.iter().map(|(index, units)| (line(*index), units.get())));
        }
        all
    }

    fn params(&self) -> Params<'_> {
        vec![
            (&self.holds, Type::UUID_ARRAY),
            (&self.numbers, Type::INT4_ARRAY),
            (&self.steps, Type::TEXT_ARRAY),
            (&self.at, Type::INT8_ARRAY),
            (&self.references, Type::TEXT_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
            (&self.lines.first, Type::INT8_ARRAY),
            (&self.lines.second, Type::INT8_ARRAY),
            (&self.lines.from, Type::INT4_ARRAY),
            (&self.lines.to, Type::INT4_ARRAY),
        ]
    }
}

/// Lines of active holds.
#[derive(Default)]
struct Actives {
    items: Vec<ItemNumber>,
    deadlines: Vec<i64>,
    holds: Vec<Uuid>,
    lines: Vec<i32>,
}

impl Actives {
    /// Those of holds that are not active any more, or have another deadline.
    fn dead(hand: &Hand) -> Self {
        let mut all = Self::default();
        for (id, deadline) in &hand.active {
            if let Some(hold) = hand.book.hold(*id)
                && active_until(hold) != Some(*deadline)
            {
                all.push(hand, hold, *deadline);
            }
        }
        all
    }

    /// Those of holds that are active since now, or have another deadline.
    fn alive(hand: &Hand) -> Self {
        let mut all = Self::default();
        let changes = hand.book.changes();
        let touched: BTreeSet<_> = changes.placed.iter().chain(&changes.edited).collect();
        for hold in touched.into_iter().filter_map(|id| hand.book.hold(*id)) {
            let before = hand.active.get(&hold.id).copied();
            if let Some(deadline) = active_until(hold).filter(|now| Some(*now) != before) {
                all.push(hand, hold, deadline);
            }
        }
        all
    }

    fn push(&mut self, hand: &Hand, hold: &Hold, deadline: Timestamp) {
        for (n, line) in (0..).zip(&hold.lines) {
            self.items.push(number(hand, &line.item));
            self.deadlines.push(deadline.as_millis());
            self.holds.push(rows::uuid(hold.id));
            self.lines.push(n);
        }
    }

    fn placed_by<'b>(&'b self, instance: &'b i32) -> Params<'b> {
        let mut params = self.params();
        params.extend([(&self.lines as _, Type::INT4_ARRAY), (instance as _, Type::INT4)]);
        params
    }

    fn params(&self) -> Params<'_> {
        vec![
            (&self.items, Type::INT8_ARRAY),
            (&self.deadlines, Type::INT8_ARRAY),
            (&self.holds, Type::UUID_ARRAY),
        ]
    }
}

fn active_until(hold: &Hold) -> Option<Timestamp> {
    (hold.state == HoldState::Active).then_some(hold.deadline)
}

#[derive(Default)]
struct Movements<'a> {
    ids: Vec<i64>,
    items: Vec<ItemNumber>,
    kinds: Vec<&'a str>,
    deltas: Vec<i64>,
    after: Vec<i64>,
    reasons: Vec<Option<&'a str>>,
    references: Vec<Option<&'a str>>,
    at: Vec<i64>,
}

impl<'a> Movements<'a> {
    fn of(hand: &'a Hand) -> Self {
        let mut all = Self::default();
        for movement in &hand.book.changes().movements {
            all.ids.push(movement.id);
            all.items.push(number(hand, &movement.item));
            all.kinds.push(movement.kind.as_str());
            all.deltas.push(movement.delta.get());
            all.after.push(movement.on_hand_after.get());
            all.reasons.push(movement.reason.as_ref().map(Reason::as_str));
            all.references.push(movement.reference.as_ref().map(Reference::as_str));
            all.at.push(movement.at.as_millis());
        }
        all
    }

    fn params(&self) -> Params<'_> {
        vec![
            (&self.ids, Type::INT8_ARRAY),
            (&self.items, Type::INT8_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.deltas, Type::INT8_ARRAY),
            (&self.after, Type::INT8_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
            (&self.references, Type::TEXT_ARRAY),
            (&self.at, Type::INT8_ARRAY),
        ]
    }
}

/// Sorted, so that two instances with the same keys wait for each other in one order.
#[derive(Default)]
struct Keys {
    ids: Vec<Uuid>,
    digests: Vec<Uuid>,
    holds: Vec<Option<Uuid>>,
    movements: Vec<Option<i64>>,
}

impl Keys {
    fn of(hand: &Hand) -> Self {
        let mut records = hand.book.changes().keys.clone();
        records.sort_unstable_by_key(|record| record.id);
        let mut all = Self::default();
        for record in records {
            all.ids.push(Uuid::from_bytes(record.id.to_bytes()));
            all.digests.push(Uuid::from_bytes(record.digest.to_bytes()));
            let (hold, movement) = match record.done {
                Done::Hold(id) => (Some(rows::uuid(id)), None),
                Done::Movement(id) => (None, Some(id)),
            };
            all.holds.push(hold);
            all.movements.push(movement);
        }
        all
    }

    fn params<'b>(&'b self, now: &'b i64) -> Params<'b> {
        vec![
            (&self.ids, Type::UUID_ARRAY),
            (&self.digests, Type::UUID_ARRAY),
            (&self.holds, Type::UUID_ARRAY),
            (&self.movements, Type::INT8_ARRAY),
            (now, Type::INT8),
        ]
    }
}
