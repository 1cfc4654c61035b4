//! What the writer keeps in memory, as a [`Book`]: the stock items in use and every active hold.
//! Whatever is not in it is read from the file when a command names it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};
use stockhold_core::{
    Book, Command, Done, HoldId, ItemKey, KeyRecord, Limits, Outcome, Rejection, StockView,
    Timestamp,
};

use super::{
    keys::{KeyStore, Pending},
    rows::{self, Damaged, ItemNumber, WriteBack},
};
use crate::ledger::{Batch, StockQuery, list::Scan};

/// Stock items stay in memory up to this number, whether they have an active hold or not.
const ITEMS: usize = 50_000;
/// How often the oldest active hold is looked for, which means to look at all of them.
const RAISE: Duration = Duration::from_secs(30);

/// What is in memory, and what is known of the file.
pub(super) struct Resident {
    pub(super) book: Book,
    numbers: HashMap<Arc<ItemKey>, ItemNumber>,
    next_item: ItemNumber,
    keys: KeyStore,
    /// No active hold has a lower id; what is read at the next start begins here.
    oldest_active: HoldId,
    raised_at: Timestamp,
    pub(super) signed_at: Timestamp,
    graces_written: usize,
    /// Beyond that many stock items, those without an active hold are put away.
    most_items: usize,
}

const LAST_ID: HoldId = HoldId::from_bytes([0xff; 16]);

impl Resident {
    pub(super) fn read(
        conn: &Connection,
        limits: Limits,
        now: Timestamp,
    ) -> rusqlite::Result<Self> {
        let mut book = Book::new(limits);
        let liveness = rows::liveness(conn)?;
        let (signed_at, graces_written) = (liveness.alive_at(), liveness.graces().len());
        book.set_liveness(liveness);
        book.set_last_movement(max(conn, "SELECT max(id) FROM movement")?);
        let next_item = max(conn, "SELECT max(item) FROM stock")? + 1;
        let keys = KeyStore::open(conn)?;
        let numbers = HashMap::new();
        let oldest = "SELECT oldest_active FROM ledger";
        let oldest_active = HoldId::from_bytes(conn.query_row(oldest, [], |row| row.get(0))?);
        let mut resident = Self {
            book,
            numbers,
            next_item,
            keys,
            oldest_active,
            raised_at: now,
            signed_at,
            graces_written,
            most_items: ITEMS,
        };
        resident.read_active(conn)?;
        if signed_at == Timestamp::default() {
            // A new ledger was never away.
            resident.book.set_liveness(stockhold_core::Liveness::new(now, Vec::new()));
        }
        Ok(resident)
    }

    fn read_active(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let read = "SELECT id FROM hold WHERE id >= ?1 AND NOT EXISTS \
                    (SELECT 1 FROM transition WHERE transition.hold = hold.id)";
        let mut read = conn.prepare(read)?;
        let mut ids = read.query([self.oldest_active.to_bytes()])?;
        while let Some(row) = ids.next()? {
            let id = HoldId::from_bytes(row.get(0)?);
            rows::sound(id, self.load_hold(conn, id).map(Some))?;
        }
        self.raise_oldest_active();
        Ok(())
    }

    /// Brings in hand what the command names, and applies it.
    pub(super) fn answer(
        &mut self,
        conn: &Connection,
        command: &Command,
        now: Timestamp,
    ) -> rusqlite::Result<Result<Outcome, Rejection>> {
        match self.load(conn, command)? {
            Ok(()) => Ok(self.book.apply(command, now)),
            Err(Damaged(what)) => Ok(Err(Rejection::Damaged { what })),
        }
    }

    fn load(
        &mut self,
        conn: &Connection,
        command: &Command,
    ) -> rusqlite::Result<Result<(), Damaged>> {
        for item in command.action.items() {
            self.load_item(conn, item)?;
        }
        if let Some(id) = command.action.hold()
            && let Err(damaged) = self.load_hold(conn, id)?
        {
            return Ok(Err(damaged));
        }
        let Some((key, _)) = command.key else { return Ok(Ok(())) };
        if self.book.key(key).is_some() {
            return Ok(Ok(()));
        }
        match self.keys.find(conn, key)? {
            Some(record) => self.load_done(conn, record),
            None => Ok(Ok(())),
        }
    }

    fn load_done(
        &mut self,
        conn: &Connection,
        record: KeyRecord,
    ) -> rusqlite::Result<Result<(), Damaged>> {
        self.book.put_key(record);
        match record.done {
            Done::Hold(id) => self.load_hold(conn, id),
            Done::Movement(id) => self.load_movement(conn, id).map(Ok),
        }
    }

    pub(super) fn load_item(
        &mut self,
        conn: &Connection,
        key: &Arc<ItemKey>,
    ) -> rusqlite::Result<()> {
        if self.book.item(key).is_some() {
            return Ok(());
        }
        let read =
            format!("SELECT {} FROM stock WHERE sku = ?1 AND location = ?2", rows::STOCK_COLUMNS);
        let mut read = conn.prepare_cached(&read)?;
        let found = read.query_row([key.sku.as_str(), key.location.as_str()], rows::stock_item);
        if let Some((number, item)) = found.optional()? {
            self.numbers.insert(item.key.clone(), number);
            self.book.put_item(item);
        }
        Ok(())
    }

    pub(super) fn items(
        &self,
        conn: &Connection,
        query: &StockQuery,
        now: Timestamp,
    ) -> rusqlite::Result<Scan<StockView, ItemKey>> {
        let read = format!(
            "SELECT {} FROM stock WHERE (sku, location) > (?1, ?2) ORDER BY sku, location LIMIT ?3",
            rows::STOCK_COLUMNS
        );
        let mut read = conn.prepare_cached(&read)?;
        let (sku, location) = query.begin();
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let rows = read.query_map(params![sku, location, limit], rows::stock_item)?;
        let rows =
            rows.take_while(|row| row.as_ref().map_or(true, |(_, item)| query.admits(&item.key)));
        let views = rows.map(|row| {
            let (_, item) = row?;
            Ok(((*item.key).clone(), Some(self.book.view_of_item(item, now))))
        });
        Scan::of(views, query.limit, usize::MAX)
    }

    fn load_hold(
        &mut self,
        conn: &Connection,
        id: HoldId,
    ) -> rusqlite::Result<Result<(), Damaged>> {
        if self.book.hold(id).is_some() {
            return Ok(Ok(()));
        }
        let mut name_of = |number| self.name_of(conn, number);
        match rows::hold(conn, id, &mut name_of)? {
            Some(Ok(hold)) => {
                self.book.put_hold(hold);
                Ok(Ok(()))
            }
            Some(Err(damaged)) => Ok(Err(damaged)),
            None => Ok(Ok(())),
        }
    }

    /// The key of a stock item, which is in hand from then on.
    fn name_of(&mut self, conn: &Connection, number: ItemNumber) -> rusqlite::Result<Arc<ItemKey>> {
        let Some(item) = rows::numbered_item(conn, number)? else {
            return rows::missing_item(number);
        };
        let key = item.key.clone();
        if let Some(known) = self.book.item(&key) {
            return Ok(known.key.clone());
        }
        self.numbers.insert(key.clone(), number);
        self.book.put_item(item);
        Ok(key)
    }

    fn load_movement(&mut self, conn: &Connection, id: i64) -> rusqlite::Result<()> {
        let read = format!("SELECT {} FROM movement WHERE id = ?1", rows::MOVEMENT_COLUMNS);
        let mut read = conn.prepare_cached(&read)?;
        let mut found = read.query([id])?;
        if let Some(row) = found.next()? {
            let item = self.name_of(conn, row.get(1)?)?;
            self.book.put_movement(rows::movement(row, item)?);
        }
        Ok(())
    }

    /// Writes what the batch changed, and the ledger's own row.
    pub(super) fn write(
        &mut self,
        conn: &Connection,
        batch: &Batch,
        now: Timestamp,
    ) -> rusqlite::Result<Pending> {
        self.number_new_items();
        let (book, numbers) = (&self.book, &self.numbers);
        WriteBack { conn, book, numbers }.run()?;
        let keys = self.keys.write(conn, &self.book.changes().keys, now)?;
        self.write_graces(conn)?;
        let oldest_active = self.oldest_active_with_changes();
        let alive_at = self.book.liveness().alive_at().as_millis();
        let update = "UPDATE ledger SET last_batch = ?1, alive_at = ?2, oldest_active = ?3";
        let row = params![batch.id.0, alive_at, oldest_active.to_bytes()];
        conn.prepare_cached(update)?.execute(row)?;
        Ok(keys)
    }

    /// Ids rise, but nobody promises that those of one batch do.
    fn oldest_active_with_changes(&self) -> HoldId {
        self.book.changes().placed.iter().fold(self.oldest_active, |oldest, id| oldest.min(*id))
    }

    fn number_new_items(&mut self) {
        for (item, is_new) in self.book.changed_items() {
            if is_new {
                self.numbers.insert(item.key.clone(), self.next_item);
                self.next_item += 1;
            }
        }
    }

    fn write_graces(&self, conn: &Connection) -> rusqlite::Result<()> {
        let graces = self.book.liveness().graces();
        if graces.is_empty() && self.graces_written == 0 {
            return Ok(());
        }
        conn.execute("DELETE FROM grace", [])?;
        for grace in graces {
            let row = [grace.from, grace.to, grace.until].map(Timestamp::as_millis);
            conn.execute("INSERT INTO grace VALUES (?1, ?2, ?3)", row)?;
        }
        Ok(())
    }

    pub(super) fn committed(&mut self, keys: Option<Pending>) {
        if let Some(keys) = keys {
            self.keys.committed(keys);
            self.signed_at = self.book.liveness().alive_at();
            self.graces_written = self.book.liveness().graces().len();
            self.oldest_active = self.oldest_active_with_changes();
        }
        self.book.commit();
        self.settle_down();
        if self.signed_at.since(self.raised_at) > RAISE {
            self.raised_at = self.signed_at;
            self.raise_oldest_active();
        }
    }

    /// Puts away what nobody needs before the next command names it.
    pub(super) fn settle_down(&mut self) {
        self.book.forget_settled();
        if self.numbers.len() > self.most_items {
            self.book.forget_idle_items();
            let book = &self.book;
            self.numbers.retain(|key, _| book.item(key).is_some());
            // If most of them are in use, this is not to be done again with every batch.
            self.most_items = ITEMS.max(self.numbers.len().saturating_mul(2));
        }
    }

    fn raise_oldest_active(&mut self) {
        self.oldest_active = self.book.holds().map(|hold| hold.id).min().unwrap_or(LAST_ID);
    }
}

fn max(conn: &Connection, query: &str) -> rusqlite::Result<i64> {
    conn.query_row(query, [], |row| row.get::<_, Option<i64>>(0)).map(Option::unwrap_or_default)
}
